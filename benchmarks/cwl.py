"""What a CWL run costs beyond its command: ``python -m benchmarks.cwl``.

A trivial mosaic as a workflow (private Gateway, cluster, tool, and all of it down again) beside the same command bare
with ``--cluster local``, in pairs; and `eoap-dask cwl validate`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.archive import DEFAULT_CACHE, Shape, aoi, prepare, warm
from benchmarks.measure import ROOT, environment
from eoap_dask.demo.process import ServerProcess

SHAPE = Shape(640, months=2, dates=3)
SIDE_PX = 448
WORKFLOWS = ROOT / "cwl-workflows"
WORKER = {"workerCores": 2, "workerCoresLimit": 2, "clusterMaxCores": 2}
"""One worker, like the bare command's."""
PARTS = (
    ("look and load", "the files checked, cwltool and the schemas loaded; the Gateway starts meanwhile"),
    ("cluster", "from asking for a cluster to the start of the tool"),
    ("tool", "the command, which joins the cluster"),
    ("down", "cluster, outputs, Gateway"),
)


def bare_s(job: dict[str, Any], output: Path) -> float:
    """Return how long the command takes by itself."""
    options = [word for key, value in job.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "eoap_dask", "cloudless-mosaic", "--quiet", "--cluster", "local", *options]
    started = time.perf_counter()
    subprocess.run([*command, "--output-dir", str(output)], env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def workflow_s(workflow: Path, job: Path, output: Path) -> tuple[float, dict[str, float]]:
    """Return how long the workflow takes, and its parts."""
    command = [sys.executable, "-m", "eoap_dask", "run-cwl", str(workflow), str(job), "--outdir", str(output)]
    marks: list[float] = []
    begun = (r": starting the Dask cluster ", r"^INFO \[job .*\$ cloudless-mosaic", r"^INFO \[job .*completed success")
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if len(marks) < len(begun) and re.search(begun[len(marks)], line):
                marks.append(time.perf_counter() - started)
        if process.wait():
            raise RuntimeError(f"the workflow ended with {process.returncode}")
    whole = time.perf_counter() - started
    if len(marks) < len(begun):
        raise RuntimeError("the run didn't say how far it was")
    edges = [0.0, *marks, whole]
    return whole, {name: b - a for (name, _), a, b in zip(PARTS, edges[:-1], edges[1:], strict=True)}


def validate_s() -> float:
    """Return how long ``cwl validate`` takes for a file of ours, without OGC's checkers."""
    command = [sys.executable, "-m", "eoap_dask", "cwl", "validate", "--no-ogc", "--quiet"]
    started = time.perf_counter()
    subprocess.run([*command, str(WORKFLOWS / "monthly-composite.cwl")], env=environment(), check=True)
    return time.perf_counter() - started


def small(text: str) -> str:
    """Return a workflow with one worker."""
    for name, value in WORKER.items():
        text = re.sub(rf"{name}: \d+", f"{name}: {value}", text)
    return text


def measure_cwl(cache: Path, repeat: int) -> dict[str, Any]:
    """Return all times as JSON-like values; runs of both kinds take turns."""
    root = prepare(SHAPE, cache)
    warm(root)
    bare, whole, validating = [], [], []
    parts: dict[str, list[float]] = {name: [] for name, _ in PARTS}
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch, ServerProcess(root) as server:
        folder = Path(scratch)
        job = {
            "start-date": f"{SHAPE.month_names[0]}-01",
            "end-date": f"{SHAPE.month_names[-1]}-28",
            "aoi": aoi(SIDE_PX, SHAPE.resolution_m),
            "resolution": 10 * SHAPE.resolution_m,
            "max-cloud-cover": 100,
            "stac": server.url,
        }
        workflow, job_file = folder / "workflow.cwl", folder / "job.json"
        workflow.write_text(small((WORKFLOWS / "monthly-composite.cwl").read_text()))
        job_file.write_text(json.dumps(job))
        for turn in range(repeat):
            bare.append(bare_s(job, folder / f"bare-{turn}"))
            took, of_it = workflow_s(workflow, job_file, folder / f"workflow-{turn}")
            whole.append(took)
            for name, seconds in of_it.items():
                parts[name].append(seconds)
            validating.append(validate_s())
    return {
        "bare": bare,
        "workflow": whole,
        "parts": parts,
        "ratio": [w / b for w, b in zip(whole, bare, strict=True)],
        "validate": validating,
    }


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    rows = [("the command, `--cluster local`", result["bare"]), ("the same as a workflow", result["workflow"])]
    rows += [(f"… {name}: {about}", result["parts"][name]) for name, about in PARTS]
    rows += [("`cwl validate --no-ogc`", result["validate"])]
    lines = ["| | smallest s | median s |", "|---|--:|--:|"]
    lines += [f"| {name} | {min(values):.2f} | {median(values):.2f} |" for name, values in rows]
    ratio = result["ratio"]
    lines += [
        "",
        f"Workflow against command, pair by pair: {median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f}).",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cwl", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--repeat", type=int, default=5, help="pairs [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="one pair")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = measure_cwl(given.cache, 1 if given.tiny else given.repeat)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
