"""Readers: from a file behind an href to the pixels of a source window. The seam for leaner ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from eoap_dask.grid import Window
    from eoap_dask.scenes import Source


class Raster(Protocol):
    """An open source. One thread at a time may use it."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level, native first."""
        ...

    def read(self, level: int, window: Window, out: npt.NDArray[np.generic]) -> None:
        """Fill `out`, (y, x), with the pixels of a window of a level, as stored in the file."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Reader(Protocol):
    """Opens sources. Must be cheap to pickle."""

    def open(self, source: Source, item_id: str) -> Raster:
        """Open a source.

        Raises
        ------
        AssetError
            when it can't be had after all retries, or isn't what the item says
        """
        ...
