"""The median network against numpy and against hand-counted patterns; counts."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize

from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.kernels.composites import COMPOSITES, composite_of, count_valid, geomedian, mean, median, medoid
from eoap_dask.params import declarations
from eoap_dask.periods import PERIODS

CHUNK = 1 << 14
"""Pixels that the kernel takes at once; sizes around it are the risky ones."""

Stack = np.ndarray[Any, np.dtype[np.uint16]]


def reference(stack: Stack) -> Stack:
    """The median of what isn't 0, by numpy in float64; a half goes up."""
    values = np.where(stack == 0, np.nan, stack.astype(np.float64))
    some = (stack != 0).any(axis=0)
    out = np.zeros(stack.shape[1:], np.uint16)
    out[some] = np.floor(np.nanmedian(values[:, some], axis=0) + 0.5)
    return out


def random_stack(seed: int, depth: int, shape: tuple[int, ...], missing: float) -> Stack:
    rng = np.random.default_rng(seed)
    stack = rng.choice(np.array([1, 2, 3, 1000, 1001, 65534, 65535], np.uint16), (depth, *shape))
    several = rng.random(stack.shape) < 0.5  # the others repeat themselves
    stack[several] = rng.integers(1, 65536, int(several.sum()))
    stack[rng.random(stack.shape) < missing] = 0
    return stack


@settings(deadline=None)
@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3)),
        elements=st.one_of(st.just(0), st.sampled_from([1, 2, 3, 65534, 65535]), st.integers(0, 65535)),
    )
)
def test_median_is_that_of_numpy(stack: Stack) -> None:
    np.testing.assert_array_equal(median(stack), reference(stack), strict=True)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    depth=st.integers(1, 60),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    missing=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
def test_median_of_deep_stacks(seed: int, depth: int, shape: tuple[int, int], missing: float) -> None:
    stack = random_stack(seed, depth, shape, missing)
    np.testing.assert_array_equal(median(stack), reference(stack), strict=True)


@pytest.mark.parametrize("depth", range(1, 15))
def test_the_network_settles_the_middle_for_every_pattern(depth: int) -> None:
    # Knuth's 0-1 principle: a network that is right for every sequence of two values is right for all.
    patterns = np.arange(1 << depth)
    high = (patterns[None, :] >> np.arange(depth)[:, None] & 1).astype(bool)
    stack = np.where(high, 21, 10).astype(np.uint16)[:, None, :]
    highs = high.sum(axis=0)
    expected = np.select([2 * highs > depth, 2 * highs == depth], [21, 16], 10)  # (10 + 21) / 2 = 15.5, half up
    np.testing.assert_array_equal(median(stack)[0], expected)


@pytest.mark.parametrize("depth", range(1, 9))
def test_every_pattern_of_missing_observations(depth: int) -> None:
    patterns = np.indices((3,) * depth).reshape(depth, 1, -1)
    stack = np.array([0, 100, 65535], np.uint16)[patterns]
    lows, highs = (patterns == 1).sum(axis=0), (patterns == 2).sum(axis=0)
    expected = np.select(
        [lows + highs == 0, lows > highs, highs > lows],
        [0, 100, 65535],
        32818,  # (100 + 65535) / 2 = 32817.5
    )
    np.testing.assert_array_equal(median(stack), expected)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_median_across_the_borders_of_its_chunks(depth: int, size: int) -> None:
    stack = random_stack(size, depth, (1, size), 0.4)
    np.testing.assert_array_equal(median(stack), reference(stack), strict=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0], 0),
        ([7], 7),
        ([0, 0, 0, 0], 0),
        ([65535, 65535], 65535),
        ([1, 2], 2),
        ([65534, 65535], 65535),
        ([1, 65535], 32768),
        ([0, 1, 0, 2, 0], 2),
        ([5, 1, 3], 3),
        ([5, 1, 3, 0], 3),
        ([4, 1, 3, 2], 3),
        ([0, 0, 9, 0], 9),
        ([65535, 0, 65535, 1], 65535),
    ],
)
def test_medians_known_by_hand(values: list[int], expected: int) -> None:
    stack = np.array(values, np.uint16).reshape(-1, 1, 1)
    assert median(stack).tolist() == [[expected]]
    assert median(stack[::-1]).tolist() == [[expected]]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), depth=st.integers(1, 40))
