"""Items as other people write them: pixels are those of the file, worked out by numpy, or the item is set aside."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from pyproj import CRS
from rasterio.enums import ColorInterp
from tests.support.other_people import GRID, MEAN, RED, SIDE, described, loaded, write

import eoap_dask as eo
from eoap_dask import ItemSet
from eoap_dask.errors import BandError, GridError, ItemError, NothingFoundError

Item = dict[str, Any]
PRODUCT = "S2A_MSIL2A_20230601T100031_N{}_R122_T33TVF_20230601T160000"


def red_of(items: ItemSet, band: str = "red", **options: Any) -> npt.NDArray[np.float32]:
    """Return the first pass of a band."""
    cube = eo.load(items, [band], geobox=GRID, **options).compute(scheduler="synchronous")
    return np.asarray(cube[band][0])


def mean_of(items: ItemSet, band: str = "red") -> float:
    return round(float(np.nanmean(red_of(items, band))), 5)


# Offsets


@pytest.mark.parametrize(
    ("properties", "asset"),
    [
        ({"processing:version": "05.11"}, {}),
        ({"sentinel:processing_baseline": "05.11"}, {}),
        ({"raster:offset": -0.1}, {}),
        ({"raster:offset": -0.1, "raster:scale": 0.0001}, {}),
        ({"raster:bands": [{"offset": -0.1}]}, {}),
        ({"eopf:datatake_id": "GS2A_20230601T100031_041475_N05.09"}, {}),
        ({"s2:granule_id": "S2A_OPER_MSI_L2A_TL_2APS_20230601T160000_A041475_T33TVF_N05.09"}, {}),
        ({"title": PRODUCT.format("0509") + ".SAFE"}, {}),
        ({}, {"raster:offset": -0.1}),
        ({"s2:processing_baseline": "03.01"}, {"processing:version": "05.11"}),  # the asset's own
        ({"earthsearch:boa_offset_applied": "no", "processing:version": "05.11"}, {}),
        ({"s2:processing_baseline": "03.01"}, {"raster:bands": {"offset": -0.1}}),
        ({}, {"bands": [{"name": "B04", "raster:offset": -0.1}]}),
    ],
)
def test_an_offset_is_taken_off_whoever_tells_of_it(tmp_path: Path, properties: Item, asset: Item) -> None:
    item = described(tmp_path, red=RED + 1000, properties=properties, asset=asset, tell_baseline=False)
    assert mean_of(loaded(tmp_path, item)) == MEAN


@pytest.mark.parametrize(
    "properties",
    [
        *({"processing:version": "05.11", "earthsearch:boa_offset_applied": yes} for yes in (True, 1, "yes", " TRUE ")),
        {"processing:version": "03.01"},
        {"sentinel:processing_baseline": "02.14"},
        {"raster:offset": 0},
        {"s2:generation_time": "2022-01-24T23:59:59Z"},
    ],
)
def test_an_offset_that_is_not_there_is_not_taken_off(tmp_path: Path, properties: Item) -> None:
    assert mean_of(loaded(tmp_path, described(tmp_path, properties=properties, tell_baseline=False))) == MEAN


def test_an_offset_that_was_applied_perhaps_sets_the_item_aside(tmp_path: Path) -> None:
    properties = {"s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": "perhaps"}
    with pytest.raises(NothingFoundError, match="says 'perhaps' of whether an offset was applied"):
        mean_of(loaded(tmp_path, described(tmp_path, properties=properties)))


UNTOLD: list[tuple[Item, str, str]] = [
    ({}, "S2A_x", "Item 'S2A_x' has no processing baseline, and declares no offset."),
    ({"s2:generation_time": "2022-01-25T00:00:00Z"}, "S2A_x", "has no processing baseline"),
    # the version of a processor isn't a baseline
    ({"processing:version": "2.11"}, "S2A_x", "has no processing baseline"),
    ({"s2:product_uri": PRODUCT.format("0205").replace("L2A", "L1C")}, "S2A_x", "has no processing baseline"),
    ({"s2:processing_baseline": "99.99"}, "S2A_x", "was made with a toolbox (baseline 99.99), and declares no offset."),
    ({"processing:version": "99.99"}, "S2A_x", "was made with a toolbox"),
    ({"s2:product_uri": PRODUCT.format("9999") + ".SAFE"}, "S2A_x", "was made with a toolbox"),
    # its datatake is that of the product that it was made from
    ({"s2:datatake_id": "GS2A_20230601T100031_041475_N05.09"}, PRODUCT.format("9999"), "was made with a toolbox"),
]


@pytest.mark.parametrize(("properties", "name", "why"), UNTOLD)
def test_an_offset_that_nothing_tells_sets_the_item_aside(
    tmp_path: Path, properties: Item, name: str, why: str
) -> None:
    odd = described(tmp_path, name, properties=properties, tell_baseline=False)
    with pytest.raises(NothingFoundError) as left:
        red_of(loaded(tmp_path, odd))
    assert left.value.exit_code == 3
    assert "No usable item is left. 1 odd item is set aside." in str(left.value)
    assert why in str(left.value)
    with pytest.raises(ItemError):
        red_of(loaded(tmp_path, odd), on_odd_item="fail")
    good = described(tmp_path, "good")
    with pytest.warns(UserWarning, match="1 odd item is set aside"):
        assert np.nanmean(red_of(loaded(tmp_path, odd, good))) == pytest.approx(MEAN, abs=1e-6)
    # where it declares its offset, it is as good as any
    told = described(tmp_path, name, properties={**properties, "raster:offset": 0.0}, tell_baseline=False)
    assert mean_of(loaded(tmp_path, told)) == MEAN


def test_a_toolbox_never_has_the_newest_of_duplicates(tmp_path: Path) -> None:
    """Both are of one pass and tile, and can be used: the one of a baseline counts."""
    same = {"s2:datatake_id": "GS2A_20230601T100031_041475_N05.00", "s2:mgrs_tile": "33TVF"}
    toolbox = described(
        tmp_path, "a", red=RED + 3000, properties={**same, "s2:processing_baseline": "99.99", "raster:offset": 0}
    )
    esa = described(tmp_path, "b", red=RED + 1000, properties={**same, "s2:processing_baseline": "05.00"})
    for order in ((toolbox, esa), (esa, toolbox)):
        cube = eo.load(loaded(tmp_path, *order), ["red"], geobox=GRID)
        assert cube.sizes["time"] == 1
        assert mean_of(loaded(tmp_path, *order)) == MEAN


# Missing pixels


def holes(number: int) -> npt.NDArray[np.uint16]:
    """Return the red band with a number in columns 50 to 99."""
    pixels = RED.copy()
    pixels[:, 50:100] = number
    return pixels


def assert_holes(red: npt.NDArray[np.float32]) -> None:
    assert np.isnan(red[:, 50:100]).all()
    rest = np.delete(np.arange(SIDE), np.arange(50, 100))
    np.testing.assert_allclose(red[:, rest], RED[:, rest] / 10000, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"tiled": False}, {"compress": "lzw", "bigtiff": "yes"}], ids=str)
@pytest.mark.parametrize("number", [65535, 7])
def test_missing_pixels_that_only_the_file_tells(tmp_path: Path, number: int, options: Item) -> None:
    """Read by us, and by GDAL, which has the files that aren't tiled."""
    files = {key: value for key, value in options.items() if key != "tiled"}
    if options.get("tiled") is False:
        files |= {"tiled": False, "blockxsize": None, "blockysize": None}
    item = described(tmp_path, red=holes(number), nodata=number, **{k: v for k, v in files.items() if v is not None})
    assert_holes(red_of(loaded(tmp_path, item)))


