"""crop-chips: image chips and label masks for training, from field polygons.

Read it from the top: understand → lay out → search → plan → finish → conclude → describe. Rendering and publishing are
in `run`.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from loguru import logger

from eoap_dask.applications.base import Application, BaseRequest
from eoap_dask.applications.crop_chips.classes import ClassTable
from eoap_dask.applications.crop_chips.entry import CROP_CHIPS
from eoap_dask.applications.crop_chips.fields import FieldFile
from eoap_dask.applications.crop_chips.images import BACKGROUND, IGNORE, chip_images
from eoap_dask.applications.crop_chips.index import write_index
from eoap_dask.applications.crop_chips.layout import Layout, PlannedCell, class_areas, labels_of, lay_out, open_cells
from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.crop_chips.science import IGNORED, Chips, ClearestChips, Labels, total
from eoap_dask.applications.crop_chips.sheet import ChipPicture, class_balance, contact_sheet, spread, stretch
from eoap_dask.applications.crop_chips.splits import (
    ML_AOI,
    SPLITS,
    ChipPlace,
    assign_splits,
    check_splits,
    write_splits,
)
from eoap_dask.errors import BandError, NothingFoundError, UsageError
from eoap_dask.files import write_bytes
from eoap_dask.geo.crs import parse_crs
from eoap_dask.geo.window import grid_bounds
from eoap_dask.items.odd import nothing_left
from eoap_dask.items.search import Search
from eoap_dask.params import as_json, check_choices
from eoap_dask.periods import check_range, parse_day
from eoap_dask.render.headers import settle
from eoap_dask.render.images import ImageSpec
from eoap_dask.render.recipe import Cutout, Recipe
from eoap_dask.render.reflectance import shown_bands
from eoap_dask.render.stack import Stack
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.product import Output, collection_and_catalog, file_asset, image_asset, write_unit_item
from eoap_dask.run.raster import RasterWork, raster_of
from eoap_dask.run.summary import PASSES
from eoap_dask.run.unit import COUNTS, Unit
from eoap_dask.scenes.model import Contradictions, Pass, Scene, SceneIndex, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.scenes.sensor import Sensor, sensor_for
from eoap_dask.stac.catalog import described
from eoap_dask.stac.document import CLASSIFICATION, RASTER
from eoap_dask.stac.records import PARQUET, PNG, AssetRecord
from eoap_dask.text import must_be, option, plain, plural

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

CELL, CLASS_PIXELS, FIELDS = "eoap:cell", "eoap:class_pixels", "eoap:fields"
SPLIT = "ml-aoi:split"
SHEET_CHIPS = 24
"""Chips on the contact sheet, at most."""
_SHOWN = 5
_MOST_IN_NONE, _MOST_OFF = 0.25, 0.15
"""Shares of chips that are in no split, or beyond what was asked for, that aren't worth a word."""


@dataclass(frozen=True, kw_only=True)
class Request(BaseRequest):
    """What `CropChipsParams` say, checked without contacting anything."""

    params: CropChipsParams
    start: date
    end: date
    sensor: Sensor
    file: FieldFile
    cells: FieldFile | None
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
    bands = tuple(name for text in params.bands for name in text.replace(",", " ").split())
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
        file=FieldFile.open(params.fields or "", params.layer or None, params.class_attribute),
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
    if params.cells and params.cell_size is not None:
        raise UsageError(
            f"{option('cells')} can't be combined with {option('cell_size')}.", "Expected one of the two.", ""
        )
    shares = params.split
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(
            f"{option('split')} must be three shares that add up to 1, got {', '.join(f'{s:g}' for s in shares)}.",
            "They are for training, validation and test.",
            f"Try {option('split', CropChipsParams.split)}.",
        )


