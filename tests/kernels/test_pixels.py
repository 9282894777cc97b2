"""Numbers to stored pixels, passes to layers, overviews, pictures and sums: each against plain Python."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eoap_dask.kernels.pixels import (
    NO_NUMBER,
    fill_layer,
    halve_mean,
    halve_nearest,
    statistics,
    to_rounded,
    to_scaled,
    to_stored,
    visual,
)

Image = np.ndarray[Any, np.dtype[Any]]

ALL = np.arange(65536, dtype=np.uint16)


def images(dtype: type, bands: tuple[int, int] = (1, 3)) -> st.SearchStrategy[Image]:
    top = int(np.iinfo(dtype).max)
    numbers = st.sampled_from([0, 0, 1, 2, top - 1, top]) | st.integers(0, top)
    return hnp.arrays(dtype, st.tuples(st.integers(*bands), st.integers(1, 7), st.integers(1, 7)), elements=numbers)


# Digital numbers


@pytest.mark.parametrize("nodata", [0, 1, 1000, 65535])
@pytest.mark.parametrize("offset", [0, 1, 1000, 65534, -1, -1000, -65534])
def test_every_digital_number(offset: int, nodata: int) -> None:
    dn = ALL.copy()
    to_stored(dn, offset, nodata)
    expected = [0 if n in (0, nodata) else min(max(1, n - offset), 65535) for n in range(65536)]
    np.testing.assert_array_equal(dn, np.array(expected, np.uint16), strict=True)


def test_the_reflectance_of_baseline_4_known_by_hand() -> None:
    dn = np.array([[0, 1, 999, 1000, 1001, 2500, 11000, 65535]], np.uint16)
    to_stored(dn, 1000)
    assert dn.tolist() == [[0, 1, 1, 1, 1, 1500, 10000, 64535]]


def test_a_strided_view_is_changed_in_place() -> None:
    dn = np.full((4, 6), 1500, np.uint16)
    to_stored(dn[::2, 1::2], 1000)
    assert dn[::2, 1::2].tolist() == [[500] * 3] * 2
    assert (dn[1::2] == 1500).all()
    assert (dn[:, ::2] == 1500).all()


# Passes


@st.composite
def passes_of(draw: st.DrawFn) -> list[tuple[Image, Image | None]]:
    bands, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    masked = draw(st.booleans())
    return [
        (
            draw(hnp.arrays(np.uint16, (bands, height, width), elements=st.sampled_from([0, 0, 5, 6, 7]))),
            draw(hnp.arrays(bool, (height, width))) if masked else None,
        )
        for _ in range(draw(st.integers(1, 4)))
    ]


@settings(deadline=None)
@given(passes_of())
def test_the_first_scene_with_data_in_all_bands_gives_values_and_mask(scenes: list[tuple[Image, Image | None]]) -> None:
    layer = np.full_like(scenes[0][0], 999)  # an untouched layer holds anything
    dropped = np.ones(layer.shape[1:], bool)
    for number, (scene, mask) in enumerate(scenes):
        fill_layer(layer, dropped, scene.copy(), None if mask is None else mask.copy(), first=number == 0)
    for row, col in np.ndindex(dropped.shape):
        owner = next((s for s in scenes if all(s[0][:, row, col])), None)
        if owner is None:
            assert not layer[:, row, col].any()
            assert not dropped[row, col]
        else:
            assert layer[:, row, col].tolist() == owner[0][:, row, col].tolist()
            assert dropped[row, col] == (False if owner[1] is None else owner[1][row, col])


def test_a_cloudy_first_scene_is_not_mended_by_the_second() -> None:
    layer, dropped = np.empty((1, 1, 2), np.uint16), np.empty((1, 2), bool)
    fill_layer(layer, dropped, np.array([[[10, 0]]], np.uint16), np.array([[True, False]]), first=True)
    fill_layer(layer, dropped, np.array([[[20, 20]]], np.uint16), np.array([[False, True]]), first=False)
    assert layer.tolist() == [[[10, 20]]]
    assert dropped.tolist() == [[True, True]]


def test_a_scene_may_be_the_layer_itself() -> None:
    layer = np.array([[[3, 4]], [[0, 5]]], np.uint16)
    dropped = np.empty((1, 2), bool)
    fill_layer(layer, dropped, layer, np.array([[True, True]]), first=True)
    assert layer.tolist() == [[[0, 4]], [[0, 5]]]
    assert dropped.tolist() == [[False, True]]


# Overviews


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@settings(deadline=None)
@given(data=st.data())
def test_an_overview_is_the_rounded_mean_of_valid_pixels(dtype: type, data: st.DataObject) -> None:
    image = data.draw(images(dtype))
    half = halve_mean(image)
    bands, height, width = image.shape
    assert half.shape == (bands, ceil(height / 2), ceil(width / 2))
    assert half.dtype == dtype
    for band, row, col in np.ndindex(half.shape):
        cell = [int(v) for v in image[band, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].flat if v]
        assert half[band, row, col] == (floor(Fraction(sum(cell), len(cell)) + Fraction(1, 2)) if cell else 0)


@settings(deadline=None)
@given(images(np.uint16))
def test_a_nearest_overview_takes_the_top_left(image: Image) -> None:
    half = halve_nearest(image)
    assert half.flags.c_contiguous
    assert half.dtype == image.dtype
    assert half.shape == (image.shape[0], ceil(image.shape[1] / 2), ceil(image.shape[2] / 2))
    for band, row, col in np.ndindex(half.shape):
        assert half[band, row, col] == image[band, 2 * row, 2 * col]


def test_overviews_known_by_hand() -> None:
    image = np.array([[[1, 2, 65535], [0, 0, 65534], [65535, 65535, 0]]], np.uint16)
    assert halve_mean(image).tolist() == [[[2, 65535], [65535, 0]]]
    assert halve_nearest(image).tolist() == [[[1, 65535], [65535, 0]]]
    assert halve_mean(np.array([[[1, 1], [1, 2]]], np.uint8)).tolist() == [[[1]]]  # 1.25
    assert halve_mean(np.array([[[1, 1], [2, 2]]], np.uint8)).tolist() == [[[2]]]  # 1.5, half up
    assert halve_mean(np.full((1, 2, 2), 255, np.uint8)).tolist() == [[[255]]]


# Pictures


def test_reflectance_up_to_0_3_becomes_1_to_255() -> None:
    greys = visual(ALL.reshape(1, 256, 256), (0,)).ravel()
    bright = [min(Fraction(n, 10000) / Fraction(3, 10), Fraction(1)) for n in range(1, 65536)]
    expected = [0, *(1 + floor(254 * b + Fraction(1, 2)) for b in bright)]
    np.testing.assert_array_equal(greys, np.array(expected, np.uint8), strict=True)
    assert greys[[1, 1500, 3000, 65535]].tolist() == [1, 128, 255, 255]


@settings(deadline=None)
@given(images(np.uint16, bands=(4, 4)), st.sampled_from([(0,), (3,), (2, 1, 0), (3, 0, 1)]))
def test_no_data_in_any_picked_band_is_0_in_all(image: Image, picks: tuple[int, ...]) -> None:
    before = image.copy()
    picture = visual(image, picks)
    assert picture.shape == (len(picks), *image.shape[1:])
    assert picture.dtype == np.uint8
    some = (image[list(picks)] != 0).all(axis=0)
    np.testing.assert_array_equal((picture != 0), np.broadcast_to(some, picture.shape))
    for place, band in enumerate(picks):
        np.testing.assert_array_equal(picture[place][some], visual(image[band : band + 1], (0,))[0][some])
    np.testing.assert_array_equal(image, before)


# Sums


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@settings(deadline=None)
@given(data=st.data())
def test_sums_are_those_of_python(dtype: type, data: st.DataObject) -> None:
    image = data.draw(images(dtype))
    for band, sums in zip(image, statistics(image), strict=True):
        values = [int(v) for v in band.flat if v]
        expected = (
            len(values),
            sum(values),
            sum(v * v for v in values),
            min(values, default=0),
            max(values, default=0),
        )
        assert sums == expected
        assert all(type(n) is int for n in sums)


def test_sums_of_many_bright_pixels_are_exact_and_fit_those_of_float64() -> None:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 65536, (2, 700, 900), dtype=np.uint16)
    image[1] = 65535
    for band, (number, total, squares, low, high) in zip(image, statistics(image), strict=True):
        valid = band[band != 0].astype(np.float64)
        assert (number, low, high) == (valid.size, valid.min(), valid.max())
        assert total / number == pytest.approx(valid.mean(), rel=1e-12)
        assert squares / number - (total / number) ** 2 == pytest.approx(valid.var(), rel=1e-9, abs=1e-3)
    assert statistics(image)[1] == (630_000, 630_000 * 65535, 630_000 * 65535**2, 65535, 65535)


# Numbers of any sign


def signed(bands: tuple[int, int] = (1, 2)) -> st.SearchStrategy[Image]:
    numbers = st.sampled_from([NO_NUMBER, NO_NUMBER, -32767, -1, 0, 1, 32767]) | st.integers(-32767, 32767)
    return hnp.arrays(np.int16, st.tuples(st.integers(*bands), st.integers(1, 7), st.integers(1, 7)), elements=numbers)


def floating(bands: tuple[int, int] = (1, 2)) -> st.SearchStrategy[Image]:
    numbers = st.sampled_from([float("nan"), float("nan"), 0.0, -1.5, 1e8]) | st.floats(-1e8, 1e8, width=32)
    return hnp.arrays(
        np.float32, st.tuples(st.integers(*bands), st.integers(1, 7), st.integers(1, 7)), elements=numbers
    )


@settings(deadline=None)
@given(signed())
def test_an_overview_of_signed_numbers_rounds_half_up(image: Image) -> None:
    half = halve_mean(image, NO_NUMBER)
    assert half.dtype == np.int16
    for band, row, col in np.ndindex(half.shape):
        cell = [int(v) for v in image[band, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].flat if v != NO_NUMBER]
        expected = floor(Fraction(sum(cell), len(cell)) + Fraction(1, 2)) if cell else NO_NUMBER
        assert half[band, row, col] == expected


@settings(deadline=None)
@given(floating())
def test_an_overview_of_floating_point_numbers_is_their_mean_in_float64(image: Image) -> None:
    half = halve_mean(image, float("nan"))
    assert half.dtype == np.float32
    for band, row, col in np.ndindex(half.shape):
        cell = [float(v) for v in image[band, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].flat if not np.isnan(v)]
        total = 0.0
        for value in cell:  # in this order: row by row
            total += value
        expected = np.float32(total / len(cell)) if cell else np.float32("nan")
        np.testing.assert_array_equal(half[band, row, col], expected)


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint16, 65535), (np.uint16, 7), (np.int16, -1), (np.uint8, 255)])
@settings(deadline=None)
@given(data=st.data())
def test_no_data_may_be_any_number(dtype: type, nodata: int, data: st.DataObject) -> None:
    ends = np.iinfo(dtype)
    numbers = st.sampled_from([nodata, nodata, ends.min, ends.max, 0, 1]) | st.integers(ends.min, ends.max)
    image = data.draw(hnp.arrays(dtype, (1, 3, 4), elements=numbers))
    values = [int(v) for v in image.flat if v != nodata]
    expected = (sum(values), sum(v * v for v in values), min(values, default=0), max(values, default=0))
    assert statistics(image, nodata) == [(len(values), *expected)]
    half = halve_mean(image, nodata)
    for _, row, col in np.ndindex(half.shape):
        cell = [int(v) for v in image[0, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].flat if v != nodata]
        mean = floor(Fraction(sum(cell), len(cell)) + Fraction(1, 2)) if cell else nodata
        assert half[0, row, col] == mean


def test_nothing_is_no_trouble() -> None:
    for shape in ((0,), (0, 3), (3, 0)):
        empty = np.zeros(shape, np.uint16)
        to_stored(empty, 1000)
        assert visual(np.zeros((1, 2, 2), np.uint16)[:, :0], (0,)).shape == (1, 0, 2)
    for shape in ((1, 3, 0), (1, 0, 3)):
        assert statistics(np.zeros(shape, np.uint16)) == [(0, 0, 0, 0, 0)]
        assert statistics(np.zeros(shape, np.float32), float("nan")) == [(0, 0, 0, 0, 0)]
    one = np.array(2500, np.uint16)
    to_stored(one, 1000)
    assert one == 1500


def test_very_wide_rows_are_no_other() -> None:
    rng = np.random.default_rng(6)
    wide = rng.integers(0, 5000, (1, 2, 40_000), dtype=np.uint16)
    narrow = wide.reshape(1, 40, 2000)
    np.testing.assert_array_equal(visual(wide, (0,)).ravel(), visual(narrow, (0,)).ravel())
    for pixels in (wide, narrow):
        to_stored(pixels.copy(), 1000)
    steps = [np.zeros(one.shape, np.int16) for one in (wide, narrow)]
    for one, out in zip((wide, narrow), steps, strict=True):
        to_scaled(one.astype(np.float32), 10, out)
    np.testing.assert_array_equal(steps[0].ravel(), steps[1].ravel())


def test_signed_overviews_known_by_hand() -> None:
    """-1 and -2 are -1.5, which rounds up to -1; -1, -1, -2 are -1.33; 3 and nothing are 3."""
    n = NO_NUMBER
    image = np.array([[[-1, -2, -1, -1, 3, n], [n, n, -2, n, n, n]]], np.int16)
    assert halve_mean(image, n).tolist() == [[[-1, -1, 3]]]
    nan = float("nan")
    half = halve_mean(np.array([[[1, 2, nan, nan], [nan, 6, nan, nan]]], np.float32), nan)
    np.testing.assert_array_equal(half, np.array([[[3, nan]]], np.float32))


@settings(deadline=None)
@given(signed())
def test_sums_of_signed_numbers_are_those_of_python(image: Image) -> None:
    for band, sums in zip(image, statistics(image, NO_NUMBER), strict=True):
        values = [int(v) for v in band.flat if v != NO_NUMBER]
        expected = (sum(values), sum(v * v for v in values), min(values, default=0), max(values, default=0))
        assert sums == (len(values), *expected)


@settings(deadline=None)
@given(floating(), st.sampled_from([2, 3, 512]))
def test_sums_of_floating_point_numbers_come_tile_by_tile(image: Image, tile: int) -> None:
    for band, (number, total, squares, low, high) in zip(image, statistics(image, float("nan"), tile), strict=True):
        values = [float(v) for v in band.flat if not np.isnan(v)]
        assert number == len(values)
        if not values:
            assert (total, squares, low, high) == (0, 0, 0, 0)
            continue
        assert (low, high) == (min(values), max(values))
        assert len(total) == len(squares) <= ceil(band.shape[0] / tile) * ceil(band.shape[1] / tile)
        exact = sum(map(Fraction, values))
        scale = sum(abs(v) for v in values)
        assert abs(Fraction(float(sum(total))) - exact) <= Fraction(1e-12 * scale + 1e-30)
        assert sum(squares) == pytest.approx(sum(v * v for v in values), rel=1e-12)


def test_sums_of_tiles_are_those_of_the_whole_image() -> None:
    """However it is cut on the lattice of tiles, the partial sums are the same numbers."""
    rng = np.random.default_rng(3)
    image = rng.normal(50, 20, (2, 40, 56)).astype(np.float32)
    image[rng.random(image.shape) < 0.2] = np.nan
    whole = statistics(image, float("nan"), 8)
    for side in (8, 16, 24):
        parts: list[set[float]] = [set(), set()]
        for row in range(0, 40, side):
            for col in range(0, 56, side):
                for band, sums in enumerate(statistics(image[:, row : row + side, col : col + side], None, 8)):
                    parts[band] |= set(sums[1])
        assert [set(sums[1]) for sums in whole] == parts


def test_numbers_become_steps_half_to_even_and_are_held_at_the_ends() -> None:
    values = np.array(
        [0, 0.00005, 0.00015, -0.00005, 0.5, -1, 3.2767, 3.3, 1e9, -4, np.inf, -np.inf, np.nan], np.float32
    )
    out = np.zeros(values.shape, np.int16)
    to_scaled(values, 10_000, out)
    # 0.00005 and 0.00015 are 0.5 and 1.5 steps (in float32, too): to 0 and 2
    held = [32767, 32767, 32767, -32767, 32767, -32767, NO_NUMBER]
    assert out.tolist() == [0, 0, 2, 0, 5000, -10000, *held]


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, (2, 5), elements=st.floats(-100, 100, width=32) | st.just(float("nan"))),
    st.sampled_from([500, 10_000]),
)
def test_steps_are_the_nearest(values: Image, per_unit: int) -> None:
    out = np.zeros(values.shape, np.int16)
    to_scaled(values.copy(), per_unit, out)
    for value, step in zip(values.flat, out.flat, strict=True):
        if np.isnan(value):
            assert step == NO_NUMBER
        else:
            product = np.float32(value) * np.float32(per_unit)
            assert step == max(-32767, min(32767, round(float(product))))  # Python rounds half to even as well


def test_twelve_bits_of_a_mantissa_by_hand() -> None:
    """Between 1 and 2 a step is 1 / 4096; 1 + 1 / 8192 lies in the middle, and goes away from zero."""
    half = 1 + 1 / 8192
    values = np.array([1, half, -half, 1 + 1 / 16384, 8191.5, 400, 0, -0.0, 1e8], np.float32)
    out = np.empty_like(values)
    to_rounded(values.copy(), out)
    step = 1 + 1 / 4096
    assert out[:8].tolist() == [1, step, -step, 1, 8192, 400, 0, 0]
    assert out[8] == pytest.approx(1e8, rel=1 / 8192)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e8, 1e8, width=32, allow_subnormal=False)))
def test_rounding_is_close_and_done_once(values: Image) -> None:
    out = np.empty_like(values)
    to_rounded(values.copy(), out)
    assert (np.abs(out.astype(np.float64) - values) <= np.abs(values.astype(np.float64)) / 8192).all()
    assert not (out.view(np.uint32) & np.uint32(0x7FF)).any()  # 23 bits less 12
    again = np.empty_like(out)
    to_rounded(out.copy(), again)
    np.testing.assert_array_equal(again, out)


def test_what_is_missing_is_one_nan_of_the_many() -> None:
    odd = np.array([0x7FC00000, 0x7FFFFFFF, 0xFFC00001, 0x7F800001], np.uint32).view(np.float32)
    out = np.zeros_like(odd)
    to_rounded(odd, out)
    assert len(set(out.view(np.uint32).tolist())) == 1
    assert np.isnan(out).all()
