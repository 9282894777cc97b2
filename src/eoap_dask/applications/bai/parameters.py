"""The parameters of ``bai``, apart from it so that `--help` imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from eoap_dask.geo.options import AreaParams
from eoap_dask.items.options import SearchParams
from eoap_dask.params import inherited, param
from eoap_dask.periods import day_text


@dataclass(frozen=True, kw_only=True)
class BurnedAreaParams(AreaParams, SearchParams):
    """What decides a map of burned area. The defaults are a part of the Dixie fire in California."""

    HEADING: ClassVar = "Burned area"

    ORDER: ClassVar = (
        *("pre_fire_url", "post_fire_url", "pre_date", "post_date", "window_days", "aoi", "clip", "thresholds"),
        *("min_area_ha", "force", "collection", "stac", "items", "resolution", "crs", "max_items", "max_cloud_cover"),
        *("filter", "on_odd_item"),
    )
    """Of the options in `--help`, and of the inputs in CWL."""

    pre_fire_url: str = param(
        "",
        "STAC item of a scene before the fire, instead of --pre-date and a search.",
        metavar="URL|FILE",
        aliases=("pre_fire_url",),
        local_file=True,
        picks_scenes=True,
    )
    post_fire_url: str = param(
        "",
        "STAC item of a scene after the fire, instead of --post-date and a search.",
        metavar="URL|FILE",
        aliases=("post_fire_url",),
        local_file=True,
        picks_scenes=True,
    )
    pre_date: str = param(
        "2021-07-13", "Last day before the fire, as YYYY-MM-DD.", metavar="DATE", accepts=day_text, picks_scenes=True
    )
    post_date: str = param(
        "2021-08-12", "First day after the fire.", metavar="DATE", accepts=day_text, picks_scenes=True
    )
    window_days: int = param(
        20,
        "How many days up to --pre-date, and from --post-date on, are searched for the clearest pass.",
        metavar="N",
        picks_scenes=True,
    )
    aoi: Any = inherited(
        AreaParams,
        "aoi",
        help="Area of interest: west,south,east,north in degrees, or GeoJSON or WKT, as text or file, or any vector "
        "file. [default: what both items show; for a search, a small area in California]",
    )
    thresholds: tuple[float, ...] = param(
        (-0.25, -0.1, 0.1, 0.27, 0.44, 0.66),
        "dNBR at which the second to the last class of severity begin: give it six times, rising. Burned is what is "
        "in the last four classes.",
        metavar="DNBR",
        multiple=True,
        flag="threshold",
    )
    min_area_ha: float = param(
        1.0, "Burned areas smaller than this have no perimeter, in hectares; 0 outlines every pixel.", metavar="HA"
    )
    force: bool = param(False, "Compare scenes of different sensors.", negative="no-force", picks_scenes=True)
    collection: str = inherited(
        SearchParams, "collection", help="STAC collection, for a search, or of named items that don't say theirs."
    )
    resolution: float = inherited(AreaParams, "resolution", default=10.0)
    crs: str = inherited(
        AreaParams,
        "crs",
        help="CRS of the output, in which areas are true; auto is the UTM zone that holds most of the area.",
    )
    max_items: int = inherited(
        SearchParams, "max_items", help="At most this many items are looked at; reaching it is said."
    )
    max_cloud_cover: float = inherited(SearchParams, "max_cloud_cover", default=60.0)
