"""Going on where a run stopped, bringing an output up to date, and watching it."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from tests.support.command_line import Shell, clearest, read_json

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer
from eoap_dask.publish.lock import OutputLock
from eoap_dask.run.events import EVENTS_FILE, Event, read_events

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]


def assets(output: Path, month: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / month).iterdir() if path.suffix != ".json"}


def states(shell: Shell, *arguments: object) -> dict[str, tuple[str, str]]:
    plan = json.loads(shell.call("cloudless-mosaic", "--dry-run", "--json", *arguments).stdout)
    return {unit["key"]: (unit["state"], unit["reason"]) for unit in plan["units"]}


@pytest.mark.long
def test_another_month_is_all_that_is_made(shell: Shell, calm: DemoServer) -> None:
    output = shell.cwd / "monthly-mosaic"
    asked = ("--stac", calm.url, "--resolution", "200")
    assert [state for state, _ in states(shell, *asked).values()] == ["new", "new", "new"]
    first = shell.mosaic(*asked, "--end-date", "2020-11-30")
    assert first.returncode == 0, first.stderr
    before = {month: assets(output, month) for month in MONTHS[:2]}
    assert [state for state, _ in states(shell, *asked).values()] == ["skip", "skip", "new"]
    plan = json.loads(shell.call("cloudless-mosaic", "--dry-run", "--json", *asked).stdout)
    assert (plan["blocks"], plan["tasks"]) == (3, 6)
    assert {name: plan["to_do"][name] for name in ("units", "blocks", "tasks")} == {"units": 1, "blocks": 1, "tasks": 2}
    alone = json.loads(
        shell.call(
            "cloudless-mosaic", "--dry-run", "--json", *asked, "--start-date", "2020-12-01", "--output-dir", "x"
        ).stdout
    )
    for name in ("read_bytes", "output_bytes"):
        assert plan["to_do"]["estimates"][name] == alone["estimates"][name] < plan["estimates"][name]
    shown = shell.call("cloudless-mosaic", "--dry-run", *asked).stdout
    assert shown.startswith("cloudless-mosaic: 3 units, 3 blocks, 6 tasks; to do: 1 unit, 1 block, 2 tasks\n")
    assert re.search(r"reads +about .* in all, .* to do\n", shown)

    second = shell.mosaic(*asked)
    assert second.returncode == 0, second.stderr
    assert {month: assets(output, month) for month in MONTHS[:2]} == before
    catalog = read_json(output / "catalog.json")
    assert [link["href"] for link in catalog["links"] if link["rel"] == "item"] == [f"./{m}/{m}.json" for m in MONTHS]
    kinds = [(event["kind"], event.get("unit")) for event in read_events(output / "events.jsonl")]
    assert ("unit-skipped", MONTHS[0]) in kinds
    assert [unit for kind, unit in kinds if kind == "unit-started"] == [MONTHS[2]]

    told = shell.call("status", "monthly-mosaic", "--json")
    status = json.loads(told.stdout)
    assert (status["state"], status["blocks_done"], status["blocks_total"]) == ("complete", 1, 1)
    assert status["units"] == {MONTHS[0]: "skipped", MONTHS[1]: "skipped", MONTHS[2]: "done"}

    made = (output / "run.json").stat().st_mtime_ns
    third = shell.mosaic(*asked)
    assert third.returncode == 0, third.stderr
    assert "Nothing to do, 3 finished before" in third.stderr
    assert (output / "run.json").stat().st_mtime_ns == made  # nothing to publish

    refused = shell.call("cloudless-mosaic", *asked, "--crs", "EPSG:32611")
    assert refused.returncode == 2
    assert "monthly-mosaic was made with other parameters: --crs was auto, is EPSG:32611." in refused.stderr
    changed = states(shell, *asked, "--crs", "EPSG:32611", "--overwrite")
    assert set(changed.values()) == {("recompute", "the grid changed")}
    begun_anew = states(shell, *asked, "--no-resume")
    assert {state for state, _ in begun_anew.values()} == {"recompute"}
    shell.assert_tidy()


@pytest.mark.long
def test_a_month_that_is_added_keeps_the_items_of_the_others(shell: Shell, calm: DemoServer) -> None:
    asked = ("--stac", calm.url, "--resolution", "200")
    november = ("--update", "--start-date", "2020-11-01", "--end-date", "2020-11-30")
    for more in (
        ("--end-date", "2020-10-31"),
        (*november, "--max-cloud-cover", "100"),
        (*november, "--max-cloud-cover", "20"),  # made anew, of fewer
        ("--update", "--start-date", "2020-12-01"),
    ):
        done = shell.mosaic(*asked, *more)
        assert done.returncode == 0, done.stderr
    items = read_json(shell.cwd / "monthly-mosaic" / "items.json")
    found = [one["properties"]["datetime"] for one in items["features"]]
    assert found == sorted(found)
    sources = set()
    for month in MONTHS:
        made = read_json(shell.cwd / "monthly-mosaic" / month / f"{month}.json")
        sources |= {link["href"] for link in made["links"] if link["rel"] == "derived_from"}
    named = {link["href"] for one in items["features"] for link in one["links"] if link["rel"] == "self"}
    assert sources <= named
    assert not [one for one in items["features"] if one["properties"]["eo:cloud_cover"] >= 25]
    assert items["eoap:stac"] == calm.url
    again = json.loads(
        shell.call("cloudless-mosaic", "--dry-run", "--json", *asked, "--items", "monthly-mosaic").stdout
    )
    assert {one["key"] for one in again["units"]} == set(MONTHS)


@pytest.mark.long
def test_a_month_that_failed_is_made_by_the_next_run(shell: Shell, archive: Archive) -> None:
    bad = clearest(archive, "2020-11")["assets"]["B04"]["href"]
    with DemoServer(archive, faults={bad: "404"}) as server:
        asked = ("--stac", server.url, "--resolution", "200", "--retries", "0")
        failed = shell.mosaic(*asked)
        assert failed.returncode == 6
        status = json.loads(shell.call("status", "monthly-mosaic", "--json").stdout)
        assert status["state"] == "stopped"
        assert list(status["failures"]) == [MONTHS[1]]
        server.faults.clear()
        again = shell.mosaic(*asked)
    assert again.returncode == 0, again.stderr
    assert "1 unit, 1 block to do, 2 finished before" in again.stderr
    shell.assert_tidy()


@pytest.mark.long
def test_a_bad_scene_may_be_left_out_and_that_is_said(shell: Shell, archive: Archive) -> None:
    scene = clearest(archive, "2020-11")
    with DemoServer(archive, faults={scene["assets"]["B04"]["href"]: "404"}) as server:
        asked = ("--stac", server.url, "--resolution", "200", "--retries", "0")
        done = shell.mosaic(*asked, "--max-bad-scenes", "1")
        assert done.returncode == 0, done.stderr
        output = shell.cwd / "monthly-mosaic"
        item = read_json(output / MONTHS[1] / f"{MONTHS[1]}.json")
        assert item["properties"]["eoap:left_out"] == [scene["id"]]
        assert not any(scene["id"] in link["href"] for link in item["links"])
        (entry,) = read_json(output / "failures.json")["left_out"]
        assert (entry["unit"], entry["item"], entry["asset"]) == (MONTHS[1], scene["id"], "B04")
        before = assets(output, MONTHS[1])

        refused = shell.mosaic(*asked)  # no scene may be missing now
        assert refused.returncode == 6
        assert assets(output, MONTHS[1]) == before  # and the output is what it was
        server.faults.clear()
        whole = shell.mosaic(*asked)
    assert whole.returncode == 0, whole.stderr
    assert "eoap:left_out" not in read_json(output / MONTHS[1] / f"{MONTHS[1]}.json")["properties"]
    assert assets(output, MONTHS[1]) != before
    shell.assert_tidy()


def test_status_of_nothing(shell: Shell) -> None:
    done = shell.call("status", "nowhere")
    assert done.returncode == 2
    assert "No run has written to nowhere." in done.stderr
    assert done.stdout == ""


@pytest.mark.long
def test_a_run_that_has_not_begun_is_waited_for(shell: Shell, calm: DemoServer) -> None:
    watch = shell.start("status", "monthly-mosaic", "--watch", "--every", "0.1", "--json")
    assert watch.stderr is not None
    said = watch.stderr.readline()
    assert "No run has written to monthly-mosaic yet: waiting for one. Ctrl-C stops." in said
    assert shell.mosaic("--stac", calm.url, "--resolution", "400").returncode == 0
    watched = shell.wait(watch)
    assert watched.returncode == 0
    assert watched.stderr == ""  # it was said once
    assert json.loads(watched.stdout.splitlines()[-1])["state"] == "complete"


@pytest.mark.long
def test_a_watched_run_that_leaves_nothing(shell: Shell) -> None:
    output = shell.cwd / "mosaic"
    partial = shell.cwd / "mosaic.partial"
    partial.mkdir()
    with OutputLock(shell.cwd / "mosaic.lock", output):
        (partial / EVENTS_FILE).write_text(Event("run", blocks_total=3, message="1 unit, 3 blocks").to_json() + "\n")
        watch = shell.start("status", "mosaic", "--watch", "--every", "0.1", "--json")
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["state"] == "running"
        shutil.rmtree(partial)
        watched = shell.wait(watch)
    assert (watched.returncode, watched.stderr) == (0, "")
    last = json.loads(watched.stdout.splitlines()[-1])
    assert (last["state"], last["message"]) == ("stopped", "it had finished nothing, and left nothing")


def test_waiting_for_a_run_is_stopped_by_ctrl_c(shell: Shell) -> None:
    watch = shell.start("status", "nowhere", "--watch", "--every", "60")
    assert watch.stderr is not None
    watch.stderr.readline()
    watch.send_signal(signal.SIGINT)
    assert shell.wait(watch).returncode == 130


@pytest.mark.long
def test_status_is_watched_from_another_terminal_until_the_end(shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, faults={"MSIL2A_2020": "slow:0.3"}) as server:
        run = shell.start("cloudless-mosaic", "--stac", server.url, "--resolution", "200", "-q")
        partial = shell.cwd / "monthly-mosaic.partial" / "events.jsonl"
        while not partial.exists():
            assert run.poll() is None, run.communicate()
        watch = shell.start("status", "monthly-mosaic", "--watch", "--every", "0.1", "--json")
        done = shell.wait(run)
        watched = shell.wait(watch)
    assert done.returncode == watched.returncode == 0, watched.stderr
    seen = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [one["state"] for one in seen] == ["running"] * (len(seen) - 1) + ["complete"]
    assert len(seen) > 2
    assert seen[-1]["units"] == dict.fromkeys(MONTHS, "done")
    blocks = [one["blocks_done"] for one in seen]
    assert blocks == sorted(blocks)
    assert (blocks[0], blocks[-1]) == (0, 3)


@pytest.mark.long
def test_watching_what_is_over_looks_once(shell: Shell, calm: DemoServer) -> None:
    assert shell.mosaic("--stac", calm.url, "--resolution", "400").returncode == 0
    done = shell.run("status", "monthly-mosaic", "--watch")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "monthly-mosaic: complete"
    assert lines[1].split() == ["units", "3", "done,", "0", "finished", "before,", "0", "failed", "of", "3"]
    assert "blocks/s" in done.stdout


@pytest.mark.long
def test_a_performance_report_when_asked_for(shell: Shell, calm: DemoServer) -> None:
    done = shell.mosaic("--stac", calm.url, "--resolution", "400", "--performance-report", "report.html")
    assert done.returncode == 0, done.stderr
    text = (shell.cwd / "report.html").read_text()
    assert "<html" in text[:1000].lower()
    assert "render" in text  # our tasks are in it
    shell.assert_tidy()
