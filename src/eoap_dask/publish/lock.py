"""A lock, so that one run at a time writes an output; it ends with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Self

from eoap_dask.errors import OutputError
from eoap_dask.publish.holdings import SOFTWARE, another_place, parse_object

_LOCK_ATTEMPTS = 20
_LOOK_PATIENCE_S = 2.0
"""How long a lock may be shared by processes that only check it, such as `status`."""


class OutputLock:
    """An exclusive lock on a file, which is removed afterwards.

    The kernel drops a `flock` with its process, so that no lock is stale. filelock has the same lock, but leaves its
    file behind, and falls back to one that outlives its process.
    """

    def __init__(self, path: Path, given: Path) -> None:
        self.path = path
        self._given = given
        self._descriptor = -1

    def __enter__(self) -> Self:
        for _ in range(_LOCK_ATTEMPTS):
            descriptor = self._open()
            try:
                _lock(descriptor)
            except BlockingIOError as error:
                holder = _read_holder(descriptor)
                os.close(descriptor)
                raise OutputError(
                    f"Another run is writing {self._given}{holder}.",
                    f"One run at a time may write an output; the lock is {self.path}.",
                    another_place("or wait until it ends"),
                ) from error
            except OSError:
                os.close(descriptor)
                raise
            if self._is_current(descriptor):
                break
            # the holder before us removed the file between our open and our lock, which locks nothing then
            os.close(descriptor)
        else:
            raise OutputError(
                f"{self.path} couldn't be locked.",
                f"It was removed each of {_LOCK_ATTEMPTS} times: other runs keep beginning and ending there.",
                another_place(),
            )
        self._descriptor = descriptor
        try:
            self._refuse_foreign_file()
        except BaseException:
            os.close(descriptor)
            raise
        note = json.dumps({"software": SOFTWARE, "pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            # removed while it is locked: a process that waits finds that its file isn't the current one
            if self._is_current(self._descriptor):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        for attempt in range(_LOCK_ATTEMPTS):
            try:
                return os.open(self.path, flags, 0o644)
            except FileNotFoundError:
                # a run that just ended removed the parent, which it had made
                if attempt == _LOCK_ATTEMPTS - 1:
                    raise
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError:
                if not (self.path.is_symlink() or self.path.is_dir()):
                    raise
                break
        raise OutputError(
            f"{self.path} isn't a regular file.",
            "A run locks its output with a file of this name.",
            another_place("or move it away"),
        )

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except FileNotFoundError:
            return False

    def _refuse_foreign_file(self) -> None:
        """Raise when the file isn't one of our locks: it would be removed at the end."""
        content = os.pread(self._descriptor, 4096, 0)
        if content and (parse_object(content) or {}).get("software") != SOFTWARE:
            raise OutputError(
                f"{self.path} exists and isn't a lock of {SOFTWARE}.",
                "A run locks its output with a file of this name, and removes it.",
                another_place("or move the file away"),
            )


def is_held(lock: Path) -> bool:
    """Tell whether a living process has a lock; takes it for a moment only."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    """Lock a file, or raise BlockingIOError; waits briefly for processes that only check the lock."""
    deadline = time.monotonic() + _LOOK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # blocked as well where a run has it
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _read_holder(descriptor: int) -> str:
    """Return the process that has a lock, as a phrase; empty until it has written its id, just after locking."""
    holder = parse_object(os.pread(descriptor, 4096, 0)) or {}
    if "pid" not in holder:
        return ""
    host = holder.get("host")
    where = "" if host == socket.gethostname() else f" on {host}"
    return f" (process {holder['pid']}{where})"
