"""Retries of asset reads, for all readers: how often, after which pauses, until when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from eoap_dask.errors import UsageError

T = TypeVar("T")

MAX_PAUSE_S = 20.0
"""Longest pause: a server that is busy for longer isn't helped by a longer one."""


@dataclass(frozen=True)
class Retry:
    """How often and how long a reader tries an asset. Part of a recipe, so it must stay small."""

    attempts: int = 3
    """Attempts in all; 1 means no retry."""
    backoff_s: float = 0.5
    """Pause before the second attempt; doubled for each further one, and all vary at random by a half."""
    deadline_s: float = 300.0
    """Seconds after the start of the first attempt, after which none starts and to which each is limited."""

    def check(self) -> None:
        """Raise `UsageError` for values out of range."""
        if self.attempts < 1:
            raise UsageError(f"The number of attempts must be 1 or more, got {self.attempts}.")
        if self.backoff_s < 0 or not self.deadline_s > 0:
            raise UsageError(
                "The pause must be 0 s or more and the deadline above 0 s, "
                f"got {self.backoff_s:g} s and {self.deadline_s:g} s."
            )


@dataclass(frozen=True)
class Attempt:
    """One attempt of several."""

    number: int
    """From 1. From 2 on, use a fresh signature and bypass caches of what failed."""
    left_s: float
    """Seconds until the deadline, more than 0: no request of this attempt should take longer."""


def retrying(
    action: Callable[[Attempt], T],
    retry: Retry,
    faults: tuple[type[Exception], ...],
    give_up: Callable[[Exception, int], Exception],
) -> T:
    """Return the action's result, tried again after any of `faults` until attempts or deadline are used up.

    Then raise what `give_up(last fault, attempts)` makes, without context: faults of GDAL and others can't be pickled.
    """
    ends = time.monotonic() + retry.deadline_s
    number = 1
    # Not tenacity: each of its objects holds a threading.local, and in Python 3.11 a worker stops for ever when one is
    # collected while Dask's profiler looks at the threads (CPython gh-106883): one run in ten did.
    while True:
        left = ends - time.monotonic()
        try:
            return action(Attempt(number, max(left, 0.001)))
        except faults as exc:
            fault = exc
        pause = _pause(retry, number)
        if number >= retry.attempts or time.monotonic() + pause >= ends:
            break
        time.sleep(pause)
        number += 1
    raise give_up(fault, number)  # outside of `except`: without context


def _pause(retry: Retry, number: int) -> float:
    """Return the pause in seconds, doubled each time; random, so that readers don't come back all at once."""
    doubled = float(retry.backoff_s * 2 ** (number - 1))
    return min(doubled, MAX_PAUSE_S) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
