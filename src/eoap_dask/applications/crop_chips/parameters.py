"""The parameters of ``crop-chips``, apart from it so that `--help` imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eoap_dask.geo.options import AreaParams, as_resolution
from eoap_dask.items.catalogues import EARTH_SEARCH
from eoap_dask.items.options import SearchParams
from eoap_dask.params import Declared, inherited, param
from eoap_dask.periods import day_text


@dataclass(frozen=True, kw_only=True)
class FieldParams(Declared):
    """Which fields there are, and what grows on them."""

    HEADING: ClassVar = "Fields"

    fields: str | None = param(
        None,
        "Vector file of field polygons, in any CRS; file.gpkg|layername=name is one of its layers.",
        metavar="FILE",
        local_file=True,
        required=True,
    )
    layer: str = param("", "Layer of the file, where it has several.", metavar="NAME")
    class_attribute: str = param("EC_hcat_c", "Attribute that tells the crop, by code or name.", metavar="NAME")
    classes: str | None = param(
        None,
        "Table of classes, as CSV: class, name and code (or prefix*) in each row. "
        "[default: eight classes of EuroCrops' HCAT3 codes]",
        metavar="FILE",
        local_file=True,
    )
    other_class: int = param(0, "Value of fields whose crop is in no class: 0 or 255, which is ignored.", metavar="N")
    border_ignore: int = param(
        0, "Pixels on either side of a field's border that are 255, to be ignored.", metavar="PIXELS"
    )


@dataclass(frozen=True, kw_only=True)
class CellParams(Declared):
    """Which cells the fields are in; each is a unit."""

    HEADING: ClassVar = "Cells"

    grid: int = param(10, "Rows, and columns, of cells over the extent of the fields, in their CRS.", metavar="N")
    cell_size: float | None = param(
        None, "Side of square cells instead, in metres (in units of a projected CRS of the fields).", metavar="METRES"
    )
    cells: str | None = param(
        None,
        "Vector file of polygons that are the cells instead, numbered in its order.",
        metavar="FILE",
        local_file=True,
    )
    min_fields: int = param(5, "Cells with fewer fields are left out.", metavar="N")


@dataclass(frozen=True, kw_only=True)
class ChipParams(Declared):
    """Which chips there are, and what they show."""

    HEADING: ClassVar = "Chips"

    max_chips: int = param(5, "At most so many chips of a cell.", metavar="N")
    chip_size: int = param(256, "Side of a chip, in pixels.", metavar="PIXELS")
    resolution: float = param(10.0, "Side of a pixel, in units of the CRS.", metavar="NUMBER", accepts=as_resolution)
    crs: str = inherited(AreaParams, "crs", help="CRS of the chips; auto is the UTM zone that holds most of a cell.")
    min_distance: float = param(
        1280.0, "Least distance between the middles of a cell's chips, in units of the CRS.", metavar="NUMBER"
    )
    stratify: bool = param(
        False, "Choose the middles from each class in turn, or from all fields.", negative="no-stratify"
    )
    overlap: bool = param(True, "Let chips show some of the same ground, or none.", negative="no-overlap")
    seed: int = param(0, "Decides which fields are chosen, and which split a chip is in.", metavar="N")
    bands: tuple[str, ...] = param(
        ("blue", "green", "red", "nir", "rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22"),
        "Band, by common name or asset key, in the order of the images. Repeat for more.",
        metavar="BAND",
        multiple=True,
    )
    composite: str = param(
        "median",
        "What an image is made of: the median of the clear passes, or the one with most clear pixels in the chip.",
        choices=("median", "clearest-1"),
    )
    cloud_mask: str = param(
        "scl",
        "Drop clouds and shadows pixel by pixel by the scene classification, or not.",
        choices=("scl", "none"),
    )
    min_valid: float = param(
        0.9, "Chips with a smaller share of pixels with data aren't written, but counted.", metavar="SHARE"
    )
    legacy_names: bool = param(
        False,
        "Name chips worker1_task{cell}_chip{n}, instead of cell{row}{column}_chip{n}.",
        negative="no-legacy-names",
    )


@dataclass(frozen=True, kw_only=True)
class SplitParams(Declared):
    """What is for training, validation and test."""

    HEADING: ClassVar = "Splits"

    split: tuple[float, ...] = param(
        (0.7, 0.15, 0.15),
        "Share of chips for training, validation and test: give it three times.",
        metavar="SHARE",
        multiple=True,
    )
    split_block: int = param(2, "Side of the blocks of cells that are in one split together.", metavar="CELLS")
    split_buffer: float = param(
        0.0,
        "Least distance between chips of two splits, in metres; those that are nearer are in none.",
        metavar="METRES",
    )


@dataclass(frozen=True, kw_only=True)
class CropChipsParams(FieldParams, CellParams, ChipParams, SplitParams, SearchParams):
    """What decides chips and masks. The defaults are those of a season in Spain."""

    HEADING: ClassVar = "Scenes"

    ORDER: ClassVar = (
        *("fields", "layer", "class_attribute", "classes", "other_class", "border_ignore"),
        *("grid", "cell_size", "cells", "min_fields", "max_chips", "chip_size", "resolution", "crs", "min_distance"),
        *("stratify", "overlap", "seed", "bands", "composite", "cloud_mask", "min_valid", "legacy_names"),
        *("split", "split_block", "split_buffer", "start_date", "end_date", "collection", "stac", "items"),
        *("max_items", "max_cloud_cover", "filter", "on_odd_item"),
    )
    """Of the options in `--help`, and of the inputs in CWL."""

    start_date: str = param(
        "2023-05-15", "First day, as YYYY-MM-DD.", metavar="DATE", accepts=day_text, picks_scenes=True
    )
    end_date: str = param("2023-06-30", "Last day, inclusive.", metavar="DATE", accepts=day_text, picks_scenes=True)
    stac: str = inherited(SearchParams, "stac", default=EARTH_SEARCH)
    max_items: int = inherited(
        SearchParams, "max_items", help="At most this many items are used for a cell, the latest; that is said."
    )
    max_cloud_cover: float = inherited(SearchParams, "max_cloud_cover", default=10.0)
