"""A real Gateway server of our own, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.gateway import NOT_FOR_CLUSTERS, names

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.client import GatewayOptions, RunningCluster, gateway_cluster
from eoap_dask.cluster.gateway.server import LocalGateway

ROOT = Path(__file__).parents[3]
"""Workers find the sciences of tests here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and {"gateway", "server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def server() -> None:
    """Skip where the real server isn't installed."""
    pytest.importorskip("dask_gateway_server")
    pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="session")
def gateway(server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGateway]:
    """A private Gateway whose clusters have at most 4 cores and 8 GiB."""
    logs = tmp_path_factory.mktemp("gateway") / "logs"
    own = LocalGateway(
        logs_dir=logs, max_cores=4, max_memory="8G", environment={"GDAL_CACHEMAX": "64", "PYTHONPATH": str(ROOT)}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NOT_FOR_CLUSTERS.items():
            patch.setenv(name, value)
        own.start()
    yield own
    own.stop()


@pytest.fixture
def default(gateway: LocalGateway) -> Iterator[LocalGateway]:
    """The private Gateway as dask's default, and no cluster on it but the one that tests share."""
    with gateway.configured():
        before = names(gateway)
        yield gateway
        with GatewayApi() as api:
            assert {one.name for one in api.clusters()} <= before


@pytest.fixture(scope="session")
def shared_cluster(gateway: LocalGateway) -> Iterator[RunningCluster]:
    """A cluster of two workers, for tests that do it no harm."""
    with ExitStack() as stack:
        with gateway.configured():
            cluster = stack.enter_context(gateway_cluster(GatewayOptions(workers=2, worker_memory="1G")))
        yield cluster
