"""The package of ``crop-chips``: fields are staged in, chips and masks come out."""

from __future__ import annotations

from pathlib import Path

import pystac
import pytest
import yaml
from tests.support.command_line import Shell
from tests.support.cwl import WORKFLOWS, assert_nothing_left, outputs, write

from eoap_dask.demo.catalogue import FIELDS_DIRECTORY
from eoap_dask.demo.fields import FIELDS_FILE, make_fields
from eoap_dask.demo.process import ServerProcess

pytestmark = [pytest.mark.cluster, pytest.mark.long]


def test_fields_become_chips(runner: None, shell: Shell, tmp_path: Path) -> None:
    farm = make_fields(tmp_path / "farm", size_px=384)
    demo = yaml.safe_load((WORKFLOWS / "crop-chips-demo.yml").read_text())
    assert demo["fields"]["path"].endswith(f"{FIELDS_DIRECTORY}/{FIELDS_FILE}")
    wanted = {**demo, "grid": 2, "chip-size": 64, "min-distance": 300, "max-chips": 2}
    table = tmp_path / "table.csv"
    table.write_text("class,name,code\n7,cereals,330101*\n")
    with ServerProcess(farm.root) as server:
        files = {
            key: {"class": "File", "path": str(path)} for key, path in (("fields", farm.fields), ("classes", table))
        }
        job = write(shell.cwd / "job.json", {**wanted, **files, "stac": server.url})
        done = shell.run("run-cwl", WORKFLOWS / "crop-chips.cwl", job.name, timeout=170)
        assert done.returncode == 0, done.stderr
        job = write(shell.cwd / "none.json", {"stac": server.url})
        refused = shell.run("run-cwl", WORKFLOWS / "crop-chips.cwl", job.name, timeout=170)
    root = Path(outputs(done)["stac-catalog"]["path"])
    assert root == shell.cwd / "crop-chips"
    chips = [item for item in pystac.Catalog.from_file(str(root / "catalog.json")).get_items() if item.assets]
    assert len(chips) >= 4
    for chip in chips:
        assert set(chip.properties["eoap:class_pixels"]) <= {"background", "cereals"}
        assert all(Path(str(asset.get_absolute_href())).is_file() for asset in chip.assets.values())
    assert len((root / "splits" / "train.txt").read_text().split()) > 0
    assert refused.returncode == 2, refused.stderr
    assert "fields" in refused.stderr
    assert_nothing_left(shell)
