"""Trying an asset again: how often, after which pauses, and until when. For all readers alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from eoap_dask.errors import UsageError

T = TypeVar("T")

MAX_PAUSE_S = 20.0
"""A server that is busy for longer isn't helped by our waiting longer still."""


@dataclass(frozen=True)
class Retry:
    """How a reader insists on an asset. Part of a recipe, so it must stay small."""

    attempts: int = 3
    """How often it is tried in all; 1 never tries again."""
    backoff_s: float = 0.5
    """Pause before the second attempt; each further one is twice as long, and all vary at random by a half."""
    deadline_s: float = 300.0
    """Seconds from the beginning of the first attempt after which none begins, and to which each is held."""

    def check(self) -> None:
        """Refuse what can't be meant.

        Raises
        ------
        UsageError
        """
        if self.attempts < 1:
            raise UsageError(f"{self.attempts} attempts read nothing.", "Expected at least 1.")
        if self.backoff_s < 0 or not self.deadline_s > 0:
            raise UsageError(
                f"A pause of {self.backoff_s:g} s and a deadline of {self.deadline_s:g} s can't be.",
                "Expected a pause of at least 0, and a deadline of more.",
            )


@dataclass(frozen=True)
class Attempt:
    """One of several attempts at the same thing."""

    number: int
    """From 1. From 2 on the signature should be a fresh one, and caches of what failed be passed by."""
    left_s: float
    """Seconds until the deadline, more than 0: no request of this attempt should take longer."""


def retrying(
    action: Callable[[Attempt], T],
    retry: Retry,
    faults: tuple[type[Exception], ...],
    give_up: Callable[[Exception, int], Exception],
) -> T:
    """Do something until it works, an attempt's number or the deadline is reached, or it fails in an unexpected way.

    Only `action` is done again: other reads of the same block go on meanwhile.

    Parameters
    ----------
    action
        Given the attempt, does it and returns what came of it.
    retry : Retry
    faults
        What is worth another attempt; everything else is raised as it is.
    give_up
        Given the last fault and how many attempts there were, makes the exception to be raised.

    Returns
    -------
    T
        What `action` returned.

    Raises
    ------
    Exception
        What `give_up` made. It has no context, for the faults of GDAL and others can't be pickled on their way to
        the client.
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
    """Return twice as long a pause each time; at random, lest all readers come back in the same moment."""
    doubled = float(retry.backoff_s * 2 ** (number - 1))
    return min(doubled, MAX_PAUSE_S) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
