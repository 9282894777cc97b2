"""The package of ``bai``: from two scenes to a catalog of what burned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pystac
import pytest
import yaml
from tests.support.command_line import Shell
from tests.support.cwl import WORKFLOWS, assert_nothing_left, outputs, write

pytestmark = [pytest.mark.cluster, pytest.mark.long]


def test_two_scenes(runner: None, fire: Any, shell: Shell) -> None:
    before, after = fire.urls
    job = write(shell.cwd / "job.json", {"pre-fire-url": before, "post-fire-url": after, "resolution": 20})
    done = shell.run("run-cwl", WORKFLOWS / "bai.cwl", job.name, timeout=170)
    assert done.returncode == 0, done.stderr
    root = Path(outputs(done)["stac-catalog"]["path"])
    assert root == shell.cwd / "burned-area"
    (item,) = pystac.Catalog.from_file(str(root / "catalog.json")).get_items()
    assert {"severity", "dnbr", "perimeters"} <= set(item.assets)
    assert all(Path(str(asset.get_absolute_href())).is_file() for asset in item.assets.values())
    assert_nothing_left(shell)


def test_the_job_for_the_demos_archive(runner: None, fire: Any, shell: Shell) -> None:
    job = yaml.safe_load((WORKFLOWS / "bai-demo.yml").read_text())
    path = write(shell.cwd / "job.json", {**job, "stac": fire.server.url, "resolution": 60})
    done = shell.run("run-cwl", WORKFLOWS / "bai.cwl", path.name, timeout=170)
    assert done.returncode == 0, done.stderr
    root = Path(outputs(done)["stac-catalog"]["path"])
    (item,) = pystac.Catalog.from_file(str(root / "catalog.json")).get_items()
    assert item.properties["eoap:burned_ha"] > 100
    assert_nothing_left(shell)
