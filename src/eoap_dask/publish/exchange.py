"""Swap two directories, so that a name always has its content.

Linux does it in one step, ``renameat2(…, RENAME_EXCHANGE)``, but not on every file system. Elsewhere the old directory
moves to ``<name>.old`` for a moment, with a mark by which `recover` knows it after a crash: users name backups like
that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from eoap_dask.files import fsync_path, remove_tree

ASIDE_MARK = ".eoap-dask-aside"
"""An empty file in a directory that is moved aside; removed last."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SYSCALL = {
    "x86_64": 316,
    "aarch64": 276,
    "loongarch64": 276,
    "riscv64": 276,
    "ppc64le": 357,
    "s390x": 347,
}
"""Number of renameat2, per machine, for C libraries without the function; arch/*/kernel/syscalls in Linux."""
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Errors of a kernel, or of a file system, that can't exchange."""


def exchange(new: Path, old: Path) -> Path:
    """Put a directory in the place of another; both absolute, on one file system. Return where the old one is now.

    In two steps, where the file system needs them, nothing is at `old` for an instant: a run killed then needs
    `recover`. After an OSError both are where they were; FileExistsError means that ``<old>.old`` isn't free.
    """
    try:
        _swap(new, old)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        left = _step_aside(new, old)
    else:
        left = new
    _fsync_parents(new, old)
    return left


def can_exchange(folder: Path) -> bool:
    """Tell whether directories on this file system can be swapped in one step; `folder` must be writable."""
    one, other = folder / ".exchange-1", folder / ".exchange-2"
    try:
        one.mkdir()
        other.mkdir()
        _swap(one, other)
    except OSError:
        return False
    finally:
        for path in (one, other):
            with suppress(OSError):
                path.rmdir()
    return True


def recover(out: Path) -> None:
    """Complete an `exchange` that was killed: afterwards `out` is there, the old or the new one.

    Without ``<out>.old``, or with one that isn't marked, nothing changes.
    """
    aside = aside_of(out)
    if is_aside(out):  # killed before the move: an `aside` with the mark is a user's copy of it
        (aside / ASIDE_MARK).unlink(missing_ok=True)
    elif is_aside(aside):
        if os.path.lexists(out):
            remove_last(aside, (ASIDE_MARK,))
        else:
            aside.rename(out)
            _fsync_parents(out)
    elif os.path.lexists(out) and _is_directory(aside):
        with suppress(OSError):  # killed between the mark and the directory; otherwise it isn't empty
            aside.rmdir()
    if is_aside(out):
        (out / ASIDE_MARK).unlink()


def location_of(out: Path) -> Path | None:
    """Return where an output is: in its place, or aside after a killed exchange; None when in neither."""
    if os.path.lexists(out):
        return out
    aside = aside_of(out)
    return aside if is_aside(aside) else None


def aside_of(path: Path) -> Path:
    """Return the path to which a directory is moved aside."""
    return path.parent / (path.name + ".old")


def is_aside(path: Path) -> bool:
    """Tell whether there is a directory with the mark of one that was moved aside."""
    if not _is_directory(path):
        return False
    try:
        return stat.S_ISREG((path / ASIDE_MARK).lstat().st_mode)
    except OSError:
        return False


def remove_last(folder: Path, last: Sequence[str]) -> None:
    """Remove a directory, the files in `last` at the end in this order: they show whose it is, if we are killed here.

    Links in it are removed, not followed.
    """
    for name in sorted(set(os.listdir(folder)) - set(last)):  # noqa: PTH208  # names are all that is needed
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()
    for name in last:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def _swap(one: Path, other: Path) -> None:
    """Swap two names in one step; OSError with one of `_UNSUPPORTED` where the kernel or the file system can't."""
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one), None, str(other))
    ctypes.set_errno(0)
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


@cache
def _renameat2() -> Callable[..., int] | None:
    """Return renameat2(2): glibc's since 2.28, else the system call; None where there is neither."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, "renameat2", None)
    if function is None:
        return _by_number(libc)
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    found: Callable[..., int] = function
    return found


def _by_number(libc: Any) -> Callable[..., int] | None:
    number = _SYSCALL.get(os.uname().machine)
    if number is None or sys.maxsize < 2**32:  # a 32-bit process has other numbers than the machine's
        return None
    syscall = libc.syscall
    syscall.argtypes = (
        ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
    )  # fmt: skip
    syscall.restype = ctypes.c_long

    def call(*arguments: Any) -> int:
        return int(syscall(number, *arguments))

    return call


def _step_aside(new: Path, old: Path) -> Path:
    """Swap in two steps, for file systems that can't in one."""
    aside, mark = aside_of(old), old / ASIDE_MARK
    if os.path.lexists(aside):  # rename would silently replace an empty directory
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(aside))
    try:
        mark.touch()
        fsync_path(mark)
        _fsync_quietly(old)
        old.rename(aside)
        new.rename(old)
    except BaseException:
        # also on Ctrl-C: the name must have its content
        if is_aside(aside) and not os.path.lexists(old):
            aside.rename(old)
        if is_aside(old):
            mark.unlink()
        raise
    return aside


def _fsync_parents(*paths: Path) -> None:
    for parent in {path.parent for path in paths}:
        _fsync_quietly(parent)


def _fsync_quietly(folder: Path) -> None:
    """Sync a directory's names to disk, where the file system can."""
    with suppress(OSError):
        fsync_path(folder)


def _is_directory(path: Path) -> bool:
    """Tell a directory from a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
