"""Items of every catalogue become the same kind of scene: real ones where they are at hand, and one made by hand."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from eoap_dask.errors import BandError, EoapError, HrefError, ItemError
from eoap_dask.kernels.pixels import to_stored
from eoap_dask.net import hrefs as trust
from eoap_dask.scenes.model import Scene, SceneIndex, Source, footprint_touches, group_passes, without_duplicates
from eoap_dask.scenes.parse import pass_key, read_scenes, reflectance_offset, select_asset
from eoap_dask.scenes.sensor import sensor_for

Item = dict[str, Any]

SENSOR = sensor_for("sentinel-2-l2a")
TEN = (10980, 10980)
TWENTY = (5490, 5490)


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No name resolves: nothing here may need the network."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    trust._resolve.cache_clear()
    yield
    trust._resolve.cache_clear()


def read(
    *items: Item, bands: tuple[str, ...] = ("red",), cloud_mask: bool = True, private: str = ""
) -> tuple[Scene, ...]:
    hosts = frozenset({private} if private else ())
    return read_scenes(items, bands, SENSOR, cloud_mask=cloud_mask, private_hosts=hosts)


def read_one(item: Item, *bands: str) -> Scene:
    (scene,) = read(item, bands=bands or ("red",))
    return scene


# Real items


@pytest.fixture(scope="module")
def real(shared: Path) -> Callable[[str], Item]:
    """Items of the real catalogues, by the start of their file's name; a number takes one out of a search answer."""

    def load(name: str, number: int = 0) -> Item:
        (path,) = (shared / "stac").glob(f"{name}*.json")
        found: Item = json.loads(path.read_text("utf-8"))
        return found["features"][number] if found["type"] == "FeatureCollection" else found

    return load


V0, V1, STACTOOLS = "earthsearch_v0", "earthsearch_v1_S2A_13TDE", "stactools"
C1, C1_ANTIMERIDIAN = "earthsearch_v1_c1_S2B_T38XNF", "earthsearch_v1_c1_S2B_T01WCR"
PC, PC_SEARCH = "planetary_computer_S2B", "planetary_computer_20190101"

# name: code of the CRS, left and top, offset, pass, tile, baseline, key of red, key of the classes
EXPECTED: dict[str, tuple[int, float, float, int, str, str, tuple[int, int], str, str]] = {
    V0: (32628, 300000, 2300040, 0, "sentinel-2a/20200714T115221", "28QCH", (2, 14), "B04", "SCL"),
    V1: (32613, 399960, 4500000, 0, "sentinel-2a/20231008T175231", "13TDE", (5, 9), "red", "scl"),
    C1: (32638, 499980, 8100000, 1000, "sentinel-2b/20250422T091559", "38XNF", (5, 11), "red", "scl"),
    C1_ANTIMERIDIAN: (32601, 300000, 7600020, 1000, "sentinel-2b/20250427T000609", "01WCR", (5, 11), "red", "scl"),
    PC: (32606, 399960, 6800040, 0, "sentinel-2b/20190629T212529", "06VVN", (2, 12), "B04", "SCL"),
    PC_SEARCH: (32660, 300000, 6500040, 0, "sentinel-2a/20190101T000001", "60VUK", (2, 12), "B04", "SCL"),
    STACTOOLS: (32701, 99960, 8200000, 1000, "sentinel-2a/20230821T221941", "01KAB", (5, 9), "red", "scl"),
}


def absolute(item: Item) -> Item:
    """What stactools writes has hrefs relative to the product."""
    for asset in item["assets"].values():
        if asset["href"].startswith("./"):
            asset["href"] = "https://files.example.org/" + asset["href"][2:]
    return item


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_item_says_where_its_pixels_are_and_what_they_mean(real: Callable[[str], Item], name: str) -> None:
    code, left, top, offset, key, tile, baseline, red, classes = EXPECTED[name]
    item = absolute(real(name))
    scene = read_one(item, "red")
    band = scene.bands[0]
    assert scene.id == item["id"]
    assert (scene.pass_key, scene.tile, scene.baseline) == (key, tile, baseline)
    assert scene.datetime == datetime.fromisoformat(item["properties"]["datetime"])
    assert (band.asset, band.crs, band.shape) == (red, f"EPSG:{code}", TEN)
    assert band.transform == (10, 0, left, 0, -10, top)
    assert (band.offset, band.nodata) == (offset, 0)
    assert band.href == item["assets"][red]["href"]
    assert scene.mask is not None
    assert (scene.mask.asset, scene.mask.crs, scene.mask.shape) == (classes, f"EPSG:{code}", TWENTY)
    assert scene.mask.transform == (20, 0, left, 0, -20, top)
    assert (scene.mask.offset, scene.mask.nodata) == (0, 0)


@pytest.mark.parametrize("name", [V0, V1, C1, PC])
def test_the_collections_of_real_items_are_known(real: Callable[[str], Item], name: str) -> None:
    assert sensor_for(real(name)["collection"]) is SENSOR


def test_a_real_item_of_the_first_earth_search_gives_what_a_burn_ratio_needs(real: Callable[[str], Item]) -> None:
    """It has no raster:bands, no eo:bands, and no baseline but in the name of its product."""
    item = real(V0)
    scene = read_one(item, "red", "nir", "swir22")
    assert [b.asset for b in scene.bands] == ["B04", "B08", "B12"]
    assert [b.offset for b in scene.bands] == [0, 0, 0]
    assert [b.shape for b in scene.bands] == [TEN, TEN, TWENTY]
    assert [b.transform[0] for b in scene.bands] == [10, 10, 20]
    assert scene.href == item["id"]  # its own link is of s3, which isn't followed
    late = copy.deepcopy(item)
    late["properties"]["sentinel:product_id"] = item["properties"]["sentinel:product_id"].replace("N0214", "N0400")
    assert read_one(late, "nir").bands[0].offset == 1000
    late["properties"]["sentinel:boa_offset_applied"] = True
    assert read_one(late, "nir").bands[0].offset == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_item_has_every_band_by_every_name(real: Callable[[str], Item], name: str) -> None:
    item = absolute(real(name))
    for band in SENSOR.bands:
        keys = {select_asset(item, wanted, SENSOR) for wanted in (band.name, band.common_name)}
        (key,) = keys
        assert key in band.assets
        stem = Path(item["assets"][key]["href"]).stem  # such as B04, or T13TDE_20231008T175231_B04_10m
        assert band.name in stem.split("_"), (key, stem)
        native = {"B01": 60, "B09": 60}.get(band.name, 10 if band.name in ("B02", "B03", "B04", "B08") else 20)
        assert read_one(item, band.common_name).bands[0].shape[1] == 109800 // native


