"""Chips on a real Gateway: the same bytes as on this machine, whoever makes which cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.gateway import clean_environment, names

import eoap_dask as eo
from eoap_dask.cluster.gateway.client import RunningCluster
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.fields import make_fields
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.long

ARGUMENTS = {"grid": 3, "chip_size": 64, "min_distance": 300.0, "max_chips": 2}


@pytest.mark.parametrize("sink", ["client", "workers"])
def test_the_same_bytes_as_on_this_machine(
    default: LocalGateway, shared_cluster: RunningCluster, tmp_path: Path, sink: str
) -> None:
    farm = make_fields(tmp_path / "farm", size_px=384)
    with ServerProcess(farm.root) as server:
        with local_client(Size(1, 1, 2 << 30)) as client:
            here = eo.crop_chips(
                fields=farm.fields, stac=server.url, output_dir=tmp_path / "here", client=client, **ARGUMENTS
            )
        running = names(default)
        flags = [word for key, value in ARGUMENTS.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "eoap_dask", "crop-chips", "--fields", farm.fields, "--stac", server.url),
                *("--output-dir", "there", "--sink", sink, *flags),
            ],
            env=clean_environment(default) | {"DASK_CLUSTER": shared_cluster.name},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(here.output): sha256_of(path) for path in here.output.rglob("*.tif")}
    there = tmp_path / "there"
    assert {path.relative_to(there): sha256_of(path) for path in there.rglob("*.tif")} == files
    assert len(files) > 8
    for name in ("chips.parquet", "splits/train.txt", "contact-sheet.png"):
        assert sha256_of(there / name) == sha256_of(here.output / name), name
    assert names(default) == running
