"""Change between two images as lazy xarray: what the application maps, for people who want to look further.

Examples
--------
>>> import numpy as np
>>> import xarray as xr
>>> ground = np.random.default_rng(0).normal(0.2, 0.01, (2, 64, 64))
>>> later = ground + np.random.default_rng(1).normal(0, 0.005, ground.shape)
>>> later[:, 20:40, 20:40] += 0.15
>>> dates = [xr.Dataset({b: (("y", "x"), one) for b, one in zip(["red", "nir"], date)}) for date in (ground, later)]
>>> found = cva(*dates)
>>> int((found.change == 2).sum()), bool((found.change[20:40, 20:40] == 2).all())
(400, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import is_dask_collection
from dask.delayed import Delayed, delayed

from eoap_dask.applications.change_detection.methods import Cva, IrMad, Method
from eoap_dask.applications.change_detection.parameters import HUB, RGB, ChangeParams, as_pair
from eoap_dask.applications.change_detection.request import check_method, method_of
from eoap_dask.applications.change_detection.science import Change
from eoap_dask.errors import BandError, UsageError
from eoap_dask.geo.window import TILE, Window
from eoap_dask.lazy.checks import as_stored, check_grid
from eoap_dask.lazy.nodata import encode_nan
from eoap_dask.render.science import Strip
from eoap_dask.render.tools import TOOLS
from eoap_dask.text import few, must_be, option, show
from eoap_dask.values import as_integer, as_list, as_number, as_text

_ROWS = 16
"""Statistics are gathered from parts of so many rows and `TILE` columns, as the application does."""
_CHUNK = 4 * TILE
_BESIDE = ("count", "cloud_mask")
"""What datasets hold that isn't a band."""


def cva(
    before: xr.Dataset,
    after: xr.Dataset,
    *,
    bands: Sequence[str] | None = None,
    least_mad: float = 20.0,
    min_pixels: int = 6,
) -> xr.Dataset:
    """Find change by robust change vector analysis: how far a pixel's change is from that of most pixels.

    Per band ``z = (d - median) / (1.4826 · max(MAD, least_mad))`` with ``d`` = after - before, over all pixels that
    both see; the score is ``sqrt(Σ z²)``. The threshold is Otsu's, and at least the square root of the 99 % quantile of
    χ² of as many degrees of freedom as there are bands.

    Parameters
    ----------
    before, after : xr.Dataset, (y, x)
        The same bands on the same grid, such as `composite` makes them: reflectance in floating point, NaN where
        masked, or uint16, reflectance × 10000, 0 = nodata.
    bands
        Which are compared, by name; by default all of both.
    least_mad
        Floor of a band's MAD, in reflectance × 10000.
    min_pixels
        Smaller patches are no change; they are counted over edges and corners.

    Returns
    -------
    xr.Dataset, (y, x), lazy if the inputs are
        ``score``: float32, dimensionless, standard deviations of no change in steps of 0.01, NaN where either date is
        blind in any band. ``change``: uint8, 0 there, 1 = no change, 2 = change. Both as the application makes them.

    Raises
    ------
    GridMismatchError
        when both don't share a grid
    UsageError
        for anything but two such datasets; when computed, for values that aren't reflectance

    References
    ----------
    Malila, W. (1980), Change vector analysis: an approach for detecting forest changes with Landsat. Bovolo, F. &
    Bruzzone, L. (2007), A theoretical framework for unsupervised change detection based on change vector analysis in
    the polar domain, IEEE TGRS 45(1), doi:10.1109/TGRS.2006.885408. Otsu, N. (1979), IEEE TSMC 9(1).
    """
    names = _bands(before, after, bands)
    floor = as_number(least_mad, "least_mad", 20)
    if not 0 < floor < float("inf"):
        raise must_be("least_mad", "more than 0", floor, 20)
    return _change(Cva(len(names), floor), before, after, names, min_pixels)


