"""bai: what burned between two Sentinel-2 scenes, how badly, and how much of it.

Read it from the top: understand → find a pair → plan → finish → describe. Rendering and publishing are in `run`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from loguru import logger

from eoap_dask.applications.bai.entry import BAI
from eoap_dask.applications.bai.images import burn_images
from eoap_dask.applications.bai.pair import check_found, common_ground
from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.applications.bai.report import report_on, write_report
from eoap_dask.applications.bai.science import BANDS, Burn
from eoap_dask.applications.base import Application, BaseRequest
from eoap_dask.errors import ItemError, NothingFoundError, UsageError
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.geo.grid import check_areas, grid_over, pixels_of
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.find import item_from_url
from eoap_dask.items.item import Item, OddItem
from eoap_dask.items.odd import nothing_left
from eoap_dask.items.search import Search
from eoap_dask.kernels.severity import SeverityClass, severity_classes
from eoap_dask.net.hrefs import private_hosts_of
from eoap_dask.output.picture import write_thumbnail
from eoap_dask.params import check_choices
from eoap_dask.periods import parse_day
from eoap_dask.render.headers import settle
from eoap_dask.render.recipe import Recipe
from eoap_dask.render.stack import Stack
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.produce import Hooks
from eoap_dask.run.product import (
    collection_and_catalog,
    file_asset,
    image_assets,
    thumbnail_asset,
    write_unit_item,
)
from eoap_dask.run.raster import RasterWork, raster_of
from eoap_dask.run.result import Run
from eoap_dask.run.summary import PASSES
from eoap_dask.run.unit import Unit
from eoap_dask.scenes.clearest import DayWindow, clearest_pass
from eoap_dask.scenes.model import Contradictions, Pass, Scene, footprint_touches, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.scenes.sensor import Sensor, sensor_for, sensor_of, sensors
from eoap_dask.stac.attribution import sensors_of
from eoap_dask.text import must_be, option, plural

if TYPE_CHECKING:
    from distributed import Client
    from odc.geo.geobox import GeoBox

    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.readers.reader import Reader
    from eoap_dask.run.events import Listener
    from eoap_dask.run.written import WrittenUnit

NAME = BAI.name
EXAMPLE_AOI = "-121.23,40.02,-121.05,40.16"
"""Part of the Dixie fire of 2021, where `BurnedAreaParams` look by default."""


@dataclass(frozen=True, kw_only=True)
class Request(BaseRequest):
    """What `BurnedAreaParams` say, checked without contacting anything."""

    params: BurnedAreaParams
    before: DayWindow
    """When to look for the scene before the fire."""
    after: DayWindow
    classes: tuple[SeverityClass, ...]

    @property
    def by_url(self) -> bool:
        """Whether the scenes were named."""
        return bool(self.params.pre_fire_url)

    @property
    def json(self) -> dict[str, Any]:
        """The parameters as JSON values; no catalogue where the scenes were named, for none is asked."""
        return {**super().json, **({"stac": None} if self.by_url else {})}

    @property
    def private_hosts(self) -> frozenset[str]:
        """Hosts on private networks that the user named."""
        items = (self.params.pre_fire_url, self.params.post_fire_url)
        return super().private_hosts.union(*(private_hosts_of(url) for url in items))


def understand(params: BurnedAreaParams) -> Request:
    """Check parameters without contacting anything; raise `UsageError`, or a subclass, for what can't be used."""
    check_choices(params)
    if bool(params.pre_fire_url) != bool(params.post_fire_url):
        missing = "post" if params.pre_fire_url else "pre"
        raise UsageError(
            f"{option(f'{missing}_fire_url')} is missing.",
            "Expected both items, or none and dates.",
            f"Name the scene {'after' if missing == 'post' else 'before'} the fire as well.",
        )
    if params.pre_fire_url:
        _check_no_search(params)
    if params.window_days < 0:
        raise must_be("window_days", "0 or more", params.window_days, 20)
    if not 0 <= params.min_area_ha < math.inf:
        raise must_be("min_area_ha", "a finite number of 0 or more", params.min_area_ha, 1)
    if params.crs != "auto":
        parse_crs(params.crs)  # here, before anything is asked for
    try:
        classes = severity_classes(params.thresholds)
    except ValueError:
        raise UsageError(
            f"{option('thresholds')} must be six rising numbers of dNBR, "
            f"got {', '.join(f'{t:g}' for t in params.thresholds)}.",
            "",
            f"Leave it out, or try {option('thresholds', BurnedAreaParams.thresholds)}.",
        ) from None
    before, after = parse_day(params.pre_date), parse_day(params.post_date)
    if before >= after:
        raise UsageError(
            f"The last day before the fire, {before}, isn't before the first day after it, {after}.",
            f"Expected {option('pre_date')} before {option('post_date')}.",
            "Swap them, perhaps.",
        )
    try:
        window = timedelta(days=params.window_days)
        first, last = before - window, after + window
    except OverflowError:  # beyond the years that Python knows
        raise must_be("window_days", "smaller", params.window_days, 20) from None
    return Request(
        params=params,
        search=Search.of(params),
        area=_area(params),
        before=DayWindow(before, first, before),
        after=DayWindow(after, after, last),
        classes=classes,
    )