@pytest.mark.parametrize("name", [V1, PC, C1])
def test_rededge_alone_fits_several_bands(real: Callable[[str], Item], name: str) -> None:
    with pytest.raises(
        BandError, match=r"The band 'rededge' fits several assets: .*Expected one\. Use the key of one of them\."
    ):
        read_one(real(name), "rededge")


def test_bands_come_in_the_order_they_were_asked_for(real: Callable[[str], Item]) -> None:
    scene = read_one(real(PC), "nir08", "B03", "red", "swir16")
    assert [s.asset for s in scene.bands] == ["B8A", "B03", "B04", "B11"]
    assert [s.transform[0] for s in scene.bands] == [20, 10, 10, 20]


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.12", 0), ("03.01", 0), ("04.00", 1000), ("05.09", 1000), ("05.11", 1000), ("10.00", 1000)],
)
def test_planetary_computer_tells_by_its_baseline(real: Callable[[str], Item], baseline: str, offset: int) -> None:
    item = real(PC)
    item["properties"]["s2:processing_baseline"] = baseline
    scene = read_one(item)
    assert scene.bands[0].offset == offset
    assert scene.baseline == tuple(map(int, baseline.split(".")))


def test_an_offset_that_was_applied_is_not_applied_again(real: Callable[[str], Item]) -> None:
    item = real(V1)
    assert item["assets"]["red"]["raster:bands"][0]["offset"] == -0.1  # the trap
    assert read_one(item).bands[0].offset == 0
    item["properties"]["earthsearch:boa_offset_applied"] = False
    assert read_one(item).bands[0].offset == 1000


def test_one_pass_over_two_zones(real: Callable[..., Item]) -> None:
    scenes = read(*(real(PC_SEARCH, n) for n in (3, 0, 4, 2, 1)))
    assert {s.bands[0].crs for s in scenes} == {"EPSG:32659", "EPSG:32660"}
    (one,) = group_passes(scenes)
    assert one.key == "sentinel-2a/20190101T000001"
    assert [s.tile for s in one.scenes] == ["59VPC", "59VPD", "59VPE", "60VUJ", "60VUK"]  # by id


def test_a_landsat_item_among_the_found_is_refused_by_name(real: Callable[..., Item]) -> None:
    sentinel, landsat = (real("earthsearch_v1_search", n) for n in (0, 1))
    assert read_one(sentinel).tile == "13TDE"
    with pytest.raises(HrefError, match=r"has the scheme 's3'"):
        read(sentinel, landsat, cloud_mask=False)
    for asset in landsat["assets"].values():
        asset["href"] = asset["href"].replace("s3://", "https://")
    with pytest.raises(
        ItemError, match=r"item 'LC08_L2SP_033032_20231008_02_T1' declares the scale 2.75e-05\. Expected 0"
    ):
        read(sentinel, landsat, cloud_mask=False)


def test_an_item_at_the_antimeridian_touches_what_lies_there(real: Callable[[str], Item]) -> None:
    source = read_one(real(C1_ANTIMERIDIAN)).bands[0]
    assert footprint_touches(source, "EPSG:4326", (179.0, 67.6, 181.0, 68.0))
    assert footprint_touches(source, "EPSG:32660", (570_000, 7_540_000, 571_000, 7_541_000))
    assert not footprint_touches(source, "EPSG:4326", (170.0, 67.6, 171.0, 68.0))


def test_hrefs_of_a_product_on_disk_are_refused(real: Callable[[str], Item]) -> None:
    with pytest.raises(HrefError, match="is a path, not a URL"):
        read_one(real(STACTOOLS))


@pytest.fixture
def cdse(shared: Path) -> Item:
    """An item with the assets that the collection of CDSE describes."""
    described = json.loads((shared / "stac/cdse-sentinel-2-l2a.collection.json").read_text("utf-8"))["item_assets"]
    assets = {}
    for key, asset in described.items():
        assets[key] = {**asset, "href": f"https://eodata.example.org/S2A/{key}.jp2"}
        if asset.get("proj:shape"):
            size = 109800 / asset["proj:shape"][0]
            assets[key] |= {"proj:code": "EPSG:32632", "proj:transform": [size, 0, 600000, 0, -size, 5000040]}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S2A_MSIL2A_20241010T100901_N0511_R022_T32TQM_20241010T145812",
        "properties": {
            "datetime": "2024-10-10T10:09:01.025Z",
            "platform": "sentinel-2a",
            "processing:version": "05.11",
            "grid:code": "MGRS-32TQM",
        },
        "links": [],
        "assets": assets,
    }


def test_cdse_by_the_assets_of_its_collection(cdse: Item) -> None:
    scene = read_one(cdse, "red", "B08", "nir08", "B12_20m")
    assert [s.asset for s in scene.bands] == ["B04_10m", "B08_10m", "B8A_20m", "B12_20m"]
    assert [s.offset for s in scene.bands] == [1000] * 4
    assert [s.shape for s in scene.bands] == [TEN, TEN, TWENTY, TWENTY]
    assert scene.mask is not None
    assert (scene.mask.asset, scene.mask.offset) == ("SCL_20m", 0)
    assert (scene.tile, scene.baseline) == ("32TQM", (5, 11))
    assert scene.pass_key == "sentinel-2a/20241010T100901"
    for band in SENSOR.bands:
        key = select_asset(cdse, band.common_name, SENSOR)
        assert key is not None
        assert "sampling:original" in cdse["assets"][key]["roles"]
        assert cdse["assets"][key]["bands"] == [{"name": band.name, "eo:common_name": band.common_name}]
    for name in ("rededge071", "B05"):
        assert select_asset(cdse, name, SENSOR) == "B05_20m"


