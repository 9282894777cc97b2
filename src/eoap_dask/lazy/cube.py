"""The lazy interface: xarray in, xarray out, with the kernels and the readers of the applications.

``search → load → mask_clouds → composite``; nothing is computed until the result is.

Examples
--------
With the URL of a STAC API in `stac` and an area in `aoi`:

>>> items = search(aoi, "2020-10-01", "2020-10-31", stac=stac)
>>> cube = load(items, ["nir", "red"], aoi=aoi, resolution=100)
>>> month = composite(mask_clouds(cube))
>>> ndvi = (month.nir - month.red) / (month.nir + month.red)
>>> ndvi.dims, str(ndvi.dtype), ndvi.odc.geobox == cube.odc.geobox
(('time', 'y', 'x'), 'float32', True)
>>> bool(ndvi.isnull().where(month["count"] > 0).any())
False
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import dask.array as da
import numpy as np
import shapely
import xarray as xr
from dask._task_spec import DataNode, Task, TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from eoap_dask.errors import BandError, GridError, NothingFoundError, UsageError
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.options import AreaParams, as_crs, as_resolution
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.window import Window, grid_bounds
from eoap_dask.items.catalogues import PLANETARY_COMPUTER
from eoap_dask.items.find import find_items
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.options import as_filter, as_source
from eoap_dask.items.query import Query
from eoap_dask.kernels.mask import parse_classes
from eoap_dask.kernels.pixels import to_reflectance
from eoap_dask.lazy.checks import check_cube
from eoap_dask.lazy.loaders.planes import foreign_planes
from eoap_dask.lazy.nodata import encode_all, encode_nan
from eoap_dask.lazy.odd import warn_of_corrected, warn_of_lowest, warn_of_odd
from eoap_dask.net.hrefs import check_host_names, named_hosts
from eoap_dask.periods import check_range, parse_day
from eoap_dask.readers.choose import make_reader
from eoap_dask.render.headers import settle
from eoap_dask.render.reading import StackReader
from eoap_dask.render.stack import Stack
from eoap_dask.scenes.model import footprint_touches, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.scenes.sensor import sensor_for
from eoap_dask.text import must_be, option, show
from eoap_dask.values import as_choice, as_codes, as_flag, as_integer, as_list, as_number, as_text

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

CHUNK = 1024


def search(
    aoi: Any,
    start: Any,
    end: Any,
    *,
    stac: str | Path | ItemSet = PLANETARY_COMPUTER,
    collection: str = "sentinel-2-l2a",
    max_cloud_cover: float = 100.0,
    max_items: int | None = 1000,
    filter: str | Mapping[str, Any] = "",  # noqa: A002 - the word of STAC
) -> ItemSet:
    """Search a STAC API, or another source of STAC items.

    Parameters
    ----------
    aoi
        As `eoap_dask.parse_aoi` takes it: bbox, GeoJSON, WKT, a file, or an `Aoi`.
    start, end
        First and last day, both inclusive: YYYY-MM-DD, or a `date`. Of a time (`datetime`, numpy, pandas), the day on
        which it falls in UTC.
    stac
        URL of an API; or URL or path of a static catalog, an item collection, ndjson or stac-geoparquet; or items as
        `ItemSet.of` takes them. The criteria mean the same for each.
    collection
        One collection.
    max_cloud_cover
        Only scenes with less cloud, in percent; 100 also keeps those without a value.
    max_items
        At most this many, or None for all; the result's `truncated` says whether it was reached.
    filter
        Only scenes for which this is true, in CQL2 as text, JSON or a dict.

    Returns
    -------
    ItemSet
        Unsigned items; may be empty. Save it with `ItemSet.save` to use it again.

    Raises
    ------
    UsageError
        when area, dates or filter make no sense, a file can't be read, or the catalogue lacks the collection
    SearchError
        when the catalogue can't be searched
    """
    first, last = parse_day(start, "start"), parse_day(end, "end")
    check_range(first, last)
    query = Query(
        as_text(collection, "collection", "sentinel-2-l2a"),
        parse_aoi(aoi),
        first,
        last,
        as_number(max_cloud_cover, "max_cloud_cover", 20),
        None if max_items is None else as_integer(max_items, "max_items", 1000),
        as_filter(filter, "filter"),
    )
    return find_items(as_source(stac, "stac"), query)


def load(
    items: Any,
    bands: str | Sequence[str],
    *,
    geobox: GeoBox | None = None,
    aoi: Any = None,
    resolution: float | tuple[float, float] = 100.0,
    crs: Any = "auto",
    clip: bool = True,
    cloud_mask: Literal["scl", "none"] = "scl",
    also_mask: Sequence[Literal["water", "snow"]] = (),
    mask_classes: Sequence[int] | None = None,
    raw: bool = False,
    stac: str | None = None,
    allow_hosts: Sequence[str] = (),
    chunks: Mapping[str, Any] | Literal["auto"] | None = None,
    loader: Literal["eoap-dask", "stackstac", "odc-stac"] = "eoap-dask",
    on_odd_item: Literal["skip", "fail"] = "skip",
) -> xr.Dataset:
    """Put items on one grid, as a lazy Dataset with one time step per pass of the satellite.

    Parameters
    ----------
    items
        An `ItemSet` from `search` or `ItemSet.load`; or items as `ItemSet.of` takes them: of pystac, or dicts.
    bands
        Common names or asset keys. A pixel counts only where all of them have data: ask for no more than needed.
    geobox : GeoBox, optional
        The grid, with rows and columns along the axes of its CRS. Without it the grid follows from `aoi`,
        `resolution` and `crs`, as in the applications.
    aoi
        The area, as `eoap_dask.parse_aoi` takes it; needed without `geobox`.
    resolution
        Side of a pixel in units of the CRS; or two of one size, such as ``(10, -10)``.
    crs
        ``auto`` is the UTM zone that holds most of the area; or a code, WKT, or a CRS of pyproj, odc-geo or rasterio.
    clip
        Leave nothing outside the shape of the area, or keep its bounding box.
    cloud_mask
        ``scl`` adds the variable ``cloud_mask``; ``none`` doesn't read the scene classification.
    also_mask
        ``water``, ``snow``: classes that ``cloud_mask`` drops as well.
    mask_classes
        Codes of the scene classification that ``cloud_mask`` drops instead of the sensor's, such as ``[3, 8, 9, 10]``.
    raw
        Return the stored numbers instead of reflectance.
    stac
        URL of the catalogue, for items from a file: on private networks, only hosts that it names are read from.
        Not needed for items from `search`.
    allow_hosts
        Further private hosts, by name or address, from which assets may be read.
    chunks
        Sides of the Dask chunks, ``{"time": …, "y": …, "x": …}``, -1 for the whole; where left out or ``"auto"`` all
        time steps and 1024 pixels. Time in one chunk suits composites; a chunk holds time × y × x × (bands + 1) × 2
        bytes.
    loader
        ``eoap-dask``, our own readers; or `stackstac` or `odc-stac` for comparison, which place pixels to within an
        eighth of one. With these the nearest class decides on clouds at any resolution, signatures are made now and
        last for about an hour, and files must be GeoTIFF or JPEG 2000.
    on_odd_item
        ``skip`` leaves out items that lack what is needed (a time, a band, a projection, a baseline or an offset) and
        names them in a warning; ``fail`` raises for the first one.

    Returns
    -------
    xr.Dataset, (time, y, x), lazy
        Per band float32 surface reflectance, NaN = no data; with `raw` uint16, reflectance × 10000, 0 = no data.
        ``cloud_mask``: bool, True where the scene classification says that the ground isn't seen (saturated, shadow,
        cloud, cirrus). Coordinates ``time`` (start of the pass, UTC), ``y``, ``x`` and ``spatial_ref``. Clouds are
        not masked yet: see `mask_clouds`.

    Raises
    ------
    UsageError, ItemError, HrefError
        before anything is read
    NothingFoundError
        when there are no items, none touches the grid, or none is left
    AssetError
        when computed, where an asset can't be read

    Notes
    -----
    ``.odc`` and ``.rio`` know the grid and nodata of each variable. That NaN is nodata stands in the encoding of float
    bands, which xarray drops in arithmetic; ``.rio.write_nodata(np.nan, encoded=True)`` says it again. Raw bands have
    the attributes ``nodata``, 0, and ``scale``, 0.0001 (reflectance = number × scale), which xarray doesn't apply, so
    that ``to_zarr`` and ``open_zarr`` give back what was written.
    """
    if geobox is None and aoi is None:
        raise GridError(
            "Neither a geobox nor an area was given.",
            "Expected one of them.",
            "Try aoi='12.1,41.8,12.6,42.1'.",
        )
    if geobox is not None and not isinstance(geobox, GeoBox):
        raise GridError(
            f"{option('geobox')} must be a GeoBox of odc-geo, got {show(geobox)}.",
            "",
            "Try geobox=cube.odc.geobox, or an aoi.",
        )
    cloud_mask = as_choice(cloud_mask, "cloud_mask", ("scl", "none"))  # type: ignore[assignment]
    loader = as_text(loader, "loader", "eoap-dask")  # type: ignore[assignment]
    raw = as_flag(raw, "raw")
    stac = None if stac is None else as_text(stac, "stac", PLANETARY_COMPUTER)
    classes = ("water", "snow")
    listed: object = [also_mask] if isinstance(also_mask, str) else also_mask
    also = as_list(listed, "also_mask", list(classes), lambda one: as_choice(one, "also_mask", classes))
    codes = "" if mask_classes is None else as_codes(mask_classes, "mask_classes")
    bands = as_list(
        [bands] if isinstance(bands, str) else bands, "bands", ["red"], lambda one: as_text(one, "bands", ["red"])
    )
    on_odd_item = as_choice(on_odd_item, "on_odd_item", ("skip", "fail"))  # type: ignore[assignment]
    if not bands or len(set(bands)) < len(bands):
        raise BandError(f"bands must name at least one band, and each once, got {list(bands)}.")
    asked = AreaParams(aoi=aoi, clip=clip, resolution=as_resolution(resolution, "resolution"), crs=as_crs(crs, "crs"))
    sides = _sides(chunks)
    items = ItemSet.of(items)
    if not len(items):
        raise NothingFoundError("There are no items.", "Expected one or more.", "Try other dates or a larger area.")
    area = None
    if aoi is not None:
        area = Area.of(asked, geobox)
        geobox = area.geobox
    assert geobox is not None  # noqa: S101 - for the type checker
    if not min(geobox.shape):
        raise GridError("The geobox has no pixels.", "Expected one or more along each side.")
    if geobox.transform.b or geobox.transform.d:
        raise GridError("The geobox is rotated or sheared.", "Expected rows and columns along the axes of its CRS.")
    name = crs_name(geobox)
    shape = None if area is None else area.shape
    sensor = sensor_for(items.collection)
    check_host_names(allow_hosts)
    hosts = items.private_hosts(stac) | named_hosts(allow_hosts)
    scenes, odd = usable_scenes(
        items.features,
        bands,
        sensor,
        cloud_mask=cloud_mask == "scl",
        private_hosts=hosts,
        local_files=items.local_files,
        on_odd_item=on_odd_item,
    )
    warn_of_odd(items, odd, on_odd_item, some=bool(scenes))
    reader = make_reader("auto", items.signer(hosts), private_hosts=hosts)
    scenes, found = settle(items.features, scenes, reader, geobox)
    warn_of_corrected(found)
    bounds = grid_bounds(geobox)
    passes = group_passes([s for s in scenes if footprint_touches(s.bands[0], name, bounds)])
    if not passes:
        raise NothingFoundError("No item touches the grid.", f"Expected items over {bounds} in {name}.")
    dropped = {*parse_classes(codes, "mask_classes")} if codes else {*sensor.mask_dropped}
    dropped |= {
        *(sensor.mask_water if "water" in also else ()),
        *(sensor.mask_snow if "snow" in also else ()),
    }
    stack = Stack(
        geobox=geobox,
        passes=passes,
        bands=len(bands),
        dropped_classes=tuple(sorted(dropped)) if cloud_mask == "scl" else None,
        clip_wkb=None if shape is None else shapely.to_wkb(shape),
        reader=reader,
    )
    if loader == "eoap-dask":
        planes = _planes(stack, sides)
    else:
        planes = foreign_planes(loader, stack, items.signer(hosts), sides, CHUNK)
    data: dict[Hashable, Any] = {band: (("time", "y", "x"), planes[i]) for i, band in enumerate(bands)}
    if cloud_mask == "scl":
        data["cloud_mask"] = (("time", "y", "x"), planes[len(bands)].astype(bool))
    coords = _coordinates(geobox, passes)
    cube = xr.Dataset(data, coords)
    for band in bands:
        cube[band].attrs = {"long_name": "surface reflectance", "units": "1"}
        if raw:
            # not scale_factor and _FillValue: opening a file of it, xarray would make floats of the numbers
            cube[band].attrs |= {"scale": 1e-4, "nodata": 0}
        else:
            cube[band] = encode_nan(_reflectance(cube[band]))
    return cube


def mask_clouds(cube: xr.Dataset) -> xr.Dataset:
    """Mask the pixels that the scene classification doesn't count as a view of the ground.

    Parameters
    ----------
    cube : xr.Dataset
        From `load`, with ``cloud_mask``.

    Returns
    -------
    xr.Dataset, same dims, dtypes and chunks, lazy if the input is
        NaN (float) or 0 (raw), its nodata, where ``cloud_mask`` is True; without ``cloud_mask``.

    Raises
    ------
    UsageError
        when there is no ``cloud_mask``
    """
    check_cube(cube)
    if "cloud_mask" not in cube:
        raise UsageError("The dataset has no cloud_mask.", "Expected one from load(cloud_mask='scl').")
    if cube["cloud_mask"].dtype != bool:
        raise UsageError(
            f"cloud_mask has the dtype {cube['cloud_mask'].dtype}.",
            "Expected bool, as load() has it.",
            "Try cube.assign(cloud_mask=cube.cloud_mask.astype(bool)).",
        )
    bad = cube["cloud_mask"]
    rest = cube.drop_vars("cloud_mask")
    clear = rest.map(lambda a: a.where(~bad, np.nan if a.dtype.kind == "f" else a.dtype.type(0)), keep_attrs=True)
    return encode_all(clear)


def _sides(chunks: object) -> dict[str, Any]:
    """Return the sides of chunks that were asked for, by dimension, or raise `UsageError`."""
    if chunks is None or (isinstance(chunks, str) and chunks == "auto"):
        return {}
    if not isinstance(chunks, Mapping):
        raise must_be("chunks", "sides by dimension, or 'auto'", chunks, {"y": CHUNK, "x": CHUNK})
    found: dict[str, Any] = {}
    for dim, side in chunks.items():
        if dim not in ("time", "y", "x"):
            raise UsageError(
                f"{option('chunks')} names {show(dim)}, which isn't a dimension.",
                "Expected time, y or x.",
                f"Try {option('chunks', {'time': -1, 'y': CHUNK, 'x': CHUNK})}.",
            )
        if isinstance(side, str) and side == "auto":
            continue
        name = f"chunks[{dim!r}]"
        parts = as_list(side if isinstance(side, tuple | list) else [side], name, CHUNK, partial(_side, name=name))
        found[dim] = parts if isinstance(side, tuple | list) else parts[0]
    return found


def _side(side: object, *, name: str) -> int:
    """Return the side of a chunk; -1 for the whole, which is None too."""
    whole = -1 if side is None else as_integer(side, name, CHUNK)
    if whole != -1 and whole < 1:
        raise must_be(name, "1 or more, or -1", whole, CHUNK)
    return whole


def _planes(stack: Stack, chunks: dict[str, int]) -> da.Array:
    """Return (band + 1, time, y, x) uint16, one task per chunk; the last plane is 1 where a class is dropped."""
    height, width = int(stack.geobox.shape[0]), int(stack.geobox.shape[1])
    shape = (stack.bands + 1, len(stack.passes), height, width)
    try:
        sides = da.core.normalize_chunks(
            (-1, chunks.get("time", -1), chunks.get("y", CHUNK), chunks.get("x", CHUNK)), shape, dtype=np.uint16
        )
    except ValueError:
        raise UsageError(
            f"{option('chunks')} don't add up to the cube: it has {shape[1]} time steps and {height} × {width} pixels.",
            "Expected one side for each dimension, or sides that add up to it.",
        ) from None
    starts = [np.concatenate([[0], np.cumsum(side)]) for side in sides]
    token = tokenize(stack, sides)
    recipe, name = f"stack-{token}", f"load-{token}"
    layer: dict[Any, Any] = {recipe: DataNode(recipe, stack)}
    for t in range(len(sides[1])):
        for y in range(len(sides[2])):
            for x in range(len(sides[3])):
                window = Window(int(starts[2][y]), int(starts[2][y + 1]), int(starts[3][x]), int(starts[3][x + 1]))
                key = (name, 0, t, y, x)
                layer[key] = Task(key, _read_chunk, TaskRef(recipe), int(starts[1][t]), int(starts[1][t + 1]), window)
    graph = HighLevelGraph.from_collections(name, layer)
    return da.Array(graph, name, sides, dtype=np.uint16)


def _read_chunk(stack: Stack, first: int, last: int, window: Window) -> np.ndarray[Any, np.dtype[np.uint16]]:
    out = np.zeros((stack.bands + 1, last - first, *window.shape), np.uint16)
    part = Stack(
        stack.geobox,
        stack.passes[first:last],
        stack.bands,
        stack.dropped_classes,
        stack.clip_wkb,
        stack.reader,
    )
    with StackReader(part, window) as reader:
        numbers = [number for number, _ in reader.passes]
        if numbers:
            layers = np.empty((stack.bands, len(numbers), *window.shape), np.uint16)
            dropped = np.empty((len(numbers), *window.shape), bool)
            reader.read(window, layers, dropped)
            out[: stack.bands, numbers] = layers
            out[stack.bands, numbers] = dropped
            warn_of_lowest(reader.passes, layers, dropped)
    return out


def _coordinates(geobox: GeoBox, passes: Sequence[Any]) -> dict[str, Any]:
    found: Mapping[Any, Any] = xr_coords(geobox, dims=("y", "x"))
    times = np.array([p.datetime.replace(tzinfo=None) for p in passes], "datetime64[ns]")
    return {"time": ("time", times), **found}


def _reflectance(array: xr.DataArray) -> xr.DataArray:
    out: xr.DataArray = xr.apply_ufunc(
        to_reflectance, array, dask="parallelized", output_dtypes=[np.float32], keep_attrs=True
    )
    return out
