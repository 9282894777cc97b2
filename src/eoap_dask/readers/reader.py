"""Readers: from a file behind an href to the pixels of a source window. See `choose.make_reader`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from eoap_dask.geo.window import Transform, Window
    from eoap_dask.scenes.model import Source


@dataclass(frozen=True, slots=True)
class FileGrid:
    """Where a file says that its native level lies; None where it doesn't."""

    crs: str | None = None
    """``EPSG:32610`` or the like."""
    transform: Transform | None = None


class Raster(Protocol):
    """An open source. One thread at a time may use it."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level, native first."""
        ...

    @property
    def grid(self) -> FileGrid:
        """Where the file says that it lies."""
        ...

    @property
    def nodata(self) -> int | None:
        """The file's own number of missing pixels, as stored; None where it has none, or one that isn't whole."""
        ...

    def read(
        self,
        level: int,
        window: Window,
        out: npt.NDArray[np.generic],
        rest: Window | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """Fill an array with the pixels of a window of a level, as stored in the file; 0 where its mask hides them.

        Parameters
        ----------
        level
            Number of the level, 0 = native.
        window : Window
            Part of the level, in its pixels.
        out : np.ndarray, (y, x), not necessarily contiguous
            Values outside its dtype are clipped.
        rest : Window, optional
            Part of the level that this and other reads need together: tiles that reach beyond `window` may be cached.
        is_shared
            Whether other units need the same tiles, nobody knows how many: all may be cached, as they are in the file.

        Raises
        ------
        AssetError
            when the file can't be read after all retries
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Reader(Protocol):
    """Opens sources. Must be cheap to pickle."""

    def open(self, source: Source, item_id: str) -> Raster:
        """Open a source.

        Parameters
        ----------
        source : Source
        item_id
            For messages.

        Raises
        ------
        AssetError
            when the file can't be read after all retries, or doesn't match its item
        """
        ...
