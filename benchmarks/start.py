"""How soon our command answers: its help, and the first byte of a file on loopback: ``python -m benchmarks.start``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.archive import DEFAULT_CACHE, Shape, aoi, prepare, warm
from benchmarks.measure import environment
from benchmarks.mosaic import Task, command_of
from eoap_dask.demo.process import ServerProcess

POLL_S = 0.002
SHAPE = Shape(640, months=2, dates=3)
SIDE_PX = 448


def help_s() -> float:
    """Return how long ``cloudless-mosaic --help`` takes."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "eoap_dask", "cloudless-mosaic", "--help"]
    subprocess.run(command, capture_output=True, check=True, env=environment())
    return time.perf_counter() - started


def mosaic_s(server: ServerProcess, output: Path) -> tuple[float, float, float]:
    """Run a small mosaic; return the seconds to the first search, to the first byte of a file, and to the end."""
    task = Task(
        *(server.url, server.collection, aoi(SIDE_PX, SHAPE.resolution_m)),
        *(f"{SHAPE.month_names[0]}-01", f"{SHAPE.month_names[-1]}-28", SHAPE.resolution_m),
    )
    server.stats.reset()
    started = time.perf_counter()
    search = read = 0.0
    with subprocess.Popen(command_of(task, output), env=environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not read:
            stats = server.call("stats")
            now = time.perf_counter() - started
            search = search or (now if stats["api_requests"] else 0.0)
            read = now if stats["bytes_sent"] else 0.0
            time.sleep(POLL_S)
        if process.wait():
            raise RuntimeError(f"the command ended with {process.returncode}")
    return search, read, time.perf_counter() - started


def measure_start(cache: Path, repeat: int) -> dict[str, Any]:
    """Return all times, and the smallest and the median of each, as JSON-like values."""
    root = prepare(SHAPE, cache)
    warm(root)
    times: dict[str, list[float]] = {"help": [], "first_search": [], "first_read": [], "small_mosaic": []}
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch, ServerProcess(root) as server:
        for turn in range(repeat):
            times["help"].append(help_s())
            found = mosaic_s(server, Path(scratch) / str(turn))
            for name, value in zip(("first_search", "first_read", "small_mosaic"), found, strict=True):
                times[name].append(value)
    return {name: {"smallest": min(v), "median": median(v), "all": v} for name, v in times.items()}


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    names = {
        "help": "`cloudless-mosaic --help`",
        "first_search": "start to the first search",
        "first_read": "start to the first byte of a file",
        "small_mosaic": f"a small mosaic, {SIDE_PX}² px, {SHAPE.months} months, as a whole",
    }
    lines = ["| | smallest s | median s |", "|---|--:|--:|"]
    lines += [f"| {names[k]} | {v['smallest']:.2f} | {v['median']:.2f} |" for k, v in result.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--repeat", type=int, default=5, help="rounds [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = measure_start(given.cache, 1 if given.tiny else given.repeat)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
