"""change-detection: what changed from year to year, cell by cell.

Read it from the top: understand → search → plan → finish → conclude → describe. Rendering and publishing are in `run`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.applications.base import Application
from eoap_dask.applications.change_detection.cells import GridCell
from eoap_dask.applications.change_detection.checkpoints import Checkpoints
from eoap_dask.applications.change_detection.entry import CHANGE_DETECTION
from eoap_dask.applications.change_detection.images import change_images
from eoap_dask.applications.change_detection.names import change_key, image_key
from eoap_dask.applications.change_detection.parameters import ChangeParams
from eoap_dask.applications.change_detection.product import conclude, describe, figures, finish_unit
from eoap_dask.applications.change_detection.request import Request, understand
from eoap_dask.applications.change_detection.science import Change
from eoap_dask.applications.composition import Composition, composite_images
from eoap_dask.errors import NothingFoundError
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.odd import nothing_left
from eoap_dask.kernels.composites import COMPOSITES
from eoap_dask.output.layout import LAYOUT
from eoap_dask.render.headers import settle
from eoap_dask.render.needed import UnitStack
from eoap_dask.render.recipe import Recipe
from eoap_dask.render.reflectance import shown_bands
from eoap_dask.render.stack import Stack
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.raster import RasterWork
from eoap_dask.run.unit import Unit
from eoap_dask.scenes.model import Contradictions, Pass, SceneIndex, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.text import few, option, plural

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.periods import Period
    from eoap_dask.readers.reader import Reader
    from eoap_dask.run.events import Listener
    from eoap_dask.run.options import RunOptions
    from eoap_dask.run.produce import Hooks
    from eoap_dask.run.result import Run

NAME = CHANGE_DETECTION.name
BLOCK = 1024
"""Side of a block at most: memory is a third less than with twice that, and there are cells enough for all workers."""


def find_items(request: Request) -> ItemSet:
    """Search each year once, over all cells; raise `NothingFoundError` where no year has an item."""
    request.say_cells()
    request.say_method()  # before the search: weights may be far away, or damaged
    found: ItemSet | None = None
    nothing: NothingFoundError | None = None
    for year in request.years:
        try:
            more = request.search.find(request.query(year), f"in {year.label}")
        except NothingFoundError as fault:
            nothing = nothing or fault
            logger.warning("{} {}", fault.what, fault.expected)
        else:
            found = more if found is None else found.merged(more)
    if found is None:
        assert nothing is not None  # noqa: S101 - there are two years or more
        raise nothing
    logger.info("{} found", plural(len(found), "item"))
    return found


def plan_changes(request: Request, items: ItemSet, reader: Reader) -> Plan:
    """Return the plan of all cells, a year at a time; read no pixels."""
    params = request.params
    bands = request.bands_in(items.features)
    scenes, odd = usable_scenes(
        items.features,
        bands,
        request.sensor,
        cloud_mask=params.cloud_mask == "scl",
        private_hosts=request.private_hosts,
        local_files=items.local_files,
        on_odd_item=request.search.on_odd_item,
    )
    odd = (*items.odd_items, *odd)
    if odd and not scenes:
        raise nothing_left(odd)
    scenes, found = settle(items.features, scenes, reader)
    seen = _passes(request, SceneIndex(scenes))
    planner = _Planner(request, reader, bands, found)
    units: list[UnitPlan] = []
    empty: list[str] = []
    made: dict[tuple[str, str], UnitPlan] = {}
    before = dict(zip(request.years[1:], request.years, strict=False))
    for year in request.years:
        for cell in request.cells:
            if passes := seen[cell.name, year.key]:
                made[cell.name, year.key] = planner.image(cell, year, passes)
                units.append(made[cell.name, year.key])
            else:
                empty.append(image_key(cell.name, year.label))
        for cell in request.cells if year in before else ():
            pair = made.get((cell.name, before[year].key)), made.get((cell.name, year.key))
            if pair[0] is not None and pair[1] is not None:
                units.append(planner.change(cell, before[year], year, (pair[0].unit, pair[1].unit)))
            else:
                empty.append(change_key(cell.name, year.key))
    if not made:
        raise request.search.nothing(request.query(request.years[0]))
    if len(units) == len(made):
        logger.warning("No cell has images of two years that follow each other: nothing is compared. Try other years.")
    facts = {"cells": len(request.cells), "images": len(made), "changes": len(units) - len(made)}
    return Plan(NAME, request.json, tuple(units), tuple(empty), odd, facts=facts)


def _passes(request: Request, scenes: SceneIndex) -> dict[tuple[str, str], tuple[Pass, ...]]:
    """Return the passes over each cell in each year, by their names; a pass belongs to a month as a whole."""
    most, cut = request.params.max_items, []
    found: dict[tuple[str, str], tuple[Pass, ...]] = {}
    for cell in request.cells:
        mine = group_passes(scenes.touching(crs_name(cell.geobox), grid_bounds(cell.geobox)))
        for year in request.years:
            passes = [one for one in mine if one.datetime.date() in year]
            while sum(len(one.scenes) for one in passes) > most and len(passes) > 1:
                del passes[0]
                cut.append(f"{cell.id} in {year.key}")
            found[cell.name, year.key] = tuple(passes)
    if cut:
        logger.warning(
            "More than {} are there for {}: the latest are used. Try a larger {}.",
            plural(most, "item"),
            few(dict.fromkeys(cut)),
            option("max_items"),
        )
    return found


class _Planner:
    """Makes the plans of units."""

    def __init__(self, request: Request, reader: Reader, bands: tuple[str, ...], found: Contradictions) -> None:
        self._request, self._reader, self._bands, self._found = request, reader, bands, found

    def image(self, cell: GridCell, year: Period, passes: tuple[Pass, ...]) -> UnitPlan:
        """Return the plan of the image of a cell in a year."""
        params, sensor = self._request.params, self._request.sensor
        picks, _ = shown_bands(self._bands, sensor)
        key = image_key(cell.name, year.label)
        name = LAYOUT.name(key)
        unit = Unit(
            key,
            f"Cell {cell.id}, {year.label}",
            datetime.combine(year.start, clock.min, UTC),
            datetime.combine(year.end, clock(23, 59, 59), UTC),
        )
        recipe = Recipe(
            stack=Stack(
                geobox=cell.geobox,
                passes=passes,
                bands=len(self._bands),
                dropped_classes=sensor.mask_dropped if params.cloud_mask == "scl" else None,
                clip_wkb=cell.clip_wkb,
                reader=self._reader,
            ),
            science=Composition(params.composite, picks),
            largest=BLOCK,
            images=composite_images(
                name, self._bands, sensor, COMPOSITES[params.composite].title, suffix=".tiff", prefix=f"{name}_"
            ),
        )
        return UnitPlan.of(unit, RasterWork.of(recipe, self._found))

    def change(self, cell: GridCell, before: Period, year: Period, images: tuple[Unit, Unit]) -> UnitPlan:
        """Return the plan of the change of a cell between two years, from the units of their images."""
        request, keys = self._request, tuple(one.key for one in images)
        key = change_key(cell.name, year.key)
        unit = Unit(
            key,
            f"Change of cell {cell.id}, {before.label} to {year.label}",
            images[0].start,
            images[1].end,
            needs=keys,
        )
        recipe = Recipe(
            stack=UnitStack(cell.geobox, keys, "{unit}.tiff", len(self._bands), clip_wkb=cell.clip_wkb),
            science=Change(request.method, request.params.min_pixels, self._bands),
            images=change_images(request.method, LAYOUT.name(key)),
            largest=2 * BLOCK if request.method.reach else BLOCK,  # what is seen from afar is seen twice at borders
        )
        return UnitPlan.of(unit, RasterWork.of(recipe))


APPLICATION = Application(
    name=NAME,
    params=ChangeParams,
    output_dir=Path(CHANGE_DETECTION.output_dir),
    understand=understand,
    find=find_items,
    plan=plan_changes,
    finish=finish_unit,
    describe=describe,
    figures=figures,
    conclude=conclude,
    watch=lambda _, plan, out: Checkpoints(plan, out),
)


def change_detection(
    params: ChangeParams | None = None,
    options: RunOptions | None = None,
    *,
    client: Client | None = None,
    listener: Listener | None = None,
    hooks: Hooks | None = None,
    **changes: Any,
) -> Run:
    """Find what changed from year to year, cell by cell, and publish images and masks as a STAC catalog.

    Parameters
    ----------
    params : ChangeParams, optional
        What decides the product; its fields may also be given by name (``grid`` and ``years`` above all).
    options : RunOptions, optional
        How it is made; its fields may also be given by name (``output_dir`` above all).
    client : distributed.Client, optional
        Where to work. By default the active client, else an embedded cluster that is stopped afterwards.
    listener : callable, optional
        Gets an `Event` whenever something happens; by default a bar in a notebook, and nothing elsewhere.
    hooks : Hooks, optional
        The run's id, its control (pause, go on, drain, stop), and who is told of units and of the product.
    **changes
        Fields of `ChangeParams` and `RunOptions`.

    Returns
    -------
    Run
        Per cell and year an image in ``images/{year}`` (band, y, x; uint16, reflectance × 10000, 0 = nodata). Per cell
        and pair of years in ``masks/{year}`` a score (y, x; uint16, 0.01 standard deviations of no change, 0 = nodata)
        and a mask (y, x; uint8, 0 = not seen on both dates, 1 = no change, 2 = change), also as PNG. Each has a STAC
        item beside it. Hectares of all pairs are in ``changes.csv``.

    Raises
    ------
    UsageError
        before anything is contacted or written
    NothingFoundError
        when no year has an item
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
