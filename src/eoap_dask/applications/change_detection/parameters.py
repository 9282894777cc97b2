"""The parameters of ``change-detection``, apart from it so that `--help` imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from eoap_dask.geo.options import AreaParams
from eoap_dask.items.catalogues import EARTH_SEARCH
from eoap_dask.items.options import SearchParams
from eoap_dask.networks.weights import is_hub_name
from eoap_dask.params import Declared, inherited, param
from eoap_dask.values import as_list, as_number, as_text, scalar

SIX = ("blue", "green", "red", "nir08", "swir16", "swir22")
"""Bands that are compared by statistics."""
RGB = ("red", "green", "blue")
"""What the network sees, in its order."""
HUB = "blaz-r/BTC-B_oscd96"
"""The published weights."""


def as_ids(value: object, name: str) -> str:
    """Return ids, and ranges of them, as one text; a list, whole numbers and a range of Python are taken too."""
    if isinstance(value, str) or value is None:
        return str(value or "")
    if isinstance(value, int):
        return _as_id(value, name)
    several = list(value) if isinstance(value, range) and abs(value.stop - value.start) <= _MOST else value
    return ",".join(as_list(several, name, ["463", "464"], lambda one: _as_id(one, name)))


def _as_id(value: object, name: str) -> str:
    whole = scalar(value)
    is_number = isinstance(whole, int) and not isinstance(whole, bool) and abs(whole) < 1 << 63
    return str(whole) if is_number else as_text(value, name, "463")


def as_pair(value: object, name: str) -> str:
    """Return two numbers as one text; a list of two is taken too."""
    return (
        value
        if isinstance(value, str)
        else ",".join(as_list(value, name, [0, 0.3], lambda one: repr(as_number(one, name, 0.3))))
    )


_MOST = 1_000_000
"""Members of a range, at most."""


@dataclass(frozen=True, kw_only=True)
class GridParams(AreaParams):
    """Which cells there are; each is compared by itself."""

    HEADING: ClassVar = "Cells"

    grid: str | None = param(
        None,
        "Vector file of polygons that are the cells, in any CRS; file.gpkg|layername=name is one of its layers.",
        metavar="FILE",
        local_file=True,
    )
    grid_id_column: str = param("id", "Attribute that tells the cells apart: numbers or text.", metavar="NAME")
    grid_ids: str = param(
        "",
        "Which cells: ids, and ranges of whole numbers, with commas between them, such as 463-468,471. [default: all]",
        metavar="IDS",
        picks_scenes=True,
        accepts=as_ids,
    )
    aoi: Any = inherited(
        AreaParams,
        "aoi",
        default="",
        help="Area that square cells are laid over instead: west,south,east,north in degrees, or "
        "GeoJSON or WKT, as text or file, or any vector file.",
        picks_scenes=True,
    )
    clip: bool = inherited(AreaParams, "clip", help="Cut images to the outlines of cells, or keep their boxes.")
    cell_size: float = param(
        5120.0,
        "Side of the cells over an area, in units of the CRS; their borders are at multiples of it.",
        metavar="M",
    )
    resolution: float = inherited(AreaParams, "resolution", default=10.0)
    crs: str = inherited(
        AreaParams, "crs", help="CRS of the images, in which areas are true; auto is a cell's UTM zone."
    )


@dataclass(frozen=True, kw_only=True)
class MethodParams(Declared):
    """What is compared, and how."""

    HEADING: ClassVar = "Change"

    years: str = param(
        "2022-2024",
        "Years, two or more: a range, or a list with commas. Each is compared with the one before it in the list.",
        metavar="YEARS",
        picks_scenes=True,
        accepts=as_ids,
    )
    month: int = param(8, "Month of the year whose passes make its image, 1 to 12.", metavar="N")
    method: str = param(
        "cva",
        "How change is found: robust change vector analysis, iteratively reweighted multivariate alteration "
        "detection, or the BTC network.",
        choices=("cva", "irmad", "btc"),
    )
    bands: tuple[str, ...] = param(
        (),
        "Band of the images, by common name or asset key, all of which are compared; btc compares red, green and blue "
        "of them. Repeat for more. Where an item lacks nir08, all take nir. [default: red, green, blue with btc, else "
        f"{', '.join(SIX)}]",
        metavar="BAND",
        multiple=True,
    )
    composite: str = param("median", "How the clear passes of a month become an image.", choices=("median",))
    cloud_mask: str = param(
        "scl",
        "Drop clouds and shadows pixel by pixel by the scene classification, or not.",
        choices=("scl", "none"),
    )
    min_pixels: int = param(6, "Smaller patches of change are left out of the mask, in pixels.", metavar="PIXELS")
    least_mad: float = param(
        20.0,
        "Floor of a band's median absolute deviation with cva, in reflectance × 10000: noise that is borne even where "
        "most pixels are equal.",
        metavar="NUMBER",
    )
    rounds: int = param(30, "Passes over all pixels with irmad, at most.", metavar="N")


@dataclass(frozen=True, kw_only=True)
class NetworkParams(Declared):
    """How the network is asked."""

    HEADING: ClassVar = "Network, for btc"

    weights: str | None = param(
        None,
        "Weights: a file of safetensors, a checkpoint of Lightning, or the name of a repository on the hub, which is "
        f"fetched once. [default: {HUB}]",
        metavar="FILE",
        local_file=True,
        literal=is_hub_name,
    )
    threshold: float = param(
        0.2, "Probability above which a pixel has changed, 0 to 1; 0.5 was published.", metavar="NUMBER"
    )
    window: int = param(
        256,
        "Side of the windows that the network sees, in pixels, a multiple of 32; smaller ones than 256 are enlarged to "
        "it. The published weights saw 96.",
        metavar="PIXELS",
    )
    stretch: str = param(
        "0,0.3",
        "Reflectances that become black and white, with a comma between them.",
        metavar="LOW,HIGH",
        accepts=as_pair,
    )
    device: str = param(
        "cpu",
        "Where workers run the network; auto is CUDA where a worker has it, whose bytes may differ.",
        choices=("cpu", "cuda", "auto"),
    )
    batch_size: int = param(8, "Windows that are asked at once on CUDA; on processors it is one.", metavar="N")
    torch_threads: int = param(1, "Threads of PyTorch for a window; workers do several at once.", metavar="N")


@dataclass(frozen=True, kw_only=True)
class ChangeParams(GridParams, MethodParams, NetworkParams, SearchParams):
    """What decides images and masks of change. The defaults are the Augusts of three years."""

    HEADING: ClassVar = "Scenes"

    ORDER: ClassVar = (
        *(
            "grid",
            "grid_id_column",
            "grid_ids",
            "aoi",
            "cell_size",
            "clip",
            "years",
            "month",
            "method",
            "bands",
            "composite",
        ),
        *("cloud_mask", "min_pixels", "least_mad", "rounds", "weights", "threshold", "window", "stretch", "device"),
        *("batch_size", "torch_threads", "resolution", "crs", "collection", "stac", "items", "max_items"),
        *("max_cloud_cover", "filter", "on_odd_item"),
    )
    """Of the options in `--help`, and of the inputs in CWL."""

    stac: str = inherited(SearchParams, "stac", default=EARTH_SEARCH)
    max_items: int = inherited(
        SearchParams,
        "max_items",
        help="At most this many items are used for a cell and year, the latest; it is said.",
    )
    max_cloud_cover: float = inherited(SearchParams, "max_cloud_cover", default=60.0)
