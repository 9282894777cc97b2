"""What decides the pixels of a unit before they are composed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.window import Window, window_bounds
from eoap_dask.kernels.mask import SHARE_DIVISOR, class_table
from eoap_dask.readers.limits import READS
from eoap_dask.render.identity import identity_of
from eoap_dask.render.resample import pixel_size_in
from eoap_dask.scenes.model import Contradictions, Pass, Scene, Source, corrected, footprint_touches

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.readers.reader import Reader


MASK_NEAREST_UP_TO_M = 20.0
"""Up to this output pixel size the class nearest to the pixel's centre decides, beyond it the share of classes."""

_EPOCH = date(1970, 1, 1)
_MAP_SIDE = 8
"""Index maps of up to so many points each way per output pixel are kept for the other scenes of a strip."""


@dataclass(frozen=True)
class Stack:
    """Everything that decides the pixels of a unit before they are composed. Small, and cheap to pickle."""

    geobox: GeoBox
    passes: tuple[Pass, ...]
    bands: int
    dropped_classes: tuple[int, ...] | None
    """Scene classes that don't show the ground; None applies no mask."""
    clip_wkb: bytes | None
    """The area's shape in the grid's CRS; None keeps the whole grid."""
    reader: Reader
    reads: int = READS
    """Files that a process reads at once."""

    def rules(self) -> dict[str, Any]:
        """Return what decides the layers beside grid and scenes, as JSON-like values."""
        mask = None
        if self.dropped_classes is not None:
            mask = [list(self.dropped_classes), MASK_NEAREST_UP_TO_M, 1 / SHARE_DIVISOR]
        return {"bands": self.bands, "mask": mask, "clip": identity_of(self.clip_wkb)}

    held_bytes: ClassVar[int] = 0
    """Bytes per pixel of layers that a task receives and holds whole."""

    @property
    def depth(self) -> int:
        """Layers of a band, at most."""
        return len(self.passes)

    @cached_property
    def days(self) -> tuple[int, ...]:
        """Days since 1970-01-01 of all passes."""
        return tuple((one.datetime.date() - _EPOCH).days for one in self.passes)

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in order of time and id."""
        return tuple(s for p in self.passes for s in p.scenes)

    def corrected(self, found: Contradictions) -> Stack:
        """Return the stack with the grids that files really have, see `ContradictionError.found`."""
        passes = (replace(p, scenes=tuple(corrected(s, found) for s in p.scenes)) for p in self.passes)
        return replace(self, passes=tuple(passes))

    def without(self, scene_id: str) -> Stack:
        """Return the stack without a scene, and without its pass if that has no other."""
        passes = (replace(p, scenes=tuple(s for s in p.scenes if s.id != scene_id)) for p in self.passes)
        return replace(self, passes=tuple(p for p in passes if p.scenes))

    @cached_property
    def crs(self) -> str:
        """The grid's CRS, as a code where it has one."""
        return crs_name(self.geobox)

    @cached_property
    def clip(self) -> shapely.Geometry | None:
        """The area's shape in the grid's CRS."""
        return None if self.clip_wkb is None else shapely.from_wkb(self.clip_wkb)

    @cached_property
    def class_table(self) -> npt.NDArray[np.bool_]:
        """Look-up table of dropped classes."""
        return class_table(self.dropped_classes or ())

    def pixel_size(self, crs: str) -> float:
        """Return the side of a pixel in the units of a source's CRS."""
        size = self._sizes.get(crs)
        if size is None:
            size = self._sizes[crs] = pixel_size_in(self.geobox, crs)
        return size

    @cached_property
    def _sizes(self) -> dict[str, float]:
        return {}

    def coarse(self, mask: Source) -> bool:
        """Tell whether the share of classes decides, and not the nearest class."""
        return self.pixel_size(mask.crs) > MASK_NEAREST_UP_TO_M * (1 + 1e-3)

    @cached_property
    def map_points(self) -> int:
        """Points per pixel in the largest index map of scene classes that is kept; 0 when mask and grid share a CRS.

        From 8 points a side on, the next overview has enough; without one, maps come in pieces, and aren't kept.
        """
        masks = {
            (s.mask.crs, s.mask.transform[:2]): s.mask for p in self.passes for s in p.scenes if s.mask is not None
        }
        points = [0]
        for mask in masks.values():
            if self.dropped_classes is not None and mask.crs != self.crs and self.coarse(mask):
                n = round(self.pixel_size(mask.crs) / pixel_side(mask))
                points.append(min(n, _MAP_SIDE) ** 2)
        return max(points)

    def touching(self, window: Window) -> tuple[tuple[int, tuple[Scene, ...]], ...]:
        """Return (number of the pass, its scenes that may have pixels in a window)."""
        bounds = window_bounds(self.geobox, window)
        out = []
        for number, one in enumerate(self.passes):
            scenes = tuple(s for s in one.scenes if footprint_touches(s.bands[0], self.crs, bounds))
            if scenes:
                out.append((number, scenes))
        return tuple(out)


class LayerReader(Protocol):
    """Reads strips of a window into layers. A context manager."""

    passes: tuple[tuple[int, tuple[Scene, ...]], ...]
    """Number of each layer in the stack, and its scenes that may have pixels in the window."""
    levels: dict[str, set[float]]
    """Side of the pixels that were read, for ``data`` and ``mask``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read(self, strip: Window, layers: npt.NDArray[np.uint16], dropped: npt.NDArray[np.bool_] | None = None) -> None:
        """Fill `layers`, (band, pass, y, x), uint16, 0 = no data: a layer per entry of `passes`.

        Parameters
        ----------
        strip : Window
            Part of the reader's window.
        layers
            With any content.
        dropped : np.ndarray, (pass, y, x), optional
            Becomes True where the scene class says that the ground isn't seen; without it such pixels become 0.

        Raises
        ------
        AssetError
            when a file can't be read after all retries
        TilesError
            when the image of a unit can't be read
        """
        ...


def pixel_side(source: Source) -> float:
    """Return the side of a source's pixels in units of its CRS."""
    a, b, _, d, e, _ = source.transform
    return float(abs(a * e - b * d) ** 0.5)
