"""Limits on the whole time of an action: sockets' timeouts are per read, and a slow server stays within them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, action: Callable[[], T]) -> T:
    """Return the action's result, or raise TimeoutError; the action's thread is then left behind with its result."""
    results: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as fault:  # noqa: BLE001 - raised again where it is waited for
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True, name="eoap-deadline")
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not results:
        raise TimeoutError
    return results[0]


class Watch:
    """Ends transfers at their deadline, also from servers that send a byte a minute."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start afresh, as after a fork: the parent's thread doesn't exist in the child."""
        self._changed = threading.Condition()
        self._ends: dict[int, float] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, end: float) -> Iterator[None]:
        """End this thread's transfers at a time of `time.monotonic`."""
        me = threading.get_ident()
        with self._changed:
            self._ends[me] = end
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="eoap-watch", daemon=True)
                self._thread.start()
            elif len(self._ends) == 1:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._ends.pop(me, None)
                self._sockets.pop(me, None)

    def uses(self, connection: socket.socket | None) -> None:
        """Note the connection that this thread is about to wait for, if it has a deadline."""
        with self._changed:
            if connection is not None and threading.get_ident() in self._ends:
                self._sockets[threading.get_ident()] = connection

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ends:
                    self._changed.wait()
                now = time.monotonic()
                # under the lock: a noted connection still belongs to that thread, and to no other
                for thread, end in self._ends.items():
                    if end <= now and (one := self._sockets.pop(thread, None)) is not None:
                        with suppress(OSError):  # it just ended by itself
                            # not the SSL socket's own method, after which its reader gets encrypted bytes
                            socket.socket.shutdown(one, socket.SHUT_RDWR)
            time.sleep(0.5)


WATCH = Watch()
os.register_at_fork(after_in_child=WATCH.reset)