@pytest.mark.parametrize("loader", ["stackstac", "odc-stac"])
def test_other_loaders_know_them_too(tmp_path: Path, loader: Any) -> None:
    item = described(tmp_path, red=holes(65535), nodata=65535)
    assert_holes(red_of(loaded(tmp_path, item), loader=loader))


@pytest.mark.parametrize("told", [0, 9])
def test_what_the_file_tells_of_missing_pixels_counts_beside_the_item(tmp_path: Path, told: int) -> None:
    """The item tells another number, by which all would be there."""
    item = described(tmp_path, red=holes(65535), nodata=65535, asset={"raster:bands": [{"nodata": told}]})
    assert_holes(red_of(loaded(tmp_path, item)))


@pytest.mark.parametrize("place", ["asset", "text", "bands", "eo:bands", "raster:bands", "item"])
def test_what_the_item_tells_of_missing_pixels_counts(tmp_path: Path, place: str) -> None:
    """The file tells another number, by which all would be there."""
    told = {"asset": {"nodata": 9}, "text": {"nodata": "9"}, "item": {}}.get(place, {place: [{"nodata": 9}]})
    properties = {"raster:bands": [{"nodata": 9}]} if place == "item" else {}
    item = described(tmp_path, red=holes(9), nodata=65535, asset=told, properties=properties)
    assert_holes(red_of(loaded(tmp_path, item)))