def find_items(request: Request) -> ItemSet:
    """Choose the chips, and search over them once; each cell takes its own of what is found."""
    layout = request.layout
    _say(request)
    request.check_chips()
    query = request.search.query(layout.aoi, request.start, request.end)
    many = None if query.max_items is None else query.max_items * len(layout.cells)
    found = request.search.find(dataclasses.replace(query, max_items=many))
    logger.info("{} found", plural(len(found), "item"))
    return found


def _say(request: Request) -> None:
    layout = request.layout
    chips = sum(1 for _ in layout.chips)
    logger.info("{} in {}: up to {}", plural(layout.fields, "field"), _cells(layout), plural(chips, "chip"))
    if layout.skipped:
        logger.warning("{}: {}", request.file.path.name, layout.skipped)
    if layout.unknown:
        logger.warning(
            "{} of {} in no class: {}. Their pixels are {}.",
            plural(sum(layout.unknown.values()), "field"),
            f"{plural(len(layout.unknown), 'crop')} {'is' if sum(layout.unknown.values()) == 1 else 'are'}",
            _some([f"{code} ({count})" for code, count in layout.unknown.items()]),
            request.params.other_class,
        )
    _say_splits(request)
    if layout.without:
        logger.warning(
            "{} no field of any class, and so no chips: {}.",
            plural(len(layout.without), "cell has", "cells have"),
            _some(layout.without),
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
        logger.warning(
            "Splits are {}, and {} of {} in none, because they touch others. Try {}, another {}, or more cells.",
            told,
            counts[""],
            plural(counts.total(), "chip"),
            option("overlap", False),
            option("split_block"),
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


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


def class_names(table: ClassTable) -> dict[int, str]:
    """Return the name of each value of a mask."""
    return {BACKGROUND.value: BACKGROUND.name, **{c.value: c.name for c in table.classes}, IGNORE.value: IGNORE.name}


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


def conclude(
    request: Request, root: Path, file: Callable[[str, str], Path], items: Sequence[Mapping[str, Any]]
) -> list[AssetRecord]:
    """Write splits, index and pictures of all chips; return them as assets of the collection."""
    chips: dict[str, dict[str, Any]] = {}
    for cell in items:
        for link in cell["links"]:
            if link["rel"] == "item":
                name = link["href"].removeprefix("./")
                chips[f"{cell['id']}/{name}"] = json.loads(file(cell["id"], name).read_text())
    own = {value: key for key, value in ML_AOI.items()}
    splits = {one["id"]: own.get(one["properties"].get(SPLIT, ""), "") for one in chips.values()}
    _check_kept(chips, splits, request.params.split_buffer)
    paths = {one["id"]: _path(home, one, "image") for home, one in chips.items()}
    found = [
        file_asset(
            "chips", write_index(root / "chips.parquet", chips, _all_classes(request)), "Chips", PARQUET, ("data",)
        )
    ]
    for path in write_splits(root, splits, paths):
        title = f"Images for {path.stem}"
        record = file_asset(f"split-{path.stem}", path, title, "text/plain", ("metadata",))
        found.append(dataclasses.replace(record, filename=path.relative_to(root).as_posix()))
    if not chips:
        return found
    sheet = contact_sheet(
        [_picture(request, file, home, chips[home], splits) for home in spread(sorted(chips), SHEET_CHIPS)],
        _all_classes(request),
        "Chips and masks",
        f"{plural(len(chips), 'chip')} of {plural(len(items), 'cell')}, {request.start} to {request.end}",
    )
    found.append(
        file_asset(
            "contact-sheet", write_bytes(root / "contact-sheet.png", sheet), "Chips and masks", PNG, ("overview",)
        )
    )
    balance = class_balance(
        _pixels(request, chips, splits),
        (BACKGROUND, *request.table.classes),
        "Balance of classes",
        plural(len(chips), "chip"),
        request.params.resolution**2 / 10_000,
    )
    path = write_bytes(root / "class-balance.png", balance)
    found.append(file_asset("class-balance", path, "Balance of classes", PNG, ("overview",)))
    return found


def _check_kept(chips: Mapping[str, Mapping[str, Any]], splits: Mapping[str, str], buffer_m: float) -> None:
    """Warn where chips of cells that an earlier run made touch some of this one's in another split."""
    places = [ChipPlace(one["id"], (0, 0), shapely.geometry.shape(one["geometry"])) for one in chips.values()]
    try:
        check_splits(places, splits, buffer_m)
    except ValueError as fault:
        logger.warning("Splits of cells that were kept don't fit to those of this run: {}", fault)


def _all_classes(request: Request) -> tuple[Any, ...]:
    return (BACKGROUND, *request.table.classes, IGNORE)


def _path(home: str, chip: Mapping[str, Any], asset: str) -> str:
    """Return the path of a chip's file, relative to the catalog."""
    href = chip["assets"][asset]["href"].removeprefix("./")
    return f"{home.rpartition('/')[0]}/{href}"


def _picture(
    request: Request,
    file: Callable[[str, str], Path],
    home: str,
    chip: Mapping[str, Any],
    splits: Mapping[str, str],
) -> ChipPicture:
    arrays = []
    for key in ("image", "mask"):
        unit, _, name = _path(home, chip, key).partition("/")
        with rasterio.open(file(unit, name)) as dataset:
            arrays.append(dataset.read())
    picks, _ = shown_bands(request.params.bands, request.sensor)
    rgb = stretch(arrays[0], picks if len(picks) == 3 else (picks[0],) * 3)
    valid = chip["properties"]["eoap:valid_percent"]
    return ChipPicture(chip["id"], rgb, arrays[1][0].astype(np.uint8), splits[chip["id"]], valid)


def _pixels(
    request: Request, chips: Mapping[str, Mapping[str, Any]], splits: Mapping[str, str]
) -> dict[str, dict[int, int]]:
    values = {name: value for value, name in class_names(request.table).items()}
    found: dict[str, Counter[int]] = {}
    for chip in chips.values():
        counts = {values[name]: n for name, n in chip["properties"][CLASS_PIXELS].items() if name in values}
        found.setdefault(splits[chip["id"]], Counter()).update(counts)
    return {split: dict(counts) for split, counts in found.items()}


def describe(request: Request, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the STAC collection and catalog of finished cells."""
    chips = sum(item["properties"][COUNTS]["chips"] for item in items)
    side = plain(request.params.resolution)
    collection, catalog = collection_and_catalog(
        NAME,
        items,
        title=f"Training chips of crops from {request.sensor.name}",
        description=f"{plural(chips, 'chip')} of {request.params.chip_size} pixels of {side} m: images of "
        f"{request.sensor.title}, and masks of the crops on the fields of {request.file.path.name}.",
        keywords=[request.sensor.constellation, "crops", "training data", "segmentation", "machine learning"],
        catalog_title=f"Training chips of crops, {request.start} to {request.end}",
    )
    collection |= {"item_assets": described(request.images)}
    collection["stac_extensions"] = sorted({*collection["stac_extensions"], CLASSIFICATION, RASTER})
    if request.params.class_attribute.startswith("EC_"):
        collection["providers"] = [*collection["providers"], EUROCROPS]
        collection["links"] = [*collection["links"], EUROCROPS_LICENSE]
    return collection, catalog


EUROCROPS = {
    "name": "EuroCrops",
    "description": "Field polygons with HCAT3 codes, CC BY-SA 4.0",
    "roles": ["producer", "licensor"],
    "url": "https://github.com/maja601/EuroCrops",
}
EUROCROPS_LICENSE = {
    "rel": "license",
    "href": "https://creativecommons.org/licenses/by-sa/4.0/",
    "type": "text/html",
    "title": "EuroCrops: CC BY-SA 4.0",
}


def figures(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many chips a cell has, and pixels of each class."""
    return dict(item["properties"][COUNTS])


def _places(layout: Layout) -> list[ChipPlace]:
    return [ChipPlace(chip.name, (cell.cell.row, cell.cell.col), chip.footprint) for cell, chip in layout.chips]


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
