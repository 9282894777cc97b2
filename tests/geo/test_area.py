"""The area of a product: read, gridded and projected in one place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from eoap_dask.errors import AoiError, GridError
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.grid import grid_for, project_aoi
from eoap_dask.geo.inside import count_inside
from eoap_dask.geo.options import AreaParams, is_area
from eoap_dask.geo.parse import parse_aoi

BOX = "9.0,47.0,9.1,47.1"
RING = "POLYGON ((9 47, 9.1 47, 9.1 47.1, 9 47))"


def test_a_box_is_not_cut_and_stays_as_it_was_written() -> None:
    area = Area.of(AreaParams(aoi=BOX))
    assert area.shape is None
    assert area.geobox == grid_for(parse_aoi(BOX), "auto", 100.0)
    assert area.json == BOX


@pytest.mark.parametrize("crs", ["auto", "EPSG:3035", "ESRI:54009", "+proj=laea +lat_0=47 +lon_0=9 +units=m"])
def test_a_shape_is_the_one_of_the_grid(crs: str) -> None:
    """Also where the grid's CRS has no code, and is written in another way than it was given."""
    area = Area.of(AreaParams(aoi=RING, crs=crs, resolution=20.0))
    assert area.geobox == grid_for(parse_aoi(RING), crs, 20.0)
    expected = project_aoi(parse_aoi(RING), crs_name(area.geobox))
    assert shapely.to_wkb(area.shape) == shapely.to_wkb(expected)


def test_without_clip_an_area_is_its_box() -> None:
    area = Area.of(AreaParams(aoi=RING, clip=False))
    assert area.shape is None
    assert area.aoi.is_box
    assert area.geobox == grid_for(parse_aoi(BOX), "auto", 100.0)


def test_on_a_grid_that_is_given() -> None:
    grid = grid_for(parse_aoi("9,47,10,48"), "EPSG:3035", 50.0)
    area = Area.of(AreaParams(aoi=RING, crs="EPSG:999999", resolution=-1.0), grid)
    assert area.geobox == grid
    assert area.shape == project_aoi(parse_aoi(RING), "EPSG:3035")


def test_a_file_is_recorded_as_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(shapely.from_wkt(RING))))
    for aoi in (path, str(path)):
        found = Area.of(AreaParams(aoi=aoi)).json
        assert shapely.geometry.shape(found).equals(shapely.from_wkt(RING))


CURVE = "CURVEPOLYGON z(CIRCULARSTRING(9 47, 9.1 47, 9 47))"
AREAS = (
    BOX,
    " (9, 47, 9.1, 47.1) ",
    "9;47;9.1;47.1",
    "-1 .5 1e1 +2.",
    RING,
    f"SRID=4326;{RING}",
    "[9,47,9.1,47.1]",
    CURVE,
)


@pytest.mark.parametrize("text", AREAS)
def test_a_text_that_is_an_area_is_never_a_file(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / text.strip()).write_text("not an area")
    assert is_area(text)
    assert parse_aoi(text).geometry.area > 0


@pytest.mark.parametrize("text", ['{"type": 1}', "[9]", "POINT", "polygon.geojson"])
def test_nor_is_one_that_only_begins_like_an_area(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / text).write_text(json.dumps(shapely.geometry.mapping(shapely.from_wkt(RING))))
    assert is_area(text)
    with pytest.raises(AoiError):
        parse_aoi(text)


@pytest.mark.parametrize(
    "text",
    [
        "area.geojson",
        "..",
        "1",
        "1,2,3",
        "1,2,3,4/5",
        "/1,2,3,4",
        "e,e,e,e",
        "file:///x",
        "x POLYGON",
        "",
        "a.gpkg|layername=b",
        "tin.shp",
        "triangle.shp",
    ],
)
def test_other_texts_may_be_files(text: str) -> None:
    assert not is_area(text)


# ----------------------------------------------------------------------------------------------------
# Areas and pixels


