"""Chips and masks as lazy xarray, for notebooks: the pixels that production would write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import DataNode, Task, TaskRef

from eoap_dask.applications.crop_chips.application import plan_chips
from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.crop_chips.request import understand
from eoap_dask.errors import UsageError
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.options import SearchParams
from eoap_dask.params import declarations
from eoap_dask.readers.choose import make_reader
from eoap_dask.render.block import render_cutout
from eoap_dask.run.raster import raster_of

if TYPE_CHECKING:
    import os

    from eoap_dask.render.recipe import Recipe


def chips(items: object, fields: str | os.PathLike[str], **changes: Any) -> xr.Dataset:
    """Return image chips and their masks, which nothing is read for until they are computed.

    Parameters
    ----------
    items
        An `ItemSet` from `search` or `ItemSet.load`; or items as `ItemSet.of` takes them. All of them count.
    fields
        Vector file of field polygons.
    **changes
        Fields of `CropChipsParams`, such as ``cell_size``, ``bands`` or ``seed``; but for those of a search.

    Returns
    -------
    xr.Dataset, lazy, a chunk for each chip
        ``image``, (chip, band, y, x), uint16, reflectance × 10000, 0 = nodata. ``mask``, (chip, y, x), uint8, 0 =
        background, 255 = ignored. Coordinates: ``chip``, names; ``band``; and of each chip ``cell``, ``split`` (empty
        for none), ``crs``, ``left`` and ``top`` (of its first pixel's corner, in units of its CRS). Chips with fewer
        pixels with data than ``min_valid`` are among them, which production leaves out.

    Raises
    ------
    UsageError, ItemError, HrefError
        before anything is read
    NothingFoundError
        when no cell has chips, or no item touches one
    AssetError
        when computed, where an asset can't be read
    """
    found = ItemSet.of(items)
    searched = {"fields", "start_date", "end_date", *declarations(SearchParams)} - {"on_odd_item"}
    offered = declarations(CropChipsParams).keys() - searched
    if wrong := sorted(changes.keys() - offered):
        raise UsageError(f"There is no parameter {wrong[0]!r}.", f"Expected one of {', '.join(sorted(offered))}.")
    known: dict[str, Any] = {"max_items": max(len(found), 1), "max_cloud_cover": 100.0}
    params = CropChipsParams(fields=fields, items=found, **known, **changes)  # type: ignore[arg-type]
    request = understand(params)
    request.check_chips()
    hosts = request.private_hosts
    plan = plan_chips(request, found, make_reader("auto", found.signer(hosts), private_hosts=hosts))
    recipes = [raster_of(one).recipe for one in plan.units]
    names = [cutout.name for recipe in recipes for cutout in recipe.cutouts or ()]
    cells = {chip.name: (cell, chip) for cell, chip in request.layout.chips}
    corners = np.array([cells[name][0].transform(cells[name][1]) for name in names])
    images, masks = _arrays(recipes, len(request.params.bands), params.chip_size)
    cube = xr.Dataset(
        {"image": (("chip", "band", "y", "x"), images), "mask": (("chip", "y", "x"), masks)},
        {
            "chip": names,
            "band": list(request.params.bands),
            "cell": ("chip", [cells[name][0].cell.name for name in names]),
            "split": ("chip", [request.splits[name] for name in names]),
            "crs": ("chip", [cells[name][0].crs for name in names]),
            "left": ("chip", corners[:, 2]),
            "top": ("chip", corners[:, 5]),
        },
        {"resolution": params.resolution},
    )
    cube["image"].attrs = {"long_name": "surface reflectance", "units": "1", "scale": 1e-4, "nodata": 0}
    cube["mask"].attrs = {
        "long_name": "class of crops",
        "flag_values": [one.value for one in request.images[1].bands[0].classes],
        "flag_meanings": " ".join(one.name for one in request.images[1].bands[0].classes),
    }
    return cube


def _arrays(recipes: list[Recipe], bands: int, side: int) -> tuple[da.Array, da.Array]:
    """Return (chip, band, y, x) and (chip, y, x), one task for the two of each chip."""
    token = tokenize(recipes)
    chip, images, masks = (f"{what}-{token}" for what in ("chip", "image", "mask"))
    layers: dict[str, dict[Any, Any]] = {chip: {}, images: {}, masks: {}}
    count = 0
    for number, recipe in enumerate(recipes):
        key = f"recipe-{token}-{number}"
        layers[chip][key] = DataNode(key, recipe)
        for cutout in range(len(recipe.cutouts or ())):
            whole, image, mask = (chip, count), (images, count, 0, 0, 0), (masks, count, 0, 0)
            layers[chip][whole] = Task(whole, render_cutout, TaskRef(key), cutout)
            layers[images][image] = Task(image, _image, TaskRef(whole))
            layers[masks][mask] = Task(mask, _mask, TaskRef(whole))
            count += 1
    graph = HighLevelGraph(layers, {chip: set(), images: {chip}, masks: {chip}})
    each = (1,) * count
    return (
        da.Array(graph, images, (each, (bands,), (side,), (side,)), dtype=np.uint16),
        da.Array(graph, masks, (each, (side,), (side,)), dtype=np.uint8),
    )


def _image(chip: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    return chip[0][None]


def _mask(chip: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    return chip[1]
