"""Which unit is next, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from eoap_dask.run.plan import UnitPlan
from eoap_dask.run.schedule import DRAWN_AT_ONCE, Schedule
from eoap_dask.run.unit import Unit

WHEN = datetime(2021, 7, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Nothing:
    """A work of one task."""

    tasks: int = 1
    needs: tuple[str, ...] = field(default=())

    def identity(self) -> dict[str, Any]:
        return {"params": 1}


def unit(key: str, *needs: str) -> UnitPlan:
    return UnitPlan.of(Unit(key, key, WHEN, WHEN, needs), Nothing())  # type: ignore[arg-type]


def item(key: str, content: str = "1") -> dict[str, Any]:
    return {"id": key, "assets": {"data": {"file:checksum": content}}}


def nothing_kept(_: UnitPlan) -> None:
    return None


def drain(schedule: Schedule) -> list[str]:
    """Do all units, each as soon as it comes."""
    done = []
    while (planned := schedule.next()) is not None:
        done.append(planned.unit.key)
        schedule.finished(planned.unit.key, item(planned.unit.key))
    return done


def test_a_unit_beside_another_one() -> None:
    """Two workers, each with a part of the whole; whoever is done first goes on with what the other left."""
    schedule = Schedule([unit(key) for key in "abcdef"], nothing_kept)
    schedule.look_ahead()
    taken = [schedule.next(near) for near in (0, 3, 1, 4, 5, 6)]
    assert [one.unit.key for one in taken if one is not None] == ["a", "d", "b", "e", "f", "c"]
    assert (schedule.number("a"), schedule.number("f")) == (0, 5)
    assert schedule.next() is None


def test_units_come_in_their_order_after_what_they_need() -> None:
    schedule = Schedule([unit("a"), unit("b"), unit("c", "b"), unit("d"), unit("e", "a", "c")], nothing_kept)
    first = schedule.next()
    assert first is not None
    assert first.unit.key == "a"
    assert [one.unit.key for one in iter(schedule.next, None)] == ["b", "d"]
    assert not schedule.is_over
    schedule.finished("b", item("b"))
    schedule.finished("a", item("a"))
    third = schedule.next()
    assert third is not None
    assert third.unit.key == "c"
    assert third.digest
    assert schedule.next() is None
    schedule.finished("c", item("c"))
    assert drain(schedule) == ["e"]
    assert schedule.is_over
    assert schedule.blocks == 5


def test_a_failure_takes_what_needs_it_along() -> None:
    schedule = Schedule([unit("a"), unit("b", "a"), unit("c", "b"), unit("d")], nothing_kept)
    assert schedule.next() is not None
    assert drain(schedule) == ["d"]
    schedule.failed("a")
    assert [(f.unit, f.reason) for f in schedule.failures] == [
        ("b", "It needs a, which failed."),
        ("c", "It needs b, which failed."),
    ]
    assert schedule.is_over
    assert schedule.blocks == 2


def test_what_is_finished_is_taken_over_and_frees_others() -> None:
    kept = {"a", "b"}
    schedule = Schedule(
        [unit("a"), unit("b", "a"), unit("c", "b"), unit("d", "c")],
        lambda planned: item(planned.unit.key) if planned.unit.key in kept else None,
    )
    schedule.look_ahead()
    assert list(schedule.kept) == ["a", "b"]
    assert [one.unit.key for one in schedule.waiting] == ["c", "d"]
    assert schedule.blocks == 2
    assert drain(schedule) == ["c", "d"]


def test_a_unit_that_is_put_back_comes_first_and_isnt_checked_again() -> None:
    asked: list[str] = []

    def ask(planned: UnitPlan) -> None:
        asked.append(planned.unit.key)

    schedule = Schedule([unit("a"), unit("b")], ask)
    first = schedule.next()
    assert first is not None
    schedule.put_back(first)
    assert schedule.again() is first
    schedule.put_back(first)
    assert drain(schedule) == ["a", "b"]
    assert asked == ["a", "b"]


def test_an_endless_stream_is_drawn_in_pieces() -> None:
    drawn = 0

    def endless() -> Iterator[UnitPlan]:
        nonlocal drawn
        yield unit("base")
        while True:
            drawn += 1
            yield unit(f"unit-{drawn}", "base")

    schedule = Schedule(endless(), nothing_kept)
    assert schedule.next() is not None
    assert schedule.next() is None
    assert drawn <= DRAWN_AT_ONCE


def test_many_units_that_wait_cost_little_each() -> None:
    """Ten times as many may take some twenty times as long, not a hundred times."""

    def seconds(count: int) -> float:
        schedule = Schedule([unit("base"), *(unit(f"unit-{n}", "base") for n in range(count))], nothing_kept)
        begun = time.perf_counter()
        schedule.look_ahead()
        assert len(drain(schedule)) == count + 1
        return time.perf_counter() - begun

    small = min(seconds(300) for _ in range(3))
    assert seconds(3000) < 30 * small


@pytest.mark.parametrize("units", [[unit("a"), unit("a")], [unit("b", "a"), unit("a")]])
def test_a_unit_comes_once_and_after_what_it_needs(units: list[UnitPlan]) -> None:
    schedule = Schedule(units, nothing_kept)
    with pytest.raises(ValueError, match="came twice, or before"):
        schedule.look_ahead()


def test_none_means_not_now() -> None:
    def stream() -> Iterator[UnitPlan | None]:
        yield unit("a")
        yield None
        yield unit("b")

    schedule = Schedule(stream(), nothing_kept)
    assert schedule.next() is not None
    assert schedule.next() is None
    assert not schedule.is_over
    assert drain(schedule) == ["b"]
    assert schedule.next() is None
    assert schedule.is_over
