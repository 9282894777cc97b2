"""What a second worker brings where reading waits, and what a block costs scheduler and client.

``python -m benchmarks.scaling``. Scheduler and workers are processes of their own, started for each figure.

- *Workers*: the same mosaic from a server that answers late, on one worker and on two, one thread each. Counted is the
  time from the first unit's start to the last one's end, as the event stream has it: neither the start of the cluster
  nor the search.
- *Blocks*: many blocks whose rendering is replaced by nothing, so that there is no payload, no checksum and no file.
  What is left is what the engine, the client and the scheduler do for each. Counted is processor time, the client's
  with all its threads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.archive import DEFAULT_CACHE, Shape, aoi, prepare, warm
from benchmarks.processes import SchedulerAndWorkers
from eoap_dask import MosaicParams, RunOptions, cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION
from eoap_dask.cluster.gateway.client import scheduler_client
from eoap_dask.cluster.profiler import without_dangerous_profiler
from eoap_dask.cluster.size import size_of
from eoap_dask.demo.process import ServerProcess
from eoap_dask.publish.publication import Publication
from eoap_dask.run.engine import Engine
from eoap_dask.run.events import EVENTS_FILE, ignore, read_events
from eoap_dask.run.schedule import Schedule

NOTHING = """
from eoap_dask.render import block as render


def render_block(packed, number):
    render._unpack(packed)
    return render.Rendered({}, {})


render.render_block = render_block
"""
"""What the workers of the second figure run first: reading, science and encoding are left out."""

TARGET_RATIO = 1.7
TARGET_MS = 5.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    shape: Shape
    side_px: int
    """Of the mosaic's grid."""
    latency_s: float
    """Of the server, for each answer."""
    blocks_m: float
    """Pixel of the grid whose blocks are counted: a small one, many blocks."""


FULL = Sizes(Shape(640, months=8, dates=6), 448, 0.25, blocks_m=0.2)
TINY = Sizes(Shape(640, months=2, dates=3), 448, 0.05, blocks_m=2.0)


class EmptyEngine(Engine):
    """An engine whose units have no files."""

    def _write(self, progress: Any) -> dict[str, Any]:
        return {"id": progress.plan.unit.key, "assets": {}}


def mosaic(server: ServerProcess, sizes: Sizes) -> MosaicParams:
    """Return the parameters of the mosaic."""
    months = sizes.shape.month_names
    return MosaicParams(
        stac=server.url,
        collection=server.collection,
        aoi=aoi(sizes.side_px, sizes.shape.resolution_m),
        start_date=f"{months[0]}-01",
        end_date=f"{months[-1]}-28",
        bands=("red",),
        resolution=sizes.shape.resolution_m,
        max_cloud_cover=100.0,
    )


def render_s(server: ServerProcess, sizes: Sizes, workers: int, folder: Path) -> float:
    """Return the seconds that the units of a mosaic take on so many workers."""
    with SchedulerAndWorkers(folder / "cluster", workers=workers, env={"GDAL_CACHEMAX": "16"}) as cluster:
        cluster.wait_for_workers()
        run = cloudless_mosaic(
            mosaic(server, sizes), output_dir=folder / "out", cluster=cluster.address, max_items=10_000
        )
    times = [
        datetime.fromisoformat(event["time"])
        for event in read_events(run.output / EVENTS_FILE)
        if event["kind"] in {"unit-started", "unit-done"}
    ]
    return (max(times) - min(times)).total_seconds()


def block_ms(server: ServerProcess, sizes: Sizes, folder: Path) -> dict[str, float]:
    """Return the milliseconds of processor time that a block costs client and scheduler, and how many there were."""
    folder.mkdir(parents=True)
    preload = folder / "nothing.py"
    preload.write_text(NOTHING)
    params, options = mosaic(server, sizes), RunOptions(output_dir=folder / "out", block=512)
    request = APPLICATION.understand(
        MosaicParams(**{**vars(params), "resolution": sizes.blocks_m, "end_date": params.start_date[:8] + "28"})
    )
    plan = APPLICATION.plan_for(request, APPLICATION.find(request), options)
    with (
        SchedulerAndWorkers(folder / "cluster", workers=2, preload=preload) as cluster,
        Publication(options.output_dir, APPLICATION.name) as publication,
    ):
        cluster.wait_for_workers()
        with scheduler_client(cluster.address) as client, without_dangerous_profiler(client):
            schedule = Schedule(plan.sized(size_of(client), options).units, lambda _: None)
            engine = EmptyEngine(schedule, client, publication, finish, ignore)
            before = time.process_time(), cluster.scheduler_cpu_s()
            outcome = engine.run()
            after = time.process_time(), cluster.scheduler_cpu_s()
    assert outcome.blocks == plan.blocks
    own, other = (1000 * (b - a) / plan.blocks for a, b in zip(before, after, strict=True))
    return {"client_ms": own, "scheduler_ms": other, "sum_ms": own + other, "blocks": plan.blocks}


def finish(_: object) -> dict[str, Any]:
    """Make no item."""
    return {}


def measure(sizes: Sizes, cache: Path, repeat: int) -> dict[str, Any]:
    """Return all figures as JSON-like values."""
    root = prepare(sizes.shape, cache)
    warm(root)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    blocks: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch:
        for turn in range(repeat):
            with ServerProcess(root, latency_s=sizes.latency_s) as server:
                for workers, found in seconds.items():  # side by side: the machine may be busy now and then
                    found.append(render_s(server, sizes, workers, Path(scratch) / f"{turn}-{workers}"))
            with ServerProcess(root) as server:
                blocks.append(block_ms(server, sizes, Path(scratch) / f"{turn}-blocks"))
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "latency_s": sizes.latency_s,
        "seconds": {str(workers): found for workers, found in seconds.items()},
        "ratio": {"median": median(ratios), "all": ratios},
        "block": {"smallest_ms": min(b["sum_ms"] for b in blocks), "all": blocks},
    }


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    one, two = (min(result["seconds"][workers]) for workers in ("1", "2"))
    best = min(result["block"]["all"], key=lambda b: b["sum_ms"])
    return "\n".join(
        [
            "| | measured | target |",
            "|---|--:|--:|",
            f"| 1 worker, {1000 * result['latency_s']:.0f} ms of latency, s | {one:.2f} | |",
            f"| 2 workers, s | {two:.2f} | |",
            f"| 1 → 2 workers, median of {len(result['ratio']['all'])} | {result['ratio']['median']:.2f} × "
            f"| ≥ {TARGET_RATIO} × |",
            f"| client, per block of {best['blocks']:.0f}, ms | {best['client_ms']:.2f} | |",
            f"| scheduler, per block, ms | {best['scheduler_ms']:.2f} | |",
            f"| scheduler and client, per block, ms | {best['sum_ms']:.2f} | ≤ {TARGET_MS:g} |",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--repeat", type=int, default=3, help="rounds [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="one round of little work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = measure(TINY if given.tiny else FULL, given.cache, 1 if given.tiny else given.repeat)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
