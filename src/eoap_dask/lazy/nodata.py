"""`.odc` and `.rio` of arrays, which importing this makes, and how both, and files, learn that NaN is no data."""

from __future__ import annotations

import numpy as np
import odc.geo.xr  # noqa: F401  # makes .odc
import rioxarray  # noqa: F401  # makes .rio
import xarray as xr


def encode_nan(array: xr.DataArray) -> xr.DataArray:
    """Say in an array's encoding, in place, that NaN is no data, if it is in floating point; return the array.

    Not in its attributes: xarray carries those along into whole numbers and booleans, which have no NaN.
    """
    if array.dtype.kind == "f":
        array.encoding["_FillValue"] = array.dtype.type(np.nan)
    return array


def encode_all(cube: xr.Dataset) -> xr.Dataset:
    """Do the same with all variables; return the dataset."""
    for array in cube.data_vars.values():
        encode_nan(array)
    return cube
