"""A dense month in small workers: ``python -m benchmarks.dense --help``.

Many passes of ten bands, and workers that are far too small for all of it at once. They must come through without
being restarted, and without spilling, which clusters of ours can't. The archive has three bands, and a pass a day at
most; so passes of its second month are told to be of the first, and each file is there under several names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.archive import BANDS, DEFAULT_CACHE, Shape, aoi, prepare, warm
from benchmarks.measure import environment, measure
from benchmarks.mosaic import last_day
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import UsageError
from eoap_dask.run.events import EVENTS_FILE, read_events

NAMES = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22")


@dataclass(frozen=True)
class Month:
    """What is to be made."""

    shape: Shape = Shape(2928, months=2, dates=28)
    passes: int = 40
    side_px: int = 2048
    workers: int = 2
    worker_memory: str = "2GiB"


TINY = Month(Shape(640, months=2, dates=3), 5, 448, 1, "1GiB")


def prepare_dense(month: Month, cache: Path) -> Path:
    """Make the archive of a dense month from a plain one, or find it in the cache."""
    plain = prepare(month.shape, cache)
    root = cache / f"dense-{month.shape.name}-{month.passes}"
    if (root / "items.json").exists():  # written last
        return root
    shutil.rmtree(root, ignore_errors=True)
    items = json.loads((plain / "items.json").read_text())
    features = sorted(items["features"], key=lambda item: item["properties"]["datetime"])
    takes = list(dict.fromkeys(item["properties"]["s2:datatake_id"] for item in features))[: month.passes]
    if len(takes) < month.passes:
        raise UsageError(f"{month.passes} passes were asked for.", f"The archive has {len(takes)}.")
    items["features"] = [item for item in features if item["properties"]["s2:datatake_id"] in takes]
    for item in items["features"]:
        item["properties"]["datetime"] = month.shape.month_names[0] + item["properties"]["datetime"][7:]
        sources, item["assets"] = item["assets"], {}
        for number, name in enumerate(NAMES):
            asset = dict(sources[BANDS[number % len(BANDS)]])
            href = Path(asset["href"])
            asset["href"] = str(href.with_name(f"{name}.tif"))
            asset["eo:bands"] = [{"name": name, "common_name": name}]
            item["assets"][name] = asset
            (root / href.parent).mkdir(parents=True, exist_ok=True)
            os.link(plain / href, root / asset["href"])
    (root / "items.json").write_text(json.dumps(items))
    return root


def run(month: Month, cache: Path, latency_s: float) -> dict[str, Any]:
    """Make the mosaic, and return what it took as JSON-like values."""
    root = prepare_dense(month, cache)
    warm(root)
    first = month.shape.month_names[0]
    with (
        tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch,
        ServerProcess(root, latency_s=latency_s) as server,
    ):
        output = Path(scratch) / "mosaic"
        command = [
            *(sys.executable, "-m", "eoap_dask", "cloudless-mosaic", "--quiet", "--cluster", "local"),
            *("--stac", server.url, "--collection", server.collection, "--max-cloud-cover", "100"),
            *("--aoi", aoi(month.side_px, month.shape.resolution_m), "--cloud-mask", "none"),
            *("--start-date", f"{first}-01", "--end-date", last_day(first), "--resolution", "10"),
            *(part for name in NAMES for part in ("--bands", name)),
            *("--workers", str(month.workers), "--worker-memory", month.worker_memory, "--output-dir", str(output)),
        ]
        cost, _ = measure(command, env=environment())
        events = list(read_events(output / EVENTS_FILE))
        (item,) = output.glob("*/monthly-mosaic-*.json")
        scenes = json.loads(item.read_text())["properties"]["eoap:scenes"]
    clusters = [event["message"] for event in events if event["kind"] == "cluster"]
    return {
        "month": asdict(month),
        "cost": asdict(cost),
        "scenes": scenes,
        "blocks": sum(event["kind"] == "block-done" for event in events),
        "retried": sum(event["kind"] == "block-retried" for event in events),
        "clusters": clusters,
    }


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    month, cost = result["month"], result["cost"]
    steady = len(result["clusters"]) == 1 and not result["retried"]
    return "\n".join(
        (
            f"{result['scenes']} scenes, {month['passes']} passes, {len(NAMES)} bands, {month['side_px']}² px, "
            f"{month['workers']} workers of {month['worker_memory']}:",
            f"{cost['wall_s']:.1f} s, {cost['cpu_s']:.1f} CPU-s, {result['blocks']} blocks; the largest process had "
            f"{cost['peak_process'] / 2**20:.0f} MiB, all of them {cost['peak_pss'] / 2**20:.0f} MiB.",
            "No worker was lost, no block tried again."
            if steady
            else f"Workers were lost: {'; '.join(result['clusters'])}; {result['retried']} blocks were tried again.",
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dense", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--latency-ms", type=float, default=30.0, help="before each answer [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = run(TINY if given.tiny else Month(), given.cache, given.latency_ms / 1000)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