def irmad(
    before: xr.Dataset,
    after: xr.Dataset,
    *,
    bands: Sequence[str] | None = None,
    rounds: int = 30,
    min_pixels: int = 6,
) -> xr.Dataset:
    """Find change by iteratively reweighted multivariate alteration detection (IR-MAD).

    The differences of canonical variates of both dates, whose statistics weigh pixels by the chance that nothing
    changed there, until they settle: no linear change of any band on either date matters. The score is
    ``sqrt(Σ MAD²/σ²)``; the threshold is the square root of the 99 % quantile of χ² of as many degrees of freedom as
    there are bands.

    Parameters
    ----------
    before, after, bands, min_pixels
        As for `cva`.
    rounds
        Passes over all pixels, at most.

    Returns
    -------
    xr.Dataset, (y, x), lazy if the inputs are
        As of `cva`.

    Raises
    ------
    GridMismatchError, UsageError
        as for `cva`

    References
    ----------
    Nielsen, A. A., Conradsen, K. & Simpson, J. J. (1998), Multivariate alteration detection (MAD) and MAF
    postprocessing, Remote Sensing of Environment 64(1). Nielsen, A. A. (2007), The regularized iteratively reweighted
    MAD method, IEEE Trans. Image Processing 16(2), doi:10.1109/TIP.2006.888195.
    """
    names = _bands(before, after, bands)
    most = as_integer(rounds, "rounds", 30)
    if not 1 <= most <= 1000:
        raise must_be("rounds", "from 1 to 1000", most, 30)
    return _change(IrMad(len(names), most), before, after, names, min_pixels)


def btc(
    before: xr.Dataset,
    after: xr.Dataset,
    *,
    weights: str | PathLike[str] = HUB,
    threshold: float = 0.2,
    window: int = 256,
    stretch: tuple[float, float] = (0.0, 0.3),
    device: str = "cpu",
    min_pixels: int = 6,
) -> xr.Dataset:
    """Find change by the BTC network, from red, green and blue.

    Windows that overlap are shown to the network one by one and blended, as the application does. Needs the extra
    ``btc``: PyTorch, safetensors, huggingface_hub.

    Parameters
    ----------
    before, after
        As for `cva`, with ``red``, ``green`` and ``blue``.
    weights
        File of safetensors, checkpoint of Lightning, or the name of a repository on the hub, which is fetched once.
        Processes that compute must see the file under the same path.
    threshold
        Probability above which a pixel has changed.
    window
        Side of the windows, in pixels, a multiple of 32; smaller ones than 256 are enlarged to it.
    stretch
        Reflectances that become black and white.
    device
        ``cpu``, ``cuda``, or ``auto`` for CUDA where it is there.
    min_pixels
        As for `cva`.

    Returns
    -------
    xr.Dataset, (y, x), lazy if the inputs are
        ``score``: float32, the probability of change, 0 to 1 in steps of 0.0001, NaN where either date is blind or too
        little is seen around. ``change``: as of `cva`.

    Raises
    ------
    GridMismatchError, UsageError
        as for `cva`
    WeightsError
        for weights that are damaged, or of another network
    DownloadError
        when they can't be fetched
    ClusterError
        when computed, without the device

    References
    ----------
    Rolih, B. et al. (2025), Be The Change, IEEE TGRS 63, doi:10.1109/TGRS.2025.3585342.
    """
    names = _bands(before, after, RGB)
    if not isinstance(weights, str | PathLike):
        raise must_be("weights", "a file, or a name on the hub", weights, HUB)
    params = ChangeParams(
        method="btc",
        bands=names,
        weights=str(weights),
        threshold=threshold,
        window=window,
        stretch=as_pair(stretch, "stretch"),
        device=device,
        min_pixels=min_pixels,
    )
    check_method(params)
    return _change(method_of(params), before, after, names, min_pixels)


