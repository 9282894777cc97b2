"""From the numbers in a file to stored pixels, from passes to layers, and from pixels to overviews and pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U16 = npt.NDArray[np.uint16]
U8 = npt.NDArray[np.uint8]

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


def halve_mean(image: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Next overview: the rounded mean (half up) of the valid pixels of each 2 × 2.

    Parameters
    ----------
    image : np.ndarray, (band, y, x), uint8 or uint16, 0 = no data

    Returns
    -------
    np.ndarray, (band, ceil(y / 2), ceil(x / 2)), same dtype; 0 where all four pixels are 0
    """
    bands, height, width = image.shape
    rows, cols = -(-height // 2), -(-width // 2)
    total = np.zeros((bands, rows, cols), np.uint32)
    valid = np.zeros((bands, rows, cols), np.uint8)
    for dy in (0, 1):
        for dx in (0, 1):
            part = image[:, dy::2, dx::2]
            h, w = part.shape[1:]
            total[:, :h, :w] += part
            valid[:, :h, :w] += part != 0
    total += valid >> 1
    np.maximum(valid, 1, out=valid)
    total //= valid
    return total.astype(image.dtype)


def halve_nearest(image: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Next overview of counts and classes: the top left pixel of each 2 × 2; (band, y, x) in and out."""
    return np.ascontiguousarray(image[:, ::2, ::2])


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


def statistics(image: npt.NDArray[np.unsignedinteger]) -> list[tuple[int, int, int, int, int]]:
    """Exact sums of the valid pixels of each band, to be merged over blocks in any order.

    Parameters
    ----------
    image : np.ndarray, (band, y, x), unsigned integers, 0 = no data

    Returns
    -------
    list of (number, sum, sum of squares, minimum, maximum), Python integers; zeros where nothing is valid
    """
    out = []
    for band in image:
        # a histogram makes every sum exact and touches the pixels once
        histogram = np.bincount(band.reshape(-1), minlength=2)
        histogram[0] = 0
        values = np.flatnonzero(histogram)
        if not values.size:
            out.append((0, 0, 0, 0, 0))
            continue
        counts = histogram[values]
        out.append(
            (
                int(counts.sum()),
                int((counts * values).sum()),
                int((counts * values * values).sum()),
                int(values[0]),
                int(values[-1]),
            )
        )
    return out
