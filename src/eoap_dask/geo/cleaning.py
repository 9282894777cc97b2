"""Shapes of a layer as valid polygons, each once; what was done to them is counted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.geo.globe import polygons
from eoap_dask.text import plural

Shapes = npt.NDArray[np.object_]


@dataclass
class Tally:
    """What became of the rows of a layer."""

    rows: int = 0
    kept: int = 0
    repaired: int = 0
    """Of those that are kept."""
    empty: int = 0
    not_polygons: int = 0
    across_180: int = 0
    """In degrees and wider than 180°: they cross the antimeridian the long way round."""
    duplicates: int = 0
    """With the very outline of a row before."""
    broken: int = 0
    """Can't be read, or have no area that could be repaired."""

    def __str__(self) -> str:
        """Return such as ``3 repaired; 2 empty, 1 duplicate left out``; empty where all rows are as they should be."""
        left = [
            f"{number} {what}"
            for number, what in (
                (self.empty, "empty"),
                (self.not_polygons, "not of polygons"),
                (self.across_180, "across 180°"),
                (self.broken, "beyond repair"),
            )
            if number
        ]
        if self.duplicates:
            left.append(plural(self.duplicates, "duplicate"))
        parts = [f"{self.repaired} repaired"] if self.repaired else []
        return "; ".join([*parts, f"{', '.join(left)} left out"] if left else parts)


class PolygonFilter:
    """Keeps the shapes of one layer that are polygons, and counts the others.

    Parameters
    ----------
    tally
        Where it counts.
    in_degrees
        Whether the layer's coordinates are.
    is_unique
        Whether shapes with the very outline of one before are left out.
    """

    def __init__(self, tally: Tally, *, in_degrees: bool, is_unique: bool = True) -> None:
        self._tally = tally
        self._in_degrees = in_degrees
        self._seen = _Seen() if is_unique else None

    def keep(self, shapes: Shapes, unreadable: int = 0) -> tuple[npt.NDArray[np.intp], Shapes]:
        """Return where polygons are among some shapes, valid ones."""
        tally = self._tally
        where = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))
        found = shapes[where]
        tally.rows += len(shapes)
        tally.broken += unreadable
        tally.empty += len(shapes) - len(where) - unreadable

        kinds = shapely.get_type_id(found)
        for number in np.flatnonzero(kinds == _COLLECTION):
            found[number] = _polygonal(found[number])
        fits = np.isin(kinds, _POLYGONS) | ((kinds == _COLLECTION) & ~shapely.is_missing(found))
        tally.not_polygons += int((~fits).sum())
        where, found = where[fits], found[fits]

        if self._in_degrees:
            west, _, east, _ = shapely.bounds(found).T
            wide = (east - west > 180) | ((west < 180) & (east > 180))
            tally.across_180 += int(wide.sum())
            where, found = where[~wide], found[~wide]
            beyond = shapely.bounds(found)[:, 0] >= 180  # as where longitudes go from 0 to 360
            found[beyond] = shapely.transform(found[beyond], lambda xy: xy - (360, 0))

        if self._seen is not None:
            new = self._seen.add(found)
            tally.duplicates += int((~new).sum())
            where, found = where[new], found[new]

        invalid = np.flatnonzero(~shapely.is_valid(found))
        for number in invalid:
            found[number] = _repaired(found[number])
        broken = shapely.is_missing(found)
        tally.broken += int(broken.sum())
        tally.repaired += len(invalid) - int(broken.sum())
        tally.kept += int((~broken).sum())
        return where[~broken], found[~broken]


_POLYGONS, _COLLECTION = (3, 6), 7
"""Types of geometry, as GEOS numbers them."""


def _repaired(shape: shapely.Geometry) -> shapely.Geometry | None:
    """Return the area of an invalid polygon; None where there is none."""
    try:
        return _polygonal(shapely.make_valid(shape)) if np.isfinite(shapely.get_coordinates(shape)).all() else None
    except shapely.errors.ShapelyError:
        return None


def _polygonal(shape: shapely.Geometry) -> shapely.Geometry | None:
    parts = polygons(shape)
    return shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0] if parts else None


class _Seen:
    """Which shapes there were: eight bytes of each, in few sorted arrays."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []

    def add(self, shapes: Shapes) -> npt.NDArray[np.bool_]:
        """Tell which shapes are new, also among themselves."""
        digests = (hashlib.blake2b(one, digest_size=8).digest() for one in shapely.to_wkb(shapes))
        hashes = np.frombuffer(b"".join(digests), np.uint64)
        new = np.zeros(len(hashes), bool)
        new[np.unique(hashes, return_index=True)[1]] = True
        for run in self._runs:
            new &= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] != hashes
        if new.any():
            self._runs.append(np.sort(hashes[new]))
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):  # so each is sorted few times
            self._runs[-2:] = [np.sort(np.concatenate(self._runs[-2:]))]
        return new
