"""Units of work: what one is, its digest, and what happens to it, as a stream of events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from eoap_dask.grid import crs_name
from eoap_dask.scenes import Pass, Scene

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True)
class Unit:
    """The smallest thing that is done or not done: here, one period over the whole area."""

    key: str
    """Unique in a run, and the name of its directory and item."""
    title: str
    start: datetime
    end: datetime
    passes: tuple[Pass, ...]

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in order of time and id."""
        return tuple(s for p in self.passes for s in p.scenes)


def digest(
    key: str, geobox: GeoBox, params: Mapping[str, Any], scenes: Sequence[Scene], algorithm: Mapping[str, int]
) -> str:
    """Return what identifies a unit's pixels, as 32 hexadecimal digits.

    Parameters
    ----------
    key
        The unit's key.
    geobox : GeoBox
        The resolved grid.
    params
        The parameters that affect pixels, JSON-like. Not dates, source or search filters.
    scenes
        Their fingerprints enter, sorted.
    algorithm
        Version of each part that makes pixels.
    """
    content = {
        "unit": key,
        "grid": [
            crs_name(geobox),
            [float(v) for v in tuple(geobox.transform)[:6]],
            [int(n) for n in geobox.shape],
        ],
        "params": dict(params),
        "scenes": sorted(s.fingerprint for s in scenes),
        "algorithm": dict(algorithm),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


EventKind = Literal["run", "unit-started", "block-done", "unit-done", "unit-failed"]


@dataclass(frozen=True)
class Event:
    """Something that happened during a run."""

    kind: EventKind
    unit: str = ""
    blocks_done: int = 0
    blocks_total: int = 0
    message: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""


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
