"""The application of tests on a real Gateway: the same bytes, also where workers don't see the client's disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.seams import Seams, make

from eoap_dask.cluster.gateway.client import RunningCluster
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.long


@pytest.mark.parametrize("sink", ["client", "workers"])
def test_the_same_bytes_as_on_this_machine(
    default: LocalGateway,
    shared_cluster: RunningCluster,
    seams: Seams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sink: str,
) -> None:
    monkeypatch.setenv("DASK_CLUSTER", shared_cluster.name)
    there = make(seams, tmp_path / "there", None, cluster="gateway", sink=sink)
    with local_client(Size(1, 1, 1 << 30)) as client:
        here = make(seams, tmp_path / "here", client)
    found, expected = (
        {p.relative_to(run.output).as_posix(): sha256_of(p) for p in run.output.rglob("*.tif")} for run in (there, here)
    )
    assert found == expected
    assert len(found) == 22
