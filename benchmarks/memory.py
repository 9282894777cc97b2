"""Whether our memory depends on how much there is to do: ``python -m benchmarks.memory --help``.

Blocks have a fixed size here, because by default it is chosen from the number of blocks and of slots.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import preload
from benchmarks.archive import BANDS, DEFAULT_CACHE, Shape, aoi, prepare, warm
from benchmarks.contenders import Job
from benchmarks.measure import measure
from eoap_dask.demo.process import ServerProcess


@dataclass(frozen=True)
class Case:
    """One run of a pair."""

    name: str
    shape: Shape
    side_px: int
    months: int
    block: int


def cases(*, tiny: bool) -> dict[str, tuple[Case, Case]]:
    """Return the pairs that are compared: less to do, more to do."""
    if tiny:
        shape = Shape(1152, months=2, dates=1)
        small, large, few, many, block = shape, shape, 1, 2, 512
        sides = (448, 896)
    else:
        small, large, few, many, block = Shape(2928), Shape(4608, months=1, dates=4), 1, 3, 1024
        sides = (2048, 4096)
    return {
        "periods": (
            Case(f"{few} period", small, sides[0], few, block),
            Case(f"{many} periods", small, sides[0], many, block),
        ),
        "blocks": (
            Case(_blocks(sides[0]), large, sides[0], 1, 512),
            Case(_blocks(sides[1]), large, sides[1], 1, 512),
        ),
    }


def _blocks(side_px: int) -> str:
    number = (-(-side_px // 512)) ** 2
    return f"{number} block{'' if number == 1 else 's'}"


def run_case(case: Case, cache: Path, scratch: Path, latency_s: float = 0.0) -> dict[str, Any]:
    """Run one case and return what it cost."""
    root = prepare(case.shape, cache)
    warm(root)
    output = Path(tempfile.mkdtemp(prefix="run-", dir=scratch))
    resolution = case.shape.resolution_m
    with ServerProcess(root, latency_s=latency_s) as server:
        job = Job(
            "ours",
            *(server.url, server.collection, aoi(case.side_px, resolution)),
            *(f"{case.shape.month_names[0]}-01", f"{case.shape.month_names[case.months - 1]}-28", BANDS),
            *("auto", (0, 0), (resolution, 0.0, 0.0, 0.0, -resolution, 0.0), str(output)),
            options={"cloud_mask": "none", "max_cloud_cover": 100.0, "block": case.block},
        )
        command = [sys.executable, "-m", "benchmarks.contenders", str(job.save(output / "input.json"))]
        cost, _ = measure(command, env=preload.environment(output / "graph.json"))
    return {**asdict(cost), **json.loads((output / "graph.json").read_text())}


def compare(cache: Path, *, tiny: bool, repeat: int) -> dict[str, Any]:
    """Run all pairs, interleaved, and return them as JSON-like values."""
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch:
        for name, pair in cases(tiny=tiny).items():
            runs: dict[str, list[dict[str, Any]]] = {case.name: [] for case in pair}
            for turn in range(repeat):
                for case in pair if turn % 2 == 0 else reversed(pair):
                    print(f"{case.name}, round {turn + 1} of {repeat} …", file=sys.stderr, flush=True)
                    runs[case.name].append(run_case(case, cache, Path(scratch)))
            less, more = (median(r["peak_pss"] for r in runs[case.name]) for case in pair)
            one, other = (median(r["peak_process"] for r in runs[case.name]) for case in pair)
            out[name] = {
                "runs": runs,
                "peak_pss": {pair[0].name: less, pair[1].name: more},
                "peak_process": {pair[0].name: one, pair[1].name: other},
                "ratio": more / less,
                "ratio_process": other / one,
            }
    return out


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [
        "| less | more | all processes MB (PSS) | ratio | largest process MB (RSS) | ratio | wall s |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for pair in result.values():
        less, more = pair["peak_pss"]
        tree, single = ([f"{v / 1e6:.0f}" for v in pair[key].values()] for key in ("peak_pss", "peak_process"))
        wall = [f"{median(r['wall_s'] for r in runs):.1f}" for runs in pair["runs"].values()]
        lines.append(
            f"| {less} | {more} | {' → '.join(tree)} | {pair['ratio']:.2f} | {' → '.join(single)} "
            f"| {pair['ratio_process']:.2f} | {' → '.join(wall)} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--repeat", type=int, default=3, help="rounds [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = compare(given.cache, tiny=given.tiny, repeat=1 if given.tiny else given.repeat)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