@pytest.mark.parametrize("told", ["nan", -9999, 0.5, None, 1e9, True])
def test_a_number_that_no_pixel_can_have_tells_nothing(tmp_path: Path, told: Any) -> None:
    item = described(tmp_path, red=holes(65535), nodata=65535, asset={"nodata": told})
    assert_holes(red_of(loaded(tmp_path, item)))


@pytest.mark.parametrize("in_file", [True, False])
def test_classes_that_are_missing_show_no_ground(tmp_path: Path, in_file: bool) -> None:
    """Class 255 in the upper half, which is said to be none: not one of those pixels is clear."""
    classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    classes[:50] = 255
    item = described(tmp_path, scl=classes, scl_options={"nodata": 255} if in_file else {})
    if not in_file:
        item["assets"]["SCL"]["nodata"] = 255
    for resolution in (10, 100):  # the nearest class, and the share of classes
        grid = GRID if resolution == 10 else GRID.zoom_out(10)
        cube = eo.mask_clouds(eo.load(loaded(tmp_path, item), ["red"], geobox=grid)).compute(scheduler="synchronous")
        half = grid.shape[0] // 2
        assert np.isnan(cube.red[0, :half]).all()
        assert np.isfinite(cube.red[0, half:]).all()


# Collections


@pytest.mark.parametrize("collection", [None, ""])
def test_a_collection_that_is_null_is_as_if_there_were_none(tmp_path: Path, collection: Any) -> None:
    link = {"rel": "collection", "href": "https://a.example.org/collections/sentinel-2-l2a"}
    absent = {key: value for key, value in described(tmp_path).items() if key != "collection"} | {"links": [link]}
    null = {**absent, "collection": collection}
    assert loaded(tmp_path, null) == loaded(tmp_path, absent)
    path = tmp_path / "item.json"
    path.write_text(json.dumps(null))
    found = eo.search("15.0,41.5,15.1,41.6", "2023-06-01", "2023-06-02", stac=str(path))
    assert (len(found), found.collection) == (1, "sentinel-2-l2a")
    assert mean_of(found) == MEAN


# Projections

UTM = CRS.from_epsg(32633)
OTHER = {"proj:code": "EPSG:32634"}


@pytest.mark.parametrize(
    ("properties", "asset"),
    [
        ({"proj:code": None, "proj:projjson": UTM.to_json_dict()}, {}),
        ({"proj:code": None, "proj:projjson": json.dumps(UTM.to_json_dict())}, {}),
        ({"proj:code": None, "proj:wkt2": UTM.to_wkt()}, {}),
        ({"proj:code": "EPSG:None", "proj:wkt2": UTM.to_wkt()}, {}),
        ({"proj:code": "EPSG:None", "proj:epsg": 32633}, {}),
        ({"proj:code": "EPSG:99999", "proj:wkt2": UTM.to_wkt()}, {}),
        ({"proj:code": None, "proj:epsg": "32633"}, {}),
        ({"proj:code": None, "proj:epsg": 32633.0}, {}),
        ({"proj:code": "epsg:32633"}, {}),
        # an asset's own against the item's
        (OTHER, {"proj:code": "EPSG:32633"}),
        (OTHER, {"proj:epsg": 32633}),
        (OTHER, {"proj:wkt2": UTM.to_wkt()}),
        (OTHER, {"proj:projjson": UTM.to_json_dict()}),
        (OTHER, {"proj:code": "EPSG:None", "proj:wkt2": UTM.to_wkt()}),
        ({}, {"proj:code": "EPSG:None"}),
    ],
)
def test_a_projection_is_used_wherever_it_is_told(tmp_path: Path, properties: Item, asset: Item) -> None:
    items = loaded(tmp_path, described(tmp_path, properties=properties, asset=asset))
    red = red_of(items, cloud_mask="none")
    np.testing.assert_allclose(red, RED / 10000, rtol=0, atol=1e-6)  # in its place, pixel by pixel


@pytest.mark.parametrize(
    ("properties", "asset", "why"),
    [
        ({"proj:code": None}, {}, "has no projection"),
        ({"proj:code": "EPSG:None"}, {}, "has no projection"),
        ({"proj:code": "EPSG:99999"}, {}, "has the unknown projection 'EPSG:99999'"),
        # the item's is of other assets
        ({}, {"proj:code": "EPSG:99999"}, "has the unknown projection 'EPSG:99999'"),
    ],
)
def test_a_projection_that_nothing_tells_sets_the_item_aside(
    tmp_path: Path, properties: Item, asset: Item, why: str
) -> None:
    odd = described(tmp_path, properties=properties, asset=asset)
    with pytest.raises(NothingFoundError, match=why):
        red_of(loaded(tmp_path, odd), cloud_mask="none")


