"""Skew of versions, with figures made up and with a real cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from loguru import logger

from eoap_dask.cluster.gateway.client import RunningCluster
from eoap_dask.cluster.gateway.versions import check_versions, compare
from eoap_dask.errors import ClusterError

PACKAGES = {
    "python": "3.11.7.final.0",
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "msgpack": "1.1.0",
    "cloudpickle": "3.1.0",
    "numpy": "2.3.0",
    "eoap-dask": "0.1.0",
    "imagecodecs": "2026.1.1",
    "isal": "1.9.1",
    "rasterio": "1.4.3",
    "pyproj": "3.7.0",
}


class FakeClient:
    """Says what versions there are."""

    def __init__(self, workers: int = 3) -> None:
        self.versions: dict[str, Any] = {
            "client": {"packages": dict(PACKAGES)},
            "scheduler": {"packages": dict(PACKAGES)},
            "workers": {f"tcp://10.0.0.{n}:1": {"packages": dict(PACKAGES)} for n in range(workers)},
        }

    def at(self, side: str) -> dict[str, Any]:
        place = self.versions["workers"]["tcp://10.0.0.1:1"] if side == "worker" else self.versions[side]
        return place["packages"]

    def get_versions(self, packages: list[str]) -> dict[str, Any]:
        assert {"numpy", "eoap-dask"} <= set(packages)
        return copy.deepcopy(self.versions)


def test_equal_versions_pass() -> None:
    check_versions(FakeClient())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "package"),
    [
        ("scheduler", "python"),
        ("scheduler", "distributed"),
        ("scheduler", "msgpack"),
        *[("worker", package) for package in PACKAGES],
    ],
)
@pytest.mark.parametrize("other", ["9.9.9", None])
def test_a_difference_fails_with_a_table(side: str, package: str, other: str | None) -> None:
    client = FakeClient()
    client.at(side)[package] = other
    with pytest.raises(ClusterError) as caught:
        check_versions(client)  # type: ignore[arg-type]
    message = str(caught.value)
    assert caught.value.exit_code == 5
    assert package in message
    assert (other or "missing") in message
    assert "allow_version_mismatch" in message


def test_the_table_counts_workers() -> None:
    client = FakeClient()
    client.at("worker")["numpy"] = "1.26.4"
    assert compare(client.versions).splitlines() == [
        "         client  scheduler  workers",
        "  numpy  2.3.0   2.3.0      2.3.0 (2 of 3), 1.26.4 (1 of 3)",
    ]


@pytest.mark.parametrize(
    ("side", "package", "version"),
    [
        ("worker", "python", "3.11.9.final.0"),
        ("scheduler", "numpy", None),
        ("scheduler", "eoap-dask", None),
        ("worker", "pandas", "1.0"),
    ],
)
def test_what_does_no_harm_passes(side: str, package: str, version: str | None) -> None:
    client = FakeClient()
    client.at(side)[package] = version
    check_versions(client)  # type: ignore[arg-type]


def test_a_worker_that_says_nothing_differs() -> None:
    client = FakeClient()
    client.versions["workers"]["tcp://10.0.0.1:1"] = None
    with pytest.raises(ClusterError, match=r"missing \(1 of 3\)"):
        check_versions(client)  # type: ignore[arg-type]


def test_a_mismatch_may_be_allowed() -> None:
    client = FakeClient()
    client.at("worker")["dask"] = "2024.1.0"
    said: list[str] = []
    handler = logger.add(lambda message: said.append(str(message)), level="WARNING")
    logger.enable("eoap_dask")
    try:
        check_versions(client, allow_mismatch=True)  # type: ignore[arg-type]
    finally:
        logger.remove(handler)
        logger.disable("eoap_dask")
    assert "2024.1.0" in said[0]


def test_a_real_cluster_of_this_environment_agrees(shared_cluster: RunningCluster) -> None:
    found = shared_cluster.client.get_versions(packages=["eoap-dask"])
    assert found["client"]["packages"]["eoap-dask"]
    assert {one["packages"]["eoap-dask"] for one in found["workers"].values()} == {
        found["client"]["packages"]["eoap-dask"]
    }
    check_versions(shared_cluster.client)
