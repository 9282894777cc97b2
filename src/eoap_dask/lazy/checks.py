"""What all functions on lazy arrays check: that they share a grid, and are numbers, or reflectance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from eoap_dask.errors import GridMismatchError, UsageError
from eoap_dask.text import option, show

GRID_TOLERANCE_PX = 1e-3
"""Coordinates this close are the same: two libraries may round them differently."""


def check_grid(first_name: str, first: xr.DataArray, name: str, array: xr.DataArray) -> None:
    """Raise `GridMismatchError` unless two arrays have the same coordinates along the dims that they share."""
    for dim in first.dims:
        if dim not in array.dims:
            continue
        sizes = first.sizes[dim], array.sizes[dim]
        if sizes[0] != sizes[1]:
            raise _mismatch(first_name, name, f"{sizes[0]} and {sizes[1]} values along {dim}")
        if dim in first.coords and dim in array.coords:
            off = _first_difference(first[dim].to_numpy(), array[dim].to_numpy())
            if off is not None:
                raise _mismatch(first_name, name, f"{first[dim].values[off]} and {array[dim].values[off]} on {dim}")
    crs = _crs(first), _crs(array)
    if None not in crs and crs[0] != crs[1]:
        names = [f"EPSG:{c.to_epsg()}" if c.to_epsg() else str(c) for c in crs]
        raise _mismatch(first_name, name, " and ".join(names))


def _first_difference(mine: Any, other: Any) -> int | None:
    if mine.dtype.kind in "fiu" and other.dtype.kind in "fiu":
        step = np.abs(np.diff(mine)).min() if mine.size > 1 else 1.0
        different = ~(np.abs(mine - other) <= GRID_TOLERANCE_PX * step)
    else:
        different = mine != other
    return int(np.flatnonzero(different)[0]) if different.any() else None


def _mismatch(first_name: str, name: str, what: str) -> GridMismatchError:
    return GridMismatchError(
        f"{first_name} and {name} aren't on one grid: they have {what}.",
        "Expected arrays of the same pixels.",
        "Try loading both with the same geobox, or .isel(time=0) where only their times differ.",
    )


def _crs(array: Any) -> Any:
    return array.odc.crs


def as_stored(reflectance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return reflectance in floating point as stored: uint16, × 10000, 0 for NaN; `UsageError` for other values."""
    # exact: a float32 holds every uint16 × 1e-4 to better than half a unit
    stored = np.rint(reflectance * np.float32(10000))
    if (stored < 0).any() or (stored > 65535).any():
        raise UsageError(
            f"Values from {np.fmin.reduce(reflectance, None):g} "
            f"to {np.fmax.reduce(reflectance, None):g} aren't reflectance.",
            "Expected surface reflectance from 0 to 6.5535, as load() returns it.",
            "Compose or compare reflectance, and make indices of that.",
        )
    return np.where(np.isnan(stored), 0, np.maximum(stored, 1)).astype(np.uint16)


def check_cube(cube: object) -> None:
    """Raise `UsageError` for what isn't a Dataset of numbers."""
    if not isinstance(cube, xr.Dataset):
        raise UsageError(
            f"{option('cube')} must be a Dataset of xarray, got {show(cube)}.", "", "Try eoap_dask.load(…)."
        )
    for name, array in cube.data_vars.items():
        if array.dtype.kind not in "fiub":
            raise UsageError(f"{name} has the dtype {array.dtype}.", "Expected numbers, as load() has them.")
