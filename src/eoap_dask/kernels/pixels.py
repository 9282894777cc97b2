"""From the numbers in a file to stored pixels, from passes to layers, and from pixels to overviews and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

U16 = npt.NDArray[np.uint16]
U8 = npt.NDArray[np.uint8]
Image = npt.NDArray[Any]
"""(band, y, x) of uint8, uint16, int16 or float32."""
F32 = npt.NDArray[np.float32]

SCALE = np.float32(1e-4)
"""Reflectance of the stored value 1. Everybody multiplies by it in float32, so that everybody gets the same numbers."""

VISUAL_WHITE = 3000
"""Stored value (reflectance 0.3) that becomes the brightest grey, 255, in `visual`."""


def to_stored(dn: U16, offset: int, nodata: int = 0) -> None:
    """Turn digital numbers into stored pixels, in place: reflectance × 10000, 0 = no data.

    Parameters
    ----------
    dn : np.ndarray, any shape, uint16, changed in place
    offset
        What to subtract from every number that is data; the result is at least 1, so that data stay data.
    nodata
        The file's own number for "no data", taken before the offset; 0 always means it too.
    """
    if nodata:
        dn[dn == nodata] = 0
    if offset > 0:
        data = dn != 0
        np.maximum(dn, offset + 1, out=dn)
        np.subtract(dn, offset, out=dn)
        np.multiply(dn, data, out=dn)
    elif offset < 0:
        data = dn != 0
        np.minimum(dn, 65535 + offset, out=dn)
        np.add(dn, -offset, out=dn)
        np.multiply(dn, data, out=dn)


def to_reflectance(stored: U16, out: F32 | None = None) -> F32:
    """Turn stored pixels into reflectance.

    Parameters
    ----------
    stored : np.ndarray, any shape, uint16, reflectance × 10000, 0 = no data
    out : np.ndarray, same shape, float32, optional
        Where to put the result.

    Returns
    -------
    np.ndarray, same shape, float32, NaN = no data
    """
    found: F32 = np.multiply(stored, SCALE, out=out)
    np.copyto(found, np.nan, where=stored == 0)
    return found


def fill_layer(
    layer: U16,
    dropped: npt.NDArray[np.bool_],
    scene: U16,
    scene_dropped: npt.NDArray[np.bool_] | None,
    first: bool,
) -> None:
    """Add a scene to the layer of its pass, in place: a pixel belongs to the first scene with data in all bands.

    Parameters
    ----------
    layer : np.ndarray, (band, y, x), uint16, 0 = not filled yet
    dropped : np.ndarray, (y, x), bool, of the pixels filled so far
    scene : np.ndarray, (band, y, x), uint16, stored pixels of the scene; may be changed
    scene_dropped : np.ndarray, (y, x), bool, or None where no mask applies
    first
        True for the first scene, which finds an untouched layer.
    """
    valid = scene[0] != 0
    for band in scene[1:]:
        valid &= band != 0
    if first:
        np.multiply(scene, valid, out=layer)
        if scene_dropped is None:
            dropped[...] = False
        else:
            np.logical_and(scene_dropped, valid, out=dropped)
        return
    valid &= layer[0] == 0
    if not valid.any():
        return
    np.copyto(layer, scene, where=valid)
    if scene_dropped is not None:
        np.copyto(dropped, scene_dropped, where=valid)


def halve_mean(image: Image, nodata: float = 0) -> Image:
    """Next overview: the rounded mean (half up) of the valid pixels of each 2 × 2.

    Parameters
    ----------
    image : np.ndarray, (band, y, x), uint8, uint16, int16 or float32
    nodata
        The value of a pixel without data; NaN in float32 always is one.

    Returns
    -------
    np.ndarray, (band, ceil(y / 2), ceil(x / 2)), same dtype; nodata where all four pixels are. The mean of integers is
    exact before it is rounded, that of float32 is taken in float64.
    """
    bands, height, width = image.shape
    rows, cols = -(-height // 2), -(-width // 2)
    floating = image.dtype.kind == "f"
    total = np.zeros(
        (bands, rows, cols), np.float64 if floating else np.int32 if image.dtype.kind == "i" else np.uint32
    )
    count = np.zeros((bands, rows, cols), np.uint8)
    for dy in (0, 1):
        for dx in (0, 1):
            part = image[:, dy::2, dx::2]
            h, w = part.shape[1:]
            valid = is_valid(part, nodata)
            total[:, :h, :w] += part if nodata == 0 and not floating else np.where(valid, part, part.dtype.type(0))
            count[:, :h, :w] += valid
    empty = count == 0
    if not floating:
        total += count >> 1
    np.maximum(count, 1, out=count)
    if floating:
        total /= count
    else:
        total //= count  # rounds down, also below zero
    out = total.astype(image.dtype)
    if nodata != 0:
        out[empty] = nodata
    return out


def is_valid(image: Image, nodata: float | None) -> npt.NDArray[np.bool_]:
    """Tell which pixels hold data: all but `nodata`, and but NaN; all of them where `nodata` is None."""
    if image.dtype.kind == "f":
        return np.asarray(~np.isnan(image))
    return np.ones(image.shape, bool) if nodata is None else np.asarray(image != nodata)


def halve_nearest(image: Image, nodata: float = 0) -> Image:  # noqa: ARG001 - as `halve_mean`
    """Next overview of counts and classes: the top left pixel of each 2 × 2; (band, y, x) in and out."""
    return np.ascontiguousarray(image[:, ::2, ::2])


NO_NUMBER = -32768
"""What int16 images hold where there is no number."""

BAI_BITS = 12
"""Bits of a mantissa that `to_rounded` keeps: a relative error below 1/8192."""


def to_scaled(values: F32, per_unit: float, out: npt.NDArray[np.int16]) -> None:
    """Store numbers as whole ones: ``values × per_unit``, half to even; what is beyond ±32767 is held there.

    Parameters
    ----------
    values : np.ndarray, any shape, float32, NaN = missing; changed
    per_unit
        Steps of the stored number per unit of the value.
    out : np.ndarray, same shape, int16
        Filled; `NO_NUMBER` where missing.
    """
    values *= np.float32(per_unit)
    np.rint(values, out=values)
    np.clip(values, -32767, 32767, out=values)
    np.nan_to_num(values, copy=False, nan=NO_NUMBER)
    out[...] = values


def to_rounded(values: F32, out: F32) -> None:
    """Store numbers with `BAI_BITS` bits of their mantissa, half away from zero: they compress three times as well.

    Parameters
    ----------
    values : np.ndarray, any shape, float32, C-contiguous, NaN = missing
    out : np.ndarray, same shape, float32
        Filled.
    """
    drop = 23 - BAI_BITS
    bits = values.view(np.uint32) + np.uint32(1 << (drop - 1))
    bits &= np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    np.copyto(out, bits.view(np.float32))
    np.copyto(out, np.nan, where=np.isnan(values))  # one NaN of the many


def visual(data: U16, picks: tuple[int, ...]) -> U8:
    """Picture for the eye: reflectance 0 to 0.3 becomes 1 to 255, 0 = no data in any of the picked bands.

    Parameters
    ----------
    data : np.ndarray, (band, y, x), uint16, stored pixels
    picks
        Which bands become red, green and blue, or the one that becomes grey.

    Returns
    -------
    np.ndarray, (len(picks), y, x), uint8
    """
    table = np.minimum(np.arange(65536, dtype=np.uint32), VISUAL_WHITE)
    table = 1 + (table * 254 + VISUAL_WHITE // 2) // VISUAL_WHITE
    table[0] = 0
    out = table.astype(np.uint8)[data[list(picks)]]
    out *= (out != 0).all(axis=0)
    return out


Sums = list[tuple[int, Any, Any, float, float]]
"""Per band: how many pixels are valid, their sum, the sum of their squares, the smallest, the largest.

