"""Units whose tasks share much keep to a worker, beside what it did before; and no worker waits for that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from eoap_dask.run.feed import Feed
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


@dataclass
class Begun:
    """A unit that was begun."""

    plan: UnitPlan
    work: Any
    home: str = ""


@dataclass
class Workers:
    """Workers by their addresses."""

    known: dict[str, int]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self.known)

    def threads(self, address: str) -> int:
        return self.known.get(address, 0)


def feed(works: list[Local], threads: dict[str, int]) -> Feed[Begun]:
    """Return the tasks of some units, none of which is ever over."""
    plans = [UnitPlan.of(Unit(f"u{n}", "", WHEN, WHEN), work) for n, work in enumerate(works)]  # type: ignore[arg-type]
    schedule = Schedule(plans, lambda _: None)
    schedule.look_ahead()

    def begin(near: int) -> Begun | None:
        planned = schedule.next(near)
        return None if planned is None else Begun(planned, planned.work)

    return Feed(schedule, Workers(threads), begin, lambda _: True)


def tasks(works: list[Local], threads: dict[str, int]) -> list[tuple[str, int, str]]:
    """Return unit, number and home of every task, in their order."""
    return [(one.plan.unit.key, number, one.home) for one, number in iter(feed(works, threads).next, None)]


def test_each_worker_does_a_part_of_the_whole() -> None:
    sent = tasks([Local(2)] * 6, {"a": 1, "b": 1})
    assert sorted(sent) == sorted({(f"u{n}", k, home) for n, home in enumerate("aaabbb") for k in (0, 1)})
    homes = [home for _, _, home in sent]
    assert all(set(homes[n : n + 2]) == {"a", "b"} for n in range(0, 12, 2))  # neither waits for the other
    for home in "ab":
        units = [unit for unit, _, one in sent if one == home]
        assert units == sorted(units)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_all_is_done_whatever_there_is_of_workers(workers: int) -> None:
    works = [Local(n % 4) for n in range(13)]
    sent = tasks(works, {f"w{n}": 2 for n in range(workers)})
    assert Counter(unit for unit, _, _ in sent) == {f"u{n}": w.tasks for n, w in enumerate(works) if w.tasks}
    assert len({(unit, number) for unit, number, _ in sent}) == len(sent)
    assert len({unit: home for unit, _, home in sent}) == len({(unit, home) for unit, _, home in sent})


def test_others_come_one_after_the_other() -> None:
    sent = tasks([Local(3, is_local=False)] * 3, {"a": 1, "b": 1})
    assert sent == [(f"u{n}", number, "") for n in range(3) for number in range(3)]


def test_a_lone_unit_is_not_for_one_worker_alone() -> None:
    """As many tasks as keep its worker busy go there, and others anywhere: Dask would hold them back for it."""
    found = feed([Local(9)], {"a": 2, "b": 2})
    first = found.next()
    assert first is not None
    unit, _ = first
    assert unit.home == "a"
    assert [found.has_room_at_home(unit, running) for running in range(6)] == [True] * 4 + [False] * 2
    unit.home = "gone"
    assert not found.has_room_at_home(unit, 0)


def test_a_further_round_comes_before_other_units() -> None:
    found = feed([Local(2), Local(1)], {"a": 1})
    first = found.next()
    assert first is not None
    found.add_round(first[0])
    rest = [one.plan.unit.key for one, _ in iter(found.next, None)]
    assert rest == ["u0", "u0", "u0", "u1"]
