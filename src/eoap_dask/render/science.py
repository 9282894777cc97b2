"""The interface between the engine and the kernels: a `Science` says what a strip of layers becomes."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Layers = npt.NDArray[np.uint16]
Flags = npt.NDArray[np.bool_]
Image = npt.NDArray[Any]


class Science(Protocol):
    """Turns the layers of a strip into the images of a unit. Small, and cheap to pickle."""

    keeps_dropped: ClassVar[bool]
    """Whether dropped pixels stay in the layers, with flags apart; else they are 0 there."""
    fewest_passes: ClassVar[int]
    """Passes that it needs at least: a scene that the last of them needs can't be left out."""
    work_bytes: ClassVar[int]
    """Bytes per pixel of a strip that it needs beside layers and images."""

    def compose(self, layers: Layers, dropped: Flags | None, numbers: tuple[int, ...], out: tuple[Image, ...]) -> None:
        """Fill the images of a strip.

        Parameters
        ----------
        layers : np.ndarray, (band, pass, y, x), uint16
            Stored pixels, 0 = no data; only passes that touch the block, at least one. May be changed.
        dropped : np.ndarray, (pass, y, x), bool
            True where the scene classification says that the ground isn't seen; None without `keeps_dropped`.
        numbers
            The passes' numbers in the stack.
        out : tuple of np.ndarray, (band, y, x)
            Images in the order of the recipe, with any content; every pixel is to be set.
        """
        ...

    def note(self, images: tuple[Image, ...], row: int, col: int) -> Any:
        """Return what the client needs to know of a finished row of tiles beside these; small, or None.

        Parameters
        ----------
        images
            As wide as the block, and a tile high, or less at the bottom; also where no pass touches them.
        row, col
            Of their first pixel in the grid.
        """
        ...
