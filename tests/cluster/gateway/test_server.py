"""The private Gateway: quick to come, and nothing of it is left, whoever dies."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import dask
import psutil
import pytest
from tests.support.gateway import NOT_FOR_CLUSTERS, clean_environment, start_program, wait_until

from eoap_dask.cluster.environment import HEAP
from eoap_dask.cluster.gateway import server as server_module
from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.client import RunningCluster
from eoap_dask.cluster.gateway.server import LocalGateway, ServerSettings
from eoap_dask.errors import ClusterError, UsageError

PROGRAM = """
import signal
from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_cluster
from eoap_dask.cluster.gateway.server import LocalGateway
with LocalGateway() as gateway, gateway.configured():
    with gateway_cluster(GatewayOptions(workers=1, worker_memory="512M")) as cluster:
        print(gateway.logs_dir.parent, gateway.pid, flush=True)
        signal.pause()
"""


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them lives."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.mark.long
def test_it_ends_with_its_parent_and_leaves_nothing(server: None, tmp_path: Path) -> None:
    process = start_program(PROGRAM, clean_environment() | {"TMPDIR": str(tmp_path)}, tmp_path)
    assert process.stdout is not None
    scratch, pid = process.stdout.readline().split()
    assert Path(scratch).parent == tmp_path
    processes = family(int(pid))
    assert len(processes) >= 5  # server, proxy, scheduler, nanny, worker
    process.kill()
    process.communicate()
    wait_until(lambda: gone(processes))
    wait_until(lambda: not list(tmp_path.iterdir()), timeout=5)


def test_it_is_quick_and_takes_its_clusters_along(server: None) -> None:
    began = time.monotonic()
    with LocalGateway() as gateway, gateway.configured():
        assert time.monotonic() - began < 15  # 1.0 s on an idle machine
        with GatewayApi() as api, api.submitted({}) as lease:
            api.wait_until_running(lease.name, 30)
            lease.keep()
        assert gateway.pid is not None
        assert gateway.logs_dir is not None
        processes, scratch = family(gateway.pid), gateway.logs_dir.parent
        assert len(processes) >= 3
    assert gone(processes)
    assert not scratch.exists()
    gateway.stop()  # twice is fine
    assert gateway.pid is None


@pytest.mark.long
def test_a_killed_server_takes_its_clusters_along(server: None, tmp_path: Path) -> None:
    with LocalGateway() as gateway, gateway.configured():
        with GatewayApi() as api, api.submitted({}) as lease:
            api.wait_until_running(lease.name, 30)
            lease.keep()
        assert gateway.pid is not None
        processes, scratch = family(gateway.pid), gateway.logs_dir
        os.kill(gateway.pid, signal.SIGKILL)
        wait_until(lambda: gone(processes))
        assert gateway.pid is None
    assert scratch is not None
    assert not scratch.parent.exists()


@pytest.mark.long
def test_logs_are_kept_for_their_owner_alone(gateway: LocalGateway, shared_cluster: RunningCluster) -> None:
    assert gateway.logs_dir is not None
    found = {path.relative_to(gateway.logs_dir).as_posix(): path for path in gateway.logs_dir.rglob("*")}
    assert "gateway.log" in found
    assert f"{shared_cluster.name}/scheduler.log" in found
    assert sum(name.startswith(f"{shared_cluster.name}/worker-") for name in found) >= 2
    for path in found.values():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.long
def test_the_password_is_in_no_argument_log_or_file(gateway: LocalGateway, shared_cluster: RunningCluster) -> None:
    password = gateway.client_environment["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
    assert len(password) >= 32
    assert gateway.pid is not None
    own = family(gateway.pid)
    assert not any(password in " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))
    # the server was told by its environment; what it starts isn't
    assert [one.pid for one in own if password in " ".join(one.environ().values())] == [gateway.pid]
    assert gateway.logs_dir is not None
    scratch = Path(own[0].cwd())
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    for folder in (gateway.logs_dir, scratch):
        for path in folder.rglob("*"):
            assert not path.is_file() or password.encode() not in path.read_bytes()
    assert password not in repr(vars(ServerSettings)) + repr(gateway)


@pytest.mark.long
def test_clusters_get_the_environment_that_is_given_and_little_else(shared_cluster: RunningCluster) -> None:
    def environment() -> dict[str, str]:
        return dict(os.environ)

    found = shared_cluster.client.submit(environment, pure=False).result(timeout=30)
    assert found["GDAL_CACHEMAX"] == "64"
    assert found["PATH"] == os.environ["PATH"]
    assert Path(found["HOME"]) != Path.home()
    assert not NOT_FOR_CLUSTERS.keys() & found.keys()
    assert HEAP.items() <= found.items()


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1, 1), (2.5, 3)])
def test_options_become_processes(server: None, cores: float, threads: int) -> None:
    from eoap_dask.cluster.gateway.backend import _to_config

    asked = SimpleNamespace(worker_cores=cores, worker_cores_limit=9, worker_memory="4G", image="ours:1")
    assert _to_config(asked) == {"worker_cores": threads, "worker_threads": threads, "worker_memory": 4 * 2**30}


@pytest.mark.long
def test_other_users_clusters_are_not_listed(default: LocalGateway, shared_cluster: RunningCluster) -> None:
    kwargs = {**dask.config.get("gateway.auth.kwargs"), "username": "somebody"}
    with dask.config.set({"gateway.auth.kwargs": kwargs}), GatewayApi() as api:
        assert api.clusters() == []
        with pytest.raises(ClusterError, match="doesn't let us in: 403"):
            api.cluster(shared_cluster.name)


@pytest.mark.long
def test_a_taken_port_is_told(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "START_TIMEOUT_S", 3)
    with pytest.raises(ClusterError, match=rf"didn't start.*Is port {gateway.port} free\?"):
        LocalGateway(port=gateway.port).start()


def test_a_missing_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"isn't installed.*eoap-dask\[gateway\]"):
        LocalGateway().start()


@pytest.mark.parametrize("options", [{"idle_timeout_s": -1}, {"max_memory": "much"}])
def test_wrong_limits_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        LocalGateway(**options)  # type: ignore[arg-type]


def test_importing_the_client_side_needs_no_server() -> None:
    program = (
        "import sys, eoap_dask.cluster.gateway.client, eoap_dask.cluster.gateway.server, eoap_dask.cluster.name_file; "
        "sys.exit(' '.join({'dask_gateway_server', 'dask', 'dask_gateway', 'distributed'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.long
def test_workers_do_not_profile_where_that_may_stop_them_for_ever(shared_cluster: RunningCluster) -> None:
    found = shared_cluster.client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks)
    assert set(found.values()) == {sys.version_info >= (3, 12)}
