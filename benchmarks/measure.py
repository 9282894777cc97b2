"""What a command costs: wall time, processor time and memory of all its processes, finished ones included.

``python -m benchmarks.measure RESULT.json COMMAND …`` runs a command and writes a `Measurement`; `measure` does so
from Python. A process of its own is needed because the kernel's account of finished children is per process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from eoap_dask.cluster.environment import PROFILES

ROOT = Path(__file__).parents[1]

SAMPLE_S = 0.05
"""How often memory is looked at, unless looking takes longer than a fifth of that."""

GRACE_S = 15.0
"""What processes that outlive the command may take to end, before they are ended and counted as left behind."""

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Measurement:
    """What a command cost."""

    exit_code: int
    wall_s: float
    """From its start to the end of the first process."""
    cpu_s: float
    """User and system time of all its processes, as the kernel accounts for finished children (getrusage)."""
    cpu_sampled_s: float
    """The same by adding up what each process had when last seen: never more, and a check of `cpu_s`."""
    peak_pss: int
    """Bytes. The largest sum over its processes at one time; a page that several share counts once (PSS)."""
    peak_rss: int
    """Bytes. The same where a shared page counts in each."""
    peak_process: int
    """Bytes of the largest single process (RSS)."""
    processes: int
    """How many were seen."""
    samples: int
    left_behind: int
    """Processes that had to be ended afterwards."""
    others_cpu_s: float
    """Processor time that everything else on the machine took meanwhile."""


class CommandError(RuntimeError):
    """A measured command failed."""


def environment() -> dict[str, str]:
    """Return the environment in which `benchmarks` is found, without settings that change what is measured.

    Where Dask's profiler can stop a worker for ever (`cluster.environment.PROFILES`), peers do without it as we do.
    """
    hidden = ("EOAP_DASK_", "DASK_", "GDAL_", "CPL_", "VSI_")
    # the sources as well, for interpreters in which the package isn't installed
    path = os.pathsep.join(p for p in (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")) if p)
    calm = {} if PROFILES else {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    return {**{k: v for k, v in os.environ.items() if not k.startswith(hidden)}, "PYTHONPATH": path, **calm}


def measure(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout_s: float = 3600.0
) -> tuple[Measurement, str]:
    """Run a command and measure it.

    Parameters
    ----------
    command
        The program and its arguments.
    env
        Additions to the `environment`.
    timeout_s
        When to give up.

    Returns
    -------
    tuple
        The measurement, and what the command wrote to its standard output.

    Raises
    ------
    CommandError
        when the command fails, with the end of what it wrote, or takes too long
    """
    with tempfile.TemporaryDirectory(prefix="eoap-measure-") as scratch:
        result = Path(scratch) / "result.json"
        arguments = [sys.executable, "-m", "benchmarks.measure", str(result), *map(str, command)]
        run = subprocess.Popen(
            arguments,
            env={**environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that all of it can be ended
        )
        try:
            shown, told = run.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{list(command)} took more than {timeout_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        if not result.exists():
            raise CommandError(f"{arguments} measured nothing:\n{told[-4000:]}")
        measured = Measurement(**json.loads(result.read_text()))
    if measured.exit_code:
        raise CommandError(f"{list(command)} ended with {measured.exit_code}:\n{told[-4000:]}")
    return measured, shown


class _Sampler(threading.Thread):
    """Looks at all descendants of this process, again and again."""

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self.stop = threading.Event()
        self.peak_pss = self.peak_rss = self.peak_process = self.samples = 0
        self.cpu: dict[tuple[int, float], float] = {}
        self._me = psutil.Process()

    def run(self) -> None:
        while not self.stop.is_set():
            before = time.perf_counter()
            self._look()
            # on a machine with few cores the looking itself would slow down what is looked at
            self.stop.wait(max(SAMPLE_S, 5 * (time.perf_counter() - before)))

    def _look(self) -> None:
        total, seen = 0, []
        for process in self._me.children(recursive=True):
            with contextlib.suppress(psutil.Error), process.oneshot():
                rss = process.memory_info().rss
                times = process.cpu_times()
                self.cpu[process.pid, process.create_time()] = times.user + times.system
                total += rss
                self.peak_process = max(self.peak_process, rss)
                seen.append(process)
        self.samples += 1
        self.peak_rss = max(self.peak_rss, total)
        if total <= self.peak_pss:  # PSS is never more than RSS, and costs the kernel a walk through all pages
            return
        proportional = 0
        for process in seen:
            with contextlib.suppress(psutil.Error):
                proportional += _pss(process)
        self.peak_pss = max(self.peak_pss, proportional)


def _pss(process: psutil.Process) -> int:
    info = process.memory_full_info()
    return int(getattr(info, "pss", 0) or getattr(info, "uss", 0) or info.rss)


def busy_s() -> float:
    """Return the processor time that the whole machine has spent so far, without waiting and idling."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
    return float(sum(times) - idle - guests)


def _adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that their time is accounted for here (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _run(command: Sequence[str]) -> Measurement:
    _adopt_orphans()
    sampler = _Sampler()
    busy, started = busy_s(), time.perf_counter()
    child = subprocess.Popen(command)
    sampler.start()
    _, status = os.waitpid(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    left = _wait_for_orphans()
    sampler.stop.set()
    sampler.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime
    own = resource.getrusage(resource.RUSAGE_SELF)
    return Measurement(
        exit_code=child.returncode,
        wall_s=round(wall, 3),
        cpu_s=round(cpu, 3),
        cpu_sampled_s=round(sum(sampler.cpu.values()), 3),
        peak_pss=sampler.peak_pss,
        peak_rss=sampler.peak_rss,
        peak_process=sampler.peak_process,
        processes=len(sampler.cpu),
        samples=sampler.samples,
        left_behind=left,
        others_cpu_s=round(max(busy_s() - busy - cpu - own.ru_utime - own.ru_stime, 0.0), 3),
    )


def _wait_for_orphans() -> int:
    """Wait until no descendant is left; end those that stay, and return how many these were."""
    ended: set[int] = set()
    deadline = time.monotonic() + GRACE_S
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return len(ended)
        if pid:
            continue
        if time.monotonic() > deadline:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
                    ended.add(process.pid)
        time.sleep(0.02)


def main() -> None:
    """Measure the command of the arguments; its exit code is in the result."""
    result, *command = sys.argv[1:]
    measured: dict[str, Any] = asdict(_run(command))
    Path(result).write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
