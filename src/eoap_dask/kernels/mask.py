"""Which pixels see the ground: rules on scene classes, in integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHARE_DIVISOR = 5
"""A pixel is dropped when more than one fifth of its classified samples are of dropped classes."""


def class_table(dropped: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a look-up table over uint8 classes, True = dropped."""
    table = np.zeros(256, bool)
    table[list(dropped)] = True
    return table


def dropped_nearest(classes: npt.NDArray[np.uint8], table: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell which pixels have a dropped class.

    Parameters
    ----------
    classes : np.ndarray, (y, x), uint8, the class nearest to each pixel centre
    table : np.ndarray, (256,), bool, from `class_table`

    Returns
    -------
    np.ndarray, (y, x), bool, True = dropped
    """
    return table[classes]


def dropped_share(
    classes: npt.NDArray[np.uint8], table: npt.NDArray[np.bool_], samples: int, nodata: int = 0
) -> npt.NDArray[np.bool_]:
    """Tell in which pixels more than a fifth of the classified samples have a dropped class.

    Parameters
    ----------
    classes : np.ndarray, (y * samples, x * samples), uint8
        Classes at `samples` × `samples` regular points of each pixel.
    table : np.ndarray, (256,), bool, from `class_table`
    samples
        Points along a side of a pixel.
    nodata
        The class of points without data; they count neither as dropped nor as seen.

    Returns
    -------
    np.ndarray, (y, x), bool, True = dropped; also where no point has data
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
