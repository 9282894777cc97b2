"""What `ChangeParams` mean: checked without contacting anything."""

from __future__ import annotations

import calendar
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from loguru import logger

from eoap_dask.applications.base import BaseRequest
from eoap_dask.applications.change_detection.btc import Btc
from eoap_dask.applications.change_detection.cells import (
    GridCell,
    Wanted,
    lay_cells,
    open_grid,
    overlapping,
    read_cells,
)
from eoap_dask.applications.change_detection.methods import Cva, IrMad, Method
from eoap_dask.applications.change_detection.parameters import HUB, RGB, SIX, ChangeParams
from eoap_dask.errors import BandError, UsageError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.polygons import PolygonFile
from eoap_dask.items.query import Query
from eoap_dask.items.search import Search
from eoap_dask.networks.architecture import MULTIPLE
from eoap_dask.networks.weights import INSTALL, find_weights, is_hub_name, lacking, verify
from eoap_dask.params import as_json, check_choices
from eoap_dask.periods import FIRST_DAY, Period
from eoap_dask.scenes.bands import find_band, split_names
from eoap_dask.scenes.sensor import Sensor, sensor_for
from eoap_dask.text import must_be, option, plural, show_bytes

NEAR, INSTEAD = "nir08", "nir"
"""A band that some catalogues lack, and what is taken for it."""
_LAST_YEAR = 2100


