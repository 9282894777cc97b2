"""Items that contradict themselves: the headers of their files are looked at before a scene may count as outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from loguru import logger
from shapely import box

from eoap_dask.geo.crs import crs_name, project_bounds, transformer
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.item import footprint
from eoap_dask.render.reading import contradictions_of
from eoap_dask.render.stack import pixel_side
from eoap_dask.scenes.model import Contradictions, Scene, Source, corrected, footprint_touches, source_bounds
from eoap_dask.text import plural

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.readers.reader import Reader

INSIDE = 0.999
"""Share of an item's own geometry that its grid must hold: rounded coordinates and slanted edges take some."""

_MARGIN = 0.01
"""Part of a grid's side by which a geometry may lie beyond it."""


def settle(
    items: Iterable[Mapping[str, Any]], scenes: Sequence[Scene], reader: Reader, geobox: GeoBox | None = None
) -> tuple[tuple[Scene, ...], Contradictions]:
    """Return scenes on the grids of their files, where an item contradicts itself, and what was put right.

    An item does so where its geometry lies elsewhere than its grid, or one of its assets elsewhere than the others. How
    exact a geometry is nobody knows: where it says, or leaves open, that a scene lies over `geobox`, and its grid that
    it doesn't, its files are looked at however close the two are. Only the headers of such items are read; files that
    can't be read are left to the work.
    """
    told = {str(item.get("id")): footprint(item) for item in items}
    odd = [*_apart(scenes), *_elsewhere(told, scenes), *([] if geobox is None else _hidden(told, scenes, geobox))]
    faults = contradictions_of(reader, dict.fromkeys(odd))
    found = tuple(fault.found[0] for fault in faults)
    if found:
        named = list(dict.fromkeys(item for item, *_ in found))
        shown = ", ".join(named[:3]) + (" …" if len(named) > 3 else "")
        logger.warning(
            "The geometry of {} lies elsewhere than the grid that it tells: {}. {} put right by the files.",
            plural(len(named), "item"),
            shown,
            f"{plural(len(found), 'asset')} {'is' if len(found) == 1 else 'are'}",
        )
    return tuple(corrected(scene, found) for scene in scenes), found


def _apart(scenes: Sequence[Scene]) -> list[Scene]:
    """Return the scenes one of whose assets doesn't cover the ground of the first, within a pixel."""
    return [
        s for s in scenes if any(_is_apart(s.bands[0], one) for one in (*s.bands[1:], *([s.mask] if s.mask else [])))
    ]


def _is_apart(one: Source, other: Source) -> bool:
    if one.crs != other.crs:
        return True
    within = max(pixel_side(one), pixel_side(other))
    return any(abs(a - b) > within for a, b in zip(source_bounds(one), source_bounds(other), strict=True))


def _hidden(told: Mapping[str, shapely.Geometry | None], scenes: Sequence[Scene], geobox: GeoBox) -> Iterator[Scene]:
    """Yield the scenes whose grid lies beside a grid over which their items' own geometry may lie."""
    name, bounds = crs_name(geobox), grid_bounds(geobox)
    for scene in scenes:
        source, shape = scene.bands[0], told.get(scene.id)
        if footprint_touches(source, name, bounds):
            continue
        wanted = project_bounds(bounds, name, source.crs)
        if shape is None or wanted is None or shapely.intersects(_projected([shape], source.crs)[0], box(*wanted)):
            yield scene


def _projected(shapes: Sequence[shapely.Geometry], crs: str) -> Any:
    """Return shapes in degrees, as an array, in another CRS; coordinates that have no place there are infinite."""
    project = transformer("EPSG:4326", crs)
    return shapely.transform(
        np.array(shapes, object), lambda xy: np.column_stack(project.transform(xy[:, 0], xy[:, 1]))
    )


def _elsewhere(told: Mapping[str, shapely.Geometry | None], scenes: Sequence[Scene]) -> list[Scene]:
    """Return the scenes whose items' own geometry lies elsewhere than their grid; those without one are left out."""
    found: list[Scene] = []
    by_crs: dict[str, list[tuple[Scene, shapely.Geometry]]] = {}
    for scene in scenes:
        place = told.get(scene.id)
        if place is not None and place.area:
            by_crs.setdefault(scene.bands[0].crs, []).append((scene, place))
    for crs, group in by_crs.items():  # each CRS at once: there may be thousands of items
        placed = _projected([place for _, place in group], crs)
        bounds = np.array([source_bounds(scene.bands[0]) for scene, _ in group])
        margin = _MARGIN * np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
        grids = shapely.box(*(bounds + margin[:, None] * (-1, -1, 1, 1)).T)
        edges = shapely.bounds(placed)
        is_finite = np.isfinite(edges).all(axis=1)
        inside = is_finite & shapely.covers(grids, shapely.box(*np.where(is_finite[:, None], edges, 0).T))
        for number in np.flatnonzero(~inside):
            shape = placed[number]
            if is_finite[number]:
                shape = shapely.make_valid(shape)
                if shapely.intersection(shape, grids[number]).area >= INSIDE * shape.area:
                    continue
            found.append(group[number][0])
    return found
