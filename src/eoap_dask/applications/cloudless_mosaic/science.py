"""Composites of many passes: data, the number of clear observations, and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eoap_dask.kernels.composites import COMPOSITES, count_valid
from eoap_dask.kernels.pixels import visual
from eoap_dask.render.science import Flags, Image, Layers


@dataclass(frozen=True)
class Composition:
    """A `Science` with three images: data, count and visual."""

    composite: str
    """Key of `COMPOSITES`."""
    picks: tuple[int, ...]
    """Which bands `visual` shows."""
    keeps_dropped: ClassVar[bool] = False
    fewest_passes: ClassVar[int] = 1
    work_bytes: ClassVar[int] = 0

    def compose(self, layers: Layers, dropped: Flags | None, numbers: tuple[int, ...], out: tuple[Image, ...]) -> None:  # noqa: ARG002
        """Fill data, count and visual of a strip, see `Science.compose`."""
        data, count, shown = out
        kernel = COMPOSITES[self.composite].kernel
        for band in range(data.shape[0]):
            data[band] = kernel(layers[band])
        count[0] = count_valid(layers[0])
        shown[...] = visual(data, self.picks)

    def note(self, images: tuple[Image, ...], row: int, col: int) -> None:
        """Return nothing: the tiles say all."""
