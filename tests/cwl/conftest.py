"""What the tests of CWL share: cwltool and the real Gateway server, or a skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.command_line import Shell

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway


@pytest.fixture(scope="session")
def cwltool() -> None:
    """Skip where cwltool isn't installed."""
    pytest.importorskip("cwltool")


@pytest.fixture(scope="session")
def runner(cwltool: None) -> None:
    """Skip where runs aren't possible."""
    pytest.importorskip("dask_gateway_server")
    pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="session")
def foreign(runner: None) -> Iterator[LocalGateway]:
    """A Gateway that isn't the runs' own, whose clusters have at most 4 cores."""
    with LocalGateway(max_cores=4) as gateway:
        yield gateway


@pytest.fixture
def elsewhere(foreign: LocalGateway, shell: Shell) -> Iterator[list[str]]:
    """The arguments that make runs use that Gateway, on which nothing is left afterwards."""
    access = {k: v for k, v in foreign.client_environment.items() if k != "DASK_GATEWAY__ADDRESS"}
    shell.env.update(access)
    yield ["--dask-gateway-url", foreign.address]
    with foreign.configured(), GatewayApi() as api:
        assert api.clusters() == []
