"""From the numbers in a file to stored pixels, from passes to layers, and from pixels to overviews and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

U16 = npt.NDArray[np.uint16]
U8 = npt.NDArray[np.uint8]
Image = npt.NDArray[Any]
"""(band, y, x) of uint8, uint16, int16 or float32."""
F32 = npt.NDArray[np.float32]

SCALE = np.float32(1e-4)
"""Reflectance of the stored value 1. All code multiplies by it in float32, for equal results everywhere."""

VISUAL_WHITE = 3000
"""Stored value (reflectance 0.3) that becomes the brightest grey, 255, in `visual`."""


def to_stored(dn: U16, offset: int, nodata: int = 0) -> None:
    """Turn digital numbers into stored pixels, in place: reflectance × 10000, 0 = no data.

    `offset` is subtracted from all data, which stay at least 1. `nodata` is the file's number before the offset; 0
    means no data as well.
    """
    if nodata:
        dn[dn == nodata] = 0
    if not offset or not dn.size:
        return
    bound, end = (np.maximum, offset + 1) if offset > 0 else (np.minimum, 65535 + offset)
    row = row_of(np.uint16(end), dn)
    rows = dn.reshape(-1, dn.shape[-1] if dn.ndim else 1) if dn.flags.c_contiguous else dn
    step = max(_STORED_PIECE * len(rows) // dn.size, 1)
    for start in range(0, len(rows), step):  # what is worked on stays near the processor
        part = rows[start : start + step]
        data = part != 0
        bound(part, row, out=part)
        part -= np.uint16(offset % 65536)  # without leaving uint16
        part *= data.view(np.uint8)


_STORED_PIECE = 1 << 16


def row_of(value: np.generic, like: npt.NDArray[Any]) -> Any:
    """Return a read-only row of one value, as wide as an array; for very wide arrays the value itself.

    np.minimum and np.maximum take four times as long with a scalar as with a row.
    """
    return _row_of(value, like.shape[-1]) if like.ndim and like.shape[-1] <= _WIDEST else value


_WIDEST = 1 << 15
"""Widest row that is cached: all of them take 8 MB at most."""


@lru_cache(64, typed=True)
def _row_of(value: np.generic, width: int) -> npt.NDArray[Any]:
    row = np.full(width, value)
    row.flags.writeable = False
    return row


def to_reflectance(stored: U16, out: F32 | None = None) -> F32:
    """Turn stored pixels (uint16, 0 = no data) into float32 reflectance, NaN = no data."""
    found: F32 = np.multiply(stored, SCALE, out=out)
    np.copyto(found, np.nan, where=stored == 0)
    return found


def fill_layer(
    layer: U16,
    dropped: npt.NDArray[np.bool_],
    scene: Sequence[U16] | U16,
    scene_dropped: npt.NDArray[np.bool_] | None,
    first: bool,
) -> None:
    """Add a scene to the layer of its pass, in place: a pixel belongs to the first scene with data in all bands.

    `layer` and `scene` are (band, y, x), uint16, 0 = not filled; the first scene may be the layer itself, and replaces
    what the layer has. `dropped` and `scene_dropped` are (y, x) flags of the pixels.
    """
    valid = scene[0] != 0
    for band in scene[1:]:
        valid &= band != 0
    if first:
        for band, out in zip(scene, layer, strict=True):
            np.multiply(band, valid, out=out)
        if scene_dropped is None:
            dropped[...] = False
        else:
            np.logical_and(scene_dropped, valid, out=dropped)
        return
    valid &= layer[0] == 0
    if not valid.any():
        return
    for band, out in zip(scene, layer, strict=True):
        np.copyto(out, band, where=valid)
    if scene_dropped is not None:
        np.copyto(dropped, scene_dropped, where=valid)


def halve_mean(image: Image, nodata: float = 0, out: Image | None = None) -> Image:
    """Make the next overview of (band, y, x): the mean of the valid pixels of each 2 × 2, half up, or nodata.

    The mean of integers is exact before it is rounded; that of float32, where NaN is always nodata, is taken in
    float64.
    """
    bands, height, width = image.shape
    rows, cols = -(-height // 2), -(-width // 2)
    if out is None:
        out = np.empty((bands, rows, cols), image.dtype)
    step = max(_HALF_PIECE // cols, 1)
    # float32 holds sums of four 16-bit integers exactly, and is the quickest to add and divide
    wide = np.empty((2 * min(step, rows), 2 * cols), np.float64 if image.dtype.kind == "f" else np.float32)
    for band in range(bands):
        for row in range(0, rows, step):
            part = image[band, 2 * row : 2 * (row + step)]
            _halve(part, nodata, wide[: 2 * -(-part.shape[0] // 2)], out[band, row : row + step])
    return out


def _halve(image: Image, nodata: float, wide: npt.NDArray[Any], out: Image) -> None:
    """Fill `out`, (y, x), with the means of an image of up to twice its sides; `wide` is scratch of twice its sides."""
    height, width = image.shape
    is_even = image.shape == wide.shape
    if not is_even:
        wide[...] = 0
    values = wide[:height, :width]
    values[...] = image
    seen = None
    if not is_even or _may_lack(image, nodata):
        valid = is_valid(image, nodata)
        if image.dtype.kind == "f":
            np.copyto(values, 0, where=~valid)
        elif nodata:
            values *= valid  # without a branch per pixel
        seen = valid.view(np.uint8)
        if not is_even:
            seen = np.zeros(wide.shape, np.uint8)
            seen[:height, :width] = valid
    upper = wide[0::2]
    upper += wide[1::2]  # whole rows first: they lie one behind the other
    total = upper[:, 0::2] + upper[:, 1::2]
    if seen is None:
        if out.dtype.kind != "f":
            total += total.dtype.type(2)
        total *= total.dtype.type(0.25)
    else:
        count = seen[0::2] + seen[1::2]
        count = count[:, 0::2] + count[:, 1::2]
        if out.dtype.kind != "f":
            total += count >> 1
        total /= np.maximum(count, row_of(np.uint8(1), count))
    if out.dtype.kind == "i":
        np.floor(total, out=total)  # exact: no third is closer to a whole number than float32 can tell
    out[...] = total
    if seen is not None and nodata != 0:
        np.copyto(out, out.dtype.type(nodata), where=count == 0)


_HALF_PIECE = 1 << 16
"""Pixels of an overview that are made at once: few calls, and what they need stays near the processor."""


def _may_lack(image: Image, nodata: float) -> bool:
    """Return False when no pixel can be nodata; quicker than `is_valid`."""
    lowest = image.min()
    if image.dtype.kind == "f":
        return bool(np.isnan(lowest))
    return bool(lowest <= nodata)


def is_valid(image: Image, nodata: float | None) -> npt.NDArray[np.bool_]:
    """Flag the pixels with data: all but `nodata` and NaN; without `nodata` all."""
    if image.dtype.kind == "f":
        return np.asarray(~np.isnan(image))
    return np.ones(image.shape, bool) if nodata is None else np.asarray(image != nodata)


def halve_nearest(image: Image, nodata: float = 0, out: Image | None = None) -> Image:  # noqa: ARG001 - as `halve_mean`
    """Make the next overview of counts and classes: the top left pixel of each 2 × 2; (band, y, x) in and out."""
    if out is None:
        return np.ascontiguousarray(image[:, ::2, ::2])
    out[...] = image[:, ::2, ::2]
    return out


NO_NUMBER = -32768
"""The nodata value of int16 images."""

BAI_BITS = 12
"""Bits of a mantissa that `to_rounded` keeps: a relative error below 1/8192."""


def to_steps(values: F32, per_unit: float) -> None:
    """Make float32 numbers whole, in place: ``values × per_unit``, half to even, within ±32767; `NO_NUMBER` for NaN."""
    values *= np.float32(per_unit)
    np.rint(values, out=values)
    np.maximum(values, row_of(np.float32(-32767), values), out=values)
    np.minimum(values, row_of(np.float32(32767), values), out=values)
    np.fmax(values, row_of(np.float32(NO_NUMBER), values), out=values)  # of NaN and a number, fmax takes the number


def to_scaled(values: F32, per_unit: float, out: npt.NDArray[np.int16]) -> None:
    """Store numbers as int16, see `to_steps`; changes `values` too."""
    to_steps(values, per_unit)
    out[...] = values


def to_rounded(values: F32, out: F32) -> None:
    """Store float32 with `BAI_BITS` bits of the mantissa, half away from zero: it compresses three times as well."""
    drop = 23 - BAI_BITS
    bits = values.view(np.uint32) + np.uint32(1 << (drop - 1))
    bits &= np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    np.copyto(out, bits.view(np.float32))
    np.copyto(out, np.nan, where=np.isnan(values))  # one NaN of the many


def visual(data: U16, picks: tuple[int, ...], out: U8 | None = None) -> U8:
    """Make a uint8 picture from stored bands: reflectance 0 to 0.3 becomes 1 to 255; 0 = no data in a picked band.

    `picks` are the bands that become red, green and blue, or the one that becomes grey.
    """
    if out is None:
        out = np.empty((len(picks), *data.shape[1:]), np.uint8)
    height, width = data.shape[1:]
    step = min(max(_VISUAL_PIECE // max(width, 1), 1), max(height, 1))
    white = row_of(np.uint16(VISUAL_WHITE), data)
    scratch, greys = np.empty((step, width), np.uint16), np.empty((step, width), np.float32)
    for row in range(0, height, step):
        stop = min(row + step, height)
        numbers, grey, part = scratch[: stop - row], greys[: stop - row], out[:, row:stop]
        for band, pick in enumerate(picks):
            np.minimum(data[pick, row:stop], white, out=numbers)
            np.multiply(numbers, _GREYS_PER_STEP, out=grey)
            grey += np.float32(1.5)
            part[band] = grey  # cut off behind the point
        numbers[...] = data[picks[0], row:stop]
        for pick in picks[1:]:
            np.minimum(numbers, data[pick, row:stop], out=numbers)
        part *= (numbers != 0).view(np.uint8)
    return out


_VISUAL_PIECE = 1 << 17

_GREYS_PER_STEP = np.float32(254 / VISUAL_WHITE)
"""Rounded up from 254 / 3000, so that no half is lost (a test checks every number)."""


BandSums = tuple[int, Any, Any, float, float]
Sums = list[BandSums]
"""Per band: number of valid pixels, sum, sum of squares, minimum, maximum.