def _bands(before: object, after: object, wanted: object) -> tuple[str, ...]:
    """Return the bands that are compared, or raise `UsageError`."""
    found: list[list[str]] = []
    for name, cube in (("before", before), ("after", after)):
        if not isinstance(cube, xr.Dataset):
            raise UsageError(
                f"{option(name)} must be a Dataset of xarray, got {show(cube)}.", "", "Try eoap_dask.composite(…)."
            )
        found.append([str(one) for one in cube.data_vars if one not in _BESIDE])
    if wanted is None:
        names = tuple(one for one in found[0] if one in found[1])
        if not names:
            raise BandError(
                "before and after have no band in common.",
                f"They have {few(found[0]) or 'none'}, and {few(found[1]) or 'none'}.",
                "Load the same bands of both.",
            )
    else:
        names = as_list(wanted, "bands", ["red", "nir"], lambda one: as_text(one, "bands", "red"))
        lacking = [one for one in names if not all(one in own for own in found)]
        if lacking or not names or len(set(names)) < len(names):
            raise BandError(
                f"{option('bands')} must name bands of both, each once, got {few(map(str, names)) or 'none'}.",
                f"Both have {few(one for one in found[0] if one in found[1]) or 'none'}.",
                "",
            )
    for name, cube in (("before", before), ("after", after)):
        for band in names:
            _check_band(name, band, cube[band])  # type: ignore[index]
    return names


def _check_band(name: str, band: str, array: xr.DataArray) -> None:
    if array.dims != ("y", "x") or not array.size:
        dims = ", ".join(map(str, array.dims)) or "none"
        raise UsageError(
            f"{band} of {name} has the dimensions {dims}{'' if array.size else ', and no pixel'}.",
            "Expected an image: y, x.",
            "Try .isel(time=0) of a composite.",
        )
    if array.dtype.kind != "f" and array.dtype != np.uint16:
        raise UsageError(
            f"{band} of {name} has the dtype {array.dtype}.",
            "Expected reflectance in floating point, or uint16, reflectance × 10000.",
            "Try what load() and composite() return.",
        )


def _change(
    method: Method, before: xr.Dataset, after: xr.Dataset, bands: Sequence[str], min_pixels: object
) -> xr.Dataset:
    least = as_integer(min_pixels, "min_pixels", 6)
    if not 1 <= least <= 64:
        raise must_be("min_pixels", "from 1 to 64", least, 6)
    science = Change(method, least, tuple(bands))
    first = before[bands[0]]
    for name, cube in (("before", before), ("after", after)):
        for band in bands:
            check_grid(f"{bands[0]} of before", first, f"{band} of {name}", cube[band])
    is_lazy = any(is_dask_collection(cube[band].data) for cube in (before, after) for band in bands)
    layers = da.stack([da.stack([_stored(cube[band].data) for cube in (before, after)]) for band in bands])
    layers = layers.rechunk((-1, -1, _CHUNK, _CHUNK))
    composed = _composed(science, layers, _surveyed(science, layers))
    if not is_lazy:
        composed = composed.compute(scheduler="synchronous")
    score = composed[0].astype(np.float32) * np.float32(method.step)
    score = (da if is_lazy else np).where(composed[0] == 0, np.float32(np.nan), score)
    about = {"long_name": f"score of change, {method.title.lower()}", "units": "1"}
    found = xr.Dataset(
        {
            "score": (("y", "x"), score, about),
            "change": (("y", "x"), composed[1].astype(np.uint8), {"long_name": "change", "nodata": 0}),
        },
        {name: first.coords[name] for name in ("y", "x", "spatial_ref") if name in first.coords},
        {"method": method.lineage(bands)},
    )
    if "spatial_ref" in found.coords:
        for name in ("score", "change"):
            found[name].encoding["grid_mapping"] = "spatial_ref"
    encode_nan(found.score)
    return found


