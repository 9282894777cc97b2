"""Two scenes that are to be compared: whether they can be, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import shapely

from eoap_dask.errors import NothingFoundError, UsageError
from eoap_dask.geo.crs import project_bounds
from eoap_dask.items.item import instant
from eoap_dask.scenes.model import Pass, source_bounds
from eoap_dask.scenes.sensor import sensor_for
from eoap_dask.text import option

if TYPE_CHECKING:
    from eoap_dask.items.itemset import ItemSet


def check_found(before: ItemSet, after: ItemSet, collection: str = "sentinel-2-l2a", *, force: bool = False) -> None:
    """Refuse two sets of items, each of one pass, that can't be compared; `NothingFoundError` for an empty one."""
    for items, when in ((before, "before"), (after, "after")):
        if not len(items):
            raise NothingFoundError(
                f"There is no item of the scene {when} the fire.",
                "Expected the items of one pass.",
                "Try other dates, or name the item.",
            )
    check_pair(before.features[0], after.features[0], collection, force=force)


def check_pair(
    before: Mapping[str, Any], after: Mapping[str, Any], collection: str = "sentinel-2-l2a", *, force: bool = False
) -> None:
    """Refuse two items that can't be compared; `collection` is that of an item that doesn't name its own."""
    if before["id"] == after["id"]:
        raise UsageError(
            f"The item {before['id']!r} is named as the scene before the fire and as that after it.",
            "Expected two scenes.",
            "Name another item for one of them.",
        )
    if instant(before) >= instant(after):
        raise UsageError(
            f"The scene before the fire, {before['id']!r} of {instant(before):%Y-%m-%d %H:%M}, isn't older than "
            f"the one after it, {after['id']!r} of {instant(after):%Y-%m-%d %H:%M}.",
            "Expected them in order of time.",
            "Swap the two, perhaps.",
        )
    sensors = [_sensor_of(item, collection) for item in (before, after)]
    if sensors[0] != sensors[1] and not force:
        raise UsageError(
            f"The scenes are of different sensors: {sensors[0]} and {sensors[1]}.",
            "Expected the same, because the indices of two sensors differ where nothing burned.",
            f"Try {option('force', True)}, if that is meant.",
        )


def _sensor_of(item: Mapping[str, Any], collection: str) -> str:
    instruments = item["properties"].get("instruments")
    named = " ".join(sorted(map(str, instruments))) if isinstance(instruments, list) and instruments else "msi"
    return f"{sensor_for(str(item.get('collection') or collection)).id} {named}".lower()


def common_ground(passes: Sequence[Pass], crs: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top of what two passes share, in a CRS.

    Raises `UsageError` when they share nothing, or lie across an edge of the CRS.
    """
    boxes: list[shapely.Geometry] = []
    for one in passes:
        bounds = [project_bounds(source_bounds(s.bands[0]), s.bands[0].crs, crs) for s in one.scenes]
        known = [b for b in bounds if b is not None]
        if len(known) < len(bounds):
            raise UsageError(
                f"The scenes of {one.scenes[0].id} can't be placed in {crs}.",
                "Expected a CRS without an edge there.",
                f"Try another {option('crs')}, or give an {option('aoi')}.",
            )
        boxes.append(shapely.box(*shapely.total_bounds([shapely.box(*b) for b in known])))
    shared = shapely.intersection(*boxes)
    if shared.is_empty or not shared.area:
        raise UsageError(
            f"The scenes {' and '.join(one.scenes[0].id for one in passes)} share no ground.",
            "Expected scenes that overlap.",
            "Name items of one tile, or of neighbours.",
        )
    left, bottom, right, top = shared.bounds
    return left, bottom, right, top
