"""Carrying out a plan: blocks go to the cluster, tiles come back, units become files.

The one place that computes. It knows nothing of any application: a plan says what to render, and the application
says how a finished unit becomes an item.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.cog import Cog, ImageSpec, Sums
from eoap_dask.errors import AssetError, ClusterError, EoapError
from eoap_dask.plan import Plan, UnitPlan
from eoap_dask.render import Rendered, render_block
from eoap_dask.trust import redact
from eoap_dask.units import Event, Failure, Listener

if TYPE_CHECKING:
    from distributed import Client, Future

    from eoap_dask.publish import Publication

IN_FLIGHT_BYTES = 512 << 20
"""What may be on its way back at once: on a Gateway it all passes through the scheduler."""


@dataclass(frozen=True)
class WrittenImage:
    """A file of a unit, as it was written."""

    spec: ImageSpec
    path: Path
    size: int
    sha256: str
    sums: Sums
    smallest: Any
    """Its coarsest level, (band, y, x)."""


@dataclass
class Outcome:
    """What became of the units."""

    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    """STAC items of the units that are done, by key."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> tuple[str, ...]:
        """Keys of the failed units."""
        return tuple(dict.fromkeys(f.unit for f in self.failures))


FinishUnit = Callable[[UnitPlan, Path, dict[str, WrittenImage], dict[str, list[float]]], dict[str, Any]]
"""Given a unit, its directory, images and the levels read: write what else belongs to it, the item last."""


@dataclass
class _Progress:
    """A unit while it is being rendered."""

    plan: UnitPlan
    folder: Path
    images: dict[str, Cog]
    waiting: int
    levels: dict[str, set[float]] = field(default_factory=dict)


