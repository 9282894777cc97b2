"""From files of fields to cells, chips and what is drawn: hand-made fields of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from eoap_dask.applications.crop_chips.layout import class_areas, labels_of
from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.crop_chips.request import understand
from eoap_dask.errors import UsageError

UTM30 = "EPSG:32630"
X, Y = 400_000.0, 4_600_000.0
WHEAT, VINES, MAIZE = "3301010101", "3303060000", "3301010600"


def write(path: Path, shapes: list[Any], codes: list[str], crs: str = UTM30) -> Path:
    geopandas.GeoDataFrame({"EC_hcat_c": codes}, geometry=shapes, crs=crs).to_file(path)
    return path


def squares(count: int, side: float = 300.0, gap: float = 400.0, x: float = X, y: float = Y) -> list[Any]:
    """A row of fields."""
    return [shapely.box(x + n * gap, y, x + n * gap + side, y + side) for n in range(count)]


def laid(path: Path, **how: Any) -> Any:
    wanted = {"chip_size": 64, "min_distance": 0.0, "min_fields": 1, **how}
    if not {"cells", "cell_size"} & wanted.keys():
        wanted.setdefault("grid", 1)
    return understand(CropChipsParams(fields=str(path), **wanted))


def masks(request: Any, other: int = 0, border: int = 0) -> dict[str, Any]:
    found = labels_of(request.layout, request.file, request.table, other, border)
    return {name: one.mask(border) for name, one in found.items()}


def spread_out(tmp_path: Path, *fields: tuple[Any, str]) -> Path:
    """Fields of interest, and others around so that the cell is larger than its chip."""
    far = [shapely.box(X + dx, Y + dy, X + dx + 10, Y + dy + 10) for dx in (-2000, 2000) for dy in (-2000, 2000)]
    shapes = [shape for shape, _ in fields] + far
    return write(tmp_path / "fields.gpkg", shapes, [code for _, code in fields] + [MAIZE] * 4)


def centres(request: Any, name: str) -> tuple[Any, Any]:
    ((cell, chip),) = [pair for pair in request.layout.chips if pair[1].name == name]
    a, _, c, _, e, f = cell.transform(chip)
    col, row = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    return c + a * col, f + e * row


def test_small_fields_are_over_large_ones_whatever_their_order(tmp_path: Path) -> None:
    large, small = shapely.box(X - 200, Y - 200, X + 200, Y + 200), shapely.box(X - 50, Y - 50, X + 50, Y + 50)
    for fields in (((large, WHEAT), (small, VINES)), ((small, VINES), (large, WHEAT))):
        request = laid(spread_out(tmp_path, *fields), max_chips=1)
        ((name, mask),) = masks(request).items()
        x, y = centres(request, name)
        expected = np.where(shapely.contains_xy(large, x, y), 5, 0)
        expected[shapely.contains_xy(small, x, y)] = 2
        np.testing.assert_array_equal(mask, expected)
        (tmp_path / "fields.gpkg").unlink()


def test_holes_parts_and_bow_ties(tmp_path: Path) -> None:
    ring = shapely.box(X - 200, Y - 200, X + 200, Y + 200).difference(shapely.box(X - 100, Y - 100, X + 100, Y + 100))
    two = shapely.MultiPolygon(
        [shapely.box(X - 60, Y - 60, X - 20, Y - 20), shapely.box(X + 20, Y + 20, X + 60, Y + 60)]
    )
    tie = shapely.Polygon([(X - 301, Y + 222), (X - 220, Y + 303), (X - 217, Y + 220), (X - 300, Y + 309)])
    request = laid(spread_out(tmp_path, (ring, WHEAT), (two, VINES), (tie, WHEAT)), max_chips=9)
    for name, mask in masks(request).items():
        x, y = centres(request, name)
        expected = np.zeros((64, 64), np.uint8)
        for shape, value in ((ring, 5), (shapely.make_valid(tie), 5), (two, 2)):
            expected[shapely.contains_xy(shape, x, y)] = value
        np.testing.assert_array_equal(mask, expected)
    assert len(masks(request)) == 3


def test_fields_of_no_class_are_background_or_ignored(tmp_path: Path) -> None:
    request = laid(spread_out(tmp_path, (shapely.box(X, Y, X + 100, Y + 100), WHEAT),
                              (shapely.box(X + 100, Y, X + 200, Y + 100), MAIZE)), max_chips=1)  # fmt: skip
    for other in (0, 255):
        ((name, mask),) = masks(request, other).items()
        x, y = centres(request, name)
        beside = shapely.contains_xy(shapely.box(X + 100, Y, X + 200, Y + 100), x, y)
        assert beside.sum() == 100
        assert (mask[beside] == other).all()
    assert request.layout.unknown == {MAIZE: 5}


def test_each_cell_has_its_own_zone_also_south_of_the_equator(tmp_path: Path) -> None:
    lon = [-66.5, -66.3, -65.7, -65.5]  # zones 19 and 20
    shapes = [shapely.box(x, y, x + 0.003, y + 0.003) for x in lon for y in (-20.3, -20.0)]
    request = laid(write(tmp_path / "fields.gpkg", shapes, [WHEAT] * 8, "EPSG:4326"), grid=2)
    assert {cell.crs for cell in request.layout.cells} == {"EPSG:32719", "EPSG:32720"}
    assert all((mask == 5).any() for mask in masks(request).values())


@pytest.mark.parametrize("shift", [0, 360])
def test_longitudes_may_go_from_0_to_360(tmp_path: Path, shift: int) -> None:
    shapes = [shapely.box(x + shift, 41.0, x + shift + 0.003, 41.003) for x in (-4.6, -4.5, -4.4)]
    shapes += [shapely.box(-4.5 + shift, 41.1, -4.499 + shift, 41.101)]
    request = laid(write(tmp_path / "fields.gpkg", shapes, [WHEAT] * 4, "EPSG:4326"))
    assert {cell.crs for cell in request.layout.cells} == {UTM30}
    assert all((mask == 5).any() for mask in masks(request).values())
    west, _, east, _ = request.layout.aoi.geometry.bounds
    assert -4.7 < west < east < -4.3


def test_fields_of_a_projected_crs_may_lie_across_the_antimeridian(tmp_path: Path) -> None:
    shapes = squares(8, gap=4000, x=-16_000, y=-1_900_000)
    request = laid(write(tmp_path / "fields.gpkg", shapes, [WHEAT] * 8, "EPSG:3832"), cell_size=20_000.0)
    # EPSG:3832 is centred on 150 E: the antimeridian is 3 340 km east of it
    far = squares(8, gap=4000, x=3_339_584 - 16_000, y=-1_900_000)
    there = laid(write(tmp_path / "far.gpkg", far, [WHEAT] * 8, "EPSG:3832"), cell_size=20_000.0)
    for one in (request, there):
        assert sum(1 for _ in one.layout.chips) >= 5
        assert all((mask == 5).any() for mask in masks(one).values())
    west, _, east, _ = there.layout.aoi.geometry.bounds
    assert 179 < west < 180 < east < 181


def test_fields_on_both_sides_of_the_world_are_refused(tmp_path: Path) -> None:
    shapes = [shapely.box(x, -17.0, x + 0.003, -16.997) for x in (-179.99, 179.9)]
    with pytest.raises(UsageError, match="Expected fields of one side of the 180th meridian"):
        _ = laid(write(tmp_path / "fields.gpkg", shapes, [WHEAT] * 2, "EPSG:4326")).layout


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "shp"])
def test_the_order_of_the_rows_does_not_matter(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 20_000, (2, 200))
    fields = geopandas.GeoDataFrame(
        {"EC_hcat_c": rng.choice([WHEAT, VINES], 200)}, geometry=list(shapely.box(x, y, x + 100, y + 100)), crs=UTM30
    )
    found = []
    for name, frame in (("first", fields), ("other", fields.sample(frac=1, random_state=1))):
        path = tmp_path / f"{name}.{suffix}"
        frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
        request = laid(path, grid=4)
        found.append({c.name: (k.geobox, c.window) for k, c in request.layout.chips})
    assert len(found[0]) > 20
    assert found[0] == found[1]


def test_polygons_that_are_valid_in_their_own_crs_alone(tmp_path: Path) -> None:
    """A hole that touches an edge in degrees is across it in metres."""
    outer = [(-4.5, 41.0), (-4.46, 41.013), (-4.46, 41.04), (-4.5, 41.03), (-4.5, 41.0)]
    on_edge = (-4.5 + 0.04 / 3, 41.0 + 0.013 / 3)
    hole = [on_edge, (-4.48, 41.02), (-4.49, 41.02), on_edge]
    shape = shapely.Polygon(outer, [hole])
    far = shapely.box(-4.4, 41.1, -4.399, 41.101)
    request = laid(write(tmp_path / "fields.gpkg", [shape, far], [WHEAT, MAIZE], "EPSG:4326"), chip_size=256)
    labels = labels_of(request.layout, request.file, request.table, 0, 0)
    assert class_areas(labels)[5] > 1e6


def test_a_file_of_cells_is_looked_at_before_the_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "fields.gpkg", squares(6), [WHEAT] * 6)
    with pytest.raises(UsageError, match=r"There is no file 'none\.gpkg'"):
        laid(path, cells="none.gpkg")
    for name in ("a", "b"):
        geopandas.GeoDataFrame(geometry=squares(2), crs=UTM30).to_file(tmp_path / "two.gpkg", layer=name)
    with pytest.raises(UsageError, match=r"Try cells=.*two\.gpkg\|layername=a"):
        laid(path, cells=str(tmp_path / "two.gpkg"))


def test_cells_of_a_file_are_in_blocks_with_their_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path / "fields.gpkg", squares(8, gap=2000), [WHEAT] * 8)
    order = [3, 0, 2, 1]
    cells = [shapely.box(X + 4000 * n - 50, Y - 2000, X + 4000 * n + 3950, Y + 2000) for n in order]
    geopandas.GeoDataFrame(geometry=cells, crs=UTM30).to_file(tmp_path / "cells.gpkg")
    request = laid(path, cells=str(tmp_path / "cells.gpkg"))
    assert [(one.cell.name, one.cell.row, one.cell.col) for one in request.layout.cells] == [
        (f"cell{number:04d}", 0, col) for number, col in enumerate(order)
    ]


def test_chips_that_share_no_ground_are_as_many_as_fit(tmp_path: Path) -> None:
    shapes = [box for row in range(12) for box in squares(12, 100, 500, y=Y + 500 * row)]
    path = write(tmp_path / "fields.gpkg", shapes, [WHEAT] * 144)
    request = laid(path, grid=2, overlap=False, max_chips=50)
    places = [shapely.box(*c.geobox[p.window.row : p.window.row_stop, p.window.col : p.window.col_stop].boundingbox)
              for c, p in request.layout.chips]  # fmt: skip
    assert len(places) > 20
    for number, one in enumerate(places):
        assert not any(shapely.intersection(one, other).area > 0 for other in places[:number])
