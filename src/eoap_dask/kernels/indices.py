"""Spectral indices: float32 reflectance in, one float32 number per pixel out, NaN = missing.

All kernels share these rules, so that they are said once:

* Inputs have one shape, any shape, and are float32: reflectance as a fraction (0.25, not 2500), NaN where missing.
  They are not changed, unless one of them is given as `out`, which every kernel allows.
* The result is NaN where an input is, and where the index isn't defined (its denominator is zero).
* Only additions, multiplications, divisions and square roots of float32 are used. IEEE 754 defines them to the last
  bit, so that a pixel's value depends on its inputs alone: not on the shape, nor on how an array was cut.
* Work goes in pieces that stay in the processor's cache; beside `out` next to no memory is needed.

Stored pixels become reflectance by `pixels.to_reflectance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from eoap_dask.kernels.pixels import F32

BAI_RED, BAI_NIR = np.float32(0.1), np.float32(0.06)
"""Reflectance of charcoal, to which `bai` measures the distance (Chuvieco et al. 2002)."""

BAI_FLOOR = np.float32(1e-8)
"""Smallest denominator of `bai`, which is zero on charcoal itself: a distance of 0.0001, the stored unit."""

RDNBR_FLOOR = np.float32(1e-3)
"""Smallest |NBR before the fire| of which `rdnbr` makes a number: below it, noise would be multiplied by over 30."""

_PIECE = 1 << 16
"""Pixels per piece: the handful of 256 kB rows that a kernel needs stay near the processor, and calls are few: each of
them may wait for Python's lock."""

_BAI_FLOORS = np.full(_PIECE, BAI_FLOOR)  # of one number, NumPy would take four times as long
_BAI_FLOORS.flags.writeable = False

Body = Callable[[Sequence[F32], F32, list[F32]], None]
"""Fills its second argument from its first, with the third as scratch."""


def bai(red: F32, nir: F32, out: F32 | None = None) -> F32:
    """BAI, the Burned Area Index: 1 / ((0.1 - red)² + (0.06 - nir)²), nearness to the colour of charcoal.

    Parameters
    ----------
    red, nir : np.ndarray, any shape, float32 reflectance, NaN = missing
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, above 0; larger is more charred, several hundred on fresh burns. The denominator is at least
        1e-8, so that 1e8 is the largest value.

    References
    ----------
    Chuvieco, E., Martín, M. P. & Palacios, A. (2002), Assessment of different spectral indices in the red-near-infrared
    spectral domain for burned land discrimination, Int. J. Remote Sensing 23(23), doi:10.1080/01431160210153129.
    """
    return _in_pieces(_bai, (red, nir), out, scratch=1)


def nbr(nir: F32, swir22: F32, out: F32 | None = None) -> F32:
    """NBR, the Normalized Burn Ratio: (nir - swir22) / (nir + swir22).

    Parameters
    ----------
    nir, swir22 : np.ndarray, any shape, float32 reflectance, NaN = missing
        Sentinel-2: B08 and B12.
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -1 to 1; high over healthy vegetation, low over burns and bare ground.

    References
    ----------
    Key, C. H. & Benson, N. C. (2006), Landscape Assessment, in FIREMON, USDA Forest Service RMRS-GTR-164-CD,
    doi:10.2737/RMRS-GTR-164. The ratio itself: López García, M. J. & Caselles, V. (1991), Geocarto International 6(1),
    doi:10.1080/10106049109354290.
    """
    return _in_pieces(_normalised, (nir, swir22), out, scratch=1)


def dnbr(pre: F32, post: F32, out: F32 | None = None) -> F32:
    """dNBR, the differenced Normalized Burn Ratio: NBR before the fire - NBR after it.

    Parameters
    ----------
    pre, post : np.ndarray, any shape, float32, of `nbr`
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -2 to 2; about 0.1 to 1.3 on burns, below -0.1 where vegetation grew. Often printed × 1000.

    References
    ----------
    Key, C. H. & Benson, N. C. (2006), Landscape Assessment, in FIREMON, USDA Forest Service RMRS-GTR-164-CD,
    doi:10.2737/RMRS-GTR-164.
    """
    return _in_pieces(_difference, (pre, post), out)


