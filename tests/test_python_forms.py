"""What Python callers have is used in any form, with one meaning: days, numbers, areas, items, conditions, grids."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import cql2
import geopandas
import numpy as np
import pandas as pd
import pyproj
import pystac
import pytest
import rasterio
import shapely
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox, Geometry
from odc.geo.types import resxy_

import eoap_dask as eo
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION as MOSAIC
from eoap_dask.errors import DateError, EoapError, HrefError, UsageError
from eoap_dask.geo.options import as_crs, as_resolution
from eoap_dask.params import as_json, local_files
from eoap_dask.periods import parse_day
from eoap_dask.values import as_integer, as_number

# ----------------------------------------------------------------------------------------------------
# Days

LIBRARIES: dict[str, Callable[[datetime], Any]] = {
    "datetime": lambda moment: moment,
    "naive datetime of UTC": lambda moment: moment.astimezone(UTC).replace(tzinfo=None),
    "pandas": pd.Timestamp,
    "numpy": lambda moment: np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us"),
    "numpy array": lambda moment: np.array(moment.astimezone(UTC).replace(tzinfo=None), "M8[ns]"),
    "hour of numpy": lambda moment: np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "h"),
    "xarray": lambda moment: xr.DataArray(np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "ns")),
    "hour of pandas": lambda moment: pd.Period(moment.astimezone(UTC).replace(tzinfo=None), "h"),
}
MOMENTS = st.datetimes(
    datetime(1990, 1, 2),  # noqa: DTZ001 - the zone follows
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(moment=MOMENTS, library=st.sampled_from(sorted(LIBRARIES)))
def test_a_time_is_the_day_on_which_it_falls_in_utc(moment: datetime, library: str) -> None:
    since_1970 = math.floor(moment.timestamp() / 86400)
    expected = date.fromordinal(date(1970, 1, 1).toordinal() + since_1970)
    found = parse_day(LIBRARIES[library](moment), "start")
    assert found == expected
    assert type(found) is date


@given(day=st.dates(date(1990, 1, 1), date(2100, 1, 1)))
def test_a_day_is_that_day_whoever_has_it(day: date) -> None:
    forms = (day, day.isoformat(), np.datetime64(day), np.str_(day), pd.Period(day, "D"), pd.Timestamp(day))
    assert {parse_day(form, "start") for form in forms} == {day}
    params = [eo.MosaicParams(start_date=form, end_date=form) for form in forms]  # type: ignore[arg-type]
    assert set(params) == {eo.MosaicParams(start_date=day.isoformat(), end_date=day.isoformat())}
    assert eo.BurnedAreaParams(pre_date=day).pre_date == day.isoformat()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        np.datetime64("2020"),
        np.datetime64("2020-10"),
        pd.Period("2020-10", "M"),
        pd.NaT,
        np.datetime64("NaT"),
        np.array(["2020-10-01"], "M8[D]"),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_what_is_no_day_is_refused(wrong: object) -> None:
    with pytest.raises(DateError):
        parse_day(wrong, "start")


# ----------------------------------------------------------------------------------------------------
# Numbers

WHOLE: tuple[Callable[[int], Any], ...] = (int, str, float, Decimal, np.int64, np.float64, np.array, lambda n: f" {n} ")


@given(number=st.integers(-(2**50), 2**50), form=st.sampled_from(WHOLE))
def test_a_whole_number_in_any_form(number: int, form: Callable[[int], Any]) -> None:
    found = as_integer(form(number), "max_items", 9)
    assert (found, type(found)) == (number, int)
    assert as_number(form(number), "soil", 0.5) == number


@given(number=st.floats(allow_nan=False, allow_infinity=False), form=st.sampled_from((float, np.float64, np.array)))
def test_a_fraction_is_no_whole_number(number: float, form: Callable[[float], Any]) -> None:
    assert as_number(form(number), "soil", 0.5) == number
    assume(number != math.floor(number))
    with pytest.raises(UsageError, match="max_items must be a whole number, got "):
        as_integer(form(number), "max_items", 9)


@pytest.mark.parametrize("wrong", [True, np.bool_(True), np.timedelta64(5, "D"), np.ma.masked, 1j, [5], np.array([5])])
def test_what_only_looks_like_a_number_is_refused(wrong: object) -> None:
    for convert in (as_integer, as_number):
        with pytest.raises(UsageError):
            convert(wrong, "max_items", 9)


def test_a_pixel_has_one_size() -> None:
    for form in (10, (10, -10), (10, 10), [-10, 10], np.array([10, -10]), resxy_(10, -10), "10", np.float32(10)):
        assert as_resolution(form, "resolution") == 10
        assert eo.MosaicParams(resolution=form).resolution == 10  # type: ignore[arg-type]
    for wrong in ((10, 20), (-10, -10), (10,), (10, -10, 10), resxy_(10, -20), (math.nan, math.nan)):
        with pytest.raises(UsageError):
            as_resolution(wrong, "resolution")


def test_a_crs_in_any_form() -> None:
    forms = [32633, np.int64(32633), "EPSG:32633", pyproj.CRS(32633), rasterio.crs.CRS.from_epsg(32633)]
    forms.append(GeoBox((1, 1), rasterio.Affine.identity(), "EPSG:32633").crs)
    assert {as_crs(form, "crs") for form in forms} == {"EPSG:32633"}
    own = pyproj.CRS.from_proj4("+proj=laea +lat_0=42 +lon_0=15 +units=m")
    assert pyproj.CRS(as_crs(own, "crs")) == own


# ----------------------------------------------------------------------------------------------------
# Areas


def grid_of(left: float, bottom: float, right: float, top: float, crs: str) -> GeoBox:
    return GeoBox((8, 8), rasterio.Affine((right - left) / 8, 0, left, 0, (bottom - top) / 8, top), crs)


AREAS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda box: box.bounds,
    "list": lambda box: list(box.bounds),
    "array": lambda box: np.array(box.bounds),
    "array of 32 bits": lambda box: np.array(box.bounds, np.float32),
    "text": lambda box: ",".join(map(repr, box.bounds)),
    "shapely": lambda box: box,
    "mapping": shapely.geometry.mapping,
    "GeoSeries": lambda box: geopandas.GeoSeries([box], crs=4326),
    "GeoDataFrame": lambda box: geopandas.GeoDataFrame({"day": [pd.Timestamp(0)]}, geometry=[box], crs=4326),
    "GeoSeries in another CRS": lambda box: geopandas.GeoSeries([box], crs=4326).to_crs(3035),
    "GeoBox": lambda box: grid_of(*box.bounds, "EPSG:4326"),
    "GeoBox in another CRS": lambda box: grid_of(
        *geopandas.GeoSeries([box], crs=4326).to_crs(3857).total_bounds.tolist(), "EPSG:3857"
    ),
    "Geometry": lambda box: Geometry(box, "EPSG:4326").to_crs("EPSG:3857"),
    "BoundingBox": lambda box: BoundingBox(*box.bounds, crs="EPSG:4326").to_crs("EPSG:3857"),
}


@given(
    west=st.floats(-30, 40), south=st.floats(-50, 60), size=st.floats(0.01, 0.5), form=st.sampled_from(sorted(AREAS))
)
def test_an_area_in_any_form(west: float, south: float, size: float, form: str) -> None:
    box = shapely.box(west, south, west + size, south + size)
    found = eo.parse_aoi(AREAS[form](box)).geometry
    # between two corners, lines of another CRS bend a little in degrees; 32 bits round
    assert found.symmetric_difference(box).area < 2e-3 * box.area


def test_a_grid_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="The GeoBox has no CRS"):
        eo.parse_aoi(GeoBox((2, 2), rasterio.Affine(1, 0, 12, 0, -1, 42), None))


# ----------------------------------------------------------------------------------------------------
# Items

AOI = "15.0,41.55,15.02,41.56"
GRID = {"proj:shape": [200, 200], "proj:transform": [10, 0, 500000, 0, -10, 4602000]}
RED = 2000 + 5 * np.arange(200)[:, None] + np.arange(200)
"""Digital numbers; the mean of their reflectance is (2000 + 5 × 99.5 + 99.5) / 10000 = 0.2597."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two scenes of a month, each with an item file beside, and a collection of both."""
    root = tmp_path_factory.mktemp("scenes")
    profile = {
        "driver": "GTiff",
        "width": 200,
        "height": 200,
        "count": 1,
        "crs": "EPSG:32633",
        "tiled": True,
        "transform": rasterio.Affine(10, 0, 500000, 0, -10, 4602000),
        "blockxsize": 128,
        "blockysize": 128,
    }
    for name, pixels in (("red.tif", RED.astype(np.uint16)), ("scl.tif", np.full((200, 200), 4, np.uint8))):
        with rasterio.open(root / name, "w", dtype=pixels.dtype, **profile) as file:
            file.write(pixels, 1)
    for name, day, cover in (("S2A_x", "2020-10-05", 10), ("S2A_y", "2020-10-15", 30)):
        (root / f"{name}.json").write_text(json.dumps(an_item(root, name, day, cover)))
    return root


