"""The package of ``bai``: from two scenes to a catalog of what burned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pystac
import pytest
import yaml
from pyproj import Transformer
from tests.support.command_line import Shell
from tests.support.cwl import WORKFLOWS, assert_nothing_left, outputs, write

from eoap_dask.demo.fire import default_fire
from eoap_dask.demo.landscape import CENTRE_X, CENTRE_Y

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
    box = [float(one) for one in job["aoi"].split(",")]
    side_m = 1536 * 20.0  # of the tiles of `demo serve`; those here are smaller, and their fire is elsewhere
    place = default_fire((CENTRE_X, CENTRE_Y), side_m)
    x, y = Transformer.from_crs("EPSG:32610", "EPSG:4326", always_xy=True).transform(place.x, place.y)
    assert box[0] + 0.03 < x < box[2] - 0.03
    assert box[1] + 0.02 < y < box[3] - 0.02
    here = ",".join(map(str, fire.archive.fire_pair()[0]["bbox"]))
    path = write(shell.cwd / "job.json", {**job, "aoi": here, "stac": fire.server.url, "resolution": 60})
    done = shell.run("run-cwl", WORKFLOWS / "bai.cwl", path.name, timeout=170)
    assert done.returncode == 0, done.stderr
    root = Path(outputs(done)["stac-catalog"]["path"])
    (item,) = pystac.Catalog.from_file(str(root / "catalog.json")).get_items()
    assert item.properties["eoap:burned_ha"] > 100
    assert_nothing_left(shell)
