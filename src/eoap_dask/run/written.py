"""A unit as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoap_dask.run.plan import UnitPlan


@dataclass(frozen=True)
class WrittenUnit:
    """What there is of a unit before its item."""

    plan: UnitPlan
    folder: Path
    """Its directory, which holds its files."""
    made: Any
    """What `Collector.write` returned: a `WrittenRaster` for rasters."""
