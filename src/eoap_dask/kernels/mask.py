"""Which pixels see the ground: rules on scene classes (uint8), in integers. Flags are True where a pixel is dropped."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from eoap_dask.text import must_be

SHARE_DIVISOR = 5
"""A pixel is dropped when more than one fifth of its classified samples have a dropped class."""

NODATA = 0
"""The class of what wasn't classified."""


def parse_classes(text: str, name: str) -> tuple[int, ...]:
    """Return scene classes from a text such as ``3,8,9,10``, sorted; `UsageError` for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,3}", part, re.ASCII) and int(part) < 256 for part in parts):
        raise must_be(name, "codes of scene classes from 0 to 255, with commas between them", text, "3,8,9,10")
    return tuple(sorted({int(part) for part in parts}))


def class_table(dropped: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a look-up table over uint8 classes, (256,), True = dropped."""
    table = np.zeros(256, bool)
    table[list(dropped)] = True
    return table


def dropped_nearest(classes: npt.NDArray[np.uint8], table: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Look up which pixels have a dropped class; `classes` are those nearest to the pixels' centres."""
    return table[classes]


def dropped_share(
    classes: npt.NDArray[np.uint8], table: npt.NDArray[np.bool_], samples: int, nodata: int = NODATA
) -> npt.NDArray[np.bool_]:
    """Flag the pixels in which more than a fifth of the samples have a dropped class, or all are nodata.

    `classes` has `samples` × `samples` points per pixel; points without data count neither as dropped nor as seen.
    """
    seen = (classes != nodata).view(np.uint8)
    bad = table[classes].view(np.uint8) & seen
    seen_sum, bad_sum = _block_sum(seen, samples), _block_sum(bad, samples)
    dropped: npt.NDArray[np.bool_] = (bad_sum * SHARE_DIVISOR > seen_sum) | (seen_sum == 0)
    return dropped


def _block_sum(flags: npt.NDArray[np.uint8], n: int) -> npt.NDArray[np.uint32]:
    height, width = flags.shape
    # columns first and by slices: a reshaped sum over two axes is several times slower
    across = np.zeros((height, width // n), np.uint32)
    for i in range(n):
        across += flags[:, i::n]
    total = np.zeros((height // n, width // n), np.uint32)
    for i in range(n):
        total += across[i::n]
    return total
