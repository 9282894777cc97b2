"""What a tool and the containers beside it, which start and dispose of its Dask cluster, tell one another.

In the directory that all of them see (``deploy/calrissian``), ``heartbeat`` exists while a command runs and its time
changes; ``exit_code`` says how it ended. A killed command leaves its heartbeat and no exit code. ``init_failed`` says
why there is no cluster.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from eoap_dask.errors import StepFailedError

HEARTBEAT = "heartbeat"
EXIT_CODE = "exit_code"
INIT_FAILED = "init_failed"
PERIOD_S = 2.0
_NAME, _PATH, _GATEWAY = "DASK_CLUSTER", "DASK_CLUSTER_NAME_PATH", "DASK_GATEWAY_URL"
_MOST_BYTES = 1024


def shared_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the directory that is shared with the container that disposes of the cluster; None elsewhere."""
    # all as calrissian has it: a shell with a cluster of `eoap-dask cluster start` never gets files beside its own
    name, path = environ.get(_NAME, "").strip(), environ.get(_PATH, "")
    if not name or not environ.get(_GATEWAY) or not Path(path).is_absolute():
        return None
    try:
        with Path(path).open("rb") as file:
            noted = file.read(_MOST_BYTES)
    except OSError:
        return None
    directory = Path(path).parent
    is_there = noted.strip() == name.encode() and os.access(directory, os.W_OK | os.X_OK)
    return directory if is_there else None


def failure_of_init(directory: Path) -> StepFailedError | None:
    """Return why the container that was to start the cluster hasn't, with its exit code; None where it has."""
    try:
        with (directory / INIT_FAILED).open("rb") as file:
            code, _, why = file.read(4 * _MOST_BYTES).decode(errors="replace").partition("\n")
    except OSError:
        return None
    exit_code = int(code) if re.fullmatch("[1-9][0-9]{0,2}", code) and int(code) < 256 else 1
    return StepFailedError(f"The Dask cluster of this step wasn't started. {why.strip()}".rstrip(), exit_code=exit_code)


class Heartbeat:
    """Beats while its context lasts; `end` says how it ended. What can't be written is warned of, never raised."""

    def __init__(self, directory: Path, period_s: float = PERIOD_S) -> None:
        self._beat, self._exit_code = directory / HEARTBEAT, directory / EXIT_CODE
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True, name="heartbeat")

    def __enter__(self) -> Self:
        self._try(lambda: self._exit_code.unlink(missing_ok=True))  # of an earlier command of the same tool
        self._try(self._beat.touch)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def end(self, code: int) -> None:
        """Write the command's exit code and remove the heartbeat; the last thing a command does."""
        from eoap_dask.files import write_bytes

        self._stop()
        self._try(lambda: write_bytes(self._exit_code, f"{code}\n".encode()))
        self._try(lambda: self._beat.unlink(missing_ok=True))  # after it: nobody may find neither

    def _go_on(self) -> None:
        while not self._ended.wait(self._period_s):
            with suppress(OSError):  # who watches will notice; the next one may get through
                self._beat.touch()

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as exc:
            sys.stderr.write(f"Warning: {self._beat.parent} can't be written to: {exc.strerror}.\n")
