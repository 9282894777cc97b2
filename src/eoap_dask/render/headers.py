"""Items that contradict themselves: the headers of their files are looked at before a scene may count as outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import shapely.geometry
from loguru import logger

from eoap_dask.geo.crs import transformer
from eoap_dask.render.reading import contradictions_of
from eoap_dask.scenes.model import Contradictions, Scene, Source, corrected, source_bounds
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.readers.reader import Reader

INSIDE = 0.9
"""Share of an item's own geometry that its grid must hold: rounded coordinates and slanted edges take some."""

_MARGIN = 0.01
"""Part of a grid's side by which a geometry may lie beyond it."""


def settle(
    items: Iterable[Mapping[str, Any]], scenes: Sequence[Scene], reader: Reader
) -> tuple[tuple[Scene, ...], Contradictions]:
    """Return scenes on the grids of their files, where an item's geometry lies elsewhere than the grid that it tells.

    Only the headers of such items are read; those that can't be are left to the work. What was corrected comes beside
    the scenes, as in `ContradictionError.found`.
    """
    geometries = {str(item.get("id")): item for item in items}
    odd = [scene for scene in scenes if _contradicts(geometries.get(scene.id, {}), scene.bands[0])]
    faults = contradictions_of(reader, odd)
    if odd:
        named = ", ".join(scene.id for scene in odd[:3]) + (" …" if len(odd) > 3 else "")
        logger.warning(
            "The geometry of {} lies elsewhere than the grid that it tells: {}. {} by the files.",
            plural(len(odd), "item"),
            named,
            f"{plural(len(faults), 'asset')} {'is' if len(faults) == 1 else 'are'} put right",
        )
    found = tuple(fault.found[0] for fault in faults)
    return tuple(corrected(scene, found) for scene in scenes), found


def _contradicts(item: Mapping[str, Any], source: Source) -> bool:
    """Tell whether an item's own geometry lies elsewhere than its grid; not where it has none that can be used."""
    told = _geometry(item)
    if told is None:
        return False
    project = transformer("EPSG:4326", source.crs)
    placed = shapely.transform(told, lambda xy: np.column_stack(project.transform(xy[:, 0], xy[:, 1])))
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        return True
    left, bottom, right, top = source_bounds(source)
    margin = _MARGIN * max(right - left, top - bottom)
    grid = shapely.box(left - margin, bottom - margin, right + margin, top + margin)
    if grid.covers(shapely.box(*placed.bounds)):
        return False
    return bool(shapely.make_valid(placed).intersection(grid).area < INSIDE * placed.area)


def _geometry(item: Mapping[str, Any]) -> shapely.Geometry | None:
    """Return an item's polygon, or else its bbox; None for those across the antimeridian, which have two sides."""
    try:
        geometry = item.get("geometry") or {}
        found: Any = shapely.geometry.shape(geometry) if geometry.get("type") in ("Polygon", "MultiPolygon") else None
        if found is None:
            west, south, east, north = (float(n) for n in item["bbox"])
            found = shapely.box(west, south, east, north) if west <= east else None
    except (TypeError, ValueError, LookupError, AttributeError, shapely.errors.ShapelyError):
        return None
    if found is None or found.is_empty or found.bounds[2] - found.bounds[0] > 180:
        return None
    return found