@dataclass(frozen=True, kw_only=True)
class Request(BaseRequest):
    """What `ChangeParams` say, checked without contacting anything."""

    params: ChangeParams
    years: tuple[Period, ...]
    """The month of each year that is looked at, its key being the year."""
    sensor: Sensor
    file: PolygonFile | None
    aoi: Aoi | None
    """What cells are laid over, where they aren't from a file."""
    wanted: Wanted

    @property
    def depends_on_items(self) -> bool:
        """Whether a band isn't one of the sensor's: it may be an asset's name."""
        return any(self.sensor.band(name) is None for name in self.params.bands)

    @property
    def json(self) -> dict[str, Any]:
        """The parameters as JSON values; an area from a file as the GeoJSON that it held."""
        return {**as_json(self.params), "aoi": None if self.aoi is None else self.aoi.geojson}

    @cached_property
    def method(self) -> Method:
        """How change is found; looks at weights, and fetches them where they are on a hub. Raises as `find_weights`."""
        return method_of(self.params)

    @cached_property
    def cells(self) -> tuple[GridCell, ...]:
        """The cells that are wanted; reads their file. Raises `UsageError` for what can't be used."""
        params = self.params
        if self.file is not None:
            return read_cells(self.file, self.wanted, params)
        assert self.aoi is not None  # noqa: S101 - understand() has seen to it
        return lay_cells(self.aoi, params.cell_size, params.crs, params.resolution)

    @cached_property
    def ids(self) -> dict[str, str]:
        """Id of each cell, by its name in files."""
        return {cell.name: cell.id for cell in self.cells}

    @cached_property
    def area_of_cells(self) -> Aoi:
        """What all cells cover."""
        return Aoi.over([one.footprint for one in self.cells], "the cells")

    def query(self, year: Period) -> Query:
        """Return what is searched for in a year: what all cells take their own of."""
        query = self.search.query(self.area_of_cells, year.start, year.end)
        return dataclasses.replace(query, max_items=self.params.max_items * len(self.cells))

    def bands_in(self, items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Return the bands that are read: the same for all items, so that any two dates can be compared."""
        bands = self.params.bands
        if NEAR not in bands or INSTEAD in bands:
            return bands
        lacking = [item for item in items if not _has(item, NEAR, self.sensor)]
        if not lacking or not all(_has(item, INSTEAD, self.sensor) for item in lacking):
            return bands
        logger.warning(
            "{} of {} {} no {}: {} is compared instead, in all.",
            len(lacking),
            plural(len(items), "item"),
            "has" if len(lacking) == 1 else "have",
            NEAR,
            INSTEAD,
        )
        return tuple(INSTEAD if band == NEAR else band for band in bands)

    def say_method(self) -> None:
        """Tell what is particular about the method."""
        method = self.method
        if isinstance(method, Btc):
            size = show_bytes(method.weights.size)
            logger.info("Weights of {} ({}, SHA-256 {}…)", method.source, size, method.weights.sha256[:16])
            if method.is_random:
                logger.warning("The weights {} are random: what they find means nothing.", method.source)

    def say_cells(self) -> None:
        """Tell how many cells there are, and what is particular about them."""
        logger.info("{}, {}", plural(len(self.cells), "cell"), plural(len(self.years), "year"))
        if self.file is not None and self.file.crs.is_geographic:
            kept = "each is cut to its outline" if self.params.clip else "each keeps its box"
            logger.info("The cells are in degrees ({}): {}.", self.file.crs.name, kept)
        pairs, is_all = overlapping(self.cells)
        if pairs:
            logger.warning(
                "{}{} of cells {}: what both show counts in each.",
                "" if is_all else "At least ",
                plural(pairs, "pair"),
                "overlaps" if pairs == 1 else "overlap",
            )


def _has(item: Mapping[str, Any], band: str, sensor: Sensor) -> bool:
    try:
        return find_band(item, band, sensor) is not None
    except BandError:
        return True


def understand(params: ChangeParams) -> Request:
    """Check parameters without contacting anything; raise `UsageError`, or a subclass, for what can't be used."""
    check_choices(params)
    bands = split_names(params.bands) or (RGB if params.method == "btc" else SIX)
    params = dataclasses.replace(params, bands=bands)
    if not bands or len(set(bands)) < len(bands):
        raise BandError(f"{option('bands')} must name at least one band, and each once, got {', '.join(bands)}.")
    check_method(params)
    wanted = Wanted.of(params.grid_ids)
    file, aoi = _places(params, wanted)
    return Request(
        params=params,
        area=None,
        search=Search.of(params),
        years=years_of(params.years, params.month),
        sensor=sensor_for(params.collection),
        file=file,
        aoi=aoi,
        wanted=wanted,
    )


def _places(params: ChangeParams, wanted: Wanted) -> tuple[PolygonFile | None, Aoi | None]:
    """Return the file of cells, or the area that they are laid over."""
    has_area = params.aoi is not None and not (isinstance(params.aoi, str) and not params.aoi.strip())
    if params.grid and has_area:
        raise UsageError(
            f"{option('grid')} can't be combined with {option('aoi')}.",
            "Each says which cells there are.",
            f"Leave one of them out; {option('grid_ids')} names some cells of a grid.",
        )
    if params.grid:
        return open_grid(params.grid, params.grid_id_column), None
    if not has_area:
        raise UsageError(
            f"{option('grid')} is missing.",
            "Expected a file of cells, or an area that cells are laid over.",
            f"Try {option('aoi', '14.4,46.0,14.6,46.1')}.",
        )
    if wanted.names:
        raise UsageError(
            f"{option('grid_ids')} can't be combined with {option('aoi')}.",
            "Cells over an area are those that touch it.",
            f"Give them by {option('grid')}.",
        )
    return None, parse_aoi(params.aoi)


def method_of(params: ChangeParams) -> Method:
    """Return the method that parameters ask for; raises as `find_weights` and `verify`."""
    bands = len(params.bands)
    if params.method == "cva":
        return Cva(bands, params.least_mad)
    if params.method == "irmad":
        return IrMad(bands, params.rounds)
    weights = find_weights(params.weights or HUB)
    verify(weights)  # before any work: workers would find out once images are made
    return Btc.of(
        weights,
        params.bands,
        limit=params.threshold,
        window=params.window,
        stretch=_stretch(params.stretch),
        device=params.device,
        batch=params.batch_size,
        threads=params.torch_threads,
    )


_YEARS = re.compile(r"(\d{4})(?:\s*-\s*(\d{4}))?")


def years_of(text: str, month: int) -> tuple[Period, ...]:
    """Return a month of each year that is named, in their order; raises `UsageError`."""
    years: list[int] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        found = _YEARS.fullmatch(part)
        if not found:
            raise must_be("years", "years, or a range of them", text, "2022-2024")
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise UsageError(
                f"The range {part} of {option('years')} is reversed.",
                "Expected the earlier year first.",
                f"Try {option('years', f'{last}-{first}')}.",
            )
        if not FIRST_DAY.year <= first <= last <= _LAST_YEAR:
            raise must_be("years", f"from {FIRST_DAY.year} to {_LAST_YEAR}", text, "2022-2024")
        years += range(first, last + 1)
    if years != sorted(set(years)):
        raise UsageError(
            f"{option('years')} must rise, each year once, got {text}.",
            "Each is compared with the one before it.",
            f"Try {option('years', ','.join(map(str, sorted(set(years)))) if len(set(years)) > 1 else '2022-2024')}.",
        )
    if len(years) < 2:
        raise UsageError(
            f"{option('years')} must name two years or more, got {text!r}.",
            "A change is what is different from the year before.",
            f"Try {option('years', f'{years[0] - 1}-{years[0]}' if years else '2022-2024')}.",
        )
    return tuple(_month(year, month) for year in years)


def _month(year: int, month: int) -> Period:
    last = calendar.monthrange(year, month)[1]
    return Period(str(year), date(year, month, 1), date(year, month, last), f"{year}-{month:02d}")


_RANGES = {
    "month": (1, 12),
    "min_pixels": (1, 64),
    "rounds": (1, 1000),
    "window": (32, 1024),
    "batch_size": (1, 256),
    "torch_threads": (1, 64),
}
"""Least and largest value of whole numbers."""


def check_method(params: ChangeParams) -> None:
    """Raise `UsageError` for what a method can't work with, and other numbers that make no sense."""
    check_choices(params)
    _check_numbers(params)
    if params.method == "btc":
        _check_network(params)
    usual = ChangeParams()
    of_others = [name for method, names in _OWN.items() if method != params.method for name in names]
    unused = [name for name in of_others if getattr(params, name) != getattr(usual, name)]
    if unused:
        logger.warning("{} does nothing with {}.", ", ".join(map(option, unused)), option("method", params.method))


_OWN = {
    "cva": ("least_mad",),
    "irmad": ("rounds",),
    "btc": ("weights", "threshold", "window", "stretch", "device", "batch_size", "torch_threads"),
}
"""Parameters that only one method uses."""


def _check_network(params: ChangeParams) -> None:
    """Raise for what the network can't be asked with; reads nothing but the head of a local file of weights."""
    if missing := lacking():
        raise UsageError(f"{option('method', 'btc')} needs {' and '.join(missing)}, not installed here.", "", INSTALL)
    absent = [band for band in RGB if band not in params.bands]
    if absent:
        raise BandError(
            f"{option('method', 'btc')} compares {', '.join(RGB)}, and {option('bands')} leaves out {absent[0]}.",
            "",
            f"Leave {option('bands')} out, or name these as well.",
        )
    if not 0 <= params.threshold <= 1:
        raise must_be("threshold", "from 0 to 1", params.threshold, 0.2)
    if params.window % MULTIPLE:
        raise must_be("window", f"a multiple of {MULTIPLE}", params.window, 256)
    _stretch(params.stretch)
    if params.weights and not is_hub_name(params.weights):
        find_weights(params.weights)


def _stretch(text: str) -> tuple[float, float]:
    """Return the reflectances that become black and white."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not -1 <= low < high <= 10:
        raise must_be("stretch", "two reflectances, the darker first", text, "0,0.3")
    return low, high


def _check_numbers(params: ChangeParams) -> None:
    for name, (least, most) in _RANGES.items():
        if not least <= getattr(params, name) <= most:
            raise must_be(name, f"from {least} to {most}", getattr(params, name), getattr(ChangeParams, name))
    for name in ("resolution", "cell_size", "least_mad"):
        if not 0 < getattr(params, name) < float("inf"):
            raise must_be(name, "more than 0", getattr(params, name), getattr(ChangeParams, name))
