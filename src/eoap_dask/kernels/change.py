"""Change between two dates: robust change vector analysis (CVA), and iteratively reweighted MAD (IR-MAD).

Both compare two images on one grid, (band, y, x), 0 = no data, by statistics over all pixels that both dates see in
every band. The statistics are gathered piece by piece and added up: for CVA as exact counts, whatever the pieces; for
IR-MAD as sums in double precision, the same for the same pieces in the same order.

References
----------
CVA: Malila, "Change vector analysis: an approach for detecting forest changes with Landsat", 1980; Bruzzone & Prieto,
IEEE TGRS 38(3), 2000; Bovolo & Bruzzone, IEEE TGRS 45(1), 2007. Threshold: Otsu, IEEE TSMC 9(1), 1979. IR-MAD: Nielsen,
Conradsen & Simpson, RSE 64, 1998; Nielsen, IEEE TIP 16(2), 2007, doi:10.1109/TIP.2006.888195.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.linalg import eigh
from scipy.special import betainc, chdtrc, chdtri

Pixels = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TO_SIGMA = 1.4826
"""Standard deviations of a normal distribution in one MAD."""
BINS_PER_UNIT, BINS = 32, 4096
"""Of the histogram of magnitudes: what is above 128 is in the last bin."""
SURE = 0.99
"""Share of unchanged pixels that stay below the smallest threshold, if they are normally distributed."""
RIDGE = 1e-6
"""Share of a band's variance that is added to it, so that bands which hardly differ can be told apart."""
LEAST_VARIANCE = 1e-6
"""Of a canonical variate's difference, whose own variates have 1: identical dates have none."""

_QUANTISED = 1 / 12  # variance of whole numbers that stand for anything between their neighbours


def seen(before: Pixels, after: Pixels) -> Flags:
    """Return where both dates have data in every band: (y, x)."""
    found: Flags = (before != 0).all(axis=0) & (after != 0).all(axis=0)
    return found


def least_threshold(bands: int) -> float:
    """Return the square root of the χ² quantile: what 99 % of unchanged pixels of so many bands stay below."""
    return float(np.sqrt(chdtri(bands, 1 - SURE)))


# ----------------------------------------------------------------------------------------------------
# Change vector analysis

Counted = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Values, rising, and how often each occurs."""


def count_values(values: npt.NDArray[np.integer]) -> Counted:
    """Count whole numbers of any shape."""
    found, counts = np.unique(values, return_counts=True)
    return found.astype(np.int64), counts.astype(np.int64)


def merge_counted(one: Counted, other: Counted) -> Counted:
    """Return what two counts come to, in whatever order."""
    values, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, places, np.concatenate([one[1], other[1]]))
    return values, counts


def count_differences(before: Pixels, after: Pixels) -> list[Counted]:
    """Count after − before of each band, stored units, where both dates have data."""
    inside = seen(before, after)
    return [
        count_values(last[inside].astype(np.int64) - first[inside].astype(np.int64))
        for first, last in zip(before, after, strict=True)
    ]


def median_of(counted: tuple[Floats | npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> float:
    """Return the median of counted values, rising; the mean of both middle ones of an even number."""
    values, counts = counted
    below = np.cumsum(counts)
    low, high = ((int(below[-1]) - 1) // 2, int(below[-1]) // 2)
    return float(values[np.searchsorted(below, low, "right")] + values[np.searchsorted(below, high, "right")]) / 2


@dataclass(frozen=True)
class Centre:
    """What most pixels of each band differ by, and how far they scatter around it; stored units."""

    median: tuple[float, ...]
    mad: tuple[float, ...]
    """Median absolute deviation, as measured."""

    @classmethod
    def of(cls, counted: Sequence[Counted]) -> Centre:
        """Return it, from counted differences of each band."""
        medians = [median_of(one) for one in counted]
        deviations = []
        for (values, counts), middle in zip(counted, medians, strict=True):
            off = np.abs(values - middle)
            order = np.argsort(off, kind="stable")
            deviations.append(median_of((off[order], counts[order])))
        return cls(tuple(medians), tuple(deviations))


def magnitude(before: Pixels, after: Pixels, centre: Centre, least_mad: float) -> Floats:
    """Return the length of the change vector, in standard deviations of no change: (y, x), NaN where either is blind.

    ``sqrt(Σ ((d − median) / (1.4826 · max(MAD, least_mad)))²)`` over the bands, with ``d`` = after − before.
    """
    total = np.zeros(before.shape[1:])
    for first, last, middle, mad in zip(before, after, centre.median, centre.mad, strict=True):
        off = last.astype(np.float64) - first.astype(np.float64) - middle
        total += (off / (TO_SIGMA * max(mad, least_mad))) ** 2
    found: Floats = np.where(seen(before, after), np.sqrt(total), np.nan)
    return found


def count_magnitudes(magnitudes: Floats) -> npt.NDArray[np.int64]:
    """Return the histogram of magnitudes, NaN left out: `BINS` of 1/32."""
    found = magnitudes[np.isfinite(magnitudes)]
    bins = np.minimum((found * BINS_PER_UNIT).astype(np.int64), BINS - 1)
    counts: npt.NDArray[np.int64] = np.bincount(bins, minlength=BINS)
    return counts


def otsu(counts: npt.NDArray[np.int64], most: float) -> float:
    """Return the magnitude that parts a histogram of `count_magnitudes` in two with most variance between them.

    What is above `most` counts as if it were there: a cloud that was missed would else part itself from all the rest,
    with what has changed.
    """
    last = min(int(most * BINS_PER_UNIT), len(counts) - 1)
    counts = np.append(counts[:last], counts[last:].sum())
    middles = (np.arange(len(counts)) + 0.5) / BINS_PER_UNIT
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = sums / below - (sums[-1] - sums) / above
        between = np.where((below > 0) & (above > 0), below * above * apart**2, 0.0)
    return float(np.argmax(between) + 1) / BINS_PER_UNIT


# ----------------------------------------------------------------------------------------------------
# IR-MAD


@dataclass(frozen=True)
class Moments:
    """Weighted sums over pixels of both dates' bands, 2p of them, about an origin."""

    weight: float
    squares: float
    """Of the weights."""
    first: Floats
    """(2p,)."""
    second: Floats
    """(2p, 2p)."""
    pixels: int

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.weight + other.weight,
            self.squares + other.squares,
            self.first + other.first,
            self.second + other.second,
            self.pixels + other.pixels,
        )

    @property
    def effective(self) -> float:
        """How many pixels of equal weight would tell as much."""
        return self.weight**2 / self.squares if self.squares else 0.0


