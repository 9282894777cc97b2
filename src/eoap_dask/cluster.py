"""A Dask client to work with: the one that is active, or an embedded local cluster of our own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from eoap_dask.errors import ClusterError, UsageError
from eoap_dask.logs import quiet

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.params import RunOptions

START_TIMEOUT_S = 60
LOST_WORKER_S = 5
"""How long a worker that doesn't answer is asked for a result, before the scheduler is."""
_TALKATIVE = ("distributed", "distributed.worker", "distributed.nanny", "distributed.scheduler", "bokeh", "tornado")
"""Loggers of an embedded cluster."""
PROFILES = sys.version_info >= (3, 12)
"""Whether workers may look at what their threads do, every 10 ms. In Python 3.11 a garbage collection in that moment
can stop the whole process for ever (CPython gh-106883, dask/distributed 8616)."""
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}
"""Environment in which glibc uses a worker's memory again. Dask sets the second to 64 kB alone, and then every array of
more than 128 kB is memory that the kernel has to map and clear: a quarter of a mosaic's processor time. From 4 MiB on,
NumPy asks for huge pages, which are cheap. What the user's environment or Dask's configuration says goes before."""
_DASKS_TRIM = "65536"
"""Dask's own value, which it also leaves in the environment of a process that has started workers."""
MIN_WORKER_BYTES = 256 << 20
"""A worker process needs most of this before it has read a pixel."""


