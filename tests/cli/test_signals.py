"""Stopped at any moment: quickly, with one line, and nothing half-written or left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from tests.support.command_line import Done, Shell, read_json

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

WITHIN_S = 10.0


@pytest.fixture
def slow(archive: Archive) -> Iterator[DemoServer]:
    """A server whose files take a while, except those of December: there is something to interrupt."""
    with DemoServer(archive, faults={"MSIL2A_202010": "slow:20", "MSIL2A_202011": "slow:20"}) as running:
        yield running


def start(shell: Shell, server: DemoServer, *arguments: object) -> subprocess.Popen[str]:
    """Start a run and wait until its workers read."""
    process = shell.start("cloudless-mosaic", "--stac", server.url, "-q", *arguments)
    end = time.monotonic() + 60
    while server.stats.requests - server.stats.api_requests < 8:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    assert psutil.Process(process.pid).children(recursive=True)
    return process


def stopped(shell: Shell, process: subprocess.Popen[str], started: float) -> Done:
    """Wait for a process that was told to stop, and check that it did so in good time and left nothing."""
    done = shell.wait(process)
    assert time.monotonic() - started < WITHIN_S * 2  # twice: the machine may be busy
    assert done.stdout == ""
    shell.assert_tidy()
    assert not (shell.cwd / "monthly-mosaic").exists()
    partial = shell.cwd / "monthly-mosaic.partial"
    for unit in partial.glob("monthly-mosaic-*"):  # what is there is whole
        assert read_json(unit / f"{unit.name}.json")["id"] == unit.name
        assert len(list(unit.iterdir())) == 5
    return done


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "whole_group", "code", "says"),
    [
        (signal.SIGINT, False, 130, "Stopped.\n"),
        (signal.SIGINT, True, 130, "Stopped.\n"),  # as a terminal does it
        (signal.SIGTERM, False, 143, "Stopped by SIGTERM.\n"),
        (signal.SIGTERM, True, 143, "Stopped by SIGTERM.\n"),
        (signal.SIGHUP, False, 129, "Stopped by SIGHUP.\n"),
        (signal.SIGHUP, True, 129, "Stopped by SIGHUP.\n"),  # as a terminal that is closed does it
    ],
)
def test_stopped_while_blocks_are_running(
    number: signal.Signals, whole_group: bool, code: int, says: str, shell: Shell, slow: DemoServer
) -> None:
    process = start(shell, slow)
    started = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    done = stopped(shell, process, started)
    assert (done.returncode, done.stderr) == (code, says)


def test_stopped_before_anything_is_finished(shell: Shell, slow: DemoServer) -> None:
    process = shell.start(
        "cloudless-mosaic",
        "--stac",
        slow.url,
        "--max-items",
        "4",
        "--start-date",
        "2020-11-01",
        "--end-date",
        "2020-11-30",
    )
    while slow.stats.requests == slow.stats.api_requests:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    done = stopped(shell, process, time.monotonic())
    assert done.returncode == 143
    assert done.stderr.splitlines()[-1] == (
        "Stopped by SIGTERM. No unit was finished, and nothing is kept: the same command begins anew."
    )


STAGES: dict[str, Callable[[Shell, DemoServer, psutil.Process], bool]] = {
    "searching": lambda shell, server, process: server.stats.api_requests > 0,
    "starting the cluster": lambda shell, server, process: (shell.cwd / "monthly-mosaic.partial").exists(),
    "importing in the workers": lambda shell, server, process: len(process.children(recursive=True)) >= 2,
}


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_stopped_while_it_starts(stage: str, shell: Shell, slow: DemoServer) -> None:
    slow.latency_s = 0.1
    process = shell.start("cloudless-mosaic", "--stac", slow.url, "-q")
    while not STAGES[stage](shell, slow, psutil.Process(process.pid)):
        assert process.poll() is None
        time.sleep(0.005)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    done = stopped(shell, process, started)
    assert (done.returncode, done.stderr) == (130, "Stopped.\n")
    assert shell.files() == []


@pytest.mark.long
def test_stopped_twice_is_stopped_once(shell: Shell, slow: DemoServer) -> None:
    process = start(shell, slow)
    started = time.monotonic()
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    done = stopped(shell, process, started)
    assert (done.returncode, done.stderr) == (130, "Stopped.\n")


@pytest.mark.long
def test_finished_months_are_kept(shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, faults={"MSIL2A_202012": "slow:20"}) as server:
        process = shell.start("cloudless-mosaic", "--stac", server.url)
        partial = shell.cwd / "monthly-mosaic.partial"
        months = [f"monthly-mosaic-2020-{month}" for month in (10, 11)]
        while not all((partial / month / f"{month}.json").is_file() for month in months):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        done = stopped(shell, process, time.monotonic())
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == (
        "Stopped. 2 finished units are kept in monthly-mosaic.partial. Run the same command again to go on."
    )
    assert sorted(path.name for path in partial.glob("monthly-mosaic-*")) == months


@pytest.mark.long
def test_killed(shell: Shell, slow: DemoServer, calm: DemoServer) -> None:
    process = start(shell, slow)
    process.kill()
    shell.wait(process)
    assert shell.processes(10) == []
    assert (shell.cwd / "monthly-mosaic.partial").is_dir()
    assert not (shell.cwd / "monthly-mosaic").exists()
    for path in shell.tmp.iterdir():  # nobody could take them away
        assert path.name.startswith("eoap-dask-")
    again = shell.mosaic("--stac", calm.url, "-q")
    assert (again.returncode, again.stderr) == (0, "")
    assert shell.files()[0] == "monthly-mosaic"
    assert not [name for name in shell.files() if re.search(r"partial|lock", name)]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_that_are_ignored_stay_ignored(number: signal.Signals, shell: Shell, slow: DemoServer) -> None:
    slow.latency_s = 0.3
    # as nohup does, and the & of a script
    process = shell.start(
        *("cloudless-mosaic", "--stac", slow.url, "--dry-run", "-q"),
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    while not slow.stats.requests:
        time.sleep(0.005)
    os.killpg(process.pid, number)
    done = shell.wait(process)
    assert (done.returncode, done.stderr) == (0, "")