Sums of integers are integers. Sums of floating-point numbers are tuples of partial sums, of one tile of the grid each:
added up by `math.fsum`, which rounds once, they give the same whatever the order. ``+`` joins either kind.
"""


def statistics(image: Image, nodata: float | None = 0, tile: int = 512) -> Sums:
    """Exact sums of the valid pixels of each band, to be merged over blocks in any order.

    Parameters
    ----------
    image : np.ndarray, (band, y, x), uint8, uint16, int16 or float32
    nodata
        The value of a pixel without data; NaN in float32 always is one.
    tile
        Side of the tiles that floating-point numbers are summed in; the image begins on their lattice.

    Returns
    -------
    list of (number, sum, sum of squares, minimum, maximum)
        See `Sums`; zeros where nothing is valid.
    """
    return [_band_statistics(band, nodata, tile) for band in image]


def _band_statistics(band: Image, nodata: float | None, tile: int) -> tuple[int, Any, Any, float, float]:
    if band.dtype.kind == "f":
        return _float_statistics(band, tile)
    # a histogram makes every sum exact and touches the pixels once
    shift = 0
    if band.dtype.kind == "i":
        shift = 1 << 15
        band = (band.view(np.uint16) ^ np.uint16(1 << 15)) if band.flags.c_contiguous else band.astype(np.int32) + shift
    histogram = np.bincount(band.reshape(-1), minlength=2)
    if nodata is not None and 0 <= int(nodata) + shift < histogram.size:
        histogram[int(nodata) + shift] = 0
    places = np.flatnonzero(histogram)
    if not places.size:
        return 0, 0, 0, 0, 0
    counts, values = histogram[places], places - shift
    return (
        int(counts.sum()),
        int((counts * values).sum()),
        int((counts * values * values).sum()),
        int(values[0]),
        int(values[-1]),
    )


def _float_statistics(band: Image, tile: int) -> tuple[int, Any, Any, float, float]:
    number, sums, squares, low, high = 0, [], [], np.inf, -np.inf
    for row in range(0, band.shape[0], tile):
        for col in range(0, band.shape[1], tile):
            part = band[row : row + tile, col : col + tile]
            values = part[~np.isnan(part)].astype(np.float64)
            if not values.size:
                continue
            number += values.size
            sums.append(float(values.sum()))
            squares.append(float(np.square(values).sum()))
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (number, tuple(sums), tuple(squares), low, high) if number else (0, 0, 0, 0, 0)
