"""The archive of change: cells, scenes whose clear pixels are the known ground, and what changed between years."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from pystac_client import Client
from rio_cogeo import cog_validate

from eoap_dask.demo.catalogue import CHANGES_DIRECTORY, Catalogue
from eoap_dask.demo.changes import (
    CHANGE_BANDS,
    NOISE,
    SEASON_GAIN,
    SEASON_OFFSET,
    YEARS,
    ChangesArchive,
    lay_land,
    make_changes,
)
from eoap_dask.demo.items import BANDS, COARSE
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import OutputError, UsageError

FLAGGED = (3, 8, 9)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> ChangesArchive:
    return make_changes(tmp_path_factory.mktemp("changes") / "a", rows=1, cols=3, cell_px=64)


def read(archive: ChangesArchive, item: dict[str, Any], name: str) -> np.ndarray:
    with rasterio.open(archive.root / item["assets"][name]["href"]) as dataset:
        found: np.ndarray = dataset.read(1)
    return found


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_cells_lie_on_the_pixels_of_the_scenes(archive: ChangesArchive) -> None:
    table = geopandas.read_file(archive.cells)
    assert list(table["id"]) == [463, 464, 465]
    assert table.crs == "EPSG:32633"
    for shape in table.geometry:
        assert all(edge % 640 == 0 for edge in shape.bounds)
        assert shape.area == 640**2
    tile = archive.land.tile
    assert table.total_bounds.tolist() == [tile.west, tile.north - 640, tile.west + 1920, tile.north]


def test_clear_pixels_are_the_ground_with_its_noise(archive: ChangesArchive) -> None:
    shares = []
    for item in archive.items:
        year = int(item["properties"]["datetime"][:4])
        scl = read(archive, item, "scl")
        clear = ~np.isin(scl, FLAGGED)
        shares.append(clear.mean())
        np.testing.assert_array_equal(scl[clear], archive.land.scl(year)[clear])
        for band in ("red", "nir08"):
            step = 2 if band in COARSE else 1
            over = clear if band in COARSE else clear.repeat(2, 0).repeat(2, 1)
            ground = archive.land.reflectance(band, year)[step - 1 :: step, step - 1 :: step]
            if over.sum() > 1000:
                noise = read(archive, item, band)[over] / 10_000 - ground[over]
                assert abs(noise.mean()) < 0.0005
                assert noise.std() == pytest.approx(NOISE, rel=0.05)
    assert 0.3 < np.mean(shares) < 0.9


def test_files_are_cogs_with_all_bands(archive: ChangesArchive) -> None:
    assert len(archive.items) == 9
    for item in archive.items[:2]:
        for band in (*CHANGE_BANDS, "scl"):
            path = archive.root / item["assets"][band]["href"]
            assert cog_validate(path, strict=True)[0]
            assert path.stem == ("SCL" if band == "scl" else BANDS[band][0])


def test_one_of_three_cells_is_built_on_one_is_cleared_one_stays(archive: ChangesArchive) -> None:
    changed = {year: archive.land.changed(year - 1, year)[:64] for year in YEARS[1:]}
    shares = {
        (cell, year): changed[year][:, 64 * cell : 64 * cell + 64].mean() for cell in range(3) for year in YEARS[1:]
    }
    assert 0.03 < shares[0, 2023] < 0.35
    assert 0.03 < shares[2, 2024] < 0.35
    assert [shares[place] for place in ((0, 2024), (1, 2023), (1, 2024), (2, 2023))] == [0, 0, 0, 0]
    assert not archive.land.changed(2023, 2023).any()


def test_years_differ_as_seasons_do() -> None:
    land = lay_land(1, 3, 64, YEARS, 5)
    for band in CHANGE_BANDS:
        told = [land.season(band, year) for year in YEARS]
        assert len(set(told)) == 3
        assert all(abs(gain - 1) <= SEASON_GAIN and abs(offset) <= SEASON_OFFSET for gain, offset in told)


def test_same_arguments_same_bytes(archive: ChangesArchive, tmp_path: Path) -> None:
    again = content(make_changes(tmp_path / "b", rows=1, cols=3, cell_px=64, workers=1).root)
    assert again == content(archive.root)
    other = content(make_changes(tmp_path / "c", rows=1, cols=3, cell_px=64, seed=7).root)
    assert sum(other.get(name) == data for name, data in again.items()) <= 1  # the cells are the same


def test_is_served_beside_another_archive(archive: ChangesArchive, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "items.json").write_text(json.dumps({"features": [archive.items[0] | {"id": "other"}]}))
    (root / CHANGES_DIRECTORY).symlink_to(archive.root)
    with DemoServer(Catalogue.from_directory(root)) as server:
        found = Client.open(server.url).search(collections=[archive.collection], datetime="2024-08-01/2024-08-31")
        items = {item.id: item for item in found.items()}
    assert len(items) == 3
    href = next(iter(items.values())).assets["red"].href
    assert href.startswith(f"{server.files_url}/{CHANGES_DIRECTORY}/")


def test_what_is_refused(tmp_path: Path) -> None:
    for wrong in ({"cell_px": 60}, {"cell_px": 66}, {"rows": 0}, {"passes": 5}):
        with pytest.raises(UsageError, match="were asked for"):
            make_changes(tmp_path / "a", **wrong)
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").touch()
    with pytest.raises(OutputError, match="isn't empty"):
        make_changes(tmp_path)
