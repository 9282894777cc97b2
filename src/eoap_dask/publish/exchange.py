"""Two directories trade places, so that a name is never without its content.

Linux does it in one step, ``renameat2(…, RENAME_EXCHANGE)``; not every file system can. Where it can't, the old
directory steps aside to ``<name>.old`` for a moment, with a mark in it by which `recover` knows, after a crash,
that it wasn't put there by somebody else: people call their own backups so.
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
"""An empty file in a directory that steps aside; the last thing to go from it."""

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
"""Number of renameat2, per machine, for C libraries that have no name for it; arch/*/kernel/syscalls in Linux."""
_NOT_HAD = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What a kernel, and what a file system, answers that can't exchange."""


def exchange(new: Path, old: Path) -> Path:
    """Put a directory in the place of another, in one step where the file system can.

    Where it can't, there is an instant without anything at `old`; a run that is killed in it is followed by
    `recover`. Parents are synced.

    Parameters
    ----------
    new
        The directory that takes the place; absolute, on the file system of `old`.
    old
        The directory whose place it takes.

    Returns
    -------
    Path
        Where the directory that was at `old` is from now on: `new`, or ``<old>.old``. To be removed.

    Raises
    ------
    OSError
        Both are where they were. FileExistsError when ``<old>.old`` would be needed and isn't free.
    """
    try:
        _swap(new, old)
    except OSError as error:
        if error.errno not in _NOT_HAD:
            raise
        left = _step_aside(new, old)
    else:
        left = new
    _fsync_parents(new, old)
    return left


def can_exchange(folder: Path) -> bool:
    """Tell whether directories on this file system can trade places in one step.

    Parameters
    ----------
    folder
        A directory that can be written; left as it was.
    """
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
    """Bring to an end what `exchange` was killed in: afterwards `out` is there, the old or the new one.

    Without ``<out>.old``, or with one that isn't marked as put aside, nothing changes.

    Parameters
    ----------
    out
        What was given to `exchange` as `old`.

    Raises
    ------
    OSError
        When the disk refuses.
    """
    aside = aside_of(out)
    if is_aside(out):  # killed before it stepped aside: what has the mark as well is somebody's copy of it
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


def standing_at(out: Path) -> Path | None:
    """Return where a directory is: in its place, or aside when an exchange was killed; None when in neither.

    Parameters
    ----------
    out
        What was given to `exchange` as `old`.
    """
    if os.path.lexists(out):
        return out
    aside = aside_of(out)
    return aside if is_aside(aside) else None


def aside_of(path: Path) -> Path:
    """Return where a directory steps aside."""
    return path.parent / (path.name + ".old")


def is_aside(path: Path) -> bool:
    """Tell whether there is a directory with the mark of one that steps aside."""
    if not _is_directory(path):
        return False
    try:
        return stat.S_ISREG((path / ASIDE_MARK).lstat().st_mode)
    except OSError:
        return False


def remove_last(folder: Path, last: Sequence[str]) -> None:
    """Remove a directory and what is in it, some names at the end: they tell whose it is, in case we are killed here.

    Parameters
    ----------
    folder
        A directory; links in it lose themselves, never what they point to.
    last
        Names of files in it, in the order in which they go. They needn't be there.
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
    """Let two names trade places in one step; OSError with one of `_NOT_HAD` where that isn't had."""
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
    """Do it in two steps, for file systems that can't in one."""
    aside, mark = aside_of(old), old / ASIDE_MARK
    if os.path.lexists(aside):  # an empty directory would be replaced without a word
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(aside))
    try:
        mark.touch()
        fsync_path(mark)
        _fsync_quietly(old)
        old.rename(aside)
        new.rename(old)
    except BaseException:
        # also a Ctrl-C: nobody should find the name without its content
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
    """Push a directory's names to the disk; some file systems can't, and what was done is done."""
    with suppress(OSError):
        fsync_path(folder)


def _is_directory(path: Path) -> bool:
    """Tell a directory, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