@dataclass(frozen=True)
class Size:
    """How large a cluster is."""

    workers: int
    threads_per_worker: int
    memory_per_worker: int
    """Bytes."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return self.workers * self.threads_per_worker


def local_size(workers: int | None = None, memory_per_worker: int | None = None, tasks: int | None = None) -> Size:
    """Return a sensible use of this machine, within the limits of its control group.

    Parameters
    ----------
    workers
        Worker processes; by default one per four cores, because the kernels release the GIL.
    memory_per_worker
        Bytes; by default an equal share of 80 % of the memory.
    tasks
        How many tasks there are to run, if known: more slots than that are of no use.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    slots = max(1, min(CPU_COUNT, tasks or CPU_COUNT))
    processes = workers or max(1, -(-slots // 4))
    threads = max(1, -(-slots // processes)) if workers is None else max(1, CPU_COUNT // processes)
    share = int(MEMORY_LIMIT * 0.8) // processes
    return Size(processes, threads, memory_per_worker or share)


@contextmanager
def local_client(size: Size, scratch: Path | None = None) -> Iterator[Client]:
    """Start a cluster of worker processes on this machine; nothing of it is left afterwards.

    Parameters
    ----------
    size : Size
    scratch
        Where its temporary directory goes; by default among the system's.

    Raises
    ------
    ClusterError
        when it doesn't come up
    """
    import dask
    from distributed import Client, LocalCluster

    from eoap_dask.dashboard import make_dashboard_on_demand

    settings: dict[str, Any] = {
        "distributed.worker.memory.target": False,  # results are small and go to the client at once: nothing to spill
        "distributed.worker.memory.spill": False,
        **({} if PROFILES else {"distributed.worker.profile.enabled": False}),
        "distributed.admin.large-graph-warning-threshold": "100MB",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment_with(heap_environment()))
        # the scheduler makes a directory as well, and has no parameter that says where
        settings["temporary-directory"] = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="eoap-dask-", dir=scratch, ignore_cleanup_errors=True)
        )
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(quiet(*_TALKATIVE))
        try:
            with _uninterrupted():
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
                client = stack.enter_context(Client(cluster, timeout=START_TIMEOUT_S, direct_to_workers=True))
                client.rpc.timeout = LOST_WORKER_S
            client.wait_for_workers(size.workers, timeout=START_TIMEOUT_S)
        except (OSError, TimeoutError, RuntimeError, ValueError) as exc:
            raise ClusterError(
                f"The local Dask cluster didn't start: {exc}", "", "Try --workers 1, or see -v."
            ) from exc
        logger.info("Dask dashboard at {}", cluster.dashboard_link)
        yield client


def heap_environment() -> dict[str, str]:
    """Return `HEAP`, with the values that somebody chose in this process's environment or in Dask's configuration."""
    import dask

    def chosen(name: str) -> Iterator[str]:
        yield os.environ.get(name, _DASKS_TRIM)
        yield str(dask.config.get(f"distributed.nanny.pre-spawn-environ.{name}", _DASKS_TRIM))

    return {name: next((v for v in chosen(name) if v != _DASKS_TRIM), value) for name, value in HEAP.items()}


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
def open_client(
    options: RunOptions, size: Size, client: Client | None = None, scratch: Path | None = None
) -> Iterator[Client]:
    """Yield a client to work with, as the options say; only what was started here is stopped afterwards.

    Parameters
    ----------
    options : RunOptions
        ``auto`` means the active client, else the Gateway's cluster that ``DASK_CLUSTER`` names, else a local one.
    size : Size
        Of a local cluster.
    client : distributed.Client, optional
        Goes before everything else.
    scratch
        See `local_client`: a killed run leaves nothing there that the next one doesn't remove.

    Raises
    ------
    ClusterError, UsageError
    """
    options.check()
    running = existing_client(options.cluster, client)
    if running is not None:
        yield running
        return
    with _started(options, size, scratch) as own:
        yield own


def existing_client(cluster: str, client: Client | None = None) -> Client | None:
    """Return the given client, else with ``auto`` the active one; None where a cluster is to be started or joined."""
    return client or (_active_client() if cluster == "auto" else None)


def cluster_kind(cluster: str) -> Literal["local", "gateway", "scheduler"]:
    """Return what ``--cluster`` means, without an active client."""
    from eoap_dask.gateway.client import name_from_environment

    if cluster == "auto":
        return "gateway" if name_from_environment() else "local"
    if cluster in {"local", "gateway"}:
        return "local" if cluster == "local" else "gateway"
    return "scheduler"


def is_embedded(client: Client) -> bool:
    """Tell whether a client's cluster consists of processes that this one has started, with its own software."""
    from distributed import LocalCluster

    return isinstance(client.cluster, LocalCluster)


@contextmanager
def _started(options: RunOptions, size: Size, scratch: Path | None) -> Iterator[Client]:
    from eoap_dask.gateway.client import GatewayOptions, gateway_client, name_from_environment, scheduler_client

    kind = cluster_kind(options.cluster)
    if kind == "local":
        with local_client(size, scratch) as client:
            yield client
    elif kind == "scheduler":
        with scheduler_client(
            options.cluster,
            timeout_s=options.cluster_timeout,
            allow_version_mismatch=options.allow_version_mismatch,
        ) as client:
            yield client
    else:
        wanted = GatewayOptions(
            name=name_from_environment(),
            workers=options.workers,
            worker_cores=options.worker_cores,
            worker_memory=options.worker_memory,
            image=options.image,
            options=dict(options.cluster_options),
            timeout_s=options.cluster_timeout,
            allow_version_mismatch=options.allow_version_mismatch,
        )
        with gateway_client(wanted) as client:
            yield client


def expected_size(options: RunOptions, client: Client | None, tasks: int) -> Size:
    """Return the size of the cluster that the work will run on, as far as it can be said before it is there.

    Parameters
    ----------
    options : RunOptions
    client : distributed.Client, optional
        The caller's own.
    tasks
        At most how many tasks there are.

    Raises
    ------
    UsageError
        when a local cluster would have too little memory for its workers
    """
    running = existing_client(options.cluster, client)
    if running is not None:
        return size_of(running)
    if cluster_kind(options.cluster) == "local":
        size = local_size(options.workers, options.worker_bytes(), tasks)
        if size.memory_per_worker < MIN_WORKER_BYTES:
            raise UsageError(
                f"{size.workers} workers would have {size.memory_per_worker >> 20} MiB of memory each.",
                f"Expected at least {MIN_WORKER_BYTES >> 20} MiB.",
                "Try fewer --workers.",
            )
        return size
    return Size(options.workers or 2, max(1, int(options.worker_cores or 1)), options.worker_bytes() or 4 << 30)


def size_of(client: Client) -> Size:
    """Return the size of a running cluster, as its smallest worker has it."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise ClusterError("The cluster has no workers.", "Expected at least one.", "Try to scale it up.")
    return Size(len(workers), min(w["nthreads"] for w in workers), min(w["memory_limit"] or 2**62 for w in workers))


def _active_client() -> Client | None:
    from distributed import default_client

    try:
        found: Client = default_client()
    except ValueError:
        return None
    return found


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put signals that stop us off: a cluster that is interrupted while it starts can't be stopped in order.

    Threads and processes that are started in here never get SIGINT and SIGHUP: a terminal sends them to the whole
    group, but to stop the workers is our part.
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
