"""Cells of a grid: polygons of a file with ids, or squares over an area. Each has its own pixels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from eoap_dask.errors import GridError, UsageError
from eoap_dask.files import safe_name
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.cleaning import Tally
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.geo.globe import to_degrees
from eoap_dask.geo.grid import check_areas, grid_and_shape, grid_over, utm_crs
from eoap_dask.geo.inside import holds_a_centre
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

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")


@dataclass(frozen=True)
class Wanted:
    """Ids that are asked for; none for all."""

    names: tuple[str, ...] = ()
    """Ids, and ranges as they were written: an id may look like one."""
    text: str = ""

    @classmethod
    def of(cls, text: str) -> Wanted:
        """Read ids and ranges; raises `UsageError` for one that is reversed, or an id twice."""
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        seen: Counter[str] = Counter()
        for name in names:
            if found := _RANGE.fullmatch(name):
                first, last = int(found[1]), int(found[2])
                if first > last:
                    raise UsageError(
                        f"The range {name} of {option('grid_ids')} is reversed.",
                        "Expected the smaller id first.",
                        f"Try {option('grid_ids', f'{last}-{first}')}.",
                    )
                if last - first >= MOST_CELLS:
                    raise UsageError(
                        f"The range {name} of {option('grid_ids')} has {last - first + 1} ids.",
                        f"Expected at most {MOST_CELLS} cells.",
                        "Try a part of them.",
                    )
                seen.update(str(number) for number in range(first, last + 1))
            else:
                seen[name] += 1
        twice = [name for name, count in seen.items() if count > 1]
        if twice:
            raise UsageError(
                f"{option('grid_ids')} names {few(twice)} twice.", "Expected each cell once.", "Leave it out."
            )
        return cls(names, text)

    def chooser(self) -> tuple[Callable[[str], bool], Callable[[set[str]], list[str]]]:
        """Return what tells whether an id is wanted, and what tells which are missing of those that were found."""
        plain_names, ranges = set(self.names), [_RANGE.fullmatch(name) for name in self.names]
        spans = [(int(one[1]), int(one[2])) for one in ranges if one]

        def is_wanted(name: str) -> bool:
            if not self.names or name in plain_names:
                return True
            return name.isdecimal() and any(first <= int(name) <= last for first, last in spans)

        def missing(found: set[str]) -> list[str]:
            numbers = {int(name) for name in found if name.isdecimal()}
            lacking: list[str] = []
            for name, span in zip(self.names, ranges, strict=True):
                if name in found:
                    continue
                if span is None:
                    lacking.append(name)
                else:
                    lacking += [str(n) for n in range(int(span[1]), int(span[2]) + 1) if n not in numbers]
            return lacking

        return is_wanted, missing


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
    is_wanted, missing = wanted.chooser()
    tally, left_out = Tally(), list[str | None]()
    found: dict[str, shapely.Geometry] = {}
    twice: list[str] = []
    for some in file.chunks(tally=tally, is_unique=False, left_out=left_out):
        for code, shape in zip(some.codes, some.shapes, strict=True):
            if code is None:
                raise UsageError(
                    f"{file.path.name} has a cell without an id in {file.attribute!r}.",
                    "Expected one for each cell.",
                    f"Try another {option('grid_id_column')}, or put the file right.",
                )
            if is_wanted(code):
                twice += [code] if code in found else []
                found[code] = shape
                if len(found) > MOST_CELLS:
                    raise UsageError(
                        f"{file.path.name} has more than {MOST_CELLS} cells.",
                        "Expected fewer.",
                        f"Name some of them by {option('grid_ids')}.",
                    )
    _check_found(file, found, twice, [one for one in left_out if one is not None and is_wanted(one)], tally)
    lacking = missing(set(found))
    if lacking or not found:
        known = few(sorted(found, key=_by_number)) if found else few(_ids_of(file))
        raise UsageError(
            f"{file.path.name} has no cell {few(lacking)}." if lacking else f"{file.path.name} has no cell.",
            f"Expected ids of its column {file.attribute!r}, such as {known}.",
            f"Check {option('grid_ids')}, or try another {option('grid_id_column')}.",
        )
    names = {code: safe_name(code) for code in found}
    alike = [code for code in found if list(names.values()).count(names[code]) > 1] if _clash(names) else []
    if alike:
        raise UsageError(
            f"The ids {few(alike)} of {file.path.name} differ by case alone.",
            "Expected ids that can name files on any disk.",
            f"Try another {option('grid_id_column')}.",
        )
    return tuple(_cell(code, names[code], shape, file, params) for code, shape in found.items())


def _clash(names: dict[str, str]) -> bool:
    return len(set(names.values())) < len(names)


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
    return [str(code) for code in next(file.chunks(5, is_unique=False)).codes]


def _cell(code: str, name: str, shape: shapely.Geometry, file: PolygonFile, params: ChangeParams) -> GridCell:
    footprint, resolution = to_degrees(shape, file.crs), params.resolution
    aoi = Aoi(footprint, is_box=False, source=f"the cell {code}")
    try:
        target = utm_crs(aoi) if params.crs == "auto" else params.crs
        geobox, outline = grid_and_shape(aoi, target, resolution)
        if file.crs_text == crs_name(geobox):  # as it is, without the rounding of a way through degrees
            outline = shape
            geobox = grid_over(shape.bounds, file.crs_text, resolution)
        check_areas(geobox)
        if not holds_a_centre(outline, geobox):
            raise GridError(
                f"At {plain(resolution)} The area holds no centre of a pixel.",
                "Expected cells that are larger than a pixel.",
                f"Try a smaller {option('resolution')}.",
            )
        if not params.clip:
            return GridCell(code, name, geobox, None, footprint)
        # pixels count by their centres: a border that is a millimetre off isn't to make another row
        half = resolution / 2
        left, bottom, right, top = outline.bounds
        geobox = grid_over((left + half, bottom + half, right - half, top - half), crs_name(geobox), resolution)
    except GridError as fault:
        raise GridError(fault.what.replace("The area", f"the cell {code}", 1), fault.expected, fault.hint) from None
    whole = shapely.box(*grid_bounds(geobox))
    is_whole = shapely.intersection(outline, whole).area > (1 - _ALIKE) * whole.area
    return GridCell(code, name, geobox, None if is_whole else shapely.to_wkb(outline), footprint)


# ----------------------------------------------------------------------------------------------------
# Squares over an area


def lay_cells(aoi: Aoi, size: float, crs: str, resolution: float) -> tuple[GridCell, ...]:
    """Return the squares that touch an area, from north and west; named by the multiples of their size.

    A cell has the same name and pixels whatever area it is needed for.
    """
    if not math.isfinite(size) or size <= 0 or abs(size / resolution - round(size / resolution)) > _ALIKE:
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


def overlapping(cells: Sequence[GridCell]) -> int:
    """Return how many pairs of cells share ground."""
    shapes = np.array([one.footprint for one in cells], object)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one, other = shapes[first[first < second]], shapes[second[first < second]]
    shared = shapely.area(shapely.intersection(one, other))
    return int((shared > 1e-4 * np.minimum(shapely.area(one), shapely.area(other))).sum())


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)
