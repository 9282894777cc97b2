"""A Gateway that starts a cluster and says so too late: the cluster is stopped all the same."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from loguru import logger
from tests.support.gateway import names, wait_until

from eoap_dask.cluster.gateway import api as module
from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.errors import ClusterError

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]

Submit = Callable[[Any], Coroutine[Any, Any, str]]


def late(submit: Submit, started: list[str]) -> Submit:
    """Let a submission start its cluster, note it, and answer a while later."""

    async def submit_late(options: Any) -> str:
        started.append(await submit(options))
        await asyncio.sleep(1)  # longer than we wait
        return started[0]

    return submit_late


async def never(_: Any) -> str:
    """Answer nothing."""
    await asyncio.sleep(3600)
    return ""


def test_a_cluster_that_was_told_too_late_is_stopped(default: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUBMIT_TIMEOUT_S", 0.2)
    started: list[str] = []
    with GatewayApi() as api:
        api._gateway.submit = late(api._gateway.submit, started)
        with pytest.raises(ClusterError, match="can't be reached"), api.submitted({}):
            raise AssertionError
        assert started
        wait_until(lambda: not {*started} & names(default))


def test_a_gateway_that_never_says_whether_there_is_a_cluster(
    default: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SUBMIT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "LATE_ANSWER_S", 0.1)
    said: list[str] = []
    logger.enable("eoap_dask")
    sink = logger.add(lambda message: said.append(str(message)), format="{message}", level="WARNING")
    try:
        with GatewayApi() as api:
            api._gateway.submit = never
            with pytest.raises(ClusterError, match="can't be reached"), api.submitted({}):
                raise AssertionError
    finally:
        logger.remove(sink)
        logger.disable("eoap_dask")
    assert len(said) == 1
    assert "hasn't said whether it started a cluster" in said[0]


@pytest.fixture
def init(default: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of calrissian's init container, for a step of one worker."""
    spec = importlib.util.spec_from_file_location("init_dask", ROOT / "deploy" / "calrissian" / "init-dask.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    sizes = dict.fromkeys(script.FIELDS, "1") | {"workerMemory": "1G", "clusterMaxMemory": "1G"}
    for field, variable in script.FIELDS.items():
        monkeypatch.setenv(variable, sizes[field])
    monkeypatch.setenv("DASK_GATEWAY_IMAGE", "any")
    monkeypatch.setenv("DASK_GATEWAY_URL", default.address)
    monkeypatch.setenv("DASK_CLUSTER_NAME_PATH", str(tmp_path / "name"))
    monkeypatch.setattr(script, "TERMINATION_LOG", tmp_path / "termination-log")
    monkeypatch.chdir(tmp_path)
    return script


def run_with(script: ModuleType, change: Callable[[Any], Submit], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the script on a Gateway whose submissions are changed."""
    access = script.access

    def changed(wanted: Any) -> Any:
        gateway = access(wanted)
        gateway.submit = change(gateway.submit)
        return gateway

    monkeypatch.setattr(script, "access", changed)
    monkeypatch.setattr(script, "SUBMIT_TIMEOUT_S", 0.2)
    return int(script.main())


def test_the_init_stops_a_cluster_that_was_told_too_late(
    default: LocalGateway, init: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    assert run_with(init, lambda submit: late(submit, started), monkeypatch) == 0
    assert "didn't answer within 0.2 s" in (tmp_path / "termination-log").read_text()
    code, why = (tmp_path / "init_failed").read_text().splitlines()
    assert code == "5"
    assert "didn't answer within 0.2 s" in why
    assert started
    wait_until(lambda: not {*started} & names(default))
    assert (tmp_path / "name").read_text().strip() not in started


def test_the_init_says_that_a_cluster_may_be_left(
    init: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(init, "LATE_ANSWER_S", 0.1)
    assert run_with(init, lambda _: never, monkeypatch) == 0
    assert (tmp_path / "init_failed").read_text().startswith("5\n")
    assert "one may be left" in capsys.readouterr().err
