"""``crop-chips`` as a command: what it refuses, plans, makes and tells."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from tests.support.command_line import Shell, make_shell

from eoap_dask.demo.fields import FieldsArchive, make_fields
from eoap_dask.demo.process import ServerProcess

SMALL = ("--grid", "3", "--chip-size", "64", "--min-distance", "300", "--max-chips", "2", "--split-block", "1")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> FieldsArchive:
    return make_fields(tmp_path_factory.mktemp("farm") / "archive", size_px=384)


@pytest.fixture(scope="module")
def served(farm: FieldsArchive) -> Iterator[str]:
    with ServerProcess(farm.root) as server:
        yield server.url


@pytest.fixture
def here(tmp_path: Path, farm: FieldsArchive) -> Shell:
    shell = make_shell(tmp_path)
    shutil.copyfile(farm.fields, shell.cwd / "fields.gpkg")
    return shell


def table(text: str) -> Any:
    return lambda shell: (shell.cwd / "table.csv").write_text(text)


def lines(shell: Shell) -> None:
    frame = geopandas.GeoDataFrame({"EC_hcat_c": ["1"]}, geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326)
    frame.to_file(shell.cwd / "lines.gpkg")


def no_crs(shell: Shell) -> None:
    geopandas.GeoDataFrame({"EC_hcat_c": ["1"]}, geometry=[shapely.box(0, 0, 1, 1)]).to_file(shell.cwd / "none.gpkg")


def truncated(shell: Shell) -> None:
    content = (shell.cwd / "fields.gpkg").read_bytes()
    (shell.cwd / "short.gpkg").write_bytes(content[: len(content) // 2])


def nothing(_: Shell) -> None:
    pass


FIELDS = ("--fields", "fields.gpkg", *SMALL)
WRONG: dict[str, tuple[Any, tuple[str, ...], int, str]] = {
    "no fields": (nothing, (), 2, "--fields is missing."),
    "no such file": (nothing, ("--fields", "none.gpkg"), 2, "There is no file 'none.gpkg'."),
    "no such layer": (nothing, (*FIELDS, "--layer", "felds"), 2, "has no layer 'felds'. Its layers are fields."),
    "no such attribute": (nothing, (*FIELDS, "--class-attribute", "crop"), 2, "has no attribute 'crop'."),
    "lines": (lines, ("--fields", "lines.gpkg"), 2, "of polygons"),
    "no CRS": (no_crs, ("--fields", "none.gpkg"), 2, "tells no CRS."),
    "truncated": (truncated, ("--fields", "short.gpkg"), 2, "can't be read as vector data"),
    "no table": (nothing, (*FIELDS, "--classes", "no.csv"), 2, "no.csv"),
    "a prefix twice": (
        table("class,name,code\n1,a,33*\n2,b,33*\n"),
        (*FIELDS, "--classes", "table.csv"),
        2,
        "33*",
    ),
    "no class of the table": (
        table("class,name,code\n1,moon_cheese,99*\n"),
        (*FIELDS, "--classes", "table.csv", "--dry-run"),
        3,
        "No cell has chips",
    ),
    "a chip larger than its cell": (nothing, ("--fields", "fields.gpkg", "--grid", "3"), 2, "Expected cells that are"),
    "no chips": (nothing, (*FIELDS, "--max-chips", "0"), 2, "--max-chips must be from 1 to 100000, got 0."),
    "a share of 2": (nothing, (*FIELDS, "--min-valid", "2"), 2, "--min-valid must be from 0 to 1, got 2"),
    "two shares": (nothing, (*FIELDS, "--split", "0.5", "--split", "0.5"), 2, "--split must be three shares"),
    "other classes": (nothing, (*FIELDS, "--other-class", "7"), 2, "--other-class must be 0 or 255, got 7."),
    "degrees": (nothing, (*FIELDS, "--crs", "EPSG:4326"), 2, "--crs must be projected"),
    "two kinds of cells": (
        nothing,
        ("--fields", "fields.gpkg", "--cells", "fields.gpkg", "--cell-size", "900"),
        2,
        "--cell-size can't be combined with --cells.",
    ),
    "a grid and cells": (
        nothing,
        (*FIELDS, "--cells", "fields.gpkg"),
        2,
        "--grid can't be combined with --cells.",
    ),
    "no such band": (nothing, (*FIELDS, "--bands", "mauve", "--dry-run"), 2, "'mauve'"),
    "no scenes": (
        nothing,
        (*FIELDS, "--start-date", "2019-01-01", "--end-date", "2019-01-02"),
        3,
        "No items of sentinel-2-l2a from 2019-01-01 to 2019-01-02 over the chips.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(name: str, here: Shell, served: str) -> None:
    prepare, arguments, code, sentence = WRONG[name]
    prepare(here)
    before = {path.name for path in here.cwd.iterdir()}
    done = here.call("crop-chips", "--stac", served, *arguments)
    assert done.returncode == code, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert sentence in error
    assert "Traceback" not in done.stderr
    assert {path.name for path in here.cwd.iterdir()} == before


@pytest.mark.long
def test_a_file_that_another_program_writes_to(here: Shell, served: str) -> None:
    with sqlite3.connect(here.cwd / "fields.gpkg", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = here.run("crop-chips", "--stac", served, *FIELDS)
        other.execute("ROLLBACK")
    assert done.returncode == 2
    assert "is locked by another program." in done.stderr


def test_a_plan_says_cells_chips_and_classes(here: Shell, served: str, farm: FieldsArchive) -> None:
    done = here.call("crop-chips", "--stac", served, *FIELDS, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    facts = plan["facts"]
    assert facts["cells"] == len(plan["units"])
    assert facts["chips"] == plan["blocks"]
    assert sum(facts["fields"].values()) == len(geopandas.read_file(farm.fields))
    assert sum(facts["splits"].values()) == facts["chips"]
    assert 0 < facts["pixels"]["wheat_barley_oats_triticale"] < facts["chips"] * 64 * 64
    assert plan["estimates"]["read_bytes"] > 0
    told = here.call("crop-chips", "--stac", served, *FIELDS, "--dry-run")
    assert f"\n  chips     {facts['chips']}\n" in told.stdout
    assert "1 crop" in told.stderr or "crops are in no class" in told.stderr


@pytest.mark.cluster
def test_chips_are_made_and_counted(here: Shell, served: str) -> None:
    done = here.run("crop-chips", "--stac", served, *FIELDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{here.cwd / 'crop-chips' / 'catalog.json'}\n"
    chips = len(list((here.cwd / "crop-chips").glob("*/images/*.tif")))
    assert len(list((here.cwd / "crop-chips").glob("*/masks/*.tif"))) == chips
    told = here.call("status", "crop-chips")
    assert f"\n  chips     {chips}\n" in told.stdout
    counts = json.loads(here.call("status", "crop-chips", "--json").stdout)["counts"]
    assert counts["chips"] == chips
    assert sum(counts["pixels"].values()) == chips * 64 * 64
    again = here.call("crop-chips", "--stac", served, *FIELDS)
    assert again.returncode == 0
    assert "Nothing to do" in again.stderr or "finished before" in again.stderr
    for changed in (("--seed", "5"), ("--split", "0", "--split", "0.5", "--split", "0.5")):
        other = here.call("crop-chips", "--stac", served, *FIELDS, *changed)
        assert other.returncode == 2, other.stderr
        assert changed[0].lstrip("-") in other.stderr


@pytest.mark.long
@pytest.mark.cluster
def test_other_splits_are_in_items_and_lists_alike(here: Shell, served: str) -> None:
    assert here.run("crop-chips", "--stac", served, *FIELDS).returncode == 0
    changed = ("--split", "0", "--split", "0.5", "--split", "0.5")
    split = here.run("crop-chips", "--stac", served, *FIELDS, *changed, "--overwrite")
    assert split.returncode == 0, split.stderr
    assert not (here.cwd / "crop-chips" / "splits" / "train.txt").read_text()
    found = {
        json.loads(path.read_text())["properties"].get("ml-aoi:split")
        for path in (here.cwd / "crop-chips").glob("*/*_chip*.json")
    }
    assert found <= {"validate", "test", None}
    assert found & {"validate", "test"}
