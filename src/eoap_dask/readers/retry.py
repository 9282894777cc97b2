"""Trying an asset again: how often, after which pauses, and until when. For all readers alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import tenacity

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


def insist(
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

    def failed(state: tenacity.RetryCallState) -> NoReturn:
        last = None if state.outcome is None else state.outcome.exception()
        assert isinstance(last, Exception)  # noqa: S101 - tenacity calls this after one of `faults`
        raise give_up(last, state.attempt_number)

    def attempt() -> T:
        number = int(retrying.statistics["attempt_number"])
        return action(Attempt(number, max(ends - time.monotonic(), 0.001)))

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(faults),
        stop=tenacity.stop_after_attempt(retry.attempts) | tenacity.stop_before_delay(retry.deadline_s),
        wait=_pauses(retry.backoff_s),
        retry_error_callback=failed,
    )
    return retrying(attempt)


def _pauses(backoff_s: float) -> Callable[[tenacity.RetryCallState], float]:
    """Return twice as long a pause each time; at random, lest all readers come back in the same moment."""

    def pause(state: tenacity.RetryCallState) -> float:
        doubled = float(backoff_s * 2 ** (state.attempt_number - 1))
        return min(doubled, MAX_PAUSE_S) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret

    return pause
