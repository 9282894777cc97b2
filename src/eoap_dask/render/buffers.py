"""Memory that is used again. Fresh memory is dear: the kernel clears its pages when they are touched first."""

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
    """Buffers of a process that nobody uses at the moment; for any thread.

    Parameters
    ----------
    kept_bytes
        How much is kept at most. The oldest ones go.
    slack
        How many times as large as what is wanted a buffer may be that is lent.
    replace
        Let old ones go for each that must be made. Then free and lent ones together are never more than `slack` times
        what was in use at one time.
    """

    def __init__(self, kept_bytes: int, *, slack: float = 4.0, replace: bool = False) -> None:
        self.kept_bytes, self.slack, self.replace = kept_bytes, slack, replace
        self._free: list[Buffer] = []
        self._lock = threading.Lock()
        _all.add(self)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], Buffer]:
        """Return an array that holds anything, and the buffer that it lies in, to be given back."""
        wanted = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
        buffer = self._find(size)
        return buffer[:size].view(wanted).reshape(shape), buffer

    def give(self, buffer: Buffer | None) -> None:
        """Keep a buffer for the next who needs one of about its size."""
        if buffer is None or buffer.size > self.kept_bytes:
            return
        with self._lock:
            self._free.append(buffer)
            while sum(one.size for one in self._free) > self.kept_bytes:
                self._free.pop(0)

    @contextmanager
    def lent(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
        """Lend an array that holds anything; afterwards, somebody else may get its memory."""
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
        """Forget who held the lock: it isn't here."""
        self._lock = threading.Lock()


_all: WeakSet[Buffers] = WeakSet()


def _after_fork() -> None:
    for buffers in list(_all):
        buffers.after_fork()


os.register_at_fork(after_in_child=_after_fork)
