"""Composites: many observations of a pixel become one value.

Stacks are (time, y, x), or (band, time, y, x) where bands are looked at together, uint16, 0 = no observation, in order
of time; they aren't changed. Results are (y, x) or (band, y, x), uint16. What a pixel becomes depends on its own
observations alone. Where bands are looked at together, an observation counts if it has all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from eoap_dask.errors import UsageError
from eoap_dask.text import option, show

U16 = npt.NDArray[np.uint16]
Numbers = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]
"""(y, x): number of the observation that a pixel is from, -1 where there is none."""

_CHUNK = 1 << 16
"""Pixels per pass of the median network: T + 2 rows stay in the cache, and calls, which wait for the GIL, are few."""
CHUNK_BYTES = 2 << 20
"""Memory of numbers in double precision that the kernels on all bands work on at once."""

ITERATIONS = 100
"""Steps to the geometric median, at most."""
TOLERANCE = 0.001
"""It has settled once no band moves by more than this, in stored units."""
_FIRST_STEPS = 3
_PARTS = (1.0, 0.25, 0.0625)
"""Of Newton's step, the best of which is taken."""
_NEAREST = 0.001
"""Distances to observations count as this at least, in stored units: at one of them, Weiszfeld's weight is infinite."""


@dataclass(frozen=True)
class Composite:
    """What becomes of many observations, and what the engine needs to know about it; one of three is given."""

    name: str
    title: str
    version: int
    """Raised when pixels change; part of a unit's digest."""
    by_band: Callable[[U16], U16] | None = None
    """Each band by itself: (time, y, x) to (y, x)."""
    by_bands: Callable[[U16], U16] | None = None
    """All bands together: (band, time, y, x) to (band, y, x)."""
    pick: Callable[[U16, Sequence[U16]], Picks] | None = None
    """Choice of one observation per pixel from all bands, (band, time, y, x), and from each of `needs`."""
    needs: tuple[str, ...] = ()
    """Common names of bands that the choice looks at."""
    clearest: int = 0
    """If not 0, only so many passes count, those with most clear pixels in the unit."""

    def compose(self, layers: U16, out: U16, needed: Sequence[U16] = ()) -> Picks | None:
        """Fill (band, y, x) from (band, time, y, x); return which observations they are, where it picks some.

        `needed` are the bands of `needs`, (time, y, x) each.
        """
        if self.pick is not None:
            picked = self.pick(layers, needed)
            for band, values in zip(out, layers, strict=False):
                band[...] = take(values, picked)
            return picked
        if self.by_bands is not None:
            out[...] = self.by_bands(layers)
        elif self.by_band is not None:
            for band, values in zip(out, layers, strict=False):
                band[...] = self.by_band(values)
        return None


def take(values: npt.NDArray[np.uint16], picked: Picks) -> U16:
    """Return the picked observations of (time, y, x), 0 where there is none."""
    if not len(values):
        return np.zeros(picked.shape, np.uint16)
    found: U16 = np.take_along_axis(values, np.maximum(picked, 0)[None], axis=0)[0]
    found[picked < 0] = 0
    return found


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
    middle = wires // 2
    needed = {middle - 1, middle}
    pruned = []
    for low, high in reversed(_comparators(wires)):
        if low in needed or high in needed:
            pruned.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(pruned))


@cache
def _comparators(wires: int) -> tuple[tuple[int, int], ...]:
    """Return the comparators (low wire, high wire) that sort."""
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
    return tuple(comparators)


def mean(stack: U16) -> U16:
    """Return the mean of the valid observations of every pixel, rounded half up."""
    flat = stack.reshape(len(stack), math.prod(stack.shape[1:]))
    out = np.empty(flat.shape[1], np.uint16)
    for start in range(0, out.size, _CHUNK):
        part = flat[:, start : start + _CHUNK]
        total = np.zeros(part.shape[1], np.uint64)
        for layer in part:
            total += layer
        count = count_valid(part).astype(np.uint64)
        out[start : start + _CHUNK] = (2 * total + count) // np.maximum(2 * count, 1)
    return out.reshape(stack.shape[1:])