# An item made by hand


def item(**changes: Any) -> Item:
    """An item as small as it may be, in the manner of Planetary Computer; what is None is left out."""
    properties = {
        "datetime": "2021-07-13T19:09:19.024Z",
        "platform": "Sentinel-2B",
        "proj:epsg": 32610,
        "s2:mgrs_tile": "10TFK",
        "s2:processing_baseline": "03.01",
        "s2:datatake_id": "GS2B_20210713T190919_022731_N03.01",
        "s2:product_uri": "S2B_MSIL2A_20210713T190919_N0301_R056_T10TFK_20210713T212345.SAFE",
        "s2:generation_time": "2021-07-13T21:23:45.000Z",
    } | changes.pop("properties", {})
    assets: dict[str, Item] = {
        key: {
            "href": f"https://files.example.org/10TFK/{key}.tif",
            "proj:shape": [100, 90] if key != "SCL" else [50, 45],
            "proj:transform": [10.0, 0.0, 600000.0, 0.0, -10.0, 4600020.0]
            if key != "SCL"
            else [20.0, 0.0, 600000.0, 0.0, -20.0, 4600020.0],
        }
        for key in ("B04", "B08", "SCL")
    }
    for key, change in changes.pop("assets", {}).items():
        merged = {**assets.get(key, {}), **(change or {})}
        assets[key] = {k: v for k, v in merged.items() if v is not None}
        if change is None:
            del assets[key]
    whole: Item = {
        "type": "Feature",
        "id": "S2B_MSIL2A_20210713T190919_R056_T10TFK_20210713T212345",
        "properties": {k: v for k, v in properties.items() if v is not None},
        "links": [],
        "assets": assets,
    }
    return whole | changes


def test_the_item_made_by_hand_reads() -> None:
    updated = hashlib.sha256(b"2021-07-13T21:23:45.000Z").hexdigest()[:8]
    scene = read_one(item(), "red", "nir")
    assert scene.bands[1] == Source(
        "B08",
        "https://files.example.org/10TFK/B08.tif",
        "EPSG:32610",
        (10, 0, 600000, 0, -10, 4600020),
        (100, 90),
        0,
        0,
        updated,
        nodata_by_file=True,
        is_only=True,
    )
    assert scene.mask == Source(
        "SCL",
        "https://files.example.org/10TFK/SCL.tif",
        "EPSG:32610",
        (20, 0, 600000, 0, -20, 4600020),
        (50, 45),
        0,
        0,
        updated,
        nodata_by_file=True,
        is_only=True,
    )


def test_items_are_left_alone_and_their_order_is_irrelevant() -> None:
    nameless = {"s2:datatake_id": None, "s2:product_uri": None}
    several = [
        item(),
        item(id="later", properties=nameless | {"datetime": "2021-07-15T00:00:00Z"}),
        item(id="earlier", properties=nameless | {"datetime": "2021-07-01T00:00:00Z"}),
    ]
    before = copy.deepcopy(several)
    scenes = read(*several)
    assert several == before
    assert [s.id for s in scenes] == ["earlier", before[0]["id"], "later"]
    assert read(*several[::-1]) == scenes
    assert read() == ()


# Projection


WKT = CRS.from_epsg(32611).to_wkt()


@pytest.mark.parametrize(
    ("properties", "asset", "crs"),
    [
        ({}, {}, "EPSG:32610"),
        ({"proj:epsg": None, "proj:code": "EPSG:32611"}, {}, "EPSG:32611"),
        ({"proj:epsg": 32612, "proj:code": "EPSG:32611"}, {}, "EPSG:32611"),
        ({"proj:epsg": None}, {"proj:epsg": 32611}, "EPSG:32611"),
        ({"proj:epsg": None}, {"proj:code": "EPSG:32611"}, "EPSG:32611"),
        ({}, {"proj:epsg": 32611}, "EPSG:32611"),
        ({"proj:epsg": None, "proj:code": "EPSG:32610"}, {"proj:code": "EPSG:32611"}, "EPSG:32611"),
        ({"proj:epsg": None, "proj:wkt2": WKT}, {}, "EPSG:32611"),
        ({"proj:epsg": None}, {"proj:wkt2": WKT}, "EPSG:32611"),
    ],
)
def test_the_crs_may_stand_in_many_places(properties: Item, asset: Item, crs: str) -> None:
    (scene,) = read(item(properties=properties, assets={"B04": asset}), cloud_mask=False)
    assert scene.bands[0].crs == crs


def test_the_grid_may_stand_in_the_item_and_with_nine_numbers() -> None:
    transform = [10.0, 0.0, 500.0, 0.0, -10.0, 700.0, 0.0, 0.0, 1.0]
    properties = {"proj:shape": [7, 8], "proj:transform": transform}
    (scene,) = read(
        item(properties=properties, assets={"B04": {"proj:shape": None, "proj:transform": None}}), cloud_mask=False
    )
    assert (scene.bands[0].shape, scene.bands[0].transform) == ((7, 8), (10, 0, 500, 0, -10, 700))