Integer bands have integer sums. Float bands have tuples of partial sums, one per tile of the grid, for `math.fsum`,
which rounds once whatever the order. ``+`` joins either kind.
"""


def statistics(image: Image, nodata: float | None = 0, tile: int = 512) -> Sums:
    """Return `Sums` of (band, y, x), to be merged over blocks in any order; zeros where nothing is valid.

    `tile` is the side of the tiles in which float bands are summed; the image begins on their lattice.
    """
    return [_band_statistics(band, nodata, tile) for band in image]


def _band_statistics(band: Image, nodata: float | None, tile: int) -> tuple[int, Any, Any, float, float]:
    return _float_statistics(band, tile) if band.dtype.kind == "f" else _integer_statistics(band, nodata)


def _integer_statistics(band: Image, nodata: float | None) -> tuple[int, int, int, int, int]:
    number = total = squares = 0
    extremes: list[int] = []
    height, width = band.shape
    step = min(max(_SUMMED // max(width, 1), 1), max(height, 1))
    wide = np.empty((step, width), np.float64)  # sums of so many squares of 16-bit integers are exact in it
    for row in range(0, height, step):
        part = band[row : row + step]
        if not part.size:
            continue
        values = wide[: part.shape[0]]
        values[...] = part
        low, high = int(part.min()), int(part.max())
        valid = part.size
        if nodata is not None and low <= nodata:
            seen = part != nodata
            valid = int(np.count_nonzero(seen))
            if not valid:
                continue
            low, high = _extremes(part, int(nodata), seen)
            if nodata:
                values *= seen
        number += valid
        total += int(values.sum())
        squares += int(np.matmul(values[:, None, :], values[:, :, None]).sum())  # row by row
        extremes += low, high
    return (number, total, squares, min(extremes), max(extremes)) if number else (0, 0, 0, 0, 0)


def _extremes(part: Image, nodata: int, seen: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return the smallest and the largest of the pixels with data; there must be one."""
    if nodata != np.iinfo(part.dtype).min:
        valid = part[seen]
        return int(valid.min()), int(valid.max())
    # nodata is the type's smallest number: counted from nodata + 1, with wraparound, it becomes the largest
    bits = part.view(f"u{part.itemsize}") - np.array(nodata + 1, part.dtype).view(f"u{part.itemsize}")
    return int(bits.min()) + nodata + 1, int(part.max())


