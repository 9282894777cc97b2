"""An application is added in three places: its package, the registry, the names in pyproject.toml and `__init__`."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import inspect
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import eoap_dask
from eoap_dask.applications.base import Application
from eoap_dask.applications.entry import Entry
from eoap_dask.applications.registry import APPLICATIONS, PYTHON_NAMES
from eoap_dask.cli import main
from eoap_dask.cwl.generate import files
from eoap_dask.geo.options import AreaParams
from eoap_dask.items.options import SearchParams
from eoap_dask.params import declarations
from eoap_dask.run.options import RunOptions

ROOT = Path(__file__).parents[2]
PACKAGES = Path(eoap_dask.__file__).parent / "applications"

entries = pytest.mark.parametrize("entry", APPLICATIONS.values(), ids=list(APPLICATIONS))


def test_every_package_is_registered() -> None:
    packages = {path.parent.name for path in PACKAGES.glob("*/application.py")}
    assert {entry.module.split(".")[-2] for entry in APPLICATIONS.values()} == packages


@entries
def test_its_parameters_are_of_a_search(entry: Entry) -> None:
    """And, where there is an area, of one."""
    assert issubclass(entry.params, AreaParams) == ("aoi" in declarations(entry.params))
    assert issubclass(entry.params, SearchParams)
    assert all(field.kw_only for field in dataclasses.fields(entry.params))


@entries
def test_it_has_a_command(entry: Entry) -> None:
    command = main.cli.commands[entry.name]
    text = command.get_help(click.Context(command, info_name=entry.name))
    assert entry.help.partition("\n")[0] in " ".join(text.split())
    for example in entry.examples:
        assert any(line.startswith(entry.name) for line in example.lines)
        for line in (f"# {example.what}", *example.lines):
            assert f"    {line}\n" in text


@entries
def test_it_has_a_console_script(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts[entry.name] == f"eoap_dask.cli.main:{entry.script}"
    installed = importlib.metadata.entry_points(group="console_scripts", name=entry.name)
    run: Any = next(one for one in installed if one.value.startswith("eoap_dask")).load()
    monkeypatch.setattr("sys.argv", ["whatever", "--help"])
    monkeypatch.setattr("eoap_dask.cli.main.SIGNALS", ())  # this process handles its own
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"Usage: {entry.name} [OPTIONS]")


def test_other_scripts_are_none() -> None:
    with pytest.raises(AttributeError, match="'burned_area'"):
        main.__getattr__("burned_area")


@entries
def test_it_has_a_python_function(entry: Entry) -> None:
    function = getattr(eoap_dask, entry.function)
    assert set(entry.python_names) <= set(eoap_dask.__all__)
    assert getattr(eoap_dask, entry.params.__name__) is entry.params
    taken = ["params", "options", "client", "listener", "hooks", "changes"]
    assert list(inspect.signature(function).parameters) == taken
    assert inspect.signature(function).parameters["params"].annotation == f"{entry.params.__name__} | None"
    application = entry.application()
    assert isinstance(application, Application)
    assert (application.name, application.params) == (entry.name, entry.params)
    assert str(application.output_dir) == entry.output_dir != str(RunOptions().output_dir)


def test_an_editor_sees_all_names() -> None:
    """Those that come at their first use, where type checkers look."""
    (block,) = [one for one in ast.parse(Path(eoap_dask.__file__).read_text()).body if isinstance(one, ast.If)]
    typed = {alias.name: one.module for one in block.body if isinstance(one, ast.ImportFrom) for alias in one.names}
    assert {*typed, "__version__"} == set(eoap_dask.__all__)
    assert {*eoap_dask._PLACES, *PYTHON_NAMES} == set(typed)
    for name, entry in PYTHON_NAMES.items():
        there = entry.params.__module__ if name == entry.params.__name__ else entry.module
        assert typed[name] == there


@entries
def test_it_has_a_cwl_file(entry: Entry) -> None:
    assert f"{entry.package.stem}.cwl" in files()
    assert (ROOT / "cwl-workflows" / f"{entry.package.stem}.cwl").is_file()


@entries
def test_it_has_a_page(entry: Entry) -> None:
    page = (ROOT / entry.page).read_text()
    assert f"`{entry.name}`" in page or f"\n{entry.name} " in page
    assert entry.function in page