def centres(geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    a, _, c, _, e, f = tuple(geobox.transform)[:6]
    height, width = geobox.shape
    return np.meshgrid(c + a * (np.arange(width) + 0.5), f + e * (np.arange(height) + 0.5))


def refused(aoi: object, resolution: float, **changes: object) -> str:
    with pytest.raises(GridError) as caught:
        Area.of(AreaParams(aoi=aoi, resolution=resolution, **changes))
    return str(caught.value)


def test_an_area_without_the_centre_of_a_pixel_is_refused_with_a_resolution_that_would_do() -> None:
    """A disc of 20 m around a corner of the grid: centres lie r/√2 away, so that r must be below 28 m."""
    disc = f"SRID=32633;{shapely.Point(500_000, 4_602_000).buffer(20).wkt}"
    assert refused(disc, 100.0) == (
        "At 100 metres the area holds no centre of a pixel. Expected one at least: pixels count where their centre "
        "lies inside. Try resolution=20, or clip=False to keep its bounding box."
    )
    assert "Try resolution=20," in refused(disc, 40.0)
    assert Area.of(AreaParams(aoi=disc, resolution=20.0)).shape is not None
    assert Area.of(AreaParams(aoi=disc, resolution=100.0, clip=False)).geobox.shape == (2, 2)
    # in degrees: 0.0014 wide, around a corner of pixels of 0.01
    small = "POLYGON ((9 46.9993, 9.0007 47, 9 47.0007, 8.9993 47, 9 46.9993))"
    assert "At 0.01 degrees" in (told := refused(small, 0.01, crs="EPSG:4326"))
    assert "Try resolution=0.0005," in told  # |x| + |y| is a resolution, and must be below 0.0007


def test_a_box_without_the_centre_of_a_pixel_is_refused_unless_every_pixel_is_wanted_that_it_touches() -> None:
    """9° E is x = 500 000 in zone 32, a corner of pixels; the box is 0.8 m wide and 1.1 m high."""
    box = "9,47,9.00001,47.00001"
    told = refused(box, 100.0)
    assert "At 100 metres the area holds no centre of a pixel." in told
    assert told.endswith("or clip=False to keep every pixel that it touches.")
    found = re.search(r"resolution=([\d.]+)", told)
    assert found is not None
    assert Area.of(AreaParams(aoi=box, resolution=float(found[1]))).shape is None
    assert Area.of(AreaParams(aoi=box, resolution=100.0, clip=False)).geobox.shape == (1, 1)
    # in its own degrees: pixels of 0.01 from 9 have their centre at 9.005
    assert "centre" in refused("9.001,47.001,9.004,47.004", 0.01, crs="EPSG:4326")
    assert Area.of(AreaParams(aoi="9.001,47.001,9.006,47.006", resolution=0.01, crs="EPSG:4326")).geobox.shape == (1, 1)


def test_an_area_beside_a_grid_that_is_given_is_refused() -> None:
    grid = grid_for(parse_aoi("12,47,13,48"), "EPSG:32633", 50.0)
    with pytest.raises(GridError, match="outside of the grid"):
        Area.of(AreaParams(aoi=RING), grid)
    disc = shapely.Point(float(grid.transform.c) + 500, float(grid.transform.f) - 500).buffer(1)
    with pytest.raises(GridError, match="Try a finer grid, or clip=False"):
        Area.of(AreaParams(aoi=f"SRID=32633;{disc.wkt}"), grid)


thin = st.sampled_from([0.4, 3.0, 30.0, 400.0])


@given(
    x=st.floats(0, 1000),
    y=st.floats(0, 1000),
    angle=st.floats(0, 3.1),
    length=st.floats(1, 20_000),
    width=thin,
    resolution=st.sampled_from([10.0, 60.0, 100.0, 500.0]),
)
def test_refused_are_those_without_a_centre_and_no_others(
    x: float, y: float, angle: float, length: float, width: float, resolution: float
) -> None:
    """Axes: place on the lattice, direction, length, width, resolution. Held against every centre, one by one."""
    end = (500_000 + x + length * np.cos(angle), 5_200_000 + y + length * np.sin(angle))
    strip = shapely.LineString([(500_000 + x, 5_200_000 + y), end]).buffer(width / 2, cap_style="square")
    params = AreaParams(aoi=f"SRID=32633;{strip.wkt}", crs="EPSG:32633", resolution=resolution)
    try:
        area = Area.of(params)
    except GridError as fault:
        found = re.search(r"resolution=([\d.]+)", str(fault))
        assert found is not None
        finer = Area.of(AreaParams(aoi=params.aoi, crs=params.crs, resolution=float(found[1])))
        assert finer.shape is not None
        whole = grid_for(parse_aoi(params.aoi), params.crs, resolution)
        assert not shapely.contains_xy(shapely.buffer(strip, -1e-3), *centres(whole)).any()
        return
    if area.shape is None:  # a box
        return
    near, far = (shapely.contains_xy(shapely.buffer(strip, by), *centres(area.geobox)).sum() for by in (-1e-3, 1e-3))
    assert near <= count_inside(shapely.to_wkb(area.shape), area.geobox) <= far


@given(st.integers(1, 1300), st.integers(1, 1300), st.integers(0, 2**32))
@example(730, 458, 876)  # three centres lie on an edge, as far as numbers of 64 bits tell
def test_pixels_inside_are_counted_as_every_one_of_them(height: int, width: int, seed: int) -> None:
    from affine import Affine

    random = np.random.default_rng(seed)
    geobox = GeoBox((height, width), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")
    # corners off the lattice of centres, so that hardly any lies on an edge
    points = random.integers(-50, 1350, (5, 2)) * 10 + (500_001.7, 5_000_000 - 13_003.3)
    parts = [shapely.convex_hull(shapely.MultiPoint(points)), shapely.box(500_101, 4_990_103, 500_502, 4_991_202)]
    shape = shapely.union_all(parts)
    surely, perhaps = (shapely.contains_xy(shapely.buffer(shape, by), *centres(geobox)).sum() for by in (-1e-6, 1e-6))
    assert surely <= count_inside(shapely.to_wkb(shape), geobox) <= perhaps