def rdnbr(dnbr: F32, nbr_pre: F32, out: F32 | None = None) -> F32:
    """RdNBR, the relative dNBR: dNBR / √|NBR before the fire|, how much of what was there is gone.

    Parameters
    ----------
    dnbr : np.ndarray, any shape, float32, of `dnbr`
    nbr_pre : np.ndarray, same shape, float32, of `nbr`, before the fire
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, about -2 to 3 on land, at most 64 in size; NaN where |NBR before the fire| is below 0.001. The
        paper's numbers, made of dNBR and NBR × 1000, are 1000 times these.

    References
    ----------
    Miller, J. D. & Thode, A. E. (2007), Quantifying burn severity in a heterogeneous landscape with a relative version
    of the delta Normalized Burn Ratio (dNBR), Remote Sensing of Environment 109(1), doi:10.1016/j.rse.2006.12.006.
    """
    return _in_pieces(_relative, (dnbr, nbr_pre), out, scratch=1)


def rbr(dnbr: F32, nbr_pre: F32, out: F32 | None = None) -> F32:
    """RBR, the Relativized Burn Ratio: dNBR / (NBR before the fire + 1.001), relative as RdNBR, and defined everywhere.

    Parameters
    ----------
    dnbr : np.ndarray, any shape, float32, of `dnbr`
    nbr_pre : np.ndarray, same shape, float32, of `nbr`, before the fire
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, about -1 to 1 on land. Often printed × 1000.

    References
    ----------
    Parks, S. A., Dillon, G. K. & Miller, C. (2014), A new metric for quantifying burn severity: the Relativized Burn
    Ratio, Remote Sensing 6(3), doi:10.3390/rs6031827.
    """
    return _in_pieces(_relativized, (dnbr, nbr_pre), out, scratch=1)


def ndvi(nir: F32, red: F32, out: F32 | None = None) -> F32:
    """NDVI, the Normalized Difference Vegetation Index: (nir - red) / (nir + red).

    Parameters
    ----------
    nir, red : np.ndarray, any shape, float32 reflectance, NaN = missing
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -1 to 1; above 0.3 where plants grow, below 0 on water.

    References
    ----------
    Tucker, C. J. (1979), Red and photographic infrared linear combinations for monitoring vegetation, Remote Sensing of
    Environment 8(2), doi:10.1016/0034-4257(79)90013-0.
    """
    return _in_pieces(_normalised, (nir, red), out, scratch=1)


def ndwi(green: F32, nir: F32, out: F32 | None = None) -> F32:
    """NDWI, the Normalized Difference Water Index: (green - nir) / (green + nir), open water.

    Parameters
    ----------
    green, nir : np.ndarray, any shape, float32 reflectance, NaN = missing
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -1 to 1; above 0 on water. Not Gao's index of water in plants, which is `ndmi` here.

    References
    ----------
    McFeeters, S. K. (1996), The use of the Normalized Difference Water Index (NDWI) in the delineation of open water
    features, Int. J. Remote Sensing 17(7), doi:10.1080/01431169608948714.
    """
    return _in_pieces(_normalised, (green, nir), out, scratch=1)


def mndwi(green: F32, swir16: F32, out: F32 | None = None) -> F32:
    """MNDWI, the modified NDWI: (green - swir16) / (green + swir16), open water, also among buildings.

    Parameters
    ----------
    green, swir16 : np.ndarray, any shape, float32 reflectance, NaN = missing
        Sentinel-2: B03 and B11.
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -1 to 1; above 0 on water, and on snow.

    References
    ----------
    Xu, H. (2006), Modification of normalised difference water index (NDWI) to enhance open water features in remotely
    sensed imagery, Int. J. Remote Sensing 27(14), doi:10.1080/01431160600589179.
    """
    return _in_pieces(_normalised, (green, swir16), out, scratch=1)


def ndmi(nir: F32, swir16: F32, out: F32 | None = None) -> F32:
    """NDMI, the Normalized Difference Moisture Index: (nir - swir16) / (nir + swir16), water in plants.

    Parameters
    ----------
    nir, swir16 : np.ndarray, any shape, float32 reflectance, NaN = missing
        Sentinel-2: B08 and B11.
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -1 to 1; above 0.4 in a closed, moist canopy, below 0 where plants are dry or absent.

    References
    ----------
    Wilson, E. H. & Sader, S. A. (2002), Detection of forest harvest type using multiple dates of Landsat TM imagery,
    Remote Sensing of Environment 80(3), doi:10.1016/S0034-4257(01)00318-2.
    """
    return _in_pieces(_normalised, (nir, swir16), out, scratch=1)


