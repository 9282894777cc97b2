"""Grids on multiples of the resolution, UTM zones, cuts by pixel centre, and every sentence of refusal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from shapely.geometry.base import BaseGeometry

from eoap_dask.errors import GridError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.crs import crs_name, project_bounds
from eoap_dask.geo.grid import grid_for, pixels_of, project_aoi, utm_crs
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.rasterize import rasterize_window
from eoap_dask.geo.window import TILE, Window, blocks, grid_bounds, window_bounds

Mask = np.ndarray[Any, np.dtype[np.bool_]]

SEATTLE = "-122.2751,47.5469,-121.9613,47.7458"
LOCAL_LAEA = "+proj=laea +lat_0=47.6 +lon_0=-122 +datum=WGS84 +units=m +no_defs"


def bbox(west: float, south: float, east: float, north: float) -> Aoi:
    return parse_aoi((west, south, east, north))


# Origin and size


@pytest.mark.parametrize("crs", ["auto", "EPSG:32611", "EPSG:3857", "EPSG:5070", LOCAL_LAEA])
@pytest.mark.parametrize("resolution", [10.0, 20.0, 100.0, 37.5])
def test_a_grid_holds_the_area_and_starts_on_a_multiple(crs: str, resolution: float) -> None:
    aoi = parse_aoi(SEATTLE)
    geobox = grid_for(aoi, crs, resolution)
    left, bottom, right, top = grid_bounds(geobox)
    assert tuple(geobox.transform)[:6] == (resolution, 0.0, left, 0.0, -resolution, top)
    for edge in (left, bottom, right, top):
        assert edge == round(edge / resolution) * resolution
    # the area's outline, point by point
    target = CRS.from_epsg(32610) if crs == "auto" else CRS.from_user_input(crs)
    outline = shapely.get_coordinates(shapely.segmentize(aoi.geometry, 0.001))
    x, y = Transformer.from_crs("EPSG:4326", target, always_xy=True).transform(*outline.T)
    slack = 0.1  # metres, for a bow between two of the points that are projected
    assert left - slack <= x.min() < left + resolution
    assert right - resolution < x.max() <= right + slack
    assert bottom - slack <= y.min() < bottom + resolution
    assert top - resolution < y.max() <= top + slack


def test_the_resolution_that_the_readme_starts_with() -> None:
    geobox = grid_for(parse_aoi(SEATTLE), "auto", 100)
    assert crs_name(geobox) == "EPSG:32610"
    assert (geobox.transform.c % 100, geobox.transform.f % 100) == (0, 0)


DECIMALS = ("0.0001", "0.0003", "0.001", "0.0025", "0.01", "0.07", "0.1", "0.9")


@settings(deadline=None, max_examples=200)
@given(
    resolution=st.sampled_from(DECIMALS),
    west=st.integers(-179, 170),
    south=st.integers(-85, 80),
    steps=st.tuples(*[st.integers(0, 5000)] * 2, *[st.integers(1, 400)] * 2),
)
def test_bounds_on_the_grid_stay_as_they_are(
    resolution: str, west: int, south: int, steps: tuple[int, int, int, int]
) -> None:
    # 12.1 / 0.0001 is 121000.00000000001 in floating point: counted in decimals, there is no such thing
    size = Decimal(resolution)
    left, bottom = (Decimal(n) // size * size + k * size for n, k in zip((west, south), steps[:2], strict=True))
    right, top = left + steps[2] * size, bottom + steps[3] * size
    assume(left >= -180 and right <= 180 and bottom >= -90 and top <= 90)
    geobox = grid_for(bbox(*map(float, (left, bottom, right, top))), "EPSG:4326", float(resolution))
    assert (geobox.shape[1], geobox.shape[0]) == (steps[2], steps[3])
    assert geobox.transform.c == int(left / size) * float(resolution)
    assert geobox.transform.f == int(top / size) * float(resolution)


@settings(deadline=None, max_examples=200)
@given(
    resolution=st.sampled_from([*map(float, DECIMALS[:-1]), 1 / 3600, 1 / 30]),
    west=st.floats(-180, 179),
    south=st.floats(-90, 89),
    size=st.tuples(*[st.floats(0.05, 1.0)] * 2),
)
def test_any_bounds_are_held_and_hardly_exceeded(
    resolution: float, west: float, south: float, size: tuple[float, float]
) -> None:
    aoi = bbox(west, south, min(west + size[0], 180), min(south + size[1], 90))
    west, south, east, north = aoi.geometry.bounds
    left, bottom, right, top = grid_bounds(grid_for(aoi, "EPSG:4326", resolution))
    near = 2e-6 * resolution  # edges this close to the grid count as on it
    assert left - near <= west < left + resolution + near
    assert right - resolution - near < east <= right + near
    assert bottom - near <= south < bottom + resolution + near
    assert top - resolution - near < north <= top + near
    for edge in (left, top):
        assert edge / resolution == pytest.approx(round(edge / resolution), abs=1e-6)


def test_an_area_smaller_than_a_pixel_gets_one() -> None:
    geobox = grid_for(bbox(9.00001, 47.00001, 9.00002, 47.00002), "auto", 100)
    assert tuple(geobox.shape) == (1, 1)


def test_a_parallel_is_a_bow_in_utm_and_the_bow_is_held() -> None:
    shape = project_aoi(bbox(6.0, 60.0, 12.0, 61.0), "EPSG:32632")
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform(9.0, 60.0)
    corners = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform([6.0, 12.0], [60.0, 60.0])
    assert min(corners[1]) - y > 1000  # two corners alone would cut it off
    assert shape.distance(shapely.Point(x, y)) < 20
    assert grid_bounds(grid_for(bbox(6.0, 60.0, 12.0, 61.0), "EPSG:32632", 100))[1] <= y


# UTM


@pytest.mark.parametrize(
    ("lon", "lat"), [(-179.9, -79.0), (-120.5, 45.0), (-0.5, -0.5), (0.5, 0.5), (100.0, -34.0), (179.5, 83.0)]
)
def test_the_zone_is_that_of_the_register(lon: float, lat: float) -> None:
    found = query_utm_crs_info(datum_name="WGS 84", area_of_interest=AreaOfInterest(lon, lat, lon, lat), contains=True)
    aoi = bbox(lon - 0.04, lat - 0.04, lon + 0.04, lat + 0.04)
    assert [utm_crs(aoi)] == [f"EPSG:{one.code}" for one in found]
    assert crs_name(grid_for(aoi, "auto", 100)) == utm_crs(aoi)


@pytest.mark.parametrize(
    ("area", "code"),
    [
        ((5.0, 45.0, 6.5, 46.0), 32631),  # two thirds in the west
        ((5.5, 45.0, 7.0, 46.0), 32632),
        ((5.0, 45.0, 7.0, 46.0), 32631),  # halves: the western
        ((6.0, 45.0, 12.0, 46.0), 32632),  # a whole zone, edge to edge
        ((0.0, 45.0, 12.0, 46.0), 32631),  # two whole zones
        ((10.0, -1.0, 11.0, 2.0), 32632),
        ((10.0, -2.0, 11.0, 1.0), 32732),
        ((179.0, -17.0, -179.5, -16.0), 32760),  # across the antimeridian
        ((179.5, -17.0, -179.0, -16.0), 32701),
        ((-180.0, 60.0, -174.0, 61.0), 32601),
        ((174.0, 60.0, 180.0, 61.0), 32660),
    ],
)
def test_the_zone_that_holds_most(area: tuple[float, float, float, float], code: int) -> None:
    assert utm_crs(bbox(*area)) == f"EPSG:{code}"


def test_the_shape_counts_and_not_its_box() -> None:
    shape = shapely.union_all([shapely.box(5.9, 45, 6, 47), shapely.box(5.9, 45, 6.9, 45.1)])
    assert utm_crs(parse_aoi(shape)) == "EPSG:32631"  # 0.2 square degrees of 0.29, though the box is in zone 32


def test_degrees_near_a_pole_count_less() -> None:
    # a strip in zone 31 near the equator against one of three times the degrees in zone 32 at 78 degrees
    shape = shapely.MultiPolygon([shapely.box(5, 0, 6, 1), shapely.box(6, 77, 7, 80)])
    assert utm_crs(parse_aoi(shape)) == "EPSG:32631"


def test_southern_grids_count_from_the_false_northing() -> None:
    left, bottom, right, top = grid_bounds(grid_for(bbox(18.3, -34.2, 18.6, -33.9), "auto", 20))
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32734", always_xy=True).transform(18.45, -34.05)
    assert left < x < right
    assert 6_000_000 < bottom < y < top < 6_500_000


# The antimeridian


@pytest.mark.parametrize(("crs", "resolution"), [("auto", 100.0), ("EPSG:4326", 0.001), ("EPSG:3832", 100.0)])
def test_a_grid_across_the_antimeridian_is_no_wider_than_its_area(crs: str, resolution: float) -> None:
    geobox = grid_for(bbox(179.5, -17.2, -179.5, -16.8), crs, resolution)
    assert 990 <= geobox.shape[1] <= 1120  # 1 degree, about 106 km
    assert 400 <= geobox.shape[0] <= 470
    if crs == "EPSG:4326":
        assert grid_bounds(geobox) == pytest.approx((179.5, -17.2, 180.5, -16.8), abs=1e-9)


ISLANDS = Aoi(shapely.MultiPolygon([shapely.box(179, -17, 179.4, -16), shapely.box(180.6, -17, 181, -16)]), False, "")


@pytest.mark.parametrize("aoi", [bbox(179.5, -17.2, -179.5, -16.8), ISLANDS], ids=["box", "islands"])
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:6933"])
def test_a_projection_with_its_edge_in_the_area_is_refused(aoi: Aoi, crs: str) -> None:
    # the grid would go around the Earth
    with pytest.raises(GridError) as refused:
        grid_for(aoi, crs, 1000)
    assert str(refused.value) == (
        f"The edge of {crs} cuts the area into pieces. Expected a CRS that keeps it in one piece. Try crs='auto'."
    )


@pytest.mark.parametrize(
    ("area", "crs", "resolution"),
    [
        ((-180.0, -80.0, 180.0, 80.0), "EPSG:3857", 1000.0),
        ((-180.0, -90.0, 180.0, 90.0), "EPSG:4326", 0.1),
        ((-180.0, -85.0, 180.0, 85.0), "EPSG:6933", 1000.0),
        ((-180.0, 60.0, 180.0, 90.0), "EPSG:3413", 1000.0),
        ((-30.0, 30.0, 50.0, 72.0), "EPSG:3035", 1000.0),
        ((6.0, 0.0, 12.0, 84.0), "EPSG:32632", 1000.0),
        ((9.0, 47.0, 9.001, 48.0), "EPSG:3857", 1000.0),
        ((9.0, 47.0, 19.0, 47.001), "EPSG:3857", 1000.0),
    ],
)
def test_large_and_slender_areas_stay_in_one_piece(
    area: tuple[float, float, float, float], crs: str, resolution: float
) -> None:
    assert grid_for(bbox(*area), crs, resolution).shape[0] > 0


# Refusals: the whole sentence, as a user reads it


@pytest.mark.parametrize(
    ("area", "crs", "resolution", "sentence"),
    [
        ((9, 47, 10, 48), "EPSG:99999", 100,
         "The CRS 'EPSG:99999' isn't known. Expected 'auto', or a CRS such as EPSG:32631. Try crs='auto'."),
        ((9, 47, 10, 48), "", 100,
         "The CRS '' isn't known. Expected 'auto', or a CRS such as EPSG:32631. Try crs='auto'."),
        ((9, 47, 10, 48), "auto", 0,
         "resolution must be above 0 and finite, got 0. Try resolution=100."),
        ((9, 47, 10, 48), "auto", -10,
         "resolution must be above 0 and finite, got -10. Try resolution=100."),
        ((9, 47, 10, 48), "auto", float("nan"),
         "resolution must be above 0 and finite, got nan. Try resolution=100."),
        ((9, 47, 10, 48), "auto", float("inf"),
         "resolution must be above 0 and finite, got inf. Try resolution=100."),
        ((5, 47, 13, 48), "auto", 100,
         "The area is 8.0° wide and touches 3 UTM zones. A UTM grid covers at most two. Try crs with a projection "
         "for the whole area (such as EPSG:3035 in Europe), or a smaller aoi."),
        ((9, 47, 10, 48), "EPSG:4978", 100,
         "EPSG:4978 is neither a projected nor a geographic CRS. Try crs='auto'."),
        ((9, 47, 10, 48), "EPSG:5773", 100,
         "EPSG:5773 is neither a projected nor a geographic CRS. Try crs='auto'."),
        ((9, 47, 10, 48), "EPSG:4326", 10,
         "A resolution of 10 in EPSG:4326 means 10 degrees. Expected less than 1 degree. "
         "Try resolution=9e-05 for about 10 m, or a projected crs."),
        ((9, 47, 10, 48), "auto", 0.0001,
         "A resolution of 0.0001 in EPSG:32632 means 0.0001 metres. Expected metres, and this looks like degrees. "
         "Try resolution=11."),
        ((-120, 37, -119.9, 37.1), "EPSG:2227", 0.0001,
         "A resolution of 0.0001 in EPSG:2227 means 0.0001 US survey feet. Expected US survey feet, and this looks "
         "like degrees. Try resolution=11."),
        ((9, 47, 9.01, 47.01), "EPSG:4326", 0.5,
         "A resolution of 0.5 degrees is larger than the area (0.01 degrees). Try a smaller resolution."),
        ((9, 47, 10, 48), "EPSG:4326", 5e-7,
         "At 5e-07 degrees the area is 2000000 × 2000000 pixels. A side must be at most 1048576 pixels. "
         "Try a larger resolution or a smaller aoi."),
    ],
)  # fmt: skip
def test_what_is_said_of_a_grid_that_can_not_be(
    area: tuple[float, float, float, float], crs: str, resolution: float, sentence: str
) -> None:
    with pytest.raises(GridError) as refused:
        grid_for(bbox(*area), crs, resolution)
    assert str(refused.value) == sentence
    assert refused.value.exit_code == 2


def test_a_pixel_much_larger_than_the_area_is_refused_in_metres_too() -> None:
    with pytest.raises(
        GridError, match=r"^A resolution of 50000 metres is larger than the area \(\d+\.?\d* metres\)\."
    ):
        grid_for(bbox(9, 47, 9.01, 47.01), "auto", 50_000)


def test_an_area_that_has_no_place_in_a_projection_is_refused() -> None:
    # the far side of the Earth can't be seen from above London
    with pytest.raises(GridError, match=r"The area can't be projected to .*ortho.*valid there\. Try crs='auto'"):
        grid_for(bbox(170, -50, 171, -49), "+proj=ortho +lat_0=51 +lon_0=0", 1000)


def test_a_grid_without_crs_is_refused() -> None:
    with pytest.raises(GridError, match="The grid has no CRS"):
        crs_name(GeoBox((2, 2), Affine(1, 0, 0, 0, -1, 0), None))


def test_a_crs_without_code_is_named_in_full() -> None:
    geobox = grid_for(parse_aoi(SEATTLE), LOCAL_LAEA, 100)
    assert CRS.from_wkt(crs_name(geobox)).equals(CRS.from_proj4(LOCAL_LAEA), ignore_axis_order=True)
    assert crs_name(grid_for(parse_aoi(SEATTLE), "epsg:32610", 100)) == "EPSG:32610"
    wkt = CRS.from_epsg(32610).to_wkt()
    assert crs_name(grid_for(parse_aoi(SEATTLE), wkt, 100)) == "EPSG:32610"


# Windows


@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (513, 1), (1000, 1537)])
@pytest.mark.parametrize("side", [512, 1024])
def test_blocks_cover_every_pixel_once(shape: tuple[int, int], side: int) -> None:
    seen = np.zeros(shape, int)
    found = blocks(shape, side)
    for block in found:
        assert (block.row % side, block.col % side) == (0, 0)
        assert 0 < block.shape[0] <= side
        assert 0 < block.shape[1] <= side
        seen[block.row : block.row_stop, block.col : block.col_stop] += 1
    assert (seen == 1).all()
    assert list(found) == sorted(found, key=lambda b: (b.row, b.col))


@settings(deadline=None)
@given(row=st.integers(0, 50), rows=st.integers(1, 60), height=st.integers(1, 70))
def test_strips_cover_every_row_once(row: int, rows: int, height: int) -> None:
    window = Window(row, row + rows, 3, 9)
    strips = list(window.strips(height))
    assert [n for s in strips for n in range(s.row, s.row_stop)] == list(range(row, row + rows))
    assert all((s.col, s.col_stop) == (3, 9) and s.shape[0] <= height for s in strips)


def test_bounds_of_a_window() -> None:
    geobox = GeoBox((50, 60), Affine(10, 0, 1000, 0, -10, 9000), "EPSG:32632")
    assert window_bounds(geobox, Window(5, 7, 10, 40)) == (1100, 8930, 1400, 8950)
    assert grid_bounds(geobox) == (1000, 8500, 1600, 9000)


@pytest.mark.parametrize("target", ["EPSG:32631", "EPSG:3035", "EPSG:4326"])
def test_projected_bounds_hold_all_that_is_within(target: str) -> None:
    bounds = (300_000.0, 5_000_000.0, 320_000.0, 5_020_000.0)
    found = project_bounds(bounds, "EPSG:32632", target)
    assert found is not None
    xs, ys = np.meshgrid(np.linspace(bounds[0], bounds[2], 201), np.linspace(bounds[1], bounds[3], 201))
    x, y = Transformer.from_crs("EPSG:32632", target, always_xy=True).transform(xs, ys)
    slack = 2e-6 if target == "EPSG:4326" else 0.2
    assert found[0] - slack <= x.min()
    assert found[1] - slack <= y.min()
    assert found[2] + slack >= x.max()
    assert found[3] + slack >= y.max()
    assert found == pytest.approx((x.min(), y.min(), x.max(), y.max()), abs=10 * slack)


def test_projected_bounds_that_can_not_be_said() -> None:
    assert project_bounds((1.0, 2.0, 3.0, 4.0), "EPSG:3035", "EPSG:3035") == (1.0, 2.0, 3.0, 4.0)
    assert project_bounds((0.0, 80.0, 10.0, 100.0), "EPSG:4326", "+proj=ortho +lat_0=-80") is None


def test_projected_bounds_across_the_antimeridian_can_not_be_said_in_degrees() -> None:
    to = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True)
    (west, east), (south, north) = to.transform([179.95, -179.95], [0.3, 0.4])
    assert project_bounds((west, south, east, north), "EPSG:32601", "EPSG:4326") is None
    found = project_bounds((west, south, east, north), "EPSG:32601", "EPSG:32660")
    assert found is not None
    assert found[0] < found[2]


# The cut

GEOBOX = GeoBox((700, 560), Affine(10, 0, 300_000, 0, -10, 5_000_000), "EPSG:32632")
WHOLE = Window(0, 700, 0, 560)


def pixel(col: float, row: float) -> tuple[float, float]:
    """Where a place given in pixels lies."""
    return 300_000 + 10 * col, 5_000_000 - 10 * row


def cut(shape: BaseGeometry | None, window: Window = WHOLE) -> Mask:
    found = rasterize_window(shape, GEOBOX, window)
    return np.ones(window.shape, bool) if found is None else found


def by_centre(shape: BaseGeometry, window: Window = WHOLE) -> Mask:
    cols, rows = np.meshgrid(np.arange(window.col, window.col_stop), np.arange(window.row, window.row_stop))
    x, y = pixel(cols + 0.5, rows + 0.5)
    shapely.prepare(shape)
    return np.asarray(shapely.contains_xy(shape, x, y))


@st.composite
def stars(draw: st.DrawFn) -> BaseGeometry:
    """A polygon around some place, often with a hole, often across tiles and beyond the grid."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    centre = draw(st.tuples(st.floats(-50, 600), st.floats(-50, 750)))
    reach = draw(st.sampled_from([2.0, 20.0, 200.0, 800.0]))
    angles = np.sort(rng.uniform(0, 2 * np.pi, draw(st.integers(3, 40))))
    radii = rng.uniform(0.4, 1.0, angles.size) * reach

    def ring(part: float) -> list[tuple[float, float]]:
        points = zip(angles, radii * part, strict=True)
        return [pixel(centre[0] + r * np.cos(a), centre[1] + r * np.sin(a)) for a, r in points]

    shape = shapely.Polygon(ring(1.0), [ring(draw(st.floats(0.1, 0.9)))] if draw(st.booleans()) else None)
    assume(shape.is_valid and shape.area > 0)
    return shape


