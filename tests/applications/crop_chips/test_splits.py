"""Splits: the same in any order, near the shares that were asked for, and never touching."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from eoap_dask.applications.crop_chips.splits import (
    SHARES,
    SPLITS,
    ChipPlace,
    assign_splits,
    check_splits,
    write_splits,
)
from eoap_dask.geo.footprint import footprint_4326

SIDE_M = 2560
CELL_M = 5000

to_degrees = Transformer.from_crs("EPSG:32630", "OGC:CRS84", always_xy=True)


def square(x: float, y: float) -> shapely.Polygon:
    """A chip in UTM zone 30, rounded as footprints of items are."""
    return shapely.box(x, y, x + SIDE_M, y + SIDE_M)


def on_the_globe(shapes: list[shapely.Geometry]) -> list[shapely.Geometry]:
    return list(shapely.transform(shapes, lambda xy: np.column_stack(to_degrees.transform(*xy.T)).round(6)))


class Field:
    """Chips in cells, with their squares on the ground, by which a test judges nearness on its own."""

    def __init__(self, corners: dict[str, tuple[int, int]]) -> None:
        self.squares = {name: square(500_000 + x, 4_600_000 + y) for name, (x, y) in corners.items()}
        footprints = on_the_globe(list(self.squares.values()))
        self.chips = [
            ChipPlace(name, (y // CELL_M, x // CELL_M), footprint)
            for (name, (x, y)), footprint in zip(corners.items(), footprints, strict=True)
        ]

    def distances(self, splits: dict[str, str]) -> dict[tuple[str, str], float]:
        """Metres between each two chips of different splits."""
        inside = [name for name in self.squares if splits[name]]
        return {
            (one, other): self.squares[one].distance(self.squares[other])
            for one, other in itertools.combinations(inside, 2)
            if splits[one] != splits[other]
        }


corners = st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(lambda xy: (xy[0] * 10, xy[1] * 10))
fields = st.lists(corners, max_size=40, unique=True).map(
    lambda places: Field({f"chip{number}": place for number, place in enumerate(places)})
)
shares = st.sampled_from([SHARES, (1, 0, 0), (0.5, 0.5, 0), (0, 0.5, 0.5), (0.34, 0.33, 0.33)])


@given(field=fields, shares=shares, seed=st.integers(0, 9), block=st.integers(1, 3), order=st.randoms())
@settings(max_examples=30, deadline=None)
def test_the_order_of_chips_does_not_matter(field, shares, seed, block, order):
    found = assign_splits(field.chips, shares, seed, block)
    shuffled = order.sample(field.chips, len(field.chips))
    assert assign_splits(shuffled, shares, seed, block) == found
    assert list(found) == [chip.name for chip in field.chips]


@given(field=fields, shares=shares, seed=st.integers(0, 9), buffer_m=st.sampled_from([0, 100, 2000]))
@settings(max_examples=30, deadline=None)
def test_no_chip_is_near_one_of_another_split(field, shares, seed, buffer_m):
    found = assign_splits(field.chips, shares, seed, 1, buffer_m)
    # chips lie on a grid of 10 m, so that they touch or are 10 m apart; corners of a buffer are round within 2 %
    assert all(distance > 0.97 * buffer_m for distance in field.distances(found).values())
    check_splits(field.chips, found, buffer_m)


@given(field=fields, shares=shares, seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_no_chip_is_left_out_for_nothing(field, shares, seed):
    found = assign_splits(field.chips, shares, seed, 1)
    for name in (name for name, split in found.items() if not split):
        assert any(
            square.distance(field.squares[name]) <= 3
            for other, square in field.squares.items()
            if found[other] and other != name
        )


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    shares=shares,
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_shares_are_reached_within_a_block(sizes, shares, seed):
    apart = [shapely.Point(number, 40).buffer(0.01) for number in range(len(sizes))]
    chips = [
        ChipPlace(f"{number}-{chip}", (2 * number, 0), apart[number])
        for number, size in enumerate(sizes)
        for chip in range(size)
    ]
    counts = Counter(assign_splits(chips, shares, seed).values())
    assert counts[""] == 0
    for split, share in zip(SPLITS, shares, strict=True):
        excess = counts[split] - share * len(chips)
        assert -2 * max(sizes) - 1e-6 <= excess <= max(sizes) + 1e-6
        assert (counts[split] > 0) == (share > 0) or len(sizes) < 3


def test_a_single_block_is_for_training():
    field = Field({"a": (0, 0), "b": (9000, 9000)})
    assert assign_splits(field.chips) == {"a": "train", "b": "train"}
    assert set(assign_splits(field.chips, block=1).values()) == {"train", "val"}


def test_no_chips_have_no_splits():
    assert assign_splits([]) == {}
    check_splits([], {})


def test_another_seed_makes_other_splits():
    field = Field({f"{x}-{y}": (x * 10_000, y * 10_000) for x in range(5) for y in range(5)})
    assert len({tuple(assign_splits(field.chips, seed=seed).values()) for seed in range(5)}) == 5


def test_splits_stay_as_they_are_from_version_to_version():
    field = Field({f"{x}{y}": (x * CELL_M, y * CELL_M) for x in range(4) for y in range(4)})
    found = assign_splits(field.chips, seed=7, block=1)
    assert " ".join(split or "-" for split in found.values()) == (
        "train train train train train train val train test train train train val train val test"
    )


def test_neighbours_that_touch_at_a_corner_are_too_near():
    field = Field({"a": (0, 0), "b": (SIDE_M, SIDE_M), "c": (2 * SIDE_M + 10, 2 * SIDE_M)})
    with pytest.raises(ValueError, match=r"too near: a \(train\) and b \(test\), of 1 pair in all"):
        check_splits(field.chips, {"a": "train", "b": "test", "c": "val"})
    check_splits(field.chips, {"a": "train", "b": "", "c": "val"})


@pytest.mark.parametrize("seed", range(8))
def test_the_larger_split_gives_way(seed: int):
    """Three chips in a row, each in a block of its own: what is in the middle touches both others."""
    places = Field({"a": (0, 0), "b": (2000, 0), "c": (4000, 0)}).chips
    chips = [ChipPlace(one.name, (0, number), one.footprint) for number, one in enumerate(places)]
    alone = [ChipPlace(one.name, one.cell, shapely.Point(number, 0)) for number, one in enumerate(chips)]
    whole, found = assign_splits(alone, seed=seed, block=1), assign_splits(chips, seed=seed, block=1)
    assert set(whole.values()) == set(SPLITS)
    gone = {"a", "c"} if whole["b"] == "test" else {"b"}
    assert found == {name: "" if name in gone else split for name, split in whole.items()}


@pytest.mark.parametrize("longitude", [-180.0, -3.0, 179.99])
@pytest.mark.parametrize("latitude", [0.0, 40.0, 69.0, -45.0])
def test_a_buffer_is_of_metres_everywhere(longitude: float, latitude: float):
    """Also across the antimeridian, and between UTM zones."""
    metre = 360 / 40_075_017
    east = 1000 * metre / np.cos(np.radians(latitude))
    ends = [longitude, longitude + 0.02, longitude + 0.02 + east, longitude + 0.04 + east]
    wrapped = [end - 360 if end > 180 else end for end in ends]
    chips = []
    for name, (west, stop) in (("a", wrapped[:2]), ("b", wrapped[2:])):
        pieces = [(west, stop)] if west < stop else [(west, 180), (-180, stop)]
        box = shapely.union_all([shapely.box(left, latitude, right, latitude + 0.02) for left, right in pieces])
        chips.append(ChipPlace(name, (0, 0), box))
    splits = {"a": "train", "b": "val"}
    check_splits(chips, splits, 985)
    with pytest.raises(ValueError, match="too near"):
        check_splits(chips, splits, 1015)


def test_footprints_of_two_zones_meet():
    shape = (256, 256)
    west = footprint_4326("EPSG:32629", (10, 0, 769_000, 0, -10, 4_500_000), shape)[0]
    x, y = Transformer.from_crs("EPSG:32629", "EPSG:32630", always_xy=True).transform(770_000, 4_499_000)
    east = footprint_4326("EPSG:32630", (10, 0, round(x, -1), 0, -10, round(y, -1)), shape)[0]
    chips = [ChipPlace(name, (0, 0), shapely.geometry.shape(one)) for name, one in (("w", west), ("e", east))]
    with pytest.raises(ValueError, match="too near"):
        check_splits(chips, {"w": "train", "e": "val"})


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.2), (0.7, 0.3), (1.2, -0.2, 0), (float("nan"), 0.5, 0.5), ()])
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(ValueError, match="Shares must be 3 numbers"):
        assign_splits([], shares)


def test_what_else_cannot_be_is_refused():
    field = Field({"a": (0, 0)})
    with pytest.raises(ValueError, match="1 cell or more"):
        assign_splits(field.chips, block=0)
    with pytest.raises(ValueError, match="0 metres or more"):
        assign_splits(field.chips, buffer_m=float("inf"))
    with pytest.raises(ValueError, match="names of the chips aren't unique"):
        assign_splits(field.chips * 2)


def test_lists_are_sorted_and_leave_out_what_is_in_no_split(tmp_path: Path):
    splits = {"b": "train", "a": "train", "c": "", "d": "test"}
    paths = {name: f"images/{name}.tif" for name in splits}
    written = write_splits(tmp_path, splits, paths)
    assert {path.name: path.read_text() for path in written} == {
        "train.txt": "images/a.tif\nimages/b.tif\n",
        "val.txt": "",
        "test.txt": "images/d.tif\n",
    }
    assert written == write_splits(tmp_path, splits, paths)
    assert sorted(path.name for path in (tmp_path / "splits").iterdir()) == ["test.txt", "train.txt", "val.txt"]
