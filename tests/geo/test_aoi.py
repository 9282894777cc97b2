import json
import pickle
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box, mapping, shape

from eoap_dask.errors import AoiError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.parse import parse_aoi

BOX = {"type": "Polygon", "coordinates": [[[12, 41], [13, 41], [13, 42], [12, 42], [12, 41]]]}
TRIANGLE = Polygon([(12, 41), (13, 41), (12, 42)])

lons = st.integers(-1_800_000, 1_800_000).map(lambda n: n / 10_000)
lats = st.integers(-900_000, 900_000).map(lambda n: n / 10_000)


def message(value):
    with pytest.raises(AoiError) as caught:
        parse_aoi(value)
    fault = caught.value
    assert fault.exit_code == 2
    assert all(part.endswith((".", ").")) for part in (fault.what, fault.expected, fault.hint) if part)
    return str(fault)


@given(lons, lats, lons, lats)
def test_a_bbox_survives_the_round_trip(west, one, east, other):
    south, north = min(one, other), max(one, other)
    width = east - west if east > west else east + 360 - west
    if south == north or (east < west and width > 180) or width % 360 == 0:
        return
    aoi = parse_aoi(f"{west},{south},{east},{north}")
    bbox = aoi.bbox
    normal = (-180 if west == 180 else west, south, 180 if east == -180 else east, north)
    assert bbox == pytest.approx(normal, abs=1e-9)
    assert all(-180 <= lon <= 180 for lon in bbox[::2])
    assert aoi.crosses_antimeridian == (bbox[0] > bbox[2])
    assert aoi.is_box
    assert aoi.boxed() is aoi
    assert parse_aoi(",".join(map(str, bbox))).bbox == bbox
    # the same through GeoJSON, which is split at the antimeridian and joined again
    again = parse_aoi(json.dumps(aoi.geojson))
    assert again.bbox == pytest.approx(bbox, abs=1e-9)
    assert again.geometry.area == pytest.approx(aoi.geometry.area)


@given(lons, lats, st.integers(1, 60), st.integers(1, 20))
def test_geojson_lies_within_the_world_and_keeps_the_area(west, south, width, height):
    north = min(90, south + height)
    if north == south or west == 180:
        return
    east = west + width
    aoi = parse_aoi([west, south, east - 360 if east > 180 else east, north])
    geometry = shape(aoi.geojson)
    assert geometry.is_valid
    assert -180 <= geometry.bounds[0] <= geometry.bounds[2] <= 180
    assert geometry.area == pytest.approx(width * (north - south))
    for polygon in getattr(geometry, "geoms", [geometry]):
        assert polygon.exterior.is_ccw


@pytest.mark.parametrize(
    "value",
    [
        "12,41,13,42",
        " 12, 41, 13, 42 ",
        "12 41 13 42",
        "[12, 41, 13, 42]",
        [12, 41, 13, 42],
        (12.0, 41.0, 13.0, 42.0),
        np.array([12, 41, 13, 42]),
        BOX,
        json.dumps(BOX),
        {"type": "Feature", "properties": {}, "geometry": BOX},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": BOX}]},
        {"type": "GeometryCollection", "geometries": [BOX, {"type": "Point", "coordinates": [0, 0]}]},
        "POLYGON ((12 41, 13 41, 13 42, 12 42, 12 41))",
        "SRID=4326;polygon z((12 41 5, 13 41 5, 13 42 5, 12 42 5, 12 41 5))",
        box(12, 41, 13, 42),
    ],
)
def test_every_way_of_giving_a_box(value):
    aoi = parse_aoi(value)
    assert aoi.bbox == (12, 41, 13, 42)
    assert aoi.is_box
    assert not aoi.crosses_antimeridian
    assert pickle.loads(pickle.dumps(aoi)) == aoi  # noqa: S301
    assert parse_aoi(aoi) is aoi
    assert len(aoi.source) <= 80
    assert repr(aoi) == "<Aoi box 12,41,13,42>"


def test_a_shape_is_no_box_and_can_be_boxed():
    aoi = parse_aoi(TRIANGLE)
    assert not aoi.is_box
    assert aoi.boxed().is_box
    assert aoi.boxed().bbox == aoi.bbox


def test_several_features_are_united():
    other = {"type": "Polygon", "coordinates": [[[12.5, 41], [14, 41], [14, 42], [12.5, 42], [12.5, 41]]]}
    aoi = parse_aoi({"type": "GeometryCollection", "geometries": [BOX, other]})
    assert aoi.is_box
    assert aoi.bbox == (12, 41, 14, 42)


