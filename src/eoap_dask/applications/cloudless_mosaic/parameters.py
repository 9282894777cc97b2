"""The parameters of ``cloudless-mosaic``, apart from it so that `--help` imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from eoap_dask.geo.options import AreaParams
from eoap_dask.items.options import SearchParams
from eoap_dask.params import inherited, param
from eoap_dask.periods import day_text
from eoap_dask.values import as_codes


@dataclass(frozen=True, kw_only=True)
class MosaicParams(AreaParams, SearchParams):
    """What decides a mosaic. The defaults are a small example near Seattle."""

    HEADING: ClassVar = "Mosaic"

    ORDER: ClassVar = (
        *("start_date", "end_date", "aoi", "clip", "bands", "collection", "stac", "items", "resolution", "crs"),
        *("max_items", "max_cloud_cover", "filter", "on_odd_item"),
        *("period", "composite", "date_band", "index", "cloud_mask", "mask_classes"),
    )
    """Of the options in `--help`, and of the inputs in CWL."""

    start_date: str = param(
        "2020-10-01", "First day, as YYYY-MM-DD.", metavar="DATE", accepts=day_text, picks_scenes=True
    )
    end_date: str = param("2020-12-31", "Last day, inclusive.", metavar="DATE", accepts=day_text, picks_scenes=True)
    aoi: Any = inherited(
        AreaParams, "aoi", default="-122.27508544921875,47.54687159892238,-121.96128845214844,47.745787772920934"
    )
    bands: tuple[str, ...] = param(
        ("nir", "red", "green"),
        "Band, by common name or asset key. Repeat for more.",
        metavar="BAND",
        multiple=True,
    )
    period: str = param(
        "monthly",
        "What one mosaic is of: monthly, weekly (of ISO 8601), dekad, seasonal (three months from December on), "
        "yearly, all (of the dates), or a number of days from the first one on, such as 10d.",
        metavar="PERIOD",
    )
    composite: str = param(
        "median",
        "How the clear observations of a period become one: median, mean or percentile:25 of each band; medoid, "
        "geomedian, max-ndvi or latest of all bands together; clearest-3, the median of the passes with most clear "
        "pixels.",
        metavar="NAME",
    )
    date_band: bool = param(
        False,
        "Also write on which day each pixel was seen (date.tif, days since 1970-01-01), where the composite picks an "
        "observation: medoid, max-ndvi, latest, clearest-1.",
        negative="no-date-band",
    )
    index: tuple[str, ...] = param(
        (),
        "Also write an index of each composite (float32): ndvi, evi, savi, ndwi, mndwi, ndmi, nbr, bai, or an "
        "expression of bands such as (nir-red)/(nir+red), or NAME=EXPRESSION. Repeat for more.",
        metavar="INDEX",
        multiple=True,
    )
    cloud_mask: str = param(
        "scl",
        "Drop clouds and shadows pixel by pixel by the scene classification, or not.",
        choices=("scl", "none"),
    )
    mask_classes: str = param(
        "",
        "Codes of the classes that are dropped instead, with commas between them, such as 3,8,9,10. [default: no data, "
        "saturated, shadows, clouds, cirrus]",
        metavar="CODES",
        accepts=as_codes,
    )