def _stored(array: Any) -> da.Array:
    """Return a band as stored pixels, lazy."""
    lazy: da.Array = da.asarray(array)
    if lazy.dtype != np.uint16:
        lazy = da.map_blocks(_to_stored, lazy, dtype=np.uint16)
    return lazy


def _to_stored(block: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    stored: npt.NDArray[np.uint16] = as_stored(np.asarray(block, np.float32))
    return stored


def _surveyed(science: Change, layers: da.Array) -> Delayed:
    """Return what statistics over both images come to, in as many passes as the method may ask for."""
    blocks = layers.to_delayed(optimize_graph=False)[0, 0]
    corners = [(row * _CHUNK, col * _CHUNK) for row in range(blocks.shape[0]) for col in range(blocks.shape[1])]
    survey, reduce = delayed(_survey, pure=True), delayed(_reduce, pure=True)
    outcome: Delayed = delayed((None, True))
    for _ in range(science.method.passes):
        notes = [survey(science, block, corner, outcome) for block, corner in zip(blocks.flat, corners, strict=True)]
        outcome = reduce(science, notes, outcome)
    return outcome


def _survey(
    science: Change, block: npt.NDArray[np.uint16], corner: tuple[int, int], outcome: tuple[Any, bool]
) -> dict[tuple[int, int], Any]:
    """Return notes of the tiles of a block, by where they lie; none once statistics are over."""
    state, again = outcome
    found: dict[tuple[int, int], Any] = {}
    height, width = block.shape[2:]
    for row in range(0, height if again else 0, _ROWS):
        for col in range(0, width, TILE):
            before, after = np.moveaxis(block[:, :, row : row + _ROWS, col : col + TILE], 1, 0)
            if before.any() or after.any():
                tile = (corner[0] + row) // TILE, (corner[1] + col) // TILE
                note = science.method.survey(before, after, state)
                found[tile] = science.merge(found[tile], note) if tile in found else note
    return found


def _reduce(
    science: Change, notes: Sequence[dict[tuple[int, int], Any]], outcome: tuple[Any, bool]
) -> tuple[Any, bool]:
    """Merge notes in the order of their tiles, and return what they come to."""
    state, again = outcome
    if not again:
        return outcome
    places = {place: note for some in notes for place, note in some.items()}
    whole = None
    for place in sorted(places):
        whole = places[place] if whole is None else science.merge(whole, places[place])
    return science.reduce(whole, state)


def _composed(science: Change, layers: da.Array, outcome: Delayed) -> da.Array:
    """Return score, as stored, and mask: (2, y, x), uint16."""
    halo = science.halo
    wide = da.pad(layers, ((0, 0), (0, 0), (halo, halo), (halo, halo)))
    compose = delayed(_compose, pure=True)
    height, width = layers.shape[2:]
    rows = []
    for row in range(0, height, _CHUNK):
        found = []
        for col in range(0, width, _CHUNK):
            shape = min(_CHUNK, height - row), min(_CHUNK, width - col)
            part = wide[:, :, row : row + shape[0] + 2 * halo, col : col + shape[1] + 2 * halo].rechunk(-1)
            made = compose(science, part.to_delayed(optimize_graph=False).item(), outcome, (row, col), (height, width))
            found.append(da.from_delayed(made, (2, *shape), np.uint16))
        rows.append(found)
    whole: da.Array = da.block(rows)
    return whole


def _compose(
    science: Change,
    block: npt.NDArray[np.uint16],
    outcome: tuple[Any, bool],
    corner: tuple[int, int],
    grid: tuple[int, int],
) -> npt.NDArray[np.uint16]:
    shape = 1, *(side - 2 * science.halo for side in block.shape[2:])
    score, mask = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    window = Window(corner[0], corner[0] + shape[1], corner[1], corner[1] + shape[2])
    tools = TOOLS.of(science)
    strip = Strip(block, None, (0, 1), window, outcome[0], tools, grid)
    science.compose(strip, (score, mask))
    return np.concatenate([score, mask.astype(np.uint16)])
