"""From fields to cells and chips: what will be made, before anything is searched."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from eoap_dask.applications.crop_chips.cells import Cell, Cells, Lattice, Listed
from eoap_dask.applications.crop_chips.choose import choose, ranks
from eoap_dask.applications.crop_chips.science import IGNORED, Labels
from eoap_dask.errors import GridError, UsageError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.cleaning import Tally
from eoap_dask.geo.crs import crs_name, parse_crs, transformer
from eoap_dask.geo.globe import past_180, polygons
from eoap_dask.geo.grid import utm_crs
from eoap_dask.geo.polygons import PolygonFile, Polygons, PolygonWords, representative_points
from eoap_dask.geo.window import Transform, Window, window_bounds
from eoap_dask.text import option, plain

if TYPE_CHECKING:
    from eoap_dask.applications.crop_chips.classes import ClassTable
    from eoap_dask.applications.crop_chips.parameters import CropChipsParams

DEGREES = "EPSG:4326"
_EDGE = 8
"""Points of each edge of a footprint."""


@dataclass(frozen=True)
class PlannedChip:
    """A chip that may be made."""

    name: str
    window: Window
    """In the grid of its cell."""
    footprint: shapely.Polygon
    """In degrees; across the antimeridian they continue past 180."""


@dataclass(frozen=True)
class PlannedCell:
    """A cell with chips."""

    cell: Cell
    fields: int
    """Fields in it."""
    geobox: GeoBox
    """Grid over all of its chips."""
    chips: tuple[PlannedChip, ...]

    @property
    def crs(self) -> str:
        """The grid's CRS, as a code where it has one."""
        return crs_name(self.geobox)

    def transform(self, chip: PlannedChip) -> Transform:
        """Return the affine of a chip."""
        return _transform(self.geobox, chip.window)


@dataclass(frozen=True)
class Layout:
    """All cells and chips of a file of fields."""

    cells: tuple[PlannedCell, ...]
    """Those with chips, by row and column."""
    fields: int
    """Fields in all."""
    few: int = 0
    """Cells with some fields, but too few."""
    without: tuple[str, ...] = ()
    """Names of cells with enough fields, none of which is of a class."""
    class_fields: Mapping[int, int] = field(default_factory=dict)
    """Fields of each class, in all; 0 are those of none."""
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Fields of each code that no row of the table is about, the most frequent first."""
    skipped: str = ""
    """What was left out of the file, in words."""

    @property
    def chips(self) -> Iterator[tuple[PlannedCell, PlannedChip]]:
        """All chips, and their cells."""
        return ((cell, chip) for cell in self.cells for chip in cell.chips)

    @cached_property
    def aoi(self) -> Aoi:
        """What all chips show."""
        places = [shapely.MultiPolygon([chip.footprint for chip in one.chips]).envelope for one in self.cells]
        return Aoi.over(places, "the chips")


CELLS = PolygonWords("cell", "cells", "")
"""Cells from a file."""


def open_cells(path: str) -> PolygonFile:
    """Find the polygons of cells in a file; raises `UsageError`."""
    return PolygonFile.open(path, attribute=None, words=CELLS)


def lay_out(params: CropChipsParams, file: PolygonFile, table: ClassTable, listed: PolygonFile | None = None) -> Layout:
    """Read the fields' places and crops, and choose the chips; raises `UsageError` where none comes of it."""
    tally = Tally()
    survey = _survey(file, table, tally)
    cells, crs = _cells(params, file, survey, listed)
    points = survey.points if crs == file.crs_text else _moved(survey.points, file.crs_text, crs)
    number = cells.of(points)
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(number[order]) != 0])
    planned: list[PlannedCell] = []
    taken = _Taken()
    few, without = 0, []
    for first, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        inside = order[first:stop]
        if number[inside[0]] < 0:
            continue
        if len(inside) < params.min_fields:
            few += 1
            continue
        cell = cells.cell(int(number[inside[0]]))
        _check_size(params, cell, crs)
        found = _chips_of(params, int(number[inside[0]]), cell, crs, survey.part(inside), points[inside], taken)
        if found is None:
            without.append(cell.name)
        else:
            planned.append(found)
    values, counts = np.unique(survey.values, return_counts=True)
    return Layout(
        tuple(planned),
        len(survey.values),
        few,
        tuple(without),
        {int(v): int(n) for v, n in zip(values, counts, strict=True)},
        dict(survey.unknown.most_common()),
        str(tally),
    )


