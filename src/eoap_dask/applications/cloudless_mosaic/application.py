"""cloudless-mosaic: cloud-free composites of Sentinel-2, one per period.

Read it from the top: understand → search → plan → finish → describe. Rendering and publishing are in `run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from loguru import logger

from eoap_dask.applications.base import Application, BaseRequest
from eoap_dask.applications.cloudless_mosaic.entry import MOSAIC
from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.applications.composition import (
    Composition,
    IndexLayer,
    composite_images,
    finish_composite,
    wanted_indices,
)
from eoap_dask.errors import BandError, UsageError
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.odd import nothing_left
from eoap_dask.items.query import Query
from eoap_dask.items.search import Search
from eoap_dask.kernels.composites import Composite, check_composite
from eoap_dask.kernels.mask import parse_classes
from eoap_dask.params import check_choices
from eoap_dask.periods import ALL, Period, check_range, parse_day, split_periods
from eoap_dask.render.headers import settle
from eoap_dask.render.recipe import Recipe
from eoap_dask.render.reflectance import shown_bands
from eoap_dask.render.stack import Stack
from eoap_dask.run.events import Listener
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.produce import Hooks
from eoap_dask.run.product import collection_and_catalog
from eoap_dask.run.raster import RasterWork
from eoap_dask.run.result import Run
from eoap_dask.run.unit import Unit
from eoap_dask.scenes.bands import split_names
from eoap_dask.scenes.model import Contradictions, Pass, footprint_touches, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.scenes.sensor import Sensor, sensor_for
from eoap_dask.text import option, plural

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.readers.reader import Reader
    from eoap_dask.run.written import WrittenUnit

NAME = MOSAIC.name


@dataclass(frozen=True, kw_only=True)
class Request(BaseRequest):
    """What `MosaicParams` say, checked without contacting anything."""

    params: MosaicParams
    area: Area
    start: date
    end: date
    periods: tuple[Period, ...]
    sensor: Sensor
    composite: Composite

    wanted: tuple[IndexLayer, ...]

    @property
    def dropped(self) -> tuple[int, ...] | None:
        """Scene classes that are dropped; None for no mask."""
        if self.params.cloud_mask == "none":
            return None
        given = self.params.mask_classes
        return parse_classes(given, "mask_classes") if given else self.sensor.mask_dropped

    @property
    def bands(self) -> tuple[str, ...]:
        """What is read: the bands that are asked for, then those that composite and indices look at beside them."""
        further = [*self.needs, *(band for one in self.wanted for band in self.named(one.bands))]
        return tuple(dict.fromkeys((*self.params.bands, *further)))

    @property
    def needs(self) -> tuple[str, ...]:
        """The bands that the composite looks at."""
        return self.named(self.composite.needs)

    def named(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Return bands as they are asked for, or else by the names that they are given here."""
        asked = {id(found): one for one in self.params.bands if (found := self.sensor.band(one))}
        return tuple(self._named(one, asked) for one in bands)

    def _named(self, band: str, asked: Mapping[int, str]) -> str:
        if band in self.params.bands or (known := self.sensor.band(band)) is None:
            return band
        return asked.get(id(known), known.common_name or band)

    @property
    def indices(self) -> tuple[IndexLayer, ...]:
        """What is worked out from each composite."""
        return tuple(
            dataclasses.replace(one, numbers=tuple(map(self.bands.index, self.named(one.bands)))) for one in self.wanted
        )

    @property
    def depends_on_items(self) -> bool:
        """Whether a band isn't one of the sensor's: it may be an asset's name."""
        return any(self.sensor.band(name) is None for name in self.bands)

    @property
    def query(self) -> Query:
        """What is searched for."""
        return self.search.query(self.area.aoi, self.start, self.end)


def understand(params: MosaicParams) -> Request:
    """Check parameters without contacting anything; raise `UsageError`, or a subclass, for what can't be used."""
    check_choices(params)
    params = dataclasses.replace(params, bands=split_names(params.bands))
    if not params.bands:
        raise BandError("No band was asked for.", "Expected at least one.", f"Try {option('bands', ['red'])}.")
    twice = [b for b in params.bands if params.bands.count(b) > 1]
    if twice:
        raise BandError(f"The band {twice[0]!r} was asked for twice.", "Expected each once.", "")
    start, end = parse_day(params.start_date), parse_day(params.end_date)
    check_range(start, end)
    if params.mask_classes:
        parse_classes(params.mask_classes, "mask_classes")
        if params.cloud_mask == "none":
            raise UsageError(
                f"{option('mask_classes')} can't be combined with {option('cloud_mask', 'none')}.",
                "The one says what a mask drops, the other that there is none.",
                "Leave one of them out.",
            )
    composite = check_composite(params.composite, "composite", has_days=params.date_band)
    return Request(
        params=params,
        search=Search.of(params),
        area=Area.of(params),
        start=start,
        end=end,
        periods=split_periods(start, end, params.period),
        sensor=sensor_for(params.collection),
        composite=composite,
        wanted=wanted_indices(params.index, taken=("data", "count", "visual", "date", "thumbnail", *params.bands)),
    )


def find_items(request: Request) -> ItemSet:
    """Search the catalogue, or the given items; raise `NothingFoundError` when no period has an item."""
    found = request.search.find(request.query)
    logger.info("{} found", plural(len(found), "item"))
    return found


