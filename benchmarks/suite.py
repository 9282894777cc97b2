"""Everybody beside everybody, one factor varied at a time: ``python -m benchmarks.suite --help``.

The base case is a mosaic of 10 m over two UTM zones, 16 passes a month, from a server that waits 30 ms before each
answer. Every other case differs from it in one thing. All contenders make the same product on the same grid; rounds
are interleaved, and every second one goes in the other direction. Each run is written to ``suite.json`` as it ends, so
that a suite that was stopped goes on where it was; ``suite.md`` and the charts are made of that file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import mosaic, report
from benchmarks.archive import DEFAULT_CACHE, Grid, Shape, aoi, items_of, needed_tiles, prepare, scenes_over, warm
from benchmarks.bound import BoundJob
from benchmarks.measure import CommandError, environment
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess

FORMAT = 1


@dataclass(frozen=True)
class Case:
    """One setting of all factors."""

    title: str
    side_px: int = 2048
    """Of the area, in source pixels."""
    size_px: int = 2928
    """Of the archive's tiles."""
    months: int = 2
    dates: int = 16
    """Passes a month, each over both tiles."""
    resolution: float = 10.0
    one_zone: bool = False
    """Whether only the tile in the grid's own zone counts."""
    latency_ms: float = 30.0
    peer: bool = False
    """Whether the public peer takes part, which is slow."""

    @property
    def shape(self) -> Shape:
        """Of the archive."""
        return Shape(self.size_px, months=self.months, dates=self.dates)


def all_cases(*, tiny: bool = False) -> dict[str, Case]:
    """Return the base case and those that differ from it in one thing."""
    base = Case("base: 10 m, two zones, 16 dates, 30 ms", peer=True)
    few, many, far = 6, 28, 100.0  # the demo's months have 28 passes at most: one a day
    if tiny:
        base = Case("tiny base", 448, 640, months=1, dates=3, latency_ms=2.0, peer=True)
        few, many, far = 2, 5, 5.0
    return {
        "base": base,
        "coarse": replace(base, title="100 m", resolution=100.0),
        "one-zone": replace(base, title="one zone", one_zone=True, peer=False),
        "dates-few": replace(base, title=f"{few} dates", dates=few, peer=False),
        "dates-many": replace(base, title=f"{many} dates", dates=many, peer=False),
        "area": replace(
            base, title="four times the area", side_px=2 * base.side_px, size_px=2 * base.size_px, peer=False
        ),
        "latency-0": replace(base, title="0 ms", latency_ms=0.0, peer=False),
        "latency-far": replace(base, title=f"{far:g} ms", latency_ms=far, peer=False),
    }


@dataclass(frozen=True)
class Contender:
    """Somebody who makes the mosaic."""

    title: str
    settings: str
    """What was chosen for it, and why that is its best."""
    package: str = ""
    """That has to be importable."""
    newer: bool = False
    """Whether it needs Python 3.12, and so perhaps another interpreter."""


CONTENDERS = {
    "ours": Contender(
        "ours, tile reader",
        "the command `cloudless-mosaic --cloud-mask none` with its defaults, from typing it to its end; it also writes "
        "counts, a picture, thumbnails, checksums and STAC",
    ),
    "ours-gdal": Contender("ours, GDAL reader", "the same with `--reader gdal`"),
    "bound": Contender(
        "the bound",
        "each needed tile decoded once, one median, one encode; one process, one thread, files from the page cache, no "
        "network, no Dask, nothing gathered (`benchmarks/bound.py`)",
    ),
    "odc-tuned": Contender(
        "odc-stac, tuned",
        "`odc.stac.load` per month with `chunks={'time': -1, 'x': 2048, 'y': 2048}`, `groupby='solar_day'`, uint16, "
        "`configure_rio(cloud_defaults=True)`, our median kernel in `map_blocks`, one compute; 2 workers × 4 threads "
        "that keep their heap as ours do; GDAL's COG driver with level 1 on all cores",
        "odc.stac",
    ),
    "odc-documented": Contender(
        "odc-stac, documented",
        "as its documentation shows it: chunks of 2048, `groupby='solar_day'`, NaN, xarray's groupby and median; 2 × 4",
        "odc.stac",
    ),
    "stackstac-tuned": Contender(
        "stackstac, tuned",
        "`chunksize=(-1, 1, 2048, 2048)` per month, uint16, passes merged and our median kernel in `map_blocks`, one "
        "compute; 2 × 4, heaps as ours; GDAL's COG driver with level 1 on all cores. It can't use overviews",
        "stackstac",
    ),
    "lazycogs": Contender(
        "lazycogs",
        "`chunks={'time': -1, 'y': 2048, 'x': 2048}` per month, its day mosaics, uint16, our median kernel; one "
        "process with 8 of Dask's threads, because it can't be pickled",
        "lazycogs",
        newer=True,
    ),
    "rasteret": Contender(
        "rasteret",
        "its index of headers is made first and counts, then one `read_window` a month, passes merged, our median "
        "kernel; one process, no Dask. It reads the native level only",
        "rasteret",
        newer=True,
    ),
    "peer": Contender(
        "the public peer's way",
        "`stackstac.stack(chunksize=(10, 3, 512, 512))` in float64, `.persist()`, `groupby('time.month')`, `median`, "
        "`.rio.to_raster()`; 2 workers × 1 thread. Only in the base case and at 100 m",
        "stackstac",
    ),
}


