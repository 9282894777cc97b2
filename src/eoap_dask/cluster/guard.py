"""A process that cleans up after another that was killed: a run of a workflow, a demo.

That one writes to it what has to be cleaned up, one JSON object a line, and last that it has ended in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_COMMAND = "from eoap_dask.cluster.guard import main; main()"
MARK = "EOAP_DASK_GUARDED"
"""Variable of a tool that says to which run it belongs."""
_PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.25


class Guard:
    """The run's end of the stream. A context manager: left by an exception or not, the run has ended in order."""

    def __init__(self, scratch: Path, others: Sequence[Path] = ()) -> None:
        # both are removed when the run is killed; scratch has a unique name, by which the run's tools are known
        self.mark = {MARK: str(scratch)}
        """Variables that every tool of the run must have, and nothing else may."""
        self._about = {"scratch": str(scratch), "others": [str(one) for one in others]}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # what ends the tools of another run isn't for it, nor is what is sent to this one's group
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=environment,
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
        """Note a cluster that doesn't end with the run by itself, and the variables that give access to its Gateway."""
        self._say({"cluster": name, "access": dict(access)})

    def add_container(self, engine: str, id_file: Path) -> None:
        """Note a container that doesn't end with the run by itself; the engine writes its id into `id_file`."""
        self._say({"container": str(id_file), "engine": engine})

    def _say(self, what: Mapping[str, Any]) -> None:
        with self._lock, contextlib.suppress(OSError):  # a guard that was killed guards nothing
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(json.dumps(what) + "\n")
                self._process.stdin.flush()


@contextlib.contextmanager
def guarded_directory(prefix: str, within: Path | None = None, also: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a temporary directory, which goes also when we are killed; `also` goes only then.

    Processes of our own that may write into it must end with us, see `end_with_parent`.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=within) as made, Guard(Path(made), also):
        yield Path(made)


def end_with_parent() -> None:
    """Let this process end when its parent has died, even by SIGKILL: an initializer for pools of processes."""
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True, name="end-with-parent").start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def main() -> None:
    """Listen, and clean up when the run ends without having said so."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)


def watch(stream: IO[str]) -> bool:
    """Listen to a run until its end, clean up unless it ended in order, and return whether it did."""
    about: dict[str, Any] = {}
    containers: dict[str, str] = {}
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
        elif "container" in said:
            containers[said["container"]] = said["engine"]
        elif "cluster" in said:
            clusters[said["cluster"]] = said["access"]
    if about:
        _end_containers(containers)
        _end_tools(about["scratch"])
        for folder in (about["scratch"], *about["others"]):
            _remove(Path(folder))
        for name, access in clusters.items():
            _stop_cluster(name, access)
    return False


def _remove(folder: Path) -> None:
    """Remove a directory, also while somebody who is about to end still writes into it."""
    deadline = time.monotonic() + _PATIENCE_S
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        shutil.rmtree(folder, ignore_errors=True)


def _end_containers(containers: Mapping[str, str]) -> None:
    for path, engine in containers.items():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            name = Path(path).read_text().strip()
            subprocess.run([engine, "kill", name], capture_output=True, timeout=30, check=False)


def _end_tools(run: str) -> None:
    import psutil

    tools = _tools_of(run)
    for tool in tools:
        with contextlib.suppress(psutil.Error):
            tool.terminate()
    _, alive = psutil.wait_procs(tools, timeout=_PATIENCE_S)
    for tool in alive + _tools_of(run):
        with contextlib.suppress(psutil.Error):
            tool.kill()


def _tools_of(run: str) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == run:
                found.append(process)
    return found


def _stop_cluster(name: str, access: Mapping[str, str]) -> None:
    import dask

    from eoap_dask.cluster.gateway.api import GatewayApi
    from eoap_dask.errors import EoapError

    os.environ.update(access)
    dask.config.refresh()
    with contextlib.suppress(EoapError), GatewayApi(access["DASK_GATEWAY__ADDRESS"]) as api:
        api.stop(name)
