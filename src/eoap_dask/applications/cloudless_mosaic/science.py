"""Composites of many passes: data, the number of clear observations, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eoap_dask.kernels.composites import COMPOSITES, count_valid
from eoap_dask.kernels.pixels import visual
from eoap_dask.render.science import Image, Science, Strip


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
