"""STAC items of demo scenes, in the dialects of public catalogues, modelled on real items."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import mapping

from eoap_dask.demo.scenes import BOA_SHIFT, RECENT_BASELINE, Scene, Tile

Dialect = Literal["planetary-computer", "earth-search-v1", "earth-search-c1", "earth-search-v0"]

COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

# Name in Earth Search: key in SAFE products, title, central wavelength and width in micrometres.
BANDS: dict[str, tuple[str, str, float, float]] = {
    "blue": ("B02", "Band 2 - Blue", 0.49, 0.098),
    "green": ("B03", "Band 3 - Green", 0.56, 0.045),
    "red": ("B04", "Band 4 - Red", 0.665, 0.038),
    "nir": ("B08", "Band 8 - NIR", 0.842, 0.145),
    "rededge1": ("B05", "Band 5 - Vegetation red edge 1", 0.704, 0.019),
    "rededge2": ("B06", "Band 6 - Vegetation red edge 2", 0.74, 0.018),
    "rededge3": ("B07", "Band 7 - Vegetation red edge 3", 0.783, 0.028),
    "nir08": ("B8A", "Band 8A - Vegetation red edge 4", 0.865, 0.033),
    "swir16": ("B11", "Band 11 - SWIR 1.6", 1.61, 0.143),
    "swir22": ("B12", "Band 12 - SWIR 2.2", 2.19, 0.242),
}

COARSE = ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22", "scl")
"""Files with pixels twice as large: those of 20 m beside those of 10 m."""

_SCHEMAS = "https://stac-extensions.github.io"
_PERCENTAGES = {
    "s2:saturated_defective_pixel_percentage": 1,
    "s2:dark_features_percentage": 2,
    "s2:cloud_shadow_percentage": 3,
    "s2:vegetation_percentage": 4,
    "s2:not_vegetated_percentage": 5,
    "s2:water_percentage": 6,
    "s2:unclassified_percentage": 7,
    "s2:medium_proba_clouds_percentage": 8,
    "s2:high_proba_clouds_percentage": 9,
    "s2:thin_cirrus_percentage": 10,
    "s2:snow_ice_percentage": 11,
}


@dataclass(frozen=True)
class DialectRules:
    """How a catalogue stores and describes Sentinel-2."""

    collection: str
    """Id of the collection."""
    stac_version: str
    """STAC version of its items."""
    baselines: tuple[str, str]
    """Baselines of two passes out of three, and of the third."""
    twice: tuple[str, str]
    """Baselines of the old and the new processing of the scene that was processed twice."""
    fire: tuple[str, str]
    """Baselines before and after the fire."""
    recent: str
    """Baseline of passes of 2023."""
    shifted: bool
    """Whether the files of baselines from 04.00 carry the shift of 1000."""

    def shift(self, scene: Scene) -> int:
        """Return what is added to reflectance × 10000 in the scene's files: 0 or 1000."""
        return BOA_SHIFT if self.shifted and scene.baseline >= "04.00" else 0


DIALECTS: Mapping[Dialect, DialectRules] = {
    "planetary-computer": DialectRules(
        "sentinel-2-l2a",
        "1.0.0",
        ("02.12", "05.00"),
        ("02.12", "05.00"),
        ("03.01", "05.00"),
        RECENT_BASELINE,
        shifted=True,
    ),
    "earth-search-v1": DialectRules(
        "sentinel-2-l2a",
        "1.0.0",
        ("02.12", "05.00"),
        ("02.12", "05.00"),
        ("03.01", "05.00"),
        RECENT_BASELINE,
        shifted=False,
    ),
    "earth-search-c1": DialectRules(
        "sentinel-2-c1-l2a",
        "1.1.0",
        ("05.00", "05.00"),
        ("05.00", "05.11"),
        ("05.00", "05.00"),
        RECENT_BASELINE,
        shifted=True,
    ),
    "earth-search-v0": DialectRules(
        "sentinel-s2-l2a-cogs",
        "1.0.0-beta.2",
        ("02.14", "02.14"),
        ("02.12", "02.14"),
        ("03.01", "03.01"),
        "03.01",
        shifted=False,
    ),
}


PROVIDERS = [{"name": "eoap-dask demo (synthetic data)", "roles": ["producer", "licensor"]}]


