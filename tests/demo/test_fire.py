"""The demo's fire is where it is said to be, as bad as it is said to be, and the same in every catalogue's dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import rasterio

from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.fire import FIRE_BANDS, default_fire, factors, fire_pair, has_fire
from eoap_dask.demo.items import BANDS, DIALECTS
from eoap_dask.demo.landscape import CENTRE_X, CENTRE_Y, Landscape
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import DateError, UsageError
from eoap_dask.kernels.indices import dnbr, nbr
from eoap_dask.kernels.pixels import to_reflectance
from eoap_dask.kernels.severity import severity, severity_classes
from eoap_dask.scenes.model import Scene
from eoap_dask.scenes.parse import read_scenes
from eoap_dask.scenes.sensor import sensor_for

BEFORE, AFTER = "2021-07", "2021-08"
FLAGGED = (3, 8, 9, 10)
NBR = ("nir", "swir22")


@pytest.fixture(scope="module", params=DIALECTS)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("fire")
    return make_archive(root, months=(), size_px=256, resolution_m=20.0, fire=True, dialect=request.param, workers=1)


def file_of(archive: Archive, item: dict[str, Any], name: str) -> Path:
    key = "SCL" if name == "scl" else BANDS[name][0]
    asset = item["assets"].get(name) or item["assets"][key]
    return archive.root / asset["href"]


def read(archive: Archive, item: dict[str, Any], name: str) -> np.ndarray:
    with rasterio.open(file_of(archive, item, name)) as dataset:
        found: np.ndarray = dataset.read(1)
    return found


def scenes_of(archive: Archive, items: list[dict[str, Any]], band: str) -> tuple[Scene, ...]:
    """How the package reads items that say where their files are."""
    served = [
        {**item, "assets": {k: {**a, "href": f"https://x.test/{a['href']}"} for k, a in item["assets"].items()}}
        for item in items
    ]
    return read_scenes(served, (band,), sensor_for(archive.collection), cloud_mask=True, private_hosts=frozenset())


def offset_of(archive: Archive, item: dict[str, Any], band: str) -> int:
    (scene,) = scenes_of(archive, [item], band)
    return scene.bands[0].offset


# The ground.


@pytest.mark.parametrize("side_m", [5_120.0, 15_360.0, 30_720.0])
def test_dnbr_of_the_ground_is_of_the_class_that_the_fire_was_meant_to_have(side_m: float) -> None:
    fire = default_fire((CENTRE_X, CENTRE_Y), side_m)
    half = int(1.7 * fire.radius_m / 20)
    ground = Landscape(7, fire.x - half * 20, fire.y + half * 20, 20, (2 * half, 2 * half), fire=fire)
    truth = ground.burn_severity(AFTER)
    before, after = (nbr(*(to_reflectance(ground.layer(band, month)) for band in NBR)) for month in (BEFORE, AFTER))
    found = severity(dnbr(before, after))
    burned = truth > 0
    assert set(np.unique(truth)) == {0, 4, 5, 6, 7}
    assert all(c.burned for c in severity_classes() if c.value in truth)
    np.testing.assert_array_equal(found[burned], truth[burned])
    assert (found[~burned] == 3).all()  # nothing else changed by as much
    # every severity is there to be found, and water lies in the fire or at its edge
    assert (np.bincount(truth[burned], minlength=8)[4:] > 0.08 * burned.sum()).all()
    water = ground.scl(np.arange(truth.size), AFTER).reshape(truth.shape) == 6
    would_burn = fire.severity(ground.x, ground.y) > 0
    assert (water & would_burn).any()
    assert not (water & burned).any()


def test_before_its_month_nothing_has_burned() -> None:
    with_fire = Landscape(
        7, CENTRE_X - 1500, CENTRE_Y + 1500, 20, (150, 150), fire=default_fire((CENTRE_X, CENTRE_Y), 5000)
    )
    without = Landscape(7, CENTRE_X - 1500, CENTRE_Y + 1500, 20, (150, 150))
    everywhere = np.arange(150 * 150)
    for month in ("2020-10", BEFORE):
        assert not with_fire.burn_severity(month).any()
        np.testing.assert_array_equal(with_fire.scl(everywhere, month), without.scl(everywhere, month))
        for band in FIRE_BANDS:
            np.testing.assert_array_equal(with_fire.layer(band, month), without.layer(band, month))
    burned = with_fire.burn_severity(AFTER) > 0
    for band in FIRE_BANDS:
        after, otherwise = with_fire.layer(band, AFTER), without.layer(band, AFTER)
        np.testing.assert_array_equal(after[~burned], otherwise[~burned])
    assert (with_fire.layer("nir", AFTER)[burned] < without.layer("nir", AFTER)[burned]).all()
    # and it stays
    assert (with_fire.burn_severity("2022-01") > 0).sum() == burned.sum()


def test_a_fire_burns_the_same_ground_in_every_grid() -> None:
    fire = default_fire((CENTRE_X, CENTRE_Y), 5000)
    large = fire.severity(np.arange(-2000.0, 2000, 20) + fire.x, np.arange(2000.0, -2000, -20) + fire.y)
    small = fire.severity(np.arange(-400.0, 0, 20) + fire.x, np.arange(600.0, 100, -20) + fire.y)
    np.testing.assert_array_equal(small, large[70:95, 80:100])
    assert not fire.severity(np.array([fire.x + 9000]), np.array([fire.y])).any()
    assert 0 < (large > 0).mean() < 0.3
    assert not large[[0, -1]].any()
    assert not large[:, [0, -1]].any()


def test_what_is_left_of_the_bands_makes_each_class_on_all_kinds_of_land() -> None:
    """By hand: of nir / swir22 = r, 0.6, 0.45, 0.28 and 0.15 are left, and NBR is (r - 1) / (r + 1)."""
    left = (factors("nir") / factors("swir22"))[4:]
    np.testing.assert_allclose(left, (0.6, 0.45, 0.28, 0.15), atol=1e-3)
    for ratio in (0.8, 1.5, 3.0, 5.0):
        change = [(ratio - 1) / (ratio + 1) - (ratio * k - 1) / (ratio * k + 1) for k in left]
        assert severity(np.array(change, np.float32)).tolist() == [4, 5, 6, 7]


# The files.


def test_clear_pixels_are_the_truth_in_every_dialect(archive: Archive) -> None:
    for scene, item in zip(archive.scenes, archive.items, strict=True):
        month = scene.flight.month
        scl = read(archive, item, "scl")
        truth = archive.tile_truth(scene.tile, FIRE_BANDS, month)
        for band, expected in zip(FIRE_BANDS, truth, strict=True):
            stored = read(archive, item, band).astype(int)
            coarse = band.startswith("swir")
            assert stored.shape == ((128, 128) if coarse else (256, 256))
            expected = expected[::2, ::2] if coarse else expected
            classes = scl if coarse else scl.repeat(2, 0).repeat(2, 1)
            clear = ~np.isin(classes, (0, *FLAGGED))
            np.testing.assert_array_equal(stored[clear] - offset_of(archive, item, band), expected[clear])
            np.testing.assert_array_equal(stored == 0, classes == 0)


def test_the_pair_is_clear_over_the_fire_and_the_others_hide_a_part_of_it(archive: Archive) -> None:
    tile = archive.tiles[0]
    burned = archive.burn_truth(AFTER, tile.epsg, tile.classes.transform, (128, 128)) > 0
    assert burned.mean() > 0.02
    hidden = {}
    for scene, item in zip(archive.scenes, archive.items, strict=True):
        if scene.tile is tile:
            hidden[f"{scene.flight.when:%m-%d}"] = np.isin(read(archive, item, "scl"), FLAGGED)[burned].mean()
    assert list(hidden) == ["07-08", "07-13", "08-12", "08-17"]
    assert hidden["07-13"] == hidden["08-12"] == 0
    assert 0.1 < hidden["07-08"] < 0.9
    assert 0.1 < hidden["08-17"] < 0.9


@pytest.mark.parametrize("name", ["10TET", "11TJN"])
def test_the_fire_is_found_in_the_files(archive: Archive, name: str) -> None:
    """As simple as can be: dNBR of the pair's files, swir22 repeated, water and clouds left out."""
    tile = next(t for t in archive.tiles if t.mgrs == name)
    pair = archive.fire_pair(name)
    ratios, clear = [], np.ones((256, 256), bool)
    for item in pair:
        bands = []
        for band in NBR:
            bands.append(read(archive, item, band).astype(np.float64) - offset_of(archive, item, band))
        nir, swir = bands[0], bands[1].repeat(2, 0).repeat(2, 1)
        ratios.append((nir - swir) / (nir + swir))
        clear &= ~np.isin(read(archive, item, "scl"), (0, 1, 3, 6, 8, 9, 10, 11)).repeat(2, 0).repeat(2, 1)
    found = (ratios[0] - ratios[1] >= 0.1) & clear
    truth = archive.burn_truth(AFTER, tile.epsg, tile.transform, (256, 256)) > 0
    area_ha = found.sum() * 20 * 20 / 10_000
    assert area_ha == pytest.approx(archive.burned_ha(AFTER), rel=0.02)
    assert (found & truth).sum() > 0.97 * truth.sum()
    assert archive.burned_ha(BEFORE) == 0


