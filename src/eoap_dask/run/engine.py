"""Carrying out a plan: blocks go to the cluster, tiles come back, units become files.

The one place that computes. It knows nothing of any application: a plan says what to render, and the application
says how a finished unit becomes an item.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from loguru import logger

from eoap_dask.cluster.watch import WorkerWatch
from eoap_dask.errors import AssetError, ClusterError, EoapError, NothingFoundError, TilesError
from eoap_dask.logs import carried
from eoap_dask.output.cog import Cog
from eoap_dask.redact import redact
from eoap_dask.render.block import Rendered, render_block
from eoap_dask.run.events import Event, Listener
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.sizing import blocks_in_flight
from eoap_dask.run.unit import Failure
from eoap_dask.run.written import WrittenImage, WrittenUnit
from eoap_dask.text import plural

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

    from eoap_dask.geo.window import Window
    from eoap_dask.publish.publication import Publication

PATIENCE_S = 300.0
"""How long a cluster may be without workers."""
TICK_S = 0.1
"""How long to wait for a block before looking after the cluster."""


@dataclass
class Outcome:
    """What became of the units."""

    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    """STAC items of the units that are done, by key."""
    failures: list[Failure] = field(default_factory=list)
    """Why units failed."""
    left_out: list[Failure] = field(default_factory=list)
    """Scenes that units did without."""
    unseen: dict[str, NothingFoundError] = field(default_factory=dict)
    """Failed units without a clear pixel, by key."""
    blocks: int = 0
    """Blocks that were rendered."""

    @property
    def failed(self) -> tuple[str, ...]:
        """Keys of the failed units."""
        return tuple(dict.fromkeys(f.unit for f in self.failures))


FinishUnit = Callable[[WrittenUnit], dict[str, Any]]
"""Write what else belongs to a unit, the item last, and return the item."""


@dataclass(eq=False)
class _Progress:
    """One attempt at a unit, while it is being rendered."""

    plan: UnitPlan
    folder: Path
    scratch: Path
    """Directory of its tiles, before its files are written."""
    images: dict[str, Cog]
    recipe: Future[Any]
    """The task that holds its recipe."""
    windows: tuple[Window, ...]
    """Its blocks."""
    waiting: int
    levels: dict[str, set[float]] = field(default_factory=dict)
    notes: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def clear(self) -> None:
        """Remove what there is beside the unit's directory."""
        for cog in self.images.values():
            with suppress(OSError):  # a full disk, perhaps; what remains goes with the directory
                cog.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Engine:
    """Runs the blocks of a plan on a cluster and writes its units."""

    def __init__(
        self,
        plan: Plan,
        client: Client,
        publication: Publication,  # entered
        finish: FinishUnit,
        listener: Listener,
        max_bad_scenes: int = 0,  # how many scenes that stay bad a unit may do without
        *,
        patience_s: float = PATIENCE_S,
        # called when workers have joined, or can't write; raises for unusable ones
        check_workers: Callable[[], None] = lambda: None,
        # whether workers leave encoded tiles in the publication's scratch directory; else these travel to the client
        workers_write: bool = False,
    ) -> None:
        self._check_workers, self._workers_write = check_workers, workers_write
        self._plan, self._client, self._publication = plan, client, publication
        self._finish, self._listener, self._max_bad_scenes = finish, listener, max_bad_scenes
        self._watch = WorkerWatch(client, patience_s, lambda size: self._tell("cluster", message=size), check_workers)
        self._outcome = Outcome()
        self._todo = deque(plan.units)
        self._numbers: Iterator[int] = iter(())
        self._current: _Progress | None = None
        self._open: dict[str, _Progress] = {}
        self._running: dict[Future[Any], tuple[_Progress, int]] = {}
        self._suspects: deque[tuple[_Progress, int]] = deque()
        self._alone: Future[Any] | None = None
        self._writing: dict[str, ThreadFuture[dict[str, Any]]] = {}
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._done_blocks = 0
        self._all_blocks = plan.blocks

    def run(self) -> Outcome:
        """Render all units; failed ones are in the outcome, only a lost cluster raises (`ClusterError`)."""
        from distributed import as_completed

        writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        try:
            results = as_completed(loop=self._client.loop, with_results=False)
            self._watch.look(at_once=True)
            self._submit(results)
            while self._running:
                for future in self._finished(results):
                    self._take(future, writer)
                    self._submit(results)
                self._watch.look()
                self._submit(results)  # there may be more workers now
                self._collect_written()
            for key in list(self._writing):
                self._collect(key)
        finally:
            writer.shutdown(cancel_futures=True)
            self._fetcher.shutdown(wait=False)
            self._cancel(list(self._running))
            for progress in list(self._open.values()):
                self._discard(progress)
            for key, written in self._writing.items():  # stopped in the middle: keep what is whole
                if written.done() and not written.cancelled() and written.exception() is None:
                    self._publication.unit_done(key)
        return self._outcome

    def _finished(self, results: as_completed) -> list[Future[Any]]:
        """Return the blocks that are done, after waiting a moment where there are none."""
        with results.thread_condition:
            if not results.has_ready():
                results.thread_condition.wait(TICK_S)
        # those that were cancelled with their unit come as well
        return [future for future in results.next_batch(block=False) if future in self._running]

    def _in_flight(self) -> int:
        return blocks_in_flight(self._plan.units[0].recipe, self._watch.slots or self._plan.size.slots)

    def _next_block(self) -> tuple[_Progress, int] | None:
        while True:
            if self._current is not None and self._is_open(self._current):
                number = next(self._numbers, None)
                if number is not None:
                    return self._current, number
            if not self._todo:
                return None
            self._current = self._begin(self._todo.popleft())
            self._numbers = iter(range(self._current.waiting))

    def _is_open(self, progress: _Progress) -> bool:
        return self._open.get(progress.plan.unit.key) is progress

    def _submit(self, results: as_completed) -> None:
        """Send blocks until enough are under way."""
        if self._alone in self._running:
            return
        while len(self._running) < self._in_flight():
            found = self._next_block()
            if found is None:
                break
            self._send(found, results)
        if not self._running and (suspect := self._next_suspect()) is not None:
            self._alone = self._send(suspect, results, alone=True)

    def _send(self, found: tuple[_Progress, int], results: as_completed, *, alone: bool = False) -> Future[Any]:
        progress, number = found
        if alone:  # what it depends on may have been lost with it
            progress.recipe.release()
            progress.recipe = self._send_recipe(progress.plan)
        folder = (str(progress.scratch),) if self._workers_write else ()
        key = f"render-{progress.recipe.key}-{number}"
        future = self._client.submit(render_block, progress.recipe, number, *folder, key=key, pure=False)
        self._running[future] = found
        results.add(future)
        return future

    def _next_suspect(self) -> tuple[_Progress, int] | None:
        while self._suspects:
            progress, number = self._suspects.popleft()
            if self._is_open(progress):
                return progress, number
        return None

    def _send_recipe(self, planned: UnitPlan) -> Future[Any]:
        # a task, not scattered data: a worker that dies takes scattered data with it for good
        key = f"recipe-{planned.unit.key}-{planned.digest[:12]}-{uuid4().hex[:8]}"
        return self._client.submit(bytes, planned.recipe.pack(), key=key, pure=False)

    def _begin(self, planned: UnitPlan) -> _Progress:
        key = planned.unit.key
        recipe = self._send_recipe(planned)
        folder = self._publication.unit_dir(key)
        # another one for each attempt and run: workers may be late with tiles of those before
        scratch = self._publication.scratch / f"{key}.{uuid4().hex[:8]}"
        images = {s.name: Cog(s, planned.recipe.stack.geobox, scratch) for s in planned.recipe.images}
        windows = planned.recipe.windows()
        self._open[key] = _Progress(planned, folder, scratch, images, recipe, windows, len(windows))
        self._tell(
            "unit-retried" if planned.left_out else "unit-started", key, plural(len(planned.unit.scenes), "scene")
        )
        return self._open[key]

    def _take(self, future: Future[Any], writer: ThreadPoolExecutor) -> None:
        progress, number = self._running.pop(future)
        if not self._is_open(progress):  # the unit has failed, or begun again, meanwhile
            future.release()
            return
        key = progress.plan.unit.key
        try:
            rendered = self._result(future, number)
        except AssetError as exc:
            self._do_without(progress, Failure(key, exc.what, exc.item_id, exc.asset, exc.href, exc.attempts))
            return
        except _LostBlockError as exc:
            self._suspect(progress, number, future, exc)
            return
        except (_BlockFailedError, TilesError) as exc:
            if isinstance(exc, TilesError):
                with suppress(OSError):  # the disk is full, perhaps
                    self._check_workers()  # a worker that has lost the disk would fail all that is left
            self._fail(progress, Failure(key, exc.what))
            return
        finally:
            future.release()
        try:
            for name, image in rendered.images.items():
                progress.images[name].add(image, progress.windows[number])
        except OSError as exc:
            self._fail(progress, Failure(key, f"Writing failed: {exc.strerror or exc}."))
            return
        progress.notes[number] = rendered.notes
        for kind, sides in rendered.levels.items():
            progress.levels.setdefault(kind, set()).update(sides)
        progress.waiting -= 1
        self._done_blocks += 1
        self._outcome.blocks = self._done_blocks
        self._tell("block-done", key)
        if not progress.waiting:
            self._watch.look(at_once=True)  # nothing is kept of a worker that we haven't looked at
            del self._open[key]
            progress.recipe.release()
            self._writing[key] = writer.submit(carried(self._write), progress)

    def _suspect(self, progress: _Progress, number: int, future: Future[Any], error: _LostBlockError) -> None:
        """Put a block aside whose workers died, until it runs alone; if they die again, it is to blame."""
        if future is self._alone:
            self._fail(progress, Failure(progress.plan.unit.key, str(error)))
            return
        # Dask blames every block that was on the worker, and gives each up after some deaths
        self._suspects.append((progress, number))
        self._tell("block-retried", progress.plan.unit.key, f"Workers died while they had block {number}.")

    def _result(self, future: Future[Any], number: int) -> Rendered:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            return self._fetch(future)
        except KilledWorker:
            raise _LostBlockError("Workers died on a block of it again and again, out of memory perhaps.") from None
        except EoapError:
            raise
        except Exception as exc:
            if future.status == "error":  # it was raised on the worker, and says nothing of this machine or the cluster
                logger.opt(exception=exc).debug("Block {} failed on a worker", number)
                raise _BlockFailedError(f"A worker failed on block {number}: {_reason(exc)}.") from exc
            if not isinstance(exc, FutureCancelledError | CommClosedError | TimeoutError | ConnectionError):
                raise
            raise ClusterError(
                f"The Dask cluster went away during the work ({redact(exc) or type(exc).__name__}).",
                "",
                "Run the same command again.",
            ) from exc

    def _fetch(self, future: Future[Any]) -> Rendered:
        """Return a block that is done. If it dies with the last worker, Dask waits for one that could make it again."""
        # in a thread: with a timeout, Dask would begin a long transfer anew
        fetched = self._fetcher.submit(carried(future.result))
        try:
            while not wait([fetched], TICK_S).done:
                self._watch.look()
        except BaseException:
            self._cancel([future])  # which ends the thread
            raise
        rendered: Rendered = fetched.result()
        return rendered

    def _write(self, progress: _Progress) -> dict[str, Any]:
        """Write the files of a unit; runs beside the event loop of `run`."""
        written = {}
        levels = {kind: sorted(sides) for kind, sides in sorted(progress.levels.items())}
        notes = tuple(note for number in sorted(progress.notes) for note in progress.notes[number])
        try:
            for name, cog in progress.images.items():
                path = progress.folder / f"{name}.tif"
                size, sha256 = cog.write(path)
                written[name] = WrittenImage(cog.spec, path, size, sha256, cog.sums, cog.smallest)
            return self._finish(WrittenUnit(progress.plan, progress.folder, written, levels, notes))
        except BaseException:
            shutil.rmtree(progress.folder, ignore_errors=True)  # a full disk has better uses for it
            raise
        finally:
            progress.clear()

    def _collect_written(self) -> None:
        for key in [k for k, f in self._writing.items() if f.done()]:
            self._collect(key)

    def _collect(self, key: str) -> None:
        future = self._writing.pop(key)
        try:
            self._outcome.items[key] = future.result()
        except ClusterError:
            raise
        except EoapError as exc:  # the other units are none the worse for it
            if isinstance(exc, NothingFoundError):
                self._outcome.unseen[key] = exc
            self._record(Failure(key, exc.what))
            return
        except OSError as exc:
            self._record(Failure(key, f"Writing failed: {exc.strerror or exc}."))
            return
        self._publication.unit_done(key)
        self._tell("unit-done", key)

    def _do_without(self, progress: _Progress, failure: Failure) -> None:
        """Begin the unit again without a scene that stays bad, if that is allowed; else it has failed."""
        planned = progress.plan
        rest = planned.without(failure.item)
        enough = len(rest.unit.passes) >= rest.recipe.science.fewest_passes
        if len(planned.left_out) >= self._max_bad_scenes or not enough:
            self._fail(progress, failure)
            return
        self._outcome.left_out.append(failure)
        self._done_blocks -= len(progress.windows) - progress.waiting
        self._stop(progress)
        self._todo.appendleft(rest)

    def _fail(self, progress: _Progress, failure: Failure) -> None:
        self._all_blocks -= progress.waiting  # nobody will render these
        self._stop(progress)
        self._record(failure)

    def _record(self, failure: Failure) -> None:
        self._outcome.failures.append(failure)
        self._tell("unit-failed", failure.unit, failure.reason)

    def _stop(self, progress: _Progress) -> None:
        self._cancel([f for f, (other, _) in self._running.items() if other is progress])
        self._discard(progress)

    def _discard(self, progress: _Progress) -> None:
        del self._open[progress.plan.unit.key]
        progress.recipe.release()
        progress.clear()

    def _cancel(self, futures: list[Future[Any]]) -> None:
        if not futures:
            return
        try:
            self._client.cancel(futures, force=True)
        except Exception as exc:  # noqa: BLE001 - the cluster may be gone; what brought us here is what matters
            logger.debug("Cancelling failed: {}", exc)

    def _tell(self, kind: Any, unit: str = "", message: str = "") -> None:
        self._listener(Event(kind, unit, self._done_blocks, self._all_blocks, message))


def _reason(fault: Exception) -> str:
    if isinstance(fault, MemoryError):
        return "it ran out of memory"
    text = redact(fault).strip().splitlines()
    return ", ".join([type(fault).__name__, *(line.rstrip(".") for line in text[:1])])


class _LostBlockError(EoapError):
    """A block can't be rendered: it was lost with its workers."""


class _BlockFailedError(EoapError):
    """A block can't be rendered, for a reason that is neither an asset's nor the cluster's."""
