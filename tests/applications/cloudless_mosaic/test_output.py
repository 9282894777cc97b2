"""A published mosaic, as others see it: STAC, COG, GDAL, tile servers, loaders, people."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray
from PIL import Image
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.enums import ColorInterp
from rio_cogeo import cog_info, cog_validate
from rio_tiler.io import Reader
from tests.support.place import Place
from tests.support.seams import scene

from eoap_dask import Run
from eoap_dask.__about__ import __version__
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.stac.attribution import file_tags

pytestmark = pytest.mark.cluster

BANDS = ("nir", "red", "green", "blue")
MONTHS = ("2020-10", "2020-11")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("output")
    archive = make_archive(root / "demo", size_px=256, months=MONTHS, dates_per_month=3, workers=1)
    with ServerProcess(archive, sign=True) as server, local_client(Size(1, 2, 2 << 30)) as client:
        yield Place(archive, server, client, root, BANDS)


@pytest.fixture(scope="module")
def run(place: Place) -> Run:
    """770 × 816 pixels: four blocks, one overview, edges that fill no tile."""
    return place.mosaic(resolution=5.0)


def assets_of(run: Run) -> Iterator[tuple[dict[str, Any], str, dict[str, Any], Path]]:
    for item in run.items:
        for key, asset in item["assets"].items():
            yield item, key, asset, run.output / item["id"] / asset["href"]


def rasters(run: Run) -> list[Path]:
    return [path for _, _, _, path in assets_of(run) if path.suffix == ".tif"]


# STAC.


KINDS = {"Catalog": "CATALOG", "Collection": "COLLECTION", "Feature": "ITEM"}


@pytest.mark.usefixtures("offline")
def test_every_document_is_valid(run: Run, validator: JsonSchemaSTACValidator) -> None:
    items = sorted(run.output.glob("*/*.json"))
    assert [item.stem for item in items] == [f"monthly-mosaic-{month}" for month in MONTHS]
    for path in (run.catalog, run.output / "collection.json", *items):
        document = json.loads(path.read_text())
        known = [e for e in document.get("stac_extensions", []) if e in validator.schema_cache]
        assert document["type"] != "Feature" or len(known) == 3  # projection, file, render
        kind = pystac.STACObjectType[KINDS[document["type"]]]
        validator.validate(document, kind, document["stac_version"], known)
        assert document["stac_version"] == "1.1.0"


@pytest.mark.usefixtures("offline")
def test_pystac_walks_the_catalog(run: Run) -> None:
    assert_opens(run.catalog)


def assert_opens(file: Path) -> None:
    catalog = pystac.Catalog.from_file(str(file))
    items = list(catalog.get_items())  # linked from the root: stage-out looks no deeper
    assert [item.id for item in items] == [f"monthly-mosaic-{month}" for month in MONTHS]
    (collection,) = catalog.get_collections()
    for item in items:
        assert item.get_collection().id == collection.id == "cloudless-mosaic"
        assert item.get_root() is catalog
        assert list(item.assets) == ["data", "count", "visual", "thumbnail"]
        for asset in item.assets.values():
            path = Path(asset.get_absolute_href() or "")
            assert path.is_file()
            assert path.is_relative_to(file.parent.resolve()) or path.is_relative_to(file.parent)


@pytest.mark.usefixtures("offline")
def test_a_catalog_that_was_moved_still_opens(run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "a new place"
    shutil.copytree(run.output, first)
    first.rename(second)
    assert_opens(second / "catalog.json")
    assert not re.search(re.escape(str(run.output)), (second / "catalog.json").read_text())


def test_hrefs_are_relative_and_exist(run: Run) -> None:
    for path in (run.catalog, run.output / "collection.json", *run.output.glob("*/*.json")):
        document = json.loads(path.read_text())
        structural = [link for link in document["links"] if link["rel"] not in ("derived_from", "license")]
        assert {link["rel"] for link in structural} <= {"root", "parent", "child", "item", "collection"}
        hrefs = [link["href"] for link in structural]
        hrefs += [asset["href"] for asset in document.get("assets", {}).values()]
        for href in hrefs:
            assert not href.startswith(("/", "file:", "http"))
            assert (path.parent / href).is_file(), href


def test_checksums_and_sizes_are_those_of_the_files(run: Run) -> None:
    for _, _, asset, path in assets_of(run):
        content = path.read_bytes()
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


def test_the_item_says_what_was_done(run: Run, place: Place) -> None:
    for item, month in zip(run.items, MONTHS, strict=True):
        properties = item["properties"]
        assert re.fullmatch(r"[0-9a-f]{32}", properties["eoap:digest"])
        assert properties["datetime"] == properties["start_datetime"] == f"{month}-01T00:00:00Z"
        assert properties["end_datetime"] == f"{month}-{31 if month.endswith('10') else 30}T23:59:59Z"
        assert properties["eoap:passes"] == 3
        assert properties["eoap:dropped_classes"] == [0, 1, 3, 8, 9, 10]
        assert properties["eoap:levels_read"] == {"data": [20.0], "mask": [40.0]}
        assert properties["gsd"] == 20.0  # of the data, on a grid of 5 m
        assert "median of the clear observations" in properties["processing:lineage"].lower()
        assert [band["eo:common_name"] for band in item["assets"]["data"]["bands"]] == list(BANDS)


def test_sources_are_told_without_their_signatures(run: Run, place: Place) -> None:
    """All scenes of the month but the one that a newer processing replaced."""
    for item, month in zip(run.items, MONTHS, strict=True):
        used = [
            source["id"]
            for scene, source in zip(place.archive.scenes, place.archive.items, strict=True)
            if scene.flight.month == month and not scene.superseded
        ]
        links = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
        assert sorted(Path(href).name for href in links) == sorted(used)
        assert all(href.startswith(f"{place.server.url}/collections/") for href in links)
        assert item["properties"]["eoap:scenes"] == len(used)
    texts = [path for path in run.output.rglob("*") if path.suffix in (".json", ".log")]
    assert len(texts) == 8
    for path in texts:
        assert "sig=" not in path.read_text(), path


def test_what_lies_beside_the_catalog(run: Run) -> None:
    beside = {"catalog.json", "collection.json", "run.json", "failures.json", "items.json", "run.log", "events.jsonl"}
    assert {path.name for path in run.output.iterdir()} - {i["id"] for i in run.items} == beside
    for item in run.items:
        folder = run.output / item["id"]
        expected = {f"{item['id']}.tif", "count.tif", "visual.tif", "thumbnail.png", f"{item['id']}.json"}
        assert {path.name for path in folder.iterdir()} == expected
    assert json.loads((run.output / "failures.json").read_text()) == {"failures": [], "left_out": []}
    recorded = json.loads((run.output / "run.json").read_text())
    assert recorded["params"]["bands"] == list(BANDS)
    assert recorded["search"]["truncated"] is False
    assert all(unit["done"] for unit in recorded["units"].values())
    assert {i["id"]: i["properties"]["eoap:digest"] for i in run.items} == {
        key: unit["digest"] for key, unit in recorded["units"].items()
    }
    assert not list(run.output.parent.glob("*.partial*"))


# Pixels, as GDAL and its users see them.


def test_every_raster_is_a_strict_cog(run: Run, place: Place) -> None:
    small = place.mosaic(resolution=100.0)
    for path in (*rasters(run), *rasters(small)):
        valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
        assert (valid, errors, warnings) == (True, [], []), path
    info = cog_info(rasters(run)[0])
    assert info.Compression == "DEFLATE"
    assert [level.Blocksize for level in info.IFD] == [(512, 512), (512, 512)]


def test_gdal_knows_bands_scale_and_grid(run: Run) -> None:
    for item, key, asset, path in assets_of(run):
        if key == "thumbnail":
            continue
        with rasterio.open(path) as dataset:
            assert dataset.crs.to_epsg() == 32610
            assert (
                list(dataset.shape) == item["properties"]["proj:shape"] == asset.get("proj:shape", list(dataset.shape))
            )
            assert list(dataset.transform)[:6] == item["properties"]["proj:transform"][:6]
            assert list(dataset.bounds) == item["properties"]["proj:bbox"]
            assert dataset.profile["tiled"]
            if key == "data":
                assert dataset.dtypes == ("uint16",) * 4
                assert dataset.descriptions == BANDS
                assert dataset.nodata == 0
                assert dataset.scales == (1e-4,) * 4
                assert dataset.offsets == (0.0,) * 4
                assert [band["name"] for band in asset["bands"]] == list(BANDS)
                assert {band["nodata"] for band in asset["bands"]} == {0}
                assert {band["raster:scale"] for band in asset["bands"]} == {1e-4}
            elif key == "count":
                assert dataset.dtypes == ("uint16",)
                assert dataset.nodata is None  # 0 is a count too
                assert dataset.descriptions == ("count",)
            else:
                assert dataset.dtypes == ("uint8",) * 3
                assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
                assert dataset.nodata == 0


def test_a_file_says_by_itself_what_it_is_made_of(run: Run) -> None:
    for item in run.items:
        sources = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
        assert sources
        for path in (run.output / item["id"]).glob("*.tif"):
            with rasterio.open(path) as made:
                tags = made.tags()
            assert tags["TIFFTAG_SOFTWARE"] == f"eoap-dask {__version__}"
            assert tags["TIFFTAG_DATETIME"].startswith(item["id"][-7:].replace("-", ":"))  # a day of that month
            assert tags["TIFFTAG_COPYRIGHT"] == "Contains data of eoap-dask demo (synthetic data)."
            about = tags["TIFFTAG_IMAGEDESCRIPTION"]
            assert sorted(about[:-1].partition(": ")[2].split(", ")) == sorted(
                href.rpartition("/")[2] for href in sources
            )
            assert f"{item['properties']['eoap:passes']} passes, 2020-" in about


def test_many_sources_are_counted() -> None:
    one = scene("http://127.0.0.1", 32633, 0)
    passes = [replace(one, scenes=(replace(one.scenes[0], id=f"{n}\0\n" + "x" * 200),)) for n in range(60)]
    about = file_tags(passes, "1.2.3")["TIFFTAG_IMAGEDESCRIPTION"]
    assert about.startswith(f"From 60 passes, {one.datetime:%Y-%m-%d}: 0xxx")
    assert about.endswith(" and 20 more, see its STAC item.")
    assert len(about) < 5000


def test_statistics_are_those_of_the_pixels(run: Run) -> None:
    for item, key, asset, path in assets_of(run):
        if key not in ("data", "count"):
            continue
        with rasterio.open(path) as dataset:
            pixels = dataset.read()
        for band, layer in zip(asset["bands"], pixels, strict=True):
            valid = layer[layer != 0].astype(float)
            assert 0 < valid.size < layer.size
            assert band["statistics"]["minimum"] == valid.min()
            assert band["statistics"]["maximum"] == valid.max()
            assert band["statistics"]["mean"] == pytest.approx(valid.mean(), abs=1e-6)
            assert band["statistics"]["stddev"] == pytest.approx(valid.std(), abs=1e-6)
            assert band["statistics"]["valid_percent"] == pytest.approx(100 * valid.size / layer.size, abs=1e-4)
        assert (item["properties"]["proj:shape"]) == list(pixels.shape[1:])


def test_overviews_are_means_of_the_valid_pixels(run: Run) -> None:
    for item in run.items:
        folder = run.output / item["id"]
        with (
            rasterio.open(folder / f"{item['id']}.tif") as full,
            rasterio.open(folder / f"{item['id']}.tif", overview_level=0) as half,
        ):
            pixels, found = full.read(), half.read()
        bands, height, width = pixels.shape
        padded = np.zeros((bands, height + height % 2, width + width % 2))
        padded[:, :height, :width] = pixels
        four = padded.reshape(bands, padded.shape[1] // 2, 2, padded.shape[2] // 2, 2)
        valid = (four > 0).sum(axis=(2, 4))
        mean = np.divide(four.sum(axis=(2, 4)), valid, out=np.zeros(valid.shape), where=valid > 0)
        np.testing.assert_array_equal(found, np.floor(mean + 0.5))
        with rasterio.open(folder / "count.tif") as full, rasterio.open(folder / "count.tif", overview_level=0) as half:
            np.testing.assert_array_equal(half.read(1), full.read(1)[::2, ::2])


def test_the_picture_is_the_data_stretched(run: Run) -> None:
    for item in run.items:
        folder = run.output / item["id"]
        with rasterio.open(folder / f"{item['id']}.tif") as dataset:
            data = dataset.read([2, 3, 4]).astype(float)  # red, green, blue of nir, red, green, blue
        with rasterio.open(folder / "visual.tif") as dataset:
            shown = dataset.read()
        seen = (data > 0).all(axis=0)
        expected = np.floor(1 + np.minimum(data, 3000) / 3000 * 254 + 0.5)
        np.testing.assert_array_equal(shown[:, seen], expected[:, seen])
        assert not shown[:, ~seen].any()


def test_thumbnails(run: Run, place: Place) -> None:
    for one in (run, place.mosaic(resolution=100.0), place.mosaic(resolution=100.0, bands=("red",))):
        for item in one.items:
            path = one.output / item["id"] / item["assets"]["thumbnail"]["href"]
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
            with Image.open(path) as picture:
                picture.load()
                assert max(picture.size) <= 512
                assert picture.mode in ("RGBA", "LA")
                rows, cols = item["properties"]["proj:shape"]
                assert picture.size[0] / picture.size[1] == pytest.approx(cols / rows, rel=0.05)
                alpha = np.asarray(picture.getchannel("A"))
                assert set(np.unique(alpha)) == {0, 255}
            assert item["assets"]["thumbnail"]["type"] == "image/png"
            assert item["assets"]["thumbnail"]["roles"] == ["thumbnail"]


# Others' tools.


def test_rio_tiler_reads_tiles_and_previews(run: Run) -> None:
    item = run.items[0]
    west, south, east, north = item["bbox"]
    with Reader(str(run.output / item["id"] / "visual.tif")) as reader:
        x, y = reader.tms.tile((west + east) / 2, (south + north) / 2, 14)[:2]
        tile = reader.tile(x, y, 14)
        assert tile.data.shape == (3, 256, 256)
        assert (tile.mask > 0).mean() > 0.3
        assert tile.render(img_format="PNG").startswith(b"\x89PNG")
        preview = reader.preview(max_size=128)
        assert max(preview.data.shape[1:]) == 128
    with Reader(str(run.output / item["id"] / f"{item['id']}.tif")) as reader:
        described = [name for _, name in reader.info().band_descriptions]
        assert described == list(BANDS)
        statistics = reader.statistics(max_size=None)
        first = item["assets"]["data"]["bands"][0]["statistics"]
        assert next(iter(statistics.values())).min == first["minimum"]
        assert next(iter(statistics.values())).max == first["maximum"]


def test_rioxarray_opens_it(run: Run) -> None:
    item = run.items[0]
    with rioxarray.open_rasterio(run.output / item["id"] / f"{item['id']}.tif", mask_and_scale=True) as array:
        assert array.shape == (4, *item["properties"]["proj:shape"])
        assert array.rio.crs.to_epsg() == 32610
        assert array.attrs["long_name"] == BANDS
        values = array.to_numpy()
        assert np.isnan(values).any()
        assert 0 < np.nanmin(values) <= np.nanmax(values) < 1.2


def loadable(run: Run) -> list[pystac.Item]:
    """The items with absolute hrefs, as a loader wants them, and `proj:epsg` for those that know no `proj:code`."""
    items = list(pystac.Catalog.from_file(str(run.catalog)).get_items())
    for item in items:
        item.make_asset_hrefs_absolute()
        item.properties["proj:epsg"] = int(item.properties["proj:code"].removeprefix("EPSG:"))
    return items


@pytest.mark.usefixtures("offline")
def test_stackstac_stacks_it(run: Run) -> None:
    stackstac = pytest.importorskip("stackstac")
    stack = stackstac.stack(
        loadable(run), assets=["count"], dtype="uint16", fill_value=np.uint16(0), rescale=False, resolution=5
    )
    assert stack.shape == (2, 1, *run.items[0]["properties"]["proj:shape"])
    for item, layer in zip(run.items, stack.compute(scheduler="synchronous").to_numpy(), strict=True):
        with rasterio.open(run.output / item["id"] / "count.tif") as dataset:
            np.testing.assert_array_equal(layer[0], dataset.read(1))


@pytest.mark.usefixtures("offline")
def test_odc_stac_loads_it(run: Run) -> None:
    odc_stac = pytest.importorskip("odc.stac")
    cube = odc_stac.load(loadable(run), bands=["data.1", "data.4", "count"])  # it doesn't know the names in `bands`
    assert dict(cube.sizes) == {"time": 2, **dict(zip("yx", run.items[0]["properties"]["proj:shape"], strict=True))}
    assert cube.odc.geobox.crs.epsg == 32610
    for number, item in enumerate(run.items):
        with rasterio.open(run.output / item["id"] / f"{item['id']}.tif") as dataset:
            np.testing.assert_array_equal(cube["data.1"].isel(time=number), dataset.read(1))
            np.testing.assert_array_equal(cube["data.4"].isel(time=number), dataset.read(4))
        with rasterio.open(run.output / item["id"] / "count.tif") as dataset:
            np.testing.assert_array_equal(cube["count"].isel(time=number), dataset.read(1))


# What `visual` shows.


def shown(run: Run) -> tuple[str, tuple[str, ...], np.ndarray, np.ndarray]:
    """Title, bands, picture and data of October."""
    item = run.items[0]
    folder, asset = run.output / item["id"], item["assets"]["visual"]
    with rasterio.open(folder / asset["href"]) as picture, rasterio.open(folder / f"{item['id']}.tif") as data:
        return asset["title"], tuple(b["name"] for b in asset["bands"]), picture.read(), data.read()


@pytest.mark.parametrize("bands", list(permutations(("red", "green", "blue"))), ids="-".join)
def test_true_colour_in_any_order(place: Place, bands: tuple[str, ...]) -> None:
    reference = shown(place.mosaic(resolution=100.0, bands=("red", "green", "blue")))
    title, names, picture, _ = shown(place.mosaic(resolution=100.0, bands=bands))
    assert title == "True colour"
    assert names == ("red", "green", "blue")
    np.testing.assert_array_equal(picture, reference[2])


def test_true_colour_among_others(place: Place) -> None:
    for bands in (("nir", "blue", "red", "green"), ("B02", "B08", "B04", "B03")):
        title, _, picture, data = shown(place.mosaic(resolution=100.0, bands=bands))
        assert title == "True colour"
        order = [bands.index(b) for b in (("red", "green", "blue") if "red" in bands else ("B04", "B03", "B02"))]
        seen = (picture != 0).all(axis=0)
        expected = 1 + (np.minimum(data[order], 3000) / 3000 * 254 + 0.5).astype(int)
        np.testing.assert_array_equal(picture[:, seen], expected[:, seen])


def test_false_colour_is_said(place: Place) -> None:
    title, names, _, _ = shown(place.mosaic(resolution=100.0, bands=("nir", "red", "green")))
    assert title == "False colour: nir, red, green as red, green, blue"
    assert names == ("red", "green", "blue")


@pytest.mark.parametrize("bands", [("nir",), ("nir", "red")], ids="-".join)
def test_one_or_two_bands_are_grey(place: Place, bands: tuple[str, ...]) -> None:
    run = place.mosaic(resolution=100.0, bands=bands)
    title, names, picture, data = shown(run)
    assert title == "nir in grey"
    assert names == ("grey",)
    assert picture.shape[0] == 1
    np.testing.assert_array_equal(picture[0] == 0, data[0] == 0)
    assert data.shape[0] == len(bands)
    for path in rasters(run):
        assert cog_validate(path, strict=True, quiet=True)[0]
    with rasterio.open(run.output / run.items[0]["id"] / "visual.tif") as dataset:
        assert dataset.colorinterp == (ColorInterp.gray,)


def test_result_as_json(run: Run) -> None:
    result = json.loads(json.dumps(run.to_dict()))
    assert Path(result["catalog"]) == run.catalog
    for item in result["items"]:
        assert all(Path(path).is_file() for path in item["assets"].values())
    assert result["empty_periods"] == result["failures"] == []
