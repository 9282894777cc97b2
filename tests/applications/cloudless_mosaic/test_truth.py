"""The demo's ground is known, and so is its sky: the mosaic must show the one, and count what the other leaves.

What is expected is worked out here from the ground and the scene classifications alone: every pixel of the output
is projected exactly, with pyproj, and no data file is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from distributed import Client
from pyproj import Transformer
from tests.support.place import Place

from eoap_dask import Run
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import NothingFoundError

pytestmark = pytest.mark.cluster

BANDS = ("red", "nir", "blue")
MONTH, CLOUDY = "2020-10", "2020-11"
DROPPED = (0, 1, 3, 8, 9, 10)
DIALECTS = ("planetary-computer", "earth-search-v1", "earth-search-c1", "earth-search-v0")

TIE_PX = 1e-4
"""This close to the edge between two source pixels, either is right: between the nodes of its lattice our
projection is off by up to 1e-5 of a source pixel."""


@dataclass(frozen=True)
class Rule:
    """How pixels of a resolution come about, from the 20 m data and 40 m classes of this archive."""

    resolution: float
    data_factor: int
    """Source pixels of the native level per pixel of the level that is read."""
    class_factor: int
    samples: int
    """Classes are looked up at so many points along the side of a pixel; 0 for the nearest class."""


NATIVE = Rule(20.0, 1, 1, 0)
COARSE = Rule(100.0, 2, 1, 2)  # the overview of 40 m; classes at 2 × 2 points, for there aren't 16 of them
COARSEST = Rule(320.0, 2, 2, 4)


class Ground(Place):
    """The archive with some ground around it."""

    @property
    def box(self) -> str:
        """Both tiles whole, and some ground that no tile covers."""
        edges = np.array([tile.footprint().bounds for tile in self.archive.tiles])
        west, south = edges[:, :2].min(axis=0) - 0.003
        east, north = edges[:, 2:].max(axis=0) + 0.002
        return f"{west:.6f},{south:.6f},{east:.6f},{north:.6f}"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


@pytest.fixture(scope="module", params=DIALECTS)
def place(request: pytest.FixtureRequest, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Five passes in October, baselines before and after 04.00 among them, and nothing but clouds in November."""
    root = tmp_path_factory.mktemp("truth")
    archive = make_archive(
        root / "demo",
        size_px=256,
        months=(MONTH, CLOUDY),
        dates_per_month=5,
        cloudiness=0.45,
        empty_months=(CLOUDY,),
        dialect=request.param,
        workers=1,
    )
    with ServerProcess(archive) as server:
        yield Ground(archive, server, client, root, BANDS)


@dataclass
class Output:
    """A month of a mosaic, as its files have it."""

    data: np.ndarray
    count: np.ndarray
    crs: Any
    transform: Any
    item: dict[str, Any]


def output(run: Run, month: str) -> Output:
    (item,) = [i for i in run.items if i["properties"]["datetime"].startswith(month)]
    folder = run.output / item["id"]
    with rasterio.open(folder / item["assets"]["data"]["href"]) as dataset:
        data, crs, transform = dataset.read(), dataset.crs, dataset.transform
    with rasterio.open(folder / item["assets"]["count"]["href"]) as dataset:
        count = dataset.read(1)
    return Output(data, count, crs, transform, item)


@dataclass
class Expected:
    data: np.ndarray
    """(band, y, x), half values where two middle ones were averaged."""
    count: np.ndarray
    """Clear views."""
    views: np.ndarray
    """Views of any kind."""
    tie: np.ndarray
    """Where a source pixel's edge is too near to tell."""
    tiles: list[np.ndarray]
    """Per tile, where it gave a clear view."""


