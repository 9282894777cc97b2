"""What composites cost, per pixel and band, on one thread: ``python -m benchmarks.composites --help``.

Each kernel beside the plain way with NumPy and, where they are installed, beside libraries: bottleneck for medians and
means (of float32, where no data is NaN), geomad, which odc-algo uses, for the geometric median, with its steps and
tolerance. Half of the observations are clouds, and each is timed by turns with the others. How far they agree is told.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.parts import say, tell
from eoap_dask.kernels.composites import Composite, check_composite

U16 = npt.NDArray[np.uint16]
Array = npt.NDArray[Any]
BANDS = 4
METHODS = ("median", "mean", "percentile:25", "medoid", "geomedian", "max-ndvi", "latest")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    side: int
    depths: tuple[int, ...]
    rounds: int


FULL = Sizes(160, (6, 24, 100), rounds=3)
TINY = Sizes(16, (5,), rounds=1)


def cube_of(side: int, depth: int) -> U16:
    """Return (band, time, y, x): ground with noise, a few clouds that were missed, and half of it masked."""
    random = np.random.default_rng(depth)
    ground = random.integers(300, 3000, (BANDS, 1, side, side))
    seen = ground + random.normal(0, 120, (BANDS, depth, side, side))
    seen += 4000 * (random.random((1, depth, side, side)) < 0.03)
    cube = np.clip(seen, 1, 10000).astype(np.uint16)
    cube[:, random.random((depth, side, side)) < 0.5] = 0
    return cube


def ours(kind: Composite, cube: U16) -> Array:
    """Return what our kernel makes."""
    out = np.empty((BANDS, *cube.shape[2:]), np.uint16)
    kind.compose(cube, out, (cube[1], cube[2]))
    return out


def plain(name: str, cube: U16) -> Array | None:
    """Return what NumPy makes of it in a few lines; None where that takes more."""
    values = np.where(cube == 0, np.nan, cube.astype(np.float32))
    nothing = np.isnan(values).all(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "median":
            found = np.nanmedian(values, axis=1)
        elif name == "mean":
            found = np.nanmean(values, axis=1, dtype=np.float64)
        elif name == "percentile:25":
            found = np.nanpercentile(values, 25, axis=1, method="inverted_cdf")
        elif name in ("max-ndvi", "latest"):
            red, nir = values[1], values[2]
            depth = np.arange(cube.shape[1])[:, None, None]
            rank = (nir - red) / (nir + red) if name == "max-ndvi" else np.where(np.isnan(red), np.nan, depth)
            picked = np.where(np.isnan(rank), -np.inf, rank).argmax(axis=0)
            found = np.take_along_axis(values, picked[None, None], axis=1)[:, 0]
        elif name == "medoid":
            sums = np.zeros(cube.shape[1:])
            for number in range(cube.shape[1]):
                apart = np.sqrt(((values - values[:, number : number + 1]).astype(np.float64) ** 2).sum(axis=0))
                sums[number] = np.nansum(apart, axis=0)
            picked = np.where(np.isnan(values[0]), np.inf, sums).argmin(axis=0)
            found = np.take_along_axis(values, picked[None, None], axis=1)[:, 0]
        else:
            return None
    return np.where(nothing, 0, np.floor(np.nan_to_num(found) + 0.5)).astype(np.uint16)


def library(name: str, cube: U16) -> Array | None:
    """Return what the best library that is installed makes of it; None where there is none."""
    values = np.where(cube == 0, np.nan, cube.astype(np.float32))
    if name in ("median", "mean") and find_spec("bottleneck"):
        import bottleneck

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = {"median": bottleneck.nanmedian, "mean": bottleneck.nanmean}[name](values, axis=1)
    elif name == "geomedian" and find_spec("geomad"):
        import geomad  # which odc-algo and odc-stats use

        image = np.ascontiguousarray(np.moveaxis(values, (0, 1), (2, 3)))  # (y, x, band, time)
        how = {"maxiters": 1000, "eps": 0.1, "num_threads": 1}  # in stored units, as odc-algo has it
        found = np.moveaxis(geomad.nangeomedian_pcm(image, nocheck=True, **how), -1, 0)
    else:
        return None
    return np.floor(np.nan_to_num(found) + 0.5).astype(np.uint16)


def compare(sizes: Sizes) -> dict[str, Any]:
    """Measure, and return JSON-like values."""
    rows = []
    for depth in sizes.depths:
        cube = cube_of(sizes.side, depth)
        for name in METHODS:
            say(f"{name}, {depth} passes …")
            kind = check_composite(name, "composite")
            ways: dict[str, Callable[[], Array | None]] = {
                "ours": lambda kind=kind, cube=cube: ours(kind, cube),  # type: ignore[misc]
                "numpy": lambda name=name, cube=cube: plain(name, cube),  # type: ignore[misc]
                "library": lambda name=name, cube=cube: library(name, cube),  # type: ignore[misc]
            }
            made = {way: one() for way, one in ways.items()}
            known = {way: image for way, image in made.items() if image is not None}
            least = min(float((np.abs(known["ours"].astype(int) - one) <= 1).mean()) for one in known.values())
            spent: dict[str, list[float]] = {way: [] for way in known}
            for _ in range(sizes.rounds):
                for way in known:
                    began = time.process_time()
                    ways[way]()
                    spent[way].append((time.process_time() - began) / (sizes.side**2 * BANDS) * 1e9)
            rows.append({"method": name, "depth": depth, "agreement": least}
                        | {f"{way}_ns": median(seconds) for way, seconds in spent.items()})  # fmt: skip
    return {"made": datetime.now(UTC).isoformat(timespec="seconds"), "side": sizes.side, "rows": rows}


def table(result: Mapping[str, Any]) -> str:
    """Return the result for people."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"Nanoseconds of one thread per pixel and band, {BANDS} bands, half of it masked.\n"
    yield "| composite | passes | ours | NumPy | a library | agree within 1 |"
    yield "|---|--:|--:|--:|--:|--:|"
    for row in result["rows"]:
        others = [f"{row[key]:.0f} ({row[key] / row['ours_ns']:.1f} ×)" if key in row else "" for key in _OTHERS]
        own = f"{row['method']} | {row['depth']} | {row['ours_ns']:.0f}"
        yield f"| {own} | {' | '.join(others)} | {row['agreement']:.2%} |"


_OTHERS = ("numpy_ns", "library_ns")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composites", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = compare(TINY if given.tiny else FULL)
    tell(result, table(result), given.json)


if __name__ == "__main__":
    main()
