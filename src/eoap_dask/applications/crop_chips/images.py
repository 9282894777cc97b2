"""The images of `Chips`, described: what files and items say of them."""

from __future__ import annotations

from collections.abc import Sequence

from eoap_dask.applications.crop_chips.science import IGNORED
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.render.reflectance import reflectance_band
from eoap_dask.scenes.sensor import Sensor

BACKGROUND = ClassSpec(0, "background", "No field of any class", colour=(60, 60, 60))
IGNORE = ClassSpec(IGNORED, "ignored", "To be ignored", colour=(200, 200, 200), nodata=True)


def chip_images(
    bands: Sequence[str], sensor: Sensor, composite: str, classes: Sequence[ClassSpec]
) -> tuple[ImageSpec, ImageSpec]:
    """Return image and mask, in the order of `Chips`."""
    what = "Median of the clear passes" if composite == "median" else "The pass with most clear pixels"
    return (
        ImageSpec(
            "images",
            tuple(reflectance_band(band, sensor) for band in bands),
            "uint16",
            "mean",
            0,
            key="image",
            title=what,
        ),
        ImageSpec(
            "masks",
            (BandSpec("class", "Class of crops", classes=(BACKGROUND, *classes, IGNORE)),),
            "uint8",
            "nearest",
            None,
            roles=("data", "labels"),
            key="mask",
            title="Classes of the fields",
        ),
    )
