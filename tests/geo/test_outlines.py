"""Outlines of burned areas, against GDAL's own of the whole picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rasterio.features import rasterize
from scipy import ndimage

from eoap_dask.geo.outlines import Perimeter, Piece, Side, cut_pieces, join_pieces, outside_sides

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def outlines(burned: Mask, side: int, min_pixels: int = 0, outside: Mask | None = None) -> tuple[Perimeter, ...]:
    outside = np.zeros_like(burned) if outside is None else outside
    weights = np.arange(burned.size).reshape(burned.shape)
    pieces: list[Piece] = []
    sides: list[Side] = []
    for row in range(0, burned.shape[0], side):
        for col in range(0, burned.shape[1], side):
            part = np.s_[row : row + side, col : col + side]
            pieces += cut_pieces(burned[part], weights[part], row, col, min_pixels, outside[part])
            sides += outside_sides(outside[part], row, col)
    return join_pieces(pieces[::-1], burned.shape, min_pixels, sides)


MASKS = st.tuples(st.integers(1, 23), st.integers(1, 23)).flatmap(lambda shape: arrays.arrays(bool, shape))


@settings(deadline=None, max_examples=30)
@given(MASKS, st.integers(1, 24), st.integers(0, 9))
def test_blocks_do_not_show(burned: Mask, side: int, min_pixels: int) -> None:
    whole, parts = outlines(burned, 999, min_pixels), outlines(burned, side, min_pixels)
    assert [(p.outline.wkb, p.pixels, p.weight) for p in whole] == [(p.outline.wkb, p.pixels, p.weight) for p in parts]


@settings(deadline=None, max_examples=30)
@given(MASKS, st.integers(1, 24), st.integers(0, 9))
def test_every_area_is_outlined_with_its_pixels(burned: Mask, side: int, min_pixels: int) -> None:
    labels, number = ndimage.label(burned)
    sizes = np.bincount(labels.reshape(-1), minlength=number + 1)
    large = np.isin(labels, np.flatnonzero(sizes >= min_pixels)) & burned
    found = outlines(burned, side, min_pixels)
    assert sorted(p.pixels for p in found) == sorted(n for n in sizes[1:] if n >= min_pixels)
    assert all(p.outline.is_valid and p.outline.area == p.pixels for p in found)
    painted = rasterize([p.outline for p in found], burned.shape, dtype="uint8") if found else np.zeros(burned.shape)
    np.testing.assert_array_equal(painted, large)
    weights = np.arange(burned.size).reshape(burned.shape)
    assert sum(p.weight for p in found) == weights[large].sum()


@pytest.mark.long
@settings(deadline=None, max_examples=200)
@given(st.integers(3, 17), st.integers(3, 17), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_an_area_is_cut_where_it_meets_the_edge_or_the_outside(
    height: int, width: int, side: int, min_pixels: int, seed: int
) -> None:
    ground = np.random.default_rng(seed).choice([0, 1, 2], (height, width), p=[0.6, 0.35, 0.05])
    burned, outside = ground == 1, ground == 2
    beyond = np.pad(outside, 1, constant_values=True)
    beside = ndimage.binary_dilation(beyond)[1:-1, 1:-1]  # by the sides of pixels
    labels, number = ndimage.label(burned)
    expected = {
        (int((labels == one).sum()), bool((beside & (labels == one)).any()), tuple(np.argwhere(labels == one)[0]))
        for one in range(1, number + 1)
        if (labels == one).sum() >= min_pixels
    }
    found = outlines(burned, side, min_pixels, outside)
    first = {p: np.argwhere(rasterize([p.outline], burned.shape, dtype="uint8"))[0] for p in found}
    assert {(p.pixels, p.cut, tuple(first[p])) for p in found} == expected


@pytest.mark.parametrize("side", [1, 2, 3, 9])
def test_a_cut_area_by_hand(side: int) -> None:
    burned, outside = np.zeros((7, 7), bool), np.zeros((7, 7), bool)
    burned[2:4, 2:4] = True
    assert [p.cut for p in outlines(burned, side, 0, outside)] == [False]
    outside[4:, 4:] = True  # at a corner
    assert [p.cut for p in outlines(burned, side, 0, outside)] == [False]
    outside[4:, 3:] = True
    assert [p.cut for p in outlines(burned, side, 0, outside)] == [True]


def test_a_ring_by_hand() -> None:
    burned = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
    ring, single = outlines(burned, 2)
    assert ring.outline.equals_exact(
        shapely.normalize(shapely.Polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (2, 1), (2, 2), (1, 2)]]))
    )
    assert (ring.pixels, ring.weight) == (8, 0 + 1 + 2 + 4 + 6 + 8 + 9 + 10)
    assert shapely.get_num_coordinates(ring.outline) == 10  # no corner where the blocks met
    assert single.outline.equals(shapely.box(3, 3, 4, 4))  # a corner doesn't join them


@pytest.mark.parametrize("burned", [np.zeros((5, 4), bool), np.zeros((1, 1), bool)])
def test_nothing_burned(burned: Mask) -> None:
    assert outlines(burned, 3) == ()
