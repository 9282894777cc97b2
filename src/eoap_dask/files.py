"""Files written whole or not at all, checksums, safe names, and directories made and removed: never what isn't ours."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
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


def make_parents(parent: Path) -> list[Path]:
    """Create a directory with its parents, and return those that weren't there, innermost first."""
    missing = []
    for path in (parent, *parent.parents):
        if os.path.lexists(path):
            break
        missing.append(path)
    made: list[Path] = []
    try:
        for path in reversed(missing):
            with suppress(FileExistsError):  # another run was quicker: then it is theirs to remove
                path.mkdir()
                made.insert(0, path)
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Remove directories that are empty, innermost first; a published output keeps its parents."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def remove_tree(path: Path) -> None:
    """Remove a directory if it is there; a link in its place loses itself, never what it points to.

    Workers of a run that was killed may still be about to put something into it, or to take it out: that is why a first
    try may fail. Once a directory is gone, nobody makes it again.
    """
    if path.is_symlink():
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)


def real_directories(root: Path) -> set[str]:
    """Return the names of the directories in a directory, without links to some."""
    return {path.name for path in root.iterdir() if path.is_dir() and not path.is_symlink()}


# ----------------------------------------------------------------------------------------------------
# What may name a file

_NAME_LENGTH = 120


def safe_name(text: str) -> str:
    """Return a name that any file system takes, made of an untrusted id.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    str
        Lower case, of `a-z 0-9 . _ -` only, not starting with a dot or dash, at most 120 characters. A text
        that fits apart from its case stays as it is; otherwise a short hash is appended, so that names stay
        distinct.
    """
    lower = text.lower()
    plain = unicodedata.normalize("NFKD", lower).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9._\-]+", "-", plain)
    name = re.sub(r"\.{2,}", ".", name).strip("-.")
    if name == lower and name and len(name) <= _NAME_LENGTH:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _NAME_LENGTH - 9].rstrip('-.') or 'item'}-{digest}"
