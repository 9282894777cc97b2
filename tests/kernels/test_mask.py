"""The rules on scene classes against a loop over pixels, and at the border of one fifth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eoap_dask.kernels.mask import class_table, dropped_nearest, dropped_share
from eoap_dask.scenes.sensor import sensor_for

DROPPED = (0, 1, 3, 8, 9, 10)
TABLE = class_table(DROPPED)
CLEAR, CLOUD, NODATA = 4, 9, 0

Classes = np.ndarray[Any, np.dtype[np.uint8]]


def test_the_sensor_drops_what_the_rule_says() -> None:
    assert sensor_for("sentinel-2-l2a").mask_dropped == DROPPED
    assert sensor_for("sentinel-2-l2a").mask_nodata == NODATA


def test_the_table_holds_for_every_number() -> None:
    assert [number for number in range(256) if TABLE[number]] == list(DROPPED)
    assert TABLE.shape == (256,)
    assert not class_table(()).any()


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 255)))
def test_nearest_drops_the_class_itself(classes: Classes) -> None:
    dropped = dropped_nearest(classes, TABLE)
    assert dropped.dtype == bool
    for (row, col), number in np.ndenumerate(classes):
        assert dropped[row, col] == (int(number) in DROPPED)


@st.composite
def samples_of(draw: st.DrawFn) -> tuple[Classes, int]:
    n = draw(st.integers(1, 7))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    mostly = draw(st.sampled_from([[0, 4, 9], [4, 4, 4, 4, 4, 9], [0, 0, 0, 5, 8], list(range(12)), [0]]))
    return draw(hnp.arrays(np.uint8, (shape[0] * n, shape[1] * n), elements=st.sampled_from(mostly))), n


@settings(deadline=None)
@given(samples_of())
def test_share_is_that_of_a_loop_over_pixels(case: tuple[Classes, int]) -> None:
    classes, n = case
    dropped = dropped_share(classes, TABLE, n)
    assert dropped.shape == (classes.shape[0] // n, classes.shape[1] // n)
    assert dropped.dtype == bool
    for row in range(dropped.shape[0]):
        for col in range(dropped.shape[1]):
            points = [int(classes[row * n + i, col * n + j]) for i in range(n) for j in range(n)]
            seen = [p for p in points if p != NODATA]
            bad = [p for p in seen if p in DROPPED]
            assert dropped[row, col] == (not seen or len(bad) / len(seen) > 0.2), (row, col)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 10])
def test_one_fifth_is_kept_and_more_is_dropped(n: int) -> None:
    rng = np.random.default_rng(n)
    for clouds in range(n * n + 1):
        points = np.full(n * n, CLEAR, np.uint8)
        points[:clouds] = CLOUD
        dropped = dropped_share(rng.permutation(points).reshape(n, n), TABLE, n)
        assert dropped.tolist() == [[5 * clouds > n * n]]


@pytest.mark.parametrize(("clouds", "clear", "dropped"), [(1, 4, False), (2, 8, False), (1, 3, True), (3, 11, True)])
def test_points_without_data_do_not_count(clouds: int, clear: int, dropped: bool) -> None:
    points = np.zeros(25, np.uint8)
    points[:clouds] = CLOUD
    points[clouds : clouds + clear] = CLEAR
    assert dropped_share(points.reshape(5, 5), TABLE, 5).tolist() == [[dropped]]
    # as many clouds among 25 seen points would be kept
    assert dropped_share(np.where(points == 0, CLEAR, points).reshape(5, 5), TABLE, 5).tolist() == [[False]]


def test_no_data_at_all_is_dropped_even_where_the_table_keeps_it() -> None:
    nothing = np.zeros((4, 4), np.uint8)
    assert dropped_share(nothing, TABLE, 2).all()
    assert dropped_share(nothing, class_table(()), 2).all()


def test_another_number_may_mean_no_data() -> None:
    points = np.array([[255, 255], [CLOUD, 255]], np.uint8)
    assert dropped_share(points, TABLE, 2, nodata=255).tolist() == [[True]]
    assert dropped_share(np.where(points == CLOUD, CLEAR, points), TABLE, 2, nodata=255).tolist() == [[False]]


def test_many_points_do_not_overflow() -> None:
    n = 600  # 360000 points: more than uint16 holds
    clouds = np.full((n, n), CLEAR, np.uint8)
    clouds[: n // 5] = CLOUD
    assert dropped_share(clouds, TABLE, n).tolist() == [[False]]
    clouds[-1, -1] = CLOUD
    assert dropped_share(clouds, TABLE, n).tolist() == [[True]]


def test_classes_are_left_alone() -> None:
    classes = np.arange(36, dtype=np.uint8).reshape(6, 6) % 12
    before = classes.copy()
    classes.flags.writeable = False
    dropped_nearest(classes, TABLE)
    dropped_share(classes, TABLE, 3)
    np.testing.assert_array_equal(classes, before)