def test_order_of_observations_is_irrelevant(seed: int, depth: int) -> None:
    stack = random_stack(seed, depth, (3, 4), 0.4)
    shuffled = stack[np.random.default_rng(seed + 1).permutation(depth)]
    np.testing.assert_array_equal(median(shuffled), median(stack), strict=True)
    np.testing.assert_array_equal(count_valid(shuffled), count_valid(stack), strict=True)


@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_the_stack_is_left_alone(depth: int) -> None:
    stack = random_stack(depth, depth, (5, 6), 0.3)
    before = stack.copy()
    stack.flags.writeable = False
    out = median(stack)
    assert not np.shares_memory(out, stack)
    assert count_valid(stack).shape == (5, 6)
    np.testing.assert_array_equal(stack, before)


def test_a_view_gives_what_its_copy_gives() -> None:
    stack = random_stack(3, 7, (10, 12), 0.3)
    view = stack[::2, 1:9:2, ::-3]
    np.testing.assert_array_equal(median(view), reference(view.copy()), strict=True)


def test_no_observation_at_all() -> None:
    nothing = np.zeros((0, 2, 3), np.uint16)
    np.testing.assert_array_equal(median(nothing), np.zeros((2, 3), np.uint16), strict=True)
    np.testing.assert_array_equal(count_valid(nothing), np.zeros((2, 3), np.uint16), strict=True)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(1, 60), st.integers(1, 3), st.integers(1, 3)),
        elements=st.sampled_from([0, 1, 65535]),
    )
)
def test_count_is_that_of_what_is_not_0(stack: Stack) -> None:
    expected = np.count_nonzero(stack, axis=0).astype(np.uint16)
    np.testing.assert_array_equal(count_valid(stack), expected, strict=True)


def test_help_tells_all_composites_and_periods() -> None:
    declared = declarations(MosaicParams)
    for name in COMPOSITES:
        assert name in declared["composite"][1].help
    for name in PERIODS:
        assert name in declared["period"][1].help
    assert all(name == composite.name for name, composite in COMPOSITES.items())


# --- other composites, each beside what its definition says, pixel by pixel


def cube_of(seed: int, bands: int, depth: int, size: int, missing: float, most: int = 12000) -> Stack:
    """(band, time, size) with duplicates, clouds over all bands, and some bands missing alone."""
    rng = np.random.default_rng(seed)
    cube = rng.integers(1, most, (bands, depth, size)).astype(np.uint16)
    for number in range(1, depth):  # what was seen before, or almost
        again = rng.random(size) < 0.3
        cube[:, number, again] = cube[:, rng.integers(0, number), again]
    cube[:, rng.random((depth, size)) < missing] = 0
    cube[0, rng.random((depth, size)) < 0.05] = 0
    return cube