class Suite:
    """A suite on its way: what was measured, and where it is kept.

    Parameters
    ----------
    folder
        For the results.
    settings
        Whatever makes runs comparable; a folder with other settings isn't gone on with.

    Raises
    ------
    SystemExit
        when the folder holds something else
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.path = folder, folder / "suite.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.result: dict[str, Any] = {
            "format": FORMAT,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings,
            "machine": mosaic.machine(),
            "contenders": {},
            "left_out": {},
            "cases": {},
            "runs": [],
            "agreement": {},
            "notes": [],
        }
        if self.path.exists():
            found = json.loads(self.path.read_text())
            if found.get("format") != FORMAT or found["settings"] != settings:
                raise SystemExit(
                    f"{self.path} holds a suite of other settings. Expected the same ones, to go on with it. "
                    "Try another --output."
                )
            self.result = {**found, "notes": []}
            report.say(f"{len(self.result['runs'])} runs are there already")

    def save(self) -> None:
        """Write what there is, as a whole or not at all."""
        scratch = self.path.with_suffix(".new")
        scratch.write_text(json.dumps(self.result, indent=1) + "\n")
        scratch.replace(self.path)

    def done(self, case: str, turn: int, name: str) -> bool:
        """Tell whether a run has been made, and went well."""
        return any(
            (r["case"], r["round"], r["contender"]) == (case, turn, name) and not r.get("failed")
            for r in self.result["runs"]
        )

    def add(self, run: dict[str, Any]) -> None:
        """Take in a run; a failed one of before is replaced."""
        key = (run["case"], run["round"], run["contender"])
        runs = self.result["runs"]
        self.result["runs"] = [r for r in runs if (r["case"], r["round"], r["contender"]) != key] + [run]
        self.save()

    def round_s(self, case: str) -> float:
        """Return about how long a round of a case takes, from what was measured."""
        rounds: dict[int, float] = {}
        for run in self.result["runs"]:
            if run["case"] == case:
                rounds[run["round"]] = rounds.get(run["round"], 0.0) + run["took_s"]
        return max(rounds.values(), default=0.0)


def run_round(
    suite: Suite, name: str, case: Case, turn: int, contenders: Sequence[str], pythons: dict[str, str], given: Any
) -> None:
    """Run one round of one case: every contender once."""
    todo = [n for n in contenders if not suite.done(name, turn, n) and (n != "peer" or case.peer)]
    if not todo:
        return
    root = prepare(case.shape, given.cache)
    warm(root)
    work = suite.folder / "work" / name
    with _serve(root, case) as server:
        first, last = case.shape.month_names[0], case.shape.month_names[-1]
        area = aoi(case.side_px, case.shape.resolution_m)
        dates = f"{first}-01", mosaic.last_day(last)
        task = mosaic.Task(server.url, server.collection, area, *dates, case.resolution)
        planned = mosaic.plan(task)
        grid = Grid.from_plan(planned)
        only = grid.crs if case.one_zone else None
        tiles = needed_tiles(root, grid, only)
        suite.result["cases"][name] = {
            **asdict(case),
            "grid": asdict(grid),
            "units": len(planned["units"]),
            "scenes": sum(unit["scenes"] for unit in planned["units"]),
            "passes": sum(unit["passes"] for unit in planned["units"]),
            "blocks": planned["blocks"],
            "block_px": planned["block_px"],
            "needed_bytes": sum(tile.size for tile in tiles),
            "needed_tiles": len(tiles),
        }
        for contender in todo if turn % 2 == 0 else reversed(todo):
            report.say(f"{name}, round {turn + 1}: {CONTENDERS[contender].title} …")
            folder = work / contender
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            command = None
            if contender == "bound":
                job = BoundJob(grid, tiles, str(folder))
                command = [sys.executable, "-m", "benchmarks.bound", str(job.save(folder / "input.json"))]
            began = time.monotonic()
            run: dict[str, Any] = {"case": name, "round": turn, "contender": contender}
            try:
                measured = mosaic.run_one(
                    *(contender, task, grid, server, folder, turn),
                    python=pythons[contender],
                    command=command,
                    timeout_s=given.timeout,
                )
            except CommandError as exc:
                run |= {"failed": str(exc)[-2000:]}
                shutil.rmtree(folder)
                report.say(f"  failed: {str(exc).strip().splitlines()[-1]}")
            else:
                figures = measured.figures()
                if contender == "bound":
                    figures |= {"fetched": measured.phases["fetched"], "requests": None}
                run |= {**figures, "phases": measured.phases, "cost": asdict(measured.cost)}
                report.say(
                    f"  {figures['wall_s']:.1f} s, {figures['cpu_s']:.1f} CPU-s, {figures['peak_pss'] / 1e6:.0f} MB"
                )
            suite.add({**run, "took_s": round(time.monotonic() - began, 2)})
        _compare(suite, name, work, scenes_over(root, grid, only))
    shutil.rmtree(work)


def _compare(suite: Suite, case: str, work: Path, covered: Any) -> None:
    """Compare what was made with ours, once per case; ours is kept for whoever comes later."""
    made = [p.name for p in work.iterdir() if mosaic.pictures(p)]
    reference = suite.folder / "ours" / case
    if "ours" in made and not reference.exists():
        reference.mkdir(parents=True)
        for month, path in mosaic.pictures(work / "ours").items():
            shutil.copyfile(path, reference / f"{month:02d}.tif")
    mine = mosaic.pictures(reference)
    found = suite.result["agreement"].setdefault(case, {})
    for name in made:
        theirs = mosaic.pictures(work / name)
        if name != "ours" and name not in found and mine.keys() == theirs.keys():
            found[name] = mosaic.agreement(reference, work / name, covered)
            found[name]["same_bytes"] = all(mine[m].read_bytes() == theirs[m].read_bytes() for m in mine)
    suite.save()


def _serve(root: Path, case: Case) -> ServerProcess:
    catalogue = Catalogue.from_directory(root)
    if case.one_zone:
        crs = _zone(case)
        catalogue = Catalogue(root, items_of(root, crs), catalogue.collection)
    return ServerProcess(catalogue, latency_s=case.latency_ms / 1000)


def _zone(case: Case) -> str:
    """Return the CRS that the grid will have: our own choice for the area."""
    from eoap_dask.geo.crs import crs_name
    from eoap_dask.geo.grid import grid_for
    from eoap_dask.geo.parse import parse_aoi

    return crs_name(grid_for(parse_aoi(aoi(case.side_px, case.shape.resolution_m)), "auto", case.resolution))


def available(names: Sequence[str], peer_python: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the interpreter of each contender that is here, and why the others aren't."""
    pythons: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name in names:
        contender = CONTENDERS[name]
        python = peer_python if contender.newer and peer_python else sys.executable
        code = "import sys, importlib; [importlib.import_module(m) for m in sys.argv[1:]]"
        # what is imported now is in the page cache, and compiled, when time is taken
        modules = [contender.package, "rioxarray", "pystac_client"] if contender.package else ["eoap_dask.cli.main"]
        found = subprocess.run(
            [python, "-c", code, *modules], env=environment(), capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            pythons[name] = python
        elif contender.newer and not peer_python and sys.version_info < (3, 12):
            left_out[name] = "needs Python 3.12: try --peer-python with the interpreter of benchmarks/peers.txt"
        else:
            left_out[name] = found.stderr.strip().splitlines()[-1]
    return pythons, left_out


def versions(pythons: dict[str, str]) -> dict[str, str]:
    """Return name and version of what the contenders are made of, as their interpreters have them."""
    code = "import sys, importlib.metadata as m; print(sys.version.split()[0], m.version(sys.argv[1]))"
    out = {}
    for name, python in pythons.items():
        package = CONTENDERS[name].package.replace("odc.stac", "odc-stac")
        if package:
            found = subprocess.run([python, "-c", code, package], capture_output=True, text=True, check=True)
            interpreter, version = found.stdout.split()
            out[name] = f"{package} {version}, Python {interpreter}"
    return out


def turns(suite: Suite, cases: Sequence[str], rounds: int, minutes: float | None) -> Iterator[tuple[str, int]]:
    """Yield the (case, round) that there is time for. The first round of every case is always made."""
    started = time.monotonic()
    dropped: dict[str, int] = {}
    for turn in range(rounds):
        for case in cases:
            over = time.monotonic() - started + suite.round_s(case) > (minutes or 0) * 60
            if turn and minutes is not None and over:
                dropped[case] = dropped.get(case, 0) + 1
                continue
            yield case, turn
    took = (time.monotonic() - started) / 60
    if dropped:
        what = ", ".join(f"{case}: {number}" for case, number in dropped.items())
        suite.result["notes"].append(f"Rounds dropped because {minutes:g} minutes were given, by case: {what}.")
    if minutes is not None and took > minutes:
        suite.result["notes"].append(
            f"It took {took:.0f} minutes where {minutes:g} were given: the first round of a case is always made."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the suite; write JSON, a table and charts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("suite"), metavar="DIR", help="for results [%(default)s]")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--cases", nargs="+", choices=tuple(all_cases()), default=tuple(all_cases()), metavar="NAME")
    parser.add_argument("--contenders", nargs="+", choices=tuple(CONTENDERS), default=tuple(CONTENDERS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="[%(default)s]")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="begin no round after the first that would take it over this time"
    )
    parser.add_argument("--months", type=int, metavar="N", help="of every case [2]")
    parser.add_argument("--peer-python", metavar="FILE", help="interpreter of Python 3.12 with benchmarks/peers.txt")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="of a run [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds, to see that it works")
    parser.add_argument("--prepare", action="store_true", help="only make the archives, which takes minutes")
    parser.add_argument("--report", action="store_true", help="only make the table and the charts again")
    given = parser.parse_args(arguments)
    cases = {n: c for n, c in all_cases(tiny=given.tiny).items() if n in given.cases}
    if given.months:
        cases = {n: replace(c, months=given.months) for n, c in cases.items()}
    if given.prepare:
        for case in cases.values():
            report.say(f"archive {case.shape.name} …")
            prepare(case.shape, given.cache)
        return
    suite = Suite(given.output, {"tiny": given.tiny, "months": given.months})
    if not given.report:
        pythons, left_out = available(given.contenders, given.peer_python)
        suite.result["left_out"] = {**suite.result["left_out"], **left_out}
        kept = {n: {**asdict(CONTENDERS[n]), "version": versions(pythons).get(n, "")} for n in pythons}
        suite.result["contenders"] = {**suite.result["contenders"], **kept}
        suite.result["command"] = " ".join(["python -m benchmarks.suite", *(arguments or sys.argv[1:])])
        suite.result["load"] = os.getloadavg()
        for name in cases:
            prepare(cases[name].shape, given.cache)  # not within anybody's time
        for name, turn in turns(suite, tuple(cases), 1 if given.tiny else given.rounds, given.minutes):
            run_round(suite, name, cases[name], turn, tuple(pythons), pythons, given)
        suite.save()
    text = report.markdown(suite.result)
    (given.output / "suite.md").write_text(text)
    report.chart(suite.result, given.output)
    print(text)


if __name__ == "__main__":
    main()
