"""Composites of many passes, as several applications make them: data, number of clear observations, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from eoap_dask.kernels.composites import COMPOSITES, count_valid
from eoap_dask.kernels.pixels import visual
from eoap_dask.output.picture import write_thumbnail
from eoap_dask.render.images import BandSpec, ImageSpec
from eoap_dask.render.reflectance import reflectance_band, shown_bands
from eoap_dask.render.science import Image, Science, Strip
from eoap_dask.run.product import image_assets, thumbnail_asset, write_unit_item
from eoap_dask.run.raster import raster_of
from eoap_dask.run.summary import PASSES
from eoap_dask.scenes.radiometry import MOST_LOWEST_PERCENT, TAKEN_TWICE
from eoap_dask.scenes.sensor import Sensor

if TYPE_CHECKING:
    from eoap_dask.run.raster import WrittenImage
    from eoap_dask.run.written import WrittenUnit


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


def finish_composite(
    application: str,
    written: WrittenUnit,
    sensor: Sensor,
    properties: Mapping[str, Any] | None = None,
    thumbnail: str = "thumbnail.png",
) -> dict[str, Any]:
    """Write the thumbnail and, last, the item of a composite whose images are written; return the item."""
    folder, images = written.folder, written.made.images
    recipe = raster_of(written.plan).recipe
    scenes, passes = len(recipe.stack.scenes), len(recipe.stack.passes)
    data, _, visual = (images[spec.name] for spec in recipe.images)
    assets = (*image_assets(written), thumbnail_asset(write_thumbnail(folder / thumbnail, visual.smallest)))
    lowest = _lowest_percent(written.made.notes, data)
    if lowest > MOST_LOWEST_PERCENT:
        logger.warning(
            "{:.0f} % of the clear pixels of {} have the lowest value there is in one band: {}.",
            lowest,
            written.plan.unit.key,
            TAKEN_TWICE,
        )
    masked = recipe.stack.dropped_classes is not None
    lineage = (
        f"{data.spec.title} of {scenes} {sensor.title} scenes of {passes} passes, "
        + (
            "without clouds and cloud shadows as the scene classification has them"
            if masked
            else "without a cloud mask"
        )
        + f"; nearest neighbour resampling; surface reflectance × {sensor.quantification}, 0 where nothing was seen."
    )
    return write_unit_item(
        application,
        written,
        assets,
        lineage,
        valid_pixels=data.sums[0][0],
        properties={
            "eoap:scenes": scenes,
            PASSES: passes,
            **({"eoap:lowest_percent": round(lowest, 2)} if lowest > MOST_LOWEST_PERCENT else {}),
            **(properties or {}),
        },
    )


def _lowest_percent(notes: Sequence[tuple[int, ...]], data: WrittenImage) -> float:
    """Return how many of the clear pixels of a band have the lowest value, in percent; of the band with most."""
    counts = [sum(band) for band in zip(*notes, strict=True)]
    return max((100 * low / sums[0] for low, sums in zip(counts, data.sums, strict=False) if sums[0]), default=0.0)
