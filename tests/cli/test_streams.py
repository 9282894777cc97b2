"""Streams that are closed, and disks that are full: never called a bug."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from tests.support.command_line import Shell

from eoap_dask.cli.main import _full_disk
from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import OutputError

FULL = Path("/dev/full")
full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
Usage = namedtuple("Usage", "total used free")


def in_sh(shell: Shell, line: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell redirects its streams."""
    program = f"{shlex.quote(sys.executable)} -m eoap_dask"
    return shell.wait(shell.start("-c", f"{program} {line}", program=(), executable="/bin/sh"))


@full
def test_a_stdout_that_is_full(shell: Shell) -> None:
    done = in_sh(shell, "bai --cwl > /dev/full")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: What is printed can't be written to stdout: No space left on device. "
        "What the command has made stays. Let stdout lead elsewhere.\n"
    )


@pytest.mark.parametrize("stream", ["2>&-", pytest.param("2>/dev/full", marks=full)])
def test_without_stderr_a_command_goes_on(stream: str, shell: Shell, calm: DemoServer) -> None:
    arguments = f"cloudless-mosaic --stac {calm.url} --max-items 4 --resolution 400 --json {stream}"
    done = in_sh(shell, arguments)
    assert done.returncode == 0
    assert (shell.cwd / "monthly-mosaic" / "catalog.json").is_file()
    assert json.loads(done.stdout)["catalog"] == str(shell.cwd / "monthly-mosaic" / "catalog.json")
    shell.assert_tidy()


@pytest.mark.parametrize("stream", ["2>&-", pytest.param("2>/dev/full", marks=full)])
def test_without_stderr_a_refusal_keeps_its_code(stream: str, shell: Shell) -> None:
    assert in_sh(shell, f"bai --min-area-ha -1 {stream}").returncode == 2


def test_a_demo_that_lacks_room_says_how_much_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(3_000_000, 0, 3_000_000))
    with pytest.raises(OutputError) as refused:
        make_archive(tmp_path / "archive", workers=1)
    # 37 products of four bands of 1536² pixels, a byte each
    assert str(refused.value) == (
        f"{tmp_path / 'archive'} has 3.0 MB free; the archive takes about 349.2 MB there. "
        "Make room, or set TMPDIR to a directory with more."
    )


@pytest.mark.parametrize(
    ("error", "free", "is_full"),
    [
        (OSError(28, "No space left on device"), 0, True),
        (OSError("2359296 requested and 978880 written"), 900_000, True),
        (OSError(28, "No space left on device"), 1 << 30, False),
        (PermissionError(13, "Permission denied"), 0, False),
    ],
)
def test_what_a_full_directory_is_told_by(
    error: OSError, free: int, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(free, 0, free))
    fault = _full_disk(error)
    assert (fault is not None) == is_full
    if fault is not None:
        assert "where temporary files go, is full" in str(fault)
        assert "set TMPDIR to another directory" in str(fault)
