"""The clearest pass over an area before or after a date, chosen from metadata alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from eoap_dask.errors import NothingFoundError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.items.item import Item, cloud_cover, footprint, instant
from eoap_dask.scenes.parse import pass_keys, seen_once
from eoap_dask.text import option, plural

_Array = np.ndarray[Any, np.dtype[np.float64]]
# an unknown cover counts as the worst
_UNKNOWN_PCT = 100.0


@dataclass(frozen=True)
class DayWindow:
    """The days around a date in which a view of an area is searched."""

    day: date
    """The wanted date."""
    first: date
    """First day, inclusive, in UTC."""
    last: date
    """Last day, inclusive, in UTC."""

    def __contains__(self, moment: datetime) -> bool:
        return self.first <= moment.date() <= self.last

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Choice:
    """A satellite pass that was chosen, and why."""

    items: tuple[Item, ...]
    """Its items over the area, sorted by id."""
    pass_key: str
    """As `scenes.told.pass_keys`."""
    datetime: datetime
    """Of its first item, in UTC."""
    covered_pct: float
    """Part of the area within its footprints, in percent."""
    cloud_cover_pct: float | None
    """`eo:cloud_cover` of its items, weighted by the area that each covers; None if one is unknown."""
    why: str
    """The choice and its alternatives, as a sentence."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items."""
        return tuple(item["id"] for item in self.items)


def clearest_pass(items: Sequence[Item], aoi: Aoi, window: DayWindow, when: str = "") -> Choice:
    """Choose the pass that covers most of the area, then the clearest, then the nearest to the window's date.

    `when` names the window in the `NothingFoundError` that is raised when it has no item over the area.
    """
    area = _equal_area(aoi.geometry)
    passes: dict[str, list[tuple[Item, BaseGeometry]]] = {}
    once = seen_once(items)
    for item, key in zip(once, pass_keys(once), strict=True):
        shown = footprint(item)
        part = None if shown is None else _part(area, shown)
        if part is not None and part.area > 0:
            passes.setdefault(key, []).append((item, part))
    # a pass is in the window as a whole, also where midnight falls between its scenes
    found = [
        _choice(key, parts, area.area)
        for key, parts in passes.items()
        if min(instant(item) for item, _ in parts) in window
    ]
    if not found:
        raise NothingFoundError(
            f"There is no scene over the area{f' in the window {when}' if when else ''}, {window}.",
            "Expected at least one.",
            f"Try a larger {option('window_days')}, another date, or a higher {option('max_cloud_cover')}.",
        )
    best = min(found, key=lambda choice: _rank(choice, window.day))
    return Choice(
        best.items,
        best.pass_key,
        best.datetime,
        best.covered_pct,
        best.cloud_cover_pct,
        _sentence(best, window.day, len(found)),
    )


def _choice(key: str, parts: Sequence[tuple[Item, BaseGeometry]], whole: float) -> Choice:
    parts = sorted(parts, key=lambda one: one[0]["id"])
    covers = [cloud_cover(item) for item, _ in parts]
    areas = [part.area for _, part in parts]
    known = [cover for cover in covers if cover is not None]
    cover = None
    if len(known) == len(covers):
        # rounded, so that the order of a sum decides nothing
        cover = round(math.fsum(c * a for c, a in zip(known, areas, strict=True)) / math.fsum(areas), 6)
    return Choice(
        tuple(item for item, _ in parts),
        key,
        min(instant(item) for item, _ in parts),
        min(100.0, 100 * shapely.union_all([part for _, part in parts]).area / whole),
        cover,
        "",
    )


def _rank(choice: Choice, day: date) -> tuple[int, float, int, str, tuple[str, ...]]:
    cover = _UNKNOWN_PCT if choice.cloud_cover_pct is None else choice.cloud_cover_pct
    away = abs((choice.datetime.date() - day).days)
    # 100 % less the error of a sum counts as 100 %
    return (-math.floor(choice.covered_pct + 1e-6), cover, away, choice.pass_key, choice.ids)


def _sentence(choice: Choice, day: date, passes: int) -> str:
    names = ", ".join(choice.ids[:3]) + (", …" if len(choice.ids) > 3 else "")
    cover = "cloud cover unknown" if choice.cloud_cover_pct is None else f"{choice.cloud_cover_pct:.3g} % cloud"
    away = (choice.datetime.date() - day).days
    apart = f"{plural(abs(away), 'day')} {'after' if away > 0 else 'before'} {day}"
    among = "the only pass" if passes == 1 else f"the clearest of {passes} passes"
    covered = math.floor(choice.covered_pct + 1e-6) if choice.covered_pct >= 1 else float(f"{choice.covered_pct:.1g}")
    return (
        f"{names} of {choice.datetime:%Y-%m-%d %H:%M} UTC, {apart if away else 'on the day'}: "
        f"covers {covered:g} % of the area, {cover}; {among}."
    )


def _equal_area(geometry: BaseGeometry) -> BaseGeometry:
    """Return a shape in degrees with latitudes as sines: Lambert's cylindrical equal-area projection."""

    def move(coordinates: _Array) -> _Array:
        sines = np.sin(np.radians(np.clip(coordinates[:, 1], -90, 90)))
        return np.column_stack([coordinates[:, 0], np.degrees(sines)])

    return shapely.transform(shapely.force_2d(geometry), move)


def _part(area: BaseGeometry, shown: BaseGeometry) -> BaseGeometry:
    """Return the part of the area within a footprint, on whichever side of the antimeridian that is written."""
    moved = [
        shapely.transform(_equal_area(shown), lambda xy, by=by: xy + np.array([by, 0.0])) for by in (0.0, 360.0, -360.0)
    ]
    return shapely.union_all([area.intersection(one) for one in moved])
