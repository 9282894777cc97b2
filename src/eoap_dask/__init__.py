"""Earth-observation applications on Dask: STAC in, Cloud-Optimized GeoTIFF and STAC out.

Names are imported at their first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.__about__ import __version__

if TYPE_CHECKING:
    from eoap_dask.applications.bai.application import burned_area_map
    from eoap_dask.applications.bai.lazy import burned_area
    from eoap_dask.applications.bai.parameters import BurnedAreaParams
    from eoap_dask.applications.change_detection.application import change_detection
    from eoap_dask.applications.change_detection.lazy import btc, cva, irmad
    from eoap_dask.applications.change_detection.parameters import ChangeParams
    from eoap_dask.applications.change_detection.stages import ChangeStages
    from eoap_dask.applications.cloudless_mosaic.application import cloudless_mosaic
    from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
    from eoap_dask.applications.crop_chips.application import crop_chips
    from eoap_dask.applications.crop_chips.lazy import chips
    from eoap_dask.applications.crop_chips.parameters import CropChipsParams
    from eoap_dask.errors import (
        AoiError,
        AssetError,
        BandError,
        ClusterError,
        CollectionError,
        ContradictionError,
        DateError,
        DownloadError,
        EoapError,
        GridError,
        GridMismatchError,
        HrefError,
        ItemError,
        NetworkSettingError,
        NoRunError,
        NothingFoundError,
        OtherRunError,
        OutOfMemoryError,
        OutputError,
        RefusedError,
        ResourceError,
        SearchError,
        SigningError,
        StatusError,
        StepFailedError,
        StoppedError,
        TilesError,
        UnitsFailedError,
        UsageError,
        WeightsError,
    )
    from eoap_dask.geo.aoi import Aoi
    from eoap_dask.geo.parse import parse_aoi
    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.lazy.composites import composite, period_groups
    from eoap_dask.lazy.cube import load, mask_clouds, search
    from eoap_dask.lazy.indices import (
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
    from eoap_dask.run.control import Control
    from eoap_dask.run.options import RunOptions
    from eoap_dask.run.produce import Hooks
    from eoap_dask.run.result import Run

logger.disable("eoap_dask")  # a library is silent until a program enables its log

_PLACES = {
    "Aoi": "geo.aoi",
    "AoiError": "errors",
    "AssetError": "errors",
    "BandError": "errors",
    "ClusterError": "errors",
    "CollectionError": "errors",
    "ContradictionError": "errors",
    "Control": "run.control",
    "DateError": "errors",
    "DownloadError": "errors",
    "EoapError": "errors",
    "GridError": "errors",
    "GridMismatchError": "errors",
    "Hooks": "run.produce",
    "HrefError": "errors",
    "ItemError": "errors",
    "ItemSet": "items.itemset",
    "NetworkSettingError": "errors",
    "NoRunError": "errors",
    "NothingFoundError": "errors",
    "OtherRunError": "errors",
    "OutOfMemoryError": "errors",
    "OutputError": "errors",
    "RefusedError": "errors",
    "ResourceError": "errors",
    "Run": "run.result",
    "RunOptions": "run.options",
    "SearchError": "errors",
    "SigningError": "errors",
    "StatusError": "errors",
    "StepFailedError": "errors",
    "StoppedError": "errors",
    "TilesError": "errors",
    "UnitsFailedError": "errors",
    "UsageError": "errors",
    "WeightsError": "errors",
    "bai": "lazy.indices",
    "btc": "applications.change_detection.lazy",
    "burned_area": "applications.bai.lazy",
    "chips": "applications.crop_chips.lazy",
    "ChangeStages": "applications.change_detection.stages",
    "composite": "lazy.composites",
    "cva": "applications.change_detection.lazy",
    "dnbr": "lazy.indices",
    "evi": "lazy.indices",
    "irmad": "applications.change_detection.lazy",
    "load": "lazy.cube",
    "mask_clouds": "lazy.cube",
    "period_groups": "lazy.composites",
    "mndwi": "lazy.indices",
    "nbr": "lazy.indices",
    "ndmi": "lazy.indices",
    "ndvi": "lazy.indices",
    "ndwi": "lazy.indices",
    "parse_aoi": "geo.parse",
    "rbr": "lazy.indices",
    "rdnbr": "lazy.indices",
    "savi": "lazy.indices",
    "search": "lazy.cube",
    "severity": "lazy.indices",
    "severity_classes": "lazy.indices",
}
"""Where names are, but for functions and parameters of applications: `applications.registry` tells of those."""

__all__ = [
    "Aoi",
    "AoiError",
    "AssetError",
    "BandError",
    "BurnedAreaParams",
    "ChangeParams",
    "ChangeStages",
    "ClusterError",
    "CollectionError",
    "ContradictionError",
    "Control",
    "CropChipsParams",
    "DateError",
    "DownloadError",
    "EoapError",
    "GridError",
    "GridMismatchError",
    "Hooks",
    "HrefError",
    "ItemError",
    "ItemSet",
    "MosaicParams",
    "NetworkSettingError",
    "NoRunError",
    "NothingFoundError",
    "OtherRunError",
    "OutOfMemoryError",
    "OutputError",
    "RefusedError",
    "ResourceError",
    "Run",
    "RunOptions",
    "SearchError",
    "SigningError",
    "StatusError",
    "StepFailedError",
    "StoppedError",
    "TilesError",
    "UnitsFailedError",
    "UsageError",
    "WeightsError",
    "__version__",
    "bai",
    "btc",
    "burned_area",
    "burned_area_map",
    "change_detection",
    "chips",
    "cloudless_mosaic",
    "composite",
    "crop_chips",
    "cva",
    "dnbr",
    "evi",
    "irmad",
    "load",
    "mask_clouds",
    "mndwi",
    "nbr",
    "ndmi",
    "ndvi",
    "ndwi",
    "parse_aoi",
    "period_groups",
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
    if name in __all__:
        from eoap_dask.applications.registry import PYTHON_NAMES

        return PYTHON_NAMES[name].python(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
