"""What chips of fields cost: ``python -m benchmarks.chips --help``.

Four questions, on the demo's farmland:

- *Script*: how does `crop-chips` stand beside the same chips by a script with stackstac, geocube and rioxarray, and how
  much does it fetch beside the source tiles that hold a pixel of a chip?
- *Workers*: what does a second worker bring, of one thread each, where every answer is late?
- *Fields*: what does it take to plan the chips of a large file of fields?
- *Memory*: does it depend on how many chips there are?
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer

from benchmarks.archive import DEFAULT_CACHE, Grid, needed_tiles, warm
from benchmarks.chip_contenders import BANDS, CellJob, ChipJob
from benchmarks.measure import measure
from benchmarks.parts import kept, medians, run_of, say, tell
from benchmarks.processes import SchedulerAndWorkers
from eoap_dask import CropChipsParams, crop_chips
from eoap_dask.applications.crop_chips.application import APPLICATION
from eoap_dask.applications.crop_chips.layout import PlannedCell
from eoap_dask.applications.crop_chips.request import Request
from eoap_dask.demo.farmland import CROPS
from eoap_dask.demo.fields import FIELDS_FILE, make_fields
from eoap_dask.demo.process import ServerProcess
from eoap_dask.geo.window import grid_bounds
from eoap_dask.run.events import EVENTS_FILE, read_events

PARTS = ("script", "workers", "fields", "memory")
_TILE_PX = 10_980
"""Side of a Sentinel-2 tile of 10 m."""
_SPACING_M, _SIDE_M = 220, 180
"""Of fields where they are counted in millions: 3.2 ha each."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    size_px: int
    """Side of the tile."""
    grid: int
    """Rows and columns of cells, where it is compared."""
    late_grid: int
    """The same where every answer is late; there with one chip a cell, far from the others as in a country."""
    fields: int
    """Fields whose chips are planned."""
    few_grid: int
    many_grid: int
    """Rows and columns of cells, for memory."""
    small_px: int = 64
    """Side of chips, for memory."""
    late_s: float = 0.25
    """What the server waits where every answer is late."""


FULL = Sizes(4096, 4, 6, 1_000_000, few_grid=10, many_grid=32)
TINY = Sizes(640, 1, 1, 20_000, few_grid=1, many_grid=3, small_px=32, late_s=0.05)


@dataclass(frozen=True)
class Farm:
    """The archive, served."""

    root: Path
    server: ServerProcess

    def command(self, output: Path, *more: object, fields: Path | None = None) -> list[str]:
        """Return our command."""
        return [
            *(sys.executable, "-m", "eoap_dask", "crop-chips", "--quiet", "--stac", self.server.url),
            *("--fields", str(fields or self.root / FIELDS_FILE), "--output-dir", str(output), *map(str, more)),
        ]

    def request(self, grid: int) -> Request:
        """Return what a command with a grid of cells asks for."""
        params = CropChipsParams(stac=self.server.url, fields=str(self.root / FIELDS_FILE), grid=grid)
        return APPLICATION.understand(params)


def prepare(size_px: int, cache: Path) -> Path:
    """Make the archive, or find it in the cache; return its directory."""
    return kept(cache / f"fields-{size_px}px", lambda root: make_fields(root, size_px=size_px))


# --- the script