def _area(params: BurnedAreaParams) -> Area | None:
    """Return the area; None where two named items decide."""
    if params.aoi is None or (isinstance(params.aoi, str) and not params.aoi):
        if params.pre_fire_url:
            return None
        params = replace(params, aoi=EXAMPLE_AOI)
    area = Area.of(params)
    check_areas(area.geobox)
    return area


_OF_A_SEARCH = ("pre_date", "post_date", "window_days", "items", "max_items", "max_cloud_cover", "filter")


def _check_no_search(params: BurnedAreaParams) -> None:
    """Refuse parameters of a search where two items are named; defaults pass, since CWL hands over all of them."""
    ignored = [name for name in _OF_A_SEARCH if getattr(params, name) != getattr(BurnedAreaParams, name)]
    if params.stac != BurnedAreaParams.stac and not private_hosts_of(params.stac):  # naming one trusts it
        ignored.append("stac")
    if ignored:
        raise _no_search(*ignored)


def _no_search(*names: str) -> UsageError:
    shown = [option(name) for name in names]
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
    return UsageError(
        f"{listed} can't be combined with {option('pre_fire_url')} and {option('post_fire_url')}.",
        "The two items are named, so nothing is searched.",
        f"Leave {'them' if shown[1:] else 'it'} out, also in the environment (EOAP_DASK_…), or name no items.",
    )


def find_pair(request: Request) -> ItemSet:
    """Return the items of the pass before the fire and of the one after it.

    Raises `NothingFoundError` when a search finds one of them missing, `UsageError` when the two can't be compared.
    """
    params = request.params
    if request.by_url:
        before = item_from_url(params.pre_fire_url, option="pre_fire_url")
        after = item_from_url(params.post_fire_url, option="post_fire_url")
        own = {str(item.get("collection") or "") for items in (before, after) for item in items}
        if params.collection != BurnedAreaParams.collection and not own & {"", params.collection}:
            raise _no_search("collection")
        check_found(before, after, params.collection, force=params.force)
        return before.merged(after)
    before, after = (_clearest(request, window) for window in (request.before, request.after))
    check_found(before, after, params.collection, force=params.force)
    return before.merged(after)


def _clearest(request: Request, window: DayWindow) -> ItemSet:
    """Return the items of the clearest pass in a window."""
    assert request.area is not None  # noqa: S101 - understand() has seen to it
    search, aoi = request.search, request.area.aoi
    when = "before the fire" if window is request.before else "after the fire"
    query = search.query(aoi, window.first, window.last)
    found = search.find(query, when, f"Or try a larger {option('window_days')}.")
    sensor = sensor_for(request.params.collection)
    _, odd = _scenes(request, found, found.features, sensor)  # before the choice, or it may fall on them
    if odd:
        names = {one.id for one in odd}
        found = replace(
            found,
            features=tuple(item for item in found if item["id"] not in names),
            odd_items=(*found.odd_items, *odd),
        )
    if not len(found):
        raise nothing_left(found.odd_items, _another_item())
    choice = clearest_pass(found.features, aoi, window, when)
    logger.info("{}: {}", when.capitalize(), choice.why)
    return replace(found, features=choice.items)


