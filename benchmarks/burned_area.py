"""What a map of a fire costs: ``python -m benchmarks.burned_area --help``.

A pair of scenes of one tile, before and after the fire of the demo. Three questions: how far from the bound
(`benchmarks.bound`); whether memory depends on the area; and how it stands beside the same analysis as a script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer

from benchmarks.archive import DEFAULT_CACHE, DIALECT, Grid, warm
from benchmarks.burn_contenders import BANDS, IMAGES, BurnJob
from benchmarks.measure import Measurement, environment, measure
from eoap_dask.demo.fire import fire_pair
from eoap_dask.demo.large import make_fire_pair
from eoap_dask.demo.process import ServerProcess

FULL_PX = 10_980
"""Side of a Sentinel-2 tile of 10 m."""


@dataclass(frozen=True)
class Place:
    """The pair, served."""

    root: Path
    server: ServerProcess
    size_px: int

    @property
    def urls(self) -> tuple[str, str]:
        """Of the items before and after."""
        before, after = fire_pair(self.server.catalogue.items)
        return self.server.item_url(before["id"]), self.server.item_url(after["id"])

    def aoi(self, share: float) -> str:
        """Return a box in the tile's north-western corner: a share of its area; all of it is empty."""
        if share == 1:
            return ""
        asset = fire_pair(self.server.catalogue.items)[0]["assets"]["red"]
        step, _, west, _, _, north = asset["proj:transform"][:6]
        side = self.size_px * step * share**0.5
        inner = 0.002 * side  # the box of a box in degrees is a little larger
        to_degrees = Transformer.from_crs(32610, 4326, always_xy=True)
        box = to_degrees.transform_bounds(west + inner, north - side + inner, west + side - inner, north - inner)
        return ",".join(f"{edge:.6f}" for edge in box)


