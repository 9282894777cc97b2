"""Composites: many observations of a pixel become one value.

Stacks are (time, y, x), uint16, 0 = no observation, and aren't changed; results are (y, x), uint16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

U16 = npt.NDArray[np.uint16]

_CHUNK = 1 << 16
"""Pixels per pass of the median network: T + 2 rows stay in the cache, and calls, which wait for the GIL, are few."""


@dataclass(frozen=True)
class Composite:
    """A kernel, and what the engine needs to know about it."""

    name: str
    title: str
    kernel: Callable[[U16], U16]
    version: int
    """Raised when the kernel's pixels change; part of a unit's digest."""


def median(stack: U16) -> U16:
    """Return the median of the valid observations of every pixel; an even number gives the mean of the middle two.

    The mean is rounded half up. Network of Batcher (1968), doi:10.1145/1468075.1468121, on rows of pixels, pruned to
    the middle wires. Missing values become the largest and the smallest number in turn: the median of the valid ones
    stays in the middle.
    """
    depth = stack.shape[0]
    shape = stack.shape[1:]
    if depth == 0:
        return np.zeros(shape, np.uint16)
    if depth == 1:
        only: U16 = stack[0].copy()
        return only
    flat = stack.reshape(depth, -1)
    size = flat.shape[1]
    out = np.empty(size, np.uint16)
    rows = np.empty((depth + 1, min(size, _CHUNK)), np.uint16)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        wires = [row[: stop - start] for row in rows]
        for wire, values in zip(wires, flat[:, start:stop], strict=False):
            wire[...] = values
        _median_of_wires(wires[:depth], wires[depth], out[start:stop])
    return out.reshape(shape)


def _median_of_wires(wires: list[U16], spare: U16, out: U16) -> None:
    depth = len(wires)
    odd = np.zeros(out.size, bool)  # an odd number of missing values so far
    found = np.zeros(out.size, bool)
    largest = np.empty(out.size, np.uint16)  # the largest number where it is put, else 0
    for wire in wires:
        absent = wire == 0
        if absent.any():
            odd ^= absent
            found |= ~absent
            absent &= odd
            # without a branch per pixel: scattered clouds defeat branch prediction
            largest[...] = absent
            np.negative(largest, out=largest)
            wire |= largest
        else:
            found[...] = True
    for i, j, keep_low, keep_high in _network(depth):
        low, high = wires[i], wires[j]
        if keep_low and keep_high:
            np.minimum(low, high, out=spare)
            np.maximum(low, high, out=high)
            wires[i], spare = spare, low
        elif keep_low:
            np.minimum(low, high, out=low)
        else:
            np.maximum(low, high, out=high)
    low, high = wires[(depth - 2 + depth % 2) // 2 - depth % 2], wires[depth // 2]
    # half up, without leaving uint16
    average = (low | high) - ((low ^ high) >> 1)
    if depth % 2:
        np.copyto(out, np.where(odd, average, high))
    else:
        np.copyto(out, np.where(odd, low, average))
    out *= found.view(np.uint8)


@cache
def _network(wires: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return the comparators (low wire, high wire, low needed, high needed) that settle the two middle wires."""
    comparators = []
    p = 1
    while p < wires:
        k = p
        while k >= 1:
            for start in range(k % p, wires - k, 2 * k):
                for i in range(start, min(start + k, wires - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        comparators.append((i, i + k))
            k //= 2
        p *= 2
    middle = wires // 2
    needed = {middle - 1, middle}
    pruned = []
    for low, high in reversed(comparators):
        if low in needed or high in needed:
            pruned.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(pruned))


def count_valid(stack: U16) -> U16:
    """Count the valid observations of every pixel."""
    count = np.zeros(stack.shape[1:], np.uint16)
    for layer in stack:
        count += layer != 0
    return count


COMPOSITES = {"median": Composite("median", "median of the clear observations", median, version=1)}