def valid_of(cube: Stack, pixel: int) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Numbers of the observations that have all bands, and these, (observation, band)."""
    rows = cube[:, :, pixel].T
    numbers = [number for number, row in enumerate(rows) if (row != 0).all()]
    return numbers, rows[numbers].astype(np.int64)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), depth=st.integers(1, 100), missing=st.sampled_from([0.0, 0.4, 0.9, 1.0]))
def test_means_and_percentiles_are_what_they_say(seed: int, depth: int, missing: float) -> None:
    stack = random_stack(seed, depth, (5, 5), missing)
    got = mean(stack)
    percents = ["0", "25", "50", "99.5", "100"]
    ranked = {p: composite_of(f"percentile:{p}") for p in percents}
    found = {p: one.by_band(stack) for p, one in ranked.items() if one is not None and one.by_band is not None}
    assert list(found) == percents
    for y, x in np.ndindex(5, 5):
        values = sorted(int(value) for value in stack[:, y, x] if value)
        n = len(values)
        assert got[y, x] == ((2 * sum(values) + n) // (2 * n) if n else 0)
        for p, image in found.items():
            # the smallest with at least that share at or below it
            enough = [v for v in values if sum(w <= v for w in values) * 100 >= Fraction(p) * n]
            assert image[y, x] == (enough[0] if n else 0), p


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    bands=st.integers(1, 5),
    depth=st.integers(1, 12),
    missing=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)
def test_picks_are_what_they_say(seed: int, bands: int, depth: int, missing: float) -> None:
    cube = cube_of(seed, bands, depth, 20, missing)
    # few values, so that there are ties
    cube = np.minimum(cube, 5) if seed % 2 else cube
    needed = cube_of(seed + 1, 2, depth, 20, 0.0)
    medoids, last, green = (COMPOSITES[name].pick(cube, needed) for name in ("medoid", "latest", "max-ndvi"))  # type: ignore[misc]
    for pixel in range(20):
        numbers, values = valid_of(cube, pixel)
        sums = [sum(math.sqrt(int(((one - other) ** 2).sum())) for other in values) for one in values]
        if numbers:
            least = min(sums)
            assert medoids[pixel] in [n for n, s in zip(numbers, sums, strict=True) if s <= least * (1 + 1e-12)]
        else:
            assert medoids[pixel] == -1
        assert last[pixel] == max(numbers, default=-1)
        seen = [n for n in numbers if needed[:, n, pixel].all()]
        ndvi = {}
        for number in seen:
            red, nir = (int(value) for value in needed[:, number, pixel])
            ndvi[number] = Fraction(nir - red, nir + red)
        assert green[pixel] == min(ndvi, key=lambda n: (-ndvi[n], n), default=-1)


def test_of_equal_observations_the_earliest_is_picked() -> None:
    cube = np.array([[[7], [3], [7], [3]]], np.uint16)
    assert medoid(cube, cube).tolist() == [0]
    twins = np.array([[[0], [5], [5]], [[9], [6], [6]]], np.uint16)  # of the first a band is missing
    assert medoid(twins, twins).tolist() == [1]
    corners = [[1800, 2439, 2185], [3154, 2715, 2185], [3154, 2439, 3190], [1800, 2715, 3190]]  # of a box
    for turn in range(4):
        box = np.array(corners[turn:] + corners[:turn], np.uint16).T[:, :, None]
        assert medoid(box).tolist() == [0]
    green = np.array([[[1], [2], [1]], [[3], [6], [2]]], np.uint16)
    assert COMPOSITES["max-ndvi"].pick(green, green).tolist() == [0]  # type: ignore[misc]


def nearest_to_all(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The geometric median by long iterations with Vardi and Zhang's way past observations (2000, PNAS 97)."""
    now = np.median(points, axis=0)
    for _ in range(20000):
        distances = np.sqrt(((points - now) ** 2).sum(axis=1))
        apart = distances > 1e-9
        if not apart.any():
            return now
        weights = 1 / distances[apart]
        pull = (points[apart] * weights[:, None]).sum(axis=0) / weights.sum()
        here = (~apart).sum()
        force = np.linalg.norm(((points[apart] - now) * weights[:, None]).sum(axis=0))
        stay = 0.0 if not here else (1.0 if force <= here else here / force)
        following = (1 - stay) * pull + stay * now
        if np.abs(following - now).max() < 1e-9:
            return following
        now = following
    return now


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    bands=st.integers(1, 6),
    depth=st.integers(1, 30),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_the_geometric_median_is_nearest_to_all(seed: int, bands: int, depth: int, missing: float) -> None:
    cube = cube_of(seed, bands, depth, 8, missing, most=4000)
    found = geomedian(cube)
    for pixel in range(8):
        numbers, values = valid_of(cube, pixel)
        if not numbers:
            assert not found[:, pixel].any()
            continue
        cost = lambda at: np.sqrt(((values - at) ** 2).sum(axis=1)).sum()  # noqa: E731, B023
        # the place may be undetermined (an even number on a line): then none is nearer by more than rounding makes
        best = cost(nearest_to_all(values.astype(float)))
        assert cost(found[:, pixel]) <= best + 0.51 * math.sqrt(bands) * len(values) + 1e-6


