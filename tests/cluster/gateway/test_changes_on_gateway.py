"""Change on a real Gateway: the same bytes as on this machine, though images reach workers as data."""

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
from eoap_dask.demo.changes import make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of
from eoap_dask.networks.architecture import TOY
from eoap_dask.networks.weights import random_weights

pytestmark = pytest.mark.long


@pytest.mark.parametrize("method", ["cva", "irmad", "btc"])
def test_the_same_bytes_as_on_this_machine(
    default: LocalGateway, shared_cluster: RunningCluster, tmp_path: Path, method: str
) -> None:
    land = make_changes(tmp_path / "land", rows=1, cols=3, cell_px=64)
    how: dict[str, object] = {"method": method}
    if method == "btc":
        pytest.importorskip("torch")
        pytest.importorskip("safetensors")
        how |= {"window": 32, "weights": random_weights(tmp_path / "toy.safetensors", TOY)}
    with ServerProcess(land.root) as server:
        with local_client(Size(1, 1, 2 << 30)) as client:
            here = eo.change_detection(
                grid=land.cells, stac=server.url, output_dir=tmp_path / "here", client=client, **how
            )
        running = names(default)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "eoap_dask", "change-detection", "--grid", land.cells, "--stac", server.url),
                *("--output-dir", "there"),
                *(text for name, value in how.items() for text in (f"--{name}", str(value))),
            ],
            env=clean_environment(default) | {"DASK_CLUSTER": shared_cluster.name},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    kinds = (".tif", ".tiff", ".png", ".pgw", ".csv")
    files = {path.relative_to(here.output): sha256_of(path) for path in here.output.rglob("*") if path.suffix in kinds}
    there = tmp_path / "there"
    assert {p.relative_to(there): sha256_of(p) for p in there.rglob("*") if p.suffix in kinds} == files
    assert len(files) > 50
    assert names(default) == running
