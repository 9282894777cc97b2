"""What a run came to, in lines and in JSON; items are written here by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.run.events import Event
from eoap_dask.run.result import Run
from eoap_dask.run.summary import UnitSummary, UnitTimes, few_seen, show_percent

NOON = datetime(2020, 10, 1, 12, tzinfo=UTC)


def item(key: str, share: float | None, *sizes: int, **properties: Any) -> dict[str, Any]:
    told = {"eoap:valid_percent": share} if share is not None else {}
    assets = {f"image-{number}": {"href": "./x", "file:size": size} for number, size in enumerate(sizes)}
    return {"id": key, "properties": {"title": key, **told, **properties}, "assets": assets}


def figures(item: Any) -> dict[str, Any]:
    return {"burned_ha": 1234.56, "severity_ha": {"unburned": 10.0, "low_severity": 0.04}}


def test_a_line_for_each_unit_and_one_for_all() -> None:
    units = (item("a", 87.654, 2_000_000, 500_000, **{"eoap:passes": 7}), item("b", 100, 1_500_000))
    told = (UnitSummary.of(units[0], 12.34, figures), UnitSummary.of(units[1]))
    run = Run("bai", Path("out"), units, (), (), 20.0, (), told)
    assert run.summary().splitlines() == [
        "a: 7 passes, 87.7 % of the area seen, 2.5 MB, 12.3 s",
        "  burned: 1,234.6 ha",
        "  severity: unburned 10.0 ha, low severity 0.0 ha",
        "b: 100.0 % of the area seen, 1.5 MB, finished before",
        "2 units, 4.0 MB in out, 20.0 s",
    ]
    first, second = run.to_dict()["items"]
    assert {k: v for k, v in first.items() if k not in ("id", "assets")} == {
        "passes": 7,
        "seen_percent": 87.654,
        "bytes": 2_500_000,
        "seconds": 12.34,
        "burned_ha": 1234.56,
        "severity_ha": {"unburned": 10.0, "low_severity": 0.04},
    }
    assert (second["passes"], second["seconds"]) == (None, None)


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0.0 %"), (0.001, "0.1 %"), (50.04, "50.0 %"), (99.99, "99.9 %"), (100, "100.0 %")]
)
def test_a_share_is_never_rounded_to_nothing_or_all(share: float, shown: str) -> None:
    assert show_percent(share) == shown


@pytest.mark.parametrize(("share", "is_said"), [(None, False), (0, False), (0.5, True), (74.9, True), (75, False)])
def test_little_is_said(share: float | None, is_said: bool) -> None:
    sentences = few_seen([item("monthly-mosaic-2020-12", share)])
    assert len(sentences) == is_said  # a unit without any pixel has a sentence of its own
    for sentence in sentences:
        assert sentence.startswith(f"Only {show_percent(share or 0)} of the area of monthly-mosaic-2020-12 has data")
        assert "less than 75 %" in sentence


def test_little_of_many_is_said_once() -> None:
    units = [item(f"cell-{number}", share) for number, share in enumerate((90, 30, 74, 12.5, 60, 0, 3))]
    (sentence,) = few_seen(units)
    assert sentence.startswith(
        "5 of 7 units have data in less than 75 % of their area: cell-6 (3.0 %), cell-3 (12.5 %)"
    )
    assert "and 2 more. The rest" in sentence
    assert len(few_seen(units[:4])) == 3


def test_the_time_of_a_unit_is_that_from_its_first_task_to_its_item() -> None:
    heard: list[Event] = []
    times = UnitTimes(heard.append)
    events = [("unit-started", "a", 0), ("unit-started", "b", 1), ("unit-retried", "a", 3), ("unit-done", "a", 5.5)]
    for kind, unit, second in events:
        times(Event(kind, unit, time=NOON + timedelta(seconds=second)))  # type: ignore[arg-type]
    assert times.seconds == {"a": 5.5}
    assert len(heard) == 4
