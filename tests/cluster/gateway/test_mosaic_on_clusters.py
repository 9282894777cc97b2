"""The mosaic on clusters that somebody else operates: the same bytes, nothing left, a sentence for each mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.processes import SchedulerAndWorkers
from tests.support.command_line import Shell, clearest, error_of, make_shell, read_json
from tests.support.gateway import names, wait_until

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

pytestmark = pytest.mark.cluster

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]
SMALL = ("--resolution", "200", "--bands", "red")
GATEWAY = ("--cluster", "gateway", "--workers", "2", "--worker-memory", "512M", "--cluster-timeout", "120")
OUT = "monthly-mosaic"


@pytest.fixture(scope="module")
def on_this_machine(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the embedded cluster makes."""
    shell = make_shell(tmp_path_factory.mktemp("local"))
    done = shell.mosaic("--stac", calm.url, *SMALL)
    assert done.returncode == 0, done.stderr
    return assets(shell.cwd / OUT)


@pytest.fixture
def at_gateway(gateway: LocalGateway, tmp_path: Path) -> Iterator[Shell]:
    """A directory whose commands know the private Gateway; no cluster is left there afterwards."""
    before = names(gateway)
    yield make_shell(tmp_path, gateway.client_environment)
    wait_until(lambda: names(gateway) <= before, 60)


def assets(output: Path) -> dict[str, bytes]:
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*") if p.suffix in {".tif", ".png"}}


# ----------------------------------------------------------------------------------------------------
# What is made, and what is left


def test_the_same_bytes_as_on_this_machine(
    at_gateway: Shell, gateway: LocalGateway, calm: DemoServer, on_this_machine: dict[str, bytes]
) -> None:
    before = names(gateway)
    done = at_gateway.mosaic("--stac", calm.url, *SMALL, *GATEWAY)
    assert done.returncode == 0, done.stderr
    assert names(gateway) <= before
    assert assets(at_gateway.cwd / OUT) == on_this_machine
    assert len(on_this_machine) == 12
    assert "logs" not in {path.name for path in (at_gateway.cwd / OUT).iterdir()}  # all was well
    at_gateway.assert_tidy()


@pytest.mark.long
def test_units_that_fail_leave_logs_and_no_cluster(
    at_gateway: Shell, gateway: LocalGateway, archive: Archive, on_this_machine: dict[str, bytes]
) -> None:
    before = names(gateway)
    bad = f"{clearest(archive, '2020-11')['id']}/B04"
    with DemoServer(archive, faults={bad: "404"}) as server:
        done = at_gateway.mosaic("--stac", server.url, *SMALL, *GATEWAY, "--retries", "0")
    assert done.returncode == 6, done.stderr
    assert names(gateway) <= before
    partial = at_gateway.cwd / f"{OUT}.partial"
    logs = {path.name.split("-")[0] for path in (partial / "logs").iterdir()}
    assert {"scheduler.log", "worker", "performance"} <= logs
    assert "<html" in (partial / "logs" / "performance-report.html").read_text()[:1000].lower()
    kept = {name: content for name, content in on_this_machine.items() if not name.startswith(MONTHS[1])}
    assert assets(partial) == kept


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_in_the_middle(
    at_gateway: Shell, gateway: LocalGateway, archive: Archive, number: signal.Signals, code: int
) -> None:
    before = names(gateway)
    with DemoServer(archive, faults={"MSIL2A_2020": "slow:20"}) as server:
        process = at_gateway.start("cloudless-mosaic", "--stac", server.url, *SMALL, *GATEWAY, "-q")
        ends = time.monotonic() + 120
        while server.stats.requests - server.stats.api_requests < 2:  # until the workers read
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < ends
            time.sleep(0.02)
        assert names(gateway) - before
        os.killpg(process.pid, number)
        done = at_gateway.wait(process)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("Stopped")
    assert names(gateway) <= before
    assert not (at_gateway.cwd / OUT).exists()
    at_gateway.assert_tidy()


@pytest.mark.long
def test_a_gateway_that_dies_in_the_middle(
    server: None, shell: Shell, archive: Archive, on_this_machine: dict[str, bytes]
) -> None:
    with DemoServer(archive, faults={"MSIL2A_202012": "slow:3"}) as slow, LocalGateway() as gateway:
        shell.env |= gateway.client_environment
        process = shell.start("cloudless-mosaic", "--stac", slow.url, *SMALL, *GATEWAY)
        partial = shell.cwd / f"{OUT}.partial"
        wait_until(lambda: process.poll() is not None or any(partial.glob(f"{OUT}-*/{OUT}-*.json")), 120)
        assert process.poll() is None, process.communicate()
        assert gateway.pid is not None
        os.kill(gateway.pid, signal.SIGKILL)  # and its schedulers and workers with it
        done = shell.wait(process)
        assert done.returncode == 5, done.stderr
        error = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(error) == 1
        assert "Run the same command again." in error[0] or "run the same command again" in error[0]
        assert "Traceback" not in done.stderr
        assert not (shell.cwd / OUT).exists()
        assert any(partial.glob(f"{OUT}-*/{OUT}-*.json"))
        again = shell.mosaic("--stac", slow.url, *SMALL)
    assert again.returncode == 0, again.stderr
    assert "finished before" in again.stderr
    assert assets(shell.cwd / OUT) == on_this_machine


# ----------------------------------------------------------------------------------------------------
# Wrong use: one sentence and its code, nothing written


