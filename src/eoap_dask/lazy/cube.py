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
from datetime import date
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
from eoap_dask.geo.aoi import Aoi, parse_aoi
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.options import AreaParams
from eoap_dask.geo.window import Window, grid_bounds
from eoap_dask.items.catalogues import PLANETARY_COMPUTER
from eoap_dask.items.find import find_items
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.query import Query
from eoap_dask.kernels.composites import COMPOSITES, count_valid
from eoap_dask.kernels.pixels import to_reflectance
from eoap_dask.lazy.loaders.planes import foreign_planes
from eoap_dask.lazy.nodata import encode_nan
from eoap_dask.net.hrefs import check_host_names, named_hosts
from eoap_dask.periods import check_range, parse_day, split_periods
from eoap_dask.readers.choose import make_reader
from eoap_dask.render.reading import StackReader
from eoap_dask.render.stack import Stack
from eoap_dask.scenes.model import footprint_touches, group_passes
from eoap_dask.scenes.parse import read_scenes
from eoap_dask.scenes.sensor import sensor_for

if TYPE_CHECKING:
    from collections.abc import Hashable

CHUNK = 1024


def search(
    aoi: Any,
    start: str | date,
    end: str | date,
    *,
    stac: str = PLANETARY_COMPUTER,
    collection: str = "sentinel-2-l2a",
    max_cloud_cover: float = 100.0,
    max_items: int = 1000,
    filter: str = "",  # noqa: A002 - the word of STAC
) -> ItemSet:
    """Search a STAC API, or another source of STAC items.

    Parameters
    ----------
    aoi
        As `eoap_dask.parse_aoi` takes it: bbox, GeoJSON, WKT, a file, or an `Aoi`.
    start, end
        First and last day, both inclusive.
    stac
        URL of an API; or URL or path of a static catalog, an item collection, ndjson or stac-geoparquet. The criteria
        mean the same for each.
    collection
        One collection.
    max_cloud_cover
        Only scenes with less cloud, in percent; 100 also keeps those without a value.
    max_items
        At most this many; the result's `truncated` says whether it was reached.
    filter
        Only scenes for which this is true, in CQL2 as text or JSON.

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
    first = start if isinstance(start, date) else parse_day(start)
    last = end if isinstance(end, date) else parse_day(end)
    check_range(first, last)
    area = aoi if isinstance(aoi, Aoi) else parse_aoi(aoi)
    return find_items(stac, Query(collection, area, first, last, max_cloud_cover, max_items, filter))


def load(
    items: ItemSet,
    bands: Sequence[str],
    *,
    geobox: GeoBox | None = None,
    aoi: Any = None,
    resolution: float = 100.0,
    crs: str = "auto",
    clip: bool = True,
    cloud_mask: Literal["scl", "none"] = "scl",
    also_mask: Sequence[Literal["water", "snow"]] = (),
    raw: bool = False,
    stac: str | None = None,
    allow_hosts: Sequence[str] = (),
    chunks: Mapping[str, int] | None = None,
    loader: Literal["eoap-dask", "stackstac", "odc-stac"] = "eoap-dask",
) -> xr.Dataset:
    """Put items on one grid, as a lazy Dataset with one time step per pass of the satellite.

    Parameters
    ----------
    items : ItemSet
        From `search`, or `ItemSet.load`.
    bands
        Common names or asset keys. A pixel counts only where all of them have data: ask for no more than needed.
    geobox : GeoBox, optional
        The grid, with rows and columns along the axes of its CRS. Without it the grid follows from `aoi`,
        `resolution` and `crs`, as in the applications.
    aoi
        The area, as `eoap_dask.parse_aoi` takes it; needed without `geobox`.
    resolution
        Side of a pixel in units of the CRS.
    crs
        ``auto`` is the UTM zone that holds most of the area.
    clip
        Leave nothing outside the shape of the area, or keep its bounding box.
    cloud_mask
        ``scl`` adds the variable ``cloud_mask``; ``none`` doesn't read the scene classification.
    also_mask
        ``water``, ``snow``: classes that ``cloud_mask`` drops as well.
    raw
        Return the stored numbers instead of reflectance.
    stac
        URL of the catalogue, for items from a file: on private networks, only hosts that it names are read from.
        Not needed for items from `search`.
    allow_hosts
        Further private hosts, by name or address, from which assets may be read.
    chunks
        Sides of the Dask chunks, ``{"time": …, "y": …, "x": …}``; by default all time steps and 1024 pixels. Time in
        one chunk suits composites; a chunk holds time × y × x × (bands + 1) × 2 bytes.
    loader
        ``eoap-dask``, our own readers; or `stackstac` or `odc-stac` for comparison, which place pixels to within an
        eighth of one. With these the nearest class decides on clouds at any resolution, signatures are made now and
        last for about an hour, and files must be GeoTIFF or JPEG 2000.

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
        when no item touches the grid
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
    if cloud_mask not in ("scl", "none"):
        raise UsageError(f"cloud_mask must be 'scl' or 'none', got {cloud_mask!r}.")
    if not set(also_mask) <= {"water", "snow"}:
        raise UsageError(f"also_mask must be 'water', 'snow', or both, got {list(also_mask)}.")
    bands = (bands,) if isinstance(bands, str) else tuple(bands)
    if not bands or len(set(bands)) < len(bands):
        raise BandError(f"bands must name at least one band, and each once, got {list(bands)}.")
    area = None
    if aoi is not None:
        area = Area.of(AreaParams(aoi=aoi, clip=clip, resolution=resolution, crs=crs), geobox)
        geobox = area.geobox
    assert geobox is not None  # noqa: S101 - for the type checker
    if geobox.transform.b or geobox.transform.d:
        raise GridError("The geobox is rotated or sheared.", "Expected rows and columns along the axes of its CRS.")
    name = crs_name(geobox)
    shape = None if area is None else area.shape
    sensor = sensor_for(items.collection)
    check_host_names(allow_hosts)
    hosts = items.private_hosts(stac) | named_hosts(allow_hosts)
    scenes = read_scenes(
        items.features,
        bands,
        sensor,
        cloud_mask=cloud_mask == "scl",
        private_hosts=hosts,
        local_files=items.local_files,
    )
    bounds = grid_bounds(geobox)
    passes = group_passes([s for s in scenes if footprint_touches(s.bands[0], name, bounds)])
    if not passes:
        raise NothingFoundError("No item touches the grid.", f"Expected items over {bounds} in {name}.")
    dropped = {*sensor.mask_dropped}
    dropped |= {
        *(sensor.mask_water if "water" in also_mask else ()),
        *(sensor.mask_snow if "snow" in also_mask else ()),
    }
    stack = Stack(
        geobox=geobox,
        passes=passes,
        bands=len(bands),
        dropped_classes=tuple(sorted(dropped)) if cloud_mask == "scl" else None,
        clip_wkb=None if shape is None else shapely.to_wkb(shape),
        reader=make_reader("auto", items.signer(hosts), private_hosts=hosts),
    )
    if loader == "eoap-dask":
        planes = _planes(stack, dict(chunks or {}))
    else:
        planes = foreign_planes(loader, stack, items.signer(hosts), dict(chunks or {}), CHUNK)
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
    if "cloud_mask" not in cube:
        raise UsageError("The dataset has no cloud_mask.", "Expected one from load(cloud_mask='scl').")
    bad = cube["cloud_mask"]
    rest = cube.drop_vars("cloud_mask")
    clear = rest.map(lambda a: a.where(~bad, np.nan if a.dtype.kind == "f" else a.dtype.type(0)), keep_attrs=True)
    return _encoded(clear)


