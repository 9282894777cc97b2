"""Keeping distributed's profiler from locking up workers of Python 3.11.

Clusters that we start don't profile in the first place; workers of others do without it while we work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from distributed.diagnostics.plugin import WorkerPlugin
from loguru import logger

from eoap_dask.cluster.environment import PROFILES
from eoap_dask.redact import redact

if TYPE_CHECKING:
    from distributed import Client, Worker

# distributed asks for the frames of all threads a hundred times a second. In Python 3.11 that may collect garbage while
# it holds a lock which a starting thread needs as well (python/cpython#106883, dask/distributed#8616): the worker, and
# whoever waits for it, stands still for good. Our tasks start threads. Seen in two of seventeen runs on a busy machine.
IS_DANGEROUS = not PROFILES
CALLBACKS = ("profile", "profile-cycle")
END_TIMEOUT_S = 5.0


@dataclass
class _Ended:
    """Callbacks of a worker that were stopped, and by how many runs."""

    callbacks: dict[str, Any] = field(default_factory=dict)
    runs: int = 0


_ended: WeakKeyDictionary[Worker, _Ended] = WeakKeyDictionary()
"""By worker of this process; several runs may share one."""


class NoProfiler(WorkerPlugin):
    """Stops the profiler of every worker for as long as a run has this plugin registered."""

    def __init__(self) -> None:
        self.name = f"eoap-dask-no-profiler-{uuid4().hex}"  # each run has its own

    def setup(self, worker: Worker) -> None:
        """Stop the profiler of a worker, also of one that comes later, before its first task."""
        ended = _ended.setdefault(worker, _Ended())
        ended.runs += 1
        for name in CALLBACKS:
            callback = worker.periodic_callbacks.pop(name, None)  # popped: those that are there will be started
            if callback is not None:
                callback.stop()
                ended.callbacks[name] = callback

    def teardown(self, worker: Worker) -> None:
        """Start the profiler again, when no other run does without it."""
        ended = _ended[worker]
        ended.runs -= 1
        if ended.runs:
            return
        del _ended[worker]
        worker.periodic_callbacks.update(ended.callbacks)
        for callback in ended.callbacks.values():
            callback.start()


@contextmanager
def without_dangerous_profiler(client: Client) -> Iterator[None]:
    """Stop the profiler of a cluster's workers in the context, where it can lock them up.

    The workers need our software: `check_versions` comes first.
    """
    if not IS_DANGEROUS:
        yield
        return
    plugin = NoProfiler()
    client.register_plugin(plugin)
    try:
        yield
    finally:
        if client.status == "running" and client.scheduler is not None:  # to ask would only mean to wait
            try:
                ask = client.scheduler.unregister_worker_plugin
                client.sync(ask, name=plugin.name, callback_timeout=END_TIMEOUT_S)
            except Exception as exc:  # noqa: BLE001 - the cluster may be gone; what brought us here is what matters
                logger.debug("Workers stay without their profiler: {}", redact(exc) or type(exc).__name__)
