"""Burned area from two passes: indices, their changes, severity, and a picture of either date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from eoap_dask.geo.outlines import Piece, Side, cut_pieces, outside_sides
from eoap_dask.kernels import indices
from eoap_dask.kernels.pixels import F32, NO_NUMBER, SCALE, histogram, to_rounded, to_scaled, to_steps, visual
from eoap_dask.kernels.severity import NODATA, severity, severity_classes
from eoap_dask.render.science import Flags, Image, Layers, Science, Strip

BANDS = ("red", "nir", "swir22")
"""Bands that `Burn` reads."""

PICKS = (2, 1, 0)
"""`visual` shows swir22, nir and red as red, green and blue: burns are dark red, plants green."""

NBR_PER_UNIT = 10_000
"""Steps of stored NBR, dNBR and RBR per unit. RBR is held at ±3.2767; only ground without plants goes past that."""

RDNBR_PER_UNIT = 500
"""Steps of stored RdNBR per unit: its largest size, 64, fits int16."""

BURN_VERSION = 2
"""Raised when the numbers of `Burn` or its notes change; part of a unit's digest."""

_PIECE = 1 << 16
"""Pixels that are worked on at once: intermediate numbers stay near the processor, in memory that is used again."""


class BurnImages(NamedTuple):
    """The images of `Burn`, in their order."""

    bai: Image
    """(3, y, x), float32: before, after, after − before."""
    nbr: Image
    """(2, y, x), int16: before, after."""
    dnbr: Image
    rdnbr: Image
    rbr: Image
    """(1, y, x), int16."""
    severity: Image
    """(1, y, x), uint8."""
    visual_pre: Image
    visual_post: Image
    """(3, y, x), uint8."""

    def clear(self) -> None:
        """Leave no data in anything but the pictures."""
        self.bai[...] = np.nan
        for scaled in (self.nbr, self.dnbr, self.rdnbr, self.rbr):
            scaled[...] = NO_NUMBER
        self.severity[...] = NODATA


@dataclass(frozen=True)
class BlockNote:
    """What the client must know of a row of a block's tiles."""

    class_pixels: tuple[int, ...]
    """Pixels of each class of severity, no data first."""
    pieces: tuple[Piece, ...]
    """Outlines of what burned."""
    sides: tuple[Side, ...]
    """Where its sides, top and bottom too, are beyond the area or the data of either pass."""


@dataclass(frozen=True)
class Burn(Science):
    """Two passes, the one before the fire first, become `BurnImages`."""

    thresholds: tuple[float, ...]
    """See `kernels.severity.severity_classes`."""
    min_pixels: int
    """Burned areas smaller than this have no outline."""
    keeps_dropped: ClassVar[bool] = True
    fewest_passes: ClassVar[int] = 2
    is_ordered: ClassVar[bool] = True

    def versions(self) -> Mapping[str, int]:
        """Return the version of the indices and classes."""
        return {"burn": BURN_VERSION}

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill the images of a strip, see `Science.compose`."""
        layers, dropped, numbers = strip.layers, strip.dropped, strip.numbers
        images = BurnImages(*out)
        pictures = (images.visual_pre, images.visual_post)
        for layer, number in enumerate(numbers):
            visual(layers[:, layer], PICKS, pictures[number])
        if len(numbers) < 2:
            pictures[1 - numbers[0]][...] = 0
            images.clear()
            return  # nothing to compare
        assert dropped is not None  # noqa: S101 - because of keeps_dropped
        height, width = layers.shape[2:]
        step = min(max(_PIECE // width, 1), height)
        scratch = np.empty((_SCRATCH, step, width), np.float32)
        for row in range(0, height, step):
            rows = slice(row, row + step)
            part = layers[:, :, rows]
            unseen = np.minimum(np.minimum(part[0], part[1]), part[2]) == 0
            unseen |= dropped[:, rows]
            unseen[0] |= unseen[1]
            found = BurnImages(*(image[:, rows] for image in images))
            if unseen[0].all():
                found.clear()
                continue
            compare(part, unseen[0], self.thresholds, found, scratch)

    def note(self, images: tuple[Image, ...], row: int, col: int) -> BlockNote:
        """Return areas per class, and outlines of what burned."""
        classes, dnbr = BurnImages(*images).severity[0], BurnImages(*images).dnbr[0]
        known = severity_classes(self.thresholds)
        counts = histogram(classes)[: len(known) + 1]
        burned = classes >= next(c.value for c in known if c.burned)  # the last of them
        # pictures have no data beyond the area and the scenes only; under clouds and water they go on
        pictures = (BurnImages(*images).visual_pre[0], BurnImages(*images).visual_post[0])
        outside = (pictures[0] == 0) | (pictures[1] == 0)
        pieces = cut_pieces(burned, dnbr, row, col, self.min_pixels, outside)
        return BlockNote(tuple(int(n) for n in counts), pieces, outside_sides(outside, row, col))


def compare(
    layers: Layers,  # (band, pass, y, x), uint16: `BANDS` of the pass before and the one after, as stored
    unseen: Flags,  # (y, x), bool: where either doesn't see the ground, at least where any layer is 0
    thresholds: tuple[float, ...],
    out: BurnImages,
    scratch: F32 | None = None,  # (9, y, x), float32: memory to work in, if it has the right shape
) -> None:
    """Fill everything but the pictures."""
    height, width = layers.shape[2:]
    if scratch is None or scratch.shape[1:] != (height, width):
        scratch = np.empty((_SCRATCH, height, width), np.float32)
    # both dates at once: there are few calls then, each of which may wait for Python's lock
    reflectance = scratch[:6].reshape(3, 2, height, width)
    reflectance[...] = layers
    reflectance *= SCALE
    red, nir, swir = reflectance
    np.copyto(nir, np.nan, where=unseen)  # which is in every index
    bai = scratch[6:9]
    indices.bai(red, nir, bai[:2])
    np.subtract(bai[1], bai[0], out=bai[2])
    to_rounded(bai, out.bai)
    ratios = scratch[:4]  # of both dates, their difference, and the latter's ratio
    indices.nbr(nir, swir, ratios[:2])
    before, after, change, relativized = ratios
    indices.dnbr(before, after, change)
    severity(change, thresholds, out.severity[0])
    indices.rbr(change, before, relativized)
    to_scaled(indices.rdnbr(change, before, bai[0]), RDNBR_PER_UNIT, out.rdnbr[0])
    to_steps(ratios, NBR_PER_UNIT)
    out.nbr[...], out.dnbr[0], out.rbr[0] = ratios[:2], change, relativized


_SCRATCH = 9
"""Arrays that `compare` works in."""
