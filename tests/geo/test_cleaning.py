"""Shapes as fields: valid, each once, and all others counted."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from eoap_dask.geo.cleaning import PolygonFilter, Tally

BOW_TIE = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
SPIKE = Polygon([(0, 0), (4, 0), (4, 4), (2, 4), (2, 9), (2, 4), (0, 4)])
FLAT = Polygon([(0, 0), (1, 1), (2, 2)])


def kept(*shapes: shapely.Geometry | None, in_degrees: bool = False) -> tuple[list[shapely.Geometry], Tally]:
    tally = Tally()
    where, found = PolygonFilter(tally, in_degrees=in_degrees).keep(np.array([*shapes, None], object)[:-1])
    assert len(where) == len(found) == tally.kept
    assert tally.rows == len(shapes)
    return list(found), tally


def test_what_is_well_stays() -> None:
    square, two = box(0, 0, 1, 1), MultiPolygon([box(0, 0, 1, 1), box(2, 0, 3, 1)])
    found, tally = kept(square, two)
    assert found == [square, two]
    assert tally == Tally(rows=2, kept=2)
    assert str(tally) == ""


def test_a_bow_tie_is_two_triangles() -> None:
    (found,), tally = kept(BOW_TIE)
    assert found.geom_type == "MultiPolygon"
    assert found.is_valid
    assert found.area == 0.5
    assert str(tally) == "1 repaired"


def test_only_areas_are_left_of_repairs() -> None:
    (found,), _ = kept(SPIKE)
    assert found.equals(box(0, 0, 4, 4))
    assert found.geom_type == "Polygon"


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (None, "1 empty left out"),
        (Polygon(), "1 empty left out"),
        (GeometryCollection(), "1 empty left out"),
        (Point(0, 0), "1 not of polygons left out"),
        (LineString([(0, 0), (1, 1)]), "1 not of polygons left out"),
        (GeometryCollection([Point(0, 0)]), "1 not of polygons left out"),
        (FLAT, "1 beyond repair left out"),
    ],
)
def test_what_is_no_field(shape: shapely.Geometry | None, what: str) -> None:
    found, tally = kept(shape)
    assert found == []
    assert str(tally) == what


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
@pytest.mark.parametrize("in_degrees", [False, True])
def test_what_has_no_place(odd: float, in_degrees: bool) -> None:
    with np.errstate(invalid="ignore"):
        shapes = [Polygon([(0, 0), (1, odd), (1, 1)]), Polygon([(0, 0), (odd, 1), (1, 1)]), BOW_TIE]
    found, tally = kept(*shapes, in_degrees=in_degrees)
    assert len(found) == 1
    assert (tally.broken + tally.across_180, tally.repaired) == (2, 1)


def test_polygons_of_collections_are_fields() -> None:
    found, tally = kept(GeometryCollection([Point(0, 0), box(0, 0, 1, 1)]))
    assert found == [box(0, 0, 1, 1)]
    assert str(tally) == ""


def test_what_goes_the_long_way_round() -> None:
    wide, right = box(-179.9, 0, 179.9, 1), MultiPolygon([box(179.9, 2, 180, 3)])
    found, tally = kept(wide, right, in_degrees=True)
    assert found == [right]
    assert str(tally) == "1 across 180° left out"
    assert kept(wide)[0] == [wide]


def test_the_first_of_duplicates_stays() -> None:
    """Also of those in other chunks, and of those that are repaired."""
    tally = Tally()
    fields = PolygonFilter(tally, in_degrees=False)
    shapes = np.array([box(n % 5, 0, n % 5 + 1, 1) for n in range(8)] + [BOW_TIE, BOW_TIE], object)
    where, _ = fields.keep(shapes)
    assert where.tolist() == [0, 1, 2, 3, 4, 8]
    where, _ = fields.keep(np.array([box(0, 0, 1, 1), box(9, 0, 10, 1), box(0, 0, 1, 1).reverse()], object))
    assert where.tolist() == [1, 2]
    assert tally == Tally(rows=13, kept=8, repaired=1, duplicates=5)
    assert str(tally) == "1 repaired; 5 duplicates left out"


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 12), max_size=9), max_size=9))
def test_duplicates_in_any_chunks(chunks: list[list[int]]) -> None:
    fields = PolygonFilter(Tally(), in_degrees=False)
    seen: set[int] = set()
    for numbers in chunks:
        where, _ = fields.keep(np.array([*(box(n, 0, n + 1, 1) for n in numbers), None], object)[:-1])
        expected = [at for at, n in enumerate(numbers) if n not in seen and n not in numbers[:at]]
        assert where.tolist() == expected
        seen.update(numbers)


def test_what_is_kept_of_those_before_is_little() -> None:
    fields = PolygonFilter(Tally(), in_degrees=False)
    for start in range(100):
        fields.keep(shapely.box(np.arange(start, start + 10), 0, np.arange(start, start + 10) + 1, 1))
    assert sum(run.nbytes for run in fields._seen._runs) == 8 * 109
    assert len(fields._seen._runs) < 8


def test_what_is_said_of_all() -> None:
    tally = Tally(rows=20, kept=5, repaired=3, empty=2, not_polygons=4, across_180=1, duplicates=1, broken=2)
    said = "3 repaired; 2 empty, 4 not of polygons, 1 across 180°, 2 beyond repair, 1 duplicate left out"
    assert str(tally) == said


def test_what_couldnt_be_read_isnt_empty() -> None:
    tally = Tally()
    PolygonFilter(tally, in_degrees=False).keep(np.array([None, None, None], object), unreadable=2)
    assert tally == Tally(rows=3, empty=1, broken=2)
