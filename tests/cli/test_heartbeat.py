"""What a tool tells the container that disposes of its cluster: only where that container is, and the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eoap_dask.cli.heartbeat import Heartbeat, shared_directory

NAME = "0123456789abcdef"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory as calrissian's init container leaves it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "dask_cluster_name.txt").write_text(NAME)
    return folder


@pytest.fixture
def pod(shared: Path) -> dict[str, str]:
    """Variables of a main container."""
    return {
        "DASK_CLUSTER": NAME,
        "DASK_CLUSTER_NAME_PATH": str(shared / "dask_cluster_name.txt"),
        "DASK_GATEWAY_URL": "http://127.0.0.1:9",
    }


def test_where_it_is(shared: Path, pod: dict[str, str]) -> None:
    assert shared_directory(pod) == shared


@pytest.mark.parametrize(
    "change",
    [
        {"DASK_CLUSTER": ""},
        {"DASK_CLUSTER": "another"},
        {"DASK_GATEWAY_URL": ""},
        {"DASK_CLUSTER_NAME_PATH": ""},
        {"DASK_CLUSTER_NAME_PATH": "dask_cluster_name.txt"},
        {"DASK_CLUSTER_NAME_PATH": "/no/such/dask_cluster_name.txt"},
    ],
)
def test_where_it_is_not(
    change: dict[str, str], shared: Path, pod: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared)
    assert shared_directory(pod | change) is None


def test_a_name_file_of_a_session_is_none(shared: Path, pod: dict[str, str]) -> None:
    (shared / "dask_cluster_name.txt").write_text(f"export DASK_CLUSTER={NAME}\n")
    assert shared_directory(pod) is None


def test_it_beats_and_ends(shared: Path) -> None:
    beat, code = shared / "heartbeat", shared / "exit_code"
    code.write_text("5\n")
    with Heartbeat(shared, period_s=0.02) as heartbeat:
        assert not code.exists()
        first, end = beat.stat().st_mtime_ns, time.monotonic() + 20
        while beat.stat().st_mtime_ns == first:
            assert time.monotonic() < end
            time.sleep(0.01)
        heartbeat.end(3)
        assert code.read_text() == "3\n"
        assert not beat.exists()
    assert not beat.exists()


def test_a_directory_that_goes_away_is_no_failure(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Heartbeat(shared, period_s=0.01) as heartbeat:
        for path in shared.iterdir():
            path.unlink()
        shared.rename(shared.with_name("elsewhere"))
        time.sleep(0.05)
        heartbeat.end(0)
    assert f"Warning: {shared} can't be written to: No such file or directory." in capsys.readouterr().err


def run(pod: dict[str, str], *arguments: str, program: tuple[str, ...] = ("-m", "eoap_dask")) -> int:
    """Run a command in a pod."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "EOAP_DASK_"))}
    return subprocess.run(
        [sys.executable, *program, *arguments], env=kept | pod, capture_output=True, check=False, timeout=60
    ).returncode


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["cloudless-mosaic", "--nonsense"], 2)])
def test_commands_say_how_they_ended(arguments: list[str], code: int, shared: Path, pod: dict[str, str]) -> None:
    assert run(pod, *arguments) == code
    assert sorted(path.name for path in shared.iterdir()) == ["dask_cluster_name.txt", "exit_code"]
    assert (shared / "exit_code").read_text() == f"{code}\n"


@pytest.mark.parametrize(
    ("number", "code", "left"),
    [(signal.SIGTERM, 143, "exit_code"), (signal.SIGINT, 130, "exit_code"), (signal.SIGKILL, -9, "heartbeat")],
)
def test_a_command_that_is_stopped(number: int, code: int, left: str, shared: Path, pod: dict[str, str]) -> None:
    program = (
        "import os, signal, click, eoap_dask.cli.main as cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored, where the tests run in the background
        "@click.command()\n"
        f"def stopped(): os.kill(os.getpid(), {int(number)})\n"
        "cli._run(stopped, 'stopped')"
    )
    assert run(pod, program=("-c", program)) == code
    assert sorted(path.name for path in shared.iterdir()) == ["dask_cluster_name.txt", left]
    if left == "exit_code":
        assert (shared / left).read_text() == f"{code}\n"


def test_elsewhere_nothing_is_written(shared: Path, pod: dict[str, str]) -> None:
    del pod["DASK_GATEWAY_URL"]
    assert run(pod, "--version") == 0
    assert [path.name for path in shared.iterdir()] == ["dask_cluster_name.txt"]
