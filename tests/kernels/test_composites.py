"""The median network against numpy and against hand-counted patterns; counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.kernels.composites import COMPOSITES, count_valid, median
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


def test_declared_choices_are_what_there_is() -> None:
    declared = declarations(MosaicParams)
    assert set(declared["composite"][1].choices) == set(COMPOSITES)
    assert set(declared["period"][1].choices) == set(PERIODS)
    assert all(name == composite.name for name, composite in COMPOSITES.items())
