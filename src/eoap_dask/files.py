"""Atomic writes, checksums, safe names, and directories that are made and removed without touching anybody else's."""

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
    """Return a document as indented JSON that ends with a newline; NaN and infinity raise ValueError."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, document: Any) -> Path:
    """Write a document as `dump_json` formats it; the file appears whole or not at all."""
    return write_bytes(path, dump_json(document).encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write or replace a file in an existing directory; it appears whole or not at all, also after a power cut."""
    # One writer per name: the lock on the output ensures it. The process id is for whoever finds a leftover.
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
    """Return the SHA-256 of a file as 64 lower-case hexadecimal digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Push a file's content, or a directory's names, to the disk; a link raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Push every file and directory below a directory, and itself, to the disk; links aren't followed."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                fsync_path(path)
        fsync_path(Path(folder))


def link_or_copy(source: Path, target: Path, sha256: str) -> None:
    """Give a file a second, free name: a hard link, or a copy where the file system lacks links.

    Parents are created. A copy whose checksum differs from `sha256` raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # FAT and some network disks have no links, others too few; any other fault meets the copy too
        checksum = hashlib.sha256()
        with source.open("rb") as reader, target.open("xb") as writer:
            while piece := reader.read(_PIECE):
                checksum.update(piece)
                writer.write(piece)
        if checksum.hexdigest() != sha256:
            raise OSError(errno.EIO, "The copy's checksum differs from the file's", str(target)) from None


def make_parents(parent: Path) -> list[Path]:
    """Create a directory with its parents, and return those that were missing, innermost first."""
    missing = []
    for path in (parent, *parent.parents):
        if os.path.lexists(path):
            break
        missing.append(path)
    made: list[Path] = []
    try:
        for path in reversed(missing):
            with suppress(FileExistsError):  # another run made it first, and removes it
                path.mkdir()
                made.insert(0, path)
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Remove directories that are empty, innermost first, up to the first that isn't."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def remove_tree(path: Path) -> None:
    """Remove a directory if it exists; a link in its place is unlinked, and what it points to stays."""
    if path.is_symlink():
        path.unlink()
        return
    # Workers of a killed run may still add or remove files, so the first try may fail; once it is gone, none make it.
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)


def real_directories(root: Path) -> set[str]:
    """Return the names of the directories in a directory, links excluded."""
    return {path.name for path in root.iterdir() if path.is_dir() and not path.is_symlink()}


# ----------------------------------------------------------------------------------------------------
# What may name a file

_NAME_LENGTH = 120


def safe_name(text: str) -> str:
    """Return a name for any file system, made of an untrusted id: `a-z 0-9 . _ -`, at most 120 characters.

    It starts with neither dot nor dash. An id that fits apart from its case is kept; others get a short hash, to stay
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