_SUMMED = 1 << 16
"""Pixels that are summed at once."""


def histogram(band: Image) -> npt.NDArray[np.int64]:
    """Count every value of uint8, uint16 or int16, the smallest value of the type first; (256 or 65536,), int64."""
    size = 1 << 8 * band.dtype.itemsize
    bits = np.ascontiguousarray(band).view(f"u{band.dtype.itemsize}").reshape(-1)
    counts = np.zeros(size, np.int64)
    numbers = np.empty(min(_COUNTED, max(bits.size, 1)), np.intp)  # what bincount would make of all of them at once
    for start in range(0, bits.size, numbers.size):
        part = bits[start : start + numbers.size]
        numbers[: part.size] = part
        counts += np.bincount(numbers[: part.size], minlength=size)
    # negative numbers have the upper half of the bits
    return np.roll(counts, size // 2) if band.dtype.kind == "i" else counts


_COUNTED = 1 << 18


def _float_statistics(band: Image, tile: int) -> tuple[int, Any, Any, float, float]:
    number, sums, squares = 0, [], []
    height, width = band.shape
    step = max(_SUMMED // tile, 1)
    wide = np.empty(step * min(tile, width), np.float64)
    for row in range(0, height, tile):
        for col in range(0, width, tile):
            valid, one, squared = 0, 0.0, 0.0
            for start in range(row, min(row + tile, height), step):
                part = band[start : min(start + step, row + tile), col : col + tile]
                missing = np.isnan(part)
                seen = part.size - int(np.count_nonzero(missing))
                if not seen:
                    continue
                valid += seen
                values = wide[: part.size].reshape(part.shape)
                values[...] = part
                if seen < part.size:
                    np.copyto(values, 0, where=missing)
                one += float(values.sum())
                squared += float(np.square(values, out=values).sum())
            if valid:
                number += valid
                sums.append(one)
                squares.append(squared)
    if not number:
        return 0, 0, 0, 0, 0
    return number, tuple(sums), tuple(squares), float(np.fmin.reduce(band, None)), float(np.fmax.reduce(band, None))
