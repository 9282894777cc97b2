"""Values that the threads of a worker share, and the memory for them."""

from __future__ import annotations

import os
import random
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class MemoryBudget:
    """Memory (`size`, bytes) that threads share: a request beyond what is left waits.

    A request beyond `size` is met when no other thread has any.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Start afresh, as after a fork."""
        self.taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Take `size` bytes for the time of the context. A thread that has some mustn't take more."""
        with self._changed:
            self._changed.wait_for(lambda: not self.taken or self.taken + size <= self.size)
            self.taken += size
        try:
            yield
        finally:
            with self._changed:
                self.taken -= size
                self._changed.notify_all()


class Recent:
    """The bytes that were used last, `capacity` of them at most."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Start afresh, as after a fork."""
        self.size = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self.size = 0
            self._kept.clear()

    def get(self, key: Hashable) -> bytes | None:
        """Return the bytes of a key, if they are there still."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep bytes, and forget those that weren't used for longest where there is no room for all."""
        with self._lock:
            self.size += len(value) - len(self._kept.pop(key, b""))
            self._kept[key] = value
            while self.size > self.capacity:
                self.size -= len(self._kept.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._kept)


@dataclass
class Kept(Generic[V]):
    """A cached value, its bytes, and the share of it that is still to be used."""

    value: V
    size: int
    left: float


class Shared(Generic[V]):
    """A cache of `capacity` bytes: the first thread that claims a key makes its value, others wait for it.

    When it is full, random values go: readers come in rounds, and the least recently used value is the next one needed.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Start afresh, as after a fork: the threads that were making values don't exist in the child."""
        self.size = 0
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Kept[V]] = {}
        self._keys: list[Hashable] = []
        self._places: dict[Hashable, int] = {}
        self._making: dict[Hashable, Future[V]] = {}
        self._random = random.Random(0)  # noqa: S311 - no secret

    def claim(self, key: Hashable, share: float = 0.0) -> Kept[V] | Future[V] | None:
        """Return a cached value, or the future of one that another thread is making, or None.

        With None the caller must make it, and then call `settle` or `fail`. `share` is the part of the value that this
        use takes; after 1 in total it isn't cached any longer.
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
        """Set a claimed value of `size` bytes, of which the caller has used `share`."""
        with self._lock:
            making = self._making.pop(key)
            if size <= self.capacity and share < 1 and key not in self._kept:
                self._make_room(self.capacity - size)
                self._kept[key] = Kept(value, size, 1 - share)
                self._places[key] = len(self._keys)
                self._keys.append(key)
                self.size += size
        making.set_result(value)

    def shrink(self, most: int) -> None:
        """Let values go until they take no more than `most` bytes."""
        with self._lock:
            self._make_room(most)

    def fail(self, key: Hashable) -> None:
        """Give a claim up: waiting threads get a `LookupError`."""
        with self._lock:
            making = self._making.pop(key, None)
        if making is not None:
            making.set_exception(LookupError(key))

    def drop(self, key: Hashable) -> None:
        """Remove a value, if it is there."""
        with self._lock:
            if key in self._kept:
                self._remove(key)

    def clear(self) -> None:
        """Remove all values."""
        with self._lock:
            for key in tuple(self._keys):
                self._remove(key)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def _make_room(self, most: int) -> None:
        while self.size > most:
            self._remove(self._keys[self._random.randrange(len(self._keys))])

    def _remove(self, key: Any) -> None:
        self.size -= self._kept.pop(key).size
        place, last = self._places.pop(key), self._keys.pop()
        if last is not key and last != key:
            self._keys[place] = last
            self._places[last] = place