@pytest.mark.parametrize(
    ("properties", "asset", "complaint"),
    [
        ({"proj:epsg": None}, {}, "has no projection"),
        ({}, {"proj:shape": None}, "has no shape or no transform"),
        ({}, {"proj:transform": None}, "has no shape or no transform"),
        ({}, {"proj:transform": []}, "has no shape or no transform"),
        ({}, {"proj:transform": [10, 0, 0, 0, -10]}, "has a malformed grid"),
        ({}, {"proj:transform": [10, 0, "x", 0, -10, 0]}, "has a malformed grid"),
        ({}, {"proj:transform": [10, 0, float("nan"), 0, -10, 0]}, "has a malformed grid"),
        ({}, {"proj:transform": [float("inf"), 0, 0, 0, -10, 0]}, "has a malformed grid"),
        ({}, {"proj:transform": 10}, "has a malformed grid"),
        ({}, {"proj:shape": [100]}, "has a malformed grid"),
        ({}, {"proj:shape": [100, None]}, "has a malformed grid"),
        ({}, {"proj:shape": [float("inf"), 100]}, "has a malformed grid"),
        ({}, {"proj:shape": [float("nan"), 100]}, "has a malformed grid"),
        ({}, {"proj:shape": [0, 100]}, "has an impossible grid of 0 × 100 pixels"),
        ({}, {"proj:shape": [100, -1]}, "has an impossible grid of 100 × -1 pixels"),
        ({}, {"proj:shape": [10**9, 10**9]}, "has an impossible grid of 1000000000 × 1000000000 pixels"),
        ({}, {"proj:transform": [10, 0, 0, 10, 0, 0]}, "has an impossible grid of 100 × 90 pixels"),
        ({"proj:epsg": 99999}, {}, "has the unknown projection 'EPSG:99999'"),
        ({"proj:epsg": 4978}, {}, "has the unknown projection 'EPSG:4978'"),  # geocentric: no map
        ({"proj:code": "IAU_2015:nonsense"}, {}, "has the unknown projection 'IAU_2015:nonsense'"),
    ],
)
def test_a_grid_that_can_not_be_used_is_named(properties: Item, asset: Item, complaint: str) -> None:
    with pytest.raises(ItemError) as refused:
        read(item(properties=properties, assets={"B04": asset}), cloud_mask=False)
    name = "S2B_MSIL2A_20210713T190919_R056_T10TFK_20210713T212345"
    assert str(refused.value) == (
        f"The asset 'B04' of item '{name}' {complaint}. Expected proj:code (or proj:epsg), proj:shape and "
        "proj:transform. Try another collection or catalogue."
    )
    assert refused.value.exit_code == 3


def test_the_grid_of_the_classes_is_checked_too() -> None:
    broken = item(assets={"SCL": {"proj:shape": None}})
    with pytest.raises(ItemError, match="The asset 'SCL' of item"):
        read(broken)
    assert read(broken, cloud_mask=False)[0].mask is None


# Bands and masks


def test_a_band_that_no_item_has_is_a_wrong_name() -> None:
    with pytest.raises(BandError) as refused:
        read(item(), item(id="other"), bands=("red", "gren"))
    assert str(refused.value) == (
        "No item has reflectance in a band 'gren'. Expected red (B04), nir (B08), or an asset key."
    )
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("B4", "Perhaps 'B04' is meant."),
        ("b04", "Perhaps 'B04' is meant."),
        ("B8", "Perhaps 'B08' is meant."),
        ("RED", "Perhaps 'red' is meant."),
        ("nirr", "Perhaps 'nir' is meant."),
        ("green", "asset key."),  # known, but not there
        ("temperature", "asset key."),
    ],
)
def test_a_band_that_may_be_meant(typed: str, meant: str) -> None:
    with pytest.raises(BandError) as refused:
        read(item(), bands=(typed,))
    assert str(refused.value).startswith(f"No item has reflectance in a band '{typed}'. Expected red (B04), nir (B08)")
    assert str(refused.value).endswith(meant)


@pytest.mark.parametrize("bands", [("red", "B04"), ("nir", "red", "B08")])
def test_a_band_under_two_names_is_asked_for_twice(bands: tuple[str, ...]) -> None:
    with pytest.raises(BandError, match=r"was given under several names\. Expected each band once\."):
        read(item(), bands=bands)


def test_a_band_that_one_item_lacks_is_a_fault_of_the_item() -> None:
    with pytest.raises(ItemError) as refused:
        read(item(), item(id="poor", assets={"B08": None}), bands=("red", "nir"))
    assert str(refused.value) == (
        "Item 'poor' has no asset for the band 'nir'. It has B04, SCL. Try other bands, or dates."
    )


def test_classes_that_are_missing_are_said_and_not_needed_without_a_mask() -> None:
    bare = item(assets={"SCL": None})
    with pytest.raises(
        ItemError,
        match=r"has no scene classification\. Expected an asset SCL or scl or SCL_20m\. Try cloud_mask='none'\.",
    ):
        read(bare)
    assert read(bare, cloud_mask=False)[0].mask is None


@pytest.mark.parametrize("key", ["SCL", "scl", "SCL_20m"])
def test_the_classes_under_every_key(key: str) -> None:
    whole = item()
    whole["assets"][key] = whole["assets"].pop("SCL")
    mask = read_one(whole).mask
    assert mask is not None
    assert mask.asset == key


@pytest.mark.parametrize(
    "bands",
    [
        {"eo:bands": [{"name": "X1", "common_name": "cirrus"}]},
        {"eo:bands": [{"name": "cirrus"}]},
        {"bands": [{"name": "X1", "eo:common_name": "cirrus"}]},
        {"bands": [{"name": "cirrus"}]},
    ],
)
def test_a_band_that_no_table_knows_is_found_by_its_own_words(bands: Item) -> None:
    whole = item()
    whole["assets"]["whatever"] = {**whole["assets"]["B04"], **bands}
    whole["assets"]["picture"] = {"href": "x", "eo:bands": [{"name": "cirrus"}, {"name": "red"}]}  # of several bands
    assert select_asset(whole, "cirrus", SENSOR) == "whatever"
    assert select_asset(whole, "something", SENSOR) is None


@pytest.mark.parametrize("key", ["SCL", "AOT", "visual", "preview", "product-metadata"])
def test_what_holds_no_reflectance_is_no_band(real: Callable[[str], Item], key: str) -> None:
    assert key in real(PC)["assets"]
    with pytest.raises(BandError, match=f"No item has reflectance in a band '{key}'"):
        read_one(real(PC), key)


def test_an_ambiguous_band_names_its_assets() -> None:
    twice = {"proj:shape": [1, 1], "href": "https://files.example.org/x", "eo:bands": [{"common_name": "thermal"}]}
    with pytest.raises(BandError) as refused:
        read(item(assets={"b": twice, "a": twice}), bands=("thermal",))
    assert (
        str(refused.value) == "The band 'thermal' fits several assets: a, b. Expected one. Use the key of one of them."
    )


