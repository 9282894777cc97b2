"""Carrying out units: tasks go to the cluster, results come back, units become files.

The one place that computes. It knows nothing of any application, nor of pixels: a `Work` says what to do and what
becomes of it, and the application says how a finished unit becomes an item.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from concurrent.futures import Future as ThreadFuture
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from loguru import logger

from eoap_dask.cluster.supply import supply
from eoap_dask.cluster.watch import WorkerWatch
from eoap_dask.errors import (
    AssetError,
    ClusterError,
    ContradictionError,
    EoapError,
    NothingFoundError,
    ResourceError,
    TilesError,
)
from eoap_dask.logs import carried
from eoap_dask.redact import redact
from eoap_dask.run.control import Control
from eoap_dask.run.events import Event, Listener
from eoap_dask.run.feed import Feed
from eoap_dask.run.plan import UnitPlan
from eoap_dask.run.schedule import Schedule
from eoap_dask.run.sizing import may_send
from eoap_dask.run.unit import Failure
from eoap_dask.run.work import Collector, Work
from eoap_dask.run.written import WrittenUnit

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

    from eoap_dask.publish.publisher import Publisher
    from eoap_dask.render.resources import Resource

PATIENCE_S = 300.0
"""How long a cluster may be without workers."""
SUSPECT_S = 30.0
"""How long a block whose workers died waits until nothing else runs, before nothing else is sent."""
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
    corrected: list[Failure] = field(default_factory=list)
    """Sources that are other than the catalogue says, with the first one's reason for each unit."""
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
    """One attempt at a unit, while it is under way."""

    plan: UnitPlan
    folder: Path
    scratch: Path
    """Directory of large results, before its files are written."""
    collector: Collector
    work: Work
    """The present round."""
    packed: Future[Any]
    """The task that holds what the round's tasks share."""
    waiting: int
    """Tasks of the round whose results aren't there."""
    home: str = ""
    """Address of the worker that had best do all of it; empty where any may."""
    done: int = 0
    """Tasks of all rounds whose results were taken."""
    added: int = 0
    """Tasks of all rounds but the first."""

    def clear(self) -> None:
        """Remove what there is beside the unit's directory."""
        self.collector.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Engine:
    """Runs the tasks of units on a cluster and writes the units."""

    def __init__(
        self,
        schedule: Schedule,
        client: Client,
        publication: Publisher,  # entered
        finish: FinishUnit,
        listener: Listener,
        max_bad_scenes: int = 0,  # how many sources that stay bad a unit may do without
        *,
        patience_s: float = PATIENCE_S,
        slots: int = 1,  # tasks that run at once, as far as is expected: while there are no workers
        # called when workers have joined, or can't write; raises for unusable ones
        check_workers: Callable[[], None] = lambda: None,
        # whether workers leave large results in the publication's scratch directory; else these travel to the client
        workers_write: bool = False,
        control: Control | None = None,
        # gets the item of each unit that is finished, once it can't be lost any more
        on_unit: Callable[[dict[str, Any]], None] = lambda _: None,
        on_failure: Callable[[Failure], None] = lambda _: None,
        # with more failed units than that no other is begun; None goes on to the end
        give_up_after: int | None = None,
    ) -> None:
        self._on_failure, self._give_up_after = on_failure, give_up_after
        self._check_workers, self._workers_write = check_workers, workers_write
        self._schedule, self._client, self._publication = schedule, client, publication
        self._finish, self._listener, self._max_bad_scenes = finish, listener, max_bad_scenes
        self._control, self._on_unit, self._slots = control or Control(), on_unit, slots
        self._watch = WorkerWatch(client, patience_s, lambda size: self._tell("cluster", message=size), self._joined)
        self._outcome = Outcome()
        self._feed = Feed(schedule, self._watch, self._begin_next, self._is_open)
        self._again: set[str] = set()
        """Keys of units that were begun before."""
        self._held: tuple[_Progress, int] | None = None
        self._open: dict[str, _Progress] = {}
        self._running: dict[Future[Any], tuple[_Progress, int, int]] = {}
        """Unit, number and bytes of each task that is under way."""
        self._running_bytes = 0
        self._suspects: deque[tuple[_Progress, int]] = deque()
        self._alone: Future[Any] | None = None
        self._suspected = 0.0
        """When the first suspect was put aside."""
        self._resources: dict[str, Resource] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: dict[str, ThreadFuture[dict[str, Any]]] = {}
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._done_blocks = 0
        self._more_blocks = 0
        """Blocks beside the first rounds' of the schedule: of further rounds, less those that nobody will do."""

    @property
    def outcome(self) -> Outcome:
        """What became of the units so far."""
        return self._outcome

    def run(self) -> Outcome:
        """Make all units; failed ones are in the outcome.

        Raises
        ------
        ClusterError
            when the cluster goes away
        StoppedError
            when `control` says so
        """
        from distributed import as_completed

        try:
            results = as_completed(loop=self._client.loop, with_results=False)
            self._watch.look(at_once=True)
            self._submit(results)
            while not self._is_over():
                self._control.check()
                for future in self._finished(results):
                    self._take(future)
                    self._submit(results)
                self._watch.look()
                self._collect_written()
                self._submit(results)  # there may be more workers or units now
        finally:
            self._writer.shutdown(cancel_futures=True)
            self._fetcher.shutdown(wait=False)
            self._cancel(list(self._running))
            for progress in list(self._open.values()):
                self._discard(progress)
            for key in [k for k, f in self._writing.items() if f.done() and not f.cancelled() and not f.exception()]:
                try:  # stopped in the middle: keep what is whole
                    self._collect(key)
                except Exception as exc:  # noqa: BLE001 - what stopped us is what matters
                    logger.debug("{} can't be kept: {}", key, exc)
        return self._outcome

    @property
    def _begins_no_more(self) -> bool:
        """Whether no unit is to be begun any more."""
        too_many = self._give_up_after is not None and len(self._outcome.failed) > self._give_up_after
        return self._control.is_draining or too_many

    def _is_over(self) -> bool:
        if self._open or self._writing:
            return False
        return self._begins_no_more or self._schedule.is_over

    def _finished(self, results: as_completed) -> list[Future[Any]]:
        """Return the tasks that are done, after waiting a moment where there are none."""
        if not self._running and self._writing:
            wait(self._writing.values(), TICK_S, FIRST_COMPLETED)
            return []
        with results.thread_condition:
            if not results.has_ready():
                results.thread_condition.wait(TICK_S)
        # those that were cancelled with their unit come as well
        return [future for future in results.next_batch(block=False) if future in self._running]

    def _begin_next(self, near: int) -> _Progress | None:
        """Begin a unit, one from a place of the schedule on where there is any; None where there is none."""
        planned = self._schedule.again() if self._begins_no_more else self._schedule.next(near)
        self._lose()
        return None if planned is None else self._begin(planned)

    def _lose(self) -> None:
        """Record the units that can't be made because others failed."""
        while self._schedule.failures:
            self._record(self._schedule.failures.pop(0))

    def _is_open(self, progress: _Progress) -> bool:
        return self._open.get(progress.plan.unit.key) is progress

    def _submit(self, results: as_completed) -> None:
        """Send tasks until enough are under way."""
        if self._alone in self._running or self._control.is_paused:
            return
        slots = self._watch.slots or self._slots
        # where there is always more to send, suspects would never have their turn
        waits = self._suspects and time.monotonic() - self._suspected > SUSPECT_S
        while len(self._running) < 2 * slots and not waits:
            found, self._held = self._held or self._feed.next(), None
            if found is None:
                break
            progress, number = found
            if not self._is_open(progress):
                continue
            if not may_send(len(self._running), self._running_bytes, progress.work.task_bytes(number), slots):
                self._held = found
                break
            self._send(found, results)
        if not self._running and (suspect := self._next_suspect()) is not None:
            self._alone = self._send(suspect, results, alone=True)

    def _send(self, found: tuple[_Progress, int], results: as_completed, *, alone: bool = False) -> Future[Any] | None:
        progress, number = found
        if alone:  # what it depends on may have been lost with it
            progress.packed.release()
            progress.packed = self._send_packed(progress.plan, progress.work)
        try:
            parts = progress.work.parts(number, self._publication.file_of, shared=self._workers_write)
        except TilesError as exc:
            self._fail(progress, Failure(progress.plan.unit.key, exc.what))
            return None
        arguments: tuple[Any, ...] = (str(progress.scratch),) if self._workers_write else ()
        if parts:
            arguments = (*(arguments or (None,)), parts)
        where: dict[str, Any] = {"key": f"task-{progress.packed.key}-{number}", "pure": False}
        running = sum(one is progress for one, _, _ in self._running.values())
        if not alone and self._feed.has_room_at_home(progress, running):
            where |= {"workers": [progress.home], "allow_other_workers": True}
        future = self._client.submit(progress.work.task, progress.packed, number, *arguments, **where)
        size = progress.work.task_bytes(number)
        self._running[future] = (progress, number, size)
        self._running_bytes += size
        results.add(future)
        return future

    def _next_suspect(self) -> tuple[_Progress, int] | None:
        while self._suspects:
            progress, number = self._suspects.popleft()
            if self._is_open(progress):
                return progress, number
        return None

    def _send_packed(self, planned: UnitPlan, work: Work) -> Future[Any]:
        # a task, not scattered data: a worker that dies takes scattered data with it for good
        key = f"recipe-{planned.unit.key}-{planned.digest[:12]}-{uuid4().hex[:8]}"
        return self._client.submit(bytes, work.pack(), key=key, pure=False)

    def _begin(self, planned: UnitPlan) -> _Progress:
        key, work = planned.unit.key, planned.work
        self._supply(work.resources)
        packed = self._send_packed(planned, work)
        folder = self._publication.unit_dir(key)
        # another one for each attempt and run: workers may be late with results of those before
        scratch = self._publication.scratch / f"{key}.{uuid4().hex[:8]}"
        scratch.mkdir(parents=True)
        collector = work.collect(folder, scratch)
        progress = _Progress(planned, folder, scratch, collector, work, packed, work.tasks)
        self._open[key] = progress
        self._tell("unit-retried" if key in self._again else "unit-started", key, str(work))
        self._go_on(progress)
        return progress

    def _go_on(self, progress: _Progress) -> None:
        """Begin a unit's next round, or write it, when there are no tasks to wait for."""
        key = progress.plan.unit.key
        while not progress.waiting:
            try:
                work = progress.collector.next_round()
            except EoapError as exc:
                if isinstance(exc, NothingFoundError):
                    self._outcome.unseen[key] = exc
                self._fail(progress, Failure(key, exc.what))
                return
            except OSError as exc:
                self._fail(progress, Failure(key, f"Writing failed: {exc.strerror or exc}."))
                return
            progress.packed.release()
            if work is None:
                del self._open[key]
                self._tell("unit-writing", key)
                self._writing[key] = self._writer.submit(carried(self._write), progress)
                return
            progress.work, progress.waiting = work, work.tasks
            progress.packed = self._send_packed(progress.plan, work)
            progress.added += work.tasks
            self._more_blocks += work.tasks
            self._feed.add_round(progress)

    def _supply(self, resources: tuple[Resource, ...]) -> None:
        """Bring resources to all workers, unless that was done."""
        new = {one.sha256: one for one in resources if one.sha256 not in self._resources}
        self._resources |= new
        supply(self._client, tuple(new.values()), self._control.check)

    def _joined(self) -> None:
        """Look at workers that have joined, and bring them what the others have."""
        self._check_workers()
        supply(self._client, tuple(self._resources.values()), self._control.check)

    def _take(self, future: Future[Any]) -> None:
        progress, number, size = self._running.pop(future)
        self._running_bytes -= size
        if not self._is_open(progress):  # the unit has failed, or begun again, meanwhile
            future.release()
            return
        key = progress.plan.unit.key
        try:
            result = self._result(future, number)
        except ContradictionError as exc:
            self._correct(progress, exc)
            return
        except AssetError as exc:
            self._do_without(progress, Failure(key, exc.what, exc.item_id, exc.asset, exc.href, exc.attempts))
            return
        except _LostBlockError as exc:
            self._suspect(progress, number, future, exc)
            return
        except (_BlockFailedError, TilesError, ResourceError) as exc:
            if isinstance(exc, TilesError):
                with suppress(OSError):  # the disk is full, perhaps
                    self._check_workers()  # a worker that has lost the disk would fail all that is left
            self._fail(progress, Failure(key, exc.what))
            return
        finally:
            future.release()
        try:
            progress.collector.add(number, result)
        except OSError as exc:
            self._fail(progress, Failure(key, f"Writing failed: {exc.strerror or exc}."))
            return
        progress.waiting -= 1
        progress.done += 1
        self._done_blocks += 1
        self._outcome.blocks = self._done_blocks
        self._tell("block-done", key)
        if not progress.waiting:
            self._watch.look(at_once=True)  # nothing is kept of a worker that we haven't looked at
            self._go_on(progress)

    def _suspect(self, progress: _Progress, number: int, future: Future[Any], error: _LostBlockError) -> None:
        """Put a block aside whose workers died, until it runs alone; if they die again, it is to blame."""
        if future is self._alone:
            self._fail(progress, Failure(progress.plan.unit.key, str(error)))
            return
        # Dask blames every block that was on the worker, and gives each up after some deaths
        if not self._suspects:
            self._suspected = time.monotonic()
        self._suspects.append((progress, number))
        self._tell("block-retried", progress.plan.unit.key, f"Workers died while they had block {number}.")

    def _result(self, future: Future[Any], number: int) -> Any:
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

    def _fetch(self, future: Future[Any]) -> Any:
        """Return a block that is done. If it dies with the last worker, Dask waits for one that could make it again."""
        # in a thread: with a timeout, Dask would begin a long transfer anew
        fetched = self._fetcher.submit(carried(future.result))
        try:
            while not wait([fetched], TICK_S).done:
                self._control.check()
                self._watch.look()
        except BaseException:
            self._cancel([future])  # which ends the thread
            raise
        return fetched.result()

    def _write(self, progress: _Progress) -> dict[str, Any]:
        """Write the files of a unit; runs beside the event loop of `run`."""
        try:
            made = progress.collector.write()
            return self._finish(WrittenUnit(progress.plan, progress.folder, made))
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
        self._schedule.finished(key, self._outcome.items[key])
        self._tell("unit-done", key)
        self._on_unit(self._outcome.items[key])

    def _do_without(self, progress: _Progress, failure: Failure) -> None:
        """Begin the unit again without a scene that stays bad, if that is allowed; else it has failed."""
        planned = progress.plan
        rest = planned.without(failure.item)
        if rest is None or len(planned.left_out) >= self._max_bad_scenes:
            self._fail(progress, failure)
            return
        self._outcome.left_out.append(failure)
        self._begin_again(progress, rest)

    def _correct(self, progress: _Progress, fault: ContradictionError) -> None:
        """Begin the unit again with what its sources really are."""
        key = progress.plan.unit.key
        failure = Failure(key, fault.what, fault.item_id, fault.asset, fault.href, fault.attempts)
        planned = progress.plan.correct(fault)
        if planned is None:
            self._fail(progress, failure)
            return
        if not self._outcome.corrected:
            more = f" So do {len(fault.found) - 1} more of {key}." if len(fault.found) > 1 else ""
            logger.warning("{}{} The files count, here and in what follows.", fault.what, more)
        for item, asset, *_ in fault.found:
            self._outcome.corrected.append(replace(failure, item=item, asset=asset, href=""))
        self._begin_again(progress, planned)

    def _begin_again(self, progress: _Progress, planned: UnitPlan) -> None:
        self._done_blocks -= progress.done
        self._more_blocks -= progress.added
        self._stop(progress)
        self._again.add(planned.unit.key)
        self._schedule.put_back(planned)

    def _fail(self, progress: _Progress, failure: Failure) -> None:
        self._more_blocks -= progress.waiting  # nobody will do these
        self._stop(progress)
        self._record(failure)

    def _record(self, failure: Failure) -> None:
        self._schedule.failed(failure.unit)
        self._outcome.failures.append(failure)
        self._tell("unit-failed", failure.unit, failure.reason)
        self._on_failure(failure)
        self._lose()

    def _stop(self, progress: _Progress) -> None:
        self._cancel([f for f, (other, _, _) in self._running.items() if other is progress])
        self._discard(progress)

    def _discard(self, progress: _Progress) -> None:
        del self._open[progress.plan.unit.key]
        progress.packed.release()
        progress.clear()

    def _cancel(self, futures: list[Future[Any]]) -> None:
        if not futures:
            return
        try:
            self._client.cancel(futures, force=True)
        except Exception as exc:  # noqa: BLE001 - the cluster may be gone; what brought us here is what matters
            logger.debug("Cancelling failed: {}", exc)

    def _tell(self, kind: Any, unit: str = "", message: str = "") -> None:
        total = self._schedule.blocks + self._more_blocks
        self._listener(Event(kind, unit, self._done_blocks, total, message))


def _reason(fault: Exception) -> str:
    if isinstance(fault, MemoryError):
        return "it ran out of memory"
    text = redact(fault).strip().splitlines()
    return ", ".join([type(fault).__name__, *(line.rstrip(".") for line in text[:1])])


class _LostBlockError(EoapError):
    """A block can't be rendered: it was lost with its workers."""


class _BlockFailedError(EoapError):
    """A block can't be rendered, for a reason that is neither an asset's nor the cluster's."""
