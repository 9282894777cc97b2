"""Options are declared once: a command that has one of a cluster's has it as all others have it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from tests.support.command_line import Shell

from eoap_dask import cli as package
from eoap_dask.cli.main import cli
from eoap_dask.cli.options import declared_option
from eoap_dask.cluster.options import ClusterOptions
from eoap_dask.params import declarations

SHARED = ("workers", "worker_cores", "worker_memory", "image", "cluster_options", "allow_version_mismatch")


def options_of(*names: str) -> dict[str, click.Option]:
    command: click.Command = cli
    for name in names:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return {one.name: one for one in command.params if isinstance(one, click.Option) and one.name}


@pytest.mark.parametrize("name", SHARED)
def test_a_cluster_that_is_started_for_later_has_the_options_of_a_run(name: str) -> None:
    start, run = options_of("cluster", "start")[name], options_of("cloudless-mosaic")[name]
    assert (start.opts, start.envvar, start.multiple) == (run.opts, run.envvar, run.multiple)


def test_no_command_spells_an_option_of_clusters_itself() -> None:
    """But for ``cwl generate --image``, which is no worker's."""
    declared = declarations(ClusterOptions).items()
    flags = {f"--{about.flag or name.replace('_', '-')}" for name, (_, about) in declared}
    folder = Path(next(iter(package.__path__)))
    found = {
        (path.name, flag)
        for path in folder.glob("*.py")
        for flag in re.findall(r'"(--[a-z-]+)"', path.read_text())
        if flag in flags
    }
    assert found == {("cwl.py", "--image")}


def test_other_words_for_one_option() -> None:
    @click.command
    @declared_option(ClusterOptions, "workers", default=3, kind=click.IntRange(1), help="So many.")
    @declared_option(ClusterOptions, "allow_version_mismatch", negative="", help="Never mind.")
    def command(workers: int, allow_version_mismatch: bool) -> None:
        """Tell."""

    assert command.make_context("x", []).params == {"workers": 3, "allow_version_mismatch": False}
    given = command.make_context("x", ["--workers", "2", "--allow-version-mismatch"]).params
    assert given == {"workers": 2, "allow_version_mismatch": True}
    with pytest.raises(click.BadParameter, match="0 is not in the range"):
        command.make_context("x", ["--workers", "0"])
    with pytest.raises(click.NoSuchOption):
        command.make_context("x", ["--no-allow-version-mismatch"])


@pytest.mark.parametrize("command", [("demo", "serve"), ("gateway", "serve")])
@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("0.0.0.0", "'0.0.0.0' isn't one address, and clients are told one."),  # noqa: S104
        ("224.0.0.1", "'224.0.0.1' isn't one address, and clients are told one."),
        ("203.0.113.9", "'203.0.113.9' isn't an address of this machine (Cannot assign requested address). "),
        ("nowhere.invalid", "'nowhere.invalid' isn't an address of this machine ("),
    ],
)
def test_an_address_that_is_not_one_of_this_machine(
    command: tuple[str, str], host: str, says: str, shell: Shell
) -> None:
    done = shell.call(*command, "--host", host)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(("name", "first"), [("cloudless-mosaic", "Mosaic"), ("bai", "Burned area")])
def test_help_is_grouped_and_has_science_first(name: str, first: str, shell: Shell) -> None:
    said = shell.call(name, "--help").stdout
    headings = re.findall(r"^(\w[\w ]*):$", said, re.MULTILINE)
    assert headings == [first, "Area and grid", "Scenes", "Output", "Cluster", "Run", "Other options"]
    parts = dict(zip(headings, re.split(r"^\w[\w ]*:$", said, flags=re.MULTILINE)[1:], strict=True))
    assert "--aoi" in parts["Area and grid"]
    assert "--stac" in parts["Scenes"]
    assert "--resume" in parts["Output"]
    assert "--worker-cores" in parts["Cluster"]
    assert "--dry-run" in parts["Other options"]
