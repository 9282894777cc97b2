"""What `CropChipsParams` mean: checked without contacting anything, and what follows from the fields alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from eoap_dask.applications.base import BaseRequest
from eoap_dask.applications.crop_chips.classes import ClassTable
from eoap_dask.applications.crop_chips.images import chip_images
from eoap_dask.applications.crop_chips.layout import Layout, lay_out, open_cells
from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.crop_chips.science import IGNORED
from eoap_dask.applications.crop_chips.splits import ChipPlace, assign_splits, check_splits
from eoap_dask.errors import BandError, NothingFoundError, UsageError
from eoap_dask.geo.crs import parse_crs
from eoap_dask.geo.polygons import PolygonFile
from eoap_dask.items.search import Search
from eoap_dask.params import as_json, check_choices
from eoap_dask.periods import check_range, parse_day
from eoap_dask.render.images import ImageSpec
from eoap_dask.scenes.bands import split_names
from eoap_dask.scenes.sensor import Sensor, sensor_for
from eoap_dask.text import must_be, option, plain, plural


@dataclass(frozen=True, kw_only=True)
class Request(BaseRequest):
    """What `CropChipsParams` say, checked without contacting anything."""

    params: CropChipsParams
    start: date
    end: date
    sensor: Sensor
    file: PolygonFile
    cells: PolygonFile | None
    table: ClassTable

    @property
    def depends_on_items(self) -> bool:
        """Whether a band isn't one of the sensor's: it may be an asset's name."""
        return any(self.sensor.band(name) is None for name in self.params.bands)

    @property
    def json(self) -> dict[str, Any]:
        """The parameters as JSON values."""
        return dict(as_json(self.params))

    @cached_property
    def layout(self) -> Layout:
        """Cells and chips; reads the fields."""
        return lay_out(self.params, self.file, self.table, self.cells)

    @cached_property
    def splits(self) -> dict[str, str]:
        """Split of each chip that may be made, by name; empty for those in none."""
        places, params = _places(self.layout), self.params
        found = assign_splits(places, params.split, params.seed, params.split_block, params.split_buffer)
        check_splits(places, found, params.split_buffer)
        return found

    def check_chips(self) -> None:
        """Raise `NothingFoundError` where no chip can be made."""
        if not self.layout.cells:
            raise NothingFoundError(
                f"No cell has chips: of {plural(self.layout.fields, 'field')}, none is in a class and in a cell with "
                f"{self.params.min_fields} or more.",
                "Expected fields of the classes, near to each other.",
                f"Try a smaller {option('min_fields')}, larger cells, or another table of {option('classes')}.",
            )

    @property
    def images(self) -> tuple[ImageSpec, ImageSpec]:
        """Image and mask."""
        return chip_images(self.params.bands, self.sensor, self.params.composite, self.table.classes)


def understand(params: CropChipsParams) -> Request:
    """Check parameters without contacting anything; raise `UsageError`, or a subclass, for what can't be used."""
    check_choices(params)
    bands = split_names(params.bands)
    params = dataclasses.replace(params, bands=bands)
    if not bands or len(set(bands)) < len(bands):
        raise BandError(f"{option('bands')} must name at least one band, and each once, got {', '.join(bands)}.")
    _check_numbers(params)
    start, end = parse_day(params.start_date), parse_day(params.end_date)
    check_range(start, end)
    if params.crs != "auto" and not _is_in_metres(params.crs):
        raise must_be("crs", "projected, in metres", params.crs, "EPSG:32630")
    return Request(
        params=params,
        area=None,
        search=Search.of(params),
        start=start,
        end=end,
        sensor=sensor_for(params.collection),
        table=ClassTable.of(params.classes),
        cells=None if params.cells is None else open_cells(params.cells),
        file=PolygonFile.open(params.fields or "", params.layer or None, params.class_attribute),
    )


def _is_in_metres(crs: str) -> bool:
    parsed = parse_crs(crs)
    return bool(parsed.is_projected) and all(axis.unit_conversion_factor == 1 for axis in parsed.axis_info)


_LARGEST_CELL = 500_000.0

_RANGES = {
    "grid": (1, 1000),
    "min_fields": (1, 1_000_000_000),
    "max_chips": (1, 100_000),
    "chip_size": (16, 2048),
    "border_ignore": (0, 100),
    "split_block": (1, 1000),
    "seed": (0, (1 << 63) - 1),
}
"""Least and largest value of whole numbers."""


def _check_numbers(params: CropChipsParams) -> None:
    for name, (least, most) in _RANGES.items():
        if not least <= getattr(params, name) <= most:
            raise must_be(name, f"from {least} to {most}", getattr(params, name), getattr(CropChipsParams, name))
    for name in ("min_distance", "split_buffer"):
        if not 0 <= getattr(params, name) < float("inf"):
            raise must_be(name, "0 or more", getattr(params, name), getattr(CropChipsParams, name))
    if not 0 < params.resolution < float("inf"):
        raise must_be("resolution", "more than 0", params.resolution, 10)
    if not 0 <= params.min_valid <= 1:
        raise must_be("min_valid", "from 0 to 1", params.min_valid, 0.9)
    if params.other_class not in (0, IGNORED):
        raise must_be("other_class", "0 or 255", params.other_class, 0)
    if params.cell_size is not None and not 0 < params.cell_size <= _LARGEST_CELL:
        raise must_be("cell_size", f"more than 0 and at most {plain(_LARGEST_CELL)}", params.cell_size, 5000)
    ways = {"grid": params.grid != CropChipsParams.grid, "cell_size": params.cell_size is not None}
    given = [name for name, is_given in {**ways, "cells": bool(params.cells)}.items() if is_given]
    if len(given) > 1:
        raise UsageError(
            f"{option(given[0])} can't be combined with {option(given[1])}.",
            "Each says which cells there are.",
            "Give one of them.",
        )
    shares = params.split
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(
            f"{option('split')} must be three shares that add up to 1, got {', '.join(f'{s:g}' for s in shares)}.",
            "They are for training, validation and test.",
            f"Try {option('split', CropChipsParams.split)}.",
        )


def _places(layout: Layout) -> list[ChipPlace]:
    return [ChipPlace(chip.name, (cell.cell.row, cell.cell.col), chip.footprint) for cell, chip in layout.chips]