def plan_pair(request: Request, items: ItemSet, reader: Reader) -> Plan:
    """Return the plan of the pair; read no pixels."""
    params = request.params
    sensors = [sensor_for(str(item.get("collection") or params.collection)) for item in items]
    scenes: list[Scene] = []
    odd = list(items.odd_items)
    for sensor in dict.fromkeys(sensors):
        own = [item for item, of in zip(items, sensors, strict=True) if of == sensor]
        usable, unusable = _scenes(request, items, own, sensor)
        scenes += usable
        odd += unusable
    area = None if request.area is None else request.area.geobox
    settled, found = settle(items.features, scenes, reader, area)
    passes = group_passes(settled)
    if odd and len(passes) < 2:
        raise nothing_left(odd, _another_item())
    if len(passes) != 2:
        raise UsageError(
            f"The items {', '.join(s.id for s in scenes)} are of {plural(len(passes), 'pass', 'passes')} "
            "of the satellite.",
            "Expected one before the fire and one after it.",
            "Name items of two dates.",
        )
    geobox = _grid(request, passes)
    check_areas(geobox)
    for one in passes:
        if not any(footprint_touches(s.bands[0], crs_name(geobox), grid_bounds(geobox)) for s in one.scenes):
            raise UsageError(
                f"The scene {one.scenes[0].id} of {one.datetime:%Y-%m-%d} doesn't touch the area.",
                "Expected two scenes over it.",
                f"Check {option('aoi')}, or name other items.",
            )
    work = _work(request, reader, passes, geobox, sensors[0], found)
    if work.reprojected:
        crss = sorted({s.bands[0].crs for s in work.recipe.stack.scenes})
        logger.warning("Scenes are in {}: they are resampled to {}.", " and ".join(crss), crs_name(geobox))
    return Plan(NAME, request.json, (UnitPlan.of(_unit(passes), work),), odd_items=tuple(odd))


def _scenes(
    request: Request, items: ItemSet, own: Sequence[Item], sensor: Sensor
) -> tuple[tuple[Scene, ...], tuple[OddItem, ...]]:
    """Return the scenes of some items of a set, and those that are set aside."""
    try:
        return usable_scenes(
            own,
            BANDS,
            sensor,
            cloud_mask=True,
            private_hosts=request.private_hosts,
            local_files=items.local_files,
            on_odd_item=request.search.on_odd_item,
        )
    except ItemError as exc:
        raise ItemError(exc.what, exc.expected, _another_item()) from None


def _another_item() -> str:
    """Return what to try: neither bands nor the mask are a matter of choice here."""
    return f"Name another item, or try another {option('collection')}."


def _grid(request: Request, passes: Sequence[Pass]) -> GeoBox:
    params = request.params
    if request.area is not None:
        return request.area.geobox
    crs = passes[0].scenes[0].bands[0].crs if params.crs == "auto" else params.crs
    return grid_over(common_ground(passes, crs), crs, params.resolution)


def _unit(passes: Sequence[Pass]) -> Unit:
    before, after = passes
    return Unit(
        key=f"bai-{before.datetime:%Y%m%d}-{after.datetime:%Y%m%d}",
        title=f"Burned area, {before.datetime:%Y-%m-%d} to {after.datetime:%Y-%m-%d}",
        start=before.datetime,
        end=after.datetime,
    )


def _work(
    request: Request,
    reader: Reader,
    passes: Sequence[Pass],
    geobox: GeoBox,
    sensor: Sensor,
    found: Contradictions,
) -> RasterWork:
    params = request.params
    shape = None if request.area is None else request.area.shape
    recipe = Recipe(
        stack=Stack(
            geobox=geobox,
            passes=tuple(passes),
            bands=len(BANDS),
            dropped_classes=sensor.not_land,
            clip_wkb=None if shape is None else shapely.to_wkb(shape),
            reader=reader,
        ),
        science=Burn(params.thresholds, pixels_of(params.min_area_ha, geobox)),
        images=burn_images(request.classes, *(one.datetime for one in passes)),
    )
    return RasterWork.of(recipe, found)