WRONG: dict[str, tuple[dict[str, str], tuple[str, ...], int, str]] = {
    "Gateway unreachable": ({"DASK_GATEWAY__ADDRESS": "http://127.0.0.1:1"}, (), 5, "127.0.0.1:1 can't be reached"),
    "no Gateway": ({"DASK_GATEWAY__ADDRESS": ""}, (), 2, "No Dask Gateway is configured"),
    "unknown name": ({"DASK_CLUSTER": "nobody"}, (), 5, "knows no cluster nobody"),
    "no name": ({"DASK_CLUSTER": "no;body"}, (), 2, "can't be the name"),
    "unknown option": ({}, ("--cluster-option", "colour=red"), 2, "has no cluster option 'colour'"),
    "wrong value": ({}, ("--cluster-option", "worker_cores=many"), 2, "worker_cores can't be 'many'"),
    "wrong password": ({"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "guessed"}, (), 5, "doesn't let us in: 401"),
    "zero workers": ({}, ("--workers", "0"), 2, "--workers must be 1 or more, got 0"),
    "too large": ({}, ("--worker-memory", "64G"), 5, "allows no worker: 2 workers with 64G of memory each"),
    "no scheduler": ({}, ("--cluster", "tcp://127.0.0.1:1", "--cluster-timeout", "2"), 5, "doesn't answer"),
    "no cluster": ({}, ("--cluster", "moon"), 2, "got 'moon'"),
    "no time": ({}, ("--cluster-timeout", "0"), 2, "--cluster-timeout must be more than 0 seconds and finite, got 0"),
}


@pytest.mark.long
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(case: str, at_gateway: Shell, calm: DemoServer) -> None:
    env, arguments, code, says = WRONG[case]
    done = at_gateway.mosaic("--stac", calm.url, *SMALL, *GATEWAY, *arguments, env=env)
    assert done.returncode == code, done.stderr
    assert says in error_of(done)
    assert "guessed" not in done.stderr
    assert at_gateway.files() == []
    at_gateway.assert_tidy()


@pytest.mark.long
def test_a_cluster_that_gets_no_worker(at_gateway: Shell, gateway: LocalGateway, calm: DemoServer) -> None:
    with gateway.configured(), GatewayApi() as api, api.submitted({}) as lease:
        api.wait_until_running(lease.name, 60)
        done = at_gateway.mosaic(
            *("--stac", calm.url, *SMALL, "--cluster-timeout", "1"), env={"DASK_CLUSTER": lease.name}
        )
        assert done.returncode == 5, done.stderr
        assert "No worker came within 1 s; 1 worker was asked for." in error_of(done)
        found = api.cluster(lease.name)
        assert found is not None  # it was joined, not started
        assert found.status == "running"
    assert at_gateway.files() == []


OTHER_SOFTWARE = """
import distributed.versions as versions


def other(packages, found=versions.get_package_info):
    return {**found(packages), "numpy": "1.0.0"}


versions.get_package_info = other
"""


@pytest.mark.long
def test_other_software_is_told_with_a_table(shell: Shell, calm: DemoServer, tmp_path: Path) -> None:
    preload = tmp_path / "other_software.py"
    preload.write_text(OTHER_SOFTWARE)
    with SchedulerAndWorkers(tmp_path / "cluster", preload=preload) as cluster:
        cluster.wait_for_workers()
        asked = ("--stac", calm.url, *SMALL, "--cluster", cluster.address)
        done = shell.mosaic(*asked)
        assert done.returncode == 5, done.stderr
        assert "Error: Client, scheduler and workers have different software:" in done.stderr
        assert re.search(r"^ +numpy +\S+ +\S+ +1\.0\.0$", done.stderr, re.M)
        assert "--allow-version-mismatch" in done.stderr
        assert "Traceback" not in done.stderr
        assert shell.files() == []
        allowed = shell.mosaic(*asked, "--allow-version-mismatch")
        assert allowed.returncode == 0, allowed.stderr
        assert "Warning: Client, scheduler and workers have different software:" in allowed.stderr


# ----------------------------------------------------------------------------------------------------
# Outputs that aren't ours to write


@pytest.mark.long
def test_an_output_that_a_living_run_writes(shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, faults={"MSIL2A_2020": "slow:20"}) as slow:
        first = shell.start("cloudless-mosaic", "--stac", slow.url, *SMALL, "-q")
        wait_until(lambda: (shell.cwd / f"{OUT}.partial" / "events.jsonl").exists(), 60)
        second = shell.mosaic("--stac", slow.url, *SMALL)
        assert second.returncode == 2, second.stderr
        assert f"Another run is writing {OUT} (process {first.pid})." in error_of(second)
        assert first.poll() is None
        os.killpg(first.pid, signal.SIGTERM)
        assert shell.wait(first).returncode == 143


def spoil(output: Path, name: str, change: Any) -> None:
    """Change a JSON file of a product, or make it none."""
    text = change if isinstance(change, str) else json.dumps({**read_json(output / name), **change})
    (output / name).write_text(text)


@pytest.mark.long
def test_outputs_that_are_not_ours_to_update(shell: Shell, calm: DemoServer) -> None:
    output = shell.cwd / OUT
    asked = ("--stac", calm.url, "--resolution", "400", "--bands", "red", "--start-date", "2020-12-01")
    assert shell.mosaic(*asked).returncode == 0
    good = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for name, change, says in (
        ("run.json", {"application": "bai"}, f"{OUT} already exists, made by bai."),
        ("run.json", {"software": "another"}, f"{OUT} already exists and wasn't made by eoap-dask"),
        ("failures.json", "not JSON", "its failures.json isn't a JSON object"),
        ("catalog.json", "[]", "its catalog.json isn't a JSON object"),
    ):
        spoil(output, name, change)
        spoiled = (output / name).read_bytes()
        done = shell.mosaic(*asked)
        assert done.returncode == 2, done.stderr
        assert says in error_of(done)
        assert (output / name).read_bytes() == spoiled  # left as it was
        (output / name).write_bytes(good[output / name])
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == good
    shell.assert_tidy()
