"""Memory that is used again: the kernel clears each page of fresh memory on its first touch, which is slow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]


class Buffers:
    """Free buffers of a process; any thread may use them.

    At most `kept_bytes` are kept, the oldest go. A buffer of up to `slack` times the wanted size is lent. With
    `replace`, old ones go for each new one: free and lent together are at most `slack` times the largest use.
    """

    def __init__(self, kept_bytes: int, *, slack: float = 4.0, replace: bool = False) -> None:
        self.kept_bytes, self.slack, self.replace = kept_bytes, slack, replace
        self._free: list[Buffer] = []
        self._lock = threading.Lock()
        _all.add(self)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], Buffer]:
        """Return an array with any content, and its buffer, to be given back."""
        wanted = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
        buffer = self._find(size)
        return buffer[:size].view(wanted).reshape(shape), buffer

    def give(self, buffer: Buffer | None) -> None:
        """Keep a buffer for the next request of about its size."""
        if buffer is None or buffer.size > self.kept_bytes:
            return
        with self._lock:
            self._free.append(buffer)
            while sum(one.size for one in self._free) > self.kept_bytes:
                self._free.pop(0)

    @contextmanager
    def lent(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
        """Lend an array with any content; its memory may be reused afterwards."""
        array, buffer = self.take(shape, dtype)
        try:
            yield array
        finally:
            self.give(buffer)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._free.clear()

    def _find(self, size: int) -> Buffer:
        with self._lock:
            for i, buffer in enumerate(self._free):
                if size <= buffer.size <= self.slack * size + (1 << 20):
                    return self._free.pop(i)
            gone = 0
            while self.replace and self._free and gone < size:
                gone += self._free.pop(0).size
        return np.empty(max(size, 1), np.uint8)

    def after_fork(self) -> None:
        """Replace the lock: a thread of the parent may have held it."""
        self._lock = threading.Lock()


_all: WeakSet[Buffers] = WeakSet()


def _after_fork() -> None:
    for buffers in list(_all):
        buffers.after_fork()


os.register_at_fork(after_in_child=_after_fork)
