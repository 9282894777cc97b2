"""Verbs: a run is paused, goes on, is stopped, tried again, cleaned up after and reported on, from another terminal."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import Shell, make_shell

from eoap_dask.demo.changes import ChangesArchive, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> ChangesArchive:
    return make_changes(tmp_path_factory.mktemp("land") / "archive", rows=1, cols=3, cell_px=64)


@pytest.fixture(scope="module")
def served(land: ChangesArchive) -> Iterator[str]:
    with ServerProcess(land.root) as server:
        yield server.url


@pytest.fixture(scope="module")
def slow(land: ChangesArchive) -> Iterator[str]:
    with ServerProcess(land.root, latency_s=0.25) as server:
        yield server.url


def command(land: ChangesArchive, url: str, *more: object) -> tuple[object, ...]:
    return ("change-detection", "--stac", url, "--grid", land.cells, "--output-dir", "out", "--workers", "1", *more)


@pytest.fixture(scope="module")
def product(land: ChangesArchive, served: str, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A finished product, in a directory of its own."""
    shell = make_shell(tmp_path_factory.mktemp("product"))
    done = shell.run(*command(land, served))
    assert done.returncode == 0, done.stderr
    return shell


def events(shell: Shell) -> list[dict[str, Any]]:
    path = shell.cwd / "out.partial" / "events.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def begun(shell: Shell) -> Callable[[], bool]:
    return lambda: sum(one["kind"] == "unit-done" for one in events(shell)) >= 1


def pixels(out: Path) -> dict[str, str]:
    kinds = (".tif", ".tiff", ".png", ".pgw", ".csv")
    return {str(p.relative_to(out)): sha256_of(p) for p in sorted(out.rglob("*")) if p.suffix in kinds}


def settle(shell: Shell) -> int:
    """Return how many blocks are done once no more come."""
    seen = -1
    while (count := sum(one["kind"] == "block-done" for one in events(shell))) != seen:
        seen = count
        time.sleep(1.5)
    return count


@pytest.mark.parametrize("way", ["verbs", pytest.param("signals", marks=pytest.mark.long)])
def test_a_run_is_paused_and_goes_on_to_the_same_bytes(
    way: str, land: ChangesArchive, slow: str, product: Shell, shell: Shell
) -> None:
    run = shell.start(*command(land, slow))
    wait_for(begun(shell), run)
    if way == "verbs":
        done = shell.call("change-detection", "pause", "--output-dir", "out")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == "The run on out is paused.\n"
    else:
        run.send_signal(signal.SIGUSR1)
    wait_for(lambda: any(one["kind"] == "paused" for one in events(shell)), run)
    before = settle(shell)
    assert run.poll() is None
    assert "out: running, paused" in shell.call("status", "out").stdout
    assert settle(shell) == before
    if way == "verbs":
        assert shell.call("resume", "out").returncode == 0
    else:
        run.send_signal(signal.SIGUSR2)
    done = shell.wait(run)
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(line)["kind"] for line in (shell.cwd / "out" / "events.jsonl").read_text().splitlines()]
    assert kinds.index("paused") < kinds.index("resumed")
    assert pixels(shell.cwd / "out") == pixels(product.cwd / "out")
    assert not list((shell.cwd / "out").rglob("order*"))


@pytest.mark.long
def test_a_run_is_stopped_and_goes_on_later(land: ChangesArchive, slow: str, product: Shell, shell: Shell) -> None:
    run = shell.start(*command(land, slow))
    wait_for(begun(shell), run)
    assert shell.call("change-detection", "stop", "--output-dir", "out").returncode == 0
    done = shell.wait(run)
    assert done.returncode == 130
    assert "What is finished is kept." in done.stderr
    assert not (shell.cwd / "out").exists()
    report = json.loads((shell.cwd / "out.partial" / "checkpoints" / "store_2022.json").read_text())
    assert report["completed_tasks"] >= 1
    again = shell.run(*command(land, slow))
    assert again.returncode == 0, again.stderr
    assert "finished before" in again.stderr
    assert pixels(shell.cwd / "out") == pixels(product.cwd / "out")


@pytest.mark.parametrize("verb", ["pause", "resume", "stop"])
def test_there_is_nobody_to_take_an_order(verb: str, product: Shell, shell: Shell) -> None:
    for place in (shell, product):
        done = place.call(verb, "out")
        assert done.returncode == 2
        assert done.stderr.startswith(
            "Error: No run is at work on out, or it still searches. Expected the --output-dir"
        )


