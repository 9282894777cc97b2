"""Windows over a grid: where they lie, what they show, and that blends depend on neither blocks nor strips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eoap_dask.kernels.windows import Lattice, Pair, Steps, ramp, starts, stretch_table

Array = np.ndarray[Any, Any]
SIDE = 32
LATTICE = Lattice(SIDE, SIDE // 4, 0.1)


@given(length=st.integers(1, 700), side=st.sampled_from([32, 64, 256]))
def test_windows_cover_a_side_from_edge_to_edge_and_overlap(length: int, side: int) -> None:
    found = starts(length, side, side // 4)
    if length <= side:
        assert found == (-((side - length) // 2),)
        return
    assert (found[0], found[-1]) == (0, length - side)
    steps = np.diff(found)
    assert (steps > 0).all()
    assert steps.max() <= side - side // 4
    assert steps.max() - steps.min() <= 1
    # no more of them than that takes
    assert (len(found) - 2) * (side - side // 4) + side < length


def test_weights_rise_to_the_overlap() -> None:
    # by hand: (3t² - 2t³)³ of 4096, rounded down
    np.testing.assert_array_equal(ramp(8, 2), [512, *[4096] * 6, 512])
    np.testing.assert_array_equal(ramp(6, 3), [71, 1664, 4096, 4096, 1664, 71])


def test_reflectance_becomes_grey() -> None:
    table = stretch_table(0.0, 0.3)
    # by hand: 0.15 of 0.3 is half of 255, rounded up
    assert [table[value] for value in (0, 1, 1500, 3000, 65535)] == [0, 0, 128, 255, 255]
    assert [stretch_table(0.1, 0.2)[value] for value in (1000, 1100, 2000)] == [0, 26, 255]


def judged(pairs: Sequence[Pair]) -> list[Steps]:
    """Something of what each pixel shows and where it lies in its window."""
    ground = np.add.outer(np.arange(SIDE), 3 * np.arange(SIDE))
    return [(ground + one[0] + 2 * other[2].astype(int)).astype(np.uint16) for one, other in pairs]


def dates_of(shape: tuple[int, int], seed: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    before, after = (random.integers(1, 3000, (3, *shape)).astype(np.uint16) for _ in range(2))
    before[:, random.random(shape) < 0.1] = 0
    after[1, random.random(shape) < 0.1] = 0
    return before, after


def blended(dates: tuple[Array, Array], top: int = 0, bottom: int | None = None) -> tuple[Array, Array]:
    """Blend some rows, from what is within reach of them."""
    shape = dates[0].shape[1:]
    bottom = shape[0] if bottom is None else bottom
    wide = [np.pad(one, ((0, 0), (SIDE, SIDE), (SIDE, SIDE))) for one in dates]
    part = tuple(one[:, top : bottom + 2 * SIDE] for one in wide)
    found: tuple[Array, Array] = LATTICE.blend(part, stretch_table(0, 0.3), (top - SIDE, -SIDE), shape, judged)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("shape", [(70, 90), (20, 50), (32, 32), (33, 65)])
def test_a_blend_is_the_weighted_mean_of_the_windows_that_see_a_pixel(shape: tuple[int, int]) -> None:
    dates = dates_of(shape, 1)
    seen = (dates[0] > 0).all(0) & (dates[1] > 0).all(0)
    shown = [stretch_table(0, 0.3)[one].astype(int) for one in dates]
    there = [(one > 0).all(0) for one in dates]
    for band in range(3):  # where one date is blind, both show the other; where both are, black
        other = np.where(there[0], shown[0][band], np.where(there[1], shown[1][band], 0))
        for one in shown:
            one[band] = np.where(seen, one[band], other)
    total, weight = np.zeros(shape), np.zeros(shape)
    for row in starts(shape[0], SIDE, 8):
        for col in starts(shape[1], SIDE, 8):
            for y in range(max(row, 0), min(row + SIDE, shape[0])):
                for x in range(max(col, 0), min(col + SIDE, shape[1])):
                    own = ramp(SIDE, 8)[y - row] * ramp(SIDE, 8)[x - col]
                    value = (y - row) + 3 * (x - col) + shown[0][0][y, x] + 2 * shown[1][2][y, x]
                    total[y, x] += own * value
                    weight[y, x] += own
    expected = np.where(seen, np.floor(total / weight + 0.5), 0)
    found, is_known = blended(dates)
    np.testing.assert_array_equal(is_known, seen)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(1, 99), max_size=5, unique=True), seed=st.integers(0, 99))
def test_strips_change_nothing(cuts: list[int], seed: int) -> None:
    dates = dates_of((100, 60), seed)
    whole, known = blended(dates)
    edges = [0, *sorted(cuts), 100]
    parts = [blended(dates, top, bottom) for top, bottom in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate([one for one, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([one for _, one in parts]), known)


def test_windows_of_which_little_is_seen_tell_nothing() -> None:
    dates = dates_of((SIDE, SIDE), 2)
    dates[0][:, 3:] = 0  # three rows are less than a tenth of them
    found, known = blended(dates)
    assert not known.any()
    assert not found.any()
    dates = dates_of((SIDE, SIDE), 2)
    dates[0][:, 5:] = 0
    assert blended(dates)[1][:5].any()
    # of a grid that is smaller than a window, its own pixels count
    assert blended(dates_of((4, 4), 3))[1].any()
