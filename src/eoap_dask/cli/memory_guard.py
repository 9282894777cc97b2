"""Running out of a container's memory, turned into an orderly end before the kernel kills the process.

Shortly below the limit the command is stopped as by SIGTERM, keeps what is finished and says why. One allocation
that would go far beyond the limit at once fails as a ``MemoryError``.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from eoap_dask.errors import OutOfMemoryError, UsageError

VARIABLE = "EOAP_DASK_MEMORY_GUARD"
PERIOD_S = 0.05
RESERVE = 16
"""One part in so many stays free: room for what is allocated between two looks, and for ending."""
MOST_RESERVE = 256 << 20
SLACK = 256 << 20
"""Address space above the limit for what is allocated and never touched: stacks of threads, mostly."""
UNLIMITED = 1 << 60
"""From here on, a limit is none: version 1 of control groups writes the largest number that it knows."""
_MIB = 1 << 20


@dataclass(frozen=True)
class ControlGroup:
    """A control group with a limit of memory: its directory, and what its files are called."""

    directory: Path
    limit: int
    """Bytes."""
    is_v2: bool

    def used(self) -> int:
        """Return the bytes in use that the kernel can't take back: all but the cache of files."""
        usage = int((self.directory / ("memory.current" if self.is_v2 else "memory.usage_in_bytes")).read_text())
        if usage < self.limit - _reserve(self.limit):
            return usage  # enough to know, and the statistics cost more
        prefix = "" if self.is_v2 else "total_"
        kinds = {f"{prefix}active_file", f"{prefix}inactive_file"}
        lines = (line.split() for line in (self.directory / "memory.stat").read_text().splitlines())
        return usage - sum(int(value) for kind, value in lines if kind in kinds)


def control_group(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> ControlGroup | None:
    """Return the control group that limits this process's memory most; None where no limit can be read."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            found += _limits(root, path, "memory.max", is_v2=True)
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, "memory.limit_in_bytes", is_v2=False)
    return min(found, key=lambda group: group.limit, default=None)


def _limits(mount: Path, path: str, name: str, *, is_v2: bool) -> list[ControlGroup]:
    inner = mount / path.lstrip("/")
    # inside a container the path may be the host's, and the mount the container's own group
    candidates = [one for one in (inner, *inner.parents) if one == mount or mount in one.parents]
    found = []
    for directory in candidates:
        try:
            text = (directory / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < UNLIMITED:
            found.append(ControlGroup(directory, int(text), is_v2))
    return found


def is_wanted(in_pod: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether memory is to be guarded, as ``EOAP_DASK_MEMORY_GUARD`` says; by default (``auto``) in a pod."""
    value = environ.get(VARIABLE, "").strip().lower() or "auto"
    if value not in {"auto", "on", "off"}:
        raise UsageError(f"{VARIABLE} must be auto, on or off, got {value!r}.", "", "Unset it for auto.")
    return value == "on" or (value == "auto" and in_pod)


class MemoryGuard:
    """Stops this process in order, shortly before its control group has no memory left. A context manager."""

    def __init__(self, group: ControlGroup | None, stop: Callable[[], None] | None = None) -> None:
        self._group, self._stop = group, stop or _terminate
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory-guard")
        self._before: tuple[int, int] | None = None
        self.used = 0
        """Bytes that were in use when the command was stopped; 0 if it wasn't."""

    def __enter__(self) -> Self:
        if self._group is not None:
            self._before = resource.getrlimit(resource.RLIMIT_DATA)
            most = self._group.limit + SLACK
            allowed = [most, *(one for one in self._before if one != resource.RLIM_INFINITY)]
            resource.setrlimit(resource.RLIMIT_DATA, (min(allowed), self._before[1]))
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            self._ended.set()
            self._thread.join()
            resource.setrlimit(resource.RLIMIT_DATA, self._before)

    def fault(self) -> OutOfMemoryError:
        """Return the fault for memory that ran out."""
        limit = f"the {self._group.limit / _MIB:.0f} MiB of memory that it may use" if self._group else ""
        what = f"used {self.used / _MIB:.0f} of" if self.used else "asked for more than"
        return OutOfMemoryError(
            f"This command {what} {limit}." if limit else "This command asked for more memory than there is.",
            "What is finished is kept.",
            "Give it more (ramMin and ramMax in CWL), or ask for a coarser resolution or a smaller area.",
        )

    def _watch(self) -> None:
        group = self._group
        if group is None:
            return
        threshold = group.limit - _reserve(group.limit)
        while not self._ended.wait(PERIOD_S):
            try:
                used = group.used()
            except (OSError, ValueError):
                time.sleep(1)
                continue
            if used >= threshold:
                self.used = used
                self._stop()
                return


def _reserve(limit: int) -> int:
    return min(limit // RESERVE, MOST_RESERVE)


def _terminate() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
