"""An embedded cluster of worker processes on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.cluster.environment import LARGE_GRAPHS, PROFILES, dask_configured, heap_environment
from eoap_dask.cluster.script import GUARD, check_script, imports_script
from eoap_dask.cluster.size import Size
from eoap_dask.errors import ClusterError
from eoap_dask.logs import quiet
from eoap_dask.overlap import overlapping
from eoap_dask.text import option

if TYPE_CHECKING:
    from distributed import Client


START_TIMEOUT_S = 60
LOST_WORKER_S = 5
"""How long a worker that doesn't answer is asked for a result, before the scheduler is."""
_TALKATIVE = ("distributed", "distributed.worker", "distributed.nanny", "distributed.scheduler", "bokeh", "tornado")
"""Loggers of an embedded cluster."""

_starting = threading.Lock()
"""Clusters start one after the other: each takes its own settings, such as its directory, from Dask's configuration."""


@contextmanager
def local_client(size: Size, scratch: Path | None = None) -> Iterator[Client]:
    """Start worker processes on this machine, and leave nothing of them behind.

    Temporary files are in `scratch`, by default among the system's. The client doesn't become Dask's default: another
    run of this process would take it, and lose it when this one ends. Raises `ClusterError` when they don't start.
    """
    check_script()
    import dask
    from distributed import Client, LocalCluster

    from eoap_dask.cluster.dashboard import make_dashboard_on_demand

    settings: dict[str, Any] = {
        "distributed.worker.memory.target": False,  # results are small and go to the client at once: nothing to spill
        "distributed.worker.memory.spill": False,
        **({} if PROFILES else {"distributed.worker.profile.enabled": False}),
    }
    with contextlib.ExitStack() as stack:
        # for as long as there is a cluster: a worker that takes the place of another has it too
        stack.enter_context(overlapping("heap", lambda: _environment_with(heap_environment())))
        # the scheduler makes a directory as well, and has no parameter that says where
        settings["temporary-directory"] = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="eoap-dask-", dir=scratch, ignore_cleanup_errors=True)
        )
        stack.enter_context(dask_configured(LARGE_GRAPHS))
        stack.enter_context(quiet(*_TALKATIVE))
        try:
            with _starting, dask.config.set(settings), _uninterrupted():
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=size.workers,
                        threads_per_worker=size.threads_per_worker,
                        memory_limit=size.memory_per_worker,
                        processes=True,
                        host="127.0.0.1",
                        dashboard_address=os.environ.get("EOAP_DASK_DASHBOARD", "127.0.0.1:0"),
                        death_timeout=START_TIMEOUT_S,
                        silence_logs=logging.CRITICAL,
                        scheduler_kwargs={"dashboard": False},
                    )
                )
                make_dashboard_on_demand(cluster.scheduler)
                # results come from the workers themselves; by way of the scheduler they would travel twice
                client = stack.enter_context(
                    Client(cluster, timeout=START_TIMEOUT_S, direct_to_workers=True, set_as_default=False)
                )
                client.rpc.timeout = LOST_WORKER_S
            client.wait_for_workers(size.workers, timeout=START_TIMEOUT_S)
        except (OSError, TimeoutError, RuntimeError, ValueError) as exc:
            raise ClusterError(
                f"The local Dask cluster didn't start: {exc}",
                f"In a script, what starts it must stand under `{GUARD}`." if imports_script() else "",
                f"Try {option('workers', 1)}, and see the log.",
            ) from exc
        logger.info("Dask dashboard at {}", cluster.dashboard_link)
        yield client


@contextmanager
def _environment_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Set some variables for workers to come; Dask takes them before its configuration, and would leave them set."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back the signals that stop us: a cluster that is interrupted while it starts can't be stopped in order.

    Threads and processes started in here never get SIGINT and SIGHUP: a terminal sends them to the whole group, but
    stopping the workers is the client's part.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    resource_tracker.ensure_running()  # it comes with the first process, and lets SIGINT through to that one
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    caught: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere, handlers can't be set and never run
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(one)):
                handlers[one] = signal.signal(one, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if caught:
            signal.raise_signal(caught[0])
