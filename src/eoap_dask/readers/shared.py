"""What the threads of one worker make once and share: kept within a budget, and never made twice at a time."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class MemoryBudget:
    """Memory that threads share: who needs more than is left waits.

    Parameters
    ----------
    size
        Bytes. Who needs more than that gets it when nobody else has any.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Begin anew, as in a process that was forked."""
        self.taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Have so many bytes. Who has some mustn't ask for more."""
        with self._changed:
            self._changed.wait_for(lambda: not self.taken or self.taken + size <= self.size)
            self.taken += size
        try:
            yield
        finally:
            with self._changed:
                self.taken -= size
                self._changed.notify_all()


@dataclass
class Kept(Generic[V]):
    """A value that is there."""

    value: V
    size: int
    left: float


class Shared(Generic[V]):
    """Values by key. Whoever asks first for one that isn't there makes it; others wait for it.

    When it is full, something else goes, at random: readers come by in rounds, and what was used longest ago is then
    just what will be needed next.

    Parameters
    ----------
    capacity
        Bytes that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Begin anew, as in a process that was forked: whoever was making something isn't here."""
        self.size = 0
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Kept[V]] = {}
        self._keys: list[Hashable] = []
        self._places: dict[Hashable, int] = {}
        self._making: dict[Hashable, Future[V]] = {}
        self._random = random.Random(0)  # noqa: S311 - no secret

    def claim(self, key: Hashable, share: float = 0.0) -> Kept[V] | Future[V] | None:
        """Ask for a value.

        Parameters
        ----------
        key
        share
            How much of the value is used up by this: once that comes to 1 it is no longer kept.

        Returns
        -------
        Kept, or Future, or None
            Where it is there, it; where another thread is making it, what to wait for; None where the caller must
            make it now, and then call `settle` or `fail`, whatever happens.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                kept.left -= share
                if kept.left <= 1e-9:
                    self._remove(key)
                return kept
            making = self._making.get(key)
            if making is None:
                self._making[key] = Future()
            return making

    def settle(self, key: Hashable, value: V, size: int, share: float = 0.0) -> None:
        """Hand in a value that was claimed.

        Parameters
        ----------
        key
        value
        size
            Its bytes.
        share
            How much of it the caller has used up.
        """
        with self._lock:
            making = self._making.pop(key)
            if size <= self.capacity and share < 1 and key not in self._kept:
                while self.size + size > self.capacity:
                    self._remove(self._keys[self._random.randrange(len(self._keys))])
                self._kept[key] = Kept(value, size, 1 - share)
                self._places[key] = len(self._keys)
                self._keys.append(key)
                self.size += size
        making.set_result(value)

    def fail(self, key: Hashable) -> None:
        """Say that a value that was claimed can't be made; whoever waits for it sees a `LookupError`."""
        with self._lock:
            making = self._making.pop(key, None)
        if making is not None:
            making.set_exception(LookupError(key))

    def drop(self, key: Hashable) -> None:
        """Keep a value no longer, if it is there."""
        with self._lock:
            if key in self._kept:
                self._remove(key)

    def clear(self) -> None:
        """Keep nothing of what is there."""
        with self._lock:
            for key in tuple(self._keys):
                self._remove(key)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def _remove(self, key: Any) -> None:
        self.size -= self._kept.pop(key).size
        place, last = self._places.pop(key), self._keys.pop()
        if last is not key and last != key:
            self._keys[place] = last
            self._places[last] = place