# Versions of one item


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (None, "2023-06-02T00:00:00Z"),
        ("None", "2023-06-02T00:00:00Z"),
        ("2023-06-02T00:00:00Z", "2023-06-02T00:00:00.5Z"),  # as text, "." is before "Z"
        ("2023-06-02T01:00:00+02:00", "2023-06-02T00:00:00Z"),
        ("2023-06-02T12:00:00+00:00", "2023-06-02T11:30:00-02:00"),
        ("2023-06-02T00:00:00z", "2023-06-02t00:00:01z"),
    ],
)
def test_of_two_versions_the_later_one_counts(tmp_path: Path, older: Any, newer: str) -> None:
    old = described(tmp_path, properties={"updated": older})
    old["properties"]["updated"] = older
    new = described(tmp_path, properties={"updated": newer})
    new["assets"]["B04"]["href"] = "./new.tif"
    write(tmp_path / "new.tif", RED + 1)
    for order in ((old, new), (new, old)):
        assert mean_of(loaded(tmp_path, *order)) == round(MEAN + 0.0001, 5)


# Passes


DATATAKE = {"datatake_id": "GS2A_20230601T100031_041475_N03.01"}


@pytest.mark.parametrize(
    "other",
    [
        {"eopf:datatake_id": DATATAKE["datatake_id"]},
        {"sat:absolute_orbit": 41475},
        {"sat:absolute_orbit": 41475.0, "platform": "SENTINEL-2A"},
        {"sat:absolute_orbit": "41475", "platform": "S2A"},
        {"s2:product_uri": PRODUCT.format("0301") + ".SAFE"},
        {"s2:tile_id": "S2A_OPER_MSI_L2A_TL_2APS_20230601T160000_A041475_T33TVF_N03.01"},
    ],
)
def test_what_was_seen_at_once_is_one_pass_whoever_tells_it(tmp_path: Path, other: Item) -> None:
    one = described(tmp_path, "a", properties={"s2:datatake_id": DATATAKE["datatake_id"]})
    two = described(tmp_path, "b", properties={**other, "datetime": "2023-06-01T10:00:12Z"})
    for order in ((one, two), (two, one)):
        assert eo.load(loaded(tmp_path, *order), ["red"], geobox=GRID).sizes["time"] == 1


@pytest.mark.parametrize("other", [{"sat:absolute_orbit": 41476}, {"sat:absolute_orbit": 41475, "platform": "S2B"}])
def test_another_orbit_or_platform_is_another_pass(tmp_path: Path, other: Item) -> None:
    one = described(tmp_path, "a", properties={"s2:datatake_id": DATATAKE["datatake_id"]})
    two = described(tmp_path, "b", properties={**other, "datetime": "2023-06-01T10:00:12Z"})
    assert eo.load(loaded(tmp_path, one, two), ["red"], geobox=GRID).sizes["time"] == 2


# Bands


def three_bands(tmp_path: Path, **declared: Any) -> ItemSet:
    """Return an item whose asset B08 has a file of three bands; the wanted one is the second."""
    item = described(tmp_path, "b", key="B08", asset=declared)
    write(tmp_path / "b.tif", RED + 500, RED, RED + 700)
    return loaded(tmp_path, item)


@pytest.mark.parametrize(
    "declared",
    [
        {"bands": [{"name": "B02"}, {"name": "B08"}, {"name": "B04"}]},
        {"eo:bands": [{"name": "B02"}, {"name": "x", "common_name": "nir"}, {"name": "B04"}]},
        {
            "bands": [{"name": "B02"}, {"eo:common_name": "nir"}, {}],
            "raster:bands": [{}, {"offset": 0}, {"offset": -1}],
        },
        {"bands": [None, {"name": "B08"}, "B04"]},
    ],
)
def test_of_several_declared_bands_the_named_one_is_read(tmp_path: Path, declared: Item) -> None:
    items = three_bands(tmp_path, **declared)
    assert mean_of(items, "nir") == MEAN
    for loader in ("stackstac", "odc-stac"):
        with pytest.raises(GridError, match="The band is number 2 of the asset 'B08' of item 'b'"):
            red_of(items, "nir", loader=loader)


