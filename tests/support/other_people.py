"""One scene on this disk whose pixels are known by hand, and its item, to be described in any way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from eoap_dask.items.itemset import ItemSet

SIDE = 200
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 4_602_000), "EPSG:32633")
RED = (2000 + 5 * np.arange(SIDE)[:, None] + np.arange(SIDE)[None, :]).astype(np.uint16)
"""Their mean is 2000 + 5 · 99.5 + 99.5 = 2597."""
FOOTPRINT = [
    Transformer.from_crs("EPSG:32633", 4326, always_xy=True).transform(x, y)
    for x, y in ((5e5, 4_602_000), (502_000, 4_602_000), (502_000, 46e5), (5e5, 46e5), (5e5, 4_602_000))
]
"""Its corners in degrees."""
MEAN = 0.2597
AOI = "15.0005,41.555,15.0235,41.565"
"""Inside of the scene."""


def write(path: Path, *bands: npt.NDArray[Any], size: float = 10.0, **options: Any) -> Path:
    """Write bands as a tiled TIFF from the grid's corner on."""
    whole = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **options}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=bands[0].shape[0],
        width=bands[0].shape[1],
        count=len(bands),
        dtype=bands[0].dtype.name,
        crs="EPSG:32633",
        transform=Affine(size, 0, 500_000, 0, -size, 4_602_000),
        **whole,
    ) as file:
        for number, band in enumerate(bands, 1):
            file.write(band, number)
    return path


def described(
    folder: Path,
    name: str = "S2A_x",
    *,
    red: npt.NDArray[Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    asset: Mapping[str, Any] | None = None,
    key: str = "B04",
    tell_baseline: bool = True,
    scl: npt.NDArray[Any] | None = None,
    scl_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the files of a scene, and return its item; a property or a part of the asset that is None is left out."""
    write(folder / f"{name}.tif", RED if red is None else red, **options)
    classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8) if scl is None else scl
    write(folder / f"{name}-scl.tif", classes, size=20.0, **dict(scl_options or {}))
    told = {
        "datetime": "2023-06-01T10:00:00Z",
        "platform": "sentinel-2a",
        "eo:cloud_cover": 1,
        "proj:code": "EPSG:32633",
        **({"s2:processing_baseline": "03.01"} if tell_baseline else {}),
        **(properties or {}),
    }
    place = {"proj:shape": [SIDE, SIDE], "proj:transform": [10, 0, 500_000, 0, -10, 4_602_000]}
    classes_at = {"proj:shape": [SIDE // 2, SIDE // 2], "proj:transform": [20, 0, 500_000, 0, -20, 4_602_000]}
    red_asset = {"href": f"./{name}.tif", **place, **(asset or {})}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "bbox": [min(x for x, _ in FOOTPRINT), min(y for _, y in FOOTPRINT), *map(max, zip(*FOOTPRINT, strict=True))],
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[14.9, 41.5], [15.1, 41.5], [15.1, 41.6], [14.9, 41.6], [14.9, 41.5]]],
        },
        "properties": {k: v for k, v in told.items() if v is not None or k == "datetime"},
        "links": [],
        "assets": {
            key: {k: v for k, v in red_asset.items() if v is not None},
            "SCL": {"href": f"./{name}-scl.tif", **classes_at},
        },
    }


def saved(folder: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    """Write items as a collection beside their files."""
    path = folder / "items-of-others.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def loaded(folder: Path, *items: Mapping[str, Any]) -> ItemSet:
    """Return items as `ItemSet.load` reads them from beside their files."""
    return ItemSet.load(saved(folder, items))
