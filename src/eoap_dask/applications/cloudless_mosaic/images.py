"""The images of `science.Composition`, described: what files and items say of them."""

from __future__ import annotations

from collections.abc import Sequence

from eoap_dask.render.images import BandSpec, ImageSpec
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
            tuple(_reflectance(band, sensor) for band in bands),
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


def _reflectance(name: str, sensor: Sensor) -> BandSpec:
    known = sensor.band(name)
    return BandSpec(
        name,
        f"Surface reflectance, {known.name}" if known else "Surface reflectance",
        common_name=known.common_name if known else None,
        unit="1",
        unit_title="reflectance",
        scale=1 / sensor.quantification,
        offset=0,
    )


def shown_bands(bands: Sequence[str], sensor: Sensor) -> tuple[tuple[int, ...], str]:
    """Return which bands the picture shows, and how its title says so."""
    common = [found.common_name if (found := sensor.band(b)) else b for b in bands]
    if {"red", "green", "blue"} <= set(common):
        return tuple(common.index(c) for c in ("red", "green", "blue")), "True colour"
    if len(bands) < 3:
        return (0,), f"{bands[0]} in grey"
    return (0, 1, 2), f"False colour: {bands[0]}, {bands[1]}, {bands[2]} as red, green, blue"