def composite(cube: xr.Dataset, *, period: str = "monthly", method: str = "median") -> xr.Dataset:
    """Compose the observations of each period into one.

    Parameters
    ----------
    cube : xr.Dataset, (time, y, x)
        From `load`, usually after `mask_clouds`; reflectance or raw. A remaining ``cloud_mask`` is dropped, not
        applied.
    period
        ``monthly``.
    method
        ``median`` of the valid observations; an even number averages the two middle ones, and half a unit of
        1/10000 rounds up.

    Returns
    -------
    xr.Dataset, (time, y, x), lazy if the input is
        Per band the composite, of the input's dtype, grid and nodata, also for ``.odc`` and ``.rio``; ``count``,
        uint16, observations of the first band, without nodata. ``time`` is the first day of the period. Periods
        without an observation are left out.

    Raises
    ------
    UsageError
        when period or method isn't known; when computed, where a value isn't a reflectance from 0 to 6.5535
    """
    if method not in COMPOSITES:
        raise UsageError(f"There is no composite {method!r}.", f"Expected {' or '.join(COMPOSITES)}.")
    cube = cube.drop_vars("cloud_mask", errors="ignore")
    times = cube["time"].to_index()
    found = []
    for one in split_periods(times.min().date(), times.max().date(), period):
        steps = [i for i, t in enumerate(times) if t.date() in one]
        if not steps:
            continue
        part = cube.isel(time=steps).chunk(time=-1) if cube.chunks else cube.isel(time=steps)
        layers = {str(k): _reduce(v, COMPOSITES[method].kernel) for k, v in part.data_vars.items()}
        layers["count"] = _reduce(next(iter(part.data_vars.values())), count_valid, counts=True)
        month = xr.Dataset(layers, {k: v for k, v in part.coords.items() if "time" not in v.dims})
        found.append(month.expand_dims(time=[np.datetime64(one.start.replace(day=1), "ns")]))
    return _encoded(xr.concat(found, "time", data_vars="all", coords="minimal", compat="override", join="override"))


