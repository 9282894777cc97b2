"""The archive of fields: polygons as EuroCrops has them, and scenes whose clear pixels are the known ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from pystac_client import Client
from rasterio.features import rasterize
from rio_cogeo import cog_validate
from shapely.geometry import box, shape

from eoap_dask.demo.catalogue import FIELDS_DIRECTORY, Catalogue
from eoap_dask.demo.farmland import FARM_BANDS
from eoap_dask.demo.fields import LAYER, FieldsArchive, make_fields
from eoap_dask.demo.items import BANDS, COARSE, DIALECTS
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import BandError, OutputError, UsageError
from eoap_dask.scenes.parse import read_scenes
from eoap_dask.scenes.sensor import sensor_for

FLAGGED = (3, 8, 9)
SIZE = 512


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> FieldsArchive:
    return make_fields(tmp_path_factory.mktemp("fields") / "a", size_px=SIZE)


@pytest.fixture(scope="module")
def table(archive: FieldsArchive) -> geopandas.GeoDataFrame:
    return geopandas.read_file(archive.fields, layer=LAYER)


def read(archive: FieldsArchive, item: dict[str, Any], name: str) -> np.ndarray:
    asset = item["assets"].get(name) or item["assets"]["SCL" if name == "scl" else BANDS[name][0]]
    with rasterio.open(archive.root / asset["href"]) as dataset:
        found: np.ndarray = dataset.read(1)
    return found


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# The fields.


def test_fields_are_as_eurocrops_has_them(archive: FieldsArchive, table: geopandas.GeoDataFrame) -> None:
    assert [name for name, _ in pyogrio.list_layers(archive.fields)] == [LAYER]
    assert list(table.columns) == ["id", "EC_trans_n", "EC_hcat_n", "EC_hcat_c", "geometry"]
    assert table.crs == "EPSG:4326"
    assert table["id"].tolist() == list(range(1, len(table) + 1))
    assert table["EC_hcat_c"].map(lambda code: isinstance(code, str) and len(code) == 10).all()
    assert len(table) > 100
    assert tuple(table.total_bounds) == archive.aoi_bbox


def test_codes_are_those_of_the_fields(archive: FieldsArchive, table: geopandas.GeoDataFrame) -> None:
    """Drawn by another way, on a part of the grid."""
    tile = archive.tile
    grid = (tile.transform @ Affine.translation(100, 60), (256, 300))
    shapes = zip(table.to_crs(tile.epsg).geometry, range(len(table)), strict=True)
    drawn = rasterize(shapes, out_shape=grid[1], transform=grid[0], fill=-1, dtype="int32")
    codes = archive.codes(tile.epsg, *grid)
    np.testing.assert_array_equal(codes, np.append(table["EC_hcat_c"], "")[drawn])
    classes = archive.classes(tile.epsg, *grid)
    assert set(np.unique(classes)) == set(range(9))
    assert set(np.unique(codes[classes == 2])) == {"3303060000"}
    assert not classes[codes == ""].any()


# The scenes.


@pytest.mark.parametrize("dialect", DIALECTS)
def test_clear_pixels_are_the_truth(dialect: Any, archive: FieldsArchive, tmp_path: Path) -> None:
    other = archive if dialect == archive.dialect else make_fields(tmp_path / "b", size_px=256, dialect=dialect)
    rules = DIALECTS[other.dialect]
    tile = other.tile
    grid = (f"EPSG:{tile.epsg}", tile.transform, (tile.size_px, tile.size_px))
    for scene, item in zip(other.scenes, other.items, strict=True):
        scl = read(other, item, "scl")
        clear = ~np.isin(scl, FLAGGED)
        np.testing.assert_array_equal(scl[clear], other.farmland.scl(scene.flight.when.date())[clear])
        truth = other.truth(FARM_BANDS, scene.flight.when.date(), *grid)
        for band, expected in zip(FARM_BANDS, truth, strict=True):
            stored, step = read(other, item, band), 2 if band in COARSE else 1
            wide = clear if step == 2 else clear.repeat(2, 0).repeat(2, 1)
            assert stored.shape == wide.shape
            expected = expected[::step, ::step] + rules.shift(scene)
            np.testing.assert_array_equal(stored[wide], expected[wide])
            assert (stored[~wide] != expected[~wide]).mean() > 0.8
    served = [
        {**i, "assets": {k: {**a, "href": f"https://x.test/{k}"} for k, a in i["assets"].items()}} for i in other.items
    ]
    found = read_scenes(served, FARM_BANDS, sensor_for(rules.collection), cloud_mask=True, private_hosts=frozenset())
    assert [[band.offset for band in scene.bands] for scene in found] == [
        [rules.shift(scene)] * len(FARM_BANDS) for scene in other.scenes
    ]


def test_truth_of_another_grid_is_the_nearest_pixel(archive: FieldsArchive) -> None:
    tile, day = archive.tile, archive.scenes[0].flight.when.date()
    whole = archive.truth(["red", "swir16"], day, tile.epsg, tile.transform, (SIZE, SIZE))
    half = archive.truth(["red", "swir16"], day, tile.epsg, tile.classes.transform, (SIZE // 2, SIZE // 2))
    np.testing.assert_array_equal(half, whole[:, 1::2, 1::2])
    np.testing.assert_array_equal(whole[1, 1::2], whole[1, ::2])
    west, _, _, north = archive.aoi_bbox
    assert archive.truth(["red"], day, 4326, Affine(1e-4, 0, west, 0, -1e-4, north), (9, 9)).min() >= 1
    beyond = tile.transform @ Affine.translation(SIZE - 2, SIZE - 3)
    assert (archive.truth(["nir08"], day, tile.epsg, beyond, (5, 5))[0] > 0).sum() == 6
    assert (archive.codes(tile.epsg, beyond, (5, 5)) == "").all()
    with pytest.raises(BandError, match="lwir11"):
        archive.truth(["lwir11"], day, tile.epsg, beyond, (5, 5))


def test_skies_have_clouds_and_shadows(archive: FieldsArchive) -> None:
    covers = [item["properties"]["eo:cloud_cover"] for item in archive.items]
    assert sum(cover < 10 for cover in covers) == 4
    assert max(covers) > 30
    for item in archive.items:
        counts = np.bincount(read(archive, item, "scl").ravel(), minlength=12)
        assert counts[3] > 0
        assert counts[9] > 0
        assert not counts[[0, 1, 2, 7, 10, 11]].any()
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(100 * counts[8:11].sum() / counts.sum(), abs=1e-5)
    clear = [~np.isin(read(archive, item, "scl"), FLAGGED) for item in archive.items]
    assert (np.sum([seen for seen, cover in zip(clear, covers, strict=True) if cover < 10], axis=0) > 1).mean() > 0.95


def test_items_are_like_those_of_earth_search(archive: FieldsArchive) -> None:
    for item in archive.items:
        properties = item["properties"]
        assert item["id"] == f"S2{properties['platform'][-1].upper()}_30TUM_{item['id'][10:18]}_0_L2A"
        assert "2023-05-15" < properties["datetime"] < "2023-06-30"
        assert properties["datetime"] < properties["s2:generation_time"]
        assert properties["proj:code"] == "EPSG:32630"
        assert properties["grid:code"] == "MGRS-30TUM"
        assert properties["earthsearch:boa_offset_applied"] is True
        assert list(item["assets"]) == [*FARM_BANDS, "scl"]
        assert item["assets"]["rededge2"]["eo:bands"][0]["common_name"] == "rededge"
        assert item["assets"]["nir08"]["gsd"] == 20
        assert shape(item["geometry"]).covers(box(*archive.aoi_bbox))


def test_files_are_strict_cogs_where_the_items_say(archive: FieldsArchive) -> None:
    assert json.loads((archive.root / "items.json").read_text())["features"] == archive.items
    hrefs = {asset["href"]: asset for item in archive.items for asset in item["assets"].values()}
    assert set(hrefs) == {path for path in content(archive.root) if path.endswith(".tif")}
    for href, asset in hrefs.items():
        assert cog_validate(archive.root / href, strict=True) == (True, [], [])
        with rasterio.open(archive.root / href) as dataset:
            assert [*dataset.shape] == asset["proj:shape"]
            assert list(dataset.transform)[:6] == asset["proj:transform"]


# The whole.


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        content(make_fields(tmp_path / name, size_px=256, **options).root)
        for name, options in (("a", {}), ("b", {"workers": 1}), ("c", {"seed": 7}))
    )
    assert first == again
    assert len(first) == 5 * 11 + 2
    assert first["fields.gpkg"] != other["fields.gpkg"]


def test_is_served_beside_another_archive(archive: FieldsArchive, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "items.json").write_text(json.dumps({"features": [archive.items[0] | {"id": "other"}]}))
    assert len(Catalogue.from_directory(root).items) == 1
    (root / FIELDS_DIRECTORY).symlink_to(archive.root)
    with DemoServer(Catalogue.from_directory(root)) as server:
        found = Client.open(server.url).search(
            collections=[archive.collection],
            bbox=archive.aoi_bbox,
            datetime="2023-05-15/2023-06-30",
            query={"eo:cloud_cover": {"lt": 10}},
        )
        items = {item.id: item for item in found.items()}
    assert set(items) == {i["id"] for i in archive.items if i["properties"]["eo:cloud_cover"] < 10} | {"other"}
    href = items[archive.items[0]["id"]].assets["red"].href
    assert href == f"{server.files_url}/{FIELDS_DIRECTORY}/{archive.items[0]['assets']['red']['href']}"


def test_what_is_refused(tmp_path: Path) -> None:
    for size in (254, 301):
        with pytest.raises(UsageError, match=str(size)):
            make_fields(tmp_path / "a", size_px=size)
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").touch()
    with pytest.raises(OutputError, match="isn't empty"):
        make_fields(tmp_path)


def test_nothing_is_left_of_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eoap_dask.demo.fields.write_cog", full)
    with pytest.raises(OSError, match="No space"):
        make_fields(tmp_path, size_px=256)
    assert not list(tmp_path.iterdir())
