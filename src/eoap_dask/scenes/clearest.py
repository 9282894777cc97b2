"""The clearest view of an area before and after a date, chosen from metadata alone."""

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
from eoap_dask.scenes.parse import pass_key, seen_once

_Array = np.ndarray[Any, np.dtype[np.float64]]
# a cover that isn't known counts as the worst
_UNKNOWN_PCT = 100.0


@dataclass(frozen=True)
class DayWindow:
    """The days around a date in which a view of an area is looked for."""

    day: date
    """The date that is wanted."""
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
    """One pass of the satellite that was chosen, and why."""

    items: tuple[Item, ...]
    """Its items that show something of the area, sorted by id."""
    pass_key: str
    """As `scenes.pass_key` gives it."""
    datetime: datetime
    """Of its first item, in UTC."""
    covered_pct: float
    """How much of the area lies within its footprints, in percent."""
    cloud_cover_pct: float | None
    """`eo:cloud_cover` of its items, weighted by how much of the area each covers; None if one doesn't tell."""
    why: str
    """What was chosen from what, as a sentence."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items."""
        return tuple(item["id"] for item in self.items)


def clearest_pass(items: Sequence[Item], aoi: Aoi, window: DayWindow, when: str = "") -> Choice:
    """Choose the clearest pass over an area in a window, as `clearest_pair` does.

    Parameters
    ----------
    items
        STAC items.
    aoi : Aoi
    window : DayWindow
    when
        What the window is, for the message when it is empty.

    Returns
    -------
    Choice

    Raises
    ------
    NothingFoundError
        When the window has no item over the area.
    """
    area = _equal_area(aoi.geometry)
    passes: dict[str, list[tuple[Item, BaseGeometry]]] = {}
    for item in seen_once(items):
        shown = footprint(item)
        part = None if shown is None else _part(area, shown)
        if part is not None and part.area > 0:
            passes.setdefault(pass_key(item), []).append((item, part))
    # a pass is in the window as a whole, also where midnight came between its scenes
    found = [
        _choice(key, parts, area.area)
        for key, parts in passes.items()
        if min(instant(item) for item, _ in parts) in window
    ]
    if not found:
        raise NothingFoundError(
            f"There is no scene over the area{f' in the window {when}' if when else ''}, {window}.",
            "Expected at least one.",
            "Try a larger --window-days, another date, or a higher --max-cloud-cover.",
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
    # what is whole but for the error of its sum is whole
    return (-math.floor(choice.covered_pct + 1e-6), cover, away, choice.pass_key, choice.ids)


def _sentence(choice: Choice, day: date, passes: int) -> str:
    names = ", ".join(choice.ids[:3]) + (", …" if len(choice.ids) > 3 else "")
    cover = "cloud cover unknown" if choice.cloud_cover_pct is None else f"{choice.cloud_cover_pct:.3g} % cloud"
    away = (choice.datetime.date() - day).days
    apart = f"{abs(away)} day{'s' if abs(away) != 1 else ''} {'after' if away > 0 else 'before'} {day}"
    among = "the only pass there is" if passes == 1 else f"the clearest of {passes} passes"
    covered = math.floor(choice.covered_pct + 1e-6) if choice.covered_pct >= 1 else float(f"{choice.covered_pct:.1g}")
    return (
        f"{names} of {choice.datetime:%Y-%m-%d %H:%M} UTC, {apart if away else 'on the day'}: "
        f"covers {covered:g} % of the area, {cover}; {among}."
    )


def _equal_area(geometry: BaseGeometry) -> BaseGeometry:
    """Return a shape in degrees with latitudes as sines, in which areas are those on Earth (Lambert's cylinder)."""

    def move(coordinates: _Array) -> _Array:
        sines = np.sin(np.radians(np.clip(coordinates[:, 1], -90, 90)))
        return np.column_stack([coordinates[:, 0], np.degrees(sines)])

    return shapely.transform(shapely.force_2d(geometry), move)


def _part(area: BaseGeometry, shown: BaseGeometry) -> BaseGeometry:
    """Return what of the area lies within a footprint, on whichever side of the antimeridian that is written."""
    moved = [
        shapely.transform(_equal_area(shown), lambda xy, by=by: xy + np.array([by, 0.0])) for by in (0.0, 360.0, -360.0)
    ]
    return shapely.union_all([area.intersection(one) for one in moved])
