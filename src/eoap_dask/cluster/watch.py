"""Looking after a cluster while it works: workers come and go, and sometimes none is left.

Dask itself would wait for ever: a task without a worker is no fault to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from loguru import logger

from eoap_dask.errors import ClusterError
from eoap_dask.redact import redact
from eoap_dask.text import plural

if TYPE_CHECKING:
    from distributed import Client

LOOK_EVERY_S = 1.0
SILENCE_S = 30.0
"""How long a scheduler may take to answer."""


class WorkerWatch:
    """Counts a cluster's workers, and raises when there is no point in waiting any longer."""

    def __init__(
        self,
        client: Client,
        patience_s: float,  # how long a cluster may be without workers
        changed: Callable[[str], None] = lambda _: None,  # gets the cluster's size in words when it has changed
        check_workers: Callable[[], None] = lambda: None,  # called when workers have joined; raises for unusable ones
    ) -> None:
        self._client, self._patience_s = client, patience_s
        self._changed, self._check_workers = changed, check_workers
        self._threads: dict[str, int] = {}
        self._most = 0
        self._looked = 0.0
        self._without_since: float | None = None
        self._silent_since: float | None = None

    @property
    def slots(self) -> int:
        """Tasks that run at once, as far as is known."""
        return sum(self._threads.values())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the workers, as far as is known."""
        return tuple(sorted(self._threads))

    def threads(self, address: str) -> int:
        """Return how many tasks a worker runs at once; 0 for one that isn't there."""
        return self._threads.get(address, 0)

    def look(self, *, at_once: bool = False) -> None:
        """Look which workers there are, at most every `LOOK_EVERY_S` unless `at_once`.

        Raises `ClusterError` when there were none for too long, nobody answers, or `check_workers` refuses new ones.
        """
        now = time.monotonic()
        if not at_once and now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        try:
            threads = self._ask()
        except (OSError, TimeoutError, RuntimeError) as exc:  # the last one where the client has been closed
            self._is_silent(now, exc)
            return
        self._silent_since = None
        came = threads.keys() - self._threads.keys()
        was, self._threads = self._threads, threads
        self._most = max(self._most, len(threads))
        if was != threads:
            self._tell(was)
        if came:
            self._check_workers()
        self._without_since = None if threads else self._without_since or now
        if self._without_since is not None and now - self._without_since >= self._patience_s:
            raise ClusterError(
                f"The Dask cluster had no worker for {self._patience_s:g} s: "
                f"{plural(self._most, 'worker')} had been there, none is left and none came.",
                "What is finished is kept.",
                "Give it workers, and run the same command again.",
            )

    def _ask(self) -> dict[str, int]:
        scheduler = self._client.scheduler
        if scheduler is None or self._client.status != "running":  # to ask would only mean to wait
            raise ConnectionError("the connection is closed")
        found: dict[str, int] = self._client.sync(scheduler.ncores, callback_timeout=SILENCE_S)
        return dict(found)

    def _tell(self, was: dict[str, int]) -> None:
        if not self._threads:
            logger.warning(
                "The Dask cluster has lost its last worker; waiting up to {:g} s for another.", self._patience_s
            )
            self._changed("no worker")
        elif len(was) != len(self._threads) or not was:
            least, most = min(self._threads.values()), max(self._threads.values())
            each = plural(most, "thread") if least == most else f"{least} to {most} threads"
            self._changed(f"{plural(len(self._threads), 'worker')} × {each}")

    def _is_silent(self, now: float, fault: Exception) -> None:
        self._silent_since = self._silent_since or now
        logger.debug("The scheduler doesn't answer: {}", redact(fault) or type(fault).__name__)
        if time.monotonic() - self._silent_since >= min(SILENCE_S, self._patience_s):
            raise ClusterError(
                f"The scheduler of the Dask cluster doesn't answer any more ({redact(fault) or type(fault).__name__}).",
                "What is finished is kept.",
                "Run the same command again.",
            ) from fault
