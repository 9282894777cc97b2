"""Faults of an asset that can't be read, or doesn't match its item: the same words for every reader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eoap_dask.errors import AssetError, ContradictionError
from eoap_dask.redact import redact
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.geo.window import Transform
    from eoap_dask.readers.reader import FileGrid
    from eoap_dask.scenes.model import Source

NOT_A_RASTER = "it isn't a raster file (an error page, perhaps)."
BROKEN_PART = "a part of it can't be fetched or decoded (a file cut short, perhaps)."


def other_bands(count: int, source: Source) -> str:
    """Return what is wrong with a file of too few bands, for `refused`."""
    return f"has {plural(count, 'band')}, but its item says that the band is number {source.band}"


def unreadable(source: Source, item_id: str, reason: str, attempts: int) -> AssetError:
    """Return the fault of an asset whose last attempt failed; `reason` is the rest of a sentence, with full stop."""
    tried = f"after {plural(attempts, 'attempt')}"
    return AssetError(
        f"The asset {source.asset!r} of item {item_id!r} can't be read {tried}: {reason}",
        hint="Try again later, or leave its date out.",
        item_id=item_id,
        asset=source.asset,
        href=redact(source.href),
        attempts=attempts,
    )


NEAR = 0.01
"""Pixels by which an item may miss its file's grid: what is written with few digits does."""


def contradiction(source: Source, item_id: str, grid: FileGrid) -> ContradictionError | None:
    """Return the fault of an asset whose file lies elsewhere than its item says; None where the two agree."""
    crs = source.crs if grid.crs is None or grid.crs == source.crs.upper() else grid.crs
    transform = grid.transform or source.transform
    if crs == source.crs and _near(source.transform, transform, source.shape):
        return None
    if crs != source.crs and _is_same_place(source, crs, transform):
        return None  # spelled in another way
    found = (item_id, source.asset, crs, transform)
    return ContradictionError(
        f"The asset {source.asset!r} of item {item_id!r} lies at {_place(crs, transform)}, "
        f"but its item says {_place(source.crs, source.transform)}.",
        "The file counts.",
        item_id=item_id,
        asset=source.asset,
        href=redact(source.href),
        found=(found,),
    )


def _near(one: Transform, other: Transform, shape: tuple[int, int]) -> bool:
    """Tell whether two transforms put the corners of an image to the same places, within `NEAR` of a pixel."""
    side = min(math.hypot(other[0], other[3]), math.hypot(other[1], other[4]))
    corners = ((0, 0), (0, shape[1]), (shape[0], 0))
    return all(math.dist(_at(one, *corner), _at(other, *corner)) <= NEAR * side for corner in corners)


def _is_same_place(source: Source, crs: str, transform: Transform) -> bool:
    """Tell whether a grid in another CRS puts the corners of an image where the item does, within `NEAR` of a pixel."""
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    rows, cols = source.shape
    corners = ((0, 0), (0, cols), (rows, 0), (rows, cols))
    try:
        moved = Transformer.from_crs(crs, source.crs, always_xy=True)
        there = [moved.transform(*_at(transform, *corner), errcheck=True) for corner in corners]
    except ProjError:
        return False
    a, b, _, d, e, _ = source.transform
    side = min(math.hypot(a, d), math.hypot(b, e))
    pairs = zip(corners, there, strict=True)
    return all(math.dist(_at(source.transform, *corner), place) <= NEAR * side for corner, place in pairs)


def _at(transform: Transform, row: int, col: int) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * col + b * row + c, d * col + e * row + f


def _place(crs: str, transform: Transform) -> str:
    a, b, c, d, e, f = transform
    turned = f", turned by {b:g} and {d:g}" if b or d else ""
    return f"({c:.10g}, {f:.10g}) in steps of {a:g} and {e:g}{turned} in {crs if len(crs) < 40 else 'its own CRS'}"


def refused(source: Source, item_id: str, what: str, attempts: int = 1) -> AssetError:
    """Return the fault of an asset that can be read but is unfit; `what` follows "The asset … of item …", no stop."""
    return AssetError(
        f"The asset {source.asset!r} of item {item_id!r} {what}.",
        item_id=item_id,
        asset=source.asset,
        href=redact(source.href),
        attempts=attempts,
    )
