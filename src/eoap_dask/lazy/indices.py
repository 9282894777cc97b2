"""Spectral indices for xarray: the kernels of the applications, on arrays of any dims, lazy if the input is.

Rules of all functions:

* Inputs are surface reflectance as a fraction, in floating point, NaN where masked, as `eoap_dask.load` returns it;
  they are taken as float32. Integers are refused: their scale and offset are unknown.
* Inputs lie on one grid: dims that they share have the same size and coordinates (to a thousandth of a pixel), and
  their CRS is the same where both have one. A dim that only one has is carried along, so that a scene before a fire
  can be compared with a series after it.
* The result is float32 (classes: uint8) with the coordinates of the inputs, NaN where an input is or where the index
  isn't defined, dimensionless, and chunked as the inputs are. ``.rio.nodata`` is NaN (classes: 0). Nothing is
  computed.

Examples
--------
>>> import numpy as np
>>> import xarray as xr
>>> nir, swir22 = (xr.DataArray(np.array(v, np.float32), dims="x") for v in ([0.30, 0.09], [0.10, 0.27]))
>>> nbr(nir, swir22).values.round(3).tolist()
[0.5, -0.5]
>>> change = dnbr(nbr(nir, swir22).isel(x=0), nbr(nir, swir22).isel(x=1))
>>> int(severity(change))  # high
7
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import is_dask_collection

from eoap_dask.errors import UsageError
from eoap_dask.kernels import indices as kernels
from eoap_dask.kernels.severity import KEY_BENSON, SeverityClass
from eoap_dask.kernels.severity import severity as classify
from eoap_dask.kernels.severity import severity_classes as make_classes
from eoap_dask.lazy.checks import check_grid
from eoap_dask.lazy.nodata import encode_nan
from eoap_dask.text import must_be, option, show
from eoap_dask.values import as_list, as_number


def bai(red: xr.DataArray, nir: xr.DataArray) -> xr.DataArray:
    """BAI, the Burned Area Index: 1 / ((0.1 - red)² + (0.06 - nir)²), nearness to the colour of charcoal.

    Parameters
    ----------
    red, nir : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, above 0; larger is more charred, several hundred on fresh burns. The denominator is at least
        1e-8, so that 1e8 is the largest value.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Chuvieco, E., Martín, M. P. & Palacios, A. (2002), Assessment of different spectral indices in the red-near-infrared
    spectral domain for burned land discrimination, Int. J. Remote Sensing 23(23), doi:10.1080/01431160210153129.
    """
    return _index(kernels.bai, "bai", "burned area index", red=red, nir=nir)


def nbr(nir: xr.DataArray, swir22: xr.DataArray) -> xr.DataArray:
    """NBR, the Normalized Burn Ratio: (nir - swir22) / (nir + swir22).

    Parameters
    ----------
    nir, swir22 : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked
        Sentinel-2: B08 and B12.

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -1 to 1; high over healthy vegetation, low over burns and bare ground.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Key, C. H. & Benson, N. C. (2006), Landscape Assessment, in FIREMON, USDA Forest Service RMRS-GTR-164-CD,
    doi:10.2737/RMRS-GTR-164. The ratio itself: López García, M. J. & Caselles, V. (1991), Geocarto International 6(1),
    doi:10.1080/10106049109354290.
    """
    return _index(kernels.nbr, "nbr", "normalized burn ratio", nir=nir, swir22=swir22)


def dnbr(pre: xr.DataArray, post: xr.DataArray) -> xr.DataArray:
    """dNBR, the differenced Normalized Burn Ratio: NBR before the fire - NBR after it.

    Parameters
    ----------
    pre, post : xr.DataArray, any dims, NBR (see `nbr`), NaN where masked
        Each without a time of its own: take ``.isel(time=0)`` of a scene.

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -2 to 2; about 0.1 to 1.3 on burns, below -0.1 where vegetation grew. Often printed × 1000.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Key, C. H. & Benson, N. C. (2006), Landscape Assessment, in FIREMON, USDA Forest Service RMRS-GTR-164-CD,
    doi:10.2737/RMRS-GTR-164.
    """
    return _index(kernels.dnbr, "dnbr", "differenced normalized burn ratio", pre=pre, post=post)


def rdnbr(dnbr: xr.DataArray, nbr_pre: xr.DataArray) -> xr.DataArray:
    """RdNBR, the relative dNBR: dNBR / √|NBR before the fire|, how much of what was there is gone.

    Parameters
    ----------
    dnbr : xr.DataArray, any dims, NaN where masked
        From `dnbr`.
    nbr_pre : xr.DataArray, NBR before the fire (see `nbr`)

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, about -2 to 3 on land, at most 64 in size; NaN where |NBR before the fire| is below 0.001. The
        paper's numbers, made of dNBR and NBR × 1000, are 1000 times these.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Miller, J. D. & Thode, A. E. (2007), Quantifying burn severity in a heterogeneous landscape with a relative version
    of the delta Normalized Burn Ratio (dNBR), Remote Sensing of Environment 109(1), doi:10.1016/j.rse.2006.12.006.
    """
    return _index(kernels.rdnbr, "rdnbr", "relative differenced normalized burn ratio", dnbr=dnbr, nbr_pre=nbr_pre)


def rbr(dnbr: xr.DataArray, nbr_pre: xr.DataArray) -> xr.DataArray:
    """RBR, the Relativized Burn Ratio: dNBR / (NBR before the fire + 1.001), relative as RdNBR, and defined everywhere.

    Parameters
    ----------
    dnbr : xr.DataArray, any dims, NaN where masked
        From `dnbr`.
    nbr_pre : xr.DataArray, NBR before the fire (see `nbr`)

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, about -1 to 1 on land. Often printed × 1000.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Parks, S. A., Dillon, G. K. & Miller, C. (2014), A new metric for quantifying burn severity: the Relativized Burn
    Ratio, Remote Sensing 6(3), doi:10.3390/rs6031827.
    """
    return _index(kernels.rbr, "rbr", "relativized burn ratio", dnbr=dnbr, nbr_pre=nbr_pre)


def ndvi(nir: xr.DataArray, red: xr.DataArray) -> xr.DataArray:
    """NDVI, the Normalized Difference Vegetation Index: (nir - red) / (nir + red).

    Parameters
    ----------
    nir, red : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -1 to 1; above 0.3 where plants grow, below 0 on water.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Tucker, C. J. (1979), Red and photographic infrared linear combinations for monitoring vegetation, Remote Sensing of
    Environment 8(2), doi:10.1016/0034-4257(79)90013-0.
    """
    return _index(kernels.ndvi, "ndvi", "normalized difference vegetation index", nir=nir, red=red)


def ndwi(green: xr.DataArray, nir: xr.DataArray) -> xr.DataArray:
    """NDWI, the Normalized Difference Water Index: (green - nir) / (green + nir), open water.

    Parameters
    ----------
    green, nir : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -1 to 1; above 0 on water. Not Gao's index of water in plants, which is `ndmi` here.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    McFeeters, S. K. (1996), The use of the Normalized Difference Water Index (NDWI) in the delineation of open water
    features, Int. J. Remote Sensing 17(7), doi:10.1080/01431169608948714.
    """
    return _index(kernels.ndwi, "ndwi", "normalized difference water index", green=green, nir=nir)


def mndwi(green: xr.DataArray, swir16: xr.DataArray) -> xr.DataArray:
    """MNDWI, the modified NDWI: (green - swir16) / (green + swir16), open water, also among buildings.

    Parameters
    ----------
    green, swir16 : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked
        Sentinel-2: B03 and B11.

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -1 to 1; above 0 on water, and on snow.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Xu, H. (2006), Modification of normalised difference water index (NDWI) to enhance open water features in remotely
    sensed imagery, Int. J. Remote Sensing 27(14), doi:10.1080/01431160600589179.
    """
    long_name = "modified normalized difference water index"
    return _index(kernels.mndwi, "mndwi", long_name, green=green, swir16=swir16)


def ndmi(nir: xr.DataArray, swir16: xr.DataArray) -> xr.DataArray:
    """NDMI, the Normalized Difference Moisture Index: (nir - swir16) / (nir + swir16), water in plants.

    Parameters
    ----------
    nir, swir16 : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked
        Sentinel-2: B08 and B11.

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -1 to 1; above 0.4 in a closed, moist canopy, below 0 where plants are dry or absent.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Wilson, E. H. & Sader, S. A. (2002), Detection of forest harvest type using multiple dates of Landsat TM imagery,
    Remote Sensing of Environment 80(3), doi:10.1016/S0034-4257(01)00318-2.
    """
    return _index(kernels.ndmi, "ndmi", "normalized difference moisture index", nir=nir, swir16=swir16)


def savi(nir: xr.DataArray, red: xr.DataArray, *, soil: float = 0.5) -> xr.DataArray:
    """SAVI, the Soil-Adjusted Vegetation Index: (nir - red) / (nir + red + soil) × (1 + soil).

    Parameters
    ----------
    nir, red : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked
    soil
        Huete's L: 1 for sparse plants, 0.5 between, 0.25 for dense ones; with 0 it is `ndvi`.

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, -(1 + soil) to 1 + soil in theory, about -0.2 to 1 on land.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Huete, A. R. (1988), A soil-adjusted vegetation index (SAVI), Remote Sensing of Environment 25(3),
    doi:10.1016/0034-4257(88)90106-X.
    """
    return _index(kernels.savi, "savi", "soil-adjusted vegetation index", {"soil": _soil(soil)}, nir=nir, red=red)


def evi(nir: xr.DataArray, red: xr.DataArray, blue: xr.DataArray) -> xr.DataArray:
    """EVI, the Enhanced Vegetation Index: 2.5 × (nir - red) / (nir + 6 red - 7.5 blue + 1).

    Parameters
    ----------
    nir, red, blue : xr.DataArray, any dims, surface reflectance in [0, 1], NaN where masked

    Returns
    -------
    xr.DataArray, float32, same dims and chunks, lazy if the inputs are
        Dimensionless, about -0.2 to 1 on land. Over snow and cloud, which are bright in blue, the denominator crosses
        zero and any number can come out: mask them first.

    Raises
    ------
    GridMismatchError
        when the inputs don't share a grid
    UsageError
        when an input isn't in floating point

    References
    ----------
    Huete, A. et al. (2002), Overview of the radiometric and biophysical performance of the MODIS vegetation indices,
    Remote Sensing of Environment 83(1-2), doi:10.1016/S0034-4257(02)00096-2.
    """
    return _index(kernels.evi, "evi", "enhanced vegetation index", nir=nir, red=red, blue=blue)


def severity(dnbr: xr.DataArray, *, thresholds: Sequence[float] = KEY_BENSON) -> xr.DataArray:
    """Burn severity: classes of dNBR, 1 (enhanced regrowth, high) to 7 (high severity).

    Parameters
    ----------
    dnbr : xr.DataArray, any dims, NaN where masked
        From `dnbr`.
    thresholds
        Six rising numbers of dNBR (not × 1000), where the second to the last class begin; each belongs to the class
        above it. By default those of Key & Benson: -0.25, -0.1, 0.1, 0.27, 0.44 and 0.66.

    Returns
    -------
    xr.DataArray, uint8, same dims and chunks, lazy if the input is
        Values of `severity_classes`, named in ``flag_values`` and ``flag_meanings``; 0 where dNBR is missing. From 4
        on a pixel burned.

    Raises
    ------
    UsageError
        when dNBR isn't in floating point, or the thresholds aren't six rising numbers

    References
    ----------
    Key, C. H. & Benson, N. C. (2006), Landscape Assessment, in FIREMON, USDA Forest Service RMRS-GTR-164-CD,
    doi:10.2737/RMRS-GTR-164.
    """
    thresholds = _numbers(thresholds)
    classes = severity_classes(thresholds)
    out = _apply(classify, {"thresholds": thresholds}, {"dnbr": dnbr}, np.uint8).rename("severity")
    out.attrs = {
        "long_name": "burn severity",
        "units": "1",
        "nodata": 0,
        "flag_values": np.array([0, *(c.value for c in classes)], np.uint8),
        "flag_meanings": " ".join(["no-data", *(c.name for c in classes)]),
    }
    return out


def severity_classes(thresholds: Sequence[float] = KEY_BENSON) -> tuple[SeverityClass, ...]:
    """Return the classes of `severity`: value, name, title, range of dNBR, colour, and whether they mean burned.

    Parameters
    ----------
    thresholds
        As `severity` takes them.

    Returns
    -------
    tuple of SeverityClass
        Seven, from the strongest regrowth to the highest severity.

    Raises
    ------
    UsageError
        when they aren't six finite, rising numbers
    """
    numbers = _numbers(thresholds)
    try:
        return make_classes(numbers)
    except ValueError:
        raise _no_thresholds(numbers) from None


def _numbers(thresholds: object) -> tuple[float, ...]:
    try:
        return as_list(thresholds, "thresholds", KEY_BENSON, lambda one: as_number(one, "thresholds", 0.1))
    except UsageError:
        raise _no_thresholds(thresholds) from None


def _no_thresholds(got: object) -> UsageError:
    return UsageError(
        f"{option('thresholds')} must be six finite, rising numbers of dNBR, got {show(got)}.",
        "The classes after the first begin there.",
        f"Try {', '.join(map(str, KEY_BENSON))}, the default.",
    )


def _soil(soil: object) -> float:
    found = as_number(soil, "soil", 0.5)
    if not 0 <= found < math.inf:
        raise must_be("soil", "a finite number of 0 or more", found, 0.5)
    return found


def _index(
    kernel: Callable[..., Any],
    name: str,
    long_name: str,
    options: dict[str, Any] | None = None,
    /,
    **inputs: xr.DataArray,
) -> xr.DataArray:
    out = _apply(kernel, options or {}, inputs, np.float32).rename(name)
    out.attrs = {"long_name": long_name, "units": "1"}
    return encode_nan(out)


def _apply(
    kernel: Callable[..., Any], options: dict[str, Any], inputs: dict[str, xr.DataArray], dtype: Any
) -> xr.DataArray:
    for name, array in inputs.items():
        _check_reflectance(name, array)
    (first_name, first), *others = inputs.items()
    for name, array in others:
        check_grid(first_name, first, name, array)

    # The grids agree: an exact join would fail on the last digit of a coordinate. Attributes are kept because those of
    # the coordinates name the CRS.
    out: xr.DataArray = xr.apply_ufunc(
        partial(_on_arrays, partial(_on_block, partial(kernel, **options)), dtype),
        *inputs.values(),
        dask="allowed",
        join="override",
        keep_attrs="override",
    )
    return out


def _on_arrays(on_block: Callable[..., Any], dtype: Any, *arrays: Any) -> Any:
    """Apply a function of blocks as blockwise tasks, which Dask fuses (not those of xarray's "parallelized")."""
    if not any(is_dask_collection(array) for array in arrays):
        return on_block(*arrays)
    depth = max(array.ndim for array in arrays)
    pairs = [part for array in arrays for part in (array, range(depth - array.ndim, depth))]
    return da.blockwise(on_block, range(depth), *pairs, dtype=dtype, meta=np.empty((0,) * depth, dtype))


def _on_block(kernel: Callable[..., Any], *blocks: Any) -> Any:
    return kernel(*np.broadcast_arrays(*(np.asarray(block, np.float32) for block in blocks)))


def _check_reflectance(name: str, array: xr.DataArray) -> None:
    if not isinstance(array, xr.DataArray):
        raise UsageError(
            f"{name} is a {type(array).__name__}.",
            "Expected an xarray DataArray.",
            f"Try cube.{name}, or xr.DataArray({name}).",
        )
    if array.dtype.kind != "f":
        raise UsageError(
            f"{name} has the dtype {array.dtype}.",
            "Expected reflectance in [0, 1] (or an index of it) in floating point, NaN = no data.",
            "Try eoap_dask.load(...) without raw=True, which applies each catalogue's scale and offset.",
        )
