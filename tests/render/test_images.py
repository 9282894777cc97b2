"""What an image is: palettes and measures follow from it, and workers get what they need of it, without the texts."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import pytest

from eoap_dask.applications.bai.images import burn_images
from eoap_dask.applications.bai.science import BurnImages
from eoap_dask.applications.composition import composite_images
from eoap_dask.kernels.severity import severity_classes
from eoap_dask.periods import parse_day
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.scenes.sensor import sensor_for

S2 = sensor_for("sentinel-2-l2a")
DAYS = parse_day("2021-07-13"), parse_day("2021-08-12")
BURN = burn_images(severity_classes(), *DAYS)
MOSAIC = composite_images("monthly-mosaic-2021-07", ("nir", "red", "B8A"), S2, "median")
ALL = (*BURN, *MOSAIC)

FIRE = ClassSpec(7, "fire", "Fire", colour=(255, 0, 10))


def test_colours_are_those_of_the_classes() -> None:
    image = ImageSpec("kind", (BandSpec("kind", classes=(ClassSpec(0), FIRE)),), "uint8", "nearest", 0)
    assert image.palette == {0: (0, 0, 0), 7: (255, 0, 10)}
    assert [one.color_hint for one in image.bands[0].classes] == ["", "FF000A"]
    assert not replace(image, bands=(BandSpec("plain"),)).palette
    assert not replace(image, bands=image.bands * 2).palette  # a TIFF has one colour table


def test_pictures_and_classes_are_not_measured() -> None:
    assert [image.name for image in ALL if not image.is_measured] == [
        *("severity", "visual-pre", "visual-post"),
        "visual",
    ]
    assert [image.name for image in ALL if image.is_colour] == ["visual-pre", "visual-post", "visual"]
    (grey,) = (image for image in composite_images("m", ("red",), S2, "median") if image.name == "visual")
    assert [band.name for band in grey.bands] == ["grey"]
    assert not grey.is_colour
    assert not grey.is_measured


@pytest.mark.parametrize("image", ALL, ids=lambda image: image.name)
def test_workers_get_what_they_encode_by_and_no_texts(image: ImageSpec) -> None:
    travelled = pickle.loads(pickle.dumps(image.bare()))  # noqa: S301 - our own
    texts = {"key", "title", "expression", "bands"}
    for field in fields(ImageSpec):
        if field.name not in texts:
            # as text: NaN isn't itself
            assert repr(getattr(travelled, field.name)) == repr(getattr(image, field.name))
    assert (travelled.title, travelled.expression, travelled.key) == ("", "", "")
    assert travelled.pixel_bytes == image.pixel_bytes
    assert travelled.is_measured == image.is_measured
    assert travelled.is_colour == image.is_colour
    content = pickle.dumps(image.bare())
    assert image.title.encode() not in content
    assert not [band for band in image.bands if band.description and band.description.encode() in content]


@pytest.mark.parametrize("images", [BURN, MOSAIC], ids=["bai", "mosaic"])
def test_every_image_is_described_in_full(images: tuple[ImageSpec, ...]) -> None:
    keys = [image.asset_key for image in images]
    assert len(set(keys)) == len({image.name for image in images}) == len(images)
    assert set(keys).isdisjoint({"thumbnail", "picture", "areas", "perimeters", "perimeters-geojson"})
    for image in images:
        assert image.title
        assert set(image.roles) <= {"data", "data-mask", "visual"}
        assert all(band.description for band in image.bands)
        assert len({band.name for band in image.bands}) == len(image.bands)
        assert all((band.scale is None) == (band.offset is None) for band in image.bands)
        for band in image.bands:
            empty = [one.value for one in band.classes if one.nodata]
            assert not band.classes or empty == [image.nodata]
            assert all(one.name and one.title for one in band.classes)


def test_images_stand_in_the_order_of_their_science() -> None:
    assert tuple(image.name.replace("-", "_") for image in BURN) == BurnImages._fields
    assert [image.asset_key for image in MOSAIC] == ["data", "count", "visual"]


def test_a_band_that_the_sensor_does_not_know_is_itself() -> None:
    known, other = composite_images("m", ("B8A", "x1"), S2, "median")[0].bands
    assert (known.name, known.common_name, known.description) == ("B8A", "nir08", "Surface reflectance, B8A")
    assert (other.name, other.common_name, other.description) == ("x1", None, "Surface reflectance")
    assert {band.scale for band in (known, other)} == {0.0001}