@pytest.mark.long
def test_only_what_failed_is_tried_again(land: ChangesArchive, product: Shell, shell: Shell) -> None:
    root = shell.cwd / "archive"
    shutil.copytree(land.root, root)
    (item,) = [one for one in land.items if one["properties"]["datetime"].startswith("2024-08-12")]
    path = root / item["assets"]["green"]["href"]
    content = path.read_bytes()
    path.write_bytes(content[:3000])
    with ServerProcess(root) as server:
        assert shell.call(*command(land, server.url, "--retry-failed", "--max-failures", "9")).returncode == 2
        done = shell.run(*command(land, server.url, "--retries", "0"))
        assert done.returncode == 6
        path.write_bytes(content)
        files = {name: sha256_of(name) for name in (shell.cwd / "out.partial").rglob("*.tif*")}
        for other in (("--years", "2022-2023"), ("--grid-ids", "463"), ("--method", "irmad")):
            refused = shell.call(*command(land, server.url, *other), "retry")
            assert refused.returncode == 2
            assert f"A retry needs the parameters of the run on out: {other[0]} " in refused.stderr
        assert {name: sha256_of(name) for name in (shell.cwd / "out.partial").rglob("*.tif*")} == files
        retried = shell.run(*command(land, server.url), "retry")
    assert retried.returncode == 0, retried.stderr
    assert "6 units, 6 blocks to do, 9 finished before" in retried.stderr
    assert pixels(shell.cwd / "out") == pixels(product.cwd / "out")
    refused = shell.call(*command(land, "http://127.0.0.1:9/", "--no-resume"), "retry")
    assert (refused.returncode, "--no-resume can't be combined with a retry" in refused.stderr) == (2, True)


@pytest.mark.long
def test_a_retry_leaves_what_was_never_begun(land: ChangesArchive, served: str, shell: Shell) -> None:
    partial = shell.cwd / "out.partial"
    partial.mkdir()
    (partial / ".eoap-dask.json").write_text(json.dumps({"software": "eoap-dask", "application": "change-detection"}))
    failed = {"failures": [{"unit": "images/2022/sentinel2_grid_464_2022_08", "reason": "It was so."}]}
    (partial / "failures.json").write_text(json.dumps(failed))
    done = shell.run(*command(land, served, "retry"))
    assert done.returncode == 130
    assert "14 units of out are not made yet" in done.stderr
    assert (partial / "images" / "2022" / "sentinel2_grid_464_2022_08.json").is_file()
    assert len(list(partial.glob("*/*/*.json"))) == 1
    assert shell.run(*command(land, served)).returncode == 0


def test_cleaning_up_asks_and_leaves_the_product(product: Shell, shell: Shell) -> None:
    shutil.copytree(product.cwd / "out", shell.cwd / "out")
    shutil.copytree(product.cwd / "out", shell.cwd / "out.partial")
    done = shell.call("clean", "out")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: out.partial isn't removed unasked.".replace("out", str(shell.cwd / "out"), 1))
    assert (shell.cwd / "out.partial").is_dir()
    done = shell.call("change-detection", "clean", "--output-dir", "out", "--yes")
    assert (done.returncode, done.stderr) == (0, f"Removed {shell.cwd / 'out.partial'}.\n")
    assert not (shell.cwd / "out.partial").exists()
    assert pixels(shell.cwd / "out") == pixels(product.cwd / "out")
    assert shell.call("clean", "out").stderr == "There is nothing to remove.\n"
    (shell.cwd / "mine.partial").mkdir()
    (shell.cwd / "mine.partial" / "letter.txt").write_text("mine")
    assert shell.call("clean", "mine", "--yes").returncode == 2
    assert (shell.cwd / "mine.partial" / "letter.txt").is_file()


def test_a_report_has_hectares_and_the_ledger(product: Shell) -> None:
    done = product.call("report", "out", "--json")
    found = json.loads(done.stdout)
    assert (found["application"], found["state"], len(found["units"])) == ("change-detection", "complete", 15)
    rows = (product.cwd / "out" / "changes.csv").read_text().splitlines()[1:]
    assert found["totals"]["changed_ha"] == pytest.approx(sum(float(row.split(",")[3]) for row in rows))
    assert found["failures"] == []
    text = product.call("change-detection", "report", "--output-dir", "out").stdout
    assert text.startswith("change-detection: out, complete, 15 units, ")
    assert "changed: " in text.splitlines()[1]
    assert product.call("change-detection", "--status", "--output-dir", "out").stdout.startswith("out: complete")
    assert "masks/2024    3 finished" in product.call("status", "out").stdout
    assert product.call("report", "nothing").returncode == 2
