"""Units of work: what one is, and how one can fail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

COUNTS = "eoap:counts"
"""Property of a unit's item: what it holds, numbers or numbers by name, which a status adds up."""


@dataclass(frozen=True)
class Unit:
    """The smallest thing that is done or not done, such as a period, a pair of dates, or a cell."""

    key: str
    """Unique in a run, and the name of its directory and item."""
    title: str
    start: datetime
    end: datetime
    needs: tuple[str, ...] = ()
    """Keys of units that must be finished before."""

    def __str__(self) -> str:
        return f"{self.key}: {self.title}, {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


@dataclass(frozen=True)
class Failure:
    """An entry of the ledger."""

    unit: str
    reason: str
    item: str = ""
    asset: str = ""
    href: str = ""
    attempts: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as it stands in ``failures.json``."""
        return {k: v for k, v in vars(self).items() if v != ""}