def an_item(root: Path, name: str, day: str, cover: int = 10) -> dict[str, Any]:
    links = [{"rel": "self", "href": str(root / f"{name}.json"), "type": "application/json"}]
    properties = {"datetime": f"{day}T10:00:00Z", "proj:epsg": 32633, "s2:processing_baseline": "05.00"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "links": links,
        "collection": "sentinel-2-l2a",
        "geometry": shapely.geometry.mapping(shapely.box(15.0, 41.5, 15.1, 41.6)),
        "bbox": [15.0, 41.5, 15.1, 41.6],
        "properties": {**properties, "eo:cloud_cover": cover, "s2:datatake_id": name},
        # the offset of baseline 4 and later is told, so that numbers are reflectance × 10000
        "assets": {
            b: {"href": f"./{b}.tif", "raster:bands": [{"scale": 1e-4, "offset": 0}], **GRID} for b in ("red", "scl")
        },
    }


FORMS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "dicts": lambda items: items,
    "tuple": tuple,
    "generator": lambda items: (item for item in items),
    "collection as a dict": lambda items: {"type": "FeatureCollection", "features": items},
    "pystac items": lambda items: [pystac.Item.from_dict(item) for item in items],
    "pystac ItemCollection": lambda items: pystac.ItemCollection([pystac.Item.from_dict(item) for item in items]),
    "pystac from files": lambda items: [pystac.Item.from_file(item["links"][0]["href"]) for item in items],
    "mixed": lambda items: [items[0], *(pystac.Item.from_dict(item) for item in items[1:])],
    "array of objects": lambda items: np.array(items, object),
}


