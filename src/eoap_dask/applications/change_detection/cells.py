"""Cells of a grid: polygons of a file with ids, or squares over an area. Each has its own pixels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from loguru import logger

from eoap_dask.errors import GridError, UsageError
from eoap_dask.files import safe_name
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.cleaning import Tally
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.geo.globe import to_degrees
from eoap_dask.geo.grid import check_areas, grid_and_shape, grid_over, unit_of, utm_crs
from eoap_dask.geo.inside import holds_a_centre
from eoap_dask.geo.layers import Bounds
from eoap_dask.geo.polygons import PolygonFile, PolygonWords
from eoap_dask.geo.window import grid_bounds
from eoap_dask.text import few, option, plain, plural

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.applications.change_detection.parameters import ChangeParams

MOST_CELLS = 100_000
GRID = PolygonWords("cell", "grid", "", "grid_id_column", "the ids", ("id", "cell", "name", "tile", "code"))
_ALIKE = 1e-6
"""Share of a cell by which two may overlap, or its outline differ from a box, because of rounding."""


@dataclass(frozen=True)
class GridCell:
    """One cell."""

    id: str
    """As the grid has it."""
    name: str
    """In names of files."""
    geobox: GeoBox
    clip_wkb: bytes | None
    """Its outline in the CRS of the geobox; None where that is a box of whole pixels."""
    footprint: shapely.Geometry
    """In degrees; across the antimeridian it continues past 180."""


# ----------------------------------------------------------------------------------------------------
# Which cells are asked for

_RANGE = re.compile(r"(\d{1,18})\s*-\s*(\d{1,18})")


@dataclass(frozen=True)
class Wanted:
    """Ids that are asked for; none for all."""

    names: tuple[str, ...] = ()
    """Ids, and ranges as they were written: an id may look like one."""

    @classmethod
    def of(cls, text: str) -> Wanted:
        """Read ids and ranges; raises `UsageError` for too many."""
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        for name in names:
            first, last = _ends(name) or (0, -1)
            if last - first >= MOST_CELLS:
                raise UsageError(
                    f"The range {name} of {option('grid_ids')} has {last - first + 1} ids.",
                    f"Expected at most {MOST_CELLS} cells.",
                    "Try a part of them.",
                )
        return cls(names)

    def may_be(self, name: str) -> bool:
        """Tell whether an id is one of these, or in a range."""
        if not self.names or name in self.names:
            return True
        number = _number(name)
        return number is not None and any(
            ends[0] <= number <= ends[1] for one in self.names if (ends := _ends(one)) is not None
        )

    def chosen(self, found: Collection[str]) -> tuple[set[str], list[str]]:
        """Return which of the ids that may be meant are, and which are missing: what is an id is no range.

        Raises `UsageError` for a range that is reversed, or an id twice.
        """
        numbers = {number: name for name in found if (number := _number(name)) is not None}
        meant, lacking = Counter[str](), list[str]()
        for name in self.names:
            ends = _ends(name)
            if name in found:
                meant[name] += 1
            elif ends is None:
                lacking.append(name)
            elif ends[0] > ends[1]:
                raise UsageError(
                    f"The range {name} of {option('grid_ids')} is reversed.",
                    "Expected the smaller id first.",
                    f"Try {option('grid_ids', f'{ends[1]}-{ends[0]}')}.",
                )
            else:
                span = range(ends[0], ends[1] + 1)
                meant.update(numbers[number] for number in span if number in numbers)
                lacking += [str(number) for number in span if number not in numbers]
        if twice := [name for name, count in meant.items() if count > 1]:
            raise UsageError(
                f"{option('grid_ids')} names {few(twice)} twice.", "Expected each cell once.", "Leave it out."
            )
        return (set(meant) if self.names else set(found)), lacking


def _ends(name: str) -> tuple[int, int] | None:
    """Return the first and the last number of a range; None for what isn't one."""
    found = _RANGE.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def _number(name: str) -> int | None:
    return int(name) if name.isdecimal() and len(name) <= 18 else None


# ----------------------------------------------------------------------------------------------------
# Cells of a file


def open_grid(path: str, column: str) -> PolygonFile:
    """Find the cells of a file; raises `UsageError` where it holds none, or lacks the column of ids."""
    return PolygonFile.open(path, attribute=column, words=GRID)


