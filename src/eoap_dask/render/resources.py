"""Files that every worker needs, such as a model: brought once per worker, by checksum, in pieces.

The client sends them (`cluster.supply`); a task waits for what isn't there yet, since a worker may get its first task
before it is supplied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from eoap_dask.errors import ResourceError
from eoap_dask.render.identity import NO_PIXELS

PATIENCE_S = 300.0
"""How long a task waits for a resource."""
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Resource:
    """A file that every worker needs."""

    name: str
    sha256: str
    """Of its content, in hexadecimal."""
    size: int
    """Bytes."""
    path: Path = field(metadata=NO_PIXELS)
    """Where the client has it."""

    @classmethod
    def of(cls, name: str, path: Path) -> Resource:
        """Return the resource that a file is; reads all of it."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name, digest, path.stat().st_size, path)


class Store:
    """The resources that this process has. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._there: dict[str, tuple[Path, tuple[int, ...]]] = {}

    def find(self, resource: Resource) -> Path | None:
        """Return where a resource is; also the client's own file, where this process sees that."""
        with self._lock:
            known = self._there.get(resource.sha256)
        if known is not None and known[1] == _state(known[0]):
            return known[0]
        try:
            state = _state(resource.path)
            if state and state[1] == resource.size:
                with resource.path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() == resource.sha256:
                        return self._keep(resource.sha256, resource.path, state)
        except OSError:
            pass
        return None

    def add(self, resource: Resource, offset: int, piece: bytes, folder: Path, sender: str = "") -> None:
        """Write a piece of a resource into a directory below `folder`; the last one makes it available.

        Several may send one resource at the same time, each under a name of its own.

        Raises `ResourceError` when the whole doesn't match its checksum, OSError when the disk refuses.
        """
        path = self._place(folder) / resource.sha256
        part = path.with_suffix(f".{sender}.part")
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(piece)
        if offset + len(piece) < resource.size:
            return
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != resource.sha256:
            part.unlink()
            raise ResourceError(
                f"{resource.name} arrived on a worker with another content than {resource.path} had.",
                "Expected a file that doesn't change during a run.",
                "Run the same command again.",
            )
        part.replace(path)
        self._keep(resource.sha256, path, _state(path))

    def wait(self, resource: Resource, patience_s: float = PATIENCE_S) -> Path:
        """Return where a resource is, once it is there; raise `ResourceError` when it doesn't come."""
        deadline = time.monotonic() + patience_s
        while (found := self.find(resource)) is None:
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"{resource.name} didn't reach a worker within {patience_s:g} s.",
                    "Every worker needs it.",
                    "Run the same command again.",
                )
            time.sleep(_LOOK_EVERY_S)
        return found

    def clear(self) -> None:
        """Forget all resources, and remove those that were brought here."""
        with self._lock:
            folder, self._folder = self._folder, None
            self._there.clear()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, sha256: str, path: Path, state: tuple[int, ...]) -> Path:
        with self._lock:
            self._there[sha256] = (path, state)
        return path

    def _place(self, folder: Path) -> Path:
        with self._lock:
            if self._folder is None or not self._folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="eoap-dask-resources-", dir=folder))
            return self._folder


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to; nothing where it isn't there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


STORE = Store()
"""That of this process."""


def _after_fork() -> None:
    STORE.__init__()  # type: ignore[misc]  # the lock may be held by a thread that wasn't forked


os.register_at_fork(after_in_child=_after_fork)