@pytest.mark.parametrize("form", FORMS)
def test_items_in_any_form_are_those_of_their_files(form: str, place: Path) -> None:
    documents = [json.loads((place / f"{name}.json").read_text()) for name in ("S2A_y", "S2A_x")]
    found = eo.ItemSet.of(FORMS[form](documents))
    of_files = eo.ItemSet.load(place / "S2A_x.json").merged(eo.ItemSet.load(place / "S2A_y.json"))
    plain = [{key: item[key] for key in ("id", "properties", "assets", "collection")} for item in found]
    assert plain == [{key: item[key] for key in ("id", "properties", "assets", "collection")} for item in of_files]
    assert (found.local_files, found.collection) == (of_files.local_files, "sentinel-2-l2a")
    assert len(found.local_files) == 2
    cube = eo.load(FORMS[form](documents), "red", geobox=grid(), chunks="auto")
    assert cube.red.mean(("y", "x")).values.tolist() == pytest.approx([0.2597, 0.2597], abs=1e-6)


def grid() -> GeoBox:
    return GeoBox((200, 200), rasterio.Affine(10, 0, 500000, 0, -10, 4602000), "EPSG:32633")


def test_one_item_and_the_path_of_its_file(place: Path) -> None:
    document = json.loads((place / "S2A_x.json").read_text())
    for form in (document, pystac.Item.from_dict(document), place / "S2A_x.json", str(place / "S2A_x.json")):
        assert [item["id"] for item in eo.ItemSet.of(form)] == ["S2A_x"]
        assert round(float(eo.load(form, ("red",), geobox=grid()).red.mean()), 4) == 0.2597
        assert [item["id"] for item in eo.search(AOI, date(2020, 10, 1), date(2020, 10, 31), stac=form)] == ["S2A_x"]


def test_values_that_json_lacks_become_json(place: Path) -> None:
    item = an_item(place, "S2A_x", "2020-10-05")
    item["properties"] |= {"datetime": datetime(2020, 10, 5, 10, tzinfo=UTC), "eo:cloud_cover": np.float32(10)}
    item["bbox"] = np.array([15.0, 41.5, 15.1, 41.6])
    item["assets"]["red"]["proj:shape"] = (200, np.int64(200))
    (found,) = eo.ItemSet.of(item)
    assert found == json.loads(json.dumps(found))
    assert found["properties"]["eo:cloud_cover"] == 10
    assert found["assets"]["red"]["proj:shape"] == [200, 200]


def test_the_items_of_a_caller_are_left_alone(place: Path) -> None:
    item = an_item(place, "S2A_x", "2020-10-05")
    eo.load(item, "red", geobox=grid())
    assert item == an_item(place, "S2A_x", "2020-10-05")