@settings(max_examples=25, deadline=None)
@given(stars())
def test_a_pixel_is_kept_when_its_centre_is_inside(shape: BaseGeometry) -> None:
    found, expected = cut(shape), by_centre(shape)
    for row, col in np.argwhere(found != expected):
        # only rounding may differ, on the very line
        assert shape.boundary.distance(shapely.Point(pixel(col + 0.5, row + 0.5))) < 1e-5


def windows(height: int, width: int) -> st.SearchStrategy[Window]:
    def span(size: int) -> st.SearchStrategy[tuple[int, int]]:
        edge = st.integers(0, size) | st.sampled_from([0, 1, TILE - 1, TILE, TILE + 1, size])
        return st.tuples(edge, edge).map(lambda s: (min(s), max(s))).filter(lambda s: s[0] < s[1])

    return st.tuples(span(height), span(width)).map(lambda s: Window(*s[0], *s[1]))


@settings(max_examples=25, deadline=None)
@given(stars(), st.lists(windows(700, 560), min_size=4, max_size=4))
def test_the_cut_does_not_depend_on_windows(shape: BaseGeometry, parts: list[Window]) -> None:
    whole = cut(shape)
    for window in parts:
        np.testing.assert_array_equal(
            cut(shape, window), whole[window.row : window.row_stop, window.col : window.col_stop]
        )


