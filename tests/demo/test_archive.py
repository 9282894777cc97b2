"""The archive is what it says: known ground under a known sky, in files and items like the real ones."""

import hashlib
import json

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rio_cogeo import cog_validate
from shapely.geometry import Point, box, shape

from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.items import BANDS
from eoap_dask.demo.landscape import Landscape
from eoap_dask.demo.scenes import lay_tiles, plan_passes, plan_scenes
from eoap_dask.errors import BandError, DateError, OutputError, UsageError

FLAGGED = (3, 8, 9, 10)
SMALL = {"size_px": 256, "resolution_m": 60.0, "workers": 1, "bands": ("red", "nir")}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two months of five passes: every third one of a new baseline, one at the swath's edge."""
    root = tmp_path_factory.mktemp("archive")
    return make_archive(root, months=("2020-10", "2020-11"), dates_per_month=5, **SMALL)


def asset_of(item, name):
    return item["assets"].get(name) or item["assets"]["SCL" if name == "scl" else BANDS[name][0]]


def read(archive, item, name):
    with rasterio.open(archive.root / asset_of(item, name)["href"]) as dataset:
        return dataset.read(1)


def wide(classes):
    return classes.repeat(2, 0).repeat(2, 1)


def pairs(archive):
    return list(zip(archive.scenes, archive.items, strict=True))


def test_clear_pixels_are_the_truth(archive):
    for scene, item in pairs(archive):
        scl = wide(read(archive, item, "scl"))
        clear = ~np.isin(scl, (0, *FLAGGED))
        shift = (1000 if scene.baseline >= "04.00" else 0) + (500 if scene.superseded else 0)
        truth = archive.tile_truth(scene.tile, archive.bands, scene.flight.month)
        assert truth.min() >= 1
        for band, expected in zip(archive.bands, truth, strict=True):
            stored = read(archive, item, band)
            np.testing.assert_array_equal(stored[clear], expected[clear] + shift)
            np.testing.assert_array_equal(stored == 0, scl == 0)


def test_clouds_and_shadows_look_like_it(archive):
    for scene, item in pairs(archive):
        if scene.superseded or scene.baseline >= "04.00":
            continue
        scl = wide(read(archive, item, "scl"))
        stored = read(archive, item, "red").astype(int)
        (truth,) = archive.tile_truth(scene.tile, ["red"], scene.flight.month).astype(int)
        if (scl == 3).any():
            assert (stored[scl == 3] <= truth[scl == 3]).all()
        if (scl == 9).any():
            assert np.median(stored[scl == 9]) > 3000


def test_months_differ_a_little(archive):
    october, november = (archive.tile_truth(archive.tiles[0], ["red"], month) for month in ("2020-10", "2020-11"))
    assert (october != november).any()
    assert np.abs(october.astype(int) - november).max() < 400


def test_truth_on_the_grid_of_a_tile_is_the_tile(archive):
    tile = archive.tiles[0]
    shape = (tile.size_px, tile.size_px)
    truth = archive.truth(["nir"], "2020-10", f"EPSG:{tile.epsg}", tile.transform, shape)
    np.testing.assert_array_equal(truth, archive.tile_truth(tile, ["nir"], "2020-10"))


def test_both_tiles_show_the_same_ground(archive):
    """A pixel of the eastern tile has the value of the western pixel that its centre lies in."""
    western, eastern = archive.tiles
    west, east = (archive.tile_truth(tile, ["red"], "2020-10")[0] for tile in archive.tiles)
    x, y = eastern.ground_xy()
    cols, rows = (x - western.west) / western.resolution_m, (western.north - y) / western.resolution_m
    inside = (cols >= 0) & (rows >= 0) & (cols < western.size_px) & (rows < western.size_px)
    assert inside.mean() > 0.5
    there = west[np.floor(rows[inside]).astype(int), np.floor(cols[inside]).astype(int)]
    np.testing.assert_array_equal(east[inside], there)


