"""Composites of many passes, as several applications make them: data, number of clear observations, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eoap_dask.kernels.composites import COMPOSITES, count_valid
from eoap_dask.kernels.pixels import visual
from eoap_dask.render.images import BandSpec, ImageSpec
from eoap_dask.render.reflectance import reflectance_band, shown_bands
from eoap_dask.render.science import Image, Science, Strip
from eoap_dask.scenes.sensor import Sensor


@dataclass(frozen=True)
class Composition(Science):
    """Three images: data, count and visual."""

    composite: str
    """Key of `COMPOSITES`."""
    picks: tuple[int, ...]
    """Which bands `visual` shows."""

    def versions(self) -> Mapping[str, int]:
        """Return the version of the composite."""
        return {self.composite: COMPOSITES[self.composite].version}

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill data, count and visual of a strip, see `Science.compose`."""
        data, count, shown = out
        kernel = COMPOSITES[self.composite].kernel
        for band in range(data.shape[0]):
            data[band] = kernel(strip.layers[band])
        count[0] = count_valid(strip.layers[0])
        shown[...] = visual(data, self.picks)

    def note(self, images: tuple[Image, ...], row: int, col: int) -> tuple[int, ...]:  # noqa: ARG002
        """Return how many pixels of each band have the lowest value, 1, as after an offset that is taken off twice."""
        return tuple(int(np.count_nonzero(band == 1)) for band in images[0])


def composite_images(
    name: str, bands: Sequence[str], sensor: Sensor, composite: str, *, suffix: str = ".tif", prefix: str = ""
) -> tuple[ImageSpec, ...]:
    """Return composite, count and picture, in the order of `Composition`: what files and items say of them.

    `name` and `suffix` are those of the composite's file, and `prefix` is how the names of the others begin;
    `composite` says in words what is made of the observations.
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
            suffix=suffix,
        ),
        ImageSpec(
            f"{prefix}count",
            (BandSpec("count", "Clear observations of the first band"),),
            "uint16",
            "nearest",
            None,
            roles=("data", "data-mask"),
            key="count",
            title="Number of clear observations",
        ),
        ImageSpec(
            f"{prefix}visual",
            tuple(BandSpec(colour, f"Shown as {colour}") for colour in colours),
            "uint8",
            "mean",
            0,
            roles=("visual",),
            key="visual",
            title=shown,
        ),
    )
