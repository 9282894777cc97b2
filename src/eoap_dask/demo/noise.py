"""Repeatable noise on the ground: the same place has the same value in every archive and on every machine.

It uses additions, multiplications and integer hashes alone, which IEEE 754 defines exactly: archives are the same to
the bit everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def hashed(row: NDArray[np.int64], col: NDArray[np.int64], seed: int) -> NDArray[np.uint32]:
    """Return a hash of integer lattice positions, uniform over uint32, in their broadcast shape."""
    # Modulo 2**32, mixed with the constants of lowbias32 (C. Wellons, "Hash prospector", 2018).
    value = row.astype(np.uint32) * np.uint32(0x9E3779B1) + col.astype(np.uint32) * np.uint32(0x85EBCA77)
    value ^= np.uint32((seed * 0xC2B2AE3D + 0x27D4EB2F) & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        value ^= value >> np.uint32(shift)
        value *= np.uint32(factor)
    value ^= value >> np.uint32(16)
    return value


def unit_hash(row: NDArray[np.int64], col: NDArray[np.int64], seed: int) -> Floats:
    """Return `hashed` as fractions in [0, 1)."""
    fraction: Floats = (hashed(row, col, seed) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return fraction


def value_noise(x: NDArray[np.float64], y: NDArray[np.float64], wavelength_m: float, seed: int) -> Floats:
    """Return smooth noise over columns `x` and rows `y`, metres: hashed lattice values under cubic B-splines.

    (y, x), about [-1, 1], mean 0.
    """
    cols, col_weights = _spline(x / wavelength_m)
    rows, row_weights = _spline(y / wavelength_m)
    lattice_cols = np.arange(cols.min(), cols.max() + 4)
    lattice_rows = np.arange(rows.min(), rows.max() + 4)
    lattice = unit_hash(lattice_rows[:, None], lattice_cols[None, :], seed) * np.float32(3.2) - np.float32(1.6)
    # Columns first, while there are few rows; the large step then copies whole rows.
    cols -= lattice_cols[0]
    rows -= lattice_rows[0]
    narrow: Floats = col_weights[0] * lattice[:, cols]
    for k in range(1, 4):
        narrow += col_weights[k] * lattice[:, cols + k]
    out: Floats = narrow[rows] * row_weights[0][:, None]
    for k in range(1, 4):
        out += narrow[rows + k] * row_weights[k][:, None]
    return out


def fractal_noise(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    wavelength_m: float,
    octaves: int,
    seed: int,
    gain: float = 0.5,
) -> Floats:
    """Return a sum of octaves of `value_noise`, each half as long and `gain` times as strong as the one before."""
    total = value_noise(x, y, wavelength_m, seed)
    for octave in range(1, octaves):
        total += np.float32(gain**octave) * value_noise(x, y, wavelength_m / 2**octave, seed + 101 * octave)
    return total


def _spline(position: NDArray[np.float64]) -> tuple[NDArray[np.int64], list[Floats]]:
    """Return the first of the four lattice nodes around each position, and the B-spline weights of the four."""
    node = np.floor(position)
    t = (position - node).astype(np.float32)
    t2, t3 = t * t, t * t * t
    sixth = np.float32(1 / 6)
    weights = [
        (1 - 3 * t + 3 * t2 - t3) * sixth,
        (4 - 6 * t2 + 3 * t3) * sixth,
        (1 + 3 * t + 3 * t2 - 3 * t3) * sixth,
        t3 * sixth,
    ]
    return node.astype(np.int64) - 1, weights
