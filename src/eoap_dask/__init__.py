"""Earth-observation applications on Dask: STAC in, Cloud-Optimized GeoTIFF and STAC out.

Everything here is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.__about__ import __version__

if TYPE_CHECKING:
    from eoap_dask.aoi import Aoi, parse_aoi
    from eoap_dask.applications.bai import burned_area_map
    from eoap_dask.applications.cloudless_mosaic import cloudless_mosaic
    from eoap_dask.applications.parameters import BurnedAreaParams, MosaicParams
    from eoap_dask.errors import EoapError, GridMismatchError
    from eoap_dask.fires import burned_area
    from eoap_dask.indices import (
        bai,
        dnbr,
        evi,
        mndwi,
        nbr,
        ndmi,
        ndvi,
        ndwi,
        rbr,
        rdnbr,
        savi,
        severity,
        severity_classes,
    )
    from eoap_dask.itemset import ItemSet
    from eoap_dask.lazy import composite, load, mask_clouds, search
    from eoap_dask.params import RunOptions
    from eoap_dask.produce import Run

logger.disable("eoap_dask")  # a library is silent until a program asks it to speak

_PLACES = {
    "Aoi": "aoi",
    "BurnedAreaParams": "applications.parameters",
    "EoapError": "errors",
    "GridMismatchError": "errors",
    "ItemSet": "itemset",
    "MosaicParams": "applications.parameters",
    "Run": "produce",
    "RunOptions": "params",
    "bai": "indices",
    "burned_area": "fires",
    "burned_area_map": "applications.bai",
    "cloudless_mosaic": "applications.cloudless_mosaic",
    "composite": "lazy",
    "dnbr": "indices",
    "evi": "indices",
    "load": "lazy",
    "mask_clouds": "lazy",
    "mndwi": "indices",
    "nbr": "indices",
    "ndmi": "indices",
    "ndvi": "indices",
    "ndwi": "indices",
    "parse_aoi": "aoi",
    "rbr": "indices",
    "rdnbr": "indices",
    "savi": "indices",
    "search": "lazy",
    "severity": "indices",
    "severity_classes": "indices",
}

__all__ = [
    "Aoi",
    "BurnedAreaParams",
    "EoapError",
    "GridMismatchError",
    "ItemSet",
    "MosaicParams",
    "Run",
    "RunOptions",
    "__version__",
    "bai",
    "burned_area",
    "burned_area_map",
    "cloudless_mosaic",
    "composite",
    "dnbr",
    "evi",
    "load",
    "mask_clouds",
    "mndwi",
    "nbr",
    "ndmi",
    "ndvi",
    "ndwi",
    "parse_aoi",
    "rbr",
    "rdnbr",
    "savi",
    "search",
    "severity",
    "severity_classes",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
