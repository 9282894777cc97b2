"""The package of ``change-detection``: a grid is staged in, images and masks come out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pystac
import pytest
import yaml
from tests.support.command_line import Shell
from tests.support.cwl import WORKFLOWS, assert_nothing_left, outputs, write

from eoap_dask.demo.catalogue import CHANGES_DIRECTORY
from eoap_dask.demo.changes import CELLS_FILE, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of
from eoap_dask.networks.architecture import TOY
from eoap_dask.networks.weights import random_weights

pytestmark = [pytest.mark.cluster, pytest.mark.long]


def test_a_grid_becomes_masks(runner: None, shell: Shell, tmp_path: Path) -> None:
    land = make_changes(tmp_path / "land", rows=1, cols=3, cell_px=64, clouds=0.05)
    demo = yaml.safe_load((WORKFLOWS / "change-detection-demo.yml").read_text())
    assert demo["grid"]["path"].endswith(f"{CHANGES_DIRECTORY}/{CELLS_FILE}")
    grid = {"class": "File", "path": str(land.cells)}
    with ServerProcess(land.root) as server:
        job = write(shell.cwd / "job.json", {**demo, "grid": grid, "years": "2022-2023", "stac": server.url})
        done = shell.run("run-cwl", WORKFLOWS / "change-detection.cwl", job.name, timeout=170)
        assert done.returncode == 0, done.stderr
        job = write(shell.cwd / "none.json", {"stac": server.url})
        refused = shell.run("run-cwl", WORKFLOWS / "change-detection.cwl", job.name, timeout=170)
    root = Path(outputs(done)["stac-catalog"]["path"])
    assert root == shell.cwd / "changes"
    items = list(pystac.Catalog.from_file(str(root / "catalog.json")).get_items())
    assert len(items) == 9
    for item in items:
        assert all(Path(str(asset.get_absolute_href())).is_file() for asset in item.assets.values())
    rows = {row["cell"]: float(row["changed_ha"]) for row in csv.DictReader((root / "changes.csv").open())}
    assert rows["463"] > 1 > rows["464"]
    assert (root / "masks" / "2023" / "change_mask_grid_463_2023.png").is_file()
    assert refused.returncode == 2, refused.stderr
    assert "--grid is missing" in refused.stderr
    assert_nothing_left(shell)


def test_weights_are_staged_in(runner: None, shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    land = make_changes(tmp_path / "land", rows=1, cols=3, cell_px=64, clouds=0.05)
    weights = random_weights(tmp_path / "toy.safetensors", TOY)
    with ServerProcess(land.root) as server:
        job = {
            "grid": {"class": "File", "path": str(land.cells)},
            "weights": {"class": "File", "path": str(weights)},
            "method": "btc",
            "window": 32,
            "years": "2022-2023",
            "grid-ids": "463",
            "stac": server.url,
        }
        path = write(shell.cwd / "job.json", job)
        done = shell.run("run-cwl", WORKFLOWS / "change-detection.cwl", path.name, timeout=170)
    assert done.returncode == 0, done.stderr
    root = Path(outputs(done)["stac-catalog"]["path"])
    item = json.loads((root / "masks" / "2023" / "change_mask_grid_463_2023.json").read_text())
    assert item["properties"]["eoap:change_statistics"]["weights"]["sha256"] == sha256_of(weights)
    assert "random" in done.stderr
    assert_nothing_left(shell)
