"""Outputs and servers that the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import Done, Shell, make_shell, read_json

from eoap_dask.demo.server import DemoServer


@pytest.fixture(scope="session")
def asked(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Done]:
    """The command that users have run for years, with the catalogue from the environment."""
    shell = make_shell(tmp_path_factory.mktemp("asked"), {"EOAP_DASK_STAC": calm.url})
    done = shell.mosaic(
        *("--start-date", "2020-10-01", "--end-date", "2020-12-31"),
        *("--aoi", "-122.27508544921875,47.54687159892238,-121.96128845214844,47.745787772920934"),
        *("--bands", "nir", "--bands", "red", "--bands", "green", "--collection", "sentinel-2-l2a"),
        *("--resolution", "100", "--max-items", "1000", "--max-cloud-cover", "25"),
    )
    return shell, done


@pytest.fixture(scope="session")
def items(asked: tuple[Shell, Done]) -> dict[str, Any]:
    """The item collection of that run."""
    return read_json(asked[0].cwd / "monthly-mosaic" / "items.json")


@pytest.fixture
def items_file(items: dict[str, Any], shell: Shell) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """Write the items, each changed by a function, outside of the working directory."""

    def write(change: Callable[[dict[str, Any]], object]) -> Path:
        changed = json.loads(json.dumps(items))
        for item in changed["features"]:
            change(item)
        path = shell.cwd.parent / "items.json"
        path.write_text(json.dumps(changed))
        return path

    return write
