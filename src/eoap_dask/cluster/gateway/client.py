"""A Dask client on a cluster that somebody else operates: one that is joined, or one that is started and stopped."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.cluster.environment import LARGE_GRAPHS, dask_configured
from eoap_dask.cluster.gateway.api import ClusterInfo, GatewayApi, ended
from eoap_dask.cluster.gateway.options import Memory
from eoap_dask.cluster.gateway.versions import check_versions
from eoap_dask.cluster.name_file import check_cluster_name
from eoap_dask.cluster.options import DEFAULT_WORKERS
from eoap_dask.errors import ClusterError, UsageError
from eoap_dask.logs import quiet
from eoap_dask.overlap import warnings_filtered
from eoap_dask.redact import redact
from eoap_dask.text import must_be, parse_memory, plural

if TYPE_CHECKING:
    from distributed import Client

NAME_VARIABLE = "DASK_CLUSTER"
PLATFORM_VARIABLES = {
    "workerCores": "DASK_GATEWAY_WORKER_CORES",
    "workerCoresLimit": "DASK_GATEWAY_WORKER_CORES_LIMIT",
    "workerMemory": "DASK_GATEWAY_WORKER_MEMORY",
    "clusterMaxCores": "DASK_GATEWAY_CLUSTER_MAX_CORES",
    "clusterMaxMemory": "DASK_GATEWAY_CLUSTER_MAX_RAM",
}
"""Fields of ``calrissian:DaskGatewayRequirement`` and the variables in which calrissian tells them."""
CONNECT_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0
SAY_EVERY_S = 30.0
ASK_EVERY_S = 3.0
_TALKATIVE = ("distributed", "distributed.client", "distributed.core", "distributed.comm", "distributed.batched")
"""Loggers of a client: what they would say, we say."""


@dataclass(frozen=True)
class GatewayOptions:
    """Which cluster of a Gateway to work on, or how large one to start."""

    name: str | None = None
    """A running cluster to join and to leave running; see `name_from_environment`. None starts one."""
    workers: int | None = None
    """How many to ask for, by default 2; of a cluster that is joined, how many to wait for, by default 1."""
    worker_cores: float | None = None
    """Cores of each worker; by default what the Gateway gives."""
    worker_memory: str | None = None
    """Memory of each worker, such as ``4G``; by default what the Gateway gives."""
    image: str | None = None
    """Container image of scheduler and workers; by default the Gateway's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further options of the Gateway's clusters. Text becomes what the Gateway says they are."""
    timeout_s: float = 300
    """How long to wait for the scheduler and, from then on, for the workers."""
    address: str | None = None
    """Address of the Gateway; by default as dask's configuration says."""
    allow_version_mismatch: bool = False

    def check(self) -> None:
        """Raise `UsageError` for values that make no sense, before anything is contacted."""
        if self.name is not None:
            check_cluster_name(self.name, NAME_VARIABLE if self.name == os.environ.get(NAME_VARIABLE) else "")
        if self.workers is not None and self.workers < 1:
            raise must_be("workers", "1 or more", self.workers, 2)
        if self.worker_cores is not None and not self.worker_cores > 0:
            raise must_be("worker_cores", "more than 0", self.worker_cores, 1)
        if self.worker_memory is not None:
            parse_memory(self.worker_memory)
        if not self.timeout_s > 0:
            raise UsageError(f"The timeout must be more than 0 seconds, got {self.timeout_s:g}.", "", "Try 300.")
        for name in self._named().keys() & self.options.keys():
            raise UsageError(f"The cluster option {name} is given twice.", "Expected it once.")

    def wanted(self) -> dict[str, Any]:
        """Return the options of the cluster to be started."""
        return self._named() | dict(self.options)

    def _named(self) -> dict[str, Any]:
        named = {
            "worker_cores": self.worker_cores,
            "worker_memory": None if self.worker_memory is None else Memory(self.worker_memory),
            "image": self.image,
        }
        return {key: value for key, value in named.items() if value is not None}

    @property
    def size(self) -> str:
        """What is asked for, in words."""
        cores, memory = self.worker_cores, self.worker_memory
        each = [] if cores is None else [f"{cores:g} core{'' if cores == 1 else 's'}"]
        each += [] if memory is None else [f"{memory} of memory"]
        workers = plural(self.workers or DEFAULT_WORKERS, "worker")
        return f"{workers} with {' and '.join(each)}{' each' if self.workers != 1 else ''}" if each else workers