def _encoded(cube: xr.Dataset) -> xr.Dataset:
    for array in cube.data_vars.values():
        encode_nan(array)
    return cube


def _reduce(array: xr.DataArray, kernel: Any, *, counts: bool = False) -> xr.DataArray:
    floating = array.dtype.kind == "f"

    def on_block(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        stack = np.ascontiguousarray(np.moveaxis(block, -1, 0))
        if floating:
            stack = _to_stored(stack)
        out = kernel(stack)
        return to_reflectance(out) if floating and not counts else out

    out: xr.DataArray = xr.apply_ufunc(
        on_block,
        array,
        input_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.uint16 if counts else array.dtype],
        keep_attrs=not counts,
    )
    return out


def _planes(stack: Stack, chunks: dict[str, int]) -> da.Array:
    """Return (band + 1, time, y, x) uint16, one task per chunk; the last plane is 1 where a class is dropped."""
    height, width = int(stack.geobox.shape[0]), int(stack.geobox.shape[1])
    shape = (stack.bands + 1, len(stack.passes), height, width)
    sides = da.core.normalize_chunks(
        (-1, chunks.get("time", -1), chunks.get("y", CHUNK), chunks.get("x", CHUNK)), shape, dtype=np.uint16
    )
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


def _to_stored(reflectance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # exact: a float32 holds every uint16 × 1e-4 to better than half a unit
    stored = np.rint(reflectance * np.float32(10000))
    if (stored < 0).any() or (stored > 65535).any():
        raise UsageError(
            f"A composite can't be made of values from {np.fmin.reduce(reflectance, None):g} "
            f"to {np.fmax.reduce(reflectance, None):g}.",
            "Expected surface reflectance from 0 to 6.5535, as load() returns it.",
            "Make the composite first, and the index from it.",
        )
    return np.where(np.isnan(stored), 0, np.maximum(stored, 1)).astype(np.uint16)
