"""What sciences are set up with: once per process and science, however many threads and sciences there are."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

from eoap_dask.render.resources import STORE
from eoap_dask.render.science import Science

KEPT = 4
"""Set-ups that a process keeps: models are large."""


class Tools:
    """The set-ups of a process. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[object, Future[Any]] = OrderedDict()

    def of(self, science: Science) -> Any:
        """Return what a science is set up with; the first thread that asks makes it, the others wait.

        Raises `ResourceError` when a file that it needs doesn't come, and whatever `Science.set_up` raises.
        """
        if type(science).set_up is Science.set_up:
            return None
        key = science if science.tools_key is None else (type(science), science.tools_key)
        with self._lock:
            future = self._made.get(key)
            is_ours = future is None
            if future is None:
                future = self._made[key] = Future()
            self._made.move_to_end(key)
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        if is_ours:
            try:
                future.set_result(science.set_up({one.name: STORE.wait(one) for one in science.resources}))
            except BaseException as fault:
                with self._lock:
                    self._made.pop(key, None)  # the next task tries again
                future.set_exception(fault)
                raise
        return future.result()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._made.clear()


TOOLS = Tools()
"""Those of this process."""


def _after_fork() -> None:
    TOOLS.__init__()  # type: ignore[misc]  # the lock may be held by a thread that wasn't forked


os.register_at_fork(after_in_child=_after_fork)
