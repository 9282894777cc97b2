"""The monthly mosaic, ours beside others, in one run: ``python -m benchmarks.mosaic --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import rasterio

from benchmarks import preload
from benchmarks.archive import BANDS, DEFAULT_CACHE, Grid, Shape, aoi, needed, prepare, scenes_over, warm
from benchmarks.contenders import Job
from benchmarks.measure import Measurement, environment, measure
from eoap_dask.demo.process import ServerProcess

NAMES = {
    "ours": "ours: the command, no cloud mask",
    "ours-gdal": "ours, all files read by GDAL",
    "ours-scl": "ours with the cloud mask (does more)",
    "peer": "the public peer's way, 2 workers × 1 thread",
    "peer-2x4": "the same, 2 × 4",
    "odc-documented": "odc-stac as documented, 2 × 4",
    "odc-tuned": "odc-stac tuned, 2 × 4",
}


OURS = {
    "ours": ("--cloud-mask", "none"),
    "ours-gdal": ("--cloud-mask", "none", "--reader", "gdal"),
    "ours-scl": ("--cloud-mask", "scl"),
}
"""Options of the contenders that are our command."""


@dataclass(frozen=True)
class Task:
    """What all contenders make."""

    url: str
    collection: str
    aoi: str
    start: str
    end: str
    resolution: float


@dataclass(frozen=True)
class Result:
    """One run of one contender."""

    contender: str
    repeat: int
    cost: Measurement
    fetched: int
    """Bytes of files, as the server counted."""
    requests: int
    server_cpu_s: float
    tasks: int | None
    """None where there is no Dask scheduler."""
    graph_bytes: int | None
    phases: dict[str, float]
    load: tuple[float, ...]
    """Average number of processes that wanted to run, before."""

    def figures(self) -> dict[str, float | None]:
        """Return what is compared."""
        return {
            "wall_s": self.cost.wall_s,
            "cpu_s": self.cost.cpu_s,
            "peak_pss": self.cost.peak_pss,
            "fetched": self.fetched,
            "requests": self.requests,
            "tasks": self.tasks,
            "graph_bytes": self.graph_bytes,
            "others": self.cost.others_cpu_s / self.cost.wall_s,
        }


def command_of(task: Task, output: Path, *more: str) -> list[str]:
    """Return our command for the task."""
    bands = [part for band in BANDS for part in ("--bands", band)]
    return [
        *(sys.executable, "-m", "eoap_dask", "cloudless-mosaic", "--quiet"),
        *("--stac", task.url, "--collection", task.collection, "--aoi", task.aoi, *bands),
        *("--start-date", task.start, "--end-date", task.end, "--resolution", f"{task.resolution:g}"),
        *("--max-cloud-cover", "100", "--output-dir", str(output), *more),
    ]


def plan(task: Task) -> dict[str, Any]:
    """Return our plan for the task: its grid is everybody's."""
    command = command_of(task, Path("not-made"), "--cloud-mask", "none", "--dry-run", "--json")
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return dict(json.loads(run.stdout))


def run_one(
    name: str,
    task: Task,
    grid: Grid,
    server: ServerProcess,
    output: Path,
    repeat: int = 0,
    *,
    python: str = sys.executable,
    command: Sequence[str] | None = None,
    timeout_s: float = 3600.0,
) -> Result:
    """Run one contender in a fresh process.

    Parameters
    ----------
    name
        One of `NAMES`.
    task : Task
    grid : Grid
    server : ServerProcess
        Its counts are reset.
    output
        A new directory for what it makes.
    repeat
        Which round it is.
    python
        The interpreter, for others than ours.
    command
        What to run, where it isn't one of `NAMES` that is.
    timeout_s
        When to give up.
    """
    output.mkdir(parents=True, exist_ok=True)
    if command is not None:
        pass
    elif name in OURS:
        command = command_of(task, output / "mosaic", *OURS[name])
    else:
        threads = 1 if name == "peer" else 4
        contender = "peer" if name.startswith("peer") else name
        job = Job(
            contender,
            *(task.url, task.collection, task.aoi, task.start, task.end, BANDS),
            *(grid.crs, grid.shape, grid.transform, str(output)),
            threads=threads,
        )
        command = [python, "-m", "benchmarks.contenders", str(job.save(output / "input.json"))]
    graph = output / "graph.json"
    serving = psutil.Process().children()
    load, before = os.getloadavg(), _cpu(serving)
    server.stats.reset()
    cost, _ = measure(command, env=preload.environment(graph), timeout_s=timeout_s)
    stats = server.call("stats")
    counts = json.loads(graph.read_text()) if graph.exists() else {"tasks": None, "graph_bytes": None}
    return Result(
        contender=name,
        repeat=repeat,
        cost=cost,
        fetched=stats["bytes_sent"],
        requests=stats["requests"],
        server_cpu_s=round(_cpu(serving) - before, 2),
        tasks=counts["tasks"],
        graph_bytes=counts["graph_bytes"],
        phases=_phases(output),
        load=load,
    )


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return sum(t.user + t.system for t in (p.cpu_times() for p in processes))


