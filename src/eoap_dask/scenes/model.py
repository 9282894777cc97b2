"""Scenes, their files, and passes: all that is read from any catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from eoap_dask.geo.crs import project_bounds
from eoap_dask.geo.window import Transform


@dataclass(frozen=True, slots=True)
class Source:
    """One band of one scene: a file, its grid, and how its numbers become stored pixels."""

    asset: str
    """Key of the asset in its item."""
    href: str
    """Unsigned."""
    crs: str
    """EPSG code, or WKT where the item has no code."""
    transform: Transform
    """Affine a to f of the full-resolution level."""
    shape: tuple[int, int]
    """Height and width of the full-resolution level in pixels."""
    offset: int
    """Subtracted from every number that isn't nodata."""
    nodata: int
    """Number of missing pixels before the offset."""
    version: str = ""
    """Digits that change with the item's checksum or update time of the file."""
    band: int = 1
    """Number of the band in the file."""
    nodata_by_file: bool = False
    """Whether the file's own number of missing pixels counts, if it has one: then the item tells none."""
    is_only: bool = False
    """Whether the item tells of no other band in the file, which then must have none but transparency."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One item, ready to be read."""

    id: str
    href: str
    """The item's own unsigned address, or its id."""
    datetime: datetime
    pass_key: str
    """Platform and start of the datatake, the same for scenes seen at once."""
    tile: str
    """The MGRS tile, or empty."""
    baseline: tuple[int, int]
    bands: tuple[Source, ...]
    """In the requested order."""
    mask: Source | None
    """The scene classification."""
    fingerprint: tuple[str, ...]
    """What decides pixels: id, pass, and for each asset the digest of its unsigned href, checksum or update time, grid
    and scaling."""
    producers: tuple[str, ...] = ()
    """Names of the data's producers, see `credit.producers`."""
    sensor: str = ""
    """Its id."""


Contradictions = tuple[tuple[str, str, str, tuple[float, ...]], ...]
"""For each file that lies elsewhere than its item says: item id, asset, and its real CRS and affine transform."""


def corrected(scene: Scene, found: Contradictions) -> Scene:
    """Return a scene on the grids that its files really have; `found` as in `ContradictionError.found`."""
    grids = {asset: (crs, transform) for item, asset, crs, transform in found if item == scene.id}
    if not grids:
        return scene

    def place(source: Source) -> Source:
        crs, (a, b, c, d, e, f) = grids.get(source.asset, (source.crs, source.transform))
        return replace(source, crs=crs, transform=(a, b, c, d, e, f))

    mask = None if scene.mask is None else place(scene.mask)
    return replace(scene, bands=tuple(map(place, scene.bands)), mask=mask)


def without_duplicates(scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    """Drop older processings: for each pass and tile, the scenes with the newest baseline stay.

    Products of one baseline that share a pass and a tile are parts of one view (datastrips), and all stay.
    """
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for scene in scenes:
        key = (scene.pass_key, scene.tile)
        newest[key] = max(newest.get(key, (0, 0)), scene.baseline)
    return tuple(s for s in scenes if not s.tile or s.baseline == newest[s.pass_key, s.tile])


def source_bounds(source: Source) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top of a source in its own CRS."""
    height, width = source.shape
    a, b, c, d, e, f = source.transform
    corners = [(c + a * x + b * y, f + d * x + e * y) for x, y in ((0, 0), (width, 0), (width, height), (0, height))]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def footprint_touches(source: Source, crs: str, bounds: tuple[float, float, float, float]) -> bool:
    """Tell whether a source and bounds in another CRS may share ground; when in doubt, True."""
    left, bottom, right, top = source_bounds(source)
    projected = project_bounds(bounds, crs, source.crs)  # to the source, where its outline is straight
    if projected is None:
        return True
    west, south, east, north = projected
    return west < right and east > left and south < top and north > bottom


class SceneIndex:
    """Finds which of many scenes may touch some bounds; says the same as `footprint_touches`, at once."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = scenes
        groups: dict[str, list[int]] = {}
        for number, scene in enumerate(scenes):
            groups.setdefault(scene.bands[0].crs, []).append(number)
        self._groups = {
            crs: (np.array(numbers), np.array([source_bounds(scenes[n].bands[0]) for n in numbers]))
            for crs, numbers in groups.items()
        }

    def touching(self, crs: str, bounds: tuple[float, float, float, float]) -> list[Scene]:
        """Return the scenes that may share ground with bounds in any CRS, in their order."""
        found: list[int] = []
        for own, (numbers, edges) in self._groups.items():
            projected = project_bounds(bounds, crs, own)
            if projected is None:
                found += numbers.tolist()
                continue
            west, south, east, north = projected
            left, bottom, right, top = edges.T
            found += numbers[(west < right) & (east > left) & (south < top) & (north > bottom)].tolist()
        return [self._scenes[number] for number in sorted(found)]


@dataclass(frozen=True, slots=True)
class Pass:
    """Scenes that were seen at once: one layer of the stack."""

    key: str
    datetime: datetime
    scenes: tuple[Scene, ...]
    """Sorted by id: for each pixel the first with data in all bands counts."""


def group_passes(scenes: Sequence[Scene]) -> tuple[Pass, ...]:
    """Group scenes into passes, in order of time."""
    groups: dict[str, list[Scene]] = {}
    for scene in scenes:
        groups.setdefault(scene.pass_key, []).append(scene)
    passes = [Pass(k, min(s.datetime for s in g), tuple(sorted(g, key=lambda s: s.id))) for k, g in groups.items()]
    return tuple(sorted(passes, key=lambda p: (p.datetime, p.key)))