def best_place(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same by SciPy, from several beginnings."""
    cost = lambda at: float(np.sqrt(((points - at) ** 2).sum(axis=1)).sum())  # noqa: E731
    begins = [points.mean(axis=0), nearest_to_all(points)]
    found = [minimize(cost, one, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9}).x for one in begins]
    return np.asarray(min([*found, *points], key=cost))


@pytest.mark.parametrize("kind", ["three", "cloud", "brightness"])
def test_the_geometric_median_is_within_a_stored_unit(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    pixels = 40
    if kind == "brightness":  # bands that vary together: points almost on a line
        ground, light = rng.integers(300, 3000, (3, 1, pixels)), rng.normal(1, 0.1, (1, 7, pixels))
        cube = ground * light + rng.normal(0, 5, (3, 7, pixels))
    else:
        depth = 3 if kind == "three" else 7
        cube = rng.integers(200, 4000, (3, 1, pixels)) + rng.normal(0, 150, (3, depth, pixels))
        if kind == "cloud":  # that was missed
            cube[:, 0] = rng.integers(6000, 9000, (3, pixels))
    cube = np.clip(cube, 1, 10000).astype(np.uint16)
    found = geomedian(cube)
    for pixel in range(pixels):
        expected = best_place(cube[:, :, pixel].T.astype(float))
        assert np.abs(found[:, pixel] - expected).max() <= 1, (pixel, found[:, pixel], expected)


def test_of_two_observations_the_geometric_median_is_the_mean_and_halves_round_up() -> None:
    rng = np.random.default_rng(1)
    cube = rng.integers(1, 10000, (3, 2, 2000)).astype(np.uint16)
    np.testing.assert_array_equal(geomedian(cube), (cube.astype(int).sum(axis=1) + 1) // 2)


def test_passes_that_see_nothing_here_change_nothing_wherever_they_lie() -> None:
    """Also where the result is half a unit: observations symmetric about it."""
    rng = np.random.default_rng(2)
    centre = rng.integers(1000, 5000, (3, 1, 800))
    away = rng.integers(1, 900, (3, 6, 800))
    seen = np.concatenate([centre - away, centre + 1 + away], axis=1).astype(np.uint16)
    wide = np.zeros((3, 30, 800), np.uint16)
    wide[:, sorted(rng.choice(30, 12, replace=False))] = seen
    for name in ("geomedian", "medoid", "mean"):
        composite = composite_of(name)
        assert composite is not None
        one, other = np.empty((2, 3, 800), np.uint16)
        composite.compose(seen, one)
        composite.compose(wide, other)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(geomedian(seen), centre[:, 0] + 1)


@pytest.mark.parametrize("name", ["mean", "medoid", "geomedian", "max-ndvi", "latest", "percentile:25", "clearest-2"])
def test_pixels_know_nothing_of_each_other(name: str) -> None:
    """Any piece of a large stack gives the same, also across the pieces that kernels work on."""
    cube = cube_of(3, 3, 9, 70_000, 0.4)[:, :, None]
    composite = composite_of(name)
    assert composite is not None
    whole = np.empty((3, 1, 70_000), np.uint16)
    picked = composite.compose(cube, whole, tuple(cube[:2]))
    for first, last in ((0, 1), (17, 3000), (65_500, 70_000)):
        part = np.empty((3, 1, last - first), np.uint16)
        some = composite.compose(cube[..., first:last], part, tuple(cube[:2, ..., first:last]))
        np.testing.assert_array_equal(part, whole[..., first:last])
        if picked is not None and some is not None:
            np.testing.assert_array_equal(some, picked[..., first:last])
    # layers without an observation change nothing, and neither do those that aren't there
    seen = np.concatenate([np.zeros_like(cube[:, :2]), cube], axis=1)[..., :500]
    again = np.empty((3, 1, 500), np.uint16)
    composite.compose(seen, again, tuple(seen[:2]))
    np.testing.assert_array_equal(again, whole[..., :500])
    nothing = np.full((3, 1, 5), 7, np.uint16)
    composite.compose(cube[:, :0, :, :5], nothing, tuple(cube[:2, :0, :, :5]))
    assert not nothing.any()


@pytest.mark.parametrize(
    "text",
    ["percentile", "percentile:", "percentile:101", "percentile:-1", "percentile:x", "percentile:1e1", "percentile-5",
     "clearest", "clearest-0", "clearest-x", "clearest:2", "clearest--1", "medians", "", "percentile:100.5",
     "clearest-" + "1" * 5000, "clearest-01", "clearest-1000", "percentile:25.0", "percentile:025", "clearest-\u0663"],
)  # fmt: skip
def test_names_of_no_composite(text: str) -> None:
    assert composite_of(text) is None
