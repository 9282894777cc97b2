"""Spectral indices: float32 reflectance in, one float32 number per pixel out, NaN = missing.

Inputs share one shape, any shape: reflectance as a fraction (0.25, not 2500). They aren't changed, unless one of them
is given as `out`, which is float32, of that shape, C-contiguous. The result is dimensionless, NaN where an input is or
where the denominator is zero. Only float32 +, ×, / and √ are used, which IEEE 754 defines to the last bit: a pixel
depends on its inputs alone, not on chunks. Ranges of values and full references are in `eoap_dask.lazy.indices`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eoap_dask.kernels.pixels import F32

BAI_RED, BAI_NIR = np.float32(0.1), np.float32(0.06)  # reflectance of charcoal (Chuvieco et al. 2002)

BAI_FLOOR = np.float32(1e-8)
"""Smallest denominator of `bai`, which is zero on charcoal itself: a distance of 0.0001, the stored unit."""

RDNBR_FLOOR = np.float32(1e-3)
"""Smallest |NBR before the fire| that `rdnbr` divides by: below it, noise would be multiplied by over 30."""

_PIECE = 1 << 16
"""Pixels per piece: the few 256 kB rows of a kernel stay in the cache, and calls, which wait for the GIL, are few."""

_BAI_FLOORS = np.full(_PIECE, BAI_FLOOR)  # np.maximum with a scalar takes four times as long
_BAI_FLOORS.flags.writeable = False

Body = Callable[[Sequence[F32], F32, list[F32]], None]
"""Fills its second argument from its first, with the third as scratch."""


def bai(red: F32, nir: F32, out: F32 | None = None) -> F32:
    """BAI: 1 / ((0.1 - red)² + (0.06 - nir)²), at most 1e8 (Chuvieco et al. 2002, doi:10.1080/01431160210153129)."""
    return _in_pieces(_bai, (red, nir), out, scratch=1)


def nbr(nir: F32, swir22: F32, out: F32 | None = None) -> F32:
    """NBR: (nir - swir22) / (nir + swir22) (Key & Benson 2006, doi:10.2737/RMRS-GTR-164)."""
    return _in_pieces(_normalised, (nir, swir22), out, scratch=1)


def dnbr(pre: F32, post: F32, out: F32 | None = None) -> F32:
    """dNBR: NBR before the fire - NBR after it (Key & Benson 2006, doi:10.2737/RMRS-GTR-164)."""
    return _in_pieces(_difference, (pre, post), out)


def rdnbr(dnbr: F32, nbr_pre: F32, out: F32 | None = None) -> F32:
    """RdNBR: dNBR / √|NBR before the fire| (Miller & Thode 2007, doi:10.1016/j.rse.2006.12.006).

    NaN where |NBR before the fire| is below `RDNBR_FLOOR`. The paper's numbers are 1000 times these.
    """
    return _in_pieces(_relative, (dnbr, nbr_pre), out, scratch=1)


def rbr(dnbr: F32, nbr_pre: F32, out: F32 | None = None) -> F32:
    """RBR: dNBR / (NBR before the fire + 1.001) (Parks et al. 2014, doi:10.3390/rs6031827)."""
    return _in_pieces(_relativized, (dnbr, nbr_pre), out, scratch=1)


def ndvi(nir: F32, red: F32, out: F32 | None = None) -> F32:
    """NDVI: (nir - red) / (nir + red) (Tucker 1979, doi:10.1016/0034-4257(79)90013-0)."""
    return _in_pieces(_normalised, (nir, red), out, scratch=1)


def ndwi(green: F32, nir: F32, out: F32 | None = None) -> F32:
    """NDWI of open water: (green - nir) / (green + nir) (McFeeters 1996, doi:10.1080/01431169608948714)."""
    return _in_pieces(_normalised, (green, nir), out, scratch=1)


def mndwi(green: F32, swir16: F32, out: F32 | None = None) -> F32:
    """MNDWI: (green - swir16) / (green + swir16) (Xu 2006, doi:10.1080/01431160600589179)."""
    return _in_pieces(_normalised, (green, swir16), out, scratch=1)


def ndmi(nir: F32, swir16: F32, out: F32 | None = None) -> F32:
    """NDMI: (nir - swir16) / (nir + swir16) (Wilson & Sader 2002, doi:10.1016/S0034-4257(01)00318-2)."""
    return _in_pieces(_normalised, (nir, swir16), out, scratch=1)


def savi(nir: F32, red: F32, soil: float = 0.5, out: F32 | None = None) -> F32:
    """SAVI: (nir - red) / (nir + red + soil) × (1 + soil) (Huete 1988, doi:10.1016/0034-4257(88)90106-X)."""
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
    """EVI: 2.5 × (nir - red) / (nir + 6 red - 7.5 blue + 1) (Huete et al. 2002, doi:10.1016/S0034-4257(02)00096-2)."""
    return _in_pieces(_evi, (nir, red, blue), out, scratch=2)


@dataclass(frozen=True)
class Index:
    """An index of one image, as it is known by name."""

    name: str
    bands: tuple[str, ...]
    """Common names, in the order of the kernel's arguments."""
    formula: str
    """As Python has it."""
    source: str
    kernel: Callable[..., F32]
    version: int = 1
    """Raised when numbers change; part of a unit's digest."""


INDICES = {
    one.name: one
    for one in (
        Index("ndvi", ("nir", "red"), "(nir - red) / (nir + red)",
              "Tucker 1979, doi:10.1016/0034-4257(79)90013-0", ndvi),
        Index("evi", ("nir", "red", "blue"), "2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)",
              "Huete et al. 2002, doi:10.1016/S0034-4257(02)00096-2", evi),
        Index("savi", ("nir", "red"), "(nir - red) / (nir + red + 0.5) * 1.5",
              "Huete 1988, doi:10.1016/0034-4257(88)90106-X", savi),
        Index("ndwi", ("green", "nir"), "(green - nir) / (green + nir)",
              "McFeeters 1996, doi:10.1080/01431169608948714", ndwi),
        Index("mndwi", ("green", "swir16"), "(green - swir16) / (green + swir16)",
              "Xu 2006, doi:10.1080/01431160600589179", mndwi),
        Index("ndmi", ("nir", "swir16"), "(nir - swir16) / (nir + swir16)",
              "Wilson & Sader 2002, doi:10.1016/S0034-4257(01)00318-2", ndmi),
        Index("nbr", ("nir", "swir22"), "(nir - swir22) / (nir + swir22)",
              "Key & Benson 2006, doi:10.2737/RMRS-GTR-164", nbr),
        Index("bai", ("red", "nir"), "1 / ((0.1 - red)**2 + (0.06 - nir)**2)",
              "Chuvieco et al. 2002, doi:10.1080/01431160210153129", bai),
    )
}  # fmt: skip
"""By name."""


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
        got = ", ".join(f"{a.dtype} {a.shape}" for a in inputs)
        raise ValueError(f"inputs must be float32 of one shape, got {got}")
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous float32 {shape}, got {out.dtype} {out.shape}")
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
