"""Small files written whole or not at all, and checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

_PIECE = 1 << 20


def dump_json(document: Any) -> str:
    """Return a document as JSON text, the same text for the same document.

    Parameters
    ----------
    document
        What `json` can encode; keys keep their order. NaN and infinities aren't JSON.

    Returns
    -------
    str
        Indented by two, not escaped beyond what JSON asks for, one newline at the end.

    Raises
    ------
    ValueError
        When the document holds NaN or an infinity.
    """
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, document: Any) -> Path:
    """Write a document as JSON; the file appears whole or not at all.

    Parameters
    ----------
    path
        Where; replaced when it exists.
    document
        As for `dump_json`.

    Returns
    -------
    Path
        `path`.
    """
    return write_bytes(path, dump_json(document).encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write bytes; the file appears whole or not at all, also after a power cut.

    Parameters
    ----------
    path
        Where; replaced when it exists. Its directory exists.
    data
        The content.

    Returns
    -------
    Path
        `path`.
    """
    # One writer per name: the lock on the output sees to it. The process id is for whoever finds a leftover.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces.

    Parameters
    ----------
    path
        A regular file.

    Returns
    -------
    str
        64 hexadecimal digits, lower case.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Push a file's content, or a directory's names, to the disk.

    Parameters
    ----------
    path
        A regular file or a directory; links aren't followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Push every file and directory below a directory, and itself, to the disk; links aren't followed.

    Parameters
    ----------
    root
        A directory.
    """
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                fsync_path(path)
        fsync_path(Path(folder))


def link_or_copy(source: Path, target: Path, sha256: str) -> None:
    """Give a file a second name; where that isn't had, copy it, and compare the copy.

    Parameters
    ----------
    source
        A regular file.
    target
        The other name, which is free; its parents are created.
    sha256
        Of the file, 64 hexadecimal digits, lower case.

    Raises
    ------
    OSError
        When the disk refuses, or the copy differs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # FAT and some network disks have no links, others no more of them; a copy tells what else is wrong
        checksum = hashlib.sha256()
        with source.open("rb") as reader, target.open("xb") as writer:
            while piece := reader.read(_PIECE):
                checksum.update(piece)
                writer.write(piece)
        if checksum.hexdigest() != sha256:
            raise OSError(errno.EIO, "The copy differs from what was read before", str(target)) from None
