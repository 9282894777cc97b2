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
    from eoap_dask.applications.cloudless_mosaic import cloudless_mosaic
    from eoap_dask.applications.parameters import MosaicParams
    from eoap_dask.errors import EoapError
    from eoap_dask.itemset import ItemSet
    from eoap_dask.lazy import composite, load, mask_clouds, search
    from eoap_dask.params import RunOptions
    from eoap_dask.produce import Run

logger.disable("eoap_dask")  # a library is silent until a program asks it to speak

_PLACES = {
    "Aoi": "aoi",
    "EoapError": "errors",
    "ItemSet": "itemset",
    "MosaicParams": "applications.parameters",
    "Run": "produce",
    "RunOptions": "params",
    "cloudless_mosaic": "applications.cloudless_mosaic",
    "composite": "lazy",
    "load": "lazy",
    "mask_clouds": "lazy",
    "parse_aoi": "aoi",
    "search": "lazy",
}

__all__ = [
    "Aoi",
    "EoapError",
    "ItemSet",
    "MosaicParams",
    "Run",
    "RunOptions",
    "__version__",
    "cloudless_mosaic",
    "composite",
    "load",
    "mask_clouds",
    "parse_aoi",
    "search",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
