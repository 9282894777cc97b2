"""The mosaic's packages on the demo archive: from a job file to catalogs, on a Gateway that comes and goes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pystac
import pytest
import yaml
from tests.support.command_line import Done, Shell, make_shell, read_json
from tests.support.cwl import WORKFLOWS, assert_nothing_left, clusters, last_line, outputs, write

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

pytestmark = pytest.mark.cluster

JOB = {"resolution": 100, "start-date": "2020-10-01", "end-date": "2020-12-31"}


@pytest.fixture(scope="module")
def ran(runner: None, calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Done]:
    """The owner's job, for the catalogue of the demo."""
    shell = make_shell(tmp_path_factory.mktemp("ran"))
    (shell.cwd / "job.yml").write_text(yaml.safe_dump({**JOB, "stac": calm.url}))
    done = shell.run("run-cwl", WORKFLOWS / "monthly-composite.cwl", "job.yml", "--outdir", "results", timeout=170)
    return shell, done


def test_it_hands_over_a_catalog(ran: tuple[Shell, Done]) -> None:
    shell, done = ran
    assert done.returncode == 0, done.stderr
    result = outputs(done)["stac-catalog"]
    root = shell.cwd / "results" / "monthly-mosaic"
    assert (result["class"], result["basename"], Path(result["path"])) == ("Directory", "monthly-mosaic", root)
    catalog = pystac.Catalog.from_file(str(root / "catalog.json"))
    items = list(catalog.get_items())
    assert [item.id for item in items] == [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]
    for item in items:
        for asset in item.assets.values():
            href = asset.get_absolute_href()
            assert href is not None
            assert Path(href).parent == root / item.id
            assert Path(href).is_file()
    assert all(not link["href"].startswith(("/", "http")) for link in read_json(root / "catalog.json")["links"])


def test_the_job_was_heard(ran: tuple[Shell, Done]) -> None:
    shell, _ = ran
    params = read_json(shell.cwd / "results" / "monthly-mosaic" / "run.json")["params"]
    assert params["resolution"] == 100
    assert params["bands"] == ["nir", "red", "green"]
    assert params["clip"] is True


def test_it_worked_on_the_cluster_that_was_asked_for(ran: tuple[Shell, Done]) -> None:
    _, done = ran
    (name,) = clusters(done)
    assert f"mosaic: starting the Dask cluster {name}, 4 workers of 2 cores and 4G" in done.stderr
    assert f"Joining the Dask cluster {name}" in done.stderr


def test_nothing_is_left_but_the_result(ran: tuple[Shell, Done]) -> None:
    shell, _ = ran
    assert_nothing_left(shell)
    assert sorted(path.name for path in shell.cwd.iterdir()) == ["job.yml", "results"]
    assert [path.name for path in (shell.cwd / "results").iterdir()] == ["monthly-mosaic"]


@pytest.mark.long
def test_it_is_what_the_command_makes(ran: tuple[Shell, Done], calm: DemoServer, shell: Shell) -> None:
    done = shell.mosaic("--stac", calm.url, "--resolution", 100)
    assert done.returncode == 0, done.stderr
    for path in sorted((shell.cwd / "monthly-mosaic").rglob("*.tif")):
        same = ran[0].cwd / "results" / path.relative_to(shell.cwd)
        assert same.read_bytes() == path.read_bytes(), path.name


@pytest.mark.long
def test_nothing_found(runner: None, calm: DemoServer, shell: Shell) -> None:
    (shell.cwd / "job.yml").write_text(yaml.safe_dump({"start-date": "2021-05-01", "end-date": "2021-05-31"}))
    job = write(shell.cwd / "job.json", {"start-date": "2021-05-01", "end-date": "2021-05-31", "stac": calm.url})
    done = shell.run("run-cwl", WORKFLOWS / "monthly-composite.cwl", job.name, timeout=170)
    assert done.returncode == 3
    assert "Error: No items of sentinel-2-l2a from 2021-05-01 to 2021-05-31" in done.stderr
    assert last_line(done).startswith(
        "Error: Step mosaic: cloudless-mosaic ended with exit code 3 (nothing usable found). What it said is above. "
    )
    assert outputs(done) == {"stac-catalog": None}
    assert_nothing_left(shell)
    assert not (shell.cwd / "monthly-mosaic").exists()
    (logs,) = (shell.cwd / "dask-logs").iterdir()
    assert "scheduler.log" in {path.name for path in logs.iterdir()}


