"""Burned area from two passes: indices, their changes, severity, and a picture of either date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from eoap_dask.kernels import indices
from eoap_dask.kernels.pixels import F32, NO_NUMBER, histogram, to_reflectance, to_rounded, to_scaled, visual
from eoap_dask.kernels.severity import NODATA, severity, severity_classes
from eoap_dask.perimeters import Piece, Side, cut_pieces, outside_sides
from eoap_dask.science import Flags, Image, Layers

BANDS = ("red", "nir", "swir22")
"""What it reads."""

PICKS = (2, 1, 0)
"""`visual` shows swir22, nir and red as red, green and blue: burns are dark red, plants green."""

NBR_PER_UNIT = 10_000
"""Steps of stored NBR, dNBR and RBR per unit. RBR is held at ±3.2767; only ground without plants goes past that."""

RDNBR_PER_UNIT = 500
"""Steps of stored RdNBR per unit: its largest size, 64, fits int16."""

BURN_VERSION = 2
"""Raised when the numbers of `Burn` or its notes change; part of a unit's digest."""

_PIECE = 1 << 14
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
class Burn:
    """A `Science` of two passes, the one before the fire first, with `BurnImages`."""

    thresholds: tuple[float, ...]
    """See `kernels.severity.severity_classes`."""
    min_pixels: int
    """Burned areas smaller than this have no outline."""
    keeps_dropped: ClassVar[bool] = True
    fewest_passes: ClassVar[int] = 2
    work_bytes: ClassVar[int] = 0

    def compose(self, layers: Layers, dropped: Flags | None, numbers: tuple[int, ...], out: tuple[Image, ...]) -> None:
        """Fill the images of a strip, see `Science.compose`."""
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
        step = max(_PIECE // width, 1)
        scratch = np.empty((_SCRATCH, min(step, height), width), np.float32)
        for row in range(0, height, step):
            rows = slice(row, row + step)
            part = layers[:, :, rows]
            unseen = dropped[:, rows].any(axis=0)
            for layer in part.reshape(-1, *part.shape[2:]):
                unseen |= layer == 0
            found = BurnImages(*(image[:, rows] for image in images))
            if unseen.all():
                found.clear()
                continue
            np.copyto(part, 0, where=unseen)
            compare(part, self.thresholds, found, scratch)

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


def compare(layers: Layers, thresholds: tuple[float, ...], out: BurnImages, scratch: F32 | None = None) -> None:
    """Fill everything but the pictures from pixels that both passes see.

    Parameters
    ----------
    layers : np.ndarray, (band, pass, y, x), uint16
        `BANDS` of the pass before and the one after; stored pixels, 0 where either doesn't see the ground.
    thresholds
        See `kernels.severity.severity_classes`.
    out : BurnImages
    scratch : np.ndarray, (10, y or more, x), float32, optional
        Memory to work in.
    """
    height, width = layers.shape[2:]
    if scratch is None:
        scratch = np.empty((_SCRATCH, height, width), np.float32)
    (red, red_after, nir, nir_after, swir, swir_after), free = scratch[:6, :height], scratch[6:, :height]
    for values, stored in zip(scratch[:6, :height], layers.reshape(6, height, width), strict=True):
        to_reflectance(stored, values)
    bai, bai_after = indices.bai(red, nir, free[0]), indices.bai(red_after, nir_after, free[1])
    to_rounded(bai, out.bai[0])
    to_rounded(bai_after, out.bai[1])
    to_rounded(np.subtract(bai_after, bai, out=bai), out.bai[2])
    before, after = indices.nbr(nir, swir, free[0]), indices.nbr(nir_after, swir_after, free[1])
    change = indices.dnbr(before, after, free[2])
    severity(change, thresholds, out.severity[0])
    to_scaled(indices.rdnbr(change, before, free[3]), RDNBR_PER_UNIT, out.rdnbr[0])
    to_scaled(indices.rbr(change, before, free[3]), NBR_PER_UNIT, out.rbr[0])
    to_scaled(change, NBR_PER_UNIT, out.dnbr[0])
    to_scaled(before, NBR_PER_UNIT, out.nbr[0])
    to_scaled(after, NBR_PER_UNIT, out.nbr[1])


_SCRATCH = 10
"""Arrays that `compare` works in."""