def read_cells(file: PolygonFile, wanted: Wanted, params: ChangeParams) -> tuple[GridCell, ...]:
    """Return the cells that are wanted, in the file's order; raises `UsageError` for ids that aren't there, or twice.

    Parameters
    ----------
    file, wanted
    params
        CRS, resolution and clipping of the images.
    """
    tally, left_out = Tally(), list[str | None]()
    found: dict[str, shapely.Geometry] = {}
    twice: list[str] = []
    for some in file.chunks(tally=tally, is_unique=False, left_out=left_out):
        for code, shape in zip(some.codes, some.shapes, strict=True):
            if code is None and not wanted.names:
                raise UsageError(
                    f"{file.path.name} has a cell without an id in {file.attribute!r}.",
                    "Expected one for each cell.",
                    f"Try another {option('grid_id_column')}, or put the file right.",
                )
            if code is not None and wanted.may_be(code):
                twice += [code] if code in found else []
                found[code] = shape
                if len(found) > MOST_CELLS:
                    raise UsageError(
                        f"{file.path.name} has more than {MOST_CELLS} cells.",
                        "Expected fewer.",
                        f"Name some of them by {option('grid_ids')}.",
                    )
    _check_found(file, found, twice, [one for one in left_out if one is not None and wanted.may_be(one)], tally)
    if tally.repaired:
        logger.warning("{}: {}.", file.path.name, tally)
    meant, lacking = wanted.chosen(found)
    if lacking or not meant:
        known = few(sorted(found, key=_by_number)) if found else few(_ids_of(file)) or "none that has a polygon"
        raise UsageError(
            f"{file.path.name} has no cell {few(lacking)}." if lacking else f"{file.path.name} has no cell.",
            f"Expected ids of its column {file.attribute!r}, such as {known}.",
            f"Check {option('grid_ids')}, or try another {option('grid_id_column')}.",
        )
    names = {code: safe_name(code) for code in found if code in meant}
    counts = Counter(names.values())
    alike = [code for code, name in names.items() if counts[name] > 1]
    if alike:
        raise UsageError(
            f"The ids {few(alike)} of {file.path.name} differ by case alone.",
            "Expected ids that can name files on any disk.",
            f"Try another {option('grid_id_column')}.",
        )
    return tuple(_cell(code, name, found[code], file, params) for code, name in names.items())


def _check_found(
    file: PolygonFile,
    found: dict[str, shapely.Geometry],
    twice: Sequence[str],
    lost: Sequence[str],
    tally: Tally,
) -> None:
    if twice:
        raise UsageError(
            f"{file.path.name} has the id {few(twice)} twice.",
            f"Expected each id of {file.attribute!r} once.",
            f"Try another {option('grid_id_column')}, or put the file right.",
        )
    gone = [one for one in lost if one not in found]
    if gone:
        raise UsageError(
            f"The cell {few(gone)} of {file.path.name} has no polygon that can be used: {tally}.",
            "Expected an outline for each cell.",
            f"Put the file right, or leave it out of {option('grid_ids')}.",
        )


def _ids_of(file: PolygonFile) -> list[str]:
    some = next(file.chunks(5, is_unique=False), None)
    return [] if some is None else [str(code) for code in some.codes]


def _cell(code: str, name: str, shape: shapely.Geometry, file: PolygonFile, params: ChangeParams) -> GridCell:
    footprint, resolution = to_degrees(shape, file.crs), params.resolution
    aoi = Aoi(footprint, is_box=False, source=f"the cell {code}")
    try:
        target = utm_crs(aoi) if params.crs == "auto" else params.crs
        geobox, outline = grid_and_shape(aoi, target, resolution)
        crs = crs_name(geobox)
        if file.crs_text == crs:  # as it is, without the rounding of a way through degrees
            outline = shape
            geobox = grid_over(shape.bounds, crs, resolution)
        if params.crs != "auto":  # areas in UTM are right
            check_areas(geobox)
        if not params.clip:
            return GridCell(code, name, geobox, None, footprint)
        bounds = _of_centres(outline.bounds, resolution)
        if bounds is None or not holds_a_centre(outline, geobox):
            raise GridError(
                f"At {plain(resolution)} {unit_of(parse_crs(crs))} the area holds no centre of a pixel.",
                "Expected cells that are larger than a pixel.",
                f"Try a smaller {option('resolution')}.",
            )
        geobox = grid_over(bounds, crs, resolution)
    except GridError as fault:
        what = fault.what.replace("The area", f"The cell {code}", 1).replace("the area", f"the cell {code}", 1)
        raise GridError(what, fault.expected, fault.hint) from None
    left, bottom, right, top = outline.bounds
    is_box = outline.area > (1 - _ALIKE) * (right - left) * (top - bottom)
    return GridCell(code, name, geobox, None if is_box else shapely.to_wkb(outline), footprint)


