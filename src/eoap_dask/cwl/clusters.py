"""The Dask clusters of a workflow's steps: one each, started as calrissian starts it, and stopped in every case."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from loguru import logger

from eoap_dask.cluster.gateway.api import ClusterInfo, GatewayApi, Lease
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cluster.guard import Guard
from eoap_dask.cluster.name_file import NAME_FILE
from eoap_dask.cwl.requirement import ClusterSize
from eoap_dask.errors import ClusterError, EoapError
from eoap_dask.files import safe_name
from eoap_dask.redact import redact
from eoap_dask.text import plural

IDLE_TIMEOUT_S = 24 * 3600.0
"""For clusters of a private Gateway: a tool may not use them for long, and they end with the run anyway."""
SHARED = "/shared"
"""Where calrissian has the name file, in a container."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_ACCESS = ("address", "proxy-address", "public-address", "auth", "http-client")
"""Parts of ``gateway`` in dask's configuration that a client needs."""


@dataclass
class StepCluster:
    """A cluster while its step runs."""

    name: str
    environment: dict[str, str]
    """What calrissian tells the tool; no secrets."""
    access: dict[str, str] = field(repr=False)
    """How the tool reaches the Gateway. Secrets are among it."""
    shared: Path
    """A directory with the name file; in a container, at `SHARED`."""
    info: ClusterInfo
    step: str


