"""Other loaders for `load`: stackstac and odc-stac, on our grid and with our rules for pixels.

They read with GDAL's warper, which places pixels to within an eighth of one, where our own readers are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from eoap_dask.errors import GridError, UsageError
from eoap_dask.geo.crs import project_bounds
from eoap_dask.geo.rasterize import rasterize_window
from eoap_dask.geo.window import Window, grid_bounds
from eoap_dask.kernels.mask import dropped_nearest
from eoap_dask.kernels.pixels import fill_layer, to_stored
from eoap_dask.scenes.model import source_bounds
from eoap_dask.text import option

if TYPE_CHECKING:
    from eoap_dask.net.signing import Signer
    from eoap_dask.render.stack import Stack
    from eoap_dask.scenes.model import Scene, Source

LOADERS = ("stackstac", "odc-stac")

_MASK = "mask"
_WORLD = (-180.0, -90.0, 180.0, 90.0)
_ENVIRONMENT = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "3", "GDAL_HTTP_RETRY_DELAY": "0.5"}


def foreign_planes(
    loader: str, stack: Stack, signer: Signer, chunks: Mapping[str, int], default_chunk: int
) -> da.Array:
    """Return the layers of a stack, (band + 1, time, y, x), uint16, lazy, as another loader reads them.

    All assets are signed now. The last plane is 1 where the nearest class is dropped. Raises UsageError without such a
    loader, and GridError for grids that it doesn't support.
    """
    if loader not in LOADERS:
        raise UsageError(f"There is no loader {loader!r}.", f"Expected eoap-dask, {' or '.join(LOADERS)}.")
    if any(isinstance(side, tuple) for side in chunks.values()):
        raise UsageError(
            f"{option('chunks')} of unequal sides aren't supported by {loader}.",
            "Expected one side for each dimension.",
            "Try loader='eoap-dask'.",
        )
    read = _with_stackstac if loader == "stackstac" else _with_odc_stac
    scenes = [scene for one in stack.passes for scene in one.scenes]
    names = [*(f"band{number}" for number in range(stack.bands)), *([_MASK] if _masked(stack) else [])]
    sides = {"y": chunks.get("y", default_chunk), "x": chunks.get("x", default_chunk)}
    pixels = read(stack, [_item(n, scene, signer, names) for n, scene in enumerate(scenes)], names, sides)
    pixels = pixels.rechunk({0: -1, 1: 1})
    outside = _outside(stack, pixels)
    layers, first = [], 0
    for one in stack.passes:
        part = pixels[:, first : first + len(one.scenes)].rechunk({1: -1})
        first += len(one.scenes)
        layers.append(
            da.map_blocks(
                _one_pass,
                part,
                *([] if outside is None else [outside[None, None]]),
                scenes=one.scenes,
                table=stack.class_table if _masked(stack) else None,
                chunks=((stack.bands + 1,), (1,), *part.chunks[2:]),
                dtype=np.uint16,
                meta=np.empty((0, 0, 0, 0), np.uint16),
            )
        )
    planes: da.Array = da.concatenate(layers, axis=1).rechunk({1: chunks.get("time", -1)})
    return planes


def _masked(stack: Stack) -> bool:
    return stack.dropped_classes is not None and all(s.mask is not None for p in stack.passes for s in p.scenes)


def _one_pass(
    pixels: npt.NDArray[np.uint16],
    outside: npt.NDArray[np.bool_] | None = None,
    *,
    scenes: Sequence[Scene],
    table: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.uint16]:
    """Make one layer, (band + 1, 1, y, x), of the scenes of a pass, (band [+ mask], scene, y, x)."""
    bands = len(scenes[0].bands)
    shape = pixels.shape[2:]
    out = np.zeros((bands + 1, 1, *shape), np.uint16)
    dropped = np.zeros(shape, bool)
    for number, scene in enumerate(scenes):
        values = pixels[:bands, number].copy()
        for band, source in enumerate(scene.bands):
            to_stored(values[band], source.offset, source.nodata)
        bad = None if table is None else dropped_nearest(pixels[bands, number].astype(np.uint8), table)
        fill_layer(out[:bands, 0], dropped, values, bad, number == 0)
    if outside is not None:
        out[:bands, :, outside[0, 0]] = 0
    out[bands, 0] = dropped
    return out


def _outside(stack: Stack, pixels: da.Array) -> da.Array | None:
    """Return which pixels lie outside the area, (y, x); None where the area is the whole grid."""
    if stack.clip is None:
        return None

    def paint(block_info: Any = None) -> npt.NDArray[np.bool_]:
        (top, bottom), (left, right) = block_info[None]["array-location"]
        inside = rasterize_window(stack.clip, stack.geobox, Window(top, bottom, left, right))
        return np.zeros((bottom - top, right - left), bool) if inside is None else ~inside

    painted: da.Array = da.map_blocks(paint, chunks=pixels.chunks[2:], dtype=bool, meta=np.empty((0, 0), bool))
    return painted


def _item(number: int, scene: Scene, signer: Signer, names: Sequence[str]) -> dict[str, Any]:
    """Return a STAC item with only what a loader needs of a scene."""
    sources = dict(zip(names, (*scene.bands, scene.mask), strict=False))
    if later := [source for source in scene.bands if source.band > 1]:
        raise GridError(
            f"The band is number {later[0].band} of the asset {later[0].asset!r} of item {scene.id!r}.",
            "stackstac and odc-stac read the first of a file.",
            "Try loader='eoap-dask'.",
        )
    first = scene.bands[0]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": f"{number:06d}",
        "geometry": None,
        "bbox": list(project_bounds(source_bounds(first), first.crs, "EPSG:4326") or _WORLD),
        "links": [],
        "collection": "scenes",
        "properties": {"datetime": scene.datetime.isoformat().replace("+00:00", "Z"), **_projection(first)},
        "assets": {
            name: {"href": signer.sign(source.href), "type": "image/tiff", "roles": ["data"], **_place(source)}
            for name, source in sources.items()
            if source is not None
        },
    }


def _projection(source: Source) -> dict[str, Any]:
    authority, _, code = source.crs.partition(":")
    if authority != "EPSG" or not code.isdecimal():
        raise GridError(
            "An item's grid has a CRS without an EPSG code.",
            "stackstac and odc-stac need one.",
            "Try loader='eoap-dask'.",
        )
    return {"proj:epsg": int(code)}


def _place(source: Source) -> dict[str, Any]:
    return {**_projection(source), "proj:shape": list(source.shape), "proj:transform": [*source.transform, 0, 0, 1]}


def _with_stackstac(
    stack: Stack, items: list[dict[str, Any]], names: Sequence[str], sides: Mapping[str, int]
) -> da.Array:
    import stackstac
    from stackstac.rio_reader import DEFAULT_GDAL_ENV

    from eoap_dask.lazy.loaders.by_stackstac import GuardedReader

    a, _, _, _, e, _ = tuple(stack.geobox.transform)[:6]
    if not stack.crs.startswith("EPSG:") or e > 0 or a < 0:
        raise GridError(
            "stackstac doesn't support this grid.",
            "Expected a CRS with an EPSG code, and north up.",
            "Try loader='eoap-dask'.",
        )
    array = stackstac.stack(
        items,
        assets=list(names),
        epsg=int(stack.crs.removeprefix("EPSG:")),
        resolution=(a, -e),
        bounds=grid_bounds(stack.geobox),
        snap_bounds=False,
        chunksize=(1, 1, sides["y"], sides["x"]),
        dtype=np.dtype(np.uint16),
        fill_value=np.uint16(0),
        rescale=False,
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        gdal_env=DEFAULT_GDAL_ENV.updated(always=_ENVIRONMENT),
        reader=GuardedReader,
        errors_as_nodata=(),  # an asset that is missing fails
    )
    pixels: da.Array = array.data.transpose(1, 0, 2, 3)
    return pixels


def _with_odc_stac(
    stack: Stack, items: list[dict[str, Any]], names: Sequence[str], sides: Mapping[str, int]
) -> da.Array:
    try:
        import odc.stac
    except ImportError:
        raise UsageError(
            "odc-stac isn't installed.", "It is an extra of eoap-dask.", "Try pip install 'eoap-dask[odc]'."
        ) from None
    import pystac

    from eoap_dask.lazy.loaders.by_odc import GuardedDriver

    cube = odc.stac.load(
        [pystac.Item.from_dict(item) for item in items],
        bands=list(names),
        geobox=stack.geobox,
        chunks={"time": 1, **sides},
        groupby="id",
        dtype="uint16",
        resampling="nearest",
        preserve_original_order=True,
        fail_on_error=True,
        driver=GuardedDriver(),
        stac_cfg={"*": {"assets": {"*": {"data_type": "uint16", "nodata": 0}}}},
    )
    pixels: da.Array = da.stack([cube[name].data for name in names])
    return pixels