def _of_centres(bounds: Bounds, resolution: float) -> Bounds | None:
    """Return the bounds of the pixels whose centres lie in some, those on the left and upper border included.

    So cells that share a border share no pixel and leave none out, wherever it lies. None where there is no pixel.
    """
    left, bottom, right, top = (edge / resolution for edge in bounds)
    cols = [math.ceil(edge - 0.5 - _ALIKE) for edge in (left, right)]
    rows = [math.floor(edge + 0.5 + _ALIKE) for edge in (bottom, top)]
    if cols[0] >= cols[1] or rows[0] >= rows[1]:
        return None
    return cols[0] * resolution, rows[0] * resolution, cols[1] * resolution, rows[1] * resolution


# ----------------------------------------------------------------------------------------------------
# Squares over an area


def lay_cells(aoi: Aoi, size: float, crs: str, resolution: float) -> tuple[GridCell, ...]:
    """Return the squares that touch an area, from north and west; named by the multiples of their size.

    A cell has the same name and pixels whatever area it is needed for.
    """
    pixels = round(size / resolution) if math.isfinite(size / resolution) else 0
    if pixels < 1 or abs(size / resolution - pixels) > _ALIKE:
        raise UsageError(
            f"{option('cell_size')} must be a multiple of the resolution of {plain(resolution)}, got {plain(size)}.",
            "",
            f"Try {option('cell_size', plain(512 * resolution))}.",
        )
    geobox, shape = grid_and_shape(aoi, crs, resolution)
    check_areas(geobox)
    name = crs_name(geobox)
    left, bottom, right, top = (edge / size for edge in grid_bounds(geobox))
    cols = range(math.floor(left), math.ceil(right - _ALIKE))
    rows = range(math.floor(bottom), math.ceil(top - _ALIKE))
    if len(cols) * len(rows) > MOST_CELLS:
        raise UsageError(
            f"{option('cell_size', plain(size))} makes {plural(len(cols) * len(rows), 'cell')}.",
            f"Expected at most {MOST_CELLS}.",
            f"Try a larger {option('cell_size')}.",
        )
    shapely.prepare(shape)
    found = []
    for row in reversed(rows):
        for col in cols:
            bounds = col * size, row * size, (col + 1) * size, (row + 1) * size
            square = shapely.box(*bounds)
            if shapely.intersects(shape, square) and not shapely.touches(shape, square):
                code = f"x{col}y{row}"
                footprint = to_degrees(square, parse_crs(name))
                found.append(GridCell(code, code, grid_over(bounds, name, resolution), None, footprint))
    return tuple(found)


# ----------------------------------------------------------------------------------------------------


def overlapping(cells: Sequence[GridCell]) -> tuple[int, bool]:
    """Return how many pairs of cells of one CRS share ground, and whether there may be more: not all are looked at."""
    count, is_all = 0, True
    groups: dict[str, list[shapely.Geometry]] = {}
    for one in cells:
        outline = shapely.box(*grid_bounds(one.geobox)) if one.clip_wkb is None else shapely.from_wkb(one.clip_wkb)
        groups.setdefault(crs_name(one.geobox), []).append(outline)
    for outlines in groups.values():
        shapes = np.array(outlines, object)
        first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        apart = first < second
        first, second = first[apart][:_MOST_PAIRS], second[apart][:_MOST_PAIRS]
        is_all = is_all and int(apart.sum()) <= _MOST_PAIRS
        one, other = shapes[first], shapes[second]
        shared = shapely.area(shapely.intersection(one, other))
        count += int((shared > 1e-4 * np.minimum(shapely.area(one), shapely.area(other))).sum())
    return count, is_all


_MOST_PAIRS = 10_000


def _by_number(name: str) -> tuple[int, str]:
    return (_number(name) or 0, name)