@dataclass
class _Survey:
    """Where each field is, and what grows there."""

    points: npt.NDArray[np.float64]
    values: npt.NDArray[np.uint8]
    bounds: tuple[float, float, float, float] = (0, 0, 0, 0)
    unknown: Counter[str] = field(default_factory=Counter)

    def part(self, inside: npt.NDArray[np.int64]) -> _Survey:
        return _Survey(self.points[inside], self.values[inside])


def _survey(file: PolygonFile, table: ClassTable, tally: Tally) -> _Survey:
    points, values, bounds, unknown = [], [], [], Counter[str]()
    for fields in file.chunks(tally=tally):
        found = table.values(fields.codes, fields.originals)
        unknown.update("without a code" if code is None else str(code) for code in _unlisted(table, fields, found))
        points.append(representative_points(fields.shapes))
        values.append(found)
        bounds.append(shapely.total_bounds(fields.shapes))
    if not sum(map(len, values)):
        raise UsageError(
            f"{option('fields', file.path.name)} has no polygon that can be used: {tally}.", "Expected fields.", ""
        )
    edges = np.array(bounds)
    whole = (*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0))
    return _Survey(
        np.concatenate(points),
        np.concatenate(values),
        tuple(float(v) for v in whole),  # type: ignore[arg-type]
        unknown,
    )


