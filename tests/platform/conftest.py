"""Pods, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.pod import Pod, why_not

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

MakePod = Callable[..., Pod]


@pytest.fixture(scope="session")
def platform_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGateway]:
    """A private Gateway that lets a cluster have two workers' worth of cores."""
    pytest.importorskip("dask_gateway_server")
    with LocalGateway(logs_dir=tmp_path_factory.mktemp("platform") / "logs", max_cores=2) as running:
        yield running


@pytest.fixture(scope="session")
def catalogue(archive: Archive) -> Iterator[DemoServer]:
    """The small archive, served to the tools of all pods."""
    with DemoServer(archive) as running:
        yield running


@pytest.fixture(scope="session")
def can_make_pods() -> None:
    """Skip where pods can't be made."""
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def make_pod(can_make_pods: None, platform_gateway: LocalGateway, tmp_path: Path) -> Iterator[MakePod]:
    """Make pods; at the end, none of their processes is left, and their clusters are stopped."""
    pods: list[Pod] = []

    def make(**about: Any) -> Pod:
        pod = Pod(tmp_path / f"pod-{len(pods)}", **{"gateway": platform_gateway, **about})
        pods.append(pod)
        return pod

    yield make
    for pod in pods:
        pod.close()
        with pod.gateway.configured(), GatewayApi() as api:
            for one in api.clusters():
                api.stop(one.name)
