"""Images and units as they were written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoap_dask.kernels.pixels import Sums
from eoap_dask.render.images import ImageSpec
from eoap_dask.run.plan import UnitPlan


@dataclass(frozen=True)
class WrittenImage:
    """A file of a unit, as it was written."""

    spec: ImageSpec
    path: Path
    size: int
    sha256: str
    sums: Sums
    smallest: Any
    """Its coarsest level, (band, y, x)."""


@dataclass(frozen=True)
class WrittenUnit:
    """What there is of a unit before its item."""

    plan: UnitPlan
    folder: Path
    """Its directory, which holds its images."""
    images: dict[str, WrittenImage]
    """By name."""
    levels: dict[str, list[float]]
    """Side of the pixels that were read, for ``data`` and ``mask``."""
    notes: tuple[Any, ...]
    """What the science said of each row of tiles of the blocks, in their order."""
