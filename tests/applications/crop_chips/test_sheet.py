"""Pictures of chips: what they show, of what size, and equal bytes."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from eoap_dask.applications.crop_chips.sheet import (
    IGNORED,
    ChipPicture,
    _short,
    class_balance,
    contact_sheet,
    spread,
    stretch,
)
from eoap_dask.render.images import ClassSpec

OLIVE = ClassSpec(1, "olive", "Olive plantations", colour=(120, 140, 60))
WHEAT = ClassSpec(5, "wheat", "Wheat, barley, oats, triticale", colour=(236, 200, 80))
CLASSES = (ClassSpec(0, "other", "Other", colour=(60, 60, 60)), OLIVE, WHEAT)
HATCH = (214, 214, 214)


def chip(name: str = "cell0102_chip1", shape: tuple[int, int] = (32, 32), value: int = 1, split: str = "train"):
    mask = np.full(shape, value, np.uint8)
    return ChipPicture(name, np.full((3, *shape), 90, np.uint8), mask, split, 99.5)


def opened(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(png))


def colours(image: Image.Image) -> Counter:
    return Counter({colour: number for number, colour in image.getcolors(1 << 22)})


@pytest.mark.parametrize("count", [1, 2, 7, 24, 60])
def test_a_sheet_has_every_chip_beside_its_mask(count: int):
    image = opened(contact_sheet([chip(f"chip{n}") for n in range(count)], CLASSES, "Chips", "of somewhere"))
    assert image.width <= 1600
    pixels = np.asarray(image)
    pictures, masks = (pixels == 90).all(axis=-1), (pixels == OLIVE.colour).all(axis=-1)
    swatch = 21 * 17  # of the legend, within its frame
    assert pictures.sum() == masks.sum() - swatch
    side = round((pictures.sum() / count) ** 0.5)
    assert pictures.sum() == count * side**2
    assert side >= 100


def test_a_mask_has_the_colours_of_its_classes_and_a_hatch():
    one = chip(shape=(40, 40))
    one.mask[:20] = 5
    one.mask[:, 30:] = IGNORED
    found = colours(opened(contact_sheet([one], CLASSES, "Chip")))
    assert found[WHEAT.colour] > 10_000
    assert found[OLIVE.colour] > 10_000
    assert found[HATCH] > 1000
    assert CLASSES[0].colour not in found  # the legend has the classes that occur


def test_classes_without_a_colour_are_seen():
    odd = [chip(value=0), chip(value=1), chip(value=7)]
    found = colours(opened(contact_sheet(odd, [ClassSpec(1, colour=(0, 0, 0))], "Chips")))
    assert {(64, 66, 70), (1, 1, 1), (150, 153, 158)} <= set(found)


def test_no_data_is_a_light_checker_in_a_picture():
    one = chip()
    one.rgb[:, :16] = 0
    found = colours(opened(contact_sheet([one], CLASSES, "Chip")))
    assert {(245, 245, 245), (232, 232, 232), (90, 90, 90)} <= set(found)
    assert (0, 0, 0) not in found


@pytest.mark.parametrize("shape", [(1, 1), (10, 90), (90, 10), (600, 500)])
def test_chips_of_any_shape_keep_their_proportions(shape: tuple[int, int]):
    pixels = np.asarray(opened(contact_sheet([chip(shape=shape)], CLASSES, "Chip")))
    rows, columns = np.nonzero((pixels == 90).all(axis=-1))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.02)


def test_pictures_are_the_same_each_time():
    long = ClassSpec(1, "long", "Größe – ≥ 中 " * 12)
    one = chip("a name that is too long for its tile " * 3)
    sheets = {contact_sheet([one, chip(shape=(9, 5))], [long], "A title " * 20) for _ in range(2)}
    charts = {class_balance({"val": {1: 7}}, [long], "A title " * 20) for _ in range(2)}
    assert len(sheets) == len(charts) == 1
    assert opened(charts.pop()).width < 1600


def test_what_is_no_chip_is_refused():
    with pytest.raises(ValueError, match="needs at least one chip"):
        contact_sheet([], CLASSES, "Nothing")
    for rgb, mask in (
        (np.zeros((3, 4, 5), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((1, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((3, 4, 4), np.uint16), np.zeros((4, 4), np.uint8)),
        (np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), bool)),
        (np.zeros((3, 0, 4), np.uint8), np.zeros((0, 4), np.uint8)),
    ):
        with pytest.raises(ValueError, match="odd: expected a picture"):
            contact_sheet([ChipPicture("odd", rgb, mask)], CLASSES, "Chips")


def test_a_caption_says_what_is_known():
    rgb, mask = np.zeros((3, 1, 1), np.uint8), np.zeros((1, 1), np.uint8)
    assert ChipPicture("a", rgb, mask).caption == ""
    assert ChipPicture("a", rgb, mask, "val").caption == "val"
    assert ChipPicture("a", rgb, mask, "", 100.0).caption == "100 % valid"
    assert ChipPicture("a", rgb, mask, "test", 99.97).caption == "test · > 99.9 % valid"
    assert ChipPicture("a", rgb, mask, "test", 0).caption == "test · 0 % valid"


def test_a_stretch_is_that_of_all_pictures():
    image = np.array([[[0, 1, 3000]], [[9, 9, 9]], [[1500, 3000, 9000]], [[1, 1, 3000]]], np.uint16)
    np.testing.assert_array_equal(stretch(image, (3, 2, 0)), [[[0, 1, 255]], [[0, 255, 255]], [[0, 1, 255]]])


@pytest.mark.parametrize(("count", "most"), [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 24), (7, 1)])
def test_some_of_many_are_spread_evenly(count: int, most: int):
    found = spread(range(count), most)
    assert len(found) == min(count, most)
    gaps = np.diff([-1, *found, count])
    assert found == sorted(set(found))
    if len(found) > 1:
        assert np.ptp(gaps[1:-1]) <= 1
        assert abs(gaps[0] - gaps[-1]) <= 1


def bar_lengths(png: bytes, colour: tuple[int, int, int]) -> int:
    """How many pixels of a colour the longest row of a chart has."""
    return int((np.asarray(opened(png)) == colour).all(axis=-1).sum(axis=1).max())


def test_bars_are_as_long_as_there_are_pixels():
    png = class_balance({"train": {1: 3000, 5: 12_000}}, CLASSES, "Balance")
    assert bar_lengths(png, WHEAT.colour) == pytest.approx(4 * bar_lengths(png, OLIVE.colour), abs=2)
    assert CLASSES[0].colour not in colours(opened(png))  # no pixel of it, so no bar


def test_parts_of_bars_are_splits():
    png = class_balance({"train": {5: 700}, "val": {5: 200}, "test": {5: 100}, "": {5: 500}}, [WHEAT], "Balance")
    whole = bar_lengths(class_balance({"train": {5: 1500}}, [WHEAT], "Balance"), WHEAT.colour)
    assert bar_lengths(png, WHEAT.colour) == pytest.approx(whole * 700 / 1500, abs=2)
    found = colours(opened(png))
    parts = [tuple(round(share * part + (1 - share) * 255) for part in WHEAT.colour) for share in (0.62, 0.34, 0.16)]
    assert [found[part] > 0 for part in parts] == [True] * 3
    assert found[parts[0]] == pytest.approx(2 * found[parts[1]], rel=0.1)


def test_the_rarest_class_is_seen():
    found = colours(opened(class_balance({"val": {1: 1, 5: 10_000_000}}, CLASSES, "Balance")))
    assert found[OLIVE.colour] == 3 * 24


def test_what_is_ignored_is_hatched_and_not_counted():
    png = class_balance({"train": {1: 100, IGNORED: 300}, "test": {IGNORED: 100}}, CLASSES, "Balance")
    assert colours(opened(png))[HATCH] > 500
    for odd in ({}, {"train": {IGNORED: 5}, "test": {IGNORED: 5}}, {"train": {}}):
        assert opened(class_balance(odd, [], "Nothing")).height > 100


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.03, "0.03"),
        (7, "7"),
        (999, "999"),
        (999.6, "1.00 k"),
        (1000, "1.00 k"),
        (12_345, "12.3 k"),
        (99_960, "100 k"),
        (999_499, "999 k"),
        (999_999, "1.00 M"),
        (1.85e6, "1.85 M"),
        (2.5e9, "2.50 G"),
    ],
)
def test_numbers_are_short(number: float, text: str):
    assert _short(number) == text