def _phases(output: Path) -> dict[str, float]:
    if (output / "job.json").exists():
        return dict(json.loads((output / "job.json").read_text()))
    timings = json.loads((output / "mosaic" / "run.json").read_text())["timings"]
    return {k: v for k, v in timings.items() if isinstance(v, float)}


def pictures(output: Path) -> dict[int, Path]:
    """Return what a contender made, by month."""
    if (output / "mosaic").exists():
        items = [p for p in (output / "mosaic").iterdir() if p.is_dir()]
        return {int(p.name.rsplit("-", 1)[1]): p / f"{p.name}.tif" for p in items}
    return {int(p.stem): p for p in output.glob("*.tif")}


def agreement(one: Path, other: Path, covered: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Compare the pixels of two outputs on one grid.

    Returns
    -------
    dict
        Shares of values that are equal, and within 1 (the rounding of a median of two), among those that either has;
        the shares within 1 where one tile and where several cover the pixel, and shares that only one of the two has.
    """
    first, second = pictures(one), pictures(other)
    if first.keys() != second.keys():
        raise ValueError(f"months differ: {sorted(first)} and {sorted(second)}")
    total = equal = near = once = once_near = several = several_near = only_first = only_second = 0
    for month in first:
        with rasterio.open(first[month]) as a, rasterio.open(second[month]) as b:
            if (a.crs, a.transform, a.shape) != (b.crs, b.transform, b.shape):
                raise ValueError(f"the grids of month {month} differ")
            x, y = a.read(), b.read()
        any_valid = (x > 0) | (y > 0)
        close = np.abs(x.astype(np.int32) - y) <= 1
        alone = (covered <= 1)[None] & any_valid
        total += int(any_valid.sum())
        equal += int(((x == y) & any_valid).sum())
        near += int((close & any_valid).sum())
        once += int(alone.sum())
        once_near += int((close & alone).sum())
        several += int((any_valid & ~alone).sum())
        several_near += int((close & any_valid & ~alone).sum())
        only_first += int(((x > 0) & (y == 0)).sum())
        only_second += int(((y > 0) & (x == 0)).sum())
    return {
        "values": total,
        "equal": equal / max(total, 1),
        "within_1": near / max(total, 1),
        "within_1_one_tile": once_near / once if once else None,
        "within_1_several_tiles": several_near / several if several else None,
        "only_ours": only_first / max(total, 1),
        "only_theirs": only_second / max(total, 1),
    }


def compare(
    shape: Shape,
    cache: Path,
    *,
    side_px: int,
    resolution: float,
    latency_s: float,
    contenders: Sequence[str],
    repeat: int,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Run everything, and return it as JSON-like values.

    Parameters
    ----------
    shape : Shape
        Of the archive.
    cache
        Where archives are kept.
    side_px
        Side of the area, in pixels of the archive.
    resolution
        Of the mosaic.
    latency_s
        What the server waits before each answer.
    contenders
        Among `NAMES`; ours comes first.
    repeat
        Rounds; every second one goes in the other direction.
    keep
        Where to leave what was made.
    """
    _say(f"archive {shape.name} …")
    root = prepare(shape, cache)
    archive_bytes = warm(root)
    runs: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch:
        folder = keep or Path(scratch)
        with ServerProcess(root, latency_s=latency_s) as server:
            first, last = shape.month_names[0], shape.month_names[-1]
            area = aoi(side_px, shape.resolution_m)
            task = Task(server.url, server.collection, area, f"{first}-01", last_day(last), resolution)
            planned = plan(task)
            grid = Grid.from_plan(planned)
            for turn in range(repeat):
                for name in contenders if turn % 2 == 0 else reversed(contenders):
                    _say(f"round {turn + 1} of {repeat}: {NAMES[name]} …")
                    shutil.rmtree(folder / name, ignore_errors=True)
                    runs.append(run_one(name, task, grid, server, folder / name, turn))
                    cost = runs[-1].cost
                    _say(f"  {cost.wall_s:.1f} s, {cost.cpu_s:.1f} CPU-s, {cost.peak_pss / 1e6:.0f} MB")
        covered = scenes_over(root, grid)
        others = [n for n in contenders if n not in {"ours", "ours-scl"}]
        agreed = {name: agreement(folder / "ours", folder / name, covered) for name in others}
        must = needed(root, grid)
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "archive": {**asdict(shape), "bytes": archive_bytes, "latency_s": latency_s},
        "task": {
            **{k: v for k, v in asdict(task).items() if k != "url"},
            "grid": asdict(grid),
            "scenes": sum(unit["scenes"] for unit in planned["units"]),
            "blocks": planned["blocks"],
            "block_px": planned["block_px"],
            "covered_by_several_tiles": float((covered > 1).mean()),
            "needed_bytes": must,
        },
        "runs": [asdict(r) for r in runs],
        "summary": summary(runs),
        "agreement": agreed,
    }