@pytest.mark.long
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"aoi": "-122,47.7,-122.2,47.5"}, "has its south 47.7 above its north 47.5."),
        ({"bands": ["gren", "red"]}, "Perhaps 'green' is meant."),
        ({"start-date": "2020-10-01T10:00:00"}, "Leave out the time: try 2020-10-01."),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_makes_no_sense_is_refused_before_a_cluster_starts(
    given: dict[str, Any], says: str, runner: None, calm: DemoServer, shell: Shell
) -> None:
    job = write(shell.cwd / "job.json", {"stac": calm.url, **given})
    done = shell.run("run-cwl", WORKFLOWS / "monthly-composite.cwl", job.name, timeout=170)
    assert done.returncode == 2, done.stderr
    assert says in last_line(done)
    assert clusters(done) == []
    assert "clip" not in last_line(done)
    assert outputs(done) == {"stac-catalog": None}
    assert_nothing_left(shell)


@pytest.mark.long
def test_several_areas_at_once(runner: None, calm: DemoServer, shell: Shell) -> None:
    job = yaml.safe_load((WORKFLOWS / "monthly-composite-scatter.yml").read_text())
    small: dict[str, Any] = {**job, "resolution": 200, "end-date": "2020-10-31", "stac": calm.url}
    text = (WORKFLOWS / "monthly-composite-scatter.cwl").read_text()
    workflow = shell.cwd / "scatter.cwl"
    workflow.write_text(re.sub("clusterMaxCores: 8", "clusterMaxCores: 2", text))  # one worker each
    done = shell.run(
        *("run-cwl", "--parallel", "--parallel-max", 4, workflow.name),
        write(shell.cwd / "job.json", small).name,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert len(set(clusters(done))) == 2
    found = outputs(done)["stac-catalog"]
    assert [one["basename"] for one in found] == job["names"]
    boxes = [read_json(Path(one["path"]) / "collection.json")["extent"]["spatial"]["bbox"][0] for one in found]
    assert boxes[1][2] < boxes[0][0] < -122  # the second lies to the west
    assert_nothing_left(shell)


@pytest.mark.long
def test_areas_that_succeed_are_delivered_beside_one_that_fails(runner: None, calm: DemoServer, shell: Shell) -> None:
    job = {"names": ["good", "away"], "areas": ["-122.25,47.55,-122.10,47.65", "10,47,10.1,47.1"], "stac": calm.url}
    small = {**job, "resolution": 200, "start-date": "2020-10-01", "end-date": "2020-10-31"}
    path = write(shell.cwd / "job.json", small)
    done = shell.run(
        *("run-cwl", "--on-error", "continue", WORKFLOWS / "monthly-composite-scatter.cwl", path.name), timeout=170
    )
    assert done.returncode == 3, done.stderr
    good, away = outputs(done)["stac-catalog"]
    assert (good["basename"], away) == ("good", None)
    assert (shell.cwd / "good" / "catalog.json").is_file()
    assert_nothing_left(shell)


@pytest.mark.long
def test_the_tool_alone_takes_its_inputs_as_options(runner: None, calm: DemoServer, shell: Shell) -> None:
    (shell.cwd / "tool.cwl").write_text(shell.call("cloudless-mosaic", "--cwl").stdout)
    dates = ("--start-date", "2020-10-01", "--end-date", "2020-10-31")
    done = shell.run("run-cwl", "tool.cwl", "--resolution", 200, "--stac", calm.url, *dates, timeout=170)
    assert done.returncode == 0, done.stderr
    assert read_json(shell.cwd / "monthly-mosaic" / "run.json")["params"]["resolution"] == 200
    assert_nothing_left(shell)


@pytest.mark.long
def test_items_of_an_earlier_run(ran: tuple[Shell, Done], calm: DemoServer, archive: Archive, shell: Shell) -> None:
    items = ran[0].cwd / "results" / "monthly-mosaic" / "items.json"
    given = {"items": {"class": "File", "path": str(items)}, "resolution": 200, "stac": calm.url}
    job = write(shell.cwd / "job.json", {**given, "start-date": "2020-11-01", "end-date": "2020-11-30"})
    before = calm.stats.api_requests
    done = shell.run("run-cwl", WORKFLOWS / "monthly-composite.cwl", job.name, timeout=170)
    assert done.returncode == 0, done.stderr
    assert calm.stats.api_requests == before
    made = read_json(shell.cwd / "monthly-mosaic" / "catalog.json")
    assert [link["href"] for link in made["links"] if link["rel"] == "item"] == [
        "./monthly-mosaic-2020-11/monthly-mosaic-2020-11.json"
    ]
    assert json.loads(done.stdout)["stac-catalog"]["class"] == "Directory"