def name_from_environment() -> str | None:
    """Return the name of the cluster to be joined, as ``DASK_CLUSTER`` says; None where that is unset or empty."""
    return os.environ.get(NAME_VARIABLE, "").strip() or None


@dataclass
class RunningCluster:
    """A cluster of a Gateway while we are connected to it."""

    name: str
    client: Client
    dashboard: str | None
    is_ours: bool
    """Whether we started it."""


@contextmanager
def gateway_client(options: GatewayOptions) -> Iterator[Client]:
    """Yield a client of a Gateway's cluster with workers; see `gateway_cluster`."""
    with gateway_cluster(options) as cluster:
        yield cluster.client


@contextmanager
def gateway_cluster(options: GatewayOptions) -> Iterator[RunningCluster]:
    """Join a cluster, or start one, and yield it with a synchronous client once it has a worker.

    What was started is stopped in every case; what was joined is left as it was. Fewer workers than asked for are
    waited for until the timeout, then warned about.
    """
    options.check()
    with GatewayApi(options.address) as api:
        if options.name is not None:
            info = api.wait_until_running(options.name, options.timeout_s)
            logger.info("Joining the Dask cluster {}", info.name)
            with work_on(api, info, options, asked=options.workers or 1) as client:
                yield RunningCluster(info.name, client, info.dashboard, is_ours=False)
            return
        with api.submitted(options.wanted()) as lease:
            logger.info("Starting the Dask cluster {} with {}", lease.name, options.size)
            info, asked = start_workers(api, lease.name, options)
            with work_on(api, info, options, asked) as client:
                yield RunningCluster(info.name, client, info.dashboard, is_ours=True)


def start_workers(api: GatewayApi, name: str, options: GatewayOptions) -> tuple[ClusterInfo, int]:
    """Wait for the scheduler of a new cluster, ask for its workers, and return how many are allowed, at least 1."""
    info = api.wait_until_running(name, options.timeout_s)
    asked = options.workers or DEFAULT_WORKERS
    allowed = api.scale(name, asked)
    if allowed < 1:
        raise ClusterError(
            f"The Dask Gateway at {api.shown_address} allows no worker: {_asked_for(options.size)}, "
            "which is more than a cluster may have.",
            "",
            "Ask for smaller workers.",
        )
    if allowed < asked:
        logger.warning("{}; the Gateway allows {}.", _asked_for(options.size), allowed)
    return info, allowed


def wait_for_workers(
    client: Client,
    asked: int,
    size: str,  # what was asked for, in words
    timeout_s: float,
    look: Callable[[], None] = lambda: None,  # called now and then; raises when waiting has become pointless
) -> int:
    """Wait until the workers that were asked for have come, or any after `timeout_s`; return how many, at least 1."""
    began = said = looked = time.monotonic()
    while True:
        came = len(client.nthreads())
        if came >= asked:
            return came
        now = time.monotonic()
        if now - began > timeout_s:
            break
        if now - looked > ASK_EVERY_S:
            look()
            looked = time.monotonic()
        if now - said > SAY_EVERY_S:
            logger.info("{} of {} so far", came, plural(asked, "worker"))
            said = now
        time.sleep(0.1)
    if not came:
        raise ClusterError(
            f"No worker came within {timeout_s:g} s; {_asked_for(size)}.",
            "Expected at least one.",
            "The cluster may have no room for workers of that size: ask for smaller ones, or wait longer.",
        )
    logger.warning("{} asked for, {} came within {:g} s: going on with these.", size, came, timeout_s)
    return came


@contextmanager
def scheduler_client(address: str, *, timeout_s: float = 300, allow_version_mismatch: bool = False) -> Iterator[Client]:
    """Yield a client of a running scheduler with at least one worker, and leave the scheduler running.

    An address is like ``tcp://10.0.0.5:8786``; ``tls://`` takes the keys of dask's configuration.
    """
    shown = redact(address)
    who = f"The Dask scheduler at {shown}"
    patience_s = min(timeout_s, CONNECT_TIMEOUT_S)
    with connected(address, who, patience_s=patience_s) as client, _explained(client, lambda: None, who):
        wait_for_workers(client, 1, "1 worker", timeout_s)
        check_versions(client, allow_version_mismatch)
        yield client


