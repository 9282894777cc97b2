"""What a run came to, unit by unit: passes, share of the area that was seen, size, seconds, and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from eoap_dask.run.events import Event, Listener
from eoap_dask.run.product import OUTPUT_BYTES, VALID_PERCENT
from eoap_dask.text import few, figure_name, plural, show_bytes, show_figure

LEAST_SEEN_PERCENT = 75.0
"""Share of its area below which a unit is warned of."""

PASSES = "eoap:passes"
"""Item property: passes of satellites that it is made from."""

Figures = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Given an item, return an application's own figures: numbers, or numbers by name; ``…_ha`` are hectares."""


def no_figures(item: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001 - the signature of figures
    """Return nothing."""
    return {}


@dataclass(frozen=True)
class UnitSummary:
    """What became of a unit."""

    key: str
    passes: int | None
    seen_percent: float | None
    """Share of the area with data; None for a unit without images."""
    size: int
    """Bytes of its files."""
    seconds: float | None
    """From its first task to its item; None where an earlier run made it."""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, item: Mapping[str, Any], seconds: float | None = None, figures: Figures = no_figures) -> Self:
        """Return the summary of an item."""
        properties = item["properties"]
        size = sum(int(asset.get("file:size", 0)) for asset in item["assets"].values())
        size += int(properties.get(OUTPUT_BYTES, 0))
        return cls(
            item["id"], properties.get(PASSES), properties.get(VALID_PERCENT), size, seconds, dict(figures(item))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-like values."""
        return {
            "passes": self.passes,
            "seen_percent": self.seen_percent,
            "bytes": self.size,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            **self.figures,
        }

    def __str__(self) -> str:
        return self.line()

    def line(self, *, has_time: bool = True) -> str:
        """Return a line on it, and one for each figure; with or without the time that it took."""
        parts = [
            "" if self.passes is None else plural(self.passes, "pass", "passes"),
            "" if self.seen_percent is None else f"{show_percent(self.seen_percent)} of the area seen",
            show_bytes(self.size),
            "" if not has_time else "finished before" if self.seconds is None else f"{self.seconds:.1f} s",
        ]
        lines = [f"{self.key}: {', '.join(part for part in parts if part)}"]
        lines += [f"  {figure_name(name)}: {show_figure(name, value)}" for name, value in self.figures.items()]
        return "\n".join(lines)


def show_percent(share: float) -> str:
    """Return a share with one decimal; what isn't all of it isn't rounded to 100 %, nor what is something to 0 %."""
    return f"{share if share in (0, 100) else min(max(share, 0.1), 99.9):.1f} %"


def few_seen(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences on items of which little was seen, but something: one for each, or for all of many."""
    found = [
        (str(item["id"]), share)
        for item in items
        if (share := item["properties"].get(VALID_PERCENT)) is not None and 0 < share < LEAST_SEEN_PERCENT
    ]
    why = "The rest lies outside of the scenes, or wasn't seen clearly. Try other dates."
    if len(found) > _MOST_SENTENCES:
        shown = few([f"{key} ({show_percent(share)})" for key, share in sorted(found, key=lambda one: one[1])], 3)
        return [
            f"{len(found)} of {plural(len(items), 'unit')} have data in less than {LEAST_SEEN_PERCENT:g} % of their "
            f"area: {shown}. {why}"
        ]
    return [
        f"Only {show_percent(share)} of the area of {key} has data, less than {LEAST_SEEN_PERCENT:g} %. {why}"
        for key, share in found
    ]


_MOST_SENTENCES = 3


class UnitTimes:
    """Listens to a run and notes how long its units take, then passes the events on."""

    def __init__(self, also: Listener) -> None:
        self._also = also
        self._started: dict[str, datetime] = {}
        self.seconds: dict[str, float] = {}
        """By unit."""

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.kind == "unit-started":
            self._started.setdefault(event.unit, event.time)
        elif event.kind == "unit-done" and event.unit in self._started:
            self.seconds[event.unit] = (event.time - self._started[event.unit]).total_seconds()
        self._also(event)