def savi(nir: F32, red: F32, soil: float = 0.5, out: F32 | None = None) -> F32:
    """SAVI, the Soil-Adjusted Vegetation Index: (nir - red) / (nir + red + soil) × (1 + soil).

    Parameters
    ----------
    nir, red : np.ndarray, any shape, float32 reflectance, NaN = missing
    soil
        Huete's L: 1 for sparse plants, 0.5 between, 0.25 for dense ones; with 0 it is `ndvi`.
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, -(1 + soil) to 1 + soil in theory, about -0.2 to 1 on land.

    References
    ----------
    Huete, A. R. (1988), A soil-adjusted vegetation index (SAVI), Remote Sensing of Environment 25(3),
    doi:10.1016/0034-4257(88)90106-X.
    """
    background = np.float32(soil)

    def body(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:
        nir, red = inputs
        (total,) = scratch
        np.add(nir, red, out=total)
        total += background
        np.subtract(nir, red, out=out)
        _divide(out, total)
        out *= np.float32(1) + background

    return _in_pieces(body, (nir, red), out, scratch=1)


def evi(nir: F32, red: F32, blue: F32, out: F32 | None = None) -> F32:
    """EVI, the Enhanced Vegetation Index: 2.5 × (nir - red) / (nir + 6 red - 7.5 blue + 1).

    Parameters
    ----------
    nir, red, blue : np.ndarray, any shape, float32 reflectance, NaN = missing
    out : np.ndarray, same shape, float32, C-contiguous, optional

    Returns
    -------
    np.ndarray, float32
        Dimensionless, about -0.2 to 1 on land. Over snow and cloud, which are bright in blue, the denominator crosses
        zero and any number can come out: mask them first.

    References
    ----------
    Huete, A. et al. (2002), Overview of the radiometric and biophysical performance of the MODIS vegetation indices,
    Remote Sensing of Environment 83(1-2), doi:10.1016/S0034-4257(02)00096-2.
    """
    return _in_pieces(_evi, (nir, red, blue), out, scratch=2)


def _bai(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:
    red, nir = inputs
    (square,) = scratch
    np.subtract(BAI_RED, red, out=square)
    square *= square
    np.subtract(BAI_NIR, nir, out=out)
    out *= out
    out += square
    np.maximum(out, _BAI_FLOORS[: out.size], out=out)  # NaN stays NaN
    np.reciprocal(out, out=out)


def _normalised(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:
    first, second = inputs
    (total,) = scratch
    np.add(first, second, out=total)
    np.subtract(first, second, out=out)
    _divide(out, total)


def _difference(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:  # noqa: ARG001  # a Body
    before, after = inputs
    np.subtract(before, after, out=out)


def _relative(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:
    change, before = inputs
    (root,) = scratch
    np.abs(before, out=root)
    np.copyto(root, np.nan, where=root < RDNBR_FLOOR)
    np.sqrt(root, out=root)
    np.divide(change, root, out=out)


def _relativized(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:
    change, before = inputs
    (total,) = scratch
    np.add(before, np.float32(1.001), out=total)
    np.copyto(out, change)
    _divide(out, total)


def _evi(inputs: Sequence[F32], out: F32, scratch: list[F32]) -> None:
    nir, red, blue = inputs
    total, part = scratch
    np.multiply(red, np.float32(6), out=total)
    total += nir
    np.multiply(blue, np.float32(7.5), out=part)
    total -= part
    total += np.float32(1)
    np.subtract(nir, red, out=out)
    _divide(out, total)
    out *= np.float32(2.5)


def _divide(out: F32, by: F32) -> None:
    """Divide in place; NaN instead of an infinity where the divisor is zero. Changes the divisor too."""
    zero = by == 0
    if zero.any():
        by[zero] = np.nan
    np.divide(out, by, out=out)


def _in_pieces(body: Body, inputs: Sequence[npt.NDArray[np.generic]], out: F32 | None, scratch: int = 0) -> F32:
    """Run a kernel's body over pieces of flat arrays."""
    shape = inputs[0].shape
    if any(a.shape != shape or a.dtype != np.float32 for a in inputs):
        told = ", ".join(f"{a.dtype} {a.shape}" for a in inputs)
        raise ValueError(f"kernels take float32 of one shape, not {told}")
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous float32 {shape}, not {out.dtype} {out.shape}")
    flat_out = out.reshape(-1)
    flat = [np.ascontiguousarray(a).reshape(-1) for a in inputs]
    spare = np.empty((scratch, min(out.size, _PIECE)), np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for start in range(0, out.size, _PIECE):
            stop = min(start + _PIECE, out.size)
            size = stop - start
            pieces = [a[start:stop] for a in flat]
            body(pieces, flat_out[start:stop], [row[:size] for row in spare])
    return out
