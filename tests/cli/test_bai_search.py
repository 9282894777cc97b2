"""``bai`` by dates: the clearest pass before and after is taken and named, from whatever holds the items."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import rasterio
from tests.support.command_line import Done, Shell, error_of, make_shell, read_json

from eoap_dask import search
from eoap_dask.cli.main import cli as root_command
from eoap_dask.files import sha256_of

UNIT = "bai-20210713-20210812"


def box_of(fire: Any) -> str:
    return ",".join(map(str, fire.archive.aoi_bbox))


@pytest.fixture(scope="module")
def found(fire: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Done]:
    """An area over both tiles; the dates are the defaults."""
    shell = make_shell(tmp_path_factory.mktemp("found"))
    return shell, shell.run("bai", "--stac", fire.server.url, "--aoi", box_of(fire))


def assets(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a unit but its item."""
    return {path.name: sha256_of(path) for path in folder.iterdir() if path.suffix != ".json"}


@pytest.mark.long
def test_the_clearest_passes_are_taken_and_said(found: tuple[Shell, Done], fire: Any) -> None:
    shell, done = found
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(("Before the fire:", "After the fire:"))]
    assert len(said) == 2
    assert "2021-07-13" in said[0]
    assert "2021-08-12" in said[1]
    item = read_json(shell.cwd / "burned-area" / UNIT / f"{UNIT}.json")
    by_day = {day: {i["id"] for i in fire.archive.items if day in i["id"]} for day in ("20210713", "20210812")}
    assert {len(ids) for ids in by_day.values()} == {2}  # one pass shows both tiles
    assert set(item["properties"]["eoap:pre_fire"]) == by_day["20210713"]
    assert set(item["properties"]["eoap:post_fire"]) == by_day["20210812"]
    assert {i["id"] for i in read_json(shell.cwd / "burned-area" / "items.json")["features"]} == set.union(
        *by_day.values()
    )
    shell.assert_tidy()


@pytest.mark.long
def test_the_fire_is_found_across_both_zones(found: tuple[Shell, Done], fire: Any) -> None:
    shell, _ = found
    item = read_json(shell.cwd / "burned-area" / UNIT / f"{UNIT}.json")
    assert item["properties"]["eoap:reprojected_scenes"] == 2
    with rasterio.open(shell.cwd / "burned-area" / UNIT / "severity.tif") as dataset:
        burned, seen = dataset.read(1) >= 4, dataset.read(1) > 0
        truth = fire.archive.burn_truth("2021-08", dataset.crs, dataset.transform, dataset.shape) > 0
    assert burned.sum() == pytest.approx((truth & seen).sum(), rel=0.02)
    assert (burned & truth).sum() > 0.97 * (truth & seen).sum()
    assert item["properties"]["eoap:burned_ha"] == pytest.approx(burned.sum() * 0.01)


@pytest.mark.long
def test_a_replay_reads_the_same_without_searching(found: tuple[Shell, Done], fire: Any, shell: Shell) -> None:
    before = found[0].cwd / "burned-area"
    asked = fire.server.stats.api_requests
    options = ("--items", before / "items.json", "--stac", fire.server.url, "--aoi", box_of(fire))
    done = shell.run("bai", *options)
    assert done.returncode == 0, done.stderr
    assert fire.server.stats.api_requests == asked
    assert assets(shell.cwd / "burned-area" / UNIT) == assets(before / UNIT)


@pytest.mark.long
def test_a_file_of_all_items_means_the_same(found: tuple[Shell, Done], fire: Any, shell: Shell) -> None:
    """Of all four passes, in another order."""
    items = search(box_of(fire), "2021-07-01", "2021-08-31", stac=fire.server.url)
    assert len(items) == 8
    document = read_json(items.save(shell.cwd.parent / "all.json"))
    document["features"].reverse()
    (shell.cwd.parent / "all.json").write_text(json.dumps(document))
    options = ("--items", shell.cwd.parent / "all.json", "--stac", fire.server.url, "--aoi", box_of(fire))
    plan = shell.call("bai", *options, "--dry-run", "--json")
    assert plan.returncode == 0, plan.stderr
    (unit,) = json.loads(plan.stdout)["units"]
    assert (unit["key"], unit["scenes"]) == (UNIT, 4)
    assert shell.files() == []


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        (["--pre-date", "2021-07-10"], "bai-20210708-20210812"),  # the clear one comes later
        (["--post-date", "2021-08-14"], "bai-20210713-20210817"),
        (["--window-days", "0"], UNIT),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_windows_end_before_and_begin_after(options: list[str], unit: str, fire: Any, shell: Shell) -> None:
    done = shell.call("bai", "--stac", fire.server.url, "--aoi", box_of(fire), *options, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["key"] for one in json.loads(done.stdout)["units"]] == [unit]


def test_a_search_that_was_cut_is_said(fire: Any, shell: Shell) -> None:
    """Of the newest two items after the fire, both are of the hazy pass."""
    options = ("--stac", fire.server.url, "--aoi", box_of(fire), "--max-items", "2", "--dry-run", "--json")
    done = shell.call("bai", *options)
    assert [one["key"] for one in json.loads(done.stdout)["units"]] == ["bai-20210713-20210817"]
    before, after, *_ = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert "The search before the fire was cut at 2 items" in before
    assert "The search after the fire was cut at 2 items" in after


@pytest.mark.parametrize(
    ("options", "says", "hint"),
    [
        (
            ["--pre-date", "2021-07-05", "--window-days", "2"],
            "No items of sentinel-2-l2a before the fire, 2021-07-03 to 2021-07-05, over",
            "Or try a larger --window-days.",
        ),
        (
            ["--post-date", "2021-09-01"],
            "No items of sentinel-2-l2a after the fire, 2021-09-01 to 2021-09-21, over",
            "Or try a larger --window-days.",
        ),
        (["--aoi", "10,45,10.1,45.1"], "before the fire, 2021-06-23 to 2021-07-13, over 10,45,10.1,45.1", ""),
        (
            ["--max-cloud-cover", "0.01"],
            "No items of sentinel-2-l2a before the fire",
            "Lowest cloud cover seen:",
        ),
    ],
    ids=["before", "after", "elsewhere", "clouds"],
)
def test_nothing_found(options: list[str], says: str, hint: str, fire: Any, shell: Shell) -> None:
    done = shell.call("bai", "--stac", fire.server.url, "--aoi", box_of(fire), *options)
    assert done.returncode == 3, done.stderr
    message = error_of(done)
    assert says in message
    assert hint in message
    assert shell.files() == []
    shell.assert_tidy()


# ----------------------------------------------------------------------------------------------------
# The examples of --help

EXAMPLES = re.findall(r"^  (bai\b.*)$", root_command.commands["bai"].epilog or "", re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.long
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example(example: str, fires: Any, shell: Shell) -> None:
    """Where they name items far away, those of the demo's fire in the same dialect are taken."""
    there = fires("earth-search-v0" if "$ITEMS" in example else "planetary-computer")
    west, south, east, north = there.archive.aoi_bbox
    ring = [[west, south], [east, south], [east, north], [west, south]]
    (shell.cwd / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    named = re.findall(r"\$ITEMS/\S+", example)
    for placeholder, url in zip(named, there.urls if named else (), strict=True):
        example = example.replace(placeholder, url)
    assert "$" not in example
    arguments = shlex.split(example)
    done = shell.run(*arguments, env={"EOAP_DASK_STAC": there.server.url})
    assert done.returncode == 0, done.stderr
    shell.assert_tidy()
    assert (shell.cwd / "burned-area" / "catalog.json").is_file() == ("--dry-run" not in arguments)
