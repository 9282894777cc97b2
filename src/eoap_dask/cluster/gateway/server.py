"""A private Gateway on loopback: the real dask-gateway-server with its proxy, for tests, notebooks and CWL runs."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from loguru import logger

from eoap_dask.errors import ClusterError, UsageError
from eoap_dask.redact import redact
from eoap_dask.text import parse_memory

SETTINGS_VARIABLE = "EOAP_DASK_PRIVATE_GATEWAY"
PASSWORD_VARIABLE = "EOAP_DASK_PRIVATE_GATEWAY_PASSWORD"  # noqa: S105 - a name
USER = "eoap"
"""Who the clusters of a private Gateway belong to. Never a number: dask's configuration would make an int of it."""

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
ATTEMPTS = 3
"""Ports that were free a moment ago may be taken."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings for the process of a private Gateway, as JSON in its environment: no file, no command line."""

    parent: int
    """Process without which it ends."""
    host: str
    port: int
    api_port: int
    scratch: str
    logs: str
    idle_timeout_s: float
    max_cores: float | None
    max_memory: int | None
    environment: dict[str, str] = field(repr=False)

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` was called on."""
        return cls(**json.loads(text))


class LocalGateway:
    """A private Gateway. A context manager: started when entered; only its logs are left afterwards.

    It ends with this process, also when that is killed, and its clusters end with it.
    """

    def __init__(
        self,
        *,
        logs_dir: Path | None = None,  # gateway.log, and a directory per cluster; by default they go with the Gateway
        idle_timeout_s: float = 3600,  # a cluster without work for so long is stopped; 0 for never
        environment: Mapping[str, str] | None = None,  # for schedulers and workers, which inherit next to nothing
        max_cores: float | None = None,  # of all workers of a cluster together, as is
        max_memory: int | str | None = None,  # bytes, or text such as 8G
        host: str = "127.0.0.1",  # an address of this machine
        port: int = 0,  # 0 picks a free one
    ) -> None:
        if idle_timeout_s < 0:
            raise UsageError(
                f"idle_timeout_s must be 0 or more, got {idle_timeout_s:g}.", "", "Try 3600, or 0 for never."
            )
        self.host, self.port = host, port
        self._wanted_port = port
        self._logs_dir = logs_dir
        self._idle_timeout_s = idle_timeout_s
        self._environment = dict(environment or {})
        self._max_cores = max_cores
        self._max_memory = parse_memory(max_memory) if isinstance(max_memory, str) else max_memory
        # begins with a letter: dask's configuration makes a number of what looks like one
        self._password = "p" + secrets.token_hex(24)
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None

    @property
    def address(self) -> str:
        """URL of the Gateway."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process of the server, if it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def logs_dir(self) -> Path | None:
        """Where the logs are, while there are any."""
        return self._logs_dir or (self._scratch / "logs" if self._scratch else None)

    @property
    def client_environment(self) -> dict[str, str]:
        """Variables that let a process use this Gateway by default. The password is among them."""
        return {
            "DASK_GATEWAY__ADDRESS": self.address,
            "DASK_GATEWAY__AUTH__TYPE": "basic",
            "DASK_GATEWAY__AUTH__KWARGS__USERNAME": USER,
            "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": self._password,
            "DASK_GATEWAY__HTTP_CLIENT__PROXY": "False",
        }

    @contextlib.contextmanager
    def configured(self) -> Iterator[Self]:
        """Let this process use this Gateway by default, in the context."""
        import dask
        import dask_gateway  # noqa: F401 - has its defaults in dask's configuration

        changes: dict[str, Any] = {
            "gateway.address": self.address,
            "gateway.proxy-address": None,
            "gateway.public-address": None,
            "gateway.auth.type": "basic",
            "gateway.auth.kwargs": {"username": USER, "password": self._password},
            "gateway.http-client.proxy": False,
            "gateway.cluster.options": {},
        }
        with dask.config.set(changes):
            yield self

    def start(self) -> Self:
        """Start the server and wait until it answers; what entering the context does."""
        missing = [name for name in ("dask_gateway_server", "sqlalchemy") if find_spec(name) is None]
        if missing:
            raise ClusterError(
                f"The server of Dask Gateway isn't installed: {' and '.join(missing)} can't be found.",
                "",
                "Try pip install 'eoap-dask[gateway]'.",
            )
        if self._process is not None:
            raise RuntimeError("the Gateway is running")
        try:
            for _ in range(ATTEMPTS):
                self.port = self._wanted_port or _free_port(self.host)
                if self._try_to_start(_free_port("127.0.0.1")):
                    return self
                said = self._log_lines()
                self.stop()
                if self._wanted_port or not any("address already in use" in line for line in said):
                    break
            raise ClusterError(
                f"The private Gateway didn't start. {said[-1] if said else ''}".rstrip(),
                "",
                f"Is port {self._wanted_port} free?" if self._wanted_port else "",
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the clusters, the proxy and the server, and remove what they leave; what leaving the context does."""
        process, self._process = self._process, None
        try:
            if process is not None:
                _stop_family(process)
        finally:
            scratch, self._scratch = self._scratch, None
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _try_to_start(self, api_port: int) -> bool:
        self._scratch = Path(tempfile.mkdtemp(prefix="eoap-dask-gateway-"))  # mode 0700
        logs = (self._logs_dir or self._scratch / "logs").resolve()
        for folder in (logs, self._scratch / "clusters"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = ServerSettings(
            parent=os.getpid(),
            host=self.host,
            port=self.port,
            api_port=api_port,
            scratch=str(self._scratch),
            logs=str(logs),
            idle_timeout_s=self._idle_timeout_s,
            max_cores=self._max_cores,
            max_memory=self._max_memory,
            environment=self._environment,
        )
        with _private_log(logs / "gateway.log") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dask_gateway_server", "--config", str(Path(__file__).with_name("config.py"))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._scratch,
                env=_server_environment() | {SETTINGS_VARIABLE: settings.to_json(), PASSWORD_VARIABLE: self._password},
                start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                logger.debug("Private Gateway at {}, process {}, logs in {}", self.address, self._process.pid, logs)
                return True
            time.sleep(0.05)
        return False

    def _answers(self) -> bool:
        """Tell whether our server answers, and not another at the same port."""
        access = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2)  # knows nothing of proxies
        try:
            connection.request("GET", "/api/v1/clusters/", headers={"Authorization": f"Basic {access}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log_lines(self) -> list[str]:
        logs = self.logs_dir
        if logs is None or not (logs / "gateway.log").exists():
            return []
        text = (logs / "gateway.log").read_text(errors="replace")
        return [redact(line.strip())[:300] for line in text.splitlines()[-100:] if line.strip()]


def _free_port(host: str) -> int:
    with socket.socket() as candidate:
        candidate.bind((host, 0))
        return int(candidate.getsockname()[1])


def _private_log(path: Path) -> IO[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "wb")


def _server_environment() -> dict[str, str]:
    """Return this process's environment without what would change the server's configuration."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DASK_", "EOAP_DASK_", "JUPYTERHUB_")) and not name.lower().endswith("_proxy")
    }


def _stop_family(process: subprocess.Popen[bytes]) -> None:
    """Let a server end in order; what is left of its processes after that is killed."""
    import psutil

    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        logger.warning("The private Gateway didn't stop within {:g} s, and is killed.", STOP_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(family, timeout=0.2)  # the proxy takes two seconds to see that it is alone
        for one in alive:
            with contextlib.suppress(psutil.Error):
                one.kill()