def test_both_tiles_of_a_pass_see_the_same_clouds(archive):
    """Compare flags at the class pixels' centres; only at the edges of clouds may they differ."""
    by_pass = {}
    for scene, item in pairs(archive):
        if not scene.superseded:
            by_pass.setdefault(scene.flight.number, []).append((scene.tile.classes, read(archive, item, "scl")))
    tried = 0
    for views in by_pass.values():
        if len(views) < 2:
            continue
        (west_tile, west), (east_tile, east) = views
        x, y = east_tile.ground_xy()
        cols = np.floor((x - west_tile.west) / west_tile.resolution_m).astype(int)
        rows = np.floor((west_tile.north - y) / west_tile.resolution_m).astype(int)
        inside = (cols >= 0) & (rows >= 0) & (cols < west_tile.size_px) & (rows < west_tile.size_px)
        there, here = west[rows[inside], cols[inside]], east[inside]
        both = (there > 0) & (here > 0)
        same = np.isin(there[both], FLAGGED) == np.isin(here[both], FLAGGED)
        assert same.all()
        tried += 1
    assert tried >= 8


def test_cloud_cover_is_what_the_classes_say(archive):
    for _, item in pairs(archive):
        scl = read(archive, item, "scl")
        counts = np.bincount(scl.ravel(), minlength=12)
        properties = item["properties"]
        valid = counts[1:].sum()
        assert properties["eo:cloud_cover"] == pytest.approx(100 * counts[8:11].sum() / valid, abs=1e-5)
        assert properties["s2:cloud_shadow_percentage"] == pytest.approx(100 * counts[3] / valid, abs=1e-5)
        assert properties["s2:nodata_pixel_percentage"] == pytest.approx(100 * counts[0] / scl.size, abs=1e-5)
        assert set(np.unique(scl)) <= {0, 2, 3, 4, 5, 6, 7, 8, 9, 10}


def test_each_month_has_cloudy_and_clear_scenes(archive):
    for month in ("2020-10", "2020-11"):
        covers = [item["properties"]["eo:cloud_cover"] for scene, item in pairs(archive) if scene.flight.month == month]
        assert max(covers) > 25
        assert min(covers) < 10


def test_passes_share_a_datatake(archive):
    for scene, item in pairs(archive):
        properties = item["properties"]
        start = f"{scene.flight.when:%Y%m%dT%H%M%S}"
        assert properties["s2:datatake_id"].startswith(f"GS2{scene.flight.satellite}_{start}_")
        assert properties["s2:datatake_id"].endswith(f"_N{scene.baseline}")
        assert f"_N{scene.baseline.replace('.', '')}_" in properties["s2:product_uri"]
    assert len({scene.flight.number for scene in archive.scenes}) == 10
    assert {scene.flight.satellite for scene in archive.scenes} == {"A", "B"}


def test_one_scene_was_processed_twice(archive):
    old, new = [scene for scene in archive.scenes if scene.superseded or scene.sequence]
    assert (old.tile, old.flight) == (new.tile, new.flight)
    assert old.baseline < new.baseline
    assert old.generated < new.generated
    assert len({item["id"] for item in archive.items}) == len(archive.items)


def test_swaths_cut_scenes_and_their_footprints(archive):
    cut = [(scene, item) for scene, item in pairs(archive) if scene.flight.sky.swath != "whole"]
    assert cut
    for scene, item in cut:
        scl = read(archive, item, "scl")
        assert (scl == 0).any()
        footprint = shape(item["geometry"])
        rows, cols = np.nonzero(scl)
        tile = scene.tile.classes
        for row, col in zip(rows[::97], cols[::97], strict=True):
            x, y = tile.west + (col + 0.5) * tile.resolution_m, tile.north - (row + 0.5) * tile.resolution_m
            lon, lat = Transformer.from_crs(tile.epsg, 4326, always_xy=True).transform(x, y)
            assert footprint.buffer(1e-6).covers(Point(lon, lat))