class Clusters:
    """A Gateway and the clusters started there. A context manager."""

    def __init__(
        self,
        address: str | None = None,  # by default a private Gateway of this run's own
        *,
        environment: Mapping[str, str] | None = None,  # for schedulers and workers of a private Gateway
        timeout_s: float = 300.0,  # how long to wait for a scheduler
        logs: Path | None = None,  # of all clusters; by default those of failed steps alone, in `failure_logs`
        failure_logs: Path = Path("dask-logs"),
        scratch: Path | None = None,  # of files that tools share with us; by default among the system's
        guard: Guard | None = None,  # gets the clusters that would outlive us
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._logs = logs
        self._failure_logs = failure_logs
        self._scratch = scratch
        self._guard = guard
        self._own = None if address else LocalGateway(idle_timeout_s=IDLE_TIMEOUT_S, environment=environment)
        self._stack = contextlib.ExitStack()
        self._opener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="eoap-gateway-clusters")
        self._opening: Future[GatewayApi] | None = None
        self._lock = threading.Lock()
        self._awaited: list[Lease] = []
        self._abandoned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opener.shutdown()
        self._stack.close()

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine, outside of containers with a network of their own, can reach the Gateway."""
        return self._address is None or urlsplit(self._address).hostname in _LOOPBACK

    def begin(self) -> None:
        """Start a private Gateway in the background, or wait until the given one has answered."""
        with self._lock:
            self._opening = self._opening or self._opener.submit(self._open)
        if self._own is None:
            self._opening.result()

    def abandon(self) -> None:
        """Start no more, and stop what starts: whoever waits for a cluster gets a `ClusterError`.

        A cluster that a tool works on stays until its step ends, so that the tool can end in order. Returns at once:
        the Gateway may be slow, or gone.
        """
        self._abandoned = True
        with self._lock:
            names = [one.name for one in self._awaited if one.name]
        if names:
            self._opener.submit(self._stop, names)

    @contextmanager
    def started(self, size: ClusterSize, image: str, step: str) -> Iterator[StepCluster]:
        """Yield a cluster whose scheduler runs and whose workers are asked for, and stop it afterwards."""
        api = self._gateway()
        wanted: dict[str, Any] = {
            "worker_cores": float(size.worker_cores),
            "worker_cores_limit": size.worker_cores_limit,
            "worker_memory": size.worker_memory,
        }
        if image:
            wanted["image"] = image
        with contextlib.ExitStack() as stack:
            lease = stack.enter_context(api.submitted(wanted))
            with self._awaiting(lease, api):
                if self._abandoned:
                    raise _stopped(step)
                logger.info("{}: starting the Dask cluster {}, {}", step, lease.name, size)
                info = api.wait_until_running(lease.name, self._timeout_s)
                allowed = api.scale(lease.name, size.workers)
            if allowed < 1:
                raise ClusterError(f"The Dask Gateway at {api.shown_address} allows no worker of {size}.", "", "")
            if allowed < size.workers:
                logger.warning("{}: the Gateway allows {} of {}.", step, allowed, plural(size.workers, "worker"))
            shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eoap-dask-step-", dir=self._scratch)))
            (shared / NAME_FILE).write_text(lease.name)
            yield StepCluster(
                name=lease.name,
                environment={
                    **size.environment,
                    "DASK_CLUSTER": lease.name,
                    "DASK_GATEWAY_URL": api.address,
                    "DASK_CLUSTER_NAME_PATH": str(shared / NAME_FILE),
                    **({"DASK_GATEWAY_IMAGE": image} if image else {}),
                },
                access=self._access(api),
                shared=shared,
                info=info,
                step=step,
            )

    def keep_logs(self, cluster: StepCluster, *, failed: bool) -> Path | None:
        """Copy the logs of scheduler and workers while the cluster runs; return their directory, if there is one."""
        root = self._logs or (self._failure_logs if failed else None)
        if root is None:
            return None
        folder = root / f"{safe_name(cluster.step)}-{cluster.name}"
        try:
            if self._own is not None and self._own.logs_dir is not None:
                # those of dead workers as well
                shutil.copytree(self._own.logs_dir / cluster.name, folder, copy_function=_copy_without_secrets)
            else:
                from eoap_dask.cluster.gateway.client import connected
                from eoap_dask.cluster.gateway.evidence import collect_logs

                with connected(cluster.info.scheduler or "", cluster.name, cluster.info.security) as client:
                    if not collect_logs(client, folder):
                        return None
        except (OSError, EoapError) as exc:
            logger.warning("The logs of the Dask cluster {} can't be read: {}", cluster.name, redact(exc))
            return None
        return folder

    # ------------------------------------------------------------------------------------------------

    def _gateway(self) -> GatewayApi:
        self.begin()
        assert self._opening is not None  # noqa: S101 - for the type checker
        return self._opening.result()

    def _stop(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(EoapError):  # their steps try again, and say so
                self._gateway().stop(name)

    def _open(self) -> GatewayApi:
        if self._own is not None:
            self._stack.enter_context(self._own)
            self._stack.enter_context(self._own.configured())
        api = self._stack.enter_context(GatewayApi(self._address))
        api.offered_options()  # where that fails, no step can work
        return api

    @contextmanager
    def _awaiting(self, lease: Lease, api: GatewayApi) -> Iterator[None]:
        guard = self._guard if self._own is None else None  # a private Gateway ends with us
        with self._lock:
            self._awaited.append(lease)
        if guard is not None:
            guard.add_cluster(lease.name, self._access(api))
        try:
            yield
        finally:
            with self._lock:
                self._awaited.remove(lease)

    def _access(self, api: GatewayApi) -> dict[str, str]:
        return self._own.client_environment if self._own is not None else configured_access(api.address)


def _copy_without_secrets(source: str, target: str) -> None:
    with (
        Path(source).open(encoding="utf-8", errors="replace") as lines,
        Path(target).open("w", encoding="utf-8") as out,
    ):
        out.writelines(redact(line) for line in lines)


def configured_access(address: str) -> dict[str, str]:
    """Return the variables, secrets among them, that let another process use a Gateway as this one may."""
    import dask
    import dask_gateway  # noqa: F401 - has its defaults in dask's configuration

    found: dict[str, str] = {}
    for part in _ACCESS:
        _flatten(f"DASK_GATEWAY__{part.replace('-', '_').upper()}", dask.config.get(f"gateway.{part}", None), found)
    # as they were given, before dask made numbers of them
    found.update({name: value for name, value in os.environ.items() if name.startswith("DASK_GATEWAY__")})
    if "JUPYTERHUB_API_TOKEN" in os.environ and dask.config.get("gateway.auth.type", None) == "jupyterhub":
        found["JUPYTERHUB_API_TOKEN"] = os.environ["JUPYTERHUB_API_TOKEN"]
    return {**found, "DASK_GATEWAY__ADDRESS": address}


def _flatten(name: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            _flatten(f"{name}__{str(key).replace('-', '_').upper()}", one, found)
    elif value is not None:
        found[name] = _as_variable(value)


def _as_variable(value: Any) -> str:
    """Return a value as dask's configuration reads it back from the environment."""
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return repr(value)


def _stopped(step: str) -> ClusterError:
    return ClusterError(f"{step} was stopped before it began.")