# Reflectance


@pytest.mark.parametrize(
    ("properties", "asset", "offset"),
    [
        ({}, {}, 0),
        ({"s2:processing_baseline": "04.00"}, {}, 1000),
        ({"s2:processing_baseline": "03.99"}, {}, 0),
        # without the property, the name of the product tells
        ({"s2:processing_baseline": None}, {}, 0),
        ({"s2:processing_baseline": None, "s2:product_uri":
          "S2B_MSIL2A_20220713T190919_N0400_R056_T10TFK_20220713T212345.SAFE"}, {}, 1000),
        ({"s2:processing_baseline": None, "s2:product_uri": None,
          "s2:datatake_id": "GS2B_20220713T190919_022731_N05.10"}, {}, 1000),
        ({"s2:processing_baseline": None, "s2:product_uri": None, "s2:datatake_id": None}, {}, 0),
        ({"s2:processing_baseline": "nonsense"}, {}, 0),
        # as some catalogues write it
        ({"s2:processing_baseline": "5.09"}, {}, 1000),
        ({"s2:processing_baseline": 4.0}, {}, 1000),
        ({"s2:processing_baseline": 3.01}, {}, 0),
        ({"s2:processing_baseline": "04.00.1"}, {}, 1000),
        # what the asset declares counts more than the baseline, in all places and both ways
        ({"s2:processing_baseline": "05.00"}, {"raster:bands": [{"scale": 0.0001, "offset": 0}]}, 0),
        ({}, {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, 1000),
        ({}, {"bands": [{"scale": 0.0001, "offset": -0.1}]}, 1000),
        ({}, {"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}]}, 1000),
        ({}, {"raster:scale": 0.0001, "raster:offset": -0.1}, 1000),
        ({}, {"raster:bands": [{"scale": 0.0001, "offset": 0.02}]}, -200),
        # a declaration without an offset says nothing of it
        ({"s2:processing_baseline": "05.00"}, {"raster:bands": [{"nodata": 0, "data_type": "uint16"}]}, 1000),
        ({"s2:processing_baseline": "05.00"}, {"raster:bands": []}, 1000),
        # applied already
        ({"earthsearch:boa_offset_applied": True}, {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, 0),
        ({"sentinel:boa_offset_applied": True, "s2:processing_baseline": "05.00"}, {}, 0),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.00"}, {}, 1000),
    ],
)  # fmt: skip
def test_one_rule_of_reflectance(properties: Item, asset: Item, offset: int) -> None:
    whole = item(properties=properties, assets={"B04": asset}, id="anything")
    assert reflectance_offset(whole, whole["assets"]["B04"], SENSOR) == offset
    assert read_one(whole).bands[0].offset == offset


@pytest.mark.parametrize("baseline", ["nonsense", 5, [4, 0], True, "04", "-5.09"])
def test_a_baseline_that_alone_could_tell_must_be_understood(baseline: Any) -> None:
    nameless = {"s2:product_uri": None, "s2:datatake_id": None}
    unclear = item(properties={"s2:processing_baseline": baseline} | nameless, id="anything")
    with pytest.raises(ItemError, match=r"has the processing baseline .*Expected one such as '05\.09'"):
        read(unclear)
    declared = {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}
    unclear["assets"]["B04"] |= declared
    assert read_one(unclear).bands[0].offset == 1000


def test_of_a_baseline_that_became_a_number_the_newest_stays() -> None:
    older, newer = processed("05.09", "1"), processed("05.10", "2")
    newer["properties"]["s2:processing_baseline"] = 5.1
    assert [s.baseline for s in read(older, newer)] == [(5, 10)]


@pytest.mark.parametrize("value", [True, False, 10**400, 10**5000, "0", [0], {"a": 1}], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("name", ["scale", "offset"])
def test_a_declaration_that_is_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ItemError, match=rf"declares the {name} .*Expected "):
        read(item(assets={"B04": {"raster:bands": [{name: value}]}}))


@pytest.mark.parametrize(("offset", "whole"), [(-6.5534, 65534), (-6.55344, 65534), (6.55344, -65534)])
def test_the_largest_offset_still_fits_sixteen_bits(offset: float, whole: int) -> None:
    scene = read_one(item(assets={"B04": {"raster:bands": [{"offset": offset}]}}))
    assert scene.bands[0].offset == whole
    pixels = np.array([0, 1, 65535], np.uint16)
    to_stored(pixels, whole)
    assert pixels[0] == 0
    assert (pixels[1:] > 0).all()


@pytest.mark.parametrize("scale", [0.0000275, 1, 0.001, 0])
def test_another_scale_is_refused(scale: float) -> None:
    with pytest.raises(ItemError, match=rf"declares the scale {re.escape(f'{scale:g}')}\. Expected 0\.0001\."):
        read(item(assets={"B04": {"raster:bands": [{"scale": scale, "offset": 0}]}}))


@pytest.mark.parametrize("offset", [-10, -6.55349, 6.55349, 1e9, float("inf"), float("nan")])
def test_an_offset_that_leaves_nothing_is_refused(offset: float) -> None:
    with pytest.raises(ItemError, match=r"declares the offset .*Expected one within the range of reflectance"):
        read(item(assets={"B04": {"raster:bands": [{"scale": 0.0001, "offset": offset}]}}))


@pytest.mark.parametrize(
    ("asset", "nodata"),
    [
        ({}, 0),
        ({"nodata": 65535}, 65535),
        ({"raster:bands": [{"nodata": 7}]}, 7),
        ({"bands": [{"nodata": 8}]}, 8),
        ({"nodata": 0}, 0),
        ({"nodata": "nan"}, 0),
        ({"nodata": float("nan")}, 0),
        ({"nodata": -9999}, 0),
        ({"nodata": 0.5}, 0),
        ({"nodata": float("inf")}, 0),
        ({"nodata": 10**400}, 0),
        ({"nodata": True}, 0),
    ],
)
def test_no_data_as_the_asset_has_it(asset: Item, nodata: int) -> None:
    scene = read_one(item(assets={"B04": asset}))
    assert scene.bands[0].nodata == nodata
    assert scene.mask is not None
    assert scene.mask.nodata == 0


# Passes, tiles, duplicates


@pytest.mark.parametrize("platform", ["Sentinel-2B", "sentinel-2b", "SENTINEL-2B", None])
@pytest.mark.parametrize(
    "names",
    [
        {},
        {"s2:datatake_id": None},
        {"s2:product_uri": None},
        {"s2:datatake_id": None, "s2:product_uri": None,
         "sentinel:product_id": "S2B_MSIL2A_20210713T190919_N0301_R056_T10TFK_20210713T212345"},
    ],
    ids=["both", "product", "datatake", "Earth Search v0"],
)  # fmt: skip
def test_the_pass_is_the_same_whatever_tells(platform: str | None, names: Item) -> None:
    whole = item(properties={"platform": platform} | names, id="anything")
    assert pass_key(whole) == "sentinel-2b/20210713T190919"


def test_the_datatake_counts_and_not_the_product_or_the_day() -> None:
    # of two tiles of one datatake, the later may carry another time in its name, or lie in the next day
    whole = item(properties={"s2:datatake_id": "GS2B_20210712T235959_022731_N03.01"})
    assert pass_key(whole) == "sentinel-2b/20210712T235959"
    assert read_one(whole).baseline == (3, 1)


def test_without_any_name_platform_and_time_make_the_pass() -> None:
    bare = {"s2:datatake_id": None, "s2:product_uri": None, "s2:mgrs_tile": None}
    upper = item(id="a", properties=bare | {"platform": "Sentinel-2B"})
    lower = item(id="b", properties=bare | {"platform": "sentinel-2b"})
    later = item(id="c", properties=bare | {"datetime": "2021-07-13T19:09:20Z"})
    scenes = read(upper, lower, later)
    assert [[s.id for s in p.scenes] for p in group_passes(scenes)] == [["a", "b"], ["c"]]
    assert {s.tile for s in scenes} == {""}


def test_items_with_a_range_only_are_of_one_pass_where_they_begin_at_once() -> None:
    bare = {"s2:datatake_id": None, "s2:product_uri": None, "s2:mgrs_tile": None, "datetime": None}
    first = item(id="a", properties=bare | {"start_datetime": "2020-07-13T19:09:19Z"})
    same = item(id="b", properties=bare | {"start_datetime": "2020-07-13T21:09:19+02:00"})
    next_year = item(id="c", properties=bare | {"start_datetime": "2021-07-13T19:09:19Z"})
    passes = group_passes(read(first, same, next_year))
    assert [[s.id for s in p.scenes] for p in passes] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("properties", "tile"),
    [
        ({}, "10TFK"),
        ({"s2:mgrs_tile": None, "grid:code": "MGRS-10TFK"}, "10TFK"),
        ({"s2:mgrs_tile": None, "grid:code": "MGRS-1WCR"}, "01WCR"),
        ({"s2:mgrs_tile": None, "grid:code": "WRS2-033032"}, "10TFK"),  # as the product's name has it
        ({"s2:mgrs_tile": None}, "10TFK"),
        ({"s2:mgrs_tile": None, "s2:product_uri": None}, ""),
    ],
)
def test_the_tile(properties: Item, tile: str) -> None:
    assert read_one(item(id="anything", properties=properties)).tile == tile


def processed(baseline: str, made: str, tile: str = "10TFK", start: str = "20210713T190919", strip: str = "") -> Item:
    digits = baseline.replace(".", "")
    return item(
        id=f"S2B_MSIL2A_{start}_R056_T{tile}_{made}{strip}",
        properties={
            "s2:processing_baseline": baseline,
            "s2:datatake_id": f"GS2B_{start}_022731_N{baseline}",
            "s2:product_uri": f"S2B_MSIL2A_{start}_N{digits}_R056_T{tile}_{made}.SAFE",
            "s2:mgrs_tile": tile,
        },
    )


def test_of_what_was_processed_again_the_newest_baseline_stays() -> None:
    old, middle, new = (
        processed(b, m) for b, m in (("02.14", "20210801T0"), ("03.01", "20210713T0"), ("05.00", "20230101T0"))
    )
    other_tile = processed("02.14", "20210801T0", tile="10TEK")
    other_pass = processed("03.01", "20210716T0", start="20210716T190919")
    kept = read(old, new, other_tile, middle, other_pass)
    assert {s.id for s in kept} == {i["id"] for i in (new, other_tile, other_pass)}
    assert [s.baseline for s in kept if s.tile == "10TFK" and "0713" in s.pass_key] == [(5, 0)]
    # 10.00 is newer than 05.00, as a number and not as text
    assert {s.baseline for s in read(new, processed("10.00", "20290101T0"))} == {(10, 0)}


def test_parts_of_one_baseline_all_stay() -> None:
    parts = [processed("05.00", "20230101T0", strip=s) for s in ("_a", "_b")]
    assert [s.id for s in read(processed("03.01", "20210713T0"), *parts)] == [p["id"] for p in parts]


def test_scenes_without_a_tile_are_never_dropped() -> None:
    (scene,) = read(item())
    nameless = [replace(scene, tile="", baseline=(b, 0), id=str(b)) for b in (1, 2)]
    assert without_duplicates(nameless) == tuple(nameless)


def test_passes_come_in_order_of_time_and_their_scenes_by_id() -> None:
    (scene,) = read(item())

    def at(name: str, key: str, minute: int) -> Scene:
        return replace(scene, id=name, pass_key=key, datetime=datetime(2021, 7, 1, 10, minute, tzinfo=UTC))

    scenes = [at("d", "q", 5), at("b", "p", 9), at("c", "q", 1), at("a", "p", 2), at("e", "r", 1)]
    for order in (scenes, scenes[::-1]):
        found = group_passes(order)
        assert [(p.key, [s.id for s in p.scenes]) for p in found] == [
            ("q", ["c", "d"]),
            ("r", ["e"]),
            ("p", ["a", "b"]),
        ]
        assert [p.datetime.minute for p in found] == [1, 1, 2]


# Times, names, hrefs, fingerprints


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"datetime": "2021-07-13T19:09:19Z"}, datetime(2021, 7, 13, 19, 9, 19, tzinfo=UTC)),
        ({"datetime": "2021-07-13T21:09:19+02:00"}, datetime(2021, 7, 13, 19, 9, 19, tzinfo=UTC)),
        ({"datetime": "2021-07-13T19:09:19"}, datetime(2021, 7, 13, 19, 9, 19, tzinfo=UTC)),
        ({"datetime": None, "start_datetime": "2021-07-13T00:00:00Z"}, datetime(2021, 7, 13, tzinfo=UTC)),
    ],
)
def test_the_time(properties: Item, expected: datetime) -> None:
    assert read_one(item(properties=properties)).datetime == expected


