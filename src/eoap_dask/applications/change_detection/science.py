"""Change between the images of two finished units: a score and a mask, by a method's statistics over all of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eoap_dask.applications.change_detection.methods import Method, Where
from eoap_dask.kernels.change import Floats, sieve
from eoap_dask.render.identity import NO_PIXELS
from eoap_dask.render.resources import Resource
from eoap_dask.render.science import Image, Science, Strip

NOTHING, UNCHANGED, CHANGED = 0, 1, 2
"""Values of the mask: what either date doesn't see, and what both do."""


@dataclass(frozen=True)
class Change(Science):
    """Two images of the layers of two dates: score and mask."""

    method: Method
    least_pixels: int
    """Smaller patches of change are left out, counted over edges and corners."""
    bands: tuple[str, ...] = field(default=(), metadata=NO_PIXELS)  # what is in them has its own digest
    """Names of the images' bands."""
    fewest_passes: ClassVar[int] = 2
    is_ordered: ClassVar[bool] = True

    @property
    def work_bytes(self) -> int:
        """Differences, squares and scores in double precision, and labels of patches."""
        return 80

    @property
    def surveys(self) -> bool:
        """Whether the method needs statistics."""
        return self.method.passes > 0

    @property
    def halo(self) -> int:
        """As far as a patch reaches that is too small, and the method beyond that."""
        return self.least_pixels + self.method.reach

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Those of the method."""
        return self.method.resources

    @property
    def modules(self) -> tuple[str, ...]:
        """Those of the method."""
        return self.method.modules

    @property
    def worker_bytes(self) -> int:
        """What the method takes."""
        return self.method.worker_bytes

    @property
    def task_bytes(self) -> int:
        """What the method takes."""
        return self.method.task_bytes

    def versions(self) -> Mapping[str, int]:
        """Return the method's version."""
        return {self.method.name: self.method.version, "sieve": 1}

    @property
    def tools_key(self) -> object:
        """Those of the method."""
        return self.method.tools_key

    def check_worker(self) -> str:
        """Raise what the method misses."""
        return self.method.check_worker()

    def set_up(self, files: Mapping[str, Path]) -> Any:
        """Return what the method is set up with."""
        return self.method.set_up(files)

    def survey(self, strip: Strip) -> Any:
        """Return what the method's statistics need."""
        halo = self.halo
        before, after = np.moveaxis(strip.layers, 1, 0)[:, :, halo:-halo, halo:-halo]
        return self.method.survey(before, after, strip.state)

    def merge(self, one: Any, other: Any) -> Any:
        """Add up."""
        return self.method.merge(one, other)

    def reduce(self, note: Any, state: Any) -> tuple[Any, bool]:
        """Return what a pass came to."""
        return self.method.reduce(note, state)

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill score and mask."""
        score, mask = out
        before, after = np.moveaxis(strip.layers, 1, 0)
        reach, patch = self.method.reach, self.least_pixels
        row, col = (0, 0) if strip.window is None else (strip.window.row, strip.window.col)
        corner = row - self.halo, col - self.halo
        found = self.method.score(before, after, strip.state, Where(corner, strip.shape, strip.tools))
        if reach:
            found = found[reach:-reach, reach:-reach]
        with np.errstate(invalid="ignore"):  # NaN is above nothing
            changed = sieve(found > self.method.threshold(strip.state), patch)
        found, changed = found[patch:-patch, patch:-patch], changed[patch:-patch, patch:-patch]
        score[0] = stored_score(found, self.method.step)
        mask[0] = np.where(np.isnan(found), NOTHING, np.where(changed, CHANGED, UNCHANGED))

    def note(self, images: tuple[Image, ...], row: int, col: int) -> tuple[int, int]:  # noqa: ARG002
        """Return the pixels that are seen, and those that have changed."""
        mask = images[1][0]
        return int(np.count_nonzero(mask)), int(np.count_nonzero(mask == CHANGED))


def stored_score(score: Floats, step: float) -> Image:
    """Return scores as they are stored: uint16 in steps, from 1 to 65535; 0 for NaN."""
    steps = np.clip(np.floor(np.nan_to_num(score) / step + 0.5), 1, 65535)
    return np.where(np.isnan(score), 0, steps).astype(np.uint16)
