"""Which task is next, and which worker had best do it.

Tasks come from one unit after the other. Where those of a unit need much of the same (`Work.is_local`), a unit keeps to
a worker: there is one for each worker side by side, and each worker does a part of the whole, so that its next unit
lies beside what it did before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from eoap_dask.run.plan import UnitPlan
    from eoap_dask.run.schedule import Schedule
    from eoap_dask.run.work import Work

AT_HOME = 2
"""Tasks per thread that a worker is given of its unit. Dask holds what is meant for one worker back from idle ones."""


class Begun(Protocol):
    """A unit that was begun."""

    plan: UnitPlan
    work: Work
    """The present round."""
    home: str
    """Address of the worker that had best do all of it; empty where any may."""


class Workers(Protocol):
    """The workers of a cluster, as far as is known."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all."""
        ...

    def threads(self, address: str) -> int:
        """Return how many tasks a worker runs at once; 0 for one that isn't there."""
        ...


U = TypeVar("U", bound=Begun)


class Feed(Generic[U]):
    """Hands out tasks. One thread at a time uses it."""

    def __init__(
        self,
        schedule: Schedule,
        workers: Workers,
        begin: Callable[[int], U | None],  # a unit, one from a place of the schedule on where there is any
        is_open: Callable[[U], bool],  # whether a unit is under way still
    ) -> None:
        self._schedule, self._workers, self._begin, self._is_open = schedule, workers, begin, is_open
        self._side_by_side: deque[tuple[U, Iterator[int]]] = deque()
        self._rounds: deque[U] = deque()
        self._reached: dict[str, int] = {}  # by worker: the place of the unit beside its last one

    def add_round(self, unit: U) -> None:
        """Let a unit that is under way have another round of tasks, before others are begun."""
        self._rounds.append(unit)

    def next(self) -> tuple[U, int] | None:
        """Return a unit and the number of a task; None where there is none, at the moment or any more."""
        while True:
            abreast = len(self._workers.addresses) if any(one.home for one, _ in self._side_by_side) else 1
            if len(self._side_by_side) >= abreast and (found := self._next_in_turn()) is not None:
                return found
            unit = self._rounds.popleft() if self._rounds else self._begin_next()
            if unit is None:
                return self._next_in_turn()
            self._side_by_side.append((unit, iter(range(unit.work.tasks))))

    def has_room_at_home(self, unit: U, running: int) -> bool:
        """Tell whether the worker of a unit, of which so many tasks are under way, had best do one more."""
        return bool(unit.home) and running < AT_HOME * self._workers.threads(unit.home)

    def _begin_next(self) -> U | None:
        """Begin a unit, for a worker that has none under way."""
        workers, home, near = self._workers.addresses, "", 0
        if self._reached and workers:
            busy = {one.home for one, _ in self._side_by_side}
            home = next((one for one in workers if one not in busy), workers[0])
            near = self._reached.get(home, len(self._schedule) * workers.index(home) // len(workers))
        unit = self._begin(near)
        if unit is not None and unit.work.is_local and workers:
            unit.home = home or workers[0]
            self._reached[unit.home] = self._schedule.number(unit.plan.unit.key) + 1
        return unit

    def _next_in_turn(self) -> tuple[U, int] | None:
        while self._side_by_side:
            unit, numbers = self._side_by_side.popleft()
            if self._is_open(unit) and (number := next(numbers, None)) is not None:
                self._side_by_side.append((unit, numbers))
                return unit, number
        return None
