"""The images of `science.Composition`, described: what files and items say of them."""

from __future__ import annotations

from collections.abc import Sequence

from eoap_dask.render.images import BandSpec, ImageSpec
from eoap_dask.render.reflectance import reflectance_band, shown_bands
from eoap_dask.scenes.sensor import Sensor


def mosaic_images(name: str, bands: Sequence[str], sensor: Sensor, composite: str) -> tuple[ImageSpec, ...]:
    """Return composite, count and picture, in the order of `Composition`.

    `name` is that of the composite's file; `composite` says in words what is made of the observations.
    """
    picks, shown = shown_bands(bands, sensor)
    colours = ("red", "green", "blue") if len(picks) == 3 else ("grey",)
    return (
        ImageSpec(
            name,
            tuple(reflectance_band(band, sensor) for band in bands),
            "uint16",
            "mean",
            0,
            key="data",
            title=composite.capitalize(),
        ),
        ImageSpec(
            "count",
            (BandSpec("count", "Clear observations of the first band"),),
            "uint16",
            "nearest",
            None,
            roles=("data", "data-mask"),
            title="Number of clear observations",
        ),
        ImageSpec(
            "visual",
            tuple(BandSpec(colour, f"Shown as {colour}") for colour in colours),
            "uint8",
            "mean",
            0,
            roles=("visual",),
            title=shown,
        ),
    )
