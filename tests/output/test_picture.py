"""Pictures: reduction known by hand, transparency, equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from eoap_dask.output.picture import contact_sheet, shrink, write_thumbnail


def reference(rgb: np.ndarray, factor: int) -> np.ndarray:
    """The same reduction, pixel by pixel."""
    bands, height, width = rgb.shape
    out = np.zeros((bands, -(-height // factor), -(-width // factor)), np.uint8)
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            block = rgb[:, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].reshape(bands, -1)
            valid = block[:, block.any(axis=0)]
            if valid.shape[1]:
                mean = np.floor(valid.astype(float).mean(axis=1) + 0.5)
                out[:, y, x] = mean if mean.any() else 1
    return out


@given(
    rgb=hnp.arrays(
        np.uint8,
        st.tuples(st.sampled_from([1, 3]), st.integers(1, 13), st.integers(1, 13)),
        elements=st.sampled_from([0, 0, 1, 2, 7, 200, 255]),
    ),
    factor=st.integers(1, 15),
)
def test_shrink_is_the_mean_of_valid_pixels(rgb: np.ndarray, factor: int) -> None:
    np.testing.assert_array_equal(shrink(rgb, factor), rgb if factor == 1 else reference(rgb, factor))


def test_thumbnail_is_transparent_where_nothing_is(tmp_path: Path) -> None:
    rgb = np.full((3, 90, 60), 100, np.uint8)
    rgb[:, :, :30] = 0
    rgb[0, :, 30:] = 0  # a band may be 0 on its own
    path = write_thumbnail(tmp_path / "t.png", rgb, max_px=30)
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (30, 20, 4)
    np.testing.assert_array_equal(pixels[:, :10], 0)
    np.testing.assert_array_equal(pixels[:, 10:], np.broadcast_to([0, 100, 100, 255], (30, 10, 4)))
    assert [file.name for file in tmp_path.iterdir()] == ["t.png"]


def test_thumbnail_of_one_band_is_grey_and_small_ones_keep_their_pixels(tmp_path: Path) -> None:
    rgb = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    image = Image.open(write_thumbnail(tmp_path / "t.png", rgb))
    assert image.mode == "LA"
    np.testing.assert_array_equal(np.asarray(image)[..., 0], rgb[0])
    np.testing.assert_array_equal(np.asarray(image)[..., 1], np.where(rgb[0], 255, 0))


def test_thumbnail_opens_with_gdal(tmp_path: Path) -> None:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    path = write_thumbnail(tmp_path / "t.png", np.full((3, 8, 8), 9, np.uint8))
    with pytest.warns(NotGeoreferencedWarning):
        source = rasterio.open(path)
    with source:
        assert source.count == 4
        assert source.read(4).min() == 255
    assert [file.name for file in tmp_path.iterdir()] == ["t.png"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_contact_sheet_has_every_panel(tmp_path: Path, count: int) -> None:
    panels = [(f"panel {n}\nmore of it", np.full((3, 40, 60), 10 + 20 * n, np.uint8)) for n in range(count)]
    image = Image.open(contact_sheet(tmp_path / "s.png", panels, "Title", "subtitle", "footer"))
    assert image.width <= 1600
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert {(10 + 20 * n,) * 3 for n in range(count)} <= colours
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_contact_sheet_shows_nodata_as_a_light_checker(tmp_path: Path) -> None:
    rgb = np.zeros((1, 50, 50), np.uint8)
    image = Image.open(contact_sheet(tmp_path / "s.png", [("", rgb)], ""))
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert {(245, 245, 245), (232, 232, 232)} <= colours
    assert (0, 0, 0) not in colours


def test_contact_sheet_is_the_same_each_time(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 700, 500), np.uint8)
    panels = [("Größe – 10 m ≥ 中", rgb), ("", rgb[:, :3, :9])]
    first = contact_sheet(tmp_path / "a.png", panels, "A title that is far too long for its sheet " * 9)
    second = contact_sheet(tmp_path / "b.png", panels, "A title that is far too long for its sheet " * 9)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4)),
        np.zeros((3, 0, 4), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, rgb: np.ndarray) -> None:
    with pytest.raises(ValueError, match="A picture must be uint8"):
        write_thumbnail(tmp_path / "t.png", rgb)
    with pytest.raises(ValueError, match="A picture must be uint8"):
        contact_sheet(tmp_path / "s.png", [("", rgb)], "")
    assert not list(tmp_path.iterdir())


def test_a_sheet_needs_a_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs at least one picture"):
        contact_sheet(tmp_path / "s.png", [], "nothing")
