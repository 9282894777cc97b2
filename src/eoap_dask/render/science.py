"""The interface between the engine and the kernels: a `Science` says what a strip of layers becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from eoap_dask.geo.window import Window
from eoap_dask.render.resources import Resource

Layers = npt.NDArray[np.uint16]
Flags = npt.NDArray[np.bool_]
Image = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Strip:
    """Some rows of a block, as a `Science` gets them."""

    layers: Layers
    """(band, pass, y + 2 halo, x + 2 halo), uint16, stored pixels, 0 = no data; only passes that touch the block, at
    least one. Beyond the grid there is no data. May be changed where there is no halo, but not in a survey; else it is
    shared with strips beside it, and read-only."""
    dropped: Flags | None
    """(pass, y + 2 halo, x + 2 halo), True where the scene classification says that the ground isn't seen; None without
    `Science.keeps_dropped`."""
    numbers: tuple[int, ...]
    """The passes' numbers in the stack."""
    window: Window | None = None
    """Where it lies in the grid, without its halo."""
    state: Any = None
    """What the surveys of the whole unit came to, see `Science.reduce`."""
    tools: Any = None
    """What `Science.set_up` returned on this worker."""
    shape: tuple[int, int] = (0, 0)
    """Height and width of the unit's grid."""
    days: tuple[int, ...] = ()
    """Days since 1970-01-01 of the passes, where they are of scenes."""
    cutout: str = ""
    """Name of the cutout that it is part of, see `Recipe.cutouts`; empty where there are none."""


class Science:
    """Turns the layers of a strip into the images of a unit: the base of frozen dataclasses, cheap to pickle.

    All its fields decide pixels, and are part of a unit's digest, but for those marked with `NO_PIXELS`. What it makes
    of a pixel depends on the layers within `halo` of it, on `state`, and on nothing else: not on blocks and strips.
    """

    keeps_dropped: ClassVar[bool] = False
    """Whether dropped pixels stay in the layers, with flags apart; else they are 0 there."""
    fewest_passes: ClassVar[int] = 1
    """Passes that it needs at least: a scene that the last of them needs can't be left out."""
    is_ordered: ClassVar[bool] = False
    """Whether the order of the passes decides what it makes."""

    @property
    def surveys(self) -> bool:
        """Whether the unit is surveyed before it is composed, see `survey`."""
        return False

    @property
    def halo(self) -> int:
        """Pixels around a strip that it needs to compose it."""
        return 0

    @property
    def work_bytes(self) -> int:
        """Bytes per pixel of a strip that it needs beside layers and images."""
        return 0

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Files that every worker needs, such as a model; they are brought once per worker."""
        return ()

    @property
    def modules(self) -> tuple[str, ...]:
        """Packages that workers need beside those of ours, such as PyTorch."""
        return ()

    @property
    def worker_bytes(self) -> int:
        """Memory that a worker needs for what it is set up with, however many threads it has."""
        return 0

    @property
    def task_bytes(self) -> int:
        """Memory that each task needs beside layers, images and `work_bytes`."""
        return 0

    def versions(self) -> Mapping[str, int]:
        """Return versions by name, one of which is raised whenever the same fields make other pixels."""
        return {}

    @property
    def tools_key(self) -> object:
        """What `set_up` depends on: sciences of one key share what they are set up with; None for all fields."""
        return None

    def check_worker(self) -> str:
        """Return with what a worker computes, where that decides the last digits; raise where `set_up` lacks something.

        Called there before any work, where there are `modules`.
        """
        return ""

    def set_up(self, files: Mapping[str, Path]) -> Any:  # noqa: ARG002
        """Return what `compose` needs on a worker; `files` are its `resources` by name.

        Called once per process, unless that works on many others in between.
        """
        return None

    def survey(self, strip: Strip) -> Any:
        """Return what the unit's statistics need to know of a strip; small.

        Called for parts of 16 rows and 512 columns on the lattice of the grid, or of a cutout, the same for any blocks
        and strips, where any layer has data.
        """
        raise NotImplementedError

    def merge(self, one: Any, other: Any) -> Any:
        """Return what two notes of `survey` come to; always called in the same order."""
        raise NotImplementedError

    def reduce(self, note: Any, state: Any) -> tuple[Any, bool]:
        """Return a new `Strip.state`, and whether to survey the unit once more with it.

        Parameters
        ----------
        note
            What all notes of a survey come to; None without any data.
        state
            What the survey before came to; None after the first.
        """
        raise NotImplementedError

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill the images of a strip.

        Pixels where no layer has data must come out as `ImageSpec.clear` makes them: it isn't called for blocks that no
        pass touches.

        Parameters
        ----------
        strip : Strip
        out : tuple of np.ndarray, (band, y, x), without halo
            Images in the order of the recipe, with any content; every pixel is to be set.
        """
        raise NotImplementedError

    def is_kept(self, notes: tuple[Any, ...]) -> bool:  # noqa: ARG002
        """Tell from all its notes whether a cutout is written; its notes are kept anyway."""
        return True

    def passes_of(self, cutout: str, state: Any) -> tuple[int, ...] | None:  # noqa: ARG002
        """Return the numbers of the passes that a cutout is made of, once surveys are over; None for all."""
        return None

    def note(self, images: tuple[Image, ...], row: int, col: int) -> Any:  # noqa: ARG002
        """Return what the client needs to know of a finished row of tiles beside these; small, or None.

        Parameters
        ----------
        images
            As wide as the block, and a tile high, or less at the bottom; also where no pass touches them.
        row, col
            Of their first pixel in the grid.
        """
        return None