def summary(runs: Sequence[Result]) -> dict[str, Any]:
    """Return per contender the medians, and the ratios to ours of the same round (median, smallest, largest)."""
    mine = {r.repeat: r.figures() for r in runs if r.contender == "ours"}
    out: dict[str, Any] = {}
    for name in dict.fromkeys(r.contender for r in runs):
        its = [r for r in runs if r.contender == name]
        figures = [r.figures() for r in its]
        entry: dict[str, Any] = {"runs": len(its), "ratio": {}}
        for key in figures[0]:
            values = [f[key] for f in figures if f[key] is not None]
            entry[key] = median(values) if values else None
            pairs = [(f[key], mine.get(r.repeat, {}).get(key)) for r, f in zip(its, figures, strict=True)]
            ratios = [a / b for a, b in pairs if a is not None and b]
            entry["ratio"][key] = [median(ratios), min(ratios), max(ratios)] if ratios else None
        out[name] = entry
    return out


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    summed, task = result["summary"], result["task"]
    height, width = task["grid"]["shape"]
    lines = [
        f"{width} × {height} px of {task['resolution']:g} m, {len(BANDS)} bands, {result['archive']['months']} months, "
        f"{task['scenes']} scenes; {task['covered_by_several_tiles']:.0%} of the area lies in both tiles",
        f"latency {1000 * result['archive']['latency_s']:g} ms; medians of {summed['ours']['runs']} rounds; "
        f"memory is the peak of the process tree (PSS); others = cores that were busy with anything else",
        "",
        "| contender | wall s | CPU s | memory MB | fetched MB | requests | tasks | graph kB | others |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, s in summed.items():
        graph = "" if s["graph_bytes"] is None else f"{s['graph_bytes'] / 1e3:.1f}"
        lines.append(
            f"| {NAMES[name]} | {s['wall_s']:.1f} | {s['cpu_s']:.1f} | {s['peak_pss'] / 1e6:.0f} "
            f"| {s['fetched'] / 1e6:.0f} | {s['requests']:.0f} | {s['tasks']:.0f} | {graph} | {s['others']:.1f} |"
        )
    lines += [
        "",
        "| times ours (smallest to largest of the rounds) | wall | CPU | memory | fetched | requests | tasks |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, s in summed.items():
        if name == "ours":
            continue
        cells = [_ratio(s["ratio"][key]) for key in ("wall_s", "cpu_s", "peak_pss", "fetched", "requests", "tasks")]
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    if task["needed_bytes"]:
        lines += ["", f"Tiles that hold a needed pixel: {task['needed_bytes'] / 1e6:.0f} MB."]
    lines += [
        "",
        "| pixels against ours | equal | within 1 | in one tile: within 1 | in both: within 1 |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, a in result["agreement"].items():
        keys = ("equal", "within_1", "within_1_one_tile", "within_1_several_tiles")
        lines.append(f"| {NAMES[name]} | " + " | ".join(_percent(a[key]) for key in keys) + " |")
    return "\n".join(lines)


def _ratio(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    middle, low, high = values
    return f"{middle:.2f}" if low == high else f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.3%}"


def last_day(month: str) -> str:
    """Return the last day of a month given as YYYY-MM."""
    return str(np.datetime64(month) + np.timedelta64(1, "M") - np.timedelta64(1, "D"))


def machine() -> dict[str, Any]:
    """Return what is measured on, as JSON-like values."""
    packages = ("dask", "distributed", "numpy", "odc-stac", "rasterio", "stackstac", "xarray")
    return {
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "versions": {name: version(name) for name in packages if name != "odc-stac" or find_spec("odc.stac")},
        "gdal": rasterio.__gdal_version__,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def default_contenders() -> tuple[str, ...]:
    """Return all contenders whose packages are here."""
    names = ("ours", "ours-gdal", "ours-scl", "peer", "odc-documented", "odc-tuned")
    return tuple(n for n in names if not n.startswith("odc") or find_spec("odc.stac"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mosaic", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--size-px", type=int, default=2928, help="side of a tile [%(default)s]")
    parser.add_argument("--months", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--dates", type=int, default=8, help="passes a month [%(default)s]")
    parser.add_argument("--aoi-px", type=int, default=2048, help="side of the area, in source pixels [%(default)s]")
    parser.add_argument("--resolution", type=float, default=10.0, help="of the mosaic, metres [%(default)s]")
    parser.add_argument("--latency-ms", type=float, default=30.0, help="before each answer [%(default)s]")
    parser.add_argument("--repeat", type=int, default=2, help="rounds [%(default)s]")
    parser.add_argument("--contenders", nargs="+", choices=tuple(NAMES), default=default_contenders(), metavar="NAME")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what was made here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    shape = Shape(given.size_px, months=given.months, dates=given.dates)
    if given.tiny:
        shape = Shape(640, months=2, dates=3)
        given.aoi_px, given.repeat, given.latency_ms = 448, 1, 0.0
    result = compare(
        shape,
        given.cache,
        side_px=given.aoi_px,
        resolution=given.resolution,
        latency_s=given.latency_ms / 1000,
        contenders=("ours", *(n for n in given.contenders if n != "ours")),
        repeat=given.repeat,
        keep=given.keep,
    )
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
