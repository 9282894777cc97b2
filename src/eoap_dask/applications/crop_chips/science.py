"""Chips: composites of the clear passes, and masks of the fields that are drawn into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from eoap_dask.geo.rasterize import paint
from eoap_dask.geo.window import Transform, Window
from eoap_dask.kernels.composites import COMPOSITES, median
from eoap_dask.kernels.pixels import histogram
from eoap_dask.render.identity import NO_PIXELS
from eoap_dask.render.science import Image, Science, Strip

IGNORED = 255
"""Value of pixels that are to be ignored."""

MASK_VERSION = 1
"""Raised when masks change; part of a unit's digest."""


@dataclass(frozen=True)
class Labels:
    """What is drawn into a mask."""

    window: Window
    """Of the chip in the grid."""
    transform: Transform
    """Of the chip."""
    shapes: bytes
    """Fields in the grid's CRS, in the order in which they are painted, as a WKB collection."""
    values: bytes
    """Class of each."""
    fields: int = field(default=0, metadata=NO_PIXELS)
    """Fields that touch the chip; others are near it."""

    def mask(self, border: int) -> npt.NDArray[np.uint8]:
        """Return (y, x), the class of the last field that holds a pixel's centre, 0 outside of them.

        With a `border`, pixels whose centre is less than so many pixels from the outline of a field are `IGNORED`.
        """
        return _mask(self, border)


@lru_cache(8)
def _mask(labels: Labels, border: int) -> npt.NDArray[np.uint8]:
    shapes = shapely.get_parts(shapely.from_wkb(labels.shapes))
    painted = [*zip(shapes, labels.values, strict=True)]
    if border:
        lines = shapely.boundary(shapes)
        wide = shapely.buffer(lines, border * abs(labels.transform[0]))
        painted += [(one, IGNORED) for one in wide]
    return paint(painted, labels.window.shape, Affine(*labels.transform))


class ChipNote(NamedTuple):
    """What the client must know of some rows of a chip."""

    pixels: int
    valid: int
    """Pixels with data."""
    classes: tuple[tuple[int, int], ...]
    """Values of the mask, and how many pixels have them."""


@dataclass(frozen=True)
class Chips(Science):
    """Two images of each cutout: a composite of all bands, and the mask of its fields."""

    labels: Mapping[str, Labels]
    """By the names of the cutouts."""
    border: int
    """Pixels on either side of outlines that are ignored."""
    min_valid: float
    """Share of pixels with data below which a chip isn't kept."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Split of each cutout, which its item tells; another one makes another item."""

    def versions(self) -> Mapping[str, int]:
        """Return the versions of the composite and of masks."""
        return {"mask-of-fields": MASK_VERSION, **self.versions_of_composite()}

    def versions_of_composite(self) -> Mapping[str, int]:
        """Return the version of the composite, by its name."""
        return {"median": COMPOSITES["median"].version}

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill image and mask, see `Science.compose`."""
        image, mask = out
        self.fill(strip, image)
        labels = self.labels[strip.cutout]
        assert strip.window is not None  # noqa: S101 - the renderer gives it
        mask[0] = labels.mask(self.border)[labels.window.slices(strip.window)]

    def fill(self, strip: Strip, image: Image) -> None:
        """Fill the image with the median of the clear passes."""
        for band in range(image.shape[0]):
            image[band] = median(strip.layers[band])

    def note(self, images: tuple[Image, ...], row: int, col: int) -> ChipNote:  # noqa: ARG002
        """Return the pixels with data, and those of each class."""
        image, mask = images
        counts = histogram(mask[0])
        classes = tuple((int(value), int(counts[value])) for value in np.flatnonzero(counts))
        return ChipNote(mask[0].size, int(np.count_nonzero(image[0])), classes)

    def is_kept(self, notes: tuple[ChipNote, ...]) -> bool:
        """Tell whether enough of a chip has data."""
        whole = total(notes)
        return whole.valid > 0 and whole.valid >= self.min_valid * whole.pixels


@dataclass(frozen=True)
class ClearestChips(Chips):
    """The same with the one pass that has most clear pixels in a chip, of equal ones the first."""

    @property
    def surveys(self) -> bool:
        """What each chip sees of each pass."""
        return True

    def versions_of_composite(self) -> Mapping[str, int]:
        """Return the version of the choice."""
        return {"clearest-1": 1}

    def survey(self, strip: Strip) -> dict[str, dict[int, int]]:
        """Return the clear pixels of each pass, for the chip."""
        counts = {number: int(np.count_nonzero(strip.layers[0, i])) for i, number in enumerate(strip.numbers)}
        return {strip.cutout: counts}

    def merge(self, one: dict[str, dict[int, int]], other: dict[str, dict[int, int]]) -> dict[str, dict[int, int]]:
        """Add them up."""
        found = {cutout: dict(counts) for cutout, counts in one.items()}
        for cutout, counts in other.items():
            mine = found.setdefault(cutout, {})
            for number, count in counts.items():
                mine[number] = mine.get(number, 0) + count
        return found

    def reduce(self, note: dict[str, dict[int, int]] | None, state: Any) -> tuple[dict[str, int], bool]:  # noqa: ARG002
        """Return the number of each chip's pass."""
        counted = note or {}
        return {cutout: min(counts, key=lambda n: (-counts[n], n)) for cutout, counts in counted.items()}, False

    def passes_of(self, cutout: str, state: Any) -> tuple[int, ...] | None:
        """Return the number of the chosen pass."""
        return (state[cutout],) if state and cutout in state else None

    def fill(self, strip: Strip, image: Image) -> None:
        """Fill the image with what the chosen pass saw."""
        number = strip.state.get(strip.cutout)
        if number in strip.numbers:
            image[...] = strip.layers[:, strip.numbers.index(number)]
        else:
            image[...] = 0


def total(notes: Sequence[ChipNote]) -> ChipNote:
    """Return what the notes of a chip come to."""
    counts: dict[int, int] = {}
    for note in notes:
        for value, number in note.classes:
            counts[value] = counts.get(value, 0) + number
    return ChipNote(sum(n.pixels for n in notes), sum(n.valid for n in notes), tuple(sorted(counts.items())))
