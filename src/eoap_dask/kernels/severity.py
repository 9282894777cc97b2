"""Burn severity: classes of dNBR, as in the field manual of the USDA Forest Service and the USGS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from eoap_dask.kernels.pixels import F32, U8

KEY_BENSON = (-0.25, -0.1, 0.1, 0.27, 0.44, 0.66)
"""dNBR at which the second to the last class begin; printed × 1000 in Key & Benson (2006), doi:10.2737/RMRS-GTR-164."""

NODATA = 0  # the class of pixels without dNBR

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class SeverityClass:
    """A class of burn severity: its number in a file, and what it means."""

    value: int
    """In a file, from 1; 0 is no data."""
    name: str
    """For machines: ``moderate-low``."""
    title: str
    """For people: ``Moderate-low severity``."""
    lower: float
    """Smallest dNBR of the class, inclusive; -inf for the first."""
    upper: float
    """dNBR at which the next class begins; inf for the last."""
    colour: tuple[int, int, int]
    """Red, green and blue, 0 to 255."""
    burned: bool
    """Whether its pixels burned: true from low severity on."""

    @property
    def hex_colour(self) -> str:
        """The colour as ``RRGGBB``, for STAC's classification extension."""
        return "".join(f"{part:02X}" for part in self.colour)

    @property
    def range_text(self) -> str:
        """The range of dNBR in words, such as ``0.27 to 0.44``."""
        if self.lower == -np.inf:
            return f"below {self.upper:g}"
        return f"from {self.lower:g}" if self.upper == np.inf else f"{self.lower:g} to {self.upper:g}"


# The colours are those in which UN-SPIDER's recommended practice and many maps since show these classes.
_CLASSES: tuple[tuple[str, str, tuple[int, int, int], bool], ...] = (
    ("enhanced-regrowth-high", "Enhanced regrowth, high", (0x7A, 0x87, 0x37), False),
    ("enhanced-regrowth-low", "Enhanced regrowth, low", (0xAC, 0xBE, 0x4D), False),
    ("unburned", "Unburned", (0x0A, 0xE0, 0x42), False),
    ("low", "Low severity", (0xFF, 0xF7, 0x0B), True),
    ("moderate-low", "Moderate-low severity", (0xFF, 0xAF, 0x38), True),
    ("moderate-high", "Moderate-high severity", (0xFF, 0x64, 0x1B), True),
    ("high", "High severity", (0xA4, 0x1F, 0xD6), True),
)


def severity_classes(thresholds: Sequence[float] = KEY_BENSON) -> tuple[SeverityClass, ...]:
    """Return the seven classes, 1 to 7, from the strongest regrowth to the highest severity.

    `thresholds` are six finite, rising numbers of dNBR (not × 1000), where the second to the last class begin.
    """
    edges = _edges(thresholds)
    return tuple(
        SeverityClass(value, name, title, lower, upper, colour, burned)
        for value, ((name, title, colour, burned), lower, upper) in enumerate(
            zip(_CLASSES, (-np.inf, *edges), (*edges, np.inf), strict=True), start=1
        )
    )


def severity(dnbr: F32, thresholds: Sequence[float] = KEY_BENSON, out: U8 | None = None) -> U8:
    """Classify float32 dNBR into uint8: 1 to 7, or 0 where dNBR is NaN (Key & Benson 2006, doi:10.2737/RMRS-GTR-164).

    A threshold belongs to the class above it, compared as float32.
    """
    # in float32, as dNBR is: 0.44 must be in the class that begins at 0.44, and float32(0.44) < 0.44
    edges = np.array((-np.inf, *_edges(thresholds)), np.float32)
    if dnbr.dtype != np.float32:
        raise ValueError(f"dnbr must be float32, got {dnbr.dtype}")
    if out is None:
        out = np.empty(dnbr.shape, np.uint8)
    elif out.shape != dnbr.shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous uint8 {dnbr.shape}, got {out.dtype} {out.shape}")
    flat, flat_out = np.ascontiguousarray(dnbr).reshape(-1), out.reshape(-1)
    above = np.empty((edges.size, min(_PIECE, out.size)), bool)
    for start in range(0, out.size, _PIECE):
        piece = flat[start : start + _PIECE]
        over = above[:, : piece.size]
        np.greater_equal(piece, edges[:, None], out=over)  # NaN is above none of them, not even -inf
        np.add.reduce(over.view(np.uint8), axis=0, dtype=np.uint8, out=flat_out[start : start + _PIECE])
    return out


def _edges(thresholds: Sequence[float]) -> tuple[float, ...]:
    edges = tuple(float(edge) for edge in thresholds)
    rising = all(low < high for low, high in pairwise(edges))
    if len(edges) != len(_CLASSES) - 1 or not rising or not np.isfinite(edges).all():
        raise ValueError(f"thresholds must be {len(_CLASSES) - 1} finite, rising numbers, got {edges}")
    return edges
