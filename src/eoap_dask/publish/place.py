"""Places for products that are published unit by unit: a directory is the one kind so far.

Object stores and databases lack a rename of many files, but can put one whole: that is all that is asked of a place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from eoap_dask.errors import OutputError
from eoap_dask.files import fsync_path, link_or_copy, make_parents, remove_empty, sha256_of
from eoap_dask.publish.lock import OutputLock


class Place(Protocol):
    """Where files of a product lie, by names with ``/``."""

    def lease(self) -> AbstractContextManager[None]:
        """Return a context in which nobody else writes here; `OutputError` where somebody does."""
        ...

    def put(self, name: str, file: Path, sha256: str = "") -> None:
        """Put a file here, replacing another; readers see the whole one or the other, never a part.

        `sha256` is its checksum, where that is known.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None where there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def names(self, below: str = "") -> Iterator[str]:
        """Yield the names of all files, or of those below a directory."""
        ...


class DirectoryPlace:
    """A directory of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold a lock beside the directory."""
        made = make_parents(self.path.parent)
        try:
            with OutputLock(self.path.parent / f"{self.path.name}.lock", self.path):
                yield
        finally:
            remove_empty(made)

    def put(self, name: str, file: Path, sha256: str = "") -> None:
        """Put a file here by one rename."""
        target = self._inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        draft.unlink(missing_ok=True)
        link_or_copy(file, draft, sha256 or sha256_of(file))
        fsync_path(draft)
        draft.replace(target)
        draft.unlink(missing_ok=True)  # where both were names of one file, a rename leaves them

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None where there is none."""
        try:
            return self._inside(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, name: str) -> None:
        """Remove a file, and the directories that become empty."""
        path = self._inside(name)
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.path or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()

    def names(self, below: str = "") -> Iterator[str]:
        """Yield the names of all files, or of those below a directory, sorted."""
        root = self._inside(below) if below else self.path
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files):
                yield Path(folder, name).relative_to(self.path).as_posix()

    def _inside(self, name: str) -> Path:
        if not name or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
            raise OutputError(f"{name!r} isn't the name of a file below {self.path}.")
        return self.path / name
