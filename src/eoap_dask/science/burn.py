"""Burned area from two passes: indices, their changes, severity, and a picture of either date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from eoap_dask.kernels import indices
from eoap_dask.kernels.pixels import NO_NUMBER, to_rounded, to_scaled, visual
from eoap_dask.kernels.severity import severity, severity_classes
from eoap_dask.perimeters import Piece, cut_pieces
from eoap_dask.science import Flags, Image, Layers

BANDS = ("red", "nir", "swir22")
"""What it reads."""

PICKS = (2, 1, 0)
"""`visual` shows swir22, nir and red as red, green and blue: burns are dark red, plants green."""

NBR_PER_UNIT = 10_000
"""Steps of stored NBR, dNBR and RBR per unit. RBR is held at ±3.2767; only ground without plants goes past that."""

RDNBR_PER_UNIT = 500
"""Steps of stored RdNBR per unit: its largest size, 64, fits int16."""

BURN_VERSION = 1
"""Raised when the numbers of `Burn` change; part of a unit's digest."""

_ROWS = 32
"""Rows that are worked on at once: intermediate numbers stay near the processor."""


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


@dataclass(frozen=True)
class BlockNote:
    """What the client must know of a block."""

    class_pixels: tuple[int, ...]
    """Pixels of each class of severity, no data first."""
    pieces: tuple[Piece, ...]
    """Outlines of what burned."""


@dataclass(frozen=True)
class Burn:
    """A `Science` of two passes, the one before the fire first, with `BurnImages`."""

    thresholds: tuple[float, ...]
    """See `kernels.severity.severity_classes`."""
    min_pixels: float
    """Burned areas smaller than this have no outline."""
    keeps_dropped: ClassVar[bool] = True
    fewest_passes: ClassVar[int] = 2
    work_bytes: ClassVar[int] = 0

    def compose(self, layers: Layers, dropped: Flags | None, numbers: tuple[int, ...], out: tuple[Image, ...]) -> None:
        """Fill the images of a strip, see `Science.compose`."""
        images = BurnImages(*out)
        for layer, number in enumerate(numbers):
            (images.visual_pre, images.visual_post)[number][...] = visual(layers[:, layer], PICKS)
        if len(numbers) < 2:
            return  # nothing to compare
        assert dropped is not None  # noqa: S101 - because of keeps_dropped
        for row in range(0, layers.shape[2], _ROWS):
            rows = slice(row, row + _ROWS)
            part = layers[:, :, rows]
            seen = (part != 0).all(axis=(0, 1)) & ~dropped[:, rows].any(axis=0)
            compare(part * seen, self.thresholds, BurnImages(*(image[:, rows] for image in images)))

    def note(self, images: tuple[Image, ...], row: int, col: int) -> BlockNote:
        """Return areas per class, and outlines of what burned."""
        classes, dnbr = BurnImages(*images).severity[0], BurnImages(*images).dnbr[0]
        known = severity_classes(self.thresholds)
        counts = np.bincount(classes.reshape(-1), minlength=len(known) + 1)
        burned = np.isin(classes, [c.value for c in known if c.burned])
        pieces = cut_pieces(burned, np.where(dnbr == NO_NUMBER, 0, dnbr), row, col, self.min_pixels)
        return BlockNote(tuple(int(n) for n in counts), pieces)


def compare(layers: Layers, thresholds: tuple[float, ...], out: BurnImages) -> None:
    """Fill everything but the pictures from pixels that both passes see.

    Parameters
    ----------
    layers : np.ndarray, (band, pass, y, x), uint16
        `BANDS` of the pass before and the one after; stored pixels, 0 where either doesn't see the ground.
    thresholds
        See `kernels.severity.severity_classes`.
    out : BurnImages
    """
    (red, red_after), (nir, nir_after), (swir, swir_after) = layers
    bai = indices.bai_stored(red, nir), indices.bai_stored(red_after, nir_after)
    for band, values in enumerate((*bai, bai[1] - bai[0])):
        to_rounded(values, out.bai[band])
    before, after = indices.nbr_stored(nir, swir), indices.nbr_stored(nir_after, swir_after)
    change = indices.dnbr(before, after)
    out.severity[0] = severity(change, thresholds)
    to_scaled(indices.rdnbr(change, before), RDNBR_PER_UNIT, out.rdnbr[0])
    to_scaled(indices.rbr(change, before), NBR_PER_UNIT, out.rbr[0])
    to_scaled(change, NBR_PER_UNIT, out.dnbr[0])
    to_scaled(before, NBR_PER_UNIT, out.nbr[0])
    to_scaled(after, NBR_PER_UNIT, out.nbr[1])