@contextmanager
def work_on(api: GatewayApi, info: ClusterInfo, options: GatewayOptions, asked: int) -> Iterator[Client]:
    """Yield a client of a running cluster once it has workers with our software; `asked` of them are waited for."""

    def look() -> None:
        found = api.cluster(info.name)
        if found is None or found.status != "running":
            raise ClusterError(
                f"The Gateway says that the Dask cluster {info.name} {ended(found.status) if found else 'is unknown'}.",
                "",
                "See the Gateway's logs.",
            )

    if info.dashboard:
        logger.info("Dask dashboard at {}", info.dashboard)
    size = options.size if options.name is None else plural(asked, "worker") + _asked_by_platform()
    who = f"The Dask cluster {info.name}"
    with connected(info.scheduler or "", who, info.security) as client, _explained(client, look, who):
        wait_for_workers(client, asked, size, options.timeout_s, look)
        check_versions(client, options.allow_version_mismatch)
        yield client


@contextmanager
def connected(address: str, who: str, security: Any = None, patience_s: float = CONNECT_TIMEOUT_S) -> Iterator[Client]:
    """Yield a client of a scheduler, and close it afterwards, but not the cluster; messages call that `who`."""
    from distributed import Client
    from distributed.comm.addressing import parse_address
    from distributed.comm.registry import get_backend
    from distributed.versions import VersionMismatchWarning

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask_configured(LARGE_GRAPHS))
        stack.enter_context(quiet(*_TALKATIVE))
        try:
            get_backend(parse_address(address, strict=True)[0])  # a Client that can't begin leaves a thread behind
            with warnings_filtered("ignore", VersionMismatchWarning):  # check_versions says it better
                client = Client(address, security=security, timeout=patience_s, set_as_default=False)
        except (OSError, TimeoutError) as exc:
            raise ClusterError(
                f"{who} doesn't answer: {redact(exc).strip().splitlines()[0].rstrip('.')}.",
                "",
                "Check its address, and that it runs.",
            ) from exc
        except (ValueError, RuntimeError, TypeError) as exc:
            raise UsageError(
                f"{redact(address)!r} can't be the address of a Dask scheduler: {redact(exc)}.",
                "Expected a protocol, a host and a port.",
                "Try tcp://127.0.0.1:8786.",
            ) from exc
        try:
            yield client
        finally:
            # the context manager of Client would wait for a scheduler that has gone
            try:
                client.close(timeout=CLOSE_TIMEOUT_S)
            except BaseException as exc:
                client.status = "closed"  # else it tries again, for a minute, when it is collected, and prints why not
                with contextlib.suppress(Exception):
                    client._loop_runner.stop(CLOSE_TIMEOUT_S)  # noqa: SLF001 - what close() would do at its end
                if not isinstance(exc, Exception):  # nothing depends on the client any more
                    raise


@contextmanager
def _explained(client: Client, look: Callable[[], None], who: str) -> Iterator[None]:
    """Raise that the cluster has ended, where that is why the work failed."""
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (ClusterError, FutureCancelledError, OSError) as exc:
        is_lost = isinstance(exc, CommClosedError) or not _is_connected(client)
        if not is_lost and not isinstance(exc, ClusterError | FutureCancelledError):
            raise
        why = f" ({exc.reason})" if isinstance(exc, FutureCancelledError) else ""
        try:
            look()
        except ClusterError as found:
            why = f": {found.what}"
        else:
            if not is_lost or isinstance(exc, ClusterError):
                raise
        raise ClusterError(f"{who} ended while we worked{why.rstrip('.')}.", "", "Run the same command again.") from exc


def _asked_for(size: str) -> str:
    return f"{size} {'was' if size.startswith('1 ') else 'were'} asked for"


def _is_connected(client: Client) -> bool:
    return bool(client.status == "running")


def _asked_by_platform() -> str:
    """Return what the platform asked for when it started the cluster to join, in CWL's words."""
    asked = [
        f"{name} {os.environ[variable]}" for name, variable in PLATFORM_VARIABLES.items() if variable in os.environ
    ]
    return f" ({', '.join(asked)})" if asked else ""