def percentile(stack: U16, part: Fraction) -> U16:
    """Return a percentile of the valid observations of every pixel: the nearest rank, so that it is one of them.

    That is the smallest one with at least so many of them at or below it; the part is 0 to 1, and 0 is the smallest.
    """
    depth, shape = stack.shape[0], stack.shape[1:]
    if depth == 0:
        return np.zeros(shape, np.uint16)
    flat = stack.reshape(depth, -1)
    size = flat.shape[1]
    out = np.empty(size, np.uint16)
    rows = np.empty((depth + 1, min(size, _CHUNK)), np.uint16)
    # what isn't there sorts below all that is: of so many, the wire of the rank
    ranks = [max(-(-part.numerator * count // part.denominator), 1) for count in range(depth + 1)]
    wire_of = np.array([min(depth - count + rank - 1, depth - 1) for count, rank in enumerate(ranks)], np.intp)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        wires = [row[: stop - start] for row in rows]
        for wire, values in zip(wires, flat[:, start:stop], strict=False):
            wire[...] = values
        count = count_valid(flat[:, start:stop])
        spare = wires.pop()
        for i, j in _comparators(depth):
            low, high = wires[i], wires[j]
            np.minimum(low, high, out=spare)
            np.maximum(low, high, out=high)
            wires[i], spare = spare, low
        wanted = wire_of[count]
        own = out[start:stop]
        own[...] = 0
        for number in np.unique(wanted):
            np.copyto(own, wires[number], where=(wanted == number) & (count > 0))
    return out.reshape(shape)


def _chunks(layers: U16) -> Iterator[tuple[slice, Numbers, npt.NDArray[np.bool_]]]:
    """Yield some pixels after others: where they are, numbers (band, time, pixel), and which have all bands."""
    bands, depth = layers.shape[:2]
    flat = layers.reshape(bands, depth, math.prod(layers.shape[2:]))
    step = max(CHUNK_BYTES // (8 * max(bands * depth, 1)), 64)
    for start in range(0, flat.shape[2], step):
        part = flat[:, :, start : start + step]
        yield slice(start, start + part.shape[2]), part.astype(np.float64), (part != 0).all(axis=0)


def medoid(layers: U16, needed: Sequence[U16] = ()) -> Picks:  # noqa: ARG001
    """Pick the observation with the least sum of distances to the others; of equal ones the earliest.

    Flood (2013), Seasonal composite Landsat TM/ETM+ images using the medoid, doi:10.3390/rs5126481; Euclidean.
    """
    depth = layers.shape[1]
    out = np.full(layers.shape[2:], -1, np.intp)
    flat = out.reshape(-1)
    if not depth:
        return out
    for where, values, valid in _chunks(layers):
        sums = np.zeros(valid.shape)
        for one in range(depth):
            for other in range(one + 1, depth):
                distance = np.sqrt(((values[:, one] - values[:, other]) ** 2).sum(axis=0))
                distance *= valid[one] & valid[other]
                sums[one] += distance
                sums[other] += distance
        sums[~valid] = np.inf
        # sums of the same distances in another order differ in their last bits
        first = (sums <= sums.min(axis=0) * (1 + 1e-12)).argmax(axis=0)
        flat[where] = np.where(valid.any(axis=0), first, -1)
    return out


def geomedian(layers: U16) -> U16:
    """Return the geometric median of the valid observations of every pixel, rounded half up.

    Roberts, Mueller & McIntyre (2017), doi:10.1109/TGRS.2017.2723896. From the mean by Weiszfeld's steps, then by
    Newton's where these come nearer to all, until no band moves by more than `TOLERANCE`, at most `ITERATIONS` of them.
    Each pixel settles by itself. Where many points are equally near to all, as between two observations, it is the one
    nearest to the mean, or near it.
    """
    out = np.zeros((layers.shape[0], *layers.shape[2:]), np.uint16)
    flat = out.reshape(layers.shape[0], -1)
    for where, values, valid in _chunks(layers):
        # what lies between two numbers up to the last bits is half of them
        flat[:, where] = np.floor(np.rint(_settle(values, valid) * 100) / 100 + 0.5)
    return out


def _settle(values: Numbers, valid: npt.NDArray[np.bool_]) -> Numbers:
    """Return (band, pixel), 0 where nothing is valid."""
    found = np.zeros((values.shape[0], values.shape[2]))
    there = np.flatnonzero(valid.any(axis=0))
    values, is_there = values[:, :, there], valid[:, there].astype(np.float64)
    now = _over_time(values * is_there) / _over_time(is_there)
    left = there  # those that haven't settled
    for step in range(ITERATIONS):
        apart = now[:, None] - values
        distances = _lengths(apart)
        weights = is_there / np.maximum(distances, _NEAREST)
        whole = _over_time(weights)
        pull = _over_time(apart * weights)  # the gradient of the sum of distances
        following = now - pull / whole  # Weiszfeld's step
        if step >= _FIRST_STEPS:
            way = _solve(_curvature(apart, distances, weights, whole), pull)
            best = _over_time(_lengths(following[:, None] - values) * is_there)
            for part in _PARTS:
                newton = now - part * way
                cost = _over_time(_lengths(newton[:, None] - values) * is_there)
                following, best = np.where(cost < best, newton, following), np.minimum(cost, best)
        settled = (np.abs(following - now).max(axis=0) <= TOLERANCE) & (step > _FIRST_STEPS)
        settled |= _over_time(is_there) <= 2  # all between two are equally near
        now = np.where(_over_time(is_there) <= 2, now, following)
        if step % 4 == 3:  # near an observation steps become ever smaller: it is looked at by itself
            nearest = np.where(is_there > 0, distances, np.inf).argmin(axis=0)
            at = np.take_along_axis(values, nearest[None, None], axis=1)[:, 0]
            ends_there = _is_settled_at(at, values, is_there)
            now = np.where(ends_there, at, now)
            settled |= ends_there
        if settled.any():
            found[:, left[settled]] = now[:, settled]
            open_ = ~settled
            left, now, values, is_there = left[open_], now[:, open_], values[:, :, open_], is_there[:, open_]
        if not len(left):
            break
    found[:, left] = now
    return found


def _over_time(stack: Numbers) -> Numbers:
    """Add (…, time, pixel) up over time, one after the other: what isn't there changes nothing, wherever it lies."""
    total = np.zeros((*stack.shape[:-2], stack.shape[-1]))
    for number in range(stack.shape[-2]):
        total += stack[..., number, :]
    return total


def _lengths(vectors: Numbers) -> Numbers:
    """Return the lengths of (band, …)."""
    total = np.zeros(vectors.shape[1:])
    for band in vectors:
        total += band * band
    return np.sqrt(total)


def _curvature(apart: Numbers, distances: Numbers, weights: Numbers, whole: Numbers) -> list[list[Numbers]]:
    """Return the second derivatives of the sum of distances, [band][band] of (pixel,), the lower half.

    A little is added along the diagonal: points on a line have none along it.
    """
    units = apart / np.maximum(distances, _NEAREST)
    rows: list[list[Numbers]] = []
    for one in range(len(units)):
        row = [-_over_time(weights * units[one] * units[other]) for other in range(one + 1)]
        row[one] = row[one] + whole * (1 + 1e-6)
        rows.append(row)
    return rows


def _solve(matrix: list[list[Numbers]], right: Numbers) -> Numbers:
    """Solve symmetric positive systems, one per pixel, by Cholesky's way; in operations that IEEE 754 defines."""
    size = len(matrix)
    lower: list[list[Numbers]] = [[] for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            value = matrix[i][j].copy()
            for k in range(j):
                value -= lower[i][k] * lower[j][k]
            lower[i].append(np.sqrt(np.maximum(value, 1e-12)) if i == j else value / lower[j][j])
    found = right.copy()
    for i in range(size):
        for k in range(i):
            found[i] -= lower[i][k] * found[k]
        found[i] /= lower[i][i]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            found[i] -= lower[k][i] * found[k]
        found[i] /= lower[i][i]
    return found


def _is_settled_at(at: Numbers, values: Numbers, is_there: Numbers) -> npt.NDArray[np.bool_]:
    """Tell whether an observation is the geometric median: what pulls away from it is no stronger than what is there.

    Vardi & Zhang (2000), doi:10.1073/pnas.97.4.1423.
    """
    apart = values - at[:, None]
    distances = _lengths(apart)
    away = np.where(distances > 0, is_there / np.maximum(distances, 1e-9), 0.0)
    held: npt.NDArray[np.bool_] = _lengths(_over_time(apart * away)) <= _over_time(is_there * (distances == 0))
    return held


def latest(layers: U16, needed: Sequence[U16] = ()) -> Picks:  # noqa: ARG001
    """Pick the last valid observation."""
    out = np.full(layers.shape[2:], -1, np.intp)
    for number in range(layers.shape[1]):
        out[(layers[:, number] != 0).all(axis=0)] = number
    return out


def greenest(layers: U16, needed: Sequence[U16]) -> Picks:
    """Pick the observation with the largest NDVI; of equal ones the earliest. `needed` are red and near infrared."""
    out = np.full(layers.shape[2:], -1, np.intp)
    best = np.full(layers.shape[2:], -np.inf)
    for number in range(layers.shape[1]):
        red, nir = (band[number].astype(np.float64) for band in needed)
        valid = (layers[:, number] != 0).all(axis=0) & (red > 0) & (nir > 0)
        ndvi = np.where(valid, (nir - red) / np.maximum(nir + red, 1), -np.inf)
        better = ndvi > best
        best[better] = ndvi[better]
        out[better] = number
    return out


def count_valid(stack: U16) -> U16:
    """Count the valid observations of every pixel."""
    count = np.zeros(stack.shape[1:], np.uint16)
    for layer in stack:
        count += layer != 0
    return count


def count_joint(layers: U16) -> U16:
    """Count the observations of every pixel of (band, time, y, x) that have all bands."""
    count = np.zeros(layers.shape[2:], np.uint16)
    for number in range(layers.shape[1]):
        count += (layers[:, number] != 0).all(axis=0)
    return count


_MEDIAN = Composite("median", "median of the clear observations", 1, by_band=median)
COMPOSITES = {
    one.name: one
    for one in (
        _MEDIAN,
        Composite("mean", "mean of the clear observations", 1, by_band=mean),
        Composite("medoid", "clear observation nearest to the others", 1, pick=medoid),
        Composite("geomedian", "geometric median of the clear observations", 1, by_bands=geomedian),
        Composite("max-ndvi", "clear observation with the largest NDVI", 1, pick=greenest, needs=("red", "nir")),
        Composite("latest", "latest clear observation", 1, pick=latest),
    )
}
"""By name; `composite_of` also knows families of them."""


EXAMPLES = (*COMPOSITES, "percentile:25", "clearest-3")
"""Of all names that `composite_of` knows, for people."""


@cache
def composite_of(text: str) -> Composite | None:
    """Return the composite of a name: of `COMPOSITES`, ``percentile:25`` or ``clearest-3``; None for any other."""
    if text in COMPOSITES:
        return COMPOSITES[text]
    family, separator, number = text.partition(":" if ":" in text else "-")
    count = int(number) if re.fullmatch(r"[1-9]\d{0,2}", number, re.ASCII) else 0
    if (family, separator) == ("percentile", ":"):
        part = _part(number)
        title = f"percentile {number} of the clear observations"
        return part and Composite(text, title, 1, by_band=partial(percentile, part=part[0]))
    if (family, separator) == ("clearest", "-") and count == 1:
        return Composite(text, "pass with most clear pixels", 1, pick=latest, clearest=1)
    if (family, separator) == ("clearest", "-") and count:
        title = f"median of the clear observations of the {count} passes with most clear pixels"
        return Composite(text, title, 1, by_band=median, clearest=count)
    return None


def check_composite(text: str, name: str, *, has_days: bool = False) -> Composite:
    """Return the composite of a name; `UsageError` where there is none, or it has no days to be written.

    `name` is the parameter that gave it.
    """
    found = composite_of(text)
    if found is None:
        raise UsageError(
            f"{option(name)} must be one of {', '.join(EXAMPLES)}, got {show(text)}.",
            "Percentiles are from 0 to 100, and the clearest passes one or more.",
        )
    if has_days and found.pick is None:
        raise UsageError(
            f"{option('date_band', True)} needs a composite that picks observations, and {text} makes new values.",
            "",
            f"Try {option(name, 'medoid')}.",
        )
    return found


def _part(text: str) -> tuple[Fraction] | None:
    """Return a percentage as a part, in a tuple since it may be 0; None for what isn't one from 0 to 100."""
    if not re.fullmatch(r"(0|[1-9]\d{0,2})(\.\d{0,5}[1-9])?", text, re.ASCII):
        return None
    part = Fraction(text) / 100
    return (part,) if part <= 1 else None
