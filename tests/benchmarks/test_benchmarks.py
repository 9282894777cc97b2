"""The benchmarks run, at a tiny size, so that they don't rot. What they measure is not judged here, but for bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stackstac")

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks") / "cache"


def run(program: str, *arguments: object, cwd: Path = ROOT, timeout: float = 150) -> str:
    command = [sys.executable, "-m", f"benchmarks.{program}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mosaic_compares_with_the_peer(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    shown = run("mosaic", "--tiny", "--cache", cache, "--contenders", "ours", "ours-scl", "peer", "--json", out)
    result: dict[str, Any] = json.loads(out.read_text())
    assert [r["contender"] for r in result["runs"]] == ["ours", "ours-scl", "peer"]
    for one in result["runs"]:
        cost = one["cost"]
        assert cost["exit_code"] == 0
        assert cost["left_behind"] == 0
        assert cost["processes"] >= 2
        assert 0 < cost["cpu_sampled_s"] <= cost["cpu_s"] + 0.1  # what the kernel accounts for is all of it
        assert 50e6 < cost["peak_process"] < cost["peak_rss"]
        assert 50e6 < cost["peak_pss"] <= cost["peak_rss"]
        assert one["requests"] > 0
        assert one["graph_bytes"] > 0
    ours, peer = result["summary"]["ours"], result["summary"]["peer"]
    assert ours["fetched"] <= peer["fetched"]
    assert ours["fetched"] >= result["task"]["needed_bytes"] > 0
    assert ours["tasks"] <= 2 * result["task"]["blocks"]
    assert ours["ratio"]["wall_s"] == [1, 1, 1]
    assert peer["ratio"]["fetched"][0] >= 1
    # two ways to the same pixels: GDAL's projection is approximate, and in the overlap of the tiles the peer counts
    # a pass twice
    agreed = result["agreement"]["peer"]
    assert agreed["within_1_one_tile"] > 0.98
    assert agreed["within_1"] > 0.8
    assert agreed["only_ours"] == agreed["only_theirs"] == 0
    assert "the public peer's way" in shown
    assert "% |" in shown


def test_mosaic_compares_with_odc(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("odc.stac")
    out, names = tmp_path / "result.json", ["odc-documented", "odc-tuned"]
    run("mosaic", "--tiny", "--cache", cache, "--contenders", "ours", *names, "--json", out)
    agreed = json.loads(out.read_text())["agreement"]
    assert list(agreed) == names
    assert all(a["within_1_one_tile"] > 0.98 for a in agreed.values())


def test_a_dense_month_fits(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    shown = run("dense", "--tiny", "--cache", cache, "--json", out)
    result = json.loads(out.read_text())
    assert result["cost"]["exit_code"] == 0
    assert result["scenes"] == 2 * result["month"]["passes"] == 10
    assert result["blocks"] > 0
    assert len(result["clusters"]) == 1
    assert "No worker was lost" in shown


def test_memory_is_compared(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    shown = run("memory", "--tiny", "--cache", cache, "--json", out)
    result = json.loads(out.read_text())
    assert list(result) == ["periods", "blocks"]
    for pair in result.values():
        assert pair["ratio"] > 0
        less, more = ([r["tasks"] for r in runs] for runs in pair["runs"].values())
        assert max(less) < min(more)
    assert "| 1 period | 2 periods |" in shown
    assert "| 1 block | 4 blocks |" in shown


def test_start_is_measured(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    run("start", "--tiny", "--cache", cache, "--json", out)
    result = json.loads(out.read_text())
    assert result["help"]["smallest"] > 0
    assert 0 < result["first_search"]["median"] <= result["first_read"]["median"] < result["small_mosaic"]["median"]


def test_workflows_are_measured(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("cwltool")
    pytest.importorskip("dask_gateway_server")
    out = tmp_path / "result.json"
    shown = run("cwl", "--tiny", "--cache", cache, "--json", out)
    result = json.loads(out.read_text())
    assert sum(values[0] for values in result["parts"].values()) == pytest.approx(result["workflow"][0])
    assert all(values[0] > 0 for values in (*result["parts"].values(), result["bare"], result["validate"]))
    assert result["ratio"][0] == result["workflow"][0] / result["bare"][0]
    assert "Workflow against command, pair by pair: " in shown


def test_scaling_is_measured(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    shown = run("scaling", "--tiny", "--cache", cache, "--json", out)
    result = json.loads(out.read_text())
    assert list(result["seconds"]) == ["1", "2"]
    (ratio,) = result["ratio"]["all"]
    assert ratio == pytest.approx(result["seconds"]["1"][0] / result["seconds"]["2"][0])
    (block,) = result["block"]["all"]
    assert block["blocks"] > 10
    assert block["client_ms"] > 0
    assert block["scheduler_ms"] > 0
    assert result["block"]["smallest_ms"] == pytest.approx(block["client_ms"] + block["scheduler_ms"])
    assert "| 1 → 2 workers, median of 1 |" in shown


def test_kills_are_tried_by_command(tmp_path: Path) -> None:
    pytest.importorskip("dask_gateway_server")
    out = tmp_path / "result.json"
    shown = run("kills", "--trials", "1", "--seed", "5", "--json", out)
    (result,) = json.loads(out.read_text())
    assert result["fault"] == ""
    assert (result["trial"]["where"], result["trial"]["victim"]) == ("local", "client")
    assert re.search(r"^1 trials, [01] with a kill, 0 faults$", shown, re.M)  # 0 where the run was quicker


# The measuring itself.


def measured(tmp_path: Path, code: str) -> dict[str, Any]:
    out = tmp_path / "measured.json"
    run("measure", out, sys.executable, "-c", code)
    return dict(json.loads(out.read_text()))


BURN = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.5: pass"


def test_time_of_finished_grandchildren_counts(tmp_path: Path) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    cost = measured(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert 0.5 <= cost["cpu_s"] < 3
    assert cost["processes"] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_time_of_orphans_counts(tmp_path: Path) -> None:
    cost = measured(tmp_path, f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN!r}])")
    assert 0.5 <= cost["cpu_s"] < 3
    assert cost["left_behind"] == 0


def test_memory_of_children_adds_up_and_shared_pages_count_once(tmp_path: Path) -> None:
    size = 120 << 20
    child = "import os, time; data = bytearray(os.urandom(1)) * SIZE\nif os.fork(): time.sleep(1.5); os.wait()\n"
    child = child.replace("SIZE", str(size)) + "else: time.sleep(1)"
    cost = measured(tmp_path, child)
    assert cost["processes"] == 2
    assert cost["peak_rss"] > 2 * size
    assert size < cost["peak_process"] < 1.5 * size
    if sys.platform == "linux":
        assert size < cost["peak_pss"] < 1.5 * size


def test_a_failure_is_told(tmp_path: Path) -> None:
    assert measured(tmp_path, "raise SystemExit(7)")["exit_code"] == 7


def test_archives_are_kept_and_the_area_fits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.archive import Grid, Shape, aoi, needed, prepare, scenes_over

    from eoap_dask.geo.crs import crs_name
    from eoap_dask.geo.grid import grid_for
    from eoap_dask.geo.parse import parse_aoi

    shape = Shape(640, months=2, dates=3)
    root = prepare(shape, cache)
    when = (root / "items.json").stat().st_mtime_ns
    assert prepare(shape, cache) == root
    assert (root / "items.json").stat().st_mtime_ns == when
    geobox = grid_for(parse_aoi(aoi(448, 10.0)), "auto", 10.0)
    assert 440 <= max(geobox.shape) <= 448
    a, b, c, d, e, f = tuple(geobox.transform)[:6]
    grid = Grid(crs_name(geobox), tuple(geobox.shape), (a, b, c, d, e, f))
    must = needed(root, grid)
    assert 0 < must <= sum(p.stat().st_size for p in root.rglob("B*.tif"))
    assert 0 < needed(root, grid, grid.crs) < must
    assert np.unique(scenes_over(root, grid)).tolist() == [1, 2]
    assert np.unique(scenes_over(root, grid, grid.crs)).tolist() == [0, 1]
    # an overview of half the size, the only one of so small a file
    coarse = Grid(grid.crs, (44, 44), (100.0, 0.0, c, 0.0, -100.0, f))
    assert 0 < needed(root, coarse) < must / 2


def test_burned_area_beside_the_least_and_a_script(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("odc.stac")
    out = tmp_path / "result.json"
    shown = run("burned_area", "--tiny", "--cache", cache, "--json", out)
    result: dict[str, Any] = json.loads(out.read_text())
    assert [r["contender"] for r in result["runs"]] == ["command", "script", "quarter", "full"]
    assert all(r["cost"]["exit_code"] == r["cost"]["left_behind"] == 0 for r in result["runs"])
    # the script is another way to the same: nothing of ours is in it
    assert min(result["agreement"].values()) > 0.999
    bound = result["bound"]
    # 3 × 3 tiles of each band, and of the classes, of either date: of 512 px, and of 256 px of those with 549 px a side
    assert bound["source_tiles"] == 2 * 4 * 9
    assert 0 < bound["fetched"] < result["source_bytes"]
    assert bound["encode_cpu_s"] > bound["coding_cpu_s"] > 0
    assert bound["encode_cpu_s"] > bound["decode_cpu_s"] > bound["read_cpu_s"] > 0
    assert bound["work_cpu_s"] == pytest.approx(
        sum(bound[f"{part}_cpu_s"] for part in ("read", "decode", "encode")), abs=1e-3
    )
    assert 0.5 < result["runs"][0]["fetched"] / result["source_bytes"] < 1  # all but the overviews
    for key in ("cpu_of_bound", "cpu_of_coding", "memory_full_of_quarter", "script_of_ours"):
        assert result["summary"][key]
    assert "The bound: reading" in shown
    assert "times the memory" in shown


def test_chips_beside_a_script(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("geocube")
    out = tmp_path / "result.json"
    shown = run("chips", "--tiny", "--cache", cache, "--json", out, timeout=240)
    result: dict[str, Any] = json.loads(out.read_text())
    script = result["script"]
    assert [one["contender"] for one in script["runs"]] == ["ours", "script"]
    assert all(one["exit_code"] == one["left_behind"] == 0 for one in script["runs"])
    # nothing of ours is in the script but the list of chips
    assert script["agreement"]["images"] > 0.999
    assert script["agreement"]["masks"] > 0.999
    assert 1 <= script["fetched_of_needed"] <= 1.5  # each tile once, whatever the chips and cells that need it
    assert result["workers"]["ratio"] > 0
    assert result["fields"]["fields"] == 141**2
    assert result["fields"]["chips"] > 400
    few, many = (result["memory"]["medians"][name]["chips"] for name in ("few", "many"))
    assert 0 < 3 * few < many
    assert "times the tiles that hold a pixel of a chip" in shown
    assert "1 → 2 workers at 50 ms" in shown


def test_change_beside_a_script(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("odc.stac")
    out = tmp_path / "result.json"
    shown = run("changes", "--tiny", "--cache", cache, "--json", out, timeout=240)
    result: dict[str, Any] = json.loads(out.read_text())
    script = result["script"]
    assert [one["contender"] for one in script["runs"]] == ["ours", "script"]
    assert all(one["exit_code"] == one["left_behind"] == 0 for one in script["runs"])
    assert script["agreement"]["images"] > 0.999
    assert script["agreement"]["scores"] > 0.99
    assert script["agreement"]["masks"] > 0.999
    few, many = (result["memory"]["medians"][name]["units"] for name in ("few", "many"))
    assert (few, many) == (5, 20)
    assert result["rerun"]["units"] == 5
    assert result["rerun"]["checksums_ms"] > 0
    assert "units finished:" in shown


def test_the_network(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    out = tmp_path / "result.json"
    shown = run("btc", "--tiny", "--cache", cache, "--json", out, timeout=240)
    (one,) = json.loads(out.read_text())["networks"].values()
    assert all(run["exit_code"] == run["left_behind"] == 0 for run in one["runs"])
    assert one["windows"] == 4
    assert min(one["bare_s"], one["around_s"]) > 0
    assert "| BTC-TOY |" in shown


def test_composites(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    shown = run("composites", "--tiny", "--json", out)
    rows = json.loads(out.read_text())["rows"]
    assert {row["method"] for row in rows} >= {"median", "geomedian", "medoid", "percentile:25"}
    for row in rows:
        assert row["ours_ns"] > 0
        assert row["agreement"] > 0.999, row
    assert "Nanoseconds of one thread" in shown