@pytest.mark.parametrize("own", ["", "S2A_y.json", "nowhere.json", "red.tif", "secret/none.json"])
def test_an_item_of_anybody_names_no_file_of_this_machine(own: str, place: Path, tmp_path: Path) -> None:
    """Whatever it says of itself: only what a file on this machine names too is read."""
    secret = place / "secret.tif"
    secret.write_bytes((place / "red.tif").read_bytes())
    item = an_item(place, "S2A_x", "2020-10-05")
    item["links"] = [{"rel": "self", "href": str(place / own)}] if own else []
    for asset in item["assets"].values():
        asset["href"] = str(secret)
    found = eo.ItemSet.of([item])
    assert not found.local_files
    with pytest.raises(HrefError):
        eo.load(found, "red", geobox=grid())
    assert eo.ItemSet.of([item], folder=place).local_files == {str(secret)}
    assert not eo.ItemSet.of([item], folder=tmp_path).local_files


# ----------------------------------------------------------------------------------------------------
# Conditions, chunks, and whole applications


def test_a_condition_in_any_form(place: Path) -> None:
    tree = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}
    items = [json.loads((place / f"{name}.json").read_text()) for name in ("S2A_x", "S2A_y")]
    for form in ("eo:cloud_cover < 20", json.dumps(tree), tree, cql2.Expr(tree)):
        found = eo.search(AOI, "2020-10-01", "2020-10-31", stac=items, filter=form)
        assert [item["id"] for item in found] == ["S2A_x"]
        assert eo.MosaicParams(filter=form).filter  # type: ignore[arg-type]
    assert len(eo.search(AOI, "2020-10-01", "2020-10-31", stac=items, filter=None)) == 2  # type: ignore[arg-type]


def test_auto_chunks_are_ours(place: Path) -> None:
    items = eo.ItemSet.of([place / "S2A_x.json"][0])
    plain = eo.load(items, "red", geobox=grid()).red.chunks
    for same in ("auto", {}, {"y": "auto"}, {"x": -1}, {"x": None}, {"time": 1, "y": 200, "x": "200"}):
        assert eo.load(items, "red", geobox=grid(), chunks=same).red.chunks == plain
    halves = eo.load(items, "red", geobox=grid(), chunks={"y": np.int64(100), "x": (150, 50)}).red.chunks
    assert halves == ((1,), (100, 100), (150, 50))
    with pytest.raises(UsageError, match=r"chunks don't add up to the cube: it has 1 time steps and 200 × 200 pixels"):
        eo.load(items, "red", geobox=grid(), chunks={"y": (100, 50)})


def test_an_application_takes_what_python_has(place: Path, tmp_path: Path) -> None:
    """The plan of a mosaic is the same from files and texts as from objects."""
    collection = tmp_path / "both.json"
    documents = [json.loads((place / f"{name}.json").read_text()) for name in ("S2A_x", "S2A_y")]
    eo.ItemSet.of(documents).save(collection)
    texts = eo.MosaicParams(
        items=str(place / "S2A_x.json"), stac=str(collection), aoi=AOI, bands=("red",), resolution=10.0,
        start_date="2020-10-01", end_date="2020-10-31", crs="EPSG:32633", max_cloud_cover=100.0,
    )  # fmt: skip
    objects = eo.MosaicParams(
        items=pystac.Item.from_file(str(place / "S2A_x.json")), stac=collection, bands="red", resolution=(10, -10),
        aoi=geopandas.GeoSeries([shapely.box(15.0, 41.55, 15.02, 41.56)], crs=4326), crs=pyproj.CRS(32633),
        start_date=date(2020, 10, 1), end_date=pd.Timestamp("2020-10-31T12:00", tz="UTC"), max_cloud_cover="100",
    )  # type: ignore[arg-type] # fmt: skip
    options = eo.RunOptions(output_dir=str(tmp_path / "out"), workers="1")  # type: ignore[arg-type]
    assert options == eo.RunOptions(output_dir=tmp_path / "out", workers=1)
    plans = [MOSAIC.dry_run(params, options) for params in (texts, objects)]
    assert plans[0].units[0].digest == plans[1].units[0].digest
    assert json.loads(json.dumps(plans[1].params))["items"] == "<ItemSet 1 item of sentinel-2-l2a from Python>"
    json.dumps(as_json(objects))
    assert [name for name, _ in local_files(objects)] == ["stac", "items"]  # its self link leads to one


def test_no_items_are_not_a_search_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(EoapError, match="No items of sentinel-2-l2a"):
        eo.cloudless_mosaic(items=[], aoi=AOI, output_dir=tmp_path / "out")


def test_options_of_a_gateway_in_any_form() -> None:
    pairs = (("worker_cores", "2"), ("image", "x"))
    for form in (pairs, dict(pairs), [list(pair) for pair in pairs], {"worker_cores": 2, "image": "x"}):
        assert eo.RunOptions(cluster_options=form).cluster_options == pairs  # type: ignore[arg-type]