class Engine:
    """Runs the blocks of a plan on a cluster and writes its units.

    Parameters
    ----------
    plan : Plan
    client : distributed.Client
    publication : Publication
        Entered; where units are written.
    finish : callable
        Makes the item of a unit whose images are written, see `FinishUnit`.
    listener : callable
        Gets every event.
    """

    def __init__(
        self, plan: Plan, client: Client, publication: Publication, finish: FinishUnit, listener: Listener
    ) -> None:
        self._plan, self._client, self._publication = plan, client, publication
        self._finish, self._listener = finish, listener
        self._outcome = Outcome()
        self._open: dict[str, _Progress] = {}
        self._recipes: dict[str, Future[Any]] = {}
        self._running: dict[Future[Any], tuple[str, int]] = {}
        self._writing: dict[str, ThreadFuture[dict[str, Any]]] = {}
        self._done_blocks = 0

    def run(self) -> Outcome:
        """Render all units.

        Returns
        -------
        Outcome
            Failed units are told, not raised.

        Raises
        ------
        ClusterError
            when the cluster goes away
        """
        from distributed import as_completed

        work = self._work()
        writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        try:
            results = as_completed(with_results=False)
            for _ in range(self._in_flight()):
                self._submit_next(work, results)
            for future in results:
                self._take(future, writer)
                self._submit_next(work, results)
            for key in list(self._writing):
                self._collect(key)
        finally:
            writer.shutdown(cancel_futures=True)
            self._cancel(list(self._running))
            for key in list(self._open):
                self._discard(key)
            for key, written in self._writing.items():  # stopped in the middle: keep what is whole
                if written.done() and not written.cancelled() and written.exception() is None:
                    self._publication.unit_done(key)
        return self._outcome

    def _work(self) -> Iterator[tuple[UnitPlan, int]]:
        for planned in self._plan.units:
            for number in range(len(planned.recipe.windows())):
                if planned.unit.key in self._outcome.failed:
                    break
                yield planned, number

    def _in_flight(self) -> int:
        planned = self._plan.units[0].recipe
        per_block = planned.block**2 * (2 * planned.stack.bands + 2 + len(planned.picks))
        slots = self._plan.size.slots
        return max(1, min(2 * slots, max(slots, IN_FLIGHT_BYTES // per_block)))

    def _submit_next(self, work: Iterator[tuple[UnitPlan, int]], results: Any) -> None:
        found = next(work, None)
        if found is None:
            return
        planned, number = found
        key = planned.unit.key
        if number == 0:
            self._begin(planned)
        recipe = self._recipes[key]
        future = self._client.submit(
            render_block,
            recipe,
            number,
            key=f"render-{key}-{planned.digest[:12]}-{id(self):x}-{number}",
            pure=False,
        )
        self._running[future] = (key, number)
        results.add(future)

    def _begin(self, planned: UnitPlan) -> None:
        key = planned.unit.key
        # a task, not scattered data: a worker that dies takes scattered data with it for good
        self._recipes[key] = self._client.submit(
            bytes, planned.recipe.pack(), key=f"recipe-{key}-{planned.digest[:12]}-{id(self):x}", pure=False
        )
        folder = self._publication.unit_dir(key)
        scratch = self._publication.scratch / key
        images = {s.name: Cog(s, planned.recipe.stack.geobox, scratch) for s in planned.recipe.images}
        self._open[key] = _Progress(planned, folder, images, len(planned.recipe.windows()))
        self._tell("unit-started", key, f"{len(planned.unit.scenes)} scenes")

    def _take(self, future: Future[Any], writer: ThreadPoolExecutor) -> None:
        key, number = self._running.pop(future)
        if key not in self._open:  # the unit has failed meanwhile
            future.release()
            return
        try:
            rendered = self._result(future)
        except AssetError as exc:
            self._fail(key, Failure(key, exc.what, exc.item_id, exc.asset, exc.href, exc.attempts))
            return
        except _LostBlockError as exc:
            self._fail(key, Failure(key, str(exc)))
            return
        finally:
            future.release()
        progress = self._open[key]
        window = progress.plan.recipe.windows()[number]
        try:
            for name, image in rendered.images.items():
                progress.images[name].add(image, window)
        except OSError as exc:
            self._fail(key, Failure(key, f"Writing failed: {exc.strerror or exc}."))
            return
        for kind, sides in rendered.levels.items():
            progress.levels.setdefault(kind, set()).update(sides)
        progress.waiting -= 1
        self._done_blocks += 1
        self._tell("block-done", key)
        if not progress.waiting:
            del self._open[key]
            self._recipes.pop(key).release()
            self._writing[key] = writer.submit(self._write, progress)
            for other in [k for k, f in self._writing.items() if f.done()]:
                self._collect(other)

    def _result(self, future: Future[Any]) -> Rendered:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            rendered: Rendered = future.result()
        except KilledWorker:
            raise _LostBlockError("Workers died on a block of it again and again, out of memory perhaps.") from None
        except (FutureCancelledError, CommClosedError, TimeoutError, ConnectionError) as exc:
            raise ClusterError(
                f"The Dask cluster went away during the work ({redact(exc) or type(exc).__name__}).",
                "",
                "Run the same command again.",
            ) from exc
        return rendered

    def _write(self, progress: _Progress) -> dict[str, Any]:
        """Write the files of a unit; runs beside the event loop of `run`."""
        written = {}
        for name, cog in progress.images.items():
            path = progress.folder / f"{name}.tif"
            size, sha256 = cog.write(path)
            written[name] = WrittenImage(cog.spec, path, size, sha256, cog.sums, cog.smallest)
        shutil.rmtree(self._publication.scratch / progress.plan.unit.key, ignore_errors=True)
        levels = {kind: sorted(sides) for kind, sides in sorted(progress.levels.items())}
        return self._finish(progress.plan, progress.folder, written, levels)

    def _collect(self, key: str) -> None:
        future = self._writing.pop(key)
        try:
            self._outcome.items[key] = future.result()
        except OSError as exc:
            self._fail(key, Failure(key, f"Writing failed: {exc.strerror or exc}."))
            return
        self._publication.unit_done(key)
        self._tell("unit-done", key)

    def _fail(self, key: str, failure: Failure) -> None:
        self._outcome.failures.append(failure)
        self._cancel([f for f, (unit, _) in self._running.items() if unit == key])
        self._discard(key)
        self._tell("unit-failed", key, failure.reason)

    def _discard(self, key: str) -> None:
        progress = self._open.pop(key, None)
        recipe = self._recipes.pop(key, None)
        if recipe is not None:
            recipe.release()
        if progress is not None:
            for cog in progress.images.values():
                cog.close()
            shutil.rmtree(self._publication.scratch / key, ignore_errors=True)

    def _cancel(self, futures: list[Future[Any]]) -> None:
        if not futures:
            return
        try:
            self._client.cancel(futures, force=True)
        except Exception as exc:  # noqa: BLE001 - the cluster may be gone; what brought us here is what matters
            logger.debug("Cancelling failed: {}", exc)

    def _tell(self, kind: Any, unit: str = "", message: str = "") -> None:
        self._listener(Event(kind, unit, self._done_blocks, self._plan.blocks, message))


class _LostBlockError(EoapError):
    """A block can't be rendered, for a reason that isn't an asset's."""