def beside_a_script(farm: Farm, sizes: Sizes, folder: Path, repeat: int) -> dict[str, Any]:
    """Run both in turn; return what each cost, how far they agree, and what had to be fetched."""
    request = farm.request(sizes.grid)
    layout, params = request.layout, request.params
    cells = [_cell_job(cell) for cell in layout.cells]
    runs: list[dict[str, Any]] = []
    for turn in range(repeat):
        for name in ("ours", "script") if turn % 2 == 0 else ("script", "ours"):
            say(f"round {turn + 1} of {repeat}: {name} …")
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            farm.server.stats.reset()
            if name == "ours":
                cost, _ = measure(farm.command(output, "--grid", sizes.grid))
            else:
                output.mkdir()
                job = ChipJob(
                    *(farm.server.url, farm.server.collection, f"{params.start_date}/{params.end_date}"),
                    *(params.max_cloud_cover, str(farm.root / FIELDS_FILE)),
                    *({crop.code: crop.kind for crop in CROPS}, params.chip_size, tuple(cells), str(output)),
                )
                cost, _ = measure(
                    [sys.executable, "-m", "benchmarks.chip_contenders", str(job.save(output / "job.json"))]
                )
            runs.append(run_of(name, cost, fetched=farm.server.stats.bytes_sent))
    found = {
        "chips": sum(len(cell.chips) for cell in cells),
        "cells": len(cells),
        "runs": runs,
        "agreement": agreement(folder / "ours", folder / "script"),
        "needed_bytes": _needed(farm, request),
    }
    of = medians(runs)
    return {
        **found,
        "medians": of,
        "script_of_ours": {key: of["script"][key] / of["ours"][key] for key in of["ours"]},
        "fetched_of_needed": of["ours"]["fetched"] / found["needed_bytes"],
    }


def _cell_job(cell: PlannedCell) -> CellJob:
    bounds = grid_bounds(cell.geobox)
    degrees = Transformer.from_crs(cell.crs, 4326, always_xy=True).transform_bounds(*bounds)
    places = tuple((chip.name, chip.window.row, chip.window.col) for chip in cell.chips)
    return CellJob(int(cell.crs.removeprefix("EPSG:")), bounds, degrees, places)


def _needed(farm: Farm, request: Request) -> int:
    """Return the bytes of the source tiles that hold a pixel of some chip, of the scenes that are used."""
    items = APPLICATION.find(request)
    used = {item["id"] for item in items.features}
    tiles = {}
    for cell, chip in request.layout.chips:
        a, b, c, d, e, f = cell.transform(chip)
        for tile in needed_tiles(
            farm.root, Grid(cell.crs, chip.window.shape, (a, b, c, d, e, f)), bands=(*BANDS, "scl")
        ):
            if tile.item in used:
                tiles[tile.path, tile.offset] = tile.size
    return sum(tiles.values())


def agreement(ours: Path, script: Path) -> dict[str, float]:
    """Return which share of the images' values is equal within 1, and of the masks' altogether."""
    shares = {}
    for kind, step in (("images", 1), ("masks", 0)):
        equal = total = 0
        for path in sorted((script / kind).glob("*.tif")):
            mine = next(ours.glob(f"*/{kind}/{path.name}"), None)
            if mine is None:  # too little of it was seen
                continue
            with rasterio.open(mine) as one, rasterio.open(path) as other:
                if (one.crs, one.transform, one.shape) != (other.crs, other.transform, other.shape):
                    raise ValueError(f"the grids of {path.name} differ")
                x, y = one.read().astype(int), other.read().astype(int)
            equal += int((abs(x - y) <= step).sum())
            total += x.size
        shares[kind] = equal / total
    return shares


# --- workers


def second_worker(farm: Farm, sizes: Sizes, folder: Path, repeat: int) -> dict[str, Any]:
    """Return the seconds that chips take on one worker and on two, of one thread each, where answers are late."""
    seconds: dict[str, list[float]] = {"1": [], "2": []}
    for turn in range(repeat):
        for workers, found in seconds.items():  # side by side: the machine may be busy now and then
            say(f"round {turn + 1} of {repeat}: workers: {workers} …")
            place = folder / f"{turn}-{workers}"
            with SchedulerAndWorkers(place / "cluster", workers=int(workers), env={"GDAL_CACHEMAX": "16"}) as cluster:
                cluster.wait_for_workers()
                params = replace(farm.request(sizes.late_grid).params, max_chips=1)
                run = crop_chips(params, output_dir=place / "out", cluster=cluster.address)
            found.append(_units_s(run.output / EVENTS_FILE))
            shutil.rmtree(place)
    ratios = [one / two for one, two in zip(seconds["1"], seconds["2"], strict=True)]
    return {"latency_s": sizes.late_s, "seconds": seconds, "ratio": median(ratios), "ratios": ratios}


