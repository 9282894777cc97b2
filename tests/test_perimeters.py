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

from eoap_dask.perimeters import Perimeter, cut_pieces, join_pieces

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def outlines(burned: Mask, side: int, min_pixels: int = 0) -> tuple[Perimeter, ...]:
    weights = np.arange(burned.size).reshape(burned.shape)
    pieces = []
    for row in range(0, burned.shape[0], side):
        for col in range(0, burned.shape[1], side):
            part = np.s_[row : row + side, col : col + side]
            pieces += cut_pieces(burned[part], weights[part], row, col, min_pixels)
    return join_pieces(pieces[::-1], min_pixels)


MASKS = st.tuples(st.integers(1, 23), st.integers(1, 23)).flatmap(lambda shape: arrays.arrays(bool, shape))


@settings(deadline=None, max_examples=150)
@given(MASKS, st.integers(1, 24), st.integers(0, 9))
def test_blocks_do_not_show(burned: Mask, side: int, min_pixels: int) -> None:
    whole, parts = outlines(burned, 999, min_pixels), outlines(burned, side, min_pixels)
    assert [(p.outline.wkb, p.pixels, p.weight) for p in whole] == [(p.outline.wkb, p.pixels, p.weight) for p in parts]


@settings(deadline=None, max_examples=150)
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
