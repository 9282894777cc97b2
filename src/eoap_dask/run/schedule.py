"""Which unit is next: in the order given, each after those that it needs, without those that are finished already."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from eoap_dask.render.identity import hash_of
from eoap_dask.run.plan import UnitPlan
from eoap_dask.run.unit import Failure

Units = Iterable[UnitPlan | None]
"""Units of a run, perhaps without a known end; None where there is none at the moment, and it is to be asked again."""

DRAWN_AT_ONCE = 256
"""Units that are drawn for one that can be done now: a stream may be endless."""


class Schedule:
    """Hands out units. One thread at a time uses it."""

    def __init__(
        self,
        units: Units,
        take_over: Callable[[UnitPlan], Mapping[str, Any] | None],  # the item of a unit that is finished already
        only: Collection[str] | None = None,  # keys of the units that are made; others wait for another run
    ) -> None:
        self._only = only
        self._units: Iterator[UnitPlan | None] = iter(units)
        self._take_over = take_over
        self._size: Callable[[Sequence[UnitPlan]], Sequence[UnitPlan]] = lambda units: units
        self._numbers: dict[str, int] = {}
        self._contents: dict[str, str] = {}
        self._failed: set[str] = set()
        self._again: deque[UnitPlan] = deque()
        self._ready: list[tuple[int, UnitPlan]] = []  # sorted
        self._blocked: dict[str, UnitPlan] = {}
        self._unmet: dict[str, int] = {}
        self._dependents: dict[str, list[str]] = {}
        self._unfinished: set[str] = set()
        self._is_drawn = False
        self.kept: dict[str, dict[str, Any]] = {}
        """Items of the units that were finished already, by key."""
        self.left: list[str] = []
        """Keys of units that aren't finished, and aren't to be made."""
        self.failures: list[Failure] = []
        """Units that can't be made because one that they need failed; whoever records them takes them out."""
        self.digests: dict[str, str] = {}
        """Digest of each unit whose needs are known, by key."""
        self.blocks = 0
        """Blocks of all units so far that aren't finished already."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all units so far, in their order."""
        return tuple(self._numbers)

    @property
    def waiting(self) -> tuple[UnitPlan, ...]:
        """Units that are known and haven't been handed out, in their order."""
        waiting = [*(one for _, one in self._ready), *self._blocked.values()]
        return (*self._again, *sorted(waiting, key=lambda one: self._numbers[one.unit.key]))

    @property
    def is_over(self) -> bool:
        """Whether no unit will come any more, unless one is put back."""
        return self._is_drawn and not (self._again or self._ready or self._blocked)

    def look_ahead(self) -> None:
        """Take over all units that can be: for a whole plan, so that it is known how much is left."""
        while self._draw():
            pass
        left = []
        while self._ready:  # what is finished may make others ready
            ready, self._ready = self._ready, []
            left += [(n, found) for n, one in ready if (found := self._unless_finished(one)) is not None]
        self._ready = sorted(left, key=_number)

    def resize(self, size: Callable[[Sequence[UnitPlan]], Sequence[UnitPlan]]) -> None:
        """Give all units that wait, and those to come, sizes that suit a cluster."""
        self._size = size
        sized = {one.unit.key: one for one in size(self.waiting)}
        self._again = deque(sized[one.unit.key] for one in self._again)
        self._ready = [(number, sized[one.unit.key]) for number, one in self._ready]
        self._blocked = {key: sized[key] for key in self._blocked}
        self.blocks = sum(one.work.tasks for one in sized.values())

    def again(self) -> UnitPlan | None:
        """Return a unit that was put back; None where there is none."""
        return self._again.popleft() if self._again else None

    def __len__(self) -> int:
        """All units so far."""
        return len(self._numbers)

    def number(self, key: str) -> int:
        """Return the place of a unit among all of them, from 0."""
        return self._numbers[key]

    def next(self, near: int = 0) -> UnitPlan | None:
        """Return a unit that can be done now; None where there is none, at the moment or any more.

        It is the first one from the place `near` on, or else the first of all.
        """
        if (planned := self.again()) is not None:
            return planned
        for _ in range(DRAWN_AT_ONCE):
            while self._ready:
                place = bisect_left(self._ready, near, key=_number)
                found = self._unless_finished(self._ready.pop(place if place < len(self._ready) else 0)[1])
                if found is not None:
                    return found
            if not self._draw():
                break
        return None

    def put_back(self, planned: UnitPlan) -> None:
        """Hand out a unit again, before all others."""
        self._again.append(planned)

    def finished(self, key: str, item: Mapping[str, Any]) -> None:
        """Note that a unit is finished: others may need it."""
        self._contents[key] = content_of(item)
        for other in self._dependents.pop(key, ()):
            if other in self._blocked:
                self._unmet[other] -= 1
                if not self._unmet[other]:
                    self._make_ready(self._blocked.pop(other))

    def failed(self, key: str) -> None:
        """Note that a unit has failed, and with it those that need it."""
        self._failed.add(key)
        for other in self._dependents.pop(key, ()):
            if other in self._blocked:
                self._lose(self._blocked.pop(other), key)

    def _draw(self) -> bool:
        """Take the next unit; False where there is none."""
        if self._is_drawn:
            return False
        try:
            planned = next(self._units)
        except StopIteration:
            self._is_drawn = True
            return False
        if planned is None:
            return False
        key, needs = planned.unit.key, planned.unit.needs
        unknown = [one for one in needs if one not in self._numbers]
        if key in self._numbers or unknown:
            raise ValueError(f"{key} came twice, or before {unknown}, which it needs.")
        self._numbers[key] = len(self._numbers)
        (planned,) = self._size((planned,))
        self.blocks += planned.work.tasks
        if any(one in self.left for one in needs):
            self._leave(planned)
            return True
        lost = next((one for one in needs if one in self._failed), None)
        unmet = [one for one in needs if one not in self._contents]
        if lost is not None:
            self._lose(planned, lost)
        elif unmet:
            self._blocked[key], self._unmet[key] = planned, len(set(unmet))
            for one in set(unmet):
                self._dependents.setdefault(one, []).append(key)
        else:
            self._make_ready(planned)
        return True

    def _make_ready(self, planned: UnitPlan) -> None:
        if planned.unit.needs:
            planned = planned.with_needs({key: self._contents[key] for key in planned.unit.needs})
        self.digests[planned.unit.key] = planned.digest
        insort(self._ready, (self._numbers[planned.unit.key], planned), key=_number)

    def _unless_finished(self, planned: UnitPlan) -> UnitPlan | None:
        """Return a unit that has to be made; None where it was finished before, and is taken over."""
        key = planned.unit.key
        if key in self._unfinished:
            return planned
        item = self._take_over(planned)
        if item is None and self._only is not None and key not in self._only:
            self._leave(planned)
            return None
        if item is None:
            self._unfinished.add(key)
            return planned
        self.kept[key] = dict(item)
        self.blocks -= planned.work.tasks
        self.finished(key, item)
        return None

    def _leave(self, planned: UnitPlan) -> None:
        """Set a unit aside that isn't to be made, and with it those that need it."""
        key = planned.unit.key
        self.blocks -= planned.work.tasks
        self.left.append(key)
        for other in self._dependents.pop(key, ()):
            if other in self._blocked:
                self._leave(self._blocked.pop(other))

    def _lose(self, planned: UnitPlan, needed: str) -> None:
        key = planned.unit.key
        self.blocks -= planned.work.tasks
        self.failures.append(Failure(key, f"It needs {needed}, which failed."))
        self.failed(key)


def _number(ready: tuple[int, UnitPlan]) -> int:
    return ready[0]


def content_of(item: Mapping[str, Any]) -> str:
    """Return what identifies the content of a unit, from the checksums in its item."""
    assets = {key: asset.get("file:checksum") for key, asset in item["assets"].items()}
    outputs = [[link["href"], link.get("file:checksum")] for link in item.get("links", ()) if link.get("rel") == "item"]
    return hash_of([item["id"], assets, outputs])