@dataclass(frozen=True)
class Variates:
    """Pairs of canonical variates, from the most to the least correlated."""

    before: Floats
    """(p, p): a column each, of weights for the bands before."""
    after: Floats
    mean: Floats
    """(2p,): of the bands before, then after."""
    correlation: Floats
    """(p,)."""
    shrunk: float = 1.0
    """Share of the variance of no change that weights have left, see `left_by_weights`."""

    @property
    def variance(self) -> Floats:
        """Of the difference of each pair where nothing changed."""
        found: Floats = np.maximum(2 * (1 - self.correlation) / self.shrunk, LEAST_VARIANCE)
        return found


def left_by_weights(bands: int) -> float:
    """Return the share of a variance that is left where pixels weigh as likely as their χ² or a larger one is.

    Of normal noise ``E[w Z] / (p E[w])`` with ``w = P(χ² > Z)``, which is ``2 P(χ²(p) > χ²(p + 2))``: 0.69 for six
    bands. IR-MAD as published takes the variance that is left for that of no change; each round then calls more pixels
    changed, up to a quarter of noise alone.
    """
    return float(2 * (1 - betainc(bands / 2, bands / 2 + 1, 0.5)))


def _columns(before: Pixels, after: Pixels) -> Floats:
    """Return (2p, pixel) of what both dates see."""
    inside = seen(before, after)
    return np.concatenate([before[:, inside], after[:, inside]]).astype(np.float64)


def moments(before: Pixels, after: Pixels, variates: Variates | None) -> Moments:
    """Return the sums over some pixels; each weighs how likely it is that nothing changed, by earlier variates."""
    columns = _columns(before, after)
    if variates is None:
        weights = np.ones(columns.shape[1])
    else:
        weights = chdtrc(len(before), _chi_square(columns, variates))
        columns -= variates.mean[:, None]  # about an origin near the mean nothing is lost
    return Moments(
        float(weights.sum()),
        float((weights**2).sum()),
        np.einsum("bn,n->b", columns, weights),
        np.einsum("bn,cn,n->bc", columns, columns, weights),
        len(weights),
    )


def canonical(found: Moments, earlier: Variates | None) -> Variates:
    """Return the variates of the bands whose sums these are, with weights by earlier ones."""
    mean = found.first / found.weight
    covariance = found.second / found.weight - np.outer(mean, mean)
    spread = np.maximum(np.diag(covariance), _QUANTISED)
    unit = np.sqrt(spread)
    scaled = covariance / np.outer(unit, unit)  # so that neither gain nor unit of a band matters
    bands = len(mean) // 2
    first, last, across = scaled[:bands, :bands], scaled[bands:, bands:], scaled[:bands, bands:]
    first, last = (_symmetric(one) + RIDGE * np.eye(bands) for one in (first, last))
    values, vectors = eigh(_symmetric(across @ np.linalg.solve(last, across.T)), first)
    order = np.argsort(-values, kind="stable")
    correlation = np.sqrt(np.clip(values[order], 0.0, 1.0))
    before = vectors[:, order]
    after = np.linalg.solve(last, across.T @ before)
    lengths = np.sqrt(np.einsum("bi,bc,ci->i", after, last, after))
    after = np.where(lengths > 0, after / np.maximum(lengths, 1e-300), 0.0)
    return Variates(
        before / unit[:bands, None],
        after / unit[bands:, None],
        mean if earlier is None else mean + earlier.mean,
        correlation,
        1.0 if earlier is None else left_by_weights(bands),
    )


def _symmetric(matrix: Floats) -> Floats:
    return (matrix + matrix.T) / 2


def _chi_square(columns: Floats, variates: Variates) -> Floats:
    """Return Σ MAD²/σ² of each pixel, (pixel,)."""
    bands = len(columns) // 2
    off = columns - variates.mean[:, None]
    differences = np.einsum("bi,bn->in", variates.before, off[:bands])
    differences -= np.einsum("bi,bn->in", variates.after, off[bands:])
    found: Floats = np.einsum("in,i->n", differences**2, 1 / variates.variance)
    return found


def mad_score(before: Pixels, after: Pixels, variates: Variates) -> Floats:
    """Return the square root of ``Σ MAD²/σ²``: (y, x), NaN where either date is blind."""
    found = np.full(before.shape[1:], np.nan)
    found[seen(before, after)] = np.sqrt(_chi_square(_columns(before, after), variates))
    return found


# ----------------------------------------------------------------------------------------------------


def sieve(changed: Flags, least: int) -> Flags:
    """Return a mask without patches of fewer pixels than `least`, counted over edges and corners.

    A pixel's answer depends on those within `least` pixels of it alone.
    """
    if least <= 1:
        return changed
    patches, _ = ndimage.label(changed, np.ones((3, 3), int))
    large = np.bincount(patches.ravel()) >= least
    large[0] = False
    found: Flags = large[patches]
    return found