def _unlisted(table: ClassTable, fields: Polygons, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
    """Return the codes of the fields that are in no class, and weren't put there by a row of class 0."""
    none = np.flatnonzero(values == 0)
    codes, originals = fields.codes[none], None if fields.originals is None else fields.originals[none]
    found: npt.NDArray[np.object_] = codes[~table.is_listed(codes, originals)]
    return found


def _cells(
    params: CropChipsParams, file: PolygonFile, survey: _Survey, listed: PolygonFile | None
) -> tuple[Cells, str]:
    """Return the cells, and their CRS."""
    if listed is not None:
        return Listed(tuple(one for part in listed.chunks() for one in part.shapes)), listed.crs_text
    if not parse_crs(file.crs_text).is_projected and survey.bounds[2] - survey.bounds[0] > 180:
        raise UsageError(
            f"The fields of {file.path.name} are {survey.bounds[2] - survey.bounds[0]:.0f}° wide.",
            "Expected fields of one side of the 180th meridian, or in a projected CRS.",
            "Reproject the file, such as with ogr2ogr, or give the parts one by one.",
        )
    if params.cell_size is None:
        return Lattice.over(survey.bounds, params.grid), file.crs_text
    crs = file.crs_text
    if not parse_crs(crs).is_projected:
        crs = (
            params.crs
            if params.crs != "auto"
            else utm_crs(_aoi(shapely.box(*survey.bounds).centroid.buffer(1e-3), crs))
        )
    points = survey.points if crs == file.crs_text else _moved(survey.points, file.crs_text, crs)
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    return Lattice.of_size((left, bottom, right, top), params.cell_size), crs


def _chips_of(
    params: CropChipsParams,
    number: int,
    cell: Cell,
    crs: str,
    fields: _Survey,
    points: npt.NDArray[np.float64],
    taken: _Taken,
) -> PlannedCell | None:
    """Return a cell's chips; None where no field is of a class, or no chip has a place."""
    known = np.flatnonzero(fields.values)
    if not len(known):
        return None
    target = params.crs if params.crs != "auto" else _zone(cell, crs)
    target = crs_name(GeoBox((1, 1), Affine.identity(), target))
    xy = _moved(points[known], crs, target)
    side, resolution = params.chip_size, params.resolution
    places = np.floor(np.column_stack([-xy[:, 1], xy[:, 0]]) / resolution + 0.5).astype(np.int64) - side // 2

    def footprints(rows_and_cols: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        corners = rows_and_cols[:, ::-1] * (resolution, -resolution)
        return _footprints(target, corners.astype(np.float64), side * resolution)

    chosen = choose(
        _keys(fields.points[known]),
        xy,
        fields.values[known],
        most=params.max_chips,
        seed=params.seed,
        min_distance=params.min_distance,
        stratify=params.stratify,
        is_free=lambda index: params.overlap or taken.take(footprints(places[[index]])[0]),
    )
    if not chosen:
        return None
    places = places[chosen]
    first = places.min(axis=0)
    height, width = (int(n) for n in places.max(axis=0) - first + side)
    left, top = float(first[1] * resolution), float(-first[0] * resolution)
    chips = tuple(
        PlannedChip(
            f"worker1_task{number}_chip{n}" if params.legacy_names else f"{cell.name}_chip{n}",
            Window(row, row + side, col, col + side),
            footprint,
        )
        for n, ((row, col), footprint) in enumerate(zip((places - first).tolist(), footprints(places), strict=True))
    )
    geobox = GeoBox((height, width), Affine(resolution, 0.0, left, 0.0, -resolution, top), target)
    return PlannedCell(cell, len(fields.values), geobox, chips)


def _zone(cell: Cell, crs: str) -> str:
    """Return the UTM zone that holds most of a cell, or raise `UsageError`."""
    try:
        return utm_crs(_aoi(cell.shape, crs))
    except GridError as fault:
        what = fault.what.replace("The area", cell.name, 1)
        raise UsageError(what, fault.expected, f"Try smaller cells, or {option('crs', 'EPSG:3035')}.") from None


def _keys(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return a number for each point: fields are told apart by their places, in whatever order a file has them."""
    x, y = np.ascontiguousarray(points.T).view(np.int64)
    keys: npt.NDArray[np.int64] = ranks(x, 0).view(np.int64) ^ y
    return keys


class _Taken:
    """Ground that chips are on already."""

    def __init__(self) -> None:
        self._shapes: list[shapely.Polygon] = []
        self._bounds = np.empty((64, 4))

    def take(self, shape: shapely.Polygon) -> bool:
        """Take the ground of a chip, in degrees, unless it shares some with another; tell whether it was free."""
        count = len(self._shapes)
        west, south, east, north = shape.bounds
        left, bottom, right, top = self._bounds[:count].T
        near = np.flatnonzero((left < east) & (right > west) & (bottom < north) & (top > south))
        if any(_overlap(shape, self._shapes[index]) for index in near):
            return False
        if count == len(self._bounds):
            self._bounds = np.concatenate([self._bounds, np.empty_like(self._bounds)])
        self._bounds[count] = shape.bounds
        self._shapes.append(shape)
        return True


def _overlap(one: shapely.Polygon, other: shapely.Polygon) -> bool:
    """Tell whether chips share ground; outlines of one zone that touch may differ by rounding in degrees."""
    return bool(shapely.intersection(one, other).area > 1e-6 * one.area)


def _check_size(params: CropChipsParams, cell: Cell, crs: str) -> None:
    left, bottom, right, top = cell.shape.bounds
    sides = np.array([right - left, top - bottom])
    if not parse_crs(crs).is_projected:
        sides = sides * 111_320 * np.array([math.cos(math.radians((bottom + top) / 2)), 1.0])
    chip = params.chip_size * params.resolution
    if chip > min(sides):
        raise UsageError(
            f"A chip of {params.chip_size} pixels has sides of {plain(chip)} m, and {cell.name} of {min(sides):.0f} m.",
            "Expected cells that are larger than their chips.",
            f"Try larger or fewer cells, or a smaller {option('chip_size')}.",
        )


def labels_of(layout: Layout, file: PolygonFile, table: ClassTable, other: int, border: int) -> dict[str, Labels]:
    """Read the fields that touch the chips; return what is drawn into each mask.

    Large ones are painted first, so that small ones stay seen; of equal ones that with the smaller id.
    """
    chips = list(layout.chips)
    areas = [_grown(cell, chip, border + 2) for cell, chip in chips]
    places = [_in_crs(area, cell.crs, file.crs_text) for area, (cell, _) in zip(areas, chips, strict=True)]
    tree = shapely.STRtree(places)
    found: list[list[tuple[float, int, shapely.Geometry, int]]] = [[] for _ in chips]
    for fields in file.chunks():
        which, where = tree.query(fields.shapes)
        values = table.values(fields.codes, fields.originals) if len(which) else ()
        order = np.argsort(where, kind="stable")
        numbers, starts = np.unique(where[order], return_index=True)
        for number, mine in zip(numbers, np.split(which[order], starts[1:]), strict=True):
            area = areas[number]
            shapes = _projected(fields.shapes[mine], file.crs_text, chips[number][0].crs)
            invalid = ~shapely.is_valid(shapes)  # in the CRS of the chips, if not in their own
            shapes[invalid] = shapely.make_valid(shapes[invalid])
            touches = shapely.intersects(shapes, area)
            sizes = shapely.area(shapes)
            for index, shape, size in zip(mine[touches], shapes[touches], sizes[touches], strict=True):
                part = _polygonal(_cut(shape, area))
                if not part.is_empty:
                    found[number].append((-float(size), -int(fields.ids[index]), part, int(values[index]) or other))
    return {
        chip.name: _labels(cell, chip, sorted(parts, key=lambda one: one[:2]))
        for (cell, chip), parts in zip(chips, found, strict=True)
    }


def _labels(cell: PlannedCell, chip: PlannedChip, parts: Sequence[tuple[float, int, shapely.Geometry, int]]) -> Labels:
    own = shapely.box(*window_bounds(cell.geobox, chip.window))
    shapes = [part for _, _, part, _ in parts]
    return Labels(
        chip.window,
        cell.transform(chip),
        shapely.to_wkb(shapely.GeometryCollection(shapes)),
        bytes(value for *_, value in parts),
        int(np.count_nonzero(shapely.intersects(shapes, own))) if shapes else 0,
    )


def _cut(shape: shapely.Geometry, area: shapely.Polygon) -> shapely.Geometry:
    """Return the part of a shape within an area."""
    return shape if shapely.contains(area, shape) else shapely.intersection(shape, area)


def class_areas(labels: Mapping[str, Labels]) -> dict[int, float]:
    """Return the area of each class in some chips, in units of their CRSs squared; where fields overlap, of each."""
    found: dict[int, float] = {}
    for one in labels.values():
        a, _, c, _, e, f = one.transform
        height, width = one.window.shape
        own = shapely.box(c, f + e * height, c + a * width, f)
        parts = shapely.get_parts(shapely.from_wkb(one.shapes))
        areas = shapely.area(shapely.intersection(parts, own))
        for value, area in zip(one.values, areas, strict=True):
            found[value] = found.get(value, 0.0) + float(area)
    return {value: area for value, area in sorted(found.items()) if value != IGNORED}


def _polygonal(shape: shapely.Geometry) -> shapely.Geometry:
    """Return the polygons of a shape as one: a collection of collections would come apart."""
    parts = polygons(shape)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _grown(cell: PlannedCell, chip: PlannedChip, pixels: int) -> shapely.Polygon:
    left, bottom, right, top = window_bounds(cell.geobox, chip.window)
    pad = pixels * abs(float(cell.geobox.transform.a))
    return shapely.box(left - pad, bottom - pad, right + pad, top + pad)


def _projected(shapes: npt.NDArray[np.object_], source: str, target: str) -> npt.NDArray[np.object_]:
    found: npt.NDArray[np.object_] = shapely.transform(shapes, lambda xy: _moved(xy, source, target))
    return found


def _in_crs(shape: shapely.Polygon, source: str, target: str) -> shapely.Polygon:
    """Return the bounds of a shape in another CRS."""
    if source == target:
        return shape
    side = max(shape.bounds[2] - shape.bounds[0], 1e-9) / 16
    return shapely.transform(shapely.segmentize(shape, side), lambda xy: _moved(xy, source, target)).envelope


def _aoi(shape: shapely.Geometry, crs: str) -> Aoi:
    degrees = shape if crs == DEGREES else shapely.transform(shape, lambda xy: _moved(xy, crs, DEGREES))
    if degrees.bounds[2] - degrees.bounds[0] > 180:  # across the antimeridian
        degrees = shapely.transform(degrees, past_180)
    return Aoi(degrees, is_box=False, source="a cell")


def _footprints(crs: str, corners: npt.NDArray[np.float64], side: float) -> npt.NDArray[np.object_]:
    """Return squares in degrees, by their upper left corners, whose edges bend as they do there."""
    step = np.arange(_EDGE) / _EDGE
    along = np.concatenate([step, np.ones(_EDGE), 1 - step, np.zeros(_EDGE)]) * side
    down = -np.roll(along, _EDGE)
    x, y = corners[:, :1] + along, corners[:, 1:] + down
    lon, lat = transformer(crs, DEGREES).transform(x.ravel(), y.ravel())
    lon = lon.reshape(x.shape)
    lon[np.ptp(lon, axis=1) > 180] %= 360  # across the antimeridian
    found: npt.NDArray[np.object_] = shapely.polygons(np.stack([lon, lat.reshape(x.shape)], axis=-1))
    return found


def _moved(points: npt.NDArray[np.float64], source: str, target: str) -> npt.NDArray[np.float64]:
    if source == target:
        return points
    return np.column_stack(transformer(source, target).transform(points[:, 0], points[:, 1]))


def _transform(geobox: GeoBox, window: Window) -> Transform:
    a, b, c, d, e, f = (float(v) for v in tuple(geobox.transform)[:6])
    return a, b, c + a * window.col, d, e, f + e * window.row