def plan_mosaic(request: Request, items: ItemSet, reader: Reader) -> Plan:
    """Return the plan of all periods; read no pixels."""
    params, geobox = request.params, request.area.geobox
    scenes, odd = usable_scenes(
        items.features,
        request.bands,
        request.sensor,
        cloud_mask=params.cloud_mask == "scl",
        private_hosts=request.private_hosts,
        local_files=items.local_files,
        on_odd_item=request.search.on_odd_item,
    )
    odd = (*items.odd_items, *odd)
    if odd and not scenes:
        raise nothing_left(odd)
    scenes, found = settle(items.features, scenes, reader, geobox)
    bounds = grid_bounds(geobox)
    passes = group_passes([s for s in scenes if footprint_touches(s.bands[0], crs_name(geobox), bounds)])
    # a pass belongs to one period as a whole, also where midnight came between its scenes
    passes_of = {period: [p for p in passes if p.datetime.date() in period] for period in request.periods}
    if not any(passes_of.values()):
        raise request.search.nothing(request.query)
    return Plan(
        application=NAME,
        params=request.json,
        units=tuple(_plan_unit(request, reader, period, seen, found) for period, seen in passes_of.items() if seen),
        empty=tuple(_key(params.period, period) for period, seen in passes_of.items() if not seen),
        odd_items=odd,
    )


def cloudless_mosaic(
    params: MosaicParams | None = None,
    options: RunOptions | None = None,
    *,
    client: Client | None = None,
    listener: Listener | None = None,
    hooks: Hooks | None = None,
    **changes: Any,
) -> Run:
    """Make cloud-free composites of Sentinel-2 over an area, and publish them as a STAC catalog.

    Parameters
    ----------
    params : MosaicParams, optional
        What decides the product; its fields may also be given by name.
    options : RunOptions, optional
        How it is made; its fields may also be given by name (``output_dir`` above all).
    client : distributed.Client, optional
        Where to work. By default the active client, else an embedded cluster that is stopped afterwards.
    listener : callable, optional
        Gets an `Event` whenever something happens; by default a bar in a notebook, and nothing elsewhere.
    hooks : Hooks, optional
        The run's id, its control (pause, go on, drain, stop), and who is told of units and of the product.
    **changes
        Fields of `MosaicParams` and `RunOptions`.

    Returns
    -------
    Run
        Per period a directory with the composite (uint16, reflectance × 10000, 0 = nodata), the number of clear
        observations, a picture, and the STAC item.

    Raises
    ------
    UsageError
        before anything is contacted or written
    NothingFoundError
        when no period has an item
    SearchError
        when searching or signing fails, or an item can't be used
    ClusterError
        when the cluster doesn't start, or goes away
    StoppedError
        when the control says so; finished units are kept
    UnitsFailedError
        when more units failed than allowed; finished ones stay in ``<output_dir>.partial``
    """
    return APPLICATION.run(params, options, client=client, listener=listener, hooks=hooks, changes=changes)


def _key(how: str, period: Period) -> str:
    return f"{how}-mosaic-{period.key}" if how != ALL else f"mosaic-{period.key}"


def _plan_unit(
    request: Request, reader: Reader, period: Period, passes: Sequence[Pass], found: Contradictions
) -> UnitPlan:
    params, area, sensor = request.params, request.area, request.sensor
    picks, _ = shown_bands(params.bands, sensor)
    unit = Unit(
        key=_key(params.period, period),
        title=f"Cloud-free mosaic, {period.label}",
        start=datetime.combine(period.start, clock.min, UTC),
        end=datetime.combine(period.end, clock(23, 59, 59), UTC),
    )
    recipe = Recipe(
        stack=Stack(
            geobox=area.geobox,
            passes=tuple(passes),
            bands=len(request.bands),
            dropped_classes=request.dropped,
            clip_wkb=None if area.shape is None else shapely.to_wkb(area.shape),
            reader=reader,
        ),
        science=Composition(
            params.composite,
            picks,
            needs=tuple(map(request.bands.index, request.needs)),
            has_days=params.date_band,
            indices=request.indices,
            reads=len(request.bands),
        ),
        images=composite_images(
            unit.key, params.bands, sensor, request.composite.title, has_days=params.date_band, indices=request.indices
        ),
    )
    return UnitPlan.of(unit, RasterWork.of(recipe, found))


def finish_unit(request: Request, written: WrittenUnit) -> dict[str, Any]:
    """Write the thumbnail and, last, the item of a unit whose images are written; return the item."""
    return finish_composite(NAME, written, request.sensor)


def describe(request: Request, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the STAC collection and catalog of finished items, some of which other requests may have made."""
    days = [str(item["properties"][name])[:10] for item in items for name in ("start_datetime", "end_datetime")]
    first, last = min(str(request.start), *days), max(str(request.end), *days)
    return collection_and_catalog(
        NAME,
        items,
        title=f"Cloud-free {request.sensor.name} mosaics",
        description=f"Surface reflectance of {request.sensor.title}, {request.composite.title}, "
        f"{request.params.period}.",
        keywords=[request.sensor.constellation, "mosaic", "cloud-free", "surface reflectance"],
        catalog_title=f"Cloud-free mosaics, {first} to {last}",
    )


APPLICATION = Application(
    name=NAME,
    params=MosaicParams,
    output_dir=Path(MOSAIC.output_dir),
    understand=understand,
    find=find_items,
    plan=plan_mosaic,
    finish=finish_unit,
    describe=describe,
)