@pytest.mark.parametrize(
    "declared",
    [
        {"bands": [{"name": "B02"}, {"name": "B03"}, {"name": "B04"}]},
        {"raster:bands": [{}, {}, {}]},
        {"bands": [{"name": "B08"}, {"name": "B08"}, {"name": "B04"}]},
        {"bands": [{"name": "B04"}]},
    ],
)
def test_of_bands_that_do_not_name_the_wanted_one_none_is_read(tmp_path: Path, declared: Item) -> None:
    with pytest.raises(NothingFoundError, match="The asset 'B08' of item 'b' declares"):
        red_of(three_bands(tmp_path, **declared), "nir")


@pytest.mark.parametrize("declared", [{}, {"bands": [{"name": "B08"}]}, {"eo:bands": []}], ids=["none", "one", "empty"])
def test_of_a_file_with_bands_of_which_its_item_is_silent_none_is_read(tmp_path: Path, declared: Item) -> None:
    with pytest.raises(eo.AssetError, match="has 3 bands, but its item doesn't say which of them is meant"):
        red_of(three_bands(tmp_path, **declared), "nir")


def test_transparency_is_no_other_band(tmp_path: Path) -> None:
    items = loaded(tmp_path, described(tmp_path, "b", key="B08"))
    write(tmp_path / "b.tif", RED, np.full_like(RED, 255))
    with rasterio.open(tmp_path / "b.tif", "r+") as dataset:
        dataset.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    assert mean_of(items, "nir") == MEAN


def test_a_file_of_fewer_bands_than_its_item_says_is_refused(tmp_path: Path) -> None:
    items = loaded(tmp_path, described(tmp_path, key="B08", asset={"bands": [{"name": "B02"}, {"name": "B08"}]}))
    with pytest.raises(eo.AssetError, match="has 1 band, but its item says that the band is number 2"):
        red_of(items, "nir")


@pytest.mark.parametrize("key", ["B04_20m", "red-jp2"])
@pytest.mark.parametrize(
    "bands", [{"bands": [{"name": "B04"}]}, {"eo:bands": [{"name": "red", "common_name": "red"}]}], ids=["B04", "red"]
)
def test_a_key_whose_bands_name_a_known_one_is_accepted(tmp_path: Path, key: str, bands: Item) -> None:
    items = loaded(tmp_path, described(tmp_path, key=key, asset=bands))
    assert mean_of(items, key) == MEAN
    assert mean_of(items, "red") == mean_of(items, "B04") == MEAN  # the only one that is it


def test_a_key_that_names_no_band_is_refused(tmp_path: Path) -> None:
    items = loaded(tmp_path, described(tmp_path, key="B04_20m"))
    with pytest.raises(BandError, match="No item has reflectance in a band 'B04_20m'"):
        red_of(items, "B04_20m")


# CRS that have no code


ELSEWHERE = CRS.from_proj4("+proj=tmerc +lon_0=15 +k=0.9996 +x_0=500500 +datum=WGS84 +units=m")
SAME = CRS.from_proj4("+proj=tmerc +lon_0=15 +k=0.9996 +x_0=500000 +datum=WGS84 +units=m")


@pytest.mark.parametrize(
    "told",
    [{"proj:wkt2": ELSEWHERE.to_wkt()}, {"proj:projjson": ELSEWHERE.to_json_dict()}],
    ids=lambda one: next(iter(one)),
)
def test_a_file_counts_also_where_its_item_tells_a_crs_without_a_code(tmp_path: Path, told: Item) -> None:
    item = described(tmp_path, properties={"proj:code": None, **told})
    with pytest.warns(UserWarning, match="lie elsewhere than the items say"):
        assert mean_of(loaded(tmp_path, item)) == MEAN


def test_a_crs_that_is_spelled_in_another_way_is_no_contradiction(tmp_path: Path) -> None:
    item = described(tmp_path, properties={"proj:code": None, "proj:wkt2": SAME.to_wkt()})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert mean_of(loaded(tmp_path, item)) == MEAN


# Missing pixels that a mask tells


@pytest.mark.parametrize("told", ["mask", "alpha"])
def test_missing_pixels_that_a_mask_tells(tmp_path: Path, told: str) -> None:
    item = described(tmp_path, red=holes(5000))
    there = np.full((SIDE, SIDE), 65535, np.uint16)
    there[:, 50:100] = 0
    path = tmp_path / f"{item['id']}.tif"
    if told == "alpha":
        write(path, holes(5000), there)
        with rasterio.open(path, "r+") as file:
            file.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    else:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(there.astype(np.uint8))
    assert_holes(red_of(loaded(tmp_path, item)))
