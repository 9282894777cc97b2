"""The science of a burn, worked by hand: what two pixels become, how numbers are stored, what a block tells."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import shapely

from eoap_dask.applications.bai.science import BANDS, Burn, BurnImages, compare
from eoap_dask.kernels.pixels import NO_NUMBER
from eoap_dask.kernels.severity import KEY_BENSON
from eoap_dask.render.science import Strip

NAN = float("nan")


def used(height: int, width: int) -> BurnImages:
    """Images as the engine has them: with what was in them before."""
    return BurnImages(*(np.full_like(image, 7) for image in blank(height, width)))


def blank(height: int, width: int) -> BurnImages:
    """Images that hold no data."""
    return BurnImages(
        bai=np.full((3, height, width), np.nan, np.float32),
        nbr=np.full((2, height, width), NO_NUMBER, np.int16),
        dnbr=np.full((1, height, width), NO_NUMBER, np.int16),
        rdnbr=np.full((1, height, width), NO_NUMBER, np.int16),
        rbr=np.full((1, height, width), NO_NUMBER, np.int16),
        severity=np.zeros((1, height, width), np.uint8),
        visual_pre=np.zeros((3, height, width), np.uint8),
        visual_post=np.zeros((3, height, width), np.uint8),
    )


def layers_of(*pixels: tuple[tuple[int, int, int], tuple[int, int, int]]) -> np.ndarray:
    """(band, pass, 1, x) of pixels given as red, nir, swir22 before, and after."""
    return np.array(pixels, np.uint16).transpose(2, 1, 0)[:, :, None, :]


def compared(*pixels: tuple[tuple[int, int, int], tuple[int, int, int]]) -> BurnImages:
    out = blank(1, len(pixels))
    layers = layers_of(*pixels)
    compare(layers, (layers == 0).any(axis=(0, 1)), KEY_BENSON, out)
    return out


def test_the_bands_are_those_of_key_and_benson() -> None:
    assert BANDS == ("red", "nir", "swir22")


def test_a_forest_that_burned() -> None:
    """Before: red 0.03, nir 0.3, swir22 0.1. After: red 0.06, nir 0.09, swir22 0.27.

    NBR = 0.2 / 0.4 = 0.5 before, -0.18 / 0.36 = -0.5 after; dNBR = 1, high severity.
    RdNBR = 1 / sqrt(0.5) = 1.414214, × 500 = 707.1. RBR = 1 / 1.501 = 0.666223, × 10000 = 6662.2.
    BAI before = 1 / (0.07² + 0.24²) = 1 / 0.0625 = 16; after = 1 / (0.04² + 0.03²) = 1 / 0.0025 = 400.
    """
    found = compared(((300, 3000, 1000), (600, 900, 2700)))
    assert found.nbr[:, 0, 0].tolist() == [5000, -5000]
    assert found.dnbr.item() == 10_000
    assert found.rdnbr.item() == 707
    assert found.rbr.item() == 6662
    assert found.severity.item() == 7
    # twelve bits of a mantissa: 16 and 400 need fewer, so they are exact but for float32 on the way
    assert found.bai[:, 0, 0].tolist() == [16, 400, 384]


def test_ground_that_did_not_change() -> None:
    """The same before and after: all differences are 0, and the class is unburned."""
    found = compared(((1200, 2500, 1500), (1200, 2500, 1500)))
    assert found.nbr[:, 0, 0].tolist() == [2500, 2500]  # 0.1 / 0.4
    assert (found.dnbr.item(), found.rdnbr.item(), found.rbr.item()) == (0, 0, 0)
    assert found.bai[2].item() == 0
    assert found.severity.item() == 3


def test_nbr_before_of_almost_nothing_has_no_relative_dnbr() -> None:
    """swir22 = nir: NBR is 0, and there is nothing to divide by. 5010 and 5000: 10 / 10010 = 0.000999. 5011: 0.001099.

    After: nir 0.1, swir22 0.3: NBR = -0.5, so dNBR = 0.5 and more, RdNBR = 0.501099 / sqrt(0.001099) = 15.1169, × 500 =
    7558.5.
    """
    after = (500, 1000, 3000)
    found = compared(
        ((500, 5000, 5000), after), ((500, 5010, 5000), after), ((500, 5011, 5000), after), ((500, 5000, 5011), after)
    )
    assert found.rdnbr[0, 0, :2].tolist() == [NO_NUMBER, NO_NUMBER]
    # 11 / 10011 = 0.00109879; its root is 0.0331480; 0.50109879 / 0.0331480 = 15.11700, × 500 = 7558.50
    assert found.rdnbr[0, 0, 2] in (7558, 7559)
    # below zero it is the size that counts: 0.49890121 / 0.0331480 = 15.05071, × 500 = 7525.4
    assert found.rdnbr[0, 0, 3] == 7525
    assert found.dnbr[0, 0].tolist() == [5000, 5010, 5011, 4989]
    assert found.severity[0, 0].tolist() == [6, 6, 6, 6]  # the classes need no division


def test_charcoal_itself() -> None:
    """red 0.1 and nir 0.06 are its colour: the distance is 0, and counts as 0.0001, so that BAI is 1e8."""
    found = compared(((1000, 600, 1000), (1000, 600, 1000)))
    assert found.bai[0].item() == pytest.approx(1e8, rel=1 / 8192)
    assert np.isfinite(found.bai).all()
    assert found.bai[2].item() == 0


def test_rbr_is_held_where_there_are_no_plants() -> None:
    """NBR before = -0.9998 (nir 1, swir22 9999): the denominator is 0.0012. After 0.5: dNBR = -1.4998.

    RBR = -1.4998 / 0.0012 = -1249.8; stored it is held at -3.2767. The other way around NBR is 0.9998, then -0.9998:
    dNBR = 1.9996, RBR = 1.9996 / 2.0008 = 0.9994.
    """
    found = compared(((500, 1, 9999), (500, 3000, 1000)), ((500, 9999, 1), (500, 1, 9999)))
    assert found.rbr[0, 0].tolist() == [-32767, 9994]
    assert found.dnbr[0, 0].tolist() == [-14998, 19996]
    assert found.severity[0, 0].tolist() == [1, 7]
    assert found.rdnbr[0, 0].tolist() == [-750, 1000]  # -1.4998 / sqrt(0.9998) × 500, 1.9996 / sqrt(0.9998) × 500


def test_each_class_has_its_colour_of_dnbr() -> None:
    """NBR before is 0.6 (nir 4000, swir22 1000). dNBR = 0.6 - NBR after."""
    after = {
        (4500, 250): 1,  # 4250 / 4750 = 0.894737: dNBR -0.294737
        (4200, 600): 2,  # 3600 / 4800 = 0.75: -0.15
        (4000, 1000): 3,  # 0
        (3000, 1000): 4,  # 0.5: 0.1, which belongs to the class above
        (2000, 1000): 4,  # 1 / 3: 0.266667
        (3000, 2000): 5,  # 0.2: 0.4
        (2000, 2000): 6,  # 0: 0.6
        (1000, 2000): 7,  # -1 / 3: 0.933333
    }
    found = compared(*(((300, 4000, 1000), (500, nir, swir)) for nir, swir in after))
    assert found.severity[0, 0].tolist() == list(after.values())


# What a strip becomes.


def burned_strip(height: int = 70, width: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels of two passes, with gaps and flags."""
    rng = np.random.default_rng(11)
    layers = rng.integers(1, 6000, (3, 2, height, width)).astype(np.uint16)
    layers[rng.random(layers.shape) < 0.05] = 0
    return layers, rng.random((2, height, width)) < 0.1


