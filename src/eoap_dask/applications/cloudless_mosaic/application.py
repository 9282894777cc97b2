"""cloudless-mosaic: cloud-free composites of Sentinel-2, one per month.

Read it from the top: understand → search → plan → finish → describe. Rendering and publishing are in `run`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from loguru import logger

from eoap_dask.applications.base import Application
from eoap_dask.applications.cloudless_mosaic.images import mosaic_images, shown_bands
from eoap_dask.applications.cloudless_mosaic.science import Composition
from eoap_dask.applications.parameters import MosaicParams
from eoap_dask.applications.registry import MOSAIC
from eoap_dask.errors import BandError, NothingFoundError
from eoap_dask.geo.aoi import Aoi, parse_aoi
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.grid import grid_for, project_aoi
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.find import check_source, explain_nothing
from eoap_dask.items.find import find_items as find
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.query import Query, check_filter
from eoap_dask.kernels.composites import COMPOSITES
from eoap_dask.kernels.mask import SHARE_DIVISOR
from eoap_dask.kernels.pixels import VISUAL_WHITE
from eoap_dask.net.hrefs import private_hosts_of
from eoap_dask.output.picture import write_thumbnail
from eoap_dask.params import as_json, check_choices
from eoap_dask.periods import Period, check_range, parse_day, split_periods
from eoap_dask.render.recipe import ALGORITHM, Recipe
from eoap_dask.render.stack import MASK_NEAREST_UP_TO_M, Stack
from eoap_dask.run.events import Listener
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.produce import Run
from eoap_dask.run.product import collection_and_catalog, image_assets, thumbnail_asset, write_unit_item
from eoap_dask.run.unit import Unit
from eoap_dask.scenes.model import Pass, footprint_touches, group_passes
from eoap_dask.scenes.parse import read_scenes
from eoap_dask.scenes.sensor import Sensor, sensor_for
from eoap_dask.text import must_be, option, plural

if TYPE_CHECKING:
    from distributed import Client
    from odc.geo.geobox import GeoBox

    from eoap_dask.readers.reader import Reader
    from eoap_dask.run.written import WrittenUnit

NAME = MOSAIC.name

_NUMBERS = re.compile(r"[-+\d.eE,\s]+")


@dataclass(frozen=True)
class Request:
    """What `MosaicParams` say, checked without contacting anything."""

    params: MosaicParams
    aoi: Aoi
    start: date
    end: date
    periods: tuple[Period, ...]
    sensor: Sensor
    geobox: GeoBox

    @property
    def query(self) -> Query:
        """What is searched for."""
        params = self.params
        return Query(
            params.collection,
            self.aoi,
            self.start,
            self.end,
            params.max_cloud_cover,
            params.max_items,
            params.filter,
        )

    @property
    def private_hosts(self) -> frozenset[str]:
        """Hosts on private networks that the user named, so that items may lead there."""
        return private_hosts_of(self.params.stac) | private_hosts_of(self.params.items or "")

    @property
    def json(self) -> dict[str, Any]:
        """The parameters as JSON-like values; an area from a file as the GeoJSON that it held."""
        return {
            **as_json(self.params),
            "aoi": text if _NUMBERS.fullmatch(text := str(self.params.aoi)) else self.aoi.geojson,
        }


def understand(params: MosaicParams) -> Request:
    """Check parameters without contacting anything; raise `UsageError`, or a subclass, for what can't be used."""
    check_choices(params)
    if params.max_items < 1:
        raise must_be("max_items", "1 or more", params.max_items, 1000)
    if not 0 < params.max_cloud_cover <= 100:
        raise must_be("max_cloud_cover", "more than 0 and at most 100", params.max_cloud_cover, 25)
    params = dataclasses.replace(params, bands=_split(params.bands))
    if not params.bands:
        raise BandError("No band was asked for.", "Expected at least one.", f"Try {option('bands', ['red'])}.")
    twice = [b for b in params.bands if params.bands.count(b) > 1]
    if twice:
        raise BandError(f"The band {twice[0]!r} was asked for twice.", "Expected each once.", "")
    check_source(params.stac)  # also where it only names a trusted host: it is recorded
    if params.items:
        check_source(params.items, "items")
    check_filter(params.filter)
    start, end = parse_day(params.start_date), parse_day(params.end_date)
    check_range(start, end)
    aoi = parse_aoi(params.aoi)
    if not params.clip:
        aoi = aoi.boxed()
    return Request(
        params=params,
        aoi=aoi,
        start=start,
        end=end,
        periods=split_periods(start, end, params.period),
        sensor=sensor_for(params.collection),
        geobox=grid_for(aoi, params.crs, params.resolution),
    )


