"""Units whose tasks share much keep to a worker, beside what it did before; and no worker waits for that."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from eoap_dask.run.engine import Engine, _Progress
from eoap_dask.run.plan import UnitPlan
from eoap_dask.run.schedule import Schedule
from eoap_dask.run.unit import Unit

WHEN = datetime(2021, 7, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Local:
    """A work of some tasks."""

    tasks: int
    is_local: bool = True
    needs: tuple[str, ...] = field(default=())

    def identity(self) -> dict[str, Any]:
        return {"params": 1}


class Sender(Engine):
    """An engine that begins units and sends nothing."""

    def __init__(self, works: list[Local], threads: dict[str, int]) -> None:
        plans = [UnitPlan.of(Unit(f"u{n}", "", WHEN, WHEN), work) for n, work in enumerate(works)]  # type: ignore[arg-type]
        self._schedule = Schedule(plans, lambda _: None)
        self._schedule.look_ahead()
        self._watch = SimpleNamespace(  # type: ignore[assignment]
            addresses=tuple(threads), threads=lambda address: threads.get(address, 0)
        )
        self._control = SimpleNamespace(is_draining=False)  # type: ignore[assignment]
        self._give_up_after = None
        self._feeding, self._rounds, self._reached = deque(), deque(), {}
        self._open, self._running = {}, {}

    def _begin(self, planned: UnitPlan) -> _Progress:
        nothing: Any = None
        progress = _Progress(planned, nothing, nothing, nothing, planned.work, nothing, planned.work.tasks)
        self._open[planned.unit.key] = progress
        return progress

    def tasks(self) -> list[tuple[str, int, str]]:
        """Unit, number and home of every task, in their order."""
        return [(one.plan.unit.key, number, one.home) for one, number in iter(self._next_task, None)]


def test_each_worker_does_a_part_of_the_whole() -> None:
    sent = Sender([Local(2)] * 6, {"a": 1, "b": 1}).tasks()
    assert sorted(sent) == sorted({(f"u{n}", k, home) for n, home in enumerate("aaabbb") for k in (0, 1)})
    homes = [home for _, _, home in sent]
    assert all(set(homes[n : n + 2]) == {"a", "b"} for n in range(0, 12, 2))  # neither waits for the other
    for home in "ab":
        units = [unit for unit, _, one in sent if one == home]
        assert units == sorted(units)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_all_is_done_whatever_there_is_of_workers(workers: int) -> None:
    works = [Local(n % 4) for n in range(13)]
    sent = Sender(works, {f"w{n}": 2 for n in range(workers)}).tasks()
    assert Counter(unit for unit, _, _ in sent) == {f"u{n}": w.tasks for n, w in enumerate(works) if w.tasks}
    assert len({(unit, number) for unit, number, _ in sent}) == len(sent)
    assert len({unit: home for unit, _, home in sent}) == len({(unit, home) for unit, _, home in sent})


def test_others_come_one_after_the_other() -> None:
    sent = Sender([Local(3, is_local=False)] * 3, {"a": 1, "b": 1}).tasks()
    assert sent == [(f"u{n}", number, "") for n in range(3) for number in range(3)]


def test_a_lone_unit_is_not_for_one_worker_alone() -> None:
    """As many tasks as keep its worker busy go there, and others anywhere: Dask would hold them back for it."""
    engine = Sender([Local(9)], {"a": 2, "b": 2})
    progress = engine._next_task()[0]  # type: ignore[index]
    assert progress.home == "a"
    room = []
    for number in range(6):
        room.append(engine._has_room_at_home(progress))
        engine._running[number] = (progress, number, 0)  # type: ignore[index]
    assert room == [True, True, True, True, False, False]
    progress.home = "gone"
    assert not engine._has_room_at_home(progress)
