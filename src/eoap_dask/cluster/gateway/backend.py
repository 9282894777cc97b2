"""What runs inside the process of a private Gateway: its configuration, and a backend that cleans up after itself.

Only the server imports it, see `eoap_dask.cluster.gateway.server`.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from dask_gateway_server.backends.db_base import JobStatus
from dask_gateway_server.backends.local import UnsafeLocalBackend
from dask_gateway_server.options import Float, Options, String

from eoap_dask.cluster.environment import PROFILES, heap_environment
from eoap_dask.cluster.gateway.server import PASSWORD_VARIABLE, SETTINGS_VARIABLE, USER, ServerSettings
from eoap_dask.errors import UsageError
from eoap_dask.text import parse_memory

WATCH_PERIOD_S = 0.5
PATIENCE_S = 25.0
"""How long an orderly end may take after the parent has died."""
SCHEDULER_MEMORY = 256 << 20
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

_settings: ServerSettings


def configure(config: Any) -> None:
    """Fill a traitlets configuration from the environment, and let this process end with its parent."""
    global _settings
    _settings = settings = ServerSettings.from_json(os.environ.pop(SETTINGS_VARIABLE))
    password = os.environ.pop(PASSWORD_VARIABLE)  # popped, so that the proxy doesn't inherit it
    atexit.register(shutil.rmtree, settings.scratch, ignore_errors=True)
    threading.Thread(target=_end_with_parent, args=(settings.parent,), daemon=True, name="watchdog").start()

    config.DaskGateway.log_level = "INFO"
    config.DaskGateway.log_format = "%(asctime)s.%(msecs).03d %(levelname)s %(name)s: %(message)s"  # without colours
    config.DaskGateway.address = f"127.0.0.1:{settings.api_port}"
    config.Proxy.address = f"{settings.host}:{settings.port}"
    config.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
    config.SimpleAuthenticator.password = password
    config.DaskGateway.backend_class = PrivateBackend

    config.PrivateBackend.clusters_directory = str(Path(settings.scratch, "clusters"))
    config.PrivateBackend.inherited_environment = [
        *UnsafeLocalBackend.inherited_environment.default_args[0],
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "GDAL_DATA", "PROJ_DATA", "PROJ_LIB", "TZ"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    ]
    config.PrivateBackend.sigint_timeout = 5
    config.PrivateBackend.cluster_status_period = 3
    config.PrivateBackend.worker_status_period = 3
    config.PrivateBackend.cluster_heartbeat_period = 3  # with the default 15, so long it forgets that a worker has gone
    config.PrivateBackend.cluster_heartbeat_timeout = 60
    config.PrivateBackend.cluster_start_timeout = 60
    config.PrivateBackend.worker_start_timeout = 60
    config.PrivateBackend.cluster_options = Options(
        Float("worker_cores", default=1.0, min=0.1, label="Worker cores"),
        Float("worker_cores_limit", default=1.0, min=0.1, label="Worker cores, limit"),
        String("worker_memory", default="1G", label="Worker memory"),
        String("image", default="", label="Image, ignored here"),
        handler=_to_config,
    )
    # absolute: the clusters' PATH may lead to another Python
    dashboard = ("--no-dashboard", "--preload", "eoap_dask.cluster.dashboard")  # when somebody looks at it
    config.ClusterConfig.scheduler_cmd = [sys.executable, "-m", "distributed.cli.dask_scheduler", *dashboard]
    config.ClusterConfig.worker_cmd = [sys.executable, "-m", "distributed.cli.dask_worker"]
    config.ClusterConfig.scheduler_memory = SCHEDULER_MEMORY
    config.ClusterConfig.idle_timeout = settings.idle_timeout_s
    config.ClusterConfig.environment = {
        **heap_environment(),
        **({} if PROFILES else {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}),
        **settings.environment,
    }
    if settings.max_cores is not None:
        config.ClusterConfig.cluster_max_cores = settings.max_cores + 1  # the scheduler counts as one
    if settings.max_memory is not None:
        config.ClusterConfig.cluster_max_memory = settings.max_memory + SCHEDULER_MEMORY


def _to_config(options: Any) -> dict[str, Any]:
    """Turn options into a configuration of processes on this machine: no image, no limit above the request."""
    try:
        memory = parse_memory(options.worker_memory)
    except UsageError as exc:
        raise ValueError(str(exc)) from None
    cores = math.ceil(options.worker_cores)
    return {"worker_cores": cores, "worker_threads": cores, "worker_memory": memory}


class PrivateBackend(UnsafeLocalBackend):  # type: ignore[misc]
    """Processes of this user on this machine, whose logs are kept and which leave nothing else.

    Never the stock `LocalBackend`: as root it gives single characters of a path, ``/`` among them, to the user.
    """

    async def do_setup(self) -> None:
        """Begin to watch the schedulers."""
        await super().do_setup()
        self.task_pool.spawn(self._watch_schedulers())

    async def _watch_schedulers(self) -> None:
        # the stock server looks only at clusters that are starting, and hears of others by missing heartbeats
        while True:
            await asyncio.sleep(self.cluster_status_period)
            running = [c for c in self.db.active_clusters() if c.status == JobStatus.RUNNING]
            alive = await self.do_check_clusters(running)
            dead = [c for c, is_alive in zip(running, alive, strict=True) if not is_alive]
            self.db.update_clusters([(c, {"target": JobStatus.FAILED}) for c in dead])
            for cluster in dead:
                self.log.info("The scheduler of cluster %s died", cluster.name)
                self.queue.put(cluster)

    def get_logs_directory(self, workdir: str) -> str:
        """Return a directory of the logs outside of the working directory, which is removed with its cluster."""
        return str(Path(_settings.logs, Path(workdir).name))

    def get_env(self, cluster: Any) -> dict[str, str]:
        """Return the environment of a cluster: its home and its temporary files are in its working directory."""
        workdir = cluster.state["workdir"]
        return {**super().get_env(cluster), "HOME": workdir, "TMPDIR": workdir, "LOGNAME": USER}

    async def start_process(self, cluster: Any, cmd: list[str], env: dict[str, str], name: str) -> int:
        """Start a scheduler or worker, with a log for this user alone."""
        pid: int = await super().start_process(cluster, cmd, env, name)
        Path(self.get_logs_directory(cluster.state["workdir"]), f"{name}.log").chmod(0o600)
        return pid

    def make_preexec_fn(self, cluster: Any) -> Callable[[], None]:
        """Return what a new process does first: besides the stock things, ask to end with this one."""
        prepare, server = super().make_preexec_fn(cluster), os.getpid()

        def preexec() -> None:
            prepare()
            if _LIBC is not None:
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != server:
                    os._exit(1)

        return preexec


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_PERIOD_S)
    os.kill(os.getpid(), signal.SIGTERM)  # in order: the server stops its clusters and the proxy
    time.sleep(PATIENCE_S)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    shutil.rmtree(_settings.scratch, ignore_errors=True)
    os._exit(1)
