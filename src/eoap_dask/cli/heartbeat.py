"""What a tool tells the container beside it that disposes of its Dask cluster: that it lives, and how it ended.

calrissian starts a Dask cluster for a step, runs the tool, and lets a second container stop the cluster. Both see one
directory. With the scripts of ``deploy/calrissian`` that second container watches two files of ours there:

- ``heartbeat`` exists while a command of ours runs, and its time changes every few seconds;
- ``exit_code`` holds how the command ended. A command that is killed writes none, and its heartbeat stays behind.

With calrissian's own scripts nobody reads them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HEARTBEAT = "heartbeat"
EXIT_CODE = "exit_code"
PERIOD_S = 2.0
_NAME, _PATH, _GATEWAY = "DASK_CLUSTER", "DASK_CLUSTER_NAME_PATH", "DASK_GATEWAY_URL"
_MOST_BYTES = 1024


def shared_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the directory that is shared with the container that disposes of the cluster.

    Parameters
    ----------
    environ
        Variables of the process.

    Returns
    -------
    Path or None
        None unless all of it is as calrissian has it: ``DASK_CLUSTER_NAME_PATH`` is an absolute path to a file that
        holds the bare name in ``DASK_CLUSTER``, in a directory that we may write to, and ``DASK_GATEWAY_URL`` is set.
        So a shell with a cluster of ``eoap-dask cluster start`` never has files written beside its own.
    """
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


class Heartbeat:
    """Beats while its context lasts; `end` says how it ended. Never a reason to fail: what can't be written is told.

    Parameters
    ----------
    directory
        See `shared_directory`.
    period_s
        Between two beats.
    """

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
        """Say how the command ended; the last thing it does.

        Parameters
        ----------
        code
            Its exit code.
        """
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