def expect(archive: Archive, month: str, out: Output, rule: Rule) -> Expected:
    """Work out a month from the ground and the classes."""
    shape = out.count.shape
    ids = {id(scene): item["id"] for scene, item in zip(archive.scenes, archive.items, strict=True)}
    ties = np.zeros(shape, bool)
    layers, clear_by_tile = [], {tile: np.zeros(shape, bool) for tile in archive.tiles}
    views = np.zeros(shape, int)
    for flight in {id(s.flight): s.flight for s in archive.scenes if s.flight.month == month}.values():
        mine = [s for s in archive.scenes if s.flight is flight and not s.superseded]
        layer = np.zeros((len(BANDS), *shape))
        seen = np.zeros(shape, bool)
        clear = np.zeros(shape, bool)
        for scene in sorted(mine, key=lambda s: ids[id(s)]):
            tile = scene.tile
            classes = scl(archive, scene)
            rows, cols, inside, tie = look_up(out, tile, 1, rule.data_factor, tile.size_px)
            ties |= tie
            rows, cols = rows * rule.data_factor, cols * rule.data_factor
            has = inside & (classes[rows // 2, cols // 2] != 0) & ~seen
            good, tie = is_clear(out, tile, classes, rule)
            ties |= tie
            layer[:, has] = archive.tile_truth(tile, BANDS, month)[:, rows[has], cols[has]]
            clear |= has & good
            clear_by_tile[tile] |= has & good
            seen |= has
        views += seen
        layers.append(np.where(clear, layer, np.nan))
    stack = np.array(layers)
    count = (~np.isnan(stack[:, 0])).sum(axis=0)
    return Expected(median(stack), count, views, ties, list(clear_by_tile.values()))


def median(stack: np.ndarray) -> np.ndarray:
    """Per band and pixel, of the values that aren't NaN; 0 where there are none."""
    depth = (~np.isnan(stack)).sum(axis=0)
    ordered = np.sort(stack, axis=0)  # NaN comes last
    low = np.take_along_axis(ordered, np.maximum(depth - 1, 0)[None] // 2, 0)[0]
    high = np.take_along_axis(ordered, np.minimum(depth // 2, len(stack) - 1)[None], 0)[0]
    return np.where(depth > 0, (low + high) / 2, 0)


def look_up(
    out: Output, tile: Any, samples: int, factor: int, size: int, cell: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row, column, whether inside, whether on an edge, for `samples` × `samples` points of each pixel."""
    height, width = out.count.shape
    side = (cell or tile.resolution_m) * factor
    at = (np.arange(width * samples) + 0.5) / samples, (np.arange(height * samples) + 0.5) / samples
    x, y = np.meshgrid(out.transform.c + out.transform.a * at[0], out.transform.f + out.transform.e * at[1])
    if out.crs.to_epsg() != tile.epsg:
        x, y = Transformer.from_crs(out.crs, tile.epsg, always_xy=True).transform(x, y)
    col, row = (x - tile.west) / side, (tile.north - y) / side
    n = size // factor
    inside = (col >= 0) & (col < n) & (row >= 0) & (row < n)
    tie = np.zeros(x.shape, bool)
    if out.crs.to_epsg() != tile.epsg:
        tie = (np.abs(col - np.rint(col)) < TIE_PX) | (np.abs(row - np.rint(row)) < TIE_PX)
    clip = [np.clip(np.floor(v), 0, n - 1).astype(int) for v in (row, col)]
    return clip[0], clip[1], inside, tie


def is_clear(out: Output, tile: Any, classes: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """By the nearest class, or by the share of dropped ones among those with data: a fifth may be."""
    n, factor = max(rule.samples, 1), rule.class_factor
    side = tile.resolution_m * 2
    rows, cols, inside, tie = look_up(out, tile, n, factor, tile.size_px // 2, side)
    found = np.where(inside, classes[rows * factor, cols * factor], 0)
    if not rule.samples:
        return ~np.isin(found, DROPPED), tie
    height, width = out.count.shape
    cells = found.reshape(height, n, width, n)
    known = (cells != 0).sum(axis=(1, 3))
    bad = (np.isin(cells, DROPPED) & (cells != 0)).sum(axis=(1, 3))
    return (known > 0) & (bad <= 0.2 * known + 1e-9), tie.reshape(height, n, width, n).any(axis=(1, 3))


def scl(archive: Archive, scene: Any) -> np.ndarray:
    item = archive.items[archive.scenes.index(scene)]
    asset = item["assets"].get("SCL") or item["assets"]["scl"]
    with rasterio.open(archive.root / asset["href"]) as dataset:
        found: np.ndarray = dataset.read(1)
    return found


def assert_truth(out: Output, expected: Expected) -> None:
    sure = ~expected.tie
    assert expected.tie.mean() <= 0.01
    np.testing.assert_array_equal(out.count[sure], expected.count[sure])
    np.testing.assert_array_equal(out.data[:, sure], np.floor(expected.data + 0.5)[:, sure])
    # and of the ties, nearly all are decided as pyproj has them
    assert (out.count != expected.count).mean() <= 1e-4
    assert (out.data != np.floor(expected.data + 0.5)).mean() <= 1e-4


# The mosaic is the truth.


@pytest.mark.parametrize("rule", [NATIVE, COARSE, COARSEST], ids=lambda rule: f"{rule.resolution:g}m")
def test_the_mosaic_is_the_truth(place: Ground, rule: Rule) -> None:
    out = output(place.mosaic(resolution=rule.resolution), MONTH)
    expected = expect(place.archive, MONTH, out, rule)
    assert_truth(out, expected)
    assert out.crs.to_epsg() == 32610
    # all of it is to be seen in this picture: many numbers of views, both zones, ground that nobody saw
    assert set(np.unique(expected.count)) >= {0, 1, 2, 3, 4}
    west, east = expected.tiles
    assert (west & ~east).any()
    assert (east & ~west).any()
    assert (expected.views == 0).any()
    assert (out.data[:, out.count == 0] == 0).all()
    assert (out.data[:, out.count > 0] > 0).all()


@pytest.mark.long
def test_the_mosaic_is_the_truth_in_other_projections(place: Ground) -> None:
    """The other zone's; and for one catalogue Mercator's, whose 20 m are 13.5 m on the ground, finer than native."""
    for crs in ("EPSG:32611", "EPSG:3857") if place.archive.dialect == DIALECTS[0] else ("EPSG:32611",):
        out = output(place.mosaic(resolution=20.0, crs=crs), MONTH)
        assert f"EPSG:{out.crs.to_epsg()}" == crs
        assert_truth(out, expect(place.archive, MONTH, out, NATIVE))


@pytest.mark.long
def test_where_one_tile_alone_gave_all_views_it_is_its_ground(place: Ground) -> None:
    """Without medians of two tiles' pixels in between, there's nothing to average: the stored number itself."""
    out = output(place.mosaic(resolution=20.0), MONTH)
    expected = expect(place.archive, MONTH, out, NATIVE)
    for tile, mine, other in zip(place.archive.tiles, expected.tiles, expected.tiles[::-1], strict=True):
        only = mine & ~other & ~expected.tie
        rows, cols, _, _ = look_up(out, tile, 1, 1, tile.size_px)
        truth = place.archive.tile_truth(tile, BANDS, MONTH)[:, rows[only], cols[only]]
        assert only.sum() > 1000
        np.testing.assert_array_equal(out.data[:, only], truth)
        # and the ground at the pixel's own centre is half a source pixel away at most
        here = place.archive.truth(BANDS, MONTH, out.crs, out.transform, out.count.shape)[:, only]
        assert (here == truth).mean() > 0.5


@pytest.mark.long
def test_clouds_are_there_without_a_mask(place: Ground) -> None:
    out = output(place.mosaic(resolution=20.0, cloud_mask="none"), MONTH)
    expected = expect(place.archive, MONTH, out, NATIVE)
    sure = ~expected.tie
    np.testing.assert_array_equal(out.count[sure], expected.views[sure])
    covered = sure & (expected.count == 0) & (expected.views > 0)
    assert covered.any()
    blue = BANDS.index("blue")
    truth = place.archive.truth(BANDS, MONTH, out.crs, out.transform, out.count.shape)
    assert (np.abs(out.data[blue].astype(int) - truth[blue])[covered] > 100).mean() > 0.8
    assert out.data[blue][covered].mean() > 2 * truth[blue][covered].mean()


# What was processed twice counts once, and the new one wins.


def replay(place: Ground, scenes: list[Any], name: str) -> Output:
    """Make a mosaic of these scenes alone."""
    found = {item["id"]: item for item in served_items(place)}
    wanted = [place.archive.items[place.archive.scenes.index(s)]["id"] for s in scenes]
    file = place.root / f"{name}.json"
    collection = {"type": "FeatureCollection", "features": [found[identifier] for identifier in wanted]}
    file.write_text(json.dumps(collection))
    run = place.mosaic(items=str(file), resolution=20.0)
    assert run.items[0]["properties"]["eoap:scenes"] <= len(scenes)
    return output(run, scenes[0].flight.month)


def served_items(place: Ground) -> list[dict[str, Any]]:
    """The archive's items with the hrefs of the server."""
    items = json.loads(json.dumps(place.archive.items))
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = f"{place.server.files_url}/{asset['href']}"
    return items


@pytest.mark.long
def test_the_newest_processing_wins(place: Ground) -> None:
    archive = place.archive
    (old,) = [s for s in archive.scenes if s.superseded]
    new, other = [s for s in archive.scenes if s.flight is old.flight and not s.superseded]
    assert new.tile is old.tile is not other.tile
    assert new.baseline > old.baseline

    out = replay(place, [old, new, other], "twice")
    tile = old.tile
    rows, cols, inside, _ = look_up(out, tile, 1, 1, tile.size_px)
    truth = archive.tile_truth(tile, BANDS, old.flight.month)[:, rows, cols]
    seen = inside & (out.count > 0)
    assert seen.mean() > 0.3
    assert out.count.max() == 1
    np.testing.assert_array_equal(out.data[:, seen], truth[:, seen])
    assert out.item["properties"]["eoap:scenes"] == 2
    sources = [link["href"] for link in out.item["links"] if link["rel"] == "derived_from"]
    sources += out.item["properties"].get("eoap:derived_from", [])
    by_scene = [archive.items[archive.scenes.index(s)]["id"] for s in (new, other)]
    assert sorted(Path(source).name for source in sources) == sorted(by_scene)

    alone = replay(place, [old], "old")  # the old one by itself is what would have been wrong
    seen = inside & (alone.count > 0)
    np.testing.assert_array_equal(alone.data[:, seen], truth[:, seen] + 500)


@pytest.mark.long
def test_the_doubled_pass_counts_once_in_its_month(place: Ground) -> None:
    run = place.mosaic(resolution=20.0)
    properties = output(run, MONTH).item["properties"]
    in_month = [s for s in place.archive.scenes if s.flight.month == MONTH]
    assert properties["eoap:scenes"] == sum(not s.superseded for s in in_month)
    assert properties["eoap:passes"] == len({id(s.flight) for s in in_month}) == 5
    assert properties["eoap:reprojected_scenes"] == sum(s.tile.epsg == 32611 and not s.superseded for s in in_month)


@pytest.mark.long
def test_baselines_are_mixed(place: Ground) -> None:
    """So that a wrong offset anywhere would have been seen above."""
    used = {s.baseline >= "04.00" for s in place.archive.scenes if s.flight.month == MONTH and not s.superseded}
    shifts = set()
    for scene, item in zip(place.archive.scenes, place.archive.items, strict=True):
        if scene.flight.month == MONTH and not scene.superseded:
            asset = item["assets"].get("B02") or item["assets"]["blue"]
            with rasterio.open(place.archive.root / asset["href"]) as dataset:
                stored = dataset.read(1)
            good = np.isin(np.repeat(np.repeat(scl(place.archive, scene), 2, 0), 2, 1), (4, 5))
            truth = place.archive.tile_truth(scene.tile, ["blue"], MONTH)[0]
            shifts |= set(np.unique(stored[good].astype(int) - truth[good]).tolist())
    expected = {
        "planetary-computer": ({0, 1000}, {True, False}),
        "earth-search-v1": ({0}, {True, False}),
        "earth-search-c1": ({1000}, {True}),
        "earth-search-v0": ({0}, {False}),
    }
    assert (shifts, used) == expected[place.archive.dialect]


# A month of clouds.


@pytest.mark.long
def test_a_month_of_clouds_is_empty(place: Ground) -> None:
    """Its scenes were asked for and read: nothing was seen, and the product says so."""
    out = output(place.mosaic(resolution=20.0), CLOUDY)
    assert not out.data.any()
    assert not out.count.any()
    assert out.item["properties"]["eoap:passes"] == 5
    assert all("statistics" not in band for band in out.item["assets"]["data"]["bands"])
    with rasterio.open(place.mosaic(resolution=20.0).output / out.item["id"] / "visual.tif") as dataset:
        assert not dataset.read().any()


@pytest.mark.long
def test_a_month_whose_scenes_are_too_cloudy_is_left_out(place: Ground) -> None:
    run = place.mosaic(resolution=100.0, max_cloud_cover=90.0)
    assert [i["id"] for i in run.items] == ["monthly-mosaic-2020-10"]
    assert run.empty == ("monthly-mosaic-2020-11",)
    assert not (run.output / "monthly-mosaic-2020-11").exists()
    assert "2020-11" not in (run.output / "catalog.json").read_text().replace("to 2020-11-30", "")
    recorded = json.loads((run.output / "run.json").read_text())
    assert recorded["empty_periods"] == ["monthly-mosaic-2020-11"]


@pytest.mark.long
def test_nothing_but_clouds_is_nothing_found(place: Ground) -> None:
    with pytest.raises(NothingFoundError, match="2020-11-01"):
        place.mosaic(resolution=100.0, max_cloud_cover=90.0, start_date="2020-11-01")