def prepare(size_px: int, cache: Path) -> Path:
    """Make the pair, or find it in the cache; return its directory."""
    root = cache / f"fire-{size_px}px"
    if (root / "items.json").exists():  # written last
        return root
    shutil.rmtree(root, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as scratch:
        made = Path(scratch) / "pair"
        make_fire_pair(made, size_px=size_px, bands=BANDS[:3], dialect=DIALECT)
        made.rename(root)
    return root


def command_of(place: Place, output: Path, *more: str) -> list[str]:
    """Return our command."""
    before, after = place.urls
    return [
        *(sys.executable, "-m", "eoap_dask", "bai", "--quiet"),
        *("--pre-fire-url", before, "--post-fire-url", after, "--output-dir", str(output), *more),
    ]


def grid_of(place: Place) -> Grid:
    """Return the grid of our plan, which is everybody's."""
    command = command_of(place, Path("not-made"), "--dry-run", "--json")
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return Grid.from_plan(json.loads(run.stdout))


def run_contender(name: str, place: Place, grid: Grid, output: Path, **more: Any) -> tuple[Measurement, dict[str, Any]]:
    """Run one of `burn_contenders` in a fresh process; return what it cost, and what it says about itself."""
    output.mkdir(parents=True)
    job = BurnJob(name, *place.urls, grid.crs, grid.shape, grid.transform, str(output), **more)
    cost, _ = measure([sys.executable, "-m", "benchmarks.burn_contenders", str(job.save(output / "input.json"))])
    return cost, json.loads((output / "job.json").read_text())


def unit_of(product: Path) -> Path:
    """Return the directory of the one unit of a product."""
    (item,) = product.glob("*/bai-*.json")
    return item.parent


def agreement(ours: Path, script: Path) -> dict[str, float]:
    """Return, per image, which share of the values is equal within one step of what is stored."""
    out = {}
    for name in IMAGES:
        with rasterio.open(ours / f"{name}.tif") as one, rasterio.open(script / f"{name}.tif") as other:
            if (one.crs, one.transform, one.shape) != (other.crs, other.transform, other.shape):
                raise ValueError(f"the grids of {name} differ")
            equal = total = 0
            for _, window in one.block_windows(1):
                x, y = one.read(window=window), other.read(window=window)
                step = 1 / 4096 * np.abs(y) + 1e-2 if x.dtype == np.float32 else int(name != "severity")
                x, y = x.astype(np.float64), y.astype(np.float64)
                equal += int(((np.abs(x - y) <= step) | (np.isnan(x) & np.isnan(y))).sum())
                total += x.size
        out[name] = equal / total
    return out


def compare(
    size_px: int, cache: Path, *, latency_s: float, parts: Sequence[str], repeat: int, block: int, keep: Path | None
) -> dict[str, Any]:
    """Run everything, and return it as JSON-like values.

    Parameters
    ----------
    size_px
        Side of the tile.
    cache
        Where the pair is kept.
    latency_s
        What the server waits before each answer.
    parts
        Among ``bound``, ``memory`` and ``script``.
    repeat
        Rounds; every second one goes in the other direction.
    block
        Side of the blocks where memory is compared.
    keep
        Where to leave what was made.
    """
    _say(f"a pair of {size_px} × {size_px} px …")
    root = prepare(size_px, cache)
    source_bytes = warm(root)
    runs: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "size_px": size_px,
        "latency_s": latency_s,
        "block": block,
        "source_bytes": source_bytes,
        "cores": os.cpu_count(),
        "runs": runs,
    }
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with ServerProcess(root, latency_s=latency_s) as server:
            place = Place(root, server, size_px)
            grid = grid_of(place)
            result["grid"] = asdict(grid)

            def note(name: str, turn: int, cost: Measurement, **more: Any) -> None:
                runs.append({"contender": name, "repeat": turn, "cost": asdict(cost), **more})
                _say(f"  {cost.wall_s:.1f} s, {cost.cpu_s:.1f} CPU-s, {cost.peak_pss / 1e6:.0f} MB")

            def turn_of(name: str, turn: int) -> None:
                _say(f"round {turn + 1} of {repeat}: {name} …")
                output = folder / name
                shutil.rmtree(output, ignore_errors=True)
                if name == "command":
                    server.stats.reset()
                    cost, _ = measure(command_of(place, output))
                    note(name, turn, cost, fetched=server.stats.bytes_sent)
                elif name in {"quarter", "full"}:
                    area = place.aoi(0.25 if name == "quarter" else 1.0)
                    note(name, turn, run_contender("ours", place, grid, output, aoi=area, block=block)[0])
                else:
                    note(name, turn, run_contender(name, place, grid, output)[0])

            names = ["command", *(["script"] if "script" in parts else [])]
            names += ["quarter", "full"] if "memory" in parts else []
            for turn in range(repeat):
                for name in names if turn % 2 == 0 else reversed(names):
                    turn_of(name, turn)
            product = unit_of(folder / "command")
            if "bound" in parts:
                _say("the bound …")
                shutil.rmtree(folder / "bound", ignore_errors=True)
                paths = {"archive": str(root), "product": str(product)}
                result["bound"] = run_contender("bound", place, grid, folder / "bound", **paths)[1]
            if "script" in parts:
                result["agreement"] = agreement(product, folder / "script")
        result["output_bytes"] = sum(path.stat().st_size for path in product.iterdir())
    result["summary"] = summary(result)
    return result


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Return medians, and what is to be judged."""
    of = {
        name: {
            key: median(r["cost"][key] for r in result["runs"] if r["contender"] == name)
            for key in ("wall_s", "cpu_s", "peak_pss")
        }
        for name in dict.fromkeys(r["contender"] for r in result["runs"])
    }
    out: dict[str, Any] = {"medians": of}
    if "bound" in result:
        bound, ours = result["bound"], of["command"]["cpu_s"]
        out["cpu_of_bound"] = ours / bound["work_cpu_s"]
        out["cpu_of_coding"] = ours / (bound["read_cpu_s"] + bound["decode_cpu_s"] + bound["coding_cpu_s"])
    if "quarter" in of:
        out["memory_full_of_quarter"] = of["full"]["peak_pss"] / of["quarter"]["peak_pss"]
    if "script" in of:
        out["script_of_ours"] = {key: of["script"][key] / of["command"][key] for key in of["command"]}
    return out


WHAT = {
    "command": "`bai`",
    "script": "a script with odc-stac, xarray, rioxarray",
    "quarter": "ours, a quarter of the tile",
    "full": "ours, all of it, blocks alike",
}


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    summed = result["summary"]
    height, width = result["grid"]["shape"]
    lines = [
        f"{width} × {height} px of 10 m, two scenes; sources {result['source_bytes'] / 1e6:.0f} MB, "
        f"output {result['output_bytes'] / 1e6:.0f} MB; latency {1000 * result['latency_s']:g} ms; "
        f"{result['cores']} cores",
        "",
        "| | wall s | CPU s | memory MB |",
        "|---|--:|--:|--:|",
    ]
    for name, m in summed["medians"].items():
        lines.append(f"| {WHAT[name]} | {m['wall_s']:.1f} | {m['cpu_s']:.1f} | {m['peak_pss'] / 1e6:.0f} |")
    lines.append("")
    if "cpu_of_bound" in summed:
        b = result["bound"]
        lines.append(
            f"The bound: reading {b['source_tiles']} source tiles {b['read_cpu_s']:.1f} CPU s, decoding them "
            f"{b['decode_cpu_s']:.1f} s, encoding the images into files {b['encode_cpu_s']:.1f} s. "
            f"`bai` takes {summed['cpu_of_bound']:.2f} times that. Of encoding, {b['coding_cpu_s']:.1f} s are "
            f"predictors and DEFLATE: of reading, decoding and these alone it is {summed['cpu_of_coding']:.2f} times."
        )
    if "memory_full_of_quarter" in summed:
        lines.append(f"Memory of all against a quarter: {summed['memory_full_of_quarter']:.2f}.")
    if "script_of_ours" in summed:
        s = summed["script_of_ours"]
        lines.append(
            f"The script takes {s['wall_s']:.1f} times as long, {s['cpu_s']:.1f} times the processor time and "
            f"{s['peak_pss']:.1f} times the memory."
        )
        shares = ", ".join(f"{name} {share:.3%}" for name, share in result["agreement"].items())
        lines.append(f"Values that are equal within a step: {shares}.")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print a table, write JSON."""
    everything = ("bound", "memory", *(("script",) if find_spec("odc.stac") else ()))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.burned_area", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps the pair [%(default)s]")
    parser.add_argument("--size-px", type=int, default=FULL_PX, help="side of the tile [%(default)s]")
    parser.add_argument("--block", type=int, default=2048, help="where memory is compared [%(default)s]")
    parser.add_argument("--latency-ms", type=float, default=30.0, help="before each answer [%(default)s]")
    parser.add_argument("--repeat", type=int, default=2, help="rounds [%(default)s]")
    parser.add_argument("--parts", nargs="+", choices=("bound", "memory", "script"), default=everything, metavar="PART")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what was made here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    if given.tiny:
        given.size_px, given.block, given.repeat, given.latency_ms = 1098, 512, 1, 0.0
    result = compare(
        given.size_px,
        given.cache,
        latency_s=given.latency_ms / 1000,
        parts=given.parts,
        repeat=given.repeat,
        block=given.block,
        keep=given.keep,
    )
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
