"""Cells: which are asked for, and which pixels each has."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.applications.change_detection.cells import (
    GridCell,
    Wanted,
    lay_cells,
    open_grid,
    overlapping,
    read_cells,
)
from eoap_dask.applications.change_detection.parameters import ChangeParams
from eoap_dask.errors import UsageError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.window import grid_bounds


def written(path: Path, shapes: list[shapely.Geometry], ids: list[object], crs: str = "EPSG:32633") -> Path:
    geopandas.GeoDataFrame({"id": ids}, geometry=shapes, crs=crs).to_file(path)
    return path


def cells_of(path: Path, ids: str = "", **how: object) -> tuple[GridCell, ...]:
    return read_cells(open_grid(str(path), "id"), Wanted.of(ids), ChangeParams(**how))  # type: ignore[arg-type]


SQUARES = [shapely.box(500_000 + 640 * n, 5_100_000, 500_640 + 640 * n, 5_100_640) for n in range(6)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("", "1 2 3 4 12 1-2"),
        ("2-4", "2 3 4"),
        ("1,3-4,12", "1 3 4 12"),
        (" 2 , 1-2 ", "2 1-2"),  # an id that looks like a range is one
        ("12", "12"),
    ],
)
def test_ids_and_ranges(tmp_path: Path, asked: str, expected: str) -> None:
    path = written(tmp_path / "cells.gpkg", SQUARES, ["1", "2", "3", "4", "12", "1-2"])
    assert [one.id for one in cells_of(path, asked)] == expected.split()


@pytest.mark.parametrize("asked", ["4-2", "9" * 5000, "1,1", "2-3,3", "0-99999999"])
def test_other_ids_are_refused(tmp_path: Path, asked: str) -> None:
    path = written(tmp_path / "cells.gpkg", SQUARES[:5], ["1", "2", "3", "4", "9" * 30])
    with pytest.raises(UsageError):
        cells_of(path, asked)


def test_an_id_may_be_missing_where_the_cell_is_not_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.gpkg", SQUARES[:2], ["1", None])
    assert [one.id for one in cells_of(path, "1")] == ["1"]
    with pytest.raises(UsageError, match="without an id"):
        cells_of(path)


@pytest.mark.parametrize("name", ["../x", "a b", "ÄÖ", "x" * 500, "=1+1", "."])
def test_ids_never_lead_elsewhere(tmp_path: Path, name: str) -> None:
    (cell,) = cells_of(written(tmp_path / "cells.gpkg", SQUARES[:1], [name]))
    assert cell.id == name
    assert set(cell.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert cell.name[0] not in ".-"
    assert len(cell.name) <= 120


@given(dx=st.floats(0, 20), dy=st.floats(0, 20), width=st.integers(3, 9), height=st.integers(3, 9))
def test_neighbours_share_no_pixel_and_leave_none_out(
    tmp_path_factory: pytest.TempPathFactory, dx: float, dy: float, width: int, height: int
) -> None:
    x, y, step = 500_000 + round(dx, 2), 5_100_000 + round(dy, 2), (10 * width + 5, 10 * height + 5)
    shapes = [
        shapely.box(x + col * step[0], y + row * step[1], x + (col + 1) * step[0], y + (row + 1) * step[1])
        for row in range(2)
        for col in range(2)
    ]
    cells = cells_of(written(tmp_path_factory.mktemp("cells") / "cells.gpkg", shapes, [1, 2, 3, 4]))
    seen = np.zeros((60, 60), int)
    for one in cells:
        left, bottom, right, top = grid_bounds(one.geobox)
        assert one.clip_wkb is None
        rows = slice(round((bottom - 5_100_000) / 10) + 5, round((top - 5_100_000) / 10) + 5)
        seen[rows, round((left - 500_000) / 10) + 5 : round((right - 500_000) / 10) + 5] += 1
    assert seen.max() == 1
    inside = np.argwhere(seen)
    (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0) + 1
    assert seen[top:bottom, left:right].all()
    assert (bottom - top) * (right - left) == seen.sum()


def test_a_cell_of_one_pixel_has_it(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.gpkg", [shapely.box(500_005, 5_100_005, 500_015, 5_100_015)], [1])
    (cell,) = cells_of(path)
    assert tuple(cell.geobox.shape) == (1, 1)


def test_other_shapes_are_cut(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.gpkg", [SQUARES[0].centroid.buffer(300)], [1])
    assert cells_of(path)[0].clip_wkb is not None
    assert cells_of(path, clip=False)[0].clip_wkb is None


def test_overlaps_are_counted(tmp_path: Path) -> None:
    assert overlapping(cells_of(written(tmp_path / "a.gpkg", SQUARES, [*range(6)]))) == (0, True)
    same = written(tmp_path / "b.gpkg", [SQUARES[0]] * 300, [*range(300)])
    count, is_all = overlapping(cells_of(same))
    assert (count, is_all) == (10_000, False)


def test_squares_over_an_area_are_the_same_for_any_area() -> None:
    small, large = (
        {one.id: one.geobox for one in lay_cells(parse_aoi(box), 640.0, "auto", 10.0)}
        for box in ("15.001,46.0,15.01,46.01", "15.0001,46.0,15.03,46.02")
    )
    assert set(small) < set(large)
    assert all(large[name] == geobox for name, geobox in small.items())
    for size in (995.0, 1e-300, float("inf"), 4.0):
        with pytest.raises(UsageError, match="multiple of the resolution"):
            lay_cells(parse_aoi("15,46,15.1,46.1"), size, "auto", 10.0)


def test_places_on_both_sides_of_180_and_of_greenwich() -> None:
    places = [shapely.box(179, 0, 181, 1), shapely.box(-1, 50, 1, 51), shapely.box(-179.5, 2, -178, 3)]
    area = Aoi.over(places, "cells").geometry
    assert area.area == pytest.approx(2 + 2 + 1.5)