def test_centres_on_the_line_do_not_depend_on_windows_either() -> None:
    # every edge runs through centres, straight and at 45 degrees
    shape = shapely.Polygon(
        [pixel(*p) for p in ((10.5, 10.5), (530.5, 10.5), (530.5, 400.5), (300.5, 630.5), (10.5, 630.5))]
    )
    whole = cut(shape)
    assert whole[11:400, 11:530].all()
    assert not whole[:10].any()
    assert not whole[631:].any()
    for height in (1, 7, 64, 512):
        np.testing.assert_array_equal(np.concatenate([cut(shape, s) for s in WHOLE.strips(height)]), whole)


def test_a_hole_is_cut_out_across_tiles() -> None:
    hole = shapely.box(*pixel(400, 650), *pixel(550, 480))
    shape = shapely.box(*pixel(100, 690), *pixel(555, 100)) - hole
    expected = np.zeros((700, 560), bool)
    expected[100:690, 100:555] = True
    expected[480:650, 400:550] = False
    np.testing.assert_array_equal(cut(shape), expected)
    assert not cut(shape, Window(500, 600, 420, 540)).any()


def test_parts_and_touching_corners() -> None:
    shape = shapely.MultiPolygon(
        [shapely.box(*pixel(10, 20), *pixel(20, 10)), shapely.box(*pixel(512, 560), *pixel(520, 512))]
    )
    expected = np.zeros((700, 560), bool)
    expected[10:20, 10:20] = True
    expected[512:560, 512:520] = True
    np.testing.assert_array_equal(cut(shape), expected)
    np.testing.assert_array_equal(cut(shape, Window(512, 700, 512, 560)), expected[512:, 512:])
    assert not cut(shape, Window(20, 512, 20, 512)).any()


