"""Composites of many passes, as several applications make them: data, number of clear observations, and a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from eoap_dask.errors import UsageError
from eoap_dask.kernels.composites import CHUNK_BYTES, Composite, composite_of, count_valid
from eoap_dask.kernels.expressions import EXPRESSION_VERSION, parse_expression
from eoap_dask.kernels.indices import INDICES
from eoap_dask.kernels.pixels import F32, to_reflectance, visual
from eoap_dask.output.picture import write_thumbnail
from eoap_dask.render.identity import NO_PIXELS
from eoap_dask.render.images import BandSpec, ImageSpec
from eoap_dask.render.reflectance import reflectance_band, shown_bands
from eoap_dask.render.science import Image, Science, Strip
from eoap_dask.run.product import image_assets, thumbnail_asset, write_unit_item
from eoap_dask.run.raster import raster_of
from eoap_dask.run.summary import PASSES
from eoap_dask.scenes.radiometry import MOST_LOWEST_PERCENT, TAKEN_TWICE
from eoap_dask.scenes.sensor import Sensor
from eoap_dask.text import option

if TYPE_CHECKING:
    from eoap_dask.run.raster import WrittenImage
    from eoap_dask.run.written import WrittenUnit


@dataclass(frozen=True)
class IndexLayer:
    """An index that is worked out from the composite."""

    name: str
    """Of its file, band and asset."""
    formula: str
    """An expression of bands."""
    bands: tuple[str, ...]
    """Names in it: of `INDICES`, in the order of the kernel's arguments."""
    numbers: tuple[int, ...] = ()
    """Those of their layers, once these are known."""
    known: str = ""
    """Its key in `INDICES`, if it is one of them."""
    source: str = field(default="", metadata=NO_PIXELS)

    def of(self, reflectance: Sequence[F32]) -> F32:
        """Return (y, x), float32, from each of `bands`."""
        if self.known:
            return INDICES[self.known].kernel(*reflectance)
        return parse_expression(self.formula, "index")(dict(zip(self.bands, reflectance, strict=True)))


_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def wanted_indices(texts: Sequence[str], taken: Sequence[str]) -> tuple[IndexLayer, ...]:
    """Return the indices that are asked for by name, as an expression, or as NAME=EXPRESSION; `taken` are other names.

    Raises `UsageError` for what is none of these, and for a name that is there twice.
    """
    found: list[IndexLayer] = []
    for number, text in enumerate(texts, 1):
        known = INDICES.get(text.strip().lower())
        if known is not None:
            found.append(IndexLayer(known.name, known.formula, known.bands, known=known.name, source=known.source))
            continue
        name, separator, formula = text.partition("=")
        if not separator:
            name, formula = f"index_{number}", text
        if not _NAME.fullmatch(name.strip()):
            raise UsageError(
                f"{option('index')} names a layer {name.strip()[:60]!r}.",
                "Expected small letters, digits and _, beginning with a letter.",
                "Try wet=(green-nir)/(green+nir).",
            )
        if re.fullmatch(r"\s*\w+\s*", formula) and not separator:
            raise UsageError(
                f"There is no index {formula.strip()[:60]!r}.",
                f"Expected {', '.join(INDICES)}, or an expression of bands.",
                "Try (nir-red)/(nir+red).",
            )
        expression = parse_expression(formula, option("index"))
        found.append(IndexLayer(name.strip(), expression.text, expression.bands))
    names = [*taken, *(one.name for one in found)]
    twice = [one.name for one in found if names.count(one.name) > 1]
    if twice:
        raise UsageError(f"{option('index')} makes two layers called {twice[0]}.", "", "Try NAME=EXPRESSION.")
    return tuple(found)


@dataclass(frozen=True)
class Composition(Science):
    """Three images: data, count and visual; then days, where that is wanted of picked observations; then indices."""

    composite: str
    """Name of a composite, see `composite_of`."""
    picks: tuple[int, ...]
    """Which bands `visual` shows."""
    needs: tuple[int, ...] = ()
    """Numbers of the layers that the composite looks at beside all, some of which may not be written."""
    has_days: bool = False
    """Whether days are written."""
    indices: tuple[IndexLayer, ...] = ()
    """What is worked out from the composite; some of its bands may not be written."""
    reads: int = field(default=1, metadata=NO_PIXELS)
    """Bands that are read, for its memory."""

    @property
    def kind(self) -> Composite:
        """The composite itself."""
        found = composite_of(self.composite)
        assert found is not None  # noqa: S101 - names are checked with the parameters
        return found

    def versions(self) -> Mapping[str, int]:
        """Return the versions of composite and indices."""
        found = {self.composite: self.kind.version}
        for one in self.indices:
            found |= {one.known: INDICES[one.known].version} if one.known else {"expression": EXPRESSION_VERSION}
        return found

    @property
    def work_bytes(self) -> int:
        """What choosing, bands that aren't written, and indices hold of a pixel."""
        of_indices = 4 * max((len(one.numbers) for one in self.indices), default=0)
        not_written = 2 * self.reads if self.indices or self.needs else 0
        some_passes = 2 * self.kind.clearest * self.reads
        return (80 if self.kind.pick is not None else 0) + of_indices + not_written + some_passes

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
        layers, days = strip.layers, strip.days
        if self.surveys:
            used = [i for i, number in enumerate(strip.numbers) if number in strip.state]
            if len(used) < len(strip.numbers):
                layers, days = layers[:, used], tuple(days[i] for i in used)
        whole = data if len(layers) == len(data) else np.empty((len(layers), *data.shape[1:]), np.uint16)
        picked = self.kind.compose(layers, whole, tuple(layers[number] for number in self.needs))
        if whole is not data:
            data[...] = whole[: len(data)]
        count[0] = count_valid(layers[0])
        shown[...] = visual(data, self.picks)
        if self.has_days and picked is not None:
            rest.pop(0)[0] = np.array([*days, 0], np.uint16)[picked]
        for index, image in zip(self.indices, rest, strict=True):
            image[0] = index.of([to_reflectance(whole[number]) for number in index.numbers])

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
    indices: Sequence[IndexLayer] = (),
) -> tuple[ImageSpec, ...]:
    """Return composite, count, picture, perhaps days, indices, in the order of `Composition`: what files and items say.

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
        *(_index(one, prefix) for one in indices),
    )


def _index(one: IndexLayer, prefix: str) -> ImageSpec:
    what = f"{one.known.upper()} of the composite ({one.source})" if one.known else ""
    title = what or f"{one.name} of the composite: {one.formula}"
    band = BandSpec(one.name, title, unit="1")
    name = f"{prefix}{one.name}"
    return ImageSpec(name, (band,), "float32", "mean", math.nan, key=one.name, title=title, expression=one.formula)


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
    dropped = recipe.stack.dropped_classes
    lineage = (
        f"{data.spec.title} of {scenes} {sensor.title} scenes of {passes} passes, "
        + (
            "without a cloud mask"
            if dropped is None
            else "without clouds and cloud shadows as the scene classification has them"
            if dropped == sensor.mask_dropped
            else f"without the classes {', '.join(map(str, dropped))} of the scene classification"
        )
        + f"; nearest neighbour resampling; surface reflectance × {sensor.quantification}, 0 where nothing was seen"
        + "".join(f"; {spec.asset_key} = {spec.expression}" for spec in recipe.images if spec.expression)
        + "."
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
