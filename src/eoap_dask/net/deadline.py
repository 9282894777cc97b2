"""Ending what knows no end of its own: timeouts of sockets are per byte, and a slow server sends one in time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, action: Callable[[], T]) -> T:
    """Return what an action returns, if it does so in time.

    Parameters
    ----------
    seconds
        Longest time.
    action
        Run in a thread of its own, which is left behind where it takes longer: its result is lost then.

    Returns
    -------
    T

    Raises
    ------
    TimeoutError
        When it takes longer.
    """
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
