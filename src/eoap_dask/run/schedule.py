"""Which unit is next: in the order given, each after those that it needs, without those that are finished already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from eoap_dask.render.identity import hash_of
from eoap_dask.run.plan import UnitPlan
from eoap_dask.run.unit import Failure

Units = Iterable[UnitPlan | None]
"""Units of a run, perhaps without a known end; None where there is none at the moment, and it is to be asked again."""


class Schedule:
    """Hands out units. One thread at a time uses it."""

    def __init__(
        self,
        units: Units,
        take_over: Callable[[UnitPlan], Mapping[str, Any] | None],  # the item of a unit that is finished already
    ) -> None:
        self._units: Iterator[UnitPlan | None] = iter(units)
        self._take_over = take_over
        self._waiting: deque[UnitPlan] = deque()
        self._size: Callable[[Sequence[UnitPlan]], Sequence[UnitPlan]] = lambda units: units
        self._seen: dict[str, str] = {}
        self._failed: set[str] = set()
        self._unfinished: set[str] = set()
        self._is_drawn = False
        self.kept: dict[str, dict[str, Any]] = {}
        """Items of the units that were finished already, by key."""
        self.failures: list[Failure] = []
        """Units that can't be made because one that they need failed; whoever records them takes them out."""
        self.digests: dict[str, str] = {}
        """Digest of each unit whose needs are known, by key."""
        self.blocks = 0
        """Blocks of all units so far that aren't finished already."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all units so far, in their order."""
        return tuple(self._seen)

    @property
    def waiting(self) -> tuple[UnitPlan, ...]:
        """Units that are known and haven't been handed out."""
        return tuple(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether no unit will come any more, unless one is put back."""
        return self._is_drawn and not self._waiting

    def look_ahead(self) -> None:
        """Take over all units that can be: for a whole plan, so that it is known how much is left."""
        while self._draw():
            pass
        before = -1
        while before != len(self.kept):
            before = len(self.kept)
            for planned in list(self._waiting):
                if self._ready(planned) is None and planned.unit.key in self.kept:
                    self._waiting = deque(one for one in self._waiting if one.unit.key != planned.unit.key)

    def resize(self, size: Callable[[Sequence[UnitPlan]], Sequence[UnitPlan]]) -> None:
        """Give all units that wait, and those to come, sizes that suit a cluster."""
        self._size = size
        self._waiting = deque(size(tuple(self._waiting)))
        self.blocks = sum(one.work.tasks for one in self._waiting)

    def next(self) -> UnitPlan | None:
        """Return a unit that can be done now; None where there is none, at the moment or any more."""
        while True:
            for _ in range(len(self._waiting)):
                planned = self._waiting.popleft()
                if any(key in self._failed for key in planned.unit.needs):
                    self._lose(planned)
                elif (ready := self._ready(planned)) is not None:
                    return ready
                elif planned.unit.key not in self.kept:
                    self._waiting.append(planned)  # all turn once, so that their order stays
            if not self._draw():
                return None

    def put_back(self, planned: UnitPlan) -> None:
        """Hand out a unit again, before all others."""
        self._waiting.appendleft(planned)

    def finished(self, key: str, item: Mapping[str, Any]) -> None:
        """Note that a unit is finished: others may need it."""
        self._seen[key] = content_of(item)

    def failed(self, key: str) -> None:
        """Note that a unit has failed."""
        self._failed.add(key)

    def _draw(self) -> bool:
        """Put the next unit among those that wait; False where there is none."""
        if self._is_drawn:
            return False
        try:
            planned = next(self._units)
        except StopIteration:
            self._is_drawn = True
            return False
        if planned is None:
            return False
        key = planned.unit.key
        unknown = [one for one in planned.unit.needs if one not in self._seen]
        if key in self._seen or unknown:
            raise ValueError(f"{key} came twice, or before {unknown}, which it needs.")
        self._seen[key] = ""
        (planned,) = self._size((planned,))
        self.blocks += planned.work.tasks
        self._waiting.append(planned)
        return True

    def _ready(self, planned: UnitPlan) -> UnitPlan | None:
        """Return a unit with its digest, if it can be done and wasn't finished before."""
        needs = planned.unit.needs
        if planned.unit.key in self.kept:
            return None
        if not all(self._seen[key] for key in needs):
            return None
        if needs:
            planned = planned.with_needs({key: self._seen[key] for key in needs})
        self.digests[planned.unit.key] = planned.digest
        item = None if planned.digest in self._unfinished else self._take_over(planned)
        if item is None:
            self._unfinished.add(planned.digest)
            return planned
        self.kept[planned.unit.key] = dict(item)
        self.finished(planned.unit.key, item)
        self.blocks -= planned.work.tasks
        return None

    def _lose(self, planned: UnitPlan) -> None:
        key = planned.unit.key
        lost = next(one for one in planned.unit.needs if one in self._failed)
        self._failed.add(key)
        self.blocks -= planned.work.tasks
        self.failures.append(Failure(key, f"It needs {lost}, which failed."))


def content_of(item: Mapping[str, Any]) -> str:
    """Return what identifies the content of a unit, from the checksums in its item."""
    assets = {key: asset.get("file:checksum") for key, asset in item["assets"].items()}
    outputs = [[link["href"], link.get("file:checksum")] for link in item.get("links", ()) if link.get("rel") == "item"]
    return hash_of([item["id"], assets, outputs])
