"""A full tile is made in strips: the same ground and the same bytes for any strip, in memory that hardly grows."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from eoap_dask.demo import large as module
from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.fire import FIRE_BANDS
from eoap_dask.demo.items import BANDS, DIALECTS
from eoap_dask.demo.large import make_fire_pair
from eoap_dask.errors import BandError, OutputError, UsageError

FLAGGED = (3, 8, 9, 10)
SMALL: dict[str, Any] = {"size_px": 640, "resolution_m": 20.0, "workers": 1}


@pytest.fixture(scope="module", params=["planetary-computer", "earth-search-v0"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_fire_pair(tmp_path_factory.mktemp("pair") / "a", dialect=request.param, strip_px=192, **SMALL)


def read(archive: Archive, item: dict[str, Any], name: str) -> np.ndarray:
    asset = item["assets"].get("SCL" if name == "scl" else BANDS[name][0]) or item["assets"][name]
    with rasterio.open(archive.root / asset["href"]) as dataset:
        found: np.ndarray = dataset.read(1)
    return found


def test_clear_pixels_are_the_ground_of_every_archive(pair: Archive, tmp_path: Path) -> None:
    """Of the archive of two tiles too, whose landscape begins elsewhere; and so are the items but for the clouds."""
    other = make_archive(tmp_path / "b", months=(), fire=True, dialect=pair.dialect, **SMALL)
    tile = other.tiles[0]
    assert pair.tiles == (tile,)
    for scene, item, like in zip(pair.scenes, pair.fire_pair(), other.fire_pair(), strict=True):
        scl = read(pair, item, "scl")
        there = read(other, like, "scl")
        both = ~np.isin(scl, FLAGGED) & ~np.isin(there, FLAGGED)
        assert both.mean() > 0.9
        assert np.isin(scl, FLAGGED).any()  # some cloud there is
        np.testing.assert_array_equal(scl[both], there[both])
        truth = other.tile_truth(tile, FIRE_BANDS, scene.flight.month)
        shift = DIALECTS[pair.dialect].shift(scene)
        for band, expected in zip(FIRE_BANDS, truth, strict=True):
            stored = read(pair, item, band)
            step = 2 if band.startswith("swir") else 1
            classes = scl if step == 2 else scl.repeat(2, 0).repeat(2, 1)
            clear = ~np.isin(classes, FLAGGED)
            np.testing.assert_array_equal(stored[clear], expected[::step, ::step][clear] + shift)
            hidden = np.isin(classes, (8, 9))
            assert (stored[hidden] != expected[::step, ::step][hidden] + shift).mean() > 0.9
        own = ("eo:cloud_cover", "s2:", "data_coverage")
        told = [{k: v for k, v in i["properties"].items() if not k.startswith(own)} for i in (item, like)]
        assert told[0] == told[1]
        assert item["id"] == like["id"] or pair.dialect == "planetary-computer"  # the time of processing is in it


def test_the_truth_of_the_fire_is_that_of_every_archive(pair: Archive, tmp_path: Path) -> None:
    tile = pair.tiles[0]
    other = make_archive(tmp_path / "b", months=(), fire=True, **SMALL)
    grid = (tile.epsg, tile.transform, (tile.size_px, tile.size_px))
    burned = pair.burn_truth("2021-08", *grid)
    np.testing.assert_array_equal(burned, other.burn_truth("2021-08", *grid))
    index = other.landscape.index(*tile.ground_xy())  # of all of the ground, not of the part around the fire
    np.testing.assert_array_equal(burned, other.landscape.burn_severity("2021-08").ravel()[index])
    assert pair.burned_ha("2021-08") == other.burned_ha("2021-08") == (burned > 0).sum() * 0.04
    assert pair.burned_ha("2021-07") == 0
    assert (burned > 0).any()


@pytest.mark.long
def test_strips_and_processes_change_no_byte(pair: Archive, tmp_path: Path) -> None:
    again = make_fire_pair(tmp_path / "a", dialect=pair.dialect, strip_px=640, **{**SMALL, "workers": 2})
    assert again.items == pair.items
    files = sorted(p.relative_to(pair.root) for p in pair.root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again.root) for p in again.root.rglob("*") if p.is_file())
    assert len(files) == 2 * 7 + 1
    for file in files:
        assert (pair.root / file).read_bytes() == (again.root / file).read_bytes(), file


def test_files_are_strict_cogs(pair: Archive) -> None:
    for path in pair.root.rglob("*.tif"):
        assert cog_validate(path, strict=True) == (True, [], [])


@pytest.mark.long
def test_memory_goes_with_the_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What numpy holds while a strip is made, of half as many rows in a tile twice as wide."""
    strip, seen = module._make_strip, []

    def measured(*arguments: Any) -> None:
        tracemalloc.start()
        strip(*arguments)
        seen.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    monkeypatch.setattr(module, "_make_strip", measured)
    peaks = []
    for size, rows in ((512, 128), (1024, 64)):
        make_fire_pair(tmp_path / str(size), size_px=size, strip_px=rows, workers=1, bands=("nir", "swir22"))
        peaks.append(max(seen))
        seen.clear()
    assert peaks[1] < 1.35 * peaks[0]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BandError, match="thermal"):
        make_fire_pair(tmp_path / "a", bands=("nir", "thermal"))
    with pytest.raises(UsageError, match="301"):
        make_fire_pair(tmp_path / "a", size_px=301)
    with pytest.raises(UsageError, match="strips of 3 "):
        make_fire_pair(tmp_path / "a", strip_px=3)
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").touch()
    with pytest.raises(OutputError, match="isn't empty"):
        make_fire_pair(tmp_path)
