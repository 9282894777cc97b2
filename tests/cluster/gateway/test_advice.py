"""What is advised where there is no Gateway, or a name of a cluster is left in the environment."""

from __future__ import annotations

import dask
import pytest

from eoap_dask.cluster.gateway.access import configured_address
from eoap_dask.cluster.gateway.faults import unknown_cluster
from eoap_dask.errors import UsageError
from eoap_dask.text import named_by_flags

STALE = "DASK_CLUSTER is set: where that cluster has been stopped, unset DASK_CLUSTER."


@pytest.mark.parametrize("name", ["", "cluster-1"])
def test_without_a_gateway(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CLUSTER", name)
    monkeypatch.delenv("DASK_GATEWAY_URL", raising=False)
    with dask.config.set({"gateway.address": None}), named_by_flags(), pytest.raises(UsageError) as refused:
        configured_address()
    assert str(refused.value) == (
        "No Dask Gateway is configured. Expected its address in DASK_GATEWAY__ADDRESS, or gateway.address in dask's "
        "configuration. eoap-dask gateway serve starts one on this machine and prints what to set; applications work "
        f"without one with --cluster local.{f' {STALE}' if name else ''}"
    )


@pytest.mark.parametrize("name", ["", "cluster-1"])
def test_a_cluster_that_has_gone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CLUSTER", name)
    said = str(unknown_cluster("http://gateway", "cluster-1"))
    assert said.startswith("The Dask Gateway at http://gateway knows no cluster cluster-1. ")
    assert said.endswith(f"for those that run.{f' {STALE}' if name else ''}")
