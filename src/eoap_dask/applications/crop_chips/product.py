"""The product as a whole, once all cells are made: splits, index and pictures of their chips, and the collection."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from loguru import logger

from eoap_dask.applications.crop_chips.entry import CROP_CHIPS
from eoap_dask.applications.crop_chips.images import BACKGROUND, IGNORE
from eoap_dask.applications.crop_chips.index import write_index
from eoap_dask.applications.crop_chips.sheet import ChipPicture, class_balance, contact_sheet, spread, stretch
from eoap_dask.applications.crop_chips.splits import ML_AOI, ChipPlace, check_splits, write_splits
from eoap_dask.files import write_bytes
from eoap_dask.render.reflectance import shown_bands
from eoap_dask.run.product import collection_and_catalog, file_asset
from eoap_dask.run.unit import COUNTS
from eoap_dask.stac.catalog import described
from eoap_dask.stac.document import CLASSIFICATION, RASTER
from eoap_dask.stac.records import PARQUET, PNG, AssetRecord
from eoap_dask.text import option, plain, plural

if TYPE_CHECKING:
    from eoap_dask.applications.crop_chips.classes import ClassTable
    from eoap_dask.applications.crop_chips.request import Request

CLASS_PIXELS, SPLIT = "eoap:class_pixels", "ml-aoi:split"
"""Properties of the items of chips."""
SHEET_CHIPS = 24
"""Chips on the contact sheet, at most."""


def class_names(table: ClassTable) -> dict[int, str]:
    """Return the name of each value of a mask."""
    return {BACKGROUND.value: BACKGROUND.name, **{c.value: c.name for c in table.classes}, IGNORE.value: IGNORE.name}


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
        left_out = sum(cell["properties"][COUNTS]["chips_left_out"] for cell in items)
        logger.warning(
            "No chip was written: {} data in less than {} of the pixels. Try a smaller {}, or other dates.",
            plural(left_out, "chip has", "chips have"),
            f"{request.params.min_valid:.0%}",
            option("min_valid"),
        )
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
        CROP_CHIPS.name,
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