def test_parts_on_both_sides_of_the_antimeridian_become_one_shape():
    aoi = parse_aoi(MultiPolygon([box(178, -18, 180, -16), box(-180, -18, -179, -16)]))
    assert aoi.geometry.bounds == (178, -18, 181, -16)
    assert aoi.geometry.geom_type == "Polygon"
    assert aoi.bbox == (178, -18, -179, -16)
    assert aoi.crosses_antimeridian
    assert aoi.geojson["type"] == "MultiPolygon"


def test_parts_far_apart_stay_where_they_are():
    assert parse_aoi(MultiPolygon([box(-80, 0, -70, 5), box(90, 0, 100, 5)])).bbox == (-80, 0, 100, 5)


@pytest.mark.parametrize(
    "value",
    ["-180,-90,180,90", box(-180, -90, 180, 90), MultiPolygon([box(-180, -90, 0, 90), box(0, -90, 180, 90)])],
)
def test_the_world_is_an_area(value):
    aoi = parse_aoi(value)
    assert aoi.bbox == (-180, -90, 180, 90)
    assert not aoi.crosses_antimeridian


def test_a_self_intersection_is_repaired():
    aoi = parse_aoi("POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))")
    assert aoi.geometry.is_valid
    assert aoi.geometry.area == pytest.approx(2)


def test_intersects_is_safe_at_the_antimeridian():
    aoi = parse_aoi("178,-18,-179,-16")
    assert aoi.intersects(box(-179.5, -17, -178, -16.5))
    assert aoi.intersects(box(179, -17, 179.5, -16.5))
    assert not aoi.intersects(box(-170, -17, -160, -16.5))
    assert parse_aoi("-180,-18,-179,-16").intersects(box(179, -17, 180.5, -16.5))


def test_a_search_gets_few_vertices_and_loses_nothing():
    wild = Point(179.9, 10).buffer(1, quad_segs=2000).difference(Point(179.9, 10).buffer(0.5, quad_segs=2000))
    aoi = Aoi(wild, is_box=False, source="ring")
    simple = shape(aoi.simplified_for_search())
    assert shapely.get_num_coordinates(simple) < 600
    assert simple.buffer(1e-9).covers(shape(aoi.geojson))
    assert simple.area < 1.05 * wild.area
    plain = parse_aoi(TRIANGLE)
    assert plain.simplified_for_search() == plain.geojson


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("47.5,-122.2,47.7,-121.9", "looks like lat/lon order"),
        ("47.5,-122.2,47.7,-121.9", "Try -122.2,47.5,-121.9,47.7."),
        ("170,-20,190,-10", "Try 170,-20,-170,-10."),
        ("10,-20,200,95", "isn't on Earth"),
        ("500000,4600000,510000,4610000", "look like metres"),
        ("13,41,12,42", "359° wide"),
        ("13,41,12,42", "try 12,41,13,42."),
        ("1,2,3", "has 3 numbers. A bounding box has four"),
        ("1,2,3,4,5", "has 5 numbers."),
        ("1,2,0,3,4,9", "Leave out the two heights."),
        ([1], "has 1 number."),
        ("1,abc,3,4", "'abc' in the bounding box '1,abc,3,4' isn't a number."),
        ("nan,1,2,3", "isn't finite"),
        ("1,1,inf,3", "isn't finite"),
        ("1,1,1,2", "has no area"),
        ("1,2,3,2", "has no area"),
        ("180,1,-180,2", "has no area"),
        ("1,3,2,2", "south 3 above its north 2"),
        ("-122,47.7,-122.2,47.5", "Try -122.2,47.5,-122,47.7."),  # its corners in the other order
        ("179,47.7,-179,47.5", "Try 179,47.5,-179,47.7."),
        ("1,3,2,2", "Try 1,2,2,3."),
        ("", "is empty"),
        (5, "can't be read from a value of type int"),
        ("/no/such.geojson", "There is no file '/no/such.geojson'"),
        ("fields.gpkg", "There is no file 'fields.gpkg'"),
        ("https://example.org/a.geojson?sig=SECRET", "'https://example.org/a.geojson' is a URL."),
        ("{", "isn't JSON"),
        ("{}", "its type is None"),
        ({"type": "Topology"}, "its type is 'Topology'"),
        ({"type": "FeatureCollection"}, "no list of features"),
        ({"type": "FeatureCollection", "features": [1]}, "it has 1 instead of an object"),
        ({"type": "FeatureCollection", "features": []}, "has no geometry"),
        ({"type": "Feature", "geometry": None}, "has no geometry"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, "x"]]]}, "coordinates can't be read"),
        ({"type": "Polygon"}, "coordinates can't be read"),
        ({"type": "Polygon", "coordinates": []}, "is empty"),
        ({"type": "Point", "coordinates": [1, 2]}, "has no polygon, only Point"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}, "has no area"),
        (
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 200], [0, 0]]]},
            "isn't on Earth (its bounds are 0,0,2,200)",
        ),
        ("POLYGON ((47 -122, 48 -122, 48 -121, 47 -122))", "looks like lat/lon order"),
        ("POLYGON ((170 0, 190 0, 190 1, 170 0))", "Split the shape at the antimeridian"),
        ("POLYGON ((1 2, 3", "can't be read"),
        ("POINT (1 2)", "only Point"),
        ("SRID=999999;POLYGON ((1 2, 3 4, 5 0, 1 2))", "The CRS 'EPSG:999999'"),
        ("x" * 5000, "There is no file"),
        ("a\0b", "There is no file"),
    ],
)
def test_faults_say_what_is_wrong(value, says):
    text = message(value)
    assert says in text
    assert "SECRET" not in text
    assert len(text) < 400


