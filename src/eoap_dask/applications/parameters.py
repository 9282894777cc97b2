"""The parameters of each application, apart from it so that `--help` imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eoap_dask.items.catalogues import PLANETARY_COMPUTER
from eoap_dask.params import param

# a field belongs to one class, so each class makes its own of what all have alike


def _clip() -> Any:
    return param(True, "Cut to the shape of the area, or keep its bounding box.", negative="no-clip")


def _stac() -> Any:
    return param(
        PLANETARY_COMPUTER,
        "What to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.",
        metavar="URL|PATH",
    )


def _items() -> Any:
    return param(
        None,
        "File of items to use instead, such as the items.json of an earlier run; what --stac takes will do too.",
        metavar="FILE",  # also in CWL, where it is staged in
    )


def _filter() -> Any:
    return param("", "Only items for which this is true, in CQL2 (text or JSON), whatever is searched.", metavar="CQL2")


@dataclass(frozen=True)
class MosaicParams:
    """What decides a mosaic. The defaults are a small example near Seattle."""

    start_date: str = param("2020-10-01", "First day, as YYYY-MM-DD.", metavar="DATE")
    end_date: str = param("2020-12-31", "Last day, inclusive.", metavar="DATE")
    aoi: Any = param(
        "-122.27508544921875,47.54687159892238,-121.96128845214844,47.745787772920934",
        "Area of interest: west,south,east,north in degrees, or GeoJSON or WKT, as text or file, or any vector file.",
        metavar="BBOX|GEOJSON|FILE",
    )
    clip: bool = _clip()
    bands: tuple[str, ...] = param(
        ("nir", "red", "green"),
        "Band, by common name or asset key. Repeat for more.",
        metavar="BAND",
        multiple=True,
    )
    collection: str = param("sentinel-2-l2a", "STAC collection.", metavar="ID")
    stac: str = _stac()
    items: str | None = _items()
    resolution: float = param(100.0, "Side of a pixel, in units of the CRS.", metavar="NUMBER")
    crs: str = param("auto", "CRS of the output; auto is the UTM zone that holds most of the area.", metavar="auto|CRS")
    max_items: int = param(1000, "At most this many items are used; reaching it is said and recorded.", metavar="N")
    max_cloud_cover: float = param(25.0, "Only scenes with less cloud than this, in percent.", metavar="PERCENT")
    filter: str = _filter()
    period: str = param("monthly", "One mosaic per calendar month.", choices=("monthly",))
    composite: str = param("median", "How the clear observations of a period become one.", choices=("median",))
    cloud_mask: str = param(
        "scl",
        "Drop clouds and shadows pixel by pixel by the scene classification, or not.",
        choices=("scl", "none"),
    )


@dataclass(frozen=True)
class BurnedAreaParams:
    """What decides a map of burned area. The defaults are a part of the Dixie fire in California."""

    pre_fire_url: str = param(
        "",
        "STAC item of a scene before the fire, instead of --pre-date and a search.",
        metavar="URL|FILE",
        aliases=("pre_fire_url",),
    )
    post_fire_url: str = param(
        "",
        "STAC item of a scene after the fire, instead of --post-date and a search.",
        metavar="URL|FILE",
        aliases=("post_fire_url",),
    )
    pre_date: str = param("2021-07-13", "Last day before the fire, as YYYY-MM-DD.", metavar="DATE")
    post_date: str = param("2021-08-12", "First day after the fire.", metavar="DATE")
    window_days: int = param(
        20,
        "How many days up to --pre-date, and from --post-date on, are searched for the clearest pass.",
        metavar="N",
    )
    aoi: Any = param(
        "",
        "Area of interest: west,south,east,north in degrees, or GeoJSON or WKT, as text or file, or any vector file. "
        "[default: what both items show; for a search, a small area in California]",
        metavar="BBOX|GEOJSON|FILE",
    )
    clip: bool = _clip()
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
    force: bool = param(False, "Compare scenes of different sensors.", negative="no-force")
    collection: str = param(
        "sentinel-2-l2a", "STAC collection, for a search, or of named items that don't say theirs.", metavar="ID"
    )
    stac: str = _stac()
    items: str | None = _items()
    resolution: float = param(10.0, "Side of a pixel, in units of the CRS.", metavar="NUMBER")
    crs: str = param(
        "auto",
        "CRS of the output, in which areas are true; auto is the UTM zone that holds most of the area.",
        metavar="auto|CRS",
    )
    max_items: int = param(1000, "At most this many items are looked at; reaching it is said.", metavar="N")
    max_cloud_cover: float = param(60.0, "Only scenes with less cloud than this, in percent.", metavar="PERCENT")
    filter: str = _filter()