def _units_s(events: Path) -> float:
    """Return the time from the first unit's start to the last one's end: without the cluster's start and the search."""
    times = [
        datetime.fromisoformat(event["time"])
        for event in read_events(events)
        if event["kind"] in {"unit-started", "unit-done"}
    ]
    return (max(times) - min(times)).total_seconds()


# --- fields


def plan_of_many(farm: Farm, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Return what it costs to plan the chips of many fields, with scenes over all of them."""
    folder.mkdir()
    fields, items = folder / "many.gpkg", folder / "items.json"
    across = round(sizes.fields**0.5)
    say(f"{across**2} fields …")
    _write_fields(fields, across)
    items.write_text(json.dumps(_items_over(farm, across * _SPACING_M)))
    more = ("--items", items, "--allow-host", "127.0.0.1", "--dry-run", "--json")
    command = farm.command(folder / "out", *more, fields=fields)
    cost, told = measure(command)
    facts = json.loads(told)["facts"]
    return {"fields": sum(facts["fields"].values()), "cells": facts["cells"], "chips": facts["chips"], **asdict(cost)}


_WEST, _NORTH = 300_000, 4_700_040
"""Corner of the many fields, in EPSG:32630."""


def _write_fields(path: Path, across: int) -> None:
    """Write a square of square fields, whose crops are all there are, in turn."""
    import geopandas
    import shapely

    col, row = (axis.ravel() for axis in np.meshgrid(np.arange(across), np.arange(across)))
    left, top = _WEST + 20 + col * _SPACING_M, _NORTH - 20 - row * _SPACING_M
    codes = np.array([crop.code for crop in CROPS])
    table = geopandas.GeoDataFrame(
        {"id": np.arange(len(col)), "EC_hcat_c": codes[(7 * row + 3 * col) % len(codes)]},
        geometry=shapely.box(left, top - _SIDE_M, left + _SIDE_M, top),
        crs=32630,
    )
    table.to_crs(4326).to_file(path, layer="fields", driver="GPKG", engine="pyogrio")


def _items_over(farm: Farm, side_m: float) -> dict[str, Any]:
    """Return the archive's items as of tiles that lie beside each other over a square: enough for a plan."""
    items = json.loads((farm.root / "items.json").read_text())
    step = _TILE_PX * 10
    tiles = range(int(np.ceil(side_m / step)))
    features = [
        _moved(item, farm.server.files_url, _WEST + step * col, _NORTH - step * row, f"{row}{col}")
        for item in items["features"]
        for row in tiles
        for col in tiles
    ]
    return {**items, "features": features}


def _moved(item: Mapping[str, Any], home: str, west: float, north: float, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(item))
    found["id"] = f"{item['id']}_{name}"
    for asset in found["assets"].values():
        asset["href"] = f"{home}/{asset['href']}"
        if "proj:transform" in asset:
            size = asset["proj:transform"][0]
            asset["proj:shape"] = [int(_TILE_PX * 10 / size)] * 2
            asset["proj:transform"] = [size, 0, west, 0, -size, north]
    found["properties"].pop("proj:bbox", None)
    corners = [(west, north), (west, north - _TILE_PX * 10), (west + _TILE_PX * 10, north - _TILE_PX * 10)]
    corners += [(west + _TILE_PX * 10, north), (west, north)]
    to_degrees = Transformer.from_crs(32630, 4326, always_xy=True)
    ring = [to_degrees.transform(*corner) for corner in corners]
    found["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    lon, lat = zip(*ring, strict=True)
    found["bbox"] = [min(lon), min(lat), max(lon), max(lat)]
    return found


# --- memory


def memory_of_many(farm: Farm, sizes: Sizes, folder: Path, repeat: int) -> dict[str, Any]:
    """Return the memory of few chips and of ten times as many, small ones of one band."""
    runs = []
    for turn in range(repeat):
        for name, grid in (("few", sizes.few_grid), ("many", sizes.many_grid)):
            say(f"round {turn + 1} of {repeat}: {name} chips …")
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            more = ("--grid", grid, "--chip-size", sizes.small_px, "--min-distance", 2 * sizes.small_px)
            cost, _ = measure(farm.command(output, *more, "--bands", "red", "--min-fields", 1))
            runs.append(run_of(name, cost, chips=len(list(output.glob("*/images/*.tif")))))
    of = medians(runs)
    return {"runs": runs, "medians": of, "ratio": of["many"]["peak_pss"] / of["few"]["peak_pss"]}


# --- all of it


def compare(sizes: Sizes, cache: Path, *, parts: Sequence[str], repeat: int, latency_s: float) -> dict[str, Any]:
    """Measure the parts, and return them as JSON-like values."""
    say(f"an archive of {sizes.size_px} × {sizes.size_px} px …")
    root = prepare(sizes.size_px, cache)
    result: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "sizes": asdict(sizes),
        "latency_s": latency_s,
        "source_bytes": warm(root),
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch:
        for part in parts:
            late = sizes.late_s if part == "workers" else latency_s if part == "script" else 0.0
            folder = Path(scratch) / part
            folder.mkdir()
            with ServerProcess(root, latency_s=late) as server:
                farm = Farm(root, server)
                if part == "script":
                    result[part] = beside_a_script(farm, sizes, folder, repeat)
                elif part == "workers":
                    result[part] = second_worker(farm, sizes, folder, repeat)
                elif part == "fields":
                    result[part] = plan_of_many(farm, sizes, folder / "many")
                else:
                    result[part] = memory_of_many(farm, sizes, folder, repeat)
            shutil.rmtree(folder)
    return result


def table(result: Mapping[str, Any]) -> str:
    """Return the result for people."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"Farmland of {result['sizes']['size_px']} px, {result['cores']} cores."
    if "script" in result:
        found = result["script"]
        yield f"\n{found['chips']} chips in {found['cells']} cells; latency {1000 * result['latency_s']:g} ms:\n"
        yield "| | wall s | CPU s | memory MB | fetched MB |"
        yield "|---|--:|--:|--:|--:|"
        names = {"ours": "`crop-chips`", "script": "a script with stackstac, geocube, rioxarray"}
        for name, m in found["medians"].items():
            yield (
                f"| {names[name]} | {m['wall_s']:.1f} | {m['cpu_s']:.1f} | {m['peak_pss'] / 1e6:.0f} "
                f"| {m['fetched'] / 1e6:.0f} |"
            )
        s, shares = found["script_of_ours"], found["agreement"]
        yield (
            f"\nThe script takes {s['wall_s']:.1f} times as long, {s['cpu_s']:.1f} times the processor time and "
            f"{s['peak_pss']:.1f} times the memory, and fetches {s['fetched']:.1f} times as much; ours fetches "
            f"{found['fetched_of_needed']:.2f} times the tiles that hold a pixel of a chip. Equal are "
            f"{shares['images']:.3%} of the images' values, within 1, and {shares['masks']:.3%} of the masks'."
        )
    if "workers" in result:
        found = result["workers"]
        one, two = (median(found["seconds"][workers]) for workers in ("1", "2"))
        yield (
            f"\n1 → 2 workers at {1000 * found['latency_s']:g} ms: {one:.1f} s → {two:.1f} s, "
            f"{found['ratio']:.2f} times as fast."
        )
    if "fields" in result:
        found = result["fields"]
        yield (
            f"\nPlanning {found['chips']} chips of {found['fields']} fields: {found['wall_s']:.1f} s, "
            f"{found['peak_pss'] / 1e9:.2f} GB."
        )
    if "memory" in result:
        found = result["memory"]
        few, many = found["medians"]["few"], found["medians"]["many"]
        yield (
            f"\nMemory of {few['chips']:.0f} and {many['chips']:.0f} small chips: {few['peak_pss'] / 1e6:.0f} MB and "
            f"{many['peak_pss'] / 1e6:.0f} MB, {found['ratio']:.2f} times as much."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    possible = tuple(part for part in PARTS if part != "script" or find_spec("geocube"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chips", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps the archive [%(default)s]")
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
