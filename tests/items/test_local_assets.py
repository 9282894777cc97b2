"""Pixels of files beside an item on this disk, whatever directories and files are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

import eoap_dask as eo
from eoap_dask.errors import HrefError
from eoap_dask.items.find import find_items
from eoap_dask.items.query import Query
from eoap_dask.readers.gdal import driver_of

SIDE = 200
GRID = rasterio.Affine(10, 0, 500000, 0, -10, 4602000)
MEAN = (2000 + 5 * 99.5 + 99.5) / 10000  # of 2000 + 5·row + col, over 200 × 200


def write_scene(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "crs": "EPSG:32633", "transform": GRID}
    for path, pixels in ((name, 2000 + 5 * rows + cols), ("SCL.tif", np.full((SIDE, SIDE), 4))):
        with rasterio.open(folder / path, "w", dtype="uint16", **profile) as file:
            file.write(pixels.astype("uint16"), 1)
    return folder / name


def make_item(href: str, **more: Any) -> dict[str, Any]:
    assets = {"B04": {"href": href}, "SCL": {"href": "SCL.tif"}}
    for asset in assets.values():
        asset |= {"proj:shape": [SIDE, SIDE], "proj:transform": list(GRID)[:6]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_x",
        "collection": "sentinel-2-l2a",
        "bbox": [15.0, 41.55, 15.03, 41.57],
        "geometry": None,
        "properties": {
            "datetime": "2021-07-01T10:00:00Z",
            "proj:code": "EPSG:32633",
            "s2:processing_baseline": "03.01",  # no offset
        },
        "links": [],
        "assets": assets,
        **more,
    }


def mean_of(source: Path) -> float:
    items = find_items(source, Query())
    cube = eo.load(items, bands=["red"], geobox=GeoBox((SIDE, SIDE), GRID, "EPSG:32633"), cloud_mask="none")
    return float(cube["red"].mean())


@pytest.mark.parametrize("folder", ["run #3", "what?", "a%20b", "Grün", "plain"])
@pytest.mark.parametrize("form", ["item", "ndjson", "catalog"])
def test_files_beside_an_item(tmp_path: Path, folder: str, form: str) -> None:
    home = tmp_path / folder
    write_scene(home, "B#4?.tif")
    one, two = make_item("./B#4?.tif"), make_item("B%234%3F.tif", id="S2B_y")
    if form == "ndjson":
        source = home / "items"
        source.write_text(f"{json.dumps(one)}\n{json.dumps(two)}\n")
    else:
        (home / "item.json").write_text(json.dumps(one))
        links = [{"rel": "item", "href": f"./{folder}/item.json"}]
        catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "", "links": links}
        (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        source = home / "item.json" if form == "item" else tmp_path
    assert mean_of(source) == pytest.approx(MEAN, abs=1e-6)


@pytest.mark.parametrize("links", [[], [{"rel": "self", "href": "https://example.org/items/S2A_x"}]])
@pytest.mark.parametrize("spelling", ["file:", "file://", "file://localhost", "path"])
def test_file_urls_beside_an_item(tmp_path: Path, spelling: str, links: list[dict[str, str]]) -> None:
    path = write_scene(tmp_path / "a b", "B04.tif")
    href = str(path) if spelling == "path" else path.as_uri().replace("file://", spelling)
    item = make_item(href, links=links)
    item["assets"]["SCL"]["href"] = (path.parent / "SCL.tif").as_uri()
    (path.parent / "item.json").write_text(json.dumps(item))
    assert mean_of(path.parent / "item.json") == pytest.approx(MEAN, abs=1e-6)
    # where the search begins may be a URL of this disk too
    assert find_items((path.parent / "item.json").as_uri(), Query()).local_files >= {str(path)}


def test_files_elsewhere_stay_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "elsewhere", "B04.tif")
    for number, href in enumerate((path.as_uri(), str(path), "../elsewhere/B04.tif", "%2e%2e/elsewhere/B04.tif")):
        home = tmp_path / f"run {number}"
        home.mkdir()
        (home / "item.json").write_text(json.dumps(make_item(href)))
        with pytest.raises(HrefError, match="is a path, not a URL"):
            mean_of(home / "item.json")


def test_formats_are_told_by_the_whole_name_of_a_file() -> None:
    assert driver_of("/data/run #3/B04.jp2") == "JP2OpenJPEG"
    assert driver_of("/data/what?/B04.JP2") == "JP2OpenJPEG"
    assert driver_of("/data/run.jp2/B04.tif") == "GTiff"
    assert driver_of("https://example.org/B04.jp2?sig=x") == "JP2OpenJPEG"
    assert driver_of("https://example.org/B04.tif#.jp2") == "GTiff"
