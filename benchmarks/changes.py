"""What change of grid cells costs: ``python -m benchmarks.changes --help``.

Three questions, on the demo's land:

- *Script*: how does `change-detection` stand beside the same images and masks by a script with odc-stac and numpy? In
  *large* cells, few of them, pixels and not processes decide on memory.
- *Memory*: does it depend on how many cells there are?
- *Rerun*: what does it take to see that everything is finished, from the items of the product, and how much of that is
  for checksums?
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer

from benchmarks.archive import DEFAULT_CACHE, warm
from benchmarks.change_contenders import ChangeJob, GridJob
from benchmarks.measure import measure
from benchmarks.parts import kept, medians, run_of, say, tell
from eoap_dask import ChangeParams
from eoap_dask.applications.change_detection.application import APPLICATION
from eoap_dask.demo.changes import CELLS_FILE, YEARS, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.window import grid_bounds

PARTS = ("script", "large", "memory", "rerun")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rows: int
    """Rows, and columns, of cells beside the script."""
    cell_px: int
    few: int
    """Rows and columns of cells, for memory."""
    many: int
    small_px: int
    """Side of these cells."""
    large: tuple[int, int]
    """Rows and columns of large cells, and their side."""


FULL = Sizes(6, 1024, few=2, many=20, small_px=128, large=(2, 2048))
TINY = Sizes(1, 64, few=1, many=2, small_px=64, large=(1, 96))


@dataclass(frozen=True)
class Land:
    """The archive, served."""

    root: Path
    server: ServerProcess

    def command(self, output: Path, *more: object) -> list[str]:
        """Return our command."""
        return [
            *(sys.executable, "-m", "eoap_dask", "change-detection", "--quiet", "--stac", self.server.url),
            *("--grid", str(self.root / CELLS_FILE), "--output-dir", str(output), *map(str, more)),
        ]


def prepare(cells: int, cell_px: int, cache: Path) -> Path:
    """Make the archive of rows and columns of cells, or find it in the cache; return its directory."""
    return kept(
        cache / f"changes-{cells}x{cell_px}px", lambda root: make_changes(root, rows=cells, cols=cells, cell_px=cell_px)
    )


# --- the script


def beside_a_script(land: Land, folder: Path, repeat: int) -> dict[str, Any]:
    """Run both in turn; return what each cost, and how far they agree."""
    params = ChangeParams(stac=land.server.url, grid=str(land.root / CELLS_FILE))
    request = APPLICATION.understand(params)
    cells = []
    for cell in request.cells:
        bounds, code = grid_bounds(cell.geobox), crs_name(cell.geobox)
        degrees = Transformer.from_crs(code, 4326, always_xy=True).transform_bounds(*bounds)
        cells.append(GridJob(cell.id, int(code.removeprefix("EPSG:")), bounds, degrees))
    runs: list[dict[str, Any]] = []
    for turn in range(repeat):
        for name in ("ours", "script") if turn % 2 == 0 else ("script", "ours"):
            say(f"round {turn + 1} of {repeat}: {name} …")
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            land.server.stats.reset()
            if name == "ours":
                cost, _ = measure(land.command(output))
            else:
                output.mkdir()
                job = ChangeJob(
                    *(land.server.url, land.server.collection, YEARS, params.month, params.max_cloud_cover),
                    *(tuple(cells), str(output)),
                )
                path = job.save(output / "job.json")
                cost, _ = measure([sys.executable, "-m", "benchmarks.change_contenders", str(path)])
            runs.append(run_of(name, cost, fetched=land.server.stats.bytes_sent))
    of = medians(runs)
    return {
        "cells": len(cells),
        "cell_px": int(request.cells[0].geobox.shape[0]),
        "years": len(YEARS),
        "runs": runs,
        "agreement": agreement(folder / "ours", folder / "script"),
        "medians": of,
        "script_of_ours": {key: of["script"][key] / of["ours"][key] for key in of["ours"]},
    }


def agreement(ours: Path, script: Path) -> dict[str, float]:
    """Return which share of images is equal within 1, of scores within a twentieth, and of masks altogether.

    An image's value is off by one where the script's median lies between two numbers; then a deviation, 20 at least,
    may be off by one, and all scores of that band by a twentieth.
    """
    kinds = {
        "images": ("images/*/*.tiff", 1, 0.0),
        "scores": ("masks/*/*_score.tif", 5, 0.05),
        "masks": ("masks/*/*_????.tif", 0, 0.0),
    }
    shares = {}
    for kind, (pattern, step, part) in kinds.items():
        equal = total = 0
        for path in sorted(script.glob(pattern)):
            with rasterio.open(ours / path.relative_to(script)) as one, rasterio.open(path) as other:
                if (one.crs, one.transform, one.shape) != (other.crs, other.transform, other.shape):
                    raise ValueError(f"the grids of {path.name} differ")
                x, y = one.read().astype(int), other.read().astype(int)
            equal += int((np.abs(x - y) <= step + part * y).sum())
            total += x.size
        shares[kind] = equal / total
    return shares


# --- memory


def memory_of_many(cache: Path, sizes: Sizes, folder: Path, repeat: int) -> dict[str, Any]:
    """Return the memory of few cells and of a hundred times as many."""
    runs = []
    for turn in range(repeat):
        for name, cells in (("few", sizes.few), ("many", sizes.many)):
            say(f"round {turn + 1} of {repeat}: {name} cells …")
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            root = prepare(cells, sizes.small_px, cache)
            with ServerProcess(root) as server:
                cost, _ = measure(Land(root, server).command(output))
            runs.append(run_of(name, cost, units=len(list(output.glob("*/*/*.json")))))
    of = medians(runs)
    return {"runs": runs, "medians": of, "ratio": of["many"]["peak_pss"] / of["few"]["peak_pss"]}


# --- all is finished


def rerun(land: Land, folder: Path, repeat: int) -> dict[str, Any]:
    """Return the milliseconds a unit that a run takes that finds everything finished, and those of checksums alone."""
    output = folder / "out"
    measure(land.command(output))
    items = output / "items.json"
    saved = folder / "items.json"
    shutil.copy(items, saved)
    units = len(list(output.glob("*/*/*.json")))
    whole, checking, sums = [], [], []
    for turn in range(repeat):
        say(f"round {turn + 1} of {repeat}: a rerun …")
        found = _looked_at(land, output, saved)
        whole.append(found[0] / units * 1000)
        checking.append(found[1] / units * 1000)
        began = time.perf_counter()
        for path in output.glob("*/*/*"):
            if path.suffix != ".json":
                sha256_of(path)
        sums.append((time.perf_counter() - began) / units * 1000)
    return {
        "units": units,
        "plan_and_check_ms": median(whole),
        "check_ms": median(checking),
        "checksums_ms": median(sums),
    }


def _looked_at(land: Land, output: Path, saved: Path) -> tuple[float, float]:
    """Return the seconds from the command's plan to its end, and those in which it looked at units."""
    listener: list[tuple[str, float]] = []
    params = ChangeParams(stac=land.server.url, items=str(saved), grid=str(land.root / CELLS_FILE))
    began = time.perf_counter()
    APPLICATION.run(
        params,
        listener=lambda event: listener.append((event.kind, time.perf_counter())),
        changes={"output_dir": output, "allow_hosts": ("127.0.0.1",)},
    )
    end = time.perf_counter()
    looked = [when for kind, when in listener if kind in ("unit-checking", "unit-skipped")]
    return end - began, max(looked) - min(looked)


