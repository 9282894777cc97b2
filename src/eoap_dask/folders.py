"""Directories made and removed, and never what isn't ours: parents of others, or what a link points to."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


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
