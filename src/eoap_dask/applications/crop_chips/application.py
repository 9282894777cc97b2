"""crop-chips: image chips and label masks for training, from field polygons.

Read it from the top: understand → lay out → search → plan → finish → conclude → describe. Rendering and publishing are
in `run`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.applications.base import Application
from eoap_dask.applications.crop_chips.entry import CROP_CHIPS
from eoap_dask.applications.crop_chips.layout import Layout, PlannedCell, class_areas, labels_of
from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.crop_chips.product import CLASS_PIXELS, SPLIT, class_names, conclude, describe
from eoap_dask.applications.crop_chips.request import Request, understand
from eoap_dask.applications.crop_chips.science import Chips, ClearestChips, Labels, total
from eoap_dask.applications.crop_chips.splits import (
    ML_AOI,
    SPLITS,
)
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.odd import nothing_left
from eoap_dask.render.headers import settle
from eoap_dask.render.recipe import Cutout, Recipe
from eoap_dask.render.stack import Stack
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.product import Output, image_asset, write_unit_item
from eoap_dask.run.raster import RasterWork, raster_of
from eoap_dask.run.summary import PASSES
from eoap_dask.run.unit import COUNTS, Unit
from eoap_dask.scenes.model import Contradictions, Pass, Scene, SceneIndex, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.text import few, option, plural

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.readers.reader import Reader
    from eoap_dask.run.events import Listener
    from eoap_dask.run.options import RunOptions
    from eoap_dask.run.produce import Hooks
    from eoap_dask.run.result import Run
    from eoap_dask.run.written import WrittenUnit

NAME = CROP_CHIPS.name

CELL, FIELDS = "eoap:cell", "eoap:fields"
_MOST_IN_NONE, _MOST_OFF = 0.25, 0.15
"""Shares of chips that are in no split, or beyond what was asked for, that aren't worth a word."""


def find_items(request: Request) -> ItemSet:
    """Choose the chips, and search over them once; each cell takes its own of what is found."""
    layout = request.layout
    _say(request)
    request.check_chips()
    query = request.search.query(layout.aoi, request.start, request.end)
    found = request.search.find(dataclasses.replace(query, max_items=request.params.max_items * len(layout.cells)))
    logger.info("{} found", plural(len(found), "item"))
    return found


def _say(request: Request) -> None:
    layout = request.layout
    chips = sum(1 for _ in layout.chips)
    inside = sum(one.fields for one in layout.cells)
    some = "" if inside == layout.fields else f"{inside} of "
    logger.info("{}{} in {}: up to {}", some, plural(layout.fields, "field"), _cells(layout), plural(chips, "chip"))
    if layout.skipped:
        logger.warning("{}: {}", request.file.path.name, layout.skipped)
    if layout.unknown:
        logger.warning(
            "{} of {} in no class: {}. Their pixels are {}.",
            plural(sum(layout.unknown.values()), "field"),
            f"{plural(len(layout.unknown), 'crop')} {'is' if sum(layout.unknown.values()) == 1 else 'are'}",
            few([f"{code} ({count})" for code, count in layout.unknown.items()]),
            request.params.other_class,
        )
    _say_splits(request)
    if layout.without:
        logger.warning(
            "{} no field of any class, or no room for a chip beside others: {}.",
            plural(len(layout.without), "cell has", "cells have"),
            few(layout.without),
        )


def _say_splits(request: Request) -> None:
    """Tell how many chips are for what; warn where that is far from what was asked for."""
    counts, shares = Counter(request.splits.values()), request.params.split
    whole = sum(counts[name] for name in SPLITS)
    told = ", ".join(f"{counts[name]} for {name}" for name in SPLITS)
    logger.info("Splits: {}, {} in none", told, counts[""])
    if counts[""] > _MOST_IN_NONE * counts.total() or any(
        abs(counts[name] - share * whole) > _MOST_OFF * whole for name, share in zip(SPLITS, shares, strict=True)
    ):
        touching = counts[""] > _MOST_IN_NONE * counts.total()
        logger.warning(
            "Splits are {}, and {} of {} in none, because {}. Try {}, another {}, or more cells.",
            told,
            counts[""],
            plural(counts.total(), "chip"),
            "they touch others" if touching else "there are few blocks of cells",
            option("overlap", False),
            option("split_block"),
        )


def _cells(layout: Layout) -> str:
    few = f" ({plural(layout.few, 'cell')} with too few fields left out)" if layout.few else ""
    return plural(len(layout.cells), "cell") + few


