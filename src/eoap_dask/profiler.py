"""Keeping distributed's profiler from locking up workers of Python 3.11.

It asks for the frames of all threads a hundred times a second. With Python 3.11 that may collect garbage while it
holds a lock which a thread that starts needs as well (python/cpython#106883, dask/distributed#8616): the worker stands
still for good, and whoever waits for it. Our tasks start threads. Seen in two of seventeen runs on a busy machine.
Clusters that we start don't profile in the first place; workers of others drop their profiler before our first task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import WorkerPlugin

from eoap_dask.cluster import PROFILES

if TYPE_CHECKING:
    from distributed import Client, Worker

IS_DANGEROUS = not PROFILES
CALLBACKS = ("profile", "profile-cycle")


class NoProfiler(WorkerPlugin):
    """Ends the profiler of a worker."""

    name = "eoap-dask-no-profiler"

    def setup(self, worker: Worker) -> None:
        """Run on each worker, and on those that come later before their first task."""
        for name in CALLBACKS:
            callback = worker.periodic_callbacks.pop(name, None)  # popped: those that are there will be started
            if callback is not None:
                callback.stop()


def end_dangerous_profiler(client: Client) -> None:
    """Let the workers of a cluster do without distributed's profiler where it can lock them up.

    Parameters
    ----------
    client : distributed.Client
        Of workers with our version of Python.
    """
    if IS_DANGEROUS:
        client.register_plugin(NoProfiler())