def test_files_are_strict_cogs_with_decimated_overviews(tmp_path):
    archive = make_archive(
        tmp_path,
        months=("2020-10",),
        dates_per_month=1,
        size_px=512,
        resolution_m=20,
        bands=("blue",),
        workers=1,
    )
    for item in archive.items[:2]:
        for asset in item["assets"].values():
            path = archive.root / asset["href"]
            assert cog_validate(path, strict=True) == (True, [], [])
            with rasterio.open(path) as dataset:
                assert dataset.nodata == 0
                assert dataset.profile["compress"] == "deflate"
                full = dataset.read(1)
                levels = dataset.overviews(1)
                assert list(dataset.transform)[:6] == asset["proj:transform"]
                assert [*dataset.shape] == asset["proj:shape"]
            assert levels
            for number, factor in enumerate(levels):
                with rasterio.open(path, OVERVIEW_LEVEL=number) as dataset:
                    np.testing.assert_array_equal(dataset.read(1), full[::factor, ::factor])


def test_same_arguments_same_bytes(tmp_path):
    def digest(root, **kwargs):
        make_archive(root, months=("2020-10",), dates_per_month=2, size_px=128, resolution_m=100, **kwargs)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return [(str(f.relative_to(root)), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]

    first = digest(tmp_path / "first", workers=1)
    assert first == digest(tmp_path / "second", workers=2)
    assert first != digest(tmp_path / "third", workers=1, seed=8)


def test_empty_month(tmp_path):
    archive = make_archive(
        tmp_path, months=("2020-10", "2020-11"), empty_months=("2020-11",), dates_per_month=2, **SMALL
    )
    for scene, item in pairs(archive):
        if scene.flight.month == "2020-11":
            assert item["properties"]["eo:cloud_cover"] == 100


def test_cloudless(tmp_path):
    archive = make_archive(tmp_path, months=("2020-10",), dates_per_month=2, cloudiness=0, reprocessed=False, **SMALL)
    assert len(archive.items) == 4
    for item in archive.items:
        assert not np.isin(read(archive, item, "scl"), (3, 8, 9)).any()


@pytest.mark.parametrize("dialect", ["planetary-computer", "earth-search-v1", "earth-search-c1"])
def test_dialects(tmp_path, dialect):
    archive = make_archive(tmp_path, months=("2020-10",), dates_per_month=3, dialect=dialect, **SMALL)
    assert len({item["id"] for item in archive.items}) == len(archive.items)
    baselines = set()
    for scene, item in pairs(archive):
        properties = item["properties"]
        scl = wide(read(archive, item, "scl"))
        clear = ~np.isin(scl, (0, *FLAGGED))
        (truth,) = archive.tile_truth(scene.tile, ["red"], "2020-10").astype(int)
        added = read(archive, item, "red").astype(int)[clear] - truth[clear] - 500 * scene.superseded
        new = properties["s2:processing_baseline"] >= "04.00"
        baselines.add(new)
        if dialect == "planetary-computer":
            assert set(item["assets"]) == {"B04", "B08", "SCL"}
            assert properties["proj:epsg"] == scene.tile.epsg
            assert properties["platform"] in ("Sentinel-2A", "Sentinel-2B")
            assert not any("raster:bands" in asset for asset in item["assets"].values())
            assert (added == (1000 if new else 0)).all()
            continue
        assert set(item["assets"]) == {"red", "nir", "scl"}
        assert properties["proj:code"] == f"EPSG:{scene.tile.epsg}"
        assert properties["platform"] in ("sentinel-2a", "sentinel-2b")
        assert properties["grid:code"] == f"MGRS-{scene.tile.mgrs}"
        offset = item["assets"]["red"]["raster:bands"][0]["offset"]
        assert offset == (-0.1 if new else 0)
        if dialect == "earth-search-v1":
            assert properties["earthsearch:boa_offset_applied"] is new
            assert (added == 0).all()
        else:
            assert "earthsearch:boa_offset_applied" not in properties
            assert (added == -10_000 * offset).all()
            asset = item["assets"]["red"]
            content = (archive.root / asset["href"]).read_bytes()
            assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
            assert asset["file:size"] == len(content)
    assert baselines == ({True} if dialect == "earth-search-c1" else {False, True})
    assert archive.items[0]["collection"] == archive.collection


def test_items_are_on_disk(archive):
    written = json.loads((archive.root / "items.json").read_text())
    assert written["features"] == archive.items
    hrefs = {asset["href"] for item in archive.items for asset in item["assets"].values()}
    files = {path.relative_to(archive.root).as_posix() for path in archive.root.rglob("*.tif")}
    assert hrefs == files


def test_default_size_covers_the_default_area_in_each_month():
    """Planned only: the union of the tiles holds the area, and most of it lies in both."""
    area = (-122.27508544921875, 47.54687159892238, -121.96128845214844, 47.745787772920934)
    tiles = lay_tiles(1536, 20)
    western, eastern = (tile.footprint() for tile in tiles)
    assert western.union(eastern).covers(box(*area))
    assert western.intersection(eastern).intersection(box(*area)).area > 0.6 * box(*area).area
    assert not western.covers(box(*area))
    assert not eastern.covers(box(*area))


def test_plan_is_ordered_and_steady():
    tiles = lay_tiles(256, 60)
    plan = {
        "seed": 7,
        "cloudiness": 0.3,
        "empty_months": (),
        "side_m": 15_360,
        "baselines": ("02.12", "05.00"),
    }
    passes = plan_passes(("2020-10", "2020-11"), 6, **plan)
    assert [p.when for p in passes] == sorted(p.when for p in passes)
    assert passes[:6] == plan_passes(("2020-10",), 6, **plan)
    assert sum(scene.superseded for scene in plan_scenes(tiles, passes, ("02.12", "05.00"))) == 1
    assert sum(scene.superseded for scene in plan_scenes(tiles, passes, None)) == 0


def test_events_change_the_ground():
    class Fire:
        def apply(self, reflectance, *, band, month, x, y):
            burnt = (np.abs(x - x.mean())[None, :] < 100) & (np.abs(y - y.mean())[:, None] < 100)
            return np.where(burnt & (month >= "2020-11"), np.float32(0.05), reflectance)

    before, after = (Landscape(7, 560_000, 5_280_000, 20, (64, 64), events) for events in ((), (Fire(),)))
    np.testing.assert_array_equal(before.layer("nir", "2020-10"), after.layer("nir", "2020-10"))
    changed = before.layer("nir", "2020-11") != after.layer("nir", "2020-11")
    assert changed.sum() == 100
    assert (after.layer("nir", "2020-11")[changed] == 500).all()


def test_ground_is_the_same_in_every_archive():
    large = Landscape(7, 560_000, 5_280_000, 20, (64, 96)).layer("red", "2020-10")
    small = Landscape(7, 560_400, 5_279_800, 20, (40, 50)).layer("red", "2020-10")
    # The relief needs a neighbour, so the outermost cells may differ.
    np.testing.assert_array_equal(small[1:-1, 1:-1], large[11:49, 21:69])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"months": ("2020-13",)}, DateError, "'2020-13' isn't a month"),
        ({"months": ("October",)}, DateError, "isn't a month"),
        ({"bands": ("red", "thermal")}, BandError, "no bands .'thermal'."),
        ({"bands": ()}, BandError, "no bands"),
        ({"dates_per_month": 0}, UsageError, "0 dates"),
        ({"size_px": 301}, UsageError, "301"),
        ({"cloudiness": 1.5}, UsageError, "1.5"),
    ],
)
def test_arguments_out_of_range(tmp_path, arguments, error, text):
    with pytest.raises(error, match=text):
        make_archive(tmp_path, **{**SMALL, **arguments})
    assert not list(tmp_path.iterdir())


def test_never_writes_into_a_directory_with_something_in_it(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(OutputError, match="isn't empty"):
        make_archive(tmp_path, **SMALL)


def test_unknown_band_of_the_ground(archive):
    with pytest.raises(BandError, match="lwir11"):
        archive.tile_truth(archive.tiles[0], ["lwir11"], "2020-10")