def make_item(
    scene: Scene,
    dialect: Dialect,
    root: Path,
    files: Mapping[str, Path],
    class_counts: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the STAC item of a scene, with hrefs relative to the archive's root."""
    rules = DIALECTS[dialect]
    footprint = scene.tile.footprint(scene.flight.sky)
    earth_search = dialect in ("earth-search-v1", "earth-search-c1")
    percent = _percentages(class_counts)
    clouds = ("medium_proba_clouds", "high_proba_clouds", "thin_cirrus")
    cover = round(sum(percent[f"s2:{kind}_percentage"] for kind in clouds), 6)
    if dialect == "earth-search-v0":
        properties = _first_properties(scene, percent["s2:nodata_pixel_percentage"])
    else:
        properties = _properties(scene, earth_search) | percent
    properties["eo:cloud_cover"] = cover
    properties["providers"] = PROVIDERS  # what tells them from the real ones: no satellite was involved
    if dialect == "earth-search-v1":
        properties["earthsearch:boa_offset_applied"] = scene.baseline >= "04.00"
    assets = {}
    for name, path in files.items():
        key = _asset_key(name, earth_search)
        assets[key] = _asset(scene, name, path, dialect)
        if dialect == "earth-search-c1":
            content = (root / path).read_bytes()
            checksum = f"1220{hashlib.sha256(content).hexdigest()}"  # multihash: the code of SHA-256, and 32 bytes
            assets[key] |= {"file:size": len(content), "file:checksum": checksum}
    return {
        "type": "Feature",
        "stac_version": rules.stac_version,
        "stac_extensions": _extensions(dialect),
        "id": _item_id(scene, dialect),
        "collection": rules.collection,
        "geometry": _rounded(mapping(footprint)),
        "bbox": [round(edge, 8) for edge in footprint.bounds],
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def _item_id(scene: Scene, dialect: Dialect) -> str:
    flight, tile = scene.flight, scene.tile.mgrs
    if dialect == "planetary-computer":
        return scene.name
    if dialect in ("earth-search-v1", "earth-search-v0"):
        return f"S2{flight.satellite}_{tile}_{flight.when:%Y%m%d}_{scene.sequence}_L2A"
    return f"S2{flight.satellite}_T{tile}_{_datastrip_start(scene):%Y%m%dT%H%M%S}_L2A"


def _datastrip_start(scene: Scene) -> datetime:
    return scene.flight.when + timedelta(seconds=4 if scene.superseded else 5)


def _percentages(counts: NDArray[np.int64]) -> dict[str, float]:
    valid = max(1, int(counts.sum() - counts[0]))
    percent = {key: round(100 * int(counts[number]) / valid, 6) for key, number in _PERCENTAGES.items()}
    percent["s2:nodata_pixel_percentage"] = round(100 * int(counts[0]) / max(1, int(counts.sum())), 6)
    return percent


def _properties(scene: Scene, earth_search: bool) -> dict[str, Any]:
    flight, tile = scene.flight, scene.tile
    made = f"{scene.generated:%Y-%m-%dT%H:%M:%S}"
    strip = f"{scene.generated:%Y%m%dT%H%M%S}_S{_datastrip_start(scene):%Y%m%dT%H%M%S}_N{scene.baseline}"
    common: dict[str, Any] = {
        "instruments": ["msi"],
        "s2:product_type": "S2MSI2A",
        "s2:product_uri": scene.product_uri,
        "s2:datatake_id": scene.datatake_id,
        "s2:datatake_type": "INS-NOBS",
        "s2:datastrip_id": f"S2{flight.satellite}_OPER_MSI_L2A_DS_ESRI_{strip}",
        "s2:processing_baseline": scene.baseline,
        "s2:degraded_msi_data_percentage": 0.0,
        "s2:reflectance_conversion_factor": 1.0,
    }
    if not earth_search:
        return common | {
            "datetime": f"{flight.when:%Y-%m-%dT%H:%M:%S.%f}Z",
            "platform": f"Sentinel-2{flight.satellite}",
            "constellation": "Sentinel 2",
            "proj:epsg": tile.epsg,
            "s2:mgrs_tile": tile.mgrs,
            "s2:generation_time": f"{made}.000Z",
            "s2:mean_solar_zenith": 55.0,
            "s2:mean_solar_azimuth": 158.0,
            "sat:orbit_state": "descending",
            "sat:relative_orbit": 113,
        }
    # These catalogues date an item by its tile, a few minutes into the datatake.
    sensed = flight.when + timedelta(minutes=8, seconds=12 if tile.mgrs.startswith("10") else 9)
    return common | {
        "datetime": f"{sensed:%Y-%m-%dT%H:%M:%S.%f}Z",
        "created": f"{made}.000Z",
        "updated": f"{made}.000Z",
        "platform": f"sentinel-2{flight.satellite.lower()}",
        "constellation": "sentinel-2",
        "proj:code": f"EPSG:{tile.epsg}",
        "grid:code": f"MGRS-{tile.mgrs}",
        "mgrs:utm_zone": int(tile.mgrs[:2]),
        "mgrs:latitude_band": tile.mgrs[2],
        "mgrs:grid_square": tile.mgrs[3:],
        "s2:generation_time": f"{made}.000000Z",
        "view:sun_azimuth": 158.0,
        "view:sun_elevation": 35.0,
    }


def _first_properties(scene: Scene, nodata: float) -> dict[str, Any]:
    """Properties as Earth Search had them at first (v0): no baseline but that in the product's name."""
    tile = scene.tile
    made = f"{scene.generated:%Y-%m-%dT%H:%M:%S}"
    return {
        "datetime": f"{scene.flight.when + timedelta(minutes=8, seconds=11):%Y-%m-%dT%H:%M:%SZ}",
        "created": f"{made}.000Z",
        "updated": f"{made}.000Z",
        "platform": f"sentinel-2{scene.flight.satellite.lower()}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": tile.resolution_m,
        "data_coverage": round(100 - nodata, 2),
        "view:off_nadir": 0,
        "proj:epsg": tile.epsg,
        "sentinel:utm_zone": int(tile.mgrs[:2]),
        "sentinel:latitude_band": tile.mgrs[2],
        "sentinel:grid_square": tile.mgrs[3:],
        "sentinel:sequence": str(scene.sequence),
        "sentinel:product_id": scene.product_uri.removesuffix(".SAFE"),
        "sentinel:valid_cloud_cover": True,
    }


def _asset_key(name: str, earth_search: bool) -> str:
    if earth_search:
        return name
    return "SCL" if name == "scl" else BANDS[name][0]


def _asset(scene: Scene, name: str, path: Path, dialect: Dialect) -> dict[str, Any]:
    is_classes = name == "scl"
    tile: Tile = scene.tile.classes if name in COARSE else scene.tile
    asset: dict[str, Any] = {
        "href": path.as_posix(),
        "type": COG_TYPE,
        "title": "Scene classification map (SCL)" if is_classes else BANDS[name][1],
        "gsd": tile.resolution_m,
        "proj:shape": [tile.size_px, tile.size_px],
        "proj:transform": list(tile.transform)[:6],
        "roles": ["data"] if is_classes else ["data", "reflectance"],
    }
    if not is_classes:
        key, title, wavelength, width = BANDS[name]
        band = {
            "name": name if dialect == "earth-search-v1" else key,
            "common_name": "rededge" if name.startswith("rededge") else name,
            "description": title,
            "center_wavelength": wavelength,
            "full_width_half_max": width,
        }
        asset["eo:bands"] = [band]
    if dialect == "planetary-computer":
        asset |= {"proj:bbox": list(tile.bounds), "roles": ["data"]}
        return asset
    if dialect == "earth-search-v0":
        asset |= {"proj:transform": list(tile.transform), "roles": ["data"]}
        return asset
    stored: dict[str, Any] = {
        "nodata": 0,
        "data_type": "uint8" if is_classes else "uint16",
        "spatial_resolution": tile.resolution_m,
    }
    if not is_classes:
        # From baseline 04.00 the offset is given even where the files have had it applied already.
        stored |= {"scale": 0.0001, "offset": -0.1 if scene.baseline >= "04.00" else 0}
    asset["raster:bands"] = [stored]
    return asset


def _extensions(dialect: Dialect) -> list[str]:
    if dialect == "planetary-computer":
        names: tuple[str, ...] = ("eo/v1.0.0", "sat/v1.0.0", "projection/v1.0.0")
    elif dialect == "earth-search-v0":
        names = ("eo/v1.0.0", "view/v1.0.0", "projection/v1.0.0")
    elif dialect == "earth-search-v1":
        names = (
            "eo/v1.1.0",
            "grid/v1.0.0",
            "mgrs/v1.0.0",
            "projection/v2.0.0",
            "raster/v1.1.0",
            "view/v1.0.0",
        )
    else:
        names = (
            "eo/v1.1.0",
            "file/v2.1.0",
            "grid/v1.1.0",
            "mgrs/v1.0.0",
            "projection/v2.0.0",
            "raster/v1.1.0",
            "view/v1.0.0",
        )
    return [f"{_SCHEMAS}/{name}/schema.json" for name in names]


def _rounded(geometry: dict[str, Any]) -> dict[str, Any]:
    """Round a geometry to about a millimetre, as lists."""

    def lists(value: Sequence[Any]) -> list[Any]:
        return [round(v, 8) if isinstance(v, float) else lists(v) for v in value]

    return {"type": geometry["type"], "coordinates": lists(geometry["coordinates"])}
