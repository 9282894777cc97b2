"""The suite of benchmarks, at its tiny size: what must not depend on the machine is held to its limits here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.archive import Grid, NeededTile, Shape, aoi, needed_tiles, prepare
from benchmarks.bound import Costs, Tiles
from benchmarks.suite import Suite, all_cases, turns

from benchmarks import report

pytestmark = pytest.mark.long

pytest.importorskip("stackstac")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
SETTINGS = {"tiny": True, "months": None}


def run(output: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.suite", "--tiny", "--output", output, "--cache", cache, *arguments]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    output = tmp_path_factory.mktemp("suite")
    for names, cases in (
        (("ours", "bound"), ("base", "one-zone")),
        (("ours", "ours-gdal", "stackstac-tuned", "rasteret"), ("base",)),  # goes on where the first ended
    ):
        done = run(output, cache, "--cases", *cases, "--contenders", *names)
        assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "suite.json").read_text()))


def of(result: dict[str, Any], case: str, contender: str) -> dict[str, Any]:
    (found,) = report.runs_of(result, case, contender)
    return found


@pytest.mark.cluster
@pytest.mark.parametrize("case", ["base", "one-zone"])
def test_ours_keeps_to_its_limits(result: dict[str, Any], case: str) -> None:
    about = result["cases"][case]
    for name in ("ours", "ours-gdal") if case == "base" else ("ours",):
        ours = of(result, case, name)
        assert 0 < ours["tasks"] <= 2 * about["blocks"]
        assert 0 < ours["graph_bytes"] <= 2000 * ours["tasks"]
        assert ours["cost"]["left_behind"] == 0
    assert about["needed_bytes"] <= of(result, case, "ours")["fetched"] <= 1.15 * about["needed_bytes"]
    assert of(result, case, "bound")["fetched"] == about["needed_bytes"]


@pytest.mark.cluster
def test_all_make_the_same(result: dict[str, Any]) -> None:
    found = result["agreement"]["base"]
    assert found["ours-gdal"]["same_bytes"]
    assert found["stackstac-tuned"]["within_1"] > 0.98
    # with one zone only there is nothing that the bound leaves out
    assert result["agreement"]["one-zone"]["bound"]["equal"] == 1
    assert result["agreement"]["base"]["bound"]["equal"] < 1
    zones = result["cases"]
    assert zones["one-zone"]["scenes"] == zones["base"]["scenes"] / 2
    assert zones["one-zone"]["passes"] == zones["base"]["passes"]


@pytest.mark.cluster
def test_who_is_not_here_is_named(result: dict[str, Any], folder: Path) -> None:
    here = {r["contender"] for r in result["runs"]}
    assert here | result["left_out"].keys() == {"ours", "ours-gdal", "bound", "stackstac-tuned", "rasteret"}
    assert {"ours", "ours-gdal", "bound", "stackstac-tuned"} <= here
    text = (folder / "suite.md").read_text()
    for name, why in result["left_out"].items():
        assert f"| {name} | **not here**: {why} |" in text
    assert "| base: bytes fetched against the needed tiles | ≤ 1.15 |" in text
    assert (folder / "suite.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "suite.svg").read_text()


@pytest.mark.cluster
def test_a_suite_that_was_killed_goes_on(result: dict[str, Any], folder: Path, cache: Path, tmp_path: Path) -> None:
    lost = ("one-zone", "bound")
    rest = [r for r in result["runs"] if (r["case"], r["contender"]) != lost]
    (tmp_path / "suite.json").write_text(json.dumps({**result, "runs": rest}))
    done = run(tmp_path, cache, "--cases", "base", "one-zone", "--contenders", "ours", "bound")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "suite.json").read_text())
    assert after["runs"][:-1] == rest
    assert (after["runs"][-1]["case"], after["runs"][-1]["contender"]) == lost
    assert after["agreement"] == result["agreement"]
    other = run(tmp_path, cache, "--months", "2", "--cases", "base", "--contenders", "bound")
    assert other.returncode == 1
    assert "Try another --output." in other.stderr


def test_time_that_runs_out_costs_rounds_and_no_contender(tmp_path: Path) -> None:
    suite = Suite(tmp_path, SETTINGS)
    assert list(turns(suite, ("a", "b"), 2, None)) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert suite.result["notes"] == []
    suite.add({"case": "a", "round": 0, "contender": "ours", "took_s": 400.0})
    suite.add({"case": "a", "round": 0, "contender": "bound", "took_s": 300.0})
    suite.add({"case": "b", "round": 0, "contender": "ours", "took_s": 500.0})
    # there are ten minutes, and nobody knows better than that a takes nearly twelve
    assert list(turns(suite, ("a", "b"), 3, 10.0)) == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    assert suite.result["notes"] == ["Rounds dropped because 10 minutes were given, by case: a: 2."]


def test_a_failed_run_is_told_and_made_again(tmp_path: Path) -> None:
    suite = Suite(tmp_path, SETTINGS)
    run = {"case": "a", "round": 0, "contender": "ours", "took_s": 1.0}
    suite.add({**run, "failed": "first line\nout of memory"})
    assert not suite.done("a", 0, "ours")
    assert Suite(tmp_path, SETTINGS).result["runs"] == [{**run, "failed": "first line\nout of memory"}]
    suite.result["contenders"] = {"ours": {"title": "ours", "settings": "", "version": ""}}
    assert "- a, round 1, ours: out of memory" in report.markdown(suite.result)
    suite.add(run)
    assert suite.done("a", 0, "ours")
    assert suite.result["runs"] == [run]


def test_ratios_stay_within_a_round() -> None:
    def made(turn: int, contender: str, wall: float) -> dict[str, Any]:
        return {"case": "base", "round": turn, "contender": contender, "wall_s": wall}

    # the second round met a busy machine, which says nothing of the contenders
    runs = [made(0, "ours", 1.0), made(0, "peer", 11.0), made(1, "peer", 39.0), made(1, "ours", 3.0)]
    result = {"runs": [*runs, made(2, "peer", 5.0)], "cases": {"base": {}}}
    assert report.ratios(result, "base", "peer", "ours", "wall_s") == [11.0, 13.0]
    assert report.figure(result, "base", "ours", "wall_s") == 2.0


def test_every_case_differs_from_the_base_in_one_thing() -> None:
    for tiny in (True, False):
        base, *others = all_cases(tiny=tiny).values()
        for case in others:
            differing = {k for k, v in vars(case).items() if v != getattr(base, k)} - {"title", "peer"}
            if {"side_px", "size_px"} <= differing:  # the tiles grow with the area, so that as much of it is in both
                assert case.side_px / base.side_px == case.size_px / base.size_px == 2
                differing -= {"size_px"}
            assert len(differing) == 1


def test_the_bound_decodes_what_gdal_reads(cache: Path) -> None:
    import rasterio
    from rasterio.windows import Window

    root = prepare(Shape(640, months=1, dates=3), cache)
    west, south, east, north = (float(v) for v in aoi(448, 10.0).split(","))
    from eoap_dask.geo.crs import crs_name
    from eoap_dask.geo.grid import grid_for
    from eoap_dask.geo.parse import parse_aoi

    for resolution, level in ((10.0, None), (40.0, 1)):
        geobox = grid_for(parse_aoi(f"{west},{south},{east},{north}"), "auto", resolution)
        a, b, c, d, e, f = tuple(geobox.transform)[:6]
        tiles = needed_tiles(root, Grid(crs_name(geobox), tuple(geobox.shape), (a, b, c, d, e, f)))
        assert tiles
        costs = Costs()
        with Tiles(costs) as reader:
            for tile in tiles[:8]:
                options = {} if level is None else {"overview_level": round(np.log2(tile.transform[0] / 10)) - 1}
                with rasterio.open(tile.path, **options) as dataset:
                    window = Window(tile.col * tile.side, tile.row * tile.side, tile.side, tile.side)
                    expected = dataset.read(1, window=window)
                height, width = expected.shape
                assert np.array_equal(reader.decode(tile)[:height, :width], expected)
        assert costs.packed == sum(t.size for t in tiles[:8])


def test_the_bound_takes_no_other_format() -> None:
    tile = NeededTile(
        __file__, "a", "nir", "EPSG:32610", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), "uint16", 5, 2, 0, 10, 0, 0, 256
    )
    with Tiles(Costs()) as reader, pytest.raises(ValueError, match="isn't DEFLATE"):
        reader.decode(tile)
