"""A Dask cluster as an operator would start it: a scheduler and workers, each a process that can be killed alone."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

START_S = 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when the one that started it dies, however that comes about."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class SchedulerAndWorkers:
    """A scheduler on loopback with workers, running while the context is open.

    Nothing of it outlives the context, or this process.
    """

    folder: Path
    """Where its files go: temporary ones, and logs. Made if need be."""
    workers: int = 1
    threads: int = 1
    memory: str = "1GiB"
    nanny: bool = False
    """Whether a worker that dies is started again."""
    env: dict[str, str] = field(default_factory=dict)
    """Additions to the environment of all its processes."""
    preload: Path | None = None
    """A file of Python that the workers run before they work."""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _scheduler: subprocess.Popen[bytes] | None = None
    _names: int = 0
    address: str = ""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start_scheduler()
            for _ in range(self.workers):
                self.start_worker()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_scheduler(self) -> None:
        """Start the scheduler, and wait until it listens."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        self._scheduler = self._start("dask_scheduler", options, "scheduler")
        deadline = time.monotonic() + START_S
        while not self.address:
            with contextlib.suppress(OSError, ValueError):
                self.address = str(json.loads(file.read_text())["address"])
            if self._scheduler.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the scheduler didn't start: {(self.folder / 'scheduler.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def start_worker(self, preload: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a worker; it comes when it comes."""
        self._names += 1
        file = preload or self.preload
        options = [
            *(self.address, "--name", f"worker-{self._names}", "--nthreads", str(self.threads)),
            *("--memory-limit", self.memory, "--no-dashboard", "--local-directory", str(self.folder)),
            *("--nanny" if self.nanny else "--no-nanny", "--death-timeout", "60"),
            *(("--preload", str(file)) if file else ()),
        ]
        return self._start("dask_worker", options, f"worker-{self._names}")

    def wait_for_workers(self) -> None:
        """Wait until all workers so far have found the scheduler."""
        deadline = time.monotonic() + START_S
        for number in range(1, self._names + 1):
            log = self.folder / f"worker-{number}.log"
            while "Registered to" not in log.read_text():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"a worker didn't come: {log.read_text()[-2000:]}")
                time.sleep(0.05)

    def kill_scheduler(self) -> None:
        """Kill the scheduler; workers without one end by themselves."""
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()

    def scheduler_cpu_s(self) -> float:
        """Return the processor time that the scheduler has had so far."""
        assert self._scheduler is not None
        times = psutil.Process(self._scheduler.pid).cpu_times()
        return float(times.user + times.system)

    def worker_processes(self) -> list[psutil.Process]:
        """Return the processes that work, oldest first; with nannies, their children."""
        found = []
        for one in self._processes:
            if one is self._scheduler or one.poll() is not None:
                continue
            process = psutil.Process(one.pid)
            found += process.children() if self.nanny else [process]
        return [one for one in found if "resource_tracker" not in " ".join(one.cmdline())]

    def kill_workers(self) -> int:
        """Kill all workers, and return how many there were."""
        found = self.worker_processes()
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
                one.wait(10)
        return len(found)

    def close(self) -> None:
        """End everything."""
        family: list[psutil.Process] = []
        for one in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(one.pid)
                family += [*process.children(recursive=True), process]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for one in self._processes:
            one.wait()
        psutil.wait_procs(family, timeout=10)
        self._processes.clear()
        self._scheduler, self.address = None, ""

    def _start(self, module: str, options: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        environment: dict[str, Any] = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))},
            "TMPDIR": str(self.folder),
            **self.env,
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._processes.append(process)
        return process