def plan_chips(request: Request, items: ItemSet, reader: Reader) -> Plan:
    """Return the plan of all cells; read no pixels."""
    params, layout = request.params, request.layout
    scenes, odd = usable_scenes(
        items.features,
        params.bands,
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
    labels = labels_of(layout, request.file, request.table, params.other_class, params.border_ignore)
    cut: list[str] = []
    units, empty, index = [], [], SceneIndex(scenes)
    for cell in layout.cells:
        passes = group_passes(_scenes_of(cell, index, params.max_items, cut))
        if passes:
            units.append(_plan_cell(request, reader, cell, passes, labels, found))
        else:
            empty.append(cell.cell.name)
    if cut:
        logger.warning(
            "{} more than {}: the latest are used. Try a larger {}.",
            f"{plural(len(cut), 'cell has', 'cells have')}",
            plural(params.max_items, "item"),
            option("max_items"),
        )
    if not units:
        raise request.search.nothing(request.search.query(layout.aoi, request.start, request.end))
    return Plan(NAME, request.json, tuple(units), tuple(empty), odd, facts=_facts(request, labels))


def _scenes_of(cell: PlannedCell, scenes: SceneIndex, most: int, cut: list[str]) -> list[Scene]:
    """Return the scenes over a cell; `cut` gets its name where there are more than are wanted."""
    mine = scenes.touching(cell.crs, grid_bounds(cell.geobox))
    if len(mine) > most:
        cut.append(cell.cell.name)
    return mine[-most:]


def _plan_cell(
    request: Request,
    reader: Reader,
    cell: PlannedCell,
    passes: Sequence[Pass],
    labels: Mapping[str, Labels],
    found: Contradictions,
) -> UnitPlan:
    params, sensor = request.params, request.sensor
    unit = Unit(
        key=cell.cell.name,
        title=f"Chips of {cell.cell.name}, {request.start} to {request.end}",
        start=passes[0].datetime,
        end=max(s.datetime for p in passes for s in p.scenes),
    )
    kind = ClearestChips if params.composite == "clearest-1" else Chips
    recipe = Recipe(
        stack=Stack(
            geobox=cell.geobox,
            passes=tuple(passes),
            bands=len(params.bands),
            dropped_classes=sensor.mask_dropped if params.cloud_mask == "scl" else None,
            clip_wkb=None,
            reader=reader,
        ),
        science=kind(
            {chip.name: labels[chip.name] for chip in cell.chips},
            params.border_ignore,
            params.min_valid,
            {chip.name: request.splits[chip.name] for chip in cell.chips},
        ),
        images=request.images,
        cutouts=tuple(Cutout(chip.name, chip.window) for chip in cell.chips),
    )
    return UnitPlan.of(unit, RasterWork.of(recipe, found))


def _facts(request: Request, labels: Mapping[str, Labels]) -> dict[str, Any]:
    layout, resolution = request.layout, request.params.resolution
    names = {0: "in no class", **{one.value: one.name for one in request.table.classes}}
    return {
        "cells": len(layout.cells),
        "chips": len(labels),
        "fields": {names[value]: count for value, count in layout.class_fields.items()},
        "pixels": {
            names[value]: round(area / resolution**2) for value, area in class_areas(labels).items() if value in names
        },
        "splits": dict(sorted(Counter(split or "none" for split in request.splits.values()).items())),
    }


def crop_chips(
    params: CropChipsParams | None = None,
    options: RunOptions | None = None,
    *,
    client: Client | None = None,
    listener: Listener | None = None,
    hooks: Hooks | None = None,
    **changes: Any,
) -> Run:
    """Cut image chips and label masks for training from field polygons, and publish them as a STAC catalog.

    Parameters
    ----------
    params : CropChipsParams, optional
        What decides the product; its fields may also be given by name (``fields`` above all).
    options : RunOptions, optional
        How it is made; its fields may also be given by name (``output_dir`` above all).
    client : distributed.Client, optional
        Where to work. By default the active client, else an embedded cluster that is stopped afterwards.
    listener : callable, optional
        Gets an `Event` whenever something happens; by default a bar in a notebook, and nothing elsewhere.
    hooks : Hooks, optional
        The run's id, its control (pause, go on, drain, stop), and who is told of units and of the product.
    **changes
        Fields of `CropChipsParams` and `RunOptions`.

    Returns
    -------
    Run
        Per cell a directory with ``images`` (band, y, x; uint16, reflectance × 10000, 0 = nodata) and ``masks`` (y, x;
        uint8, 0 = background, 255 = ignored) of its chips, an item each, and that of the cell. Beside them
        ``chips.parquet``, ``splits``, and pictures.

    Raises
    ------
    UsageError
        before anything is contacted or written
    NothingFoundError
        when no cell has chips, or none has scenes
    SearchError
        when searching or signing fails, or an item can't be used
    ClusterError
        when the cluster doesn't start, or goes away
    StoppedError
        when the control says so; finished cells are kept
    UnitsFailedError
        when more cells failed than allowed; finished ones stay in ``<output_dir>.partial``
    """
    return APPLICATION.run(params, options, client=client, listener=listener, hooks=hooks, changes=changes)


def finish_unit(request: Request, written: WrittenUnit) -> dict[str, Any]:
    """Write the items of a cell's chips, and that of the cell; return the latter."""
    made, folder, work = written.made, written.folder, raster_of(written.plan)
    science = work.recipe.science
    assert isinstance(science, Chips)  # noqa: S101 - plan_chips() has seen to it
    names = class_names(request.table)
    outputs, pixels = [], Counter[str]()
    for name, images in made.cutouts.items():
        note = total(made.cutout_notes[name])
        counted = dict(note.classes)
        mine = {names[value]: count for value, count in note.classes}
        pixels.update(mine)
        numbers = science.passes_of(name, made.state)
        chosen = () if numbers is None else tuple(work.recipe.stack.passes[number] for number in numbers)
        image, mask = (images[spec.name] for spec in work.recipe.images)
        assets = (
            dataclasses.replace(image_asset(image, folder), more={"ml-aoi:role": "feature"}),
            dataclasses.replace(image_asset(mask, folder, counted), more={"ml-aoi:role": "label"}),
        )
        outputs.append(
            Output(
                name,
                f"Chip {name}",
                image.geobox,
                assets,
                note.valid,
                {
                    CELL: written.plan.unit.key,
                    FIELDS: science.labels[name].fields,
                    CLASS_PIXELS: mine,
                    **({SPLIT: ML_AOI[split]} if (split := science.splits[name]) else {}),
                    **_label_properties(request),
                    **({"eoap:scenes": [s.id for one in chosen for s in one.scenes]} if chosen else {}),
                },
                chosen,
            )
        )
    passes = work.recipe.stack.passes
    return write_unit_item(
        NAME,
        written,
        (),
        _lineage(request, len(passes)),
        valid_pixels=None,
        properties={
            PASSES: len(passes),
            COUNTS: {
                "chips": len(outputs),
                "chips_left_out": len(made.cutout_notes) - len(outputs),
                "pixels": {names[value]: pixels[names[value]] for value in names if names[value] in pixels},
            },
        },
        outputs=outputs,
    )


def _label_properties(request: Request) -> dict[str, Any]:
    return {
        "label:properties": None,
        "label:classes": [{"name": None, "classes": list(class_names(request.table).values())}],
        "label:description": "Crops of the fields that touch the chip, by the class of each pixel's centre",
        "label:type": "raster",
        "label:tasks": ["segmentation"],
    }


def _lineage(request: Request, passes: int) -> str:
    params, sensor = request.params, request.sensor
    masked = "clouds and cloud shadows masked by the scene classification" if params.cloud_mask == "scl" else "unmasked"
    what = "Median" if params.composite == "median" else "The pass with most clear pixels in the chip"
    border = (
        f", {plural(params.border_ignore, 'pixel')} on either side of borders ignored" if params.border_ignore else ""
    )
    return (
        f"{what} of {plural(passes, 'pass', 'passes')} of {sensor.title}, {masked}; nearest neighbour resampling, so "
        f"that a pixel of 20 m is four of 10 m; surface reflectance × {sensor.quantification}. Masks: the class of the "
        f"field that holds a pixel's centre, small fields over large ones{border}; crops in no class are "
        f"{params.other_class}."
    )


def figures(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many chips a cell has, and pixels of each class."""
    return dict(item["properties"][COUNTS])


APPLICATION = Application(
    name=NAME,
    params=CropChipsParams,
    output_dir=Path(CROP_CHIPS.output_dir),
    understand=understand,
    find=find_items,
    plan=plan_chips,
    finish=finish_unit,
    describe=describe,
    figures=figures,
    conclude=conclude,
)
