"""What the tests of CWL share: cwltool and the real Gateway server, or a skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command_line import Shell, make_shell

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer


@pytest.fixture(scope="session")
def cwltool() -> None:
    """Skip where cwltool isn't installed."""
    pytest.importorskip("cwltool")


@pytest.fixture(scope="session")
def runner(cwltool: None) -> None:
    """Skip where runs aren't possible."""
    pytest.importorskip("dask_gateway_server")
    pytest.importorskip("sqlalchemy")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """An empty working directory."""
    return make_shell(tmp_path)


@pytest.fixture(scope="session")
def calm(archive: Archive) -> Iterator[DemoServer]:
    """The small archive, served without faults."""
    with DemoServer(archive) as running:
        yield running


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