def finish_unit(request: Request, written: WrittenUnit) -> dict[str, Any]:
    """Write areas, perimeters, pictures and, last, the item of the pair; return the item.

    Raises `NothingFoundError` when the two scenes have no clear pixel in common.
    """
    unit, work = written.plan.unit, raster_of(written.plan)
    folder, images = written.folder, written.made.images
    recipe, geobox, passes = work.recipe, work.geobox, work.recipe.stack.passes
    assert isinstance(recipe.science, Burn)  # noqa: S101 - plan_pair() has seen to it
    report = report_on(written.made.notes, request.classes, geobox, unit, passes, recipe.science.min_pixels)
    if not report.clear_pixels:
        raise NothingFoundError(
            f"The scenes of {unit.start:%Y-%m-%d} and {unit.end:%Y-%m-%d} have no clear pixel in common over the area.",
            "Expected ground that both see without clouds, water and snow.",
            f"Try other dates or items, or a larger {option('aoi')}.",
        )
    if report.cut_perimeters:
        logger.info(
            "{} of {} cut by the edge of the area or of the data: what burned may go on beyond it.",
            report.cut_perimeters,
            f"{plural(len(report.perimeters), 'perimeter')} {'is' if report.cut_perimeters == 1 else 'are'}",
        )
    assets = (
        *image_assets(written, {"severity": dict(enumerate(report.class_pixels))}),
        thumbnail_asset(write_thumbnail(folder / "thumbnail.png", images["visual-post"].smallest)),
        *(file_asset(*file) for file in write_report(folder, report, images)),
    )
    return write_unit_item(
        NAME,
        written,
        assets,
        _lineage(passes),
        valid_pixels=report.clear_pixels,
        properties={
            PASSES: len(passes),
            "eoap:burned_ha": report.burned_ha,
            "eoap:severity_ha": report.hectares,
            "eoap:perimeters": len(report.perimeters),
            "eoap:cut_perimeters": report.cut_perimeters,
            "eoap:pre_fire": [s.id for s in passes[0].scenes],
            "eoap:post_fire": [s.id for s in passes[1].scenes],
        },
    )


def _lineage(passes: Sequence[Pass]) -> str:
    before, after = passes
    sensor = sensor_of(before.scenes[0].sensor)
    return (
        f"Indices of {len(before.scenes)} {sensor.title} scene(s) of {before.datetime:%Y-%m-%d} and "
        f"{len(after.scenes)} of {after.datetime:%Y-%m-%d}, where both see ground: no clouds, cloud shadows, water or "
        "snow as the scene classification has them; nearest neighbour resampling; surface reflectance."
    )


def describe(request: Request, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the STAC collection and catalog of finished items."""
    burned = request.classes[3]
    sensor, *_ = sensors_of(items, sensors())
    return collection_and_catalog(
        NAME,
        items,
        title=f"Burned area from {sensor.name}",
        description=f"Burned area (dNBR of {burned.lower:g} and more) and its severity, from pairs of "
        f"{sensor.title} scenes.",
        keywords=[sensor.constellation, "burned area", "burn severity", "dNBR", "BAI", "wildfire"],
        catalog_title=items[0]["properties"]["title"] if len(items) == 1 else f"Burned areas of {len(items)} pairs",
    )


def figures(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return hectares that burned, and those of each class."""
    return {"burned_ha": item["properties"]["eoap:burned_ha"], "severity_ha": item["properties"]["eoap:severity_ha"]}


APPLICATION = Application(
    name=NAME,
    params=BurnedAreaParams,
    output_dir=Path(BAI.output_dir),
    understand=understand,
    find=find_pair,
    plan=plan_pair,
    finish=finish_unit,
    describe=describe,
    figures=figures,
)


def burned_area_map(
    params: BurnedAreaParams | None = None,
    options: RunOptions | None = None,
    *,
    client: Client | None = None,
    listener: Listener | None = None,
    hooks: Hooks | None = None,
    **changes: Any,
) -> Run:
    """Map what burned between two scenes, and publish it as a STAC catalog.

    Parameters
    ----------
    params : BurnedAreaParams, optional
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
        Fields of `BurnedAreaParams` and `RunOptions`.

    Returns
    -------
    Run
        One directory with BAI (float32), NBR, dNBR, RdNBR and RBR (int16, with their scales), severity (uint8 classes),
        pictures, perimeters (GeoParquet, GeoJSON), areas (CSV), and the STAC item.

    Raises
    ------
    UsageError
        before anything is written: also for two scenes that can't be compared
    NothingFoundError
        when there is no scene before or after, or no clear pixel in common
    SearchError
        when searching or signing fails, or an item can't be used
    ClusterError
        when the cluster doesn't start, or goes away
    StoppedError
        when the control says so; finished units are kept
    UnitsFailedError
        when an asset can't be read
    """
    return APPLICATION.run(params, options, client=client, listener=listener, hooks=hooks, changes=changes)
