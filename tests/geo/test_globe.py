"""Areas across 180°, around poles, and with curves: each is itself, however it is written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from shapely.geometry import MultiPolygon, Point, Polygon, box, mapping, shape

from eoap_dask.errors import AoiError
from eoap_dask.geo.footprint import shape_footprint_4326
from eoap_dask.geo.grid import grid_and_shape
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.rasterize import rasterize_window
from eoap_dask.geo.window import Window

# ±20 km × ±10 km around 180° E 17° S; the bboxes are those that issue 15 gives
BBOXES = {
    32760: (179.811, -17.093, -179.811, -16.907),
    32701: (179.811, -17.093, -179.811, -16.907),
    3832: (179.8203, -17.0864, -179.8203, -16.9135),
    3460: (179.8117, -17.0914, -179.8115, -16.9084),
    3994: (179.7623, -17.1143, -179.7623, -16.8856),
}


def projected_box(epsg: int, width: float = 20_000, height: float = 10_000) -> Polygon:
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180, -17)
    return box(x - width, y - height, x + width, y + height)


def written(kind: str, one: Polygon, epsg: int, folder: Path) -> Any:
    if kind == "EWKT":
        return f"SRID={epsg};{one.wkt}"
    frame = gpd.GeoDataFrame(geometry=[one], crs=epsg)
    if kind == "GeoPackage":
        frame.to_file(folder / "area.gpkg")
        return folder / "area.gpkg"
    if kind == "GeoJSON":
        return {**mapping(one), "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}}
    return frame if kind == "GeoDataFrame" else frame.geometry


@pytest.mark.parametrize("kind", ["GeoPackage", "GeoDataFrame", "GeoSeries", "EWKT", "GeoJSON"])
@pytest.mark.parametrize("epsg", BBOXES)
def test_a_projected_area_across_180_is_itself(epsg: int, kind: str, tmp_path: Path) -> None:
    aoi = parse_aoi(written(kind, projected_box(epsg), epsg, tmp_path))
    digits = 3 if epsg in (32760, 32701) else 4
    assert tuple(round(edge, digits) for edge in aoi.bbox) == BBOXES[epsg]
    assert aoi.crosses_antimeridian
    assert aoi.geometry.geom_type == "Polygon"
    assert aoi.geojson["type"] == "MultiPolygon"
    assert parse_aoi(aoi.geojson).bbox == pytest.approx(aoi.bbox, abs=1e-9)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["WKT", "GeoJSON", "shapely", "GeoPackage", "other degrees"])
def test_one_ring_with_both_signs_crosses_180(kind: str, turned: bool, tmp_path: Path) -> None:
    ring = [(179.8, -17.1), (-179.8, -17.1), (-179.8, -16.9), (179.8, -16.9)]
    one = Polygon(ring[::-1] if turned else ring)
    value: Any = {"WKT": one.wkt, "GeoJSON": mapping(one), "shapely": one}.get(kind)
    if kind == "GeoPackage":
        value = written(kind, one, 4326, tmp_path)
    if kind == "other degrees":
        value = f"SRID=4258;{one.wkt}"  # ETRS89
    aoi = parse_aoi(value)
    assert aoi.bbox == pytest.approx((179.8, -17.1, -179.8, -16.9))
    assert aoi.geometry.area == pytest.approx(0.4 * 0.2)
    assert aoi.is_box


def test_holes_and_other_parts_go_with_it() -> None:
    ring = Polygon(
        [(179, -17), (-179, -17), (-179, -15), (179, -15)],
        [[(-179.8, -16.5), (-179.6, -16.5), (-179.6, -16), (-179.8, -16)], [(179.9, -16), (-179.9, -16), (180, -15.5)]],
    )
    aoi = parse_aoi(MultiPolygon([ring, box(-178.5, -17, -178, -16)]))
    assert aoi.geometry.area == pytest.approx(2 * 2 - 0.2 * 0.5 - 0.2 * 0.5 / 2 + 0.5)
    assert aoi.bbox == (179, -17, -178, -15)


@pytest.mark.parametrize(
    "one",
    [
        box(-170, 0, 170, 10).segmentize(180),
        box(-180, -60, 180, 60),
        Polygon([(-180, -60), (0, -60), (180, -60), (180, -90), (-180, -90)]),
        Polygon([(-170, 0), (0, 5), (170, 0), (170, 10), (-170, 10)]),
    ],
)
def test_a_shape_that_is_wide_as_written_stays_so(one: Polygon) -> None:
    aoi = parse_aoi(one)
    assert aoi.geometry.equals(one)
    assert parse_aoi(aoi.geojson).geometry.equals(one)


longitudes = st.integers(-1800, 1799).map(lambda n: n / 10)


@given(west=longitudes, width=st.integers(1, 1799), kind=st.sampled_from(["one ring", "parts", "geojson"]))
def test_where_it_is_written_on_the_circle_decides_nothing(west: float, width: int, kind: str) -> None:
    """Axes: where it begins, how wide it is (an edge of half the circle has no short way), how it is written."""
    east = west + width / 10
    one = Polygon([(west, 10), (east, 11), (east, 20), (west, 20)])
    there = shapely.transform(
        one, lambda xy: np.column_stack([np.where(xy[:, 0] > 180, xy[:, 0] - 360, xy[:, 0]), xy[:, 1]])
    )
    if kind == "parts":
        far = shapely.transform(one.intersection(box(180, 0, 540, 90)), lambda xy: xy - [360, 0])
        near = one.intersection(box(-180, 0, 180, 90))
        there = MultiPolygon([part for part in (near, far) if part.geom_type == "Polygon" and part.area])
    if kind == "geojson":
        there = shape(parse_aoi(there).geojson)
    aoi = parse_aoi(there)
    assert aoi.geometry.area == pytest.approx(one.area)
    assert aoi.geometry.bounds == pytest.approx(one.bounds)


CENTRES = {
    32760: 180,
    32701: -180,
    3832: 180,
    3460: 180,
    3994: -175,
    32633: 15,
    3857: 0,
    6933: 0,
    3035: 10,
    32601: -180,
}


@settings(max_examples=50)
@given(
    epsg=st.sampled_from(sorted(CENTRES)),
    east=st.floats(-1.5, 1.5),
    north=st.floats(-1, 1),
    radius=st.floats(1_000, 60_000),
    hole=st.booleans(),
    kind=st.sampled_from(["EWKT", "GeoSeries"]),
)
def test_a_projected_disc_keeps_its_area_wherever_it_lies(
    epsg: int, east: float, north: float, radius: float, hole: bool, kind: str
) -> None:
    """Axes: CRS, distance from 180° or elsewhere, size, hole, spelling. Held against a disc made on the ellipsoid."""
    lat = {32633: 45, 3035: 50, 6933: 20, 3857: 30, 32601: 20}.get(epsg, -17) + north
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(CENTRES[epsg] + east, lat)
    one = Point(x, y).buffer(radius, quad_segs=32)
    one = one.difference(Point(x, y).buffer(radius / 2)) if hole else one
    aoi = parse_aoi(written(kind, one, epsg, Path()))
    lon, lats = Transformer.from_crs(epsg, 4326, always_xy=True).transform(*shapely.get_coordinates(one).T)
    lon = CENTRES[epsg] + (lon - CENTRES[epsg] + 180) % 360 - 180  # around the centre, another way than by its edges
    west = math.floor((lon.min() + 180) / 360) * 360
    assert aoi.geometry.bounds == pytest.approx((lon.min() - west, lats.min(), lon.max() - west, lats.max()), abs=1e-4)
    geod = Geod(ellps="WGS84")
    rings = shapely.get_parts(shapely.get_rings(one))
    areas = []
    for ring in rings:
        lon, lats = Transformer.from_crs(epsg, 4326, always_xy=True).transform(*shapely.get_coordinates(ring).T)
        areas.append(abs(geod.polygon_area_perimeter(lon, lats)[0]))
    found = abs(geod.geometry_area_perimeter(shapely.geometry.polygon.orient(aoi.geometry))[0])
    assert found == pytest.approx(areas[0] - sum(areas[1:]), rel=1e-3)


@pytest.mark.parametrize("epsg", [3031, 3995, 3413])
@pytest.mark.parametrize("hole", [0, 300_000])
def test_around_a_pole(epsg: int, hole: float) -> None:
    disc = Point(1e5, 1e5).buffer(1e6)
    disc = disc.difference(Point(0, 0).buffer(hole)) if hole else disc
    aoi = parse_aoi(f"SRID={epsg};{disc.wkt}")
    assert aoi.bbox[::2] == (-180, 180)
    assert abs(aoi.bbox[1 if epsg == 3031 else 3]) == (pytest.approx(87.3, abs=0.1) if hole else 90)
    geobox, outline = grid_and_shape(aoi, f"EPSG:{epsg}", 10_000)
    assert outline.is_valid
    height, width = geobox.shape
    painted = rasterize_window(outline, geobox, Window(0, height, 0, width))
    assert painted is not None
    a, _, c, _, e, f = tuple(geobox.transform)[:6]
    xs, ys = np.meshgrid(c + a * (np.arange(width) + 0.5), f + e * (np.arange(height) + 0.5))
    np.testing.assert_array_equal(painted, shapely.contains_xy(disc, xs, ys))


def test_a_footprint_across_180_is_in_two_parts() -> None:
    geometry, bbox = shape_footprint_4326("EPSG:32760", projected_box(32760))
    assert geometry["type"] == "MultiPolygon"
    assert bbox == pytest.approx(BBOXES[32760], abs=1e-3)
    one = shape(geometry)
    assert one.is_valid
    assert one.bounds[0::2] == (-180, 180)
    near = box(179, -18, 180, -16).intersection(one)
    assert near.bounds[::2] == pytest.approx((179.811, 180), abs=1e-3)
    degrees = Transformer.from_crs(32760, 4326, always_xy=True).transform(*projected_box(32760).exterior.xy)
    assert near.bounds[1] == pytest.approx(min(degrees[1]), abs=1e-5)


def test_the_footprint_of_several_parts_is_all_of_them() -> None:
    parts = [box(500_000, 4_600_000, 501_000, 4_601_000), box(510_000, 4_600_000, 511_000, 4_601_000)]
    geometry, bbox = shape_footprint_4326("EPSG:32633", MultiPolygon(parts))
    assert len(geometry["coordinates"]) == 2
    degrees = gpd.GeoSeries(parts, crs=32633).to_crs(4326)
    assert bbox == pytest.approx(degrees.total_bounds, abs=2e-5)
    assert shape(geometry).area == pytest.approx(sum(one.area for one in degrees), rel=1e-3)
    with pytest.raises(ValueError, match="no area"):
        shape_footprint_4326("EPSG:32633", box(500_000, 4_600_000, 500_000.01, 4_600_000.01))


# ----------------------------------------------------------------------------------------------------
# Curves

HALF_DISC = math.pi / 2


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("CURVEPOLYGON (CIRCULARSTRING (5 0, 7 0, 5 0))", math.pi),
        ("CURVEPOLYGON(CIRCULARSTRING(0 0, 1 1, 2 0, 1 -1, 0 0))", math.pi),
        ("curvepolygon z (compoundcurve z (circularstring z (0 0 5, 1 1 5, 2 0 5), (2 0 5, 0 0 5)))", HALF_DISC),
        (
            "CURVEPOLYGON(COMPOUNDCURVE((2 0,0 0),CIRCULARSTRING(0 0,1 -1,2 0)),(1 -.4,1.2 -.4,1.2 -.2,1 -.2,1 -.4))",
            HALF_DISC - 0.04,
        ),
        ("CURVEPOLYGON((0 0,4 0,4 4,0 4,0 0),CIRCULARSTRING(1 2,3 2,1 2))", 16 - math.pi),
        (
            "MULTISURFACE(((0 0,1 0,1 1,0 0)),CURVEPOLYGON(CIRCULARSTRING(5 0,7 0,5 0)),POLYGON((0 5,1 5,1 6,0 5)))",
            1 + math.pi,
        ),
        ("MULTISURFACE (((0 0,1 0,1 1,0 0)))", 0.5),
        ("GEOMETRYCOLLECTION(LINESTRING(0 0,1 1),CURVEPOLYGON(CIRCULARSTRING(5 0,7 0,5 0)))", math.pi),
        ("SRID=4326;CURVEPOLYGON(CIRCULARSTRING(0 0,1 0,2 0,1 -1,0 0))", HALF_DISC),  # a straight arc
    ],
)
def test_curves_are_read_as_short_edges(text: str, area: float) -> None:
    assert parse_aoi(text).geometry.area == pytest.approx(area, rel=1e-4)


@given(
    radius=st.floats(0.01, 5),
    start=st.floats(0, 2 * math.pi),
    sweep=st.floats(0.05, 2 * math.pi - 0.05),
    turns=st.sampled_from([1, -1]),
    share=st.floats(0.2, 0.8),
)
def test_an_arc_and_its_chord_enclose_a_segment(
    radius: float, start: float, sweep: float, turns: int, share: float
) -> None:
    """Axes: size, place, length and direction of the arc, and where on it its middle point lies."""
    angles = [start, start + turns * share * sweep, start + turns * sweep]
    a, b, c = ((10 + radius * math.cos(angle), 20 + radius * math.sin(angle)) for angle in angles)
    arc = ",".join(f"{x:.15g} {y:.15g}" for x, y in (a, b, c))
    aoi = parse_aoi(
        f"CURVEPOLYGON(COMPOUNDCURVE(CIRCULARSTRING({arc}),({c[0]:.15g} {c[1]:.15g},{a[0]:.15g} {a[1]:.15g})))"
    )
    lost = sweep * math.radians(1) ** 2 / 12  # by edges of a degree, of n·(δ − sin δ)/2
    assert aoi.geometry.area / radius**2 == pytest.approx((sweep - math.sin(sweep)) / 2, abs=1.1 * lost)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("TIN(((0 0,1 0,1 1,0 0)))", "can't be read: ParseException: Unknown type: 'TIN'"),
        ("TRIANGLE((0 0,1 0,1 1,0 0))", "can't be read"),
        ("POLYHEDRALSURFACE(((0 0,1 0,1 1,0 0)))", "can't be read"),
        ("CURVEPOLYGON(CIRCULARSTRING(0 0,1 1))", "an odd number of points, not 2"),
        ("CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0", "expected ')'"),
        ("CURVEPOLYGON(POINT(0 0))", "'POINT' isn't a curve"),
        ("CURVEPOLYGON(CIRCULARSTRING(0 0,1,2 0))", "two coordinates"),
        ("CURVEPOLYGON(CIRCULARSTRING(0 0,x y,2 0))", "can't be read"),
        ("CURVEPOLYGON((0 0,1 0,1 1,0 0)) AND", "unexpected 'AND'"),
        ("CURVEPOLYGON EMPTY", "is empty"),
        ("MULTICURVE((0 0,1 1))", "no polygon, only LineString"),
        ("CIRCULARSTRING(0 0,1 1,2 0)", "no polygon, only LineString"),
        ("MULTISURFACE" + "(MULTISURFACE" * 5000, "can't be read"),
    ],
)
def test_what_isnt_a_surface_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(AoiError) as caught:
        parse_aoi(text)
    assert says in str(caught.value)


def test_a_curved_file_is_read_as_short_edges(tmp_path: Path) -> None:
    """GDAL takes four degrees a piece, which is a two-hundredth of a disc's area at most."""
    path = tmp_path / "curved.gml"
    path.write_text(
        '<c xmlns:gml="http://www.opengis.net/gml" xmlns="x"><gml:featureMember><f><gml:Polygon srsName="EPSG:32633">'
        "<gml:exterior><gml:Ring><gml:curveMember><gml:Curve><gml:segments><gml:ArcString><gml:posList>"
        "500000 4600000 501000 4601000 502000 4600000 501000 4599000 500000 4600000"
        "</gml:posList></gml:ArcString></gml:segments></gml:Curve></gml:curveMember></gml:Ring></gml:exterior>"
        "</gml:Polygon></f></gml:featureMember></c>"
    )
    assert [kind for _, kind in pyogrio.list_layers(path)] != [None]
    metres = gpd.GeoSeries([parse_aoi(path).geometry], crs=4326).to_crs(32633)
    assert metres.area.iloc[0] == pytest.approx(math.pi * 1e6, rel=5e-3)