def test_geojson_nested_too_deeply():
    deep = {"type": "Feature", "geometry": None}
    for _ in range(3000):
        deep = {"type": "GeometryCollection", "geometries": [deep]}
    assert "nested too deeply" in message(deep)


def test_an_old_geojson_with_a_crs_is_reprojected():
    square = mapping(box(500000, 4600000, 510000, 4610000))
    aoi = parse_aoi({**square, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}})
    assert aoi.bbox == pytest.approx((15, 41.55, 15.12, 41.64), abs=0.01)
    crs84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert parse_aoi({**BOX, "crs": crs84}).is_box


def test_files(tmp_path):
    geojson = tmp_path / "12,41.geojson"
    geojson.write_text(json.dumps(BOX), encoding="utf-8-sig")
    assert parse_aoi(str(geojson)).bbox == (12, 41, 13, 42)
    assert parse_aoi(geojson).is_box
    wkt = tmp_path / "a.wkt"
    wkt.write_text(TRIANGLE.wkt)
    assert parse_aoi(wkt).geometry.equals(TRIANGLE)

    empty = tmp_path / "empty.geojson"
    empty.touch()
    assert "is empty" in message(empty)
    assert "isn't UTF-8 text" in message(_written(tmp_path / "b.json", b"\xff\xfe\x00"))
    assert "can't be read as vector data" in message(_written(tmp_path / "c.gpkg", b"nonsense"))
    assert "can't be read as vector data" in message(tmp_path)
    assert "There is no file" in message(tmp_path / "none.gpkg")


def test_a_vector_file_is_reprojected_and_united(tmp_path):
    import pyogrio.raw

    path = tmp_path / "fields.gpkg"
    squares = [box(500000, 4600000, 505000, 4610000), box(505000, 4600000, 510000, 4610000)]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(squares),
        field_data=[],
        fields=[],
        geometry_type="Polygon",
        crs="EPSG:32633",
        driver="GPKG",
    )
    aoi = parse_aoi(str(path))
    assert aoi.geometry.geom_type == "Polygon"
    assert aoi.bbox == pytest.approx((15, 41.55, 15.12, 41.64), abs=0.01)
    assert aoi.source == "fields.gpkg"


def test_a_data_frame_is_reprojected():
    frame = geopandas.GeoDataFrame({"a": [1, 2]}, geometry=[box(12, 41, 13, 42), None], crs=4326)
    for one in (frame, frame.geometry, frame.to_crs(3857), frame.set_crs(None, allow_override=True)):
        assert parse_aoi(one).bbox == pytest.approx((12, 41, 13, 42))
    assert "has no geometry" in message(frame.iloc[1:])


def _written(path, content):
    path.write_bytes(content)
    return path


def test_a_file_of_another_kind_is_refused_in_whole_words(tmp_path: Path) -> None:
    path = tmp_path / "area.pdf"
    path.write_bytes(b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n")
    with pytest.raises(AoiError) as refused:
        parse_aoi(str(path))
    said = str(refused.value)
    assert "as vector data: it is not recognized as being in a supported file format. Expected GeoJSON, " in said
    assert "driver" not in said
