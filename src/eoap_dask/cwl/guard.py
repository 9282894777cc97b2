"""A process that cleans up after a run that was killed and couldn't do so itself.

It reads from the run what there is to be cleaned up, one JSON object a line, and sees by the end of that stream that
the run has ended; whether in order, the last line says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_COMMAND = "from eoap_dask.cwl.guard import main; main()"
_PLACES = ("HOME", "TMPDIR", "DASK_CLUSTER_NAME_PATH")
"""Variables of a tool that lead into the scratch directory of its run."""
_PATIENCE_S = 5.0


class Guard:
    """The other end of the stream. A context manager: left by an exception or not, the run has ended in order.

    Parameters
    ----------
    scratch
        Directory of the run, which goes when it is killed; its tools are known by it.
    engine
        Command of a container engine, or nothing.
    """

    def __init__(self, scratch: Path, engine: str = "") -> None:
        self._about = {"scratch": str(scratch), "engine": engine}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # whatever is sent to the run's group is not for it
        )
        self._say(self._about)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say({"done": True})
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()

    def add_cluster(self, name: str, access: Mapping[str, str]) -> None:
        """Note a cluster that doesn't end with the run by itself.

        Parameters
        ----------
        name
            Of the cluster.
        access
            Variables that let a process use its Gateway.
        """
        self._say({"cluster": name, "access": dict(access)})

    def _say(self, what: Mapping[str, Any]) -> None:
        with self._lock, contextlib.suppress(OSError):  # a guard that was killed guards nothing
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(json.dumps(what) + "\n")
                self._process.stdin.flush()


def main() -> None:
    """Listen, and clean up when the run ends without a word."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)


def watch(stream: IO[str]) -> bool:
    """Listen to a run until its end.

    Parameters
    ----------
    stream
        Of lines as `Guard` writes them.

    Returns
    -------
    bool
        Whether it ended in order; there was something to clean up otherwise.
    """
    about: dict[str, str] = {}
    clusters: dict[str, dict[str, str]] = {}
    for line in stream:
        try:
            said = json.loads(line)
        except ValueError:  # killed while it wrote
            break
        if said.get("done"):
            return True
        if "scratch" in said:
            about = said
        elif "cluster" in said:
            clusters[said["cluster"]] = said["access"]
    if about:
        _clean_up(Path(about["scratch"]), about["engine"], clusters)
    return False


def _clean_up(scratch: Path, engine: str, clusters: Mapping[str, Mapping[str, str]]) -> None:
    import psutil

    _end_containers(scratch, engine)
    tools = _tools_of(scratch)
    for tool in tools:
        with contextlib.suppress(psutil.Error):
            tool.terminate()
    _, alive = psutil.wait_procs(tools, timeout=_PATIENCE_S)
    for tool in alive + _tools_of(scratch):
        with contextlib.suppress(psutil.Error):
            tool.kill()
    shutil.rmtree(scratch, ignore_errors=True)
    for name, access in clusters.items():
        _stop_cluster(name, access)


def _tools_of(scratch: Path) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            variables = process.environ()
            if any(variables.get(name, "").startswith(str(scratch)) for name in _PLACES):
                found.append(process)
    return found


def _end_containers(scratch: Path, engine: str) -> None:
    for path in scratch.rglob("*.cid") if engine else ():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            name = path.read_text().strip()
            subprocess.run([engine, "kill", name], capture_output=True, timeout=30, check=False)


def _stop_cluster(name: str, access: Mapping[str, str]) -> None:
    import dask

    from eoap_dask.errors import EoapError
    from eoap_dask.gateway.api import GatewayApi

    os.environ.update(access)
    dask.config.refresh()
    with contextlib.suppress(EoapError), GatewayApi(access["DASK_GATEWAY__ADDRESS"]) as api:
        api.stop(name)