def test_nothing_is_cut_where_the_shape_holds_the_window() -> None:
    shape = shapely.box(*pixel(100, 600), *pixel(500, 100))
    assert rasterize_window(None, GEOBOX, WHOLE) is None
    assert rasterize_window(shape, GEOBOX, Window(100, 600, 100, 500)) is None
    assert rasterize_window(shape, GEOBOX, Window(99, 600, 100, 500)) is not None
    outside = rasterize_window(shape, GEOBOX, Window(0, 50, 0, 50))
    assert outside is not None
    assert not outside.any()


def test_a_sliver_between_centres_keeps_nothing() -> None:
    assert not cut(shapely.box(*pixel(10.6, 600), *pixel(11.4, 5))).any()
    assert cut(shapely.box(*pixel(10.4, 600), *pixel(10.6, 5))).sum() == 595


def test_a_cut_in_degrees_and_small_pixels() -> None:
    geobox = GeoBox((600, 300), Affine(1e-5, 0, 12.1, 0, -1e-5, 45.3), "EPSG:4326")
    shape = shapely.Point(12.1015, 45.297).buffer(0.0012)
    found = rasterize_window(shape, geobox, Window(0, 600, 0, 300))
    x = 12.1 + (np.arange(300) + 0.5) * 1e-5
    y = 45.3 - (np.arange(600) + 0.5) * 1e-5
    np.testing.assert_array_equal(found, shapely.contains_xy(shape, *np.meshgrid(x, y)))


@pytest.mark.parametrize("resolution", [10.0, 20.0, 30.0, 15.0])
def test_an_area_of_so_many_pixels_is_so_many_pixels(resolution: float) -> None:
    geobox = GeoBox((9, 9), Affine(resolution, 0, 0, 0, -resolution, 0), "EPSG:32631")
    one = Decimal(int(resolution) ** 2) / 10_000
    for pixels in (0, 1, 3, 7, 29, 57, 113, 999, 123_457):
        # 0.07 / 0.01 is 7.000000000000001
        assert pixels_of(float(pixels * one), geobox) == pixels
        assert pixels_of(float((pixels + Decimal("0.01")) * one), geobox) == pixels + 1
