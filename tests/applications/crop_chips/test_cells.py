"""Cells: each field is in exactly one."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.applications.crop_chips.cells import MOST_CELLS, Lattice, Listed
from eoap_dask.errors import UsageError

numbers = st.floats(-1e6, 1e6).map(lambda metres: round(metres, 6))  # a grid finer than that is none


def test_rows_are_from_north_and_columns_from_west() -> None:
    cells = Lattice.over((0, 0, 100, 50), 10)
    points = np.array([(1, 49), (99, 49), (1, 1), (99, 1), (35, 27)], float)
    assert [cells.cell(number).name for number in cells.of(points)] == [
        *("cell0000", "cell0009", "cell0900", "cell0909", "cell0403")
    ]
    assert cells.cell(43).shape.bounds == (30, 25, 40, 30)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40), st.integers(1, 15))
def test_each_point_is_in_the_cell_that_holds_it(points: list[tuple[float, float]], count: int) -> None:
    xy = np.array(points)
    (left, bottom), (right, top) = xy.min(axis=0), xy.max(axis=0)
    if not (right > left and top > bottom):
        with pytest.raises(UsageError, match="no extent"):
            Lattice.over((left, bottom, right, top), count)
        return
    cells = Lattice.over((left, bottom, right, top), count)
    near = max(right - left, top - bottom) * 1e-9
    for point, number in zip(points, cells.of(xy), strict=True):
        assert 0 <= number < count**2
        assert shapely.distance(cells.cell(number).shape, shapely.Point(point)) <= near


def test_a_border_belongs_to_the_south_and_east() -> None:
    cells = Lattice.over((0, 0, 100, 100), 2)
    assert cells.of(np.array([(50.0, 50.0), (0.0, 100.0), (100.0, 0.0), (50.0, 100.0)])).tolist() == [3, 0, 3, 1]


def test_cells_of_a_size_stay_where_they_are_when_fields_come() -> None:
    few, more = (Lattice.of_size((left, 1, 9_999, 9_999), 3000) for left in (4_000, 100))
    shape = {few.cell(n).shape.bounds for n in range(few.rows * few.cols)}
    assert shape < {more.cell(n).shape.bounds for n in range(more.rows * more.cols)}
    assert (few.rows, few.cols, more.cols) == (4, 3, 4)


@pytest.mark.parametrize("top", [3000.0, 2999.0, 3001.0])
def test_fields_on_the_last_border_are_within(top: float) -> None:
    cells = Lattice.of_size((0, 0, 3000, top), 3000)
    for point in [(0, 0), (3000, 0), (0, top), (3000, top)]:
        (number,) = cells.of(np.array([point], float))
        assert cells.cell(number).shape.intersects(shapely.Point(point))


def test_too_many_cells_are_refused() -> None:
    with pytest.raises(UsageError, match=f"Expected at most {MOST_CELLS}"):
        Lattice.of_size((0, 0, 1e6, 1e6), 10)


def test_names_of_many_cells_are_unique() -> None:
    cells = Lattice.over((0, 0, 1, 1), 120)
    assert len({cells.cell(n).name for n in range(120**2)}) == 120**2


def test_listed_cells_are_numbered_in_their_order_and_the_first_takes_a_field() -> None:
    cells = Listed((shapely.box(0, 0, 2, 2), shapely.box(1, 0, 3, 2)))
    assert cells.of(np.array([(0.5, 1), (1.5, 1), (2.5, 1), (9.0, 9)])).tolist() == [0, 0, 1, -1]
    assert cells.cell(1).name == "cell0001"
