"""Composites of many passes, as several applications make them: data, number of clear observations, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from eoap_dask.kernels.composites import CHUNK_BYTES, Composite, composite_of, count_valid
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
    """Three images: data, count and visual; and a fourth of days, where observations are picked and that is wanted."""

    composite: str
    """Name of a composite, see `composite_of`."""
    picks: tuple[int, ...]
    """Which bands `visual` shows."""
    needs: tuple[int, ...] = ()
    """Numbers of the layers that the composite looks at beside all, some of which may not be written."""
    days: tuple[int, ...] = ()
    """Days since 1970-01-01 of all passes, where they are to be written."""

    @property
    def kind(self) -> Composite:
        """The composite itself."""
        found = composite_of(self.composite)
        assert found is not None  # noqa: S101 - names are checked with the parameters
        return found

    def versions(self) -> Mapping[str, int]:
        """Return the version of the composite."""
        return {self.composite: self.kind.version}

    @property
    def work_bytes(self) -> int:
        """What choosing holds of a pixel."""
        return 80 if self.kind.pick is not None else 0

    @property
    def task_bytes(self) -> int:
        """What a composite of all bands works on at once."""
        return 0 if self.kind.by_band is not None else 8 * CHUNK_BYTES

    @property
    def surveys(self) -> bool:
        """Whether passes are ranked by what is seen of them in the whole unit."""
        return self.kind.clearest > 0

    def survey(self, strip: Strip) -> dict[int, int]:
        """Return how many clear pixels each pass has."""
        return {number: int(np.count_nonzero(strip.layers[0, i])) for i, number in enumerate(strip.numbers)}

    def merge(self, one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
        """Add them up."""
        return {number: one.get(number, 0) + other.get(number, 0) for number in {*one, *other}}

    def reduce(self, note: dict[int, int] | None, state: Any) -> tuple[tuple[int, ...], bool]:  # noqa: ARG002
        """Return the numbers of the clearest passes; of equal ones the earliest."""
        counts = note or {}
        ranked = sorted(counts, key=lambda number: (-counts[number], number))
        return tuple(sorted(ranked[: self.kind.clearest])), False

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill the images of a strip, see `Science.compose`."""
        data, count, shown, *rest = out
        layers, numbers = strip.layers, strip.numbers
        if self.surveys:
            used = [i for i, number in enumerate(numbers) if number in strip.state]
            layers, numbers = layers[:, used], tuple(numbers[i] for i in used)
        picked = self.kind.compose(layers[: len(data)], data, tuple(layers[number] for number in self.needs))
        count[0] = count_valid(layers[0])
        shown[...] = visual(data, self.picks)
        for image in rest:
            days = np.array([*(self.days[number] for number in numbers), 0], np.uint16)
            image[0] = days[np.full(data.shape[1:], -1) if picked is None else picked]

    def note(self, images: tuple[Image, ...], row: int, col: int) -> tuple[int, ...]:  # noqa: ARG002
        """Return how many pixels of each band have the lowest value, 1, as after an offset that is taken off twice."""
        return tuple(int(np.count_nonzero(band == 1)) for band in images[0])


def composite_images(
    name: str,
    bands: Sequence[str],
    sensor: Sensor,
    composite: str,
    *,
    suffix: str = ".tif",
    prefix: str = "",
    has_days: bool = False,
) -> tuple[ImageSpec, ...]:
    """Return composite, count, picture and perhaps days, in the order of `Composition`: what files and items say.

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
        *([_days(prefix)] if has_days else []),
    )


def _days(prefix: str) -> ImageSpec:
    return ImageSpec(
        f"{prefix}date",
        (BandSpec("date", "Days since 1970-01-01", unit_title="days since 1970-01-01"),),
        "uint16",
        "nearest",
        0,
        key="date",
        title="Day on which each pixel was seen",
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
    data, _, visual = (images[spec.name] for spec in recipe.images[:3])
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
