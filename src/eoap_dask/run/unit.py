"""Units of work: what one is, what identifies its pixels, and how one can fail."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eoap_dask.geo.crs import crs_name
from eoap_dask.scenes.model import Pass, Scene
from eoap_dask.text import plural

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

SHOWN_PASSES = 20
"""Passes of a unit that a notebook shows, at most."""


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

    def without(self, scene_id: str) -> Unit:
        """Return the unit without a scene, and without its pass if that has no other."""
        passes = (replace(p, scenes=tuple(s for s in p.scenes if s.id != scene_id)) for p in self.passes)
        return replace(self, passes=tuple(p for p in passes if p.scenes))

    def __str__(self) -> str:
        scenes = plural(len(self.scenes), "scene")
        passes = plural(len(self.passes), "pass", "passes")
        return f"{self.key}: {self.title}, {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}, {scenes} of {passes}"

    def _repr_html_(self) -> str:
        shown = [(one.datetime, ", ".join(s.id for s in one.scenes)) for one in self.passes[:SHOWN_PASSES]]
        rows = "".join(f"<tr><td>{when:%Y-%m-%d %H:%M}</td><td>{html.escape(ids)}</td></tr>" for when, ids in shown)
        more = len(self.passes) - SHOWN_PASSES
        rest = f"<p>… and {more} more</p>" if more > 0 else ""
        return f"<p>{html.escape(str(self))}</p><table><tr><th>pass</th><th>scenes</th></tr>{rows}</table>{rest}"


def digest_parts(
    geobox: GeoBox, params: Mapping[str, Any], scenes: Sequence[Scene], algorithm: Mapping[str, int]
) -> dict[str, str | list[str]]:
    """Return a short hash of each thing that decides a unit's pixels, so that a change can be named.

    `params` are JSON-like, and only those that affect pixels: no dates, source or search filters.
    """
    transform = [float(v) for v in tuple(geobox.transform)[:6]]
    parts: dict[str, Any] = {
        "grid": [crs_name(geobox), transform, [int(n) for n in geobox.shape]],
        "params": dict(params),
        "scenes": sorted(s.fingerprint for s in scenes),
        "algorithm": dict(algorithm),
    }
    short: dict[str, str | list[str]] = {name: _hash(part)[:16] for name, part in parts.items()}
    return {**short, "scenes": [_hash(f)[:16] for f in parts["scenes"]]}


def digest(
    key: str, geobox: GeoBox, params: Mapping[str, Any], scenes: Sequence[Scene], algorithm: Mapping[str, int]
) -> str:
    """Return what identifies a unit's pixels, as 32 hexadecimal digits: its key and all of `digest_parts`."""
    return _hash([key, digest_parts(geobox, params, scenes, algorithm)])[:32]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