@pytest.mark.parametrize("text", [None, "last week", "2021-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", 5])
def test_a_time_that_is_none_is_said(text: Any) -> None:
    with pytest.raises(ItemError, match=rf"has the datetime {re.escape(repr(text))}\. Expected a time as in RFC 3339"):
        read(item(properties={"datetime": text}))


def test_the_address_of_an_item_is_kept_without_its_signature() -> None:
    links = [{"rel": "root", "href": "https://a.example.org"}, {"rel": "self", "href": "https://a.example.org/i?sig=x"}]
    assert read_one(item(links=links)).href == "https://a.example.org/i"
    for no_address in ([], [{"rel": "self", "href": "s3://bucket/i.json"}], [{"rel": "self"}]):
        assert read_one(item(links=no_address)).href == item()["id"]


@pytest.mark.parametrize(
    "href",
    [
        "", "/data/B04.tif", "B04.tif", "../B04.tif", "file:///etc/passwd", "/vsicurl/https://a.example.org/x.tif",
        "/vsizip//tmp/x.zip/a.tif", "s3://bucket/B04.tif", "ftp://a.example.org/x.tif", "http://127.0.0.1/x.tif",
        "http://localhost:8000/x.tif", "http://10.0.0.1/x.tif", "http://192.168.1.5/x.tif", "http://[::1]/x.tif",
        "http://169.254.169.254/latest/meta-data", "http://2130706433/x.tif", "https://user:pw@a.example.org/x.tif",
        "https://a.example.org/../x.tif", "<VRTDataset/>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("asset", ["B04", "SCL"])
def test_where_an_href_may_not_lead(href: str, asset: str) -> None:
    with pytest.raises(HrefError) as refused:
        read(item(assets={asset: {"href": href}}))
    assert refused.value.exit_code == 3


def test_a_private_catalogue_may_lead_to_its_own_host() -> None:
    home = item(assets={k: {"href": f"http://127.0.0.1:8123/{k}.tif"} for k in ("B04", "SCL")})
    assert read(home, private="127.0.0.1")[0].bands[0].href == "http://127.0.0.1:8123/B04.tif"
    with pytest.raises(HrefError):
        read(home, private="10.0.0.1")


def test_a_file_that_the_user_may_name_is_told_apart_by_size_and_time(tmp_path: Path) -> None:
    def local(path: Path) -> tuple[Scene, ...]:
        whole = item(assets={"B04": {"href": str(path)}})
        return read_scenes([whole], ["red"], SENSOR, cloud_mask=False, private_hosts=frozenset(), local_files=allowed)

    file, allowed = tmp_path / "B04.tif", frozenset({str(tmp_path / "B04.tif")})
    file.write_bytes(b"one")
    (first,) = local(file)
    assert first.bands[0].href == str(file)
    file.write_bytes(b"other")
    assert local(file)[0].fingerprint != first.fingerprint
    with pytest.raises(HrefError, match="only within its own directory"):
        local(tmp_path / "B05.tif")


def test_an_asset_that_was_not_asked_for_may_be_anything() -> None:
    assert read_one(item(assets={"B08": {"href": "file:///x", "proj:shape": None}, "thumbnail": {"href": "x.png"}}))


def fingerprint(*bands: str, **changes: Any) -> tuple[str, ...]:
    return read_one(item(**changes), *bands).fingerprint


def test_the_fingerprint_holds_what_decides_pixels_and_nothing_else() -> None:
    plain = fingerprint()
    assert plain[0] == item()["id"]
    assert plain[1] == "sentinel-2b/20210713T190919"
    assert len(plain) == 4  # and red, and classes
    same = [
        {"assets": {"B04": {"href": "https://files.example.org/10TFK/B04.tif?sig=abc&se=2026"}}},
        {"assets": {"B08": {"href": "https://files.example.org/other.tif"}}},
        {"properties": {"eo:cloud_cover": 55}},
        {"links": [{"rel": "self", "href": "https://a.example.org/i"}]},
    ]
    other = [
        {"id": "another"},
        {"assets": {"B04": {"href": "https://files.example.org/10TFK/B04_v2.tif"}}},
        {"assets": {"SCL": {"href": "https://files.example.org/10TFK/SCL_v2.tif"}}},
        {"assets": {"B04": {"href": "https://files.example.org/get?file=B04.tif"}}},
        {"assets": {"B04": {"href": "https://files.example.org/get?file=B04_v2.tif"}}},
        {"assets": {"B04": {"href": "https://files.example.org/10TFK/B04.tif?versionId=2"}}},
        {"assets": {"B04": {"file:checksum": "1220aa"}}},
        {"properties": {"s2:generation_time": "2024-01-01T00:00:00Z"}},
        {"properties": {"updated": "2025-01-01T00:00:00Z"}},
        # what a corrected item may say of the same files
        {"properties": {"s2:processing_baseline": "04.00"}},
        {"properties": {"s2:datatake_id": "GS2B_20210713T190920_022731_N03.01"}},
        {"properties": {"proj:epsg": 32611}},
        {"assets": {"B04": {"nodata": 65535}}},
        {"assets": {"B04": {"proj:shape": [100, 91]}}},
        {"assets": {"SCL": {"proj:transform": [20.0, 0.0, 600010.0, 0.0, -20.0, 4600020.0]}}},
    ]
    assert {fingerprint(**copy.deepcopy(change)) for change in same} == {plain}
    all_of_them = {plain, fingerprint("red", "nir"), *(fingerprint(**copy.deepcopy(change)) for change in other)}
    assert len(all_of_them) == len(other) + 2
    for query in ("sig=abc&se=2026", "token=abc"):
        changes: Item = {"assets": {"B04": {"href": f"https://files.example.org/10TFK/B04.tif?{query}"}}}
        assert "=" not in str(fingerprint(**changes))


# Footprints


def source(code: int, left: float, top: float, size: float = 20.0, side: int = 500, turned: float = 0.0) -> Source:
    return Source("B04", "https://x", f"EPSG:{code}", (size, turned, left, turned, -size, top), (side, side), 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    lon=st.floats(4.0, 8.0),
    lat=st.floats(-50.0, 60.0),
    target=st.sampled_from([32631, 32632, 3857, 4326]),
    dx=st.floats(-2.0, 2.0),
    dy=st.floats(-2.0, 2.0),
)
def test_touching_errs_on_the_side_of_yes(lon: float, lat: float, target: int, dx: float, dy: float) -> None:
    zone = 32631 if lat >= 0 else 32731
    x, y = Transformer.from_crs(4326, zone, always_xy=True).transform(lon, lat)
    one = source(zone, x, y)
    # a square of 4 km, off by up to twice the source's 10 km
    around = [(x + dx * 10_000 + a, y + dy * 10_000 + b) for a in (0, 4000) for b in (0, 4000)]
    u, v = Transformer.from_crs(zone, target, always_xy=True).transform(*zip(*around, strict=True))
    bounds = (min(u), min(v), max(u), max(v))
    back = Transformer.from_crs(target, zone, always_xy=True)
    outline = shapely.get_coordinates(shapely.segmentize(shapely.box(*bounds).exterior, (bounds[2] - bounds[0]) / 50))
    ground = shapely.Polygon(list(zip(*back.transform(*outline.T), strict=True)))
    footprint = shapely.box(x, y - 10_000, x + 10_000, y)
    if footprint.intersection(ground).area > 1:
        assert footprint_touches(one, f"EPSG:{target}", bounds)
    if footprint.distance(shapely.box(*ground.bounds)) > 5:
        assert not footprint_touches(one, f"EPSG:{target}", bounds)


@settings(max_examples=30)
@given(
    lons=st.lists(st.floats(4.0, 8.0), min_size=1, max_size=8),
    lat=st.floats(-50.0, 60.0),
    target=st.sampled_from([32631, 32632, 3857, 4326]),
)
def test_many_scenes_are_found_as_one_by_one(lons: list[float], lat: float, target: int) -> None:
    scenes = []
    for number, lon in enumerate(lons):
        zone = (32631 if lon < 6 else 32632) + (0 if lat >= 0 else 100)
        x, y = Transformer.from_crs(4326, zone, always_xy=True).transform(lon, lat)
        when = datetime(2021, 7, 1, tzinfo=UTC)
        scenes.append(Scene(f"{number}", "", when, "", "", (0, 0), (source(zone, x, y),), None, (), (), "sentinel-2"))
    west, south = Transformer.from_crs(4326, target, always_xy=True).transform(lons[0], lat)
    side = 0.05 if target == 4326 else 5000
    bounds = (west, south, west + side, south + side)
    found = SceneIndex(scenes).touching(f"EPSG:{target}", bounds)
    assert found == [s for s in scenes if footprint_touches(s.bands[0], f"EPSG:{target}", bounds)]


def test_neighbours_that_share_an_edge_share_no_ground() -> None:
    one = source(32631, 500_000, 5_000_000)
    left, bottom, right, top = 500_000, 4_990_000, 510_000, 5_000_000
    assert footprint_touches(one, "EPSG:32631", (left, bottom, right, top))
    assert footprint_touches(one, "EPSG:32631", (left - 10, top - 1, left + 1, top + 10))
    for bounds in (
        (left - 10, bottom, left, top), (right, bottom, right + 10, top),
        (left, bottom - 10, right, bottom), (left, top, right, top + 10),
    ):  # fmt: skip
        assert not footprint_touches(one, "EPSG:32631", bounds)


def test_a_turned_source_touches_by_its_corners() -> None:
    one = source(32631, 500_000, 5_000_000, turned=20.0)  # a diamond on its tip
    assert footprint_touches(one, "EPSG:32631", (519_000, 4_990_000, 521_000, 5_010_000))
    assert not footprint_touches(one, "EPSG:32631", (521_000, 4_990_000, 522_000, 5_010_000))


def test_bounds_that_can_not_be_projected_touch() -> None:
    one = Source("B04", "https://x", "+proj=ortho +lat_0=-80", (10, 0, 0, 0, -10, 0), (10, 10), 0, 0)
    assert footprint_touches(one, "EPSG:4326", (0, 80, 10, 90))


def test_a_grid_across_the_antimeridian_touches_what_ends_there() -> None:
    one = Source("B04", "https://x", "EPSG:4326", (0.0001, 0, 179.0, 0, -0.0001, 1.0), (10000, 10000), 0, 0)
    to = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True)
    (west, east), (south, north) = to.transform([179.95, -179.95], [0.3, 0.4])
    assert footprint_touches(one, "EPSG:32601", (west, south, east, north))


def test_every_refusal_is_one_for_a_user() -> None:
    refused: list[Mapping[str, Any]] = [
        item(properties={"proj:epsg": None}),
        item(assets={"B04": {"href": "x"}}),
        item(assets={"B04": None}),
        item(properties={"datetime": "x"}),
    ]
    for one in refused:
        with pytest.raises(EoapError) as fault:
            read(dict(one))
        assert fault.value.what.endswith(".")
        assert fault.value.exit_code in (2, 3, 4)