@pytest.mark.parametrize("rows", [1, 7, 32, 33, 70])
def test_strips_of_any_height_give_the_same(rows: int) -> None:
    layers, dropped = burned_strip()
    science = Burn(KEY_BENSON, 1)
    whole, parts = used(70, 9), used(70, 9)
    science.compose(Strip(layers.copy(), dropped, (0, 1)), whole)
    for top in range(0, 70, rows):
        part = slice(top, top + rows)
        strip = Strip(layers[:, :, part].copy(), dropped[:, part], (0, 1))
        science.compose(strip, tuple(image[:, part] for image in parts))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_what_both_passes_see_is_compared_and_each_is_shown() -> None:
    layers, dropped = burned_strip()
    out = used(70, 9)
    Burn(KEY_BENSON, 1).compose(Strip(layers.copy(), dropped, (0, 1)), out)
    seen = (layers != 0).all(axis=(0, 1)) & ~dropped.any(axis=0)
    np.testing.assert_array_equal(out.severity[0] != 0, seen)
    np.testing.assert_array_equal(out.dnbr[0] != NO_NUMBER, seen)
    np.testing.assert_array_equal(out.rbr[0] != NO_NUMBER, seen)
    for band in (*out.bai, *out.nbr):
        missing = np.isnan(band) if band.dtype == np.float32 else band == NO_NUMBER
        np.testing.assert_array_equal(missing, ~seen)
    # pictures show clouds too: of each date what it has in all three bands
    for picture, layer in ((out.visual_pre, 0), (out.visual_post, 1)):
        np.testing.assert_array_equal((picture != 0).all(axis=0), (layers[:, layer] != 0).all(axis=0))
    # swir22, nir and red are red, green and blue: reflectance 0 to 0.3 is 1 to 255
    some = tuple(np.argwhere((layers[:, 0] != 0).all(axis=0))[0])
    greys = [1 + (min(int(v), 3000) * 254 + 1500) // 3000 for v in layers[::-1, 0, some[0], some[1]]]
    assert out.visual_pre[:, some[0], some[1]].tolist() == greys


@pytest.mark.parametrize(("numbers", "shown"), [((0,), "visual_pre"), ((1,), "visual_post")])
def test_where_one_pass_has_nothing_there_is_a_picture_only(numbers: tuple[int], shown: str) -> None:
    layers, dropped = burned_strip()
    out = used(70, 9)
    Burn(KEY_BENSON, 1).compose(Strip(layers[:, :1].copy(), dropped[:1], numbers), out)
    untouched = blank(70, 9)
    for name in BurnImages._fields:
        if name == shown:
            assert getattr(out, name).any()
        else:
            np.testing.assert_array_equal(getattr(out, name), getattr(untouched, name))


def test_where_nothing_is_seen_nothing_is_left_of_what_was() -> None:
    layers, dropped = burned_strip()
    out = used(70, 9)
    Burn(KEY_BENSON, 1).compose(Strip(layers, np.ones_like(dropped), (0, 1)), out)
    for name, image in blank(70, 9)._asdict().items():
        if not name.startswith("visual"):
            np.testing.assert_array_equal(getattr(out, name), image)


def test_a_block_tells_its_classes_and_outlines() -> None:
    """Two burned pixels side by side and one alone, at row 100 and column 200 of the grid; one pixel isn't seen."""
    forest, burned, gone = (300, 3000, 1000), (600, 900, 2700), (0, 0, 0)
    out = used(2, 3)
    pixels = [(forest, burned), (forest, burned), (forest, forest), (forest, forest), (forest, gone), (forest, burned)]
    layers = np.array(pixels, np.uint16).transpose(2, 1, 0).reshape(3, 2, 2, 3)
    science = Burn(KEY_BENSON, 0)
    science.compose(Strip(layers, np.zeros((2, 2, 3), bool), (0, 1)), out)
    assert out.severity[0].tolist() == [[7, 7, 3], [3, 0, 7]]
    note = science.note(out, 100, 200)
    assert note.class_pixels == (1, 0, 0, 2, 0, 0, 0, 3)
    outlines = {shapely.from_wkb(piece.wkb).bounds: piece for piece in note.pieces}
    assert set(outlines) == {(200, 100, 202, 101), (202, 101, 203, 102)}
    assert outlines[200, 100, 202, 101].pixels == 2
    assert outlines[200, 100, 202, 101].weight == 20_000  # dNBR 1 twice, in steps of 1 / 10000
    assert len(pickle.dumps(note)) < 1000


def test_a_block_without_anything_says_so() -> None:
    out = blank(4, 5)
    note = Burn(KEY_BENSON, 0).note(out, 0, 0)
    assert note.class_pixels == (20, 0, 0, 0, 0, 0, 0, 0)
    assert note.pieces == ()