# --- all of it


def compare(sizes: Sizes, cache: Path, *, parts: Sequence[str], repeat: int, latency_s: float) -> dict[str, Any]:
    """Measure the parts, and return them as JSON-like values."""
    root = prepare(sizes.rows, sizes.cell_px, cache)
    large = prepare(*sizes.large, cache) if "large" in parts else root
    result: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "sizes": asdict(sizes),
        "latency_s": latency_s,
        "source_bytes": warm(root),
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch:
        for part in parts:
            folder = Path(scratch) / part
            folder.mkdir()
            if part == "memory":
                result[part] = memory_of_many(cache, sizes, folder, repeat)
                continue
            own = large if part == "large" else root
            with ServerProcess(own, latency_s=0.0 if part == "rerun" else latency_s) as server:
                make = rerun if part == "rerun" else beside_a_script
                result[part] = make(Land(own, server), folder, repeat)
    return result


def table(result: Mapping[str, Any]) -> str:
    """Return the result for people."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"The demo's land, {result['cores']} cores."
    for found in (result[part] for part in ("script", "large") if part in result):
        latency = f"{1000 * result['latency_s']:g} ms"
        yield f"\n{found['cells']} cells of {found['cell_px']} pixels, {found['years']} years; latency {latency}:\n"
        yield "| | wall s | CPU s | memory MB | fetched MB |"
        yield "|---|--:|--:|--:|--:|"
        names = {"ours": "`change-detection`", "script": "a script with odc-stac and numpy"}
        for name, m in found["medians"].items():
            yield (
                f"| {names[name]} | {m['wall_s']:.1f} | {m['cpu_s']:.1f} | {m['peak_pss'] / 1e6:.0f} "
                f"| {m['fetched'] / 1e6:.0f} |"
            )
        s, shares = found["script_of_ours"], found["agreement"]
        yield (
            f"\nThe script takes {s['wall_s']:.1f} times as long, {s['cpu_s']:.1f} times the processor time and "
            f"{s['peak_pss']:.1f} times the memory, and fetches {s['fetched']:.1f} times as much. Equal are "
            f"{shares['images']:.3%} of the images' values, within 1, {shares['scores']:.3%} of the scores, within a "
            f"twentieth, and {shares['masks']:.3%} of the masks'."
        )
    if "memory" in result:
        found = result["memory"]
        few, many = found["medians"]["few"], found["medians"]["many"]
        yield (
            f"\nMemory of {few['units']:.0f} and {many['units']:.0f} units of small cells: "
            f"{few['peak_pss'] / 1e6:.0f} MB and {many['peak_pss'] / 1e6:.0f} MB, {found['ratio']:.2f} times as much."
        )
    if "rerun" in result:
        found = result["rerun"]
        yield (
            f"\nA rerun that finds all {found['units']} units finished: {found['plan_and_check_ms']:.1f} ms a unit "
            f"with the plan; {found['check_ms']:.1f} ms to look at one, of which {found['checksums_ms']:.1f} ms are "
            "for checksums."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    possible = tuple(part for part in PARTS if part not in ("script", "large") or find_spec("odc.stac"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps the archives [%(default)s]")
    parser.add_argument("--latency-ms", type=float, default=30.0, help="before each answer [%(default)s]")
    parser.add_argument("--repeat", type=int, default=2, help="rounds [%(default)s]")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=possible, metavar="PART")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    sizes, repeat, latency = (TINY, 1, 0.0) if given.tiny else (FULL, given.repeat, given.latency_ms / 1000)
    result = compare(sizes, given.cache, parts=given.parts, repeat=repeat, latency_s=latency)
    tell(result, table(result), given.json)


if __name__ == "__main__":
    main()