def _split(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return bands one by one, also where several are in one text, as in an environment variable."""
    return tuple(name for text in bands for name in text.replace(",", " ").split())


def find_items(request: Request) -> ItemSet:
    """Search the catalogue, or the given items; raise `NothingFoundError` when no period has an item."""
    params = request.params
    source, name = (params.items, "items") if params.items else (params.stac, "stac")
    logger.info("Searching {} for {}", source, params.collection)
    found = find(source, request.query, option=name)
    if not len(found):
        raise _nothing(request)
    logger.info("{} found", plural(len(found), "item"))
    if found.truncated:
        logger.warning(
            "The search was cut at {}: the mosaic lacks some. Try a larger {}, or fewer dates.",
            plural(params.max_items, "item"),
            option("max_items"),
        )
    return found


def plan_mosaic(request: Request, items: ItemSet, reader: Reader) -> Plan:
    """Return the plan of all periods; read no pixels."""
    params, geobox = request.params, request.geobox
    scenes = read_scenes(
        items.features,
        params.bands,
        request.sensor,
        cloud_mask=params.cloud_mask == "scl",
        private_hosts=request.private_hosts,
        local_files=items.local_files,
    )
    bounds = grid_bounds(geobox)
    passes = group_passes([s for s in scenes if footprint_touches(s.bands[0], crs_name(geobox), bounds)])
    # a pass belongs to one period as a whole, also where midnight came between its scenes
    units = [_unit(period, [p for p in passes if p.datetime.date() in period]) for period in request.periods]
    todo = [u for u in units if u.passes]
    if not todo:
        raise _nothing(request)
    return Plan(
        application=NAME,
        params=request.json,
        geobox=geobox,
        units=tuple(_plan_unit(request, reader, unit) for unit in todo),
        empty=tuple(u.key for u in units if not u.passes),
    )


def cloudless_mosaic(
    params: MosaicParams | None = None,
    options: RunOptions | None = None,
    *,
    client: Client | None = None,
    listener: Listener | None = None,
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
    UnitsFailedError
        when more units failed than allowed; finished ones stay in ``<output_dir>.partial``
    """
    return APPLICATION.run(params, options, client=client, listener=listener, changes=changes)


def _unit(period: Period, passes: Sequence[Pass]) -> Unit:
    return Unit(
        key=f"monthly-mosaic-{period.key}",
        title=f"Cloud-free mosaic, {period.label}",
        start=datetime.combine(period.start, clock.min, UTC),
        end=datetime.combine(period.end, clock(23, 59, 59), UTC),
        passes=tuple(passes),
    )


def _plan_unit(request: Request, reader: Reader, unit: Unit) -> UnitPlan:
    params, geobox, sensor = request.params, request.geobox, request.sensor
    shape = None if request.aoi.is_box else project_aoi(request.aoi, crs_name(geobox))
    clip = None if shape is None else shapely.to_wkb(shape)
    picks, _ = shown_bands(params.bands, sensor)
    composite = COMPOSITES[params.composite]
    masked = params.cloud_mask == "scl"
    recipe = Recipe(
        stack=Stack(
            geobox=geobox,
            passes=unit.passes,
            bands=len(params.bands),
            dropped_classes=sensor.mask_dropped if masked else None,
            clip_wkb=clip,
            reader=reader,
        ),
        science=Composition(params.composite, picks),
        images=mosaic_images(unit.key, params.bands, sensor, composite.title),
    )
    pixel_params = {
        "bands": list(params.bands),
        "composite": params.composite,
        "clip": None if clip is None else clip.hex(),
        "mask": [sensor.mask_dropped, MASK_NEAREST_UP_TO_M, 1 / SHARE_DIVISOR] if masked else None,
        "visual": [VISUAL_WHITE, picks],
    }
    algorithm = {**ALGORITHM, composite.name: composite.version}
    return UnitPlan.of(unit, recipe, pixel_params, algorithm)


def finish_unit(request: Request, written: WrittenUnit) -> dict[str, Any]:
    """Write the thumbnail and, last, the item of a unit whose images are written; return the item."""
    planned, folder, images = written.plan, written.folder, written.images
    unit, recipe, sensor = planned.unit, planned.recipe, request.sensor
    data, visual = images[recipe.images[0].name], images["visual"]
    assets = (
        *image_assets(written),
        thumbnail_asset(write_thumbnail(folder / "thumbnail.png", visual.smallest)),
    )
    masked = recipe.stack.dropped_classes is not None
    lineage = (
        f"{data.spec.title} of {len(unit.scenes)} {sensor.title} scenes of {len(unit.passes)} passes, "
        + (
            "without clouds and cloud shadows as the scene classification has them"
            if masked
            else "without a cloud mask"
        )
        + f"; nearest neighbour resampling; surface reflectance × {sensor.quantification}, 0 where nothing was seen."
    )
    return write_unit_item(
        NAME,
        written,
        assets,
        lineage,
        valid_pixels=data.sums[0][0],
        properties={"eoap:scenes": len(unit.scenes), "eoap:passes": len(unit.passes)},
    )


def describe(request: Request, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the STAC collection and catalog of finished items."""
    return collection_and_catalog(
        NAME,
        items,
        title=f"Cloud-free {request.sensor.name} mosaics",
        description=f"Surface reflectance of {request.sensor.title}, {COMPOSITES[request.params.composite].title}, "
        f"{request.params.period}.",
        keywords=[request.sensor.constellation, "mosaic", "cloud-free", "surface reflectance"],
        catalog_title=f"Cloud-free mosaics, {request.start} to {request.end}",
    )


def _nothing(request: Request) -> NothingFoundError:
    params = request.params
    what = f"No items of {params.collection} from {request.start} to {request.end} over {request.aoi.source}."
    return NothingFoundError(what, explain_nothing(params.items or params.stac, request.query))


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
