"""Burned area on a real Gateway: the same bytes as on this machine, and nothing left running there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import clean_environment, names

from eoap_dask import Run, RunOptions, burned_area_map
from eoap_dask.cluster.gateway.client import RunningCluster
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.long

UNIT = "bai-20210713-20210812"


def test_the_same_bytes_as_on_this_machine(
    default: LocalGateway, shared_cluster: RunningCluster, fire: Any, tmp_path: Path
) -> None:
    """Through the command line, which joins a running cluster of two workers and leaves it."""
    before, after = fire.urls
    with local_client(Size(1, 1, 2 << 30)) as client:
        here: Run = burned_area_map(
            options=RunOptions(output_dir=tmp_path / "here", block=512),
            pre_fire_url=before,
            post_fire_url=after,
            client=client,
        )
    running = names(default)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "eoap_dask", "bai", "--pre-fire-url", before, "--post-fire-url", after),
            *("--output-dir", "there"),
        ],
        env=clean_environment(default) | {"DASK_CLUSTER": shared_cluster.name},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'there' / 'catalog.json'}\n"
    files = {path.name: sha256_of(path) for path in (here.output / UNIT).iterdir() if path.suffix != ".json"}
    assert files == {p.name: sha256_of(p) for p in (tmp_path / "there" / UNIT).iterdir() if p.suffix != ".json"}
    assert len(files) == 14
    assert names(default) == running
