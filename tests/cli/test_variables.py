"""Variables of the environment that nothing reads are said, and every command tells its version."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from tests.support.command_line import PUBLIC, Shell

from eoap_dask.__about__ import __version__
from eoap_dask.cli.main import cli
from eoap_dask.cli.variables import OF_TESTS, READ_ELSEWHERE, commands_of, variables_of

ROOT = Path(__file__).parents[2]
UNREAD = "The variable {} of the environment is read by nothing. "


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("EOAP_DASK_MAX_CLOUD", "Perhaps EOAP_DASK_MAX_CLOUD_COVER is meant."),
        ("EOAP_DASK_OUTPUTDIR", "Perhaps EOAP_DASK_OUTPUT_DIR is meant."),
        ("EOAP_DASK_MEMORYGUARD", "Perhaps EOAP_DASK_MEMORY_GUARD is meant."),
        ("EOAP_DASK_ZZZ", "See --help for the options, whose names they have."),
    ],
)
def test_a_variable_that_nothing_reads_is_said(name: str, says: str, shell: Shell) -> None:
    for more in ((), ("-q",)):
        done = shell.call("bai", "--min-area-ha", "-1", *more, env={name: "1", "EOAP_DASK_BANDS": "red"})
        assert done.returncode == 2
        warning = "" if more else f"Warning: {UNREAD.format(name)}{says}\n"
        assert done.stderr == f"{warning}Error: --min-area-ha must be a finite number of 0 or more, got -1. " + (
            "Try --min-area-ha 1.\n"
        )


def test_variables_that_are_spelled_out_are_known() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "deploy").rglob("*.py")]
    spelled = {name for file in files for name in re.findall(r"EOAP_DASK_[A-Z_]*[A-Z]\b", file.read_text("utf-8"))}
    assert spelled >= READ_ELSEWHERE
    assert spelled <= variables_of(cli) | READ_ELSEWHERE


@pytest.mark.parametrize("command", list(commands_of(cli)), ids=lambda one: one.name)
def test_every_command_tells_its_version(command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--version"], prog_name="x", standalone_mode=False)
    assert re.fullmatch(rf"eoap-dask, version {re.escape(__version__)}(, cwltool [0-9.]+)?\n", capsys.readouterr().out)
    assert not any(name.startswith(OF_TESTS) for name in variables_of(command))


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (
            "0.2",
            "Warning: --max-cloud-cover 0.2 is 0.2 percent, not a share of 1. Perhaps --max-cloud-cover 20 is meant.",
        ),
        (
            "0.05",
            "Warning: --max-cloud-cover 0.05 is 0.05 percent, not a share of 1. Perhaps --max-cloud-cover 5 is meant.",
        ),
        ("1", ""),
        ("20", ""),
    ],
)
def test_a_cloud_cover_that_looks_like_a_share(limit: str, says: str, shell: Shell) -> None:
    for name in ("cloudless-mosaic", "bai"):
        done = shell.call(name, "--stac", PUBLIC, "--max-cloud-cover", limit, "--aoi", "10,40")
        assert done.returncode == 2
        assert [line for line in done.stderr.splitlines() if line.startswith("Warning")] == ([says] if says else [])