def test_single_items_of_the_pair_are_served(archive: Archive) -> None:
    with DemoServer(archive) as server:
        for item in archive.fire_pair():
            url = server.item_url(item["id"])
            assert url == f"{server.url}/collections/{archive.collection}/items/{item['id']}"
            with urlopen(url) as answer:  # noqa: S310  # loopback
                found = json.load(answer)
            assert found["id"] == item["id"]
            assert next(link["href"] for link in found["links"] if link["rel"] == "self") == url
            assert all(asset["href"].startswith(server.files_url) for asset in found["assets"].values())


# What Earth Search served at first.


@pytest.fixture(scope="module")
def first_items(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(
        tmp_path_factory.mktemp("v0"),
        months=("2020-10",),
        dates_per_month=2,
        size_px=128,
        resolution_m=60.0,
        fire=True,
        dialect="earth-search-v0",
        workers=1,
    )


def test_items_of_the_first_earth_search(first_items: Archive) -> None:
    assert first_items.collection == "sentinel-s2-l2a-cogs"
    before, after = first_items.fire_pair()
    assert (before["id"], after["id"]) == ("S2B_10TET_20210713_0_L2A", "S2B_10TET_20210812_0_L2A")
    assert set(before["assets"]) == {"B02", "B03", "B04", "B08", "B11", "B12", "SCL"}
    for item in first_items.items:
        properties = item["properties"]
        assert properties["proj:epsg"] in (32610, 32611)
        assert not any(name.startswith(("s2:", "earthsearch:")) for name in properties)
        assert not any("raster:bands" in asset for asset in item["assets"].values())
        assert item["assets"]["B04"]["eo:bands"][0]["common_name"] == "red"
        assert len(item["assets"]["B04"]["proj:transform"]) == 9
    (old, new) = [s for s in first_items.scenes if s.superseded or s.sequence]
    assert (old.baseline, new.baseline) == ("02.12", "02.14")
    scenes = scenes_of(first_items, first_items.items, "red")
    assert len(scenes) == len(first_items.items) - 1  # the old processing is dropped
    assert {s.bands[0].offset for s in scenes} == {0}
    assert len({s.pass_key for s in scenes}) == 2 + 4


def test_archives_without_a_fire_have_none(tmp_path: Path) -> None:
    with pytest.raises(DateError, match="No month"):
        make_archive(tmp_path / "none", months=(), workers=1)
    small = make_archive(tmp_path / "small", months=("2020-10",), dates_per_month=1, size_px=128, workers=1)
    with pytest.raises(UsageError, match=r"0 scenes of 10TET on 2021-07-13.*fire=True"):
        small.fire_pair()
    with pytest.raises(UsageError, match="0 scenes"):
        fire_pair([])
    assert not has_fire(small.items)
    assert small.burned_ha("2030-01") == 0


def test_a_fire_changes_nothing_else(tmp_path: Path) -> None:
    """The other passes have the same files, byte by byte, and the same items."""
    options: dict[str, Any] = {"months": ("2020-10",), "dates_per_month": 2, "size_px": 128, "workers": 1}
    without = make_archive(tmp_path / "without", **options)
    with_fire = make_archive(tmp_path / "with", fire=True, **options)
    assert [i for i in with_fire.items if i["properties"]["datetime"] < "2021"] == without.items
    assert len(with_fire.items) == len(without.items) + 8
    for path in without.root.rglob("*.tif"):
        assert path.read_bytes() == (with_fire.root / path.relative_to(without.root)).read_bytes()


def test_short_wave_infrared_of_ordinary_passes(tmp_path: Path) -> None:
    archive = make_archive(
        tmp_path, months=("2020-10",), dates_per_month=1, bands=("nir", "swir22"), size_px=128, workers=1
    )
    for scene, item in zip(archive.scenes, archive.items, strict=True):
        (truth,) = archive.tile_truth(scene.tile, ["swir22"], "2020-10").astype(int)
        scl = read(archive, item, "scl")
        clear = ~np.isin(scl, (0, *FLAGGED))
        added = 500 * scene.superseded + 1000 * (scene.baseline >= "04.00")
        np.testing.assert_array_equal(read(archive, item, "swir22")[clear], truth[::2, ::2][clear] + added)
