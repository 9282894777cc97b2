"""Joining and starting clusters of a real Gateway, and what can go wrong with that."""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import LocalCluster
from tests.support.gateway import clean_environment, end, names, start_program, wait_until

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.client import (
    GatewayOptions,
    RunningCluster,
    gateway_client,
    gateway_cluster,
    scheduler_client,
    wait_for_workers,
)
from eoap_dask.cluster.gateway.evidence import collect_logs, performance_report
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.errors import ClusterError, EoapError, UsageError

SMALL = GatewayOptions(workers=1, worker_memory="512M", timeout_s=60)


def use(options: GatewayOptions) -> None:
    """Try to get a client."""
    with gateway_client(options):
        pass


def test_a_cluster_is_started_used_and_stopped(default: LocalGateway, tmp_path: Path) -> None:
    with gateway_cluster(SMALL) as cluster:
        assert cluster.is_ours
        assert cluster.name in names(default)
        assert cluster.client.submit(sum, [1, 2, 3]).result(timeout=30) == 6
        where = cluster.client.submit(os.getcwd, pure=False).result(timeout=30)
        assert where != str(Path.cwd())
        assert len(cluster.client.nthreads()) == 1
    assert cluster.name not in names(default)
    assert collect_logs(cluster.client, tmp_path / "logs") == []  # no reason to fail
    wait_until(lambda: not Path(where).exists())


@pytest.mark.long
def test_a_cluster_is_joined_and_left_running(default: LocalGateway, shared_cluster: RunningCluster) -> None:
    with gateway_cluster(GatewayOptions(name=shared_cluster.name, workers=2)) as cluster:
        assert not cluster.is_ours
        assert cluster.client is not shared_cluster.client
        assert cluster.client.submit(pow, 2, 5).result(timeout=30) == 32
    assert shared_cluster.name in names(default)
    assert shared_cluster.client.submit(pow, 2, 6).result(timeout=30) == 64


@pytest.mark.long
@pytest.mark.parametrize("error", [RuntimeError("ours"), KeyboardInterrupt(), SystemExit(3)])
def test_a_cluster_is_stopped_whatever_happens(default: LocalGateway, error: BaseException) -> None:
    found: list[str] = []

    def work() -> None:
        with GatewayApi() as api, api.submitted({}) as lease:
            found.append(lease.name)
            assert lease.name in names(default)
            raise error

    with pytest.raises(type(error)):
        work()
    assert found[0] not in names(default)


PROGRAM = """
import signal
from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_cluster
with gateway_cluster(GatewayOptions(workers=1, worker_memory="512M")) as cluster:
    print(cluster.name, flush=True)
    signal.pause()
"""


@pytest.mark.long
def test_a_signal_stops_the_cluster_and_nothing_is_printed_for_it(default: LocalGateway, tmp_path: Path) -> None:
    process = start_program(PROGRAM, clean_environment(default), tmp_path)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert name in names(default)
    code, said = end(process, signal.SIGINT)
    assert code != 0
    assert name not in names(default)
    assert said.strip().splitlines()[-1] == "KeyboardInterrupt"
    for noise in ("Accessing the loop", "Unclosed", "distributed.", "Task was destroyed"):
        assert noise not in said


PROGRAM_WITHOUT_WORKERS = """
import signal
from eoap_dask.cluster.gateway.api import GatewayApi
with GatewayApi() as api, api.submitted({}) as lease:
    api.wait_until_running(lease.name, 60)
    print(lease.name, flush=True)
    signal.pause()
"""


@pytest.mark.long
def test_a_killed_client_costs_only_the_idle_timeout(server: None, tmp_path: Path) -> None:
    with LocalGateway(idle_timeout_s=3) as gateway:
        process = start_program(PROGRAM_WITHOUT_WORKERS, clean_environment(gateway), tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline().strip()
        process.kill()
        process.communicate()
        wait_until(lambda: not names(gateway))


# ----------------------------------------------------------------------------------------------------
# Wrong use: one sentence, one code


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (GatewayOptions(workers=0), UsageError, r"workers must be 1 or more, got 0\. Try workers=2\."),
        (GatewayOptions(options={"colour": "red"}), UsageError, r"no cluster option 'colour'.*worker_cores"),
        (GatewayOptions(options={"worker_memory": "1x"}), UsageError, r"refuses the cluster: '1x'"),
        (GatewayOptions(worker_memory="64G"), ClusterError, r"allows no worker: 2 workers with 64G of memory each"),
        (GatewayOptions(worker_cores=5), ClusterError, r"allows no worker: 2 workers with 5 cores each"),
        (GatewayOptions(name="nobody"), ClusterError, r"knows no cluster nobody"),
        (GatewayOptions(name="no;body"), UsageError, r"can't be the name"),
        (GatewayOptions(address="http://127.0.0.1:1"), ClusterError, r"127\.0\.0\.1:1 can't be reached"),
        (GatewayOptions(address="nowhere"), UsageError, r"can't be the address of a Dask Gateway"),
    ],
    ids=lambda value: "" if isinstance(value, type) else None,
)
def test_wrong_use(default: LocalGateway, options: GatewayOptions, error: type[EoapError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        use(options)
    assert type(caught.value) is error
    assert caught.value.exit_code == {UsageError: 2, ClusterError: 5}[error]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"gateway.auth.kwargs": {"username": "eoap", "password": "guess"}}, ClusterError, "doesn't let us in: 401"),
        ({"gateway.auth.kwargs": {"username": "eoap", "password": 12345}}, ClusterError, "doesn't let us in: 401"),
        ({"gateway.auth.kwargs": {"username": "eoap", "password": "☃"}}, ClusterError, "access .* can't be used"),
        ({"gateway.auth.type": "jupyterhub", "gateway.auth.kwargs": {}}, ClusterError, "access .* can't be used"),
        ({"gateway.auth.type": "no.such.Thing"}, ClusterError, "access .* can't be used"),
        ({"gateway.cluster.options": {"colour": "red"}}, UsageError, "dask's configuration .*'colour'"),
        ({"gateway.address": "http://{NO_SUCH_VARIABLE}"}, UsageError, "can't be filled in.*NO_SUCH_VARIABLE"),
        ({"gateway.address": None}, UsageError, "No Dask Gateway is configured"),
    ],
)
def test_wrong_configuration(
    default: LocalGateway,
    settings: dict[str, Any],
    error: type[EoapError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("JUPYTERHUB_API_TOKEN", "DASK_GATEWAY_URL"):
        monkeypatch.delenv(variable, raising=False)
    with dask.config.set(settings), pytest.raises(error, match=message):
        use(SMALL)


def test_a_password_of_digits_is_no_number(default: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    password = default.client_environment["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
    monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__PASSWORD", password)
    with dask.config.set({"gateway.auth.kwargs": {"username": "eoap", "password": 7}}), GatewayApi() as api:
        api.clusters()


def test_calrissians_variable_is_an_address_too(default: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_GATEWAY_URL", default.address)
    with dask.config.set({"gateway.address": None}), GatewayApi() as api:
        assert api.address == default.address


@pytest.mark.long
def test_a_stopped_cluster_is_not_joined_and_its_logs_stay(default: LocalGateway) -> None:
    with GatewayApi() as api:
        with api.submitted({}) as lease:
            api.wait_until_running(lease.name, 30)
        with pytest.raises(ClusterError, match=f"{lease.name} (has been stopped|is stopping)"):
            api.wait_until_running(lease.name, 30)
        wait_until(lambda: not (found := api.cluster(lease.name)) or found.status == "stopped")
        assert not api.stop(lease.name, wait=True)
    assert default.logs_dir is not None
    assert "Scheduler" in (default.logs_dir / lease.name / "scheduler.log").read_text()


@pytest.mark.long
def test_no_worker_within_the_timeout_says_what_was_asked(default: LocalGateway) -> None:
    with GatewayApi() as api, api.submitted({}) as lease:
        api.wait_until_running(lease.name, 30)  # and never scaled, as when calrissian's numbers leave no room
        with pytest.raises(ClusterError, match=r"No worker came within 1 s; 1 worker was asked for\."):
            use(GatewayOptions(name=lease.name, timeout_s=1))


class FewWorkers:
    """A client whose cluster never gets more."""

    def __init__(self, came: int) -> None:
        self.came = came

    def nthreads(self) -> dict[str, int]:
        return {f"tcp://10.0.0.{n}": 1 for n in range(self.came)}


@pytest.mark.long
def test_fewer_workers_than_asked_are_enough_after_the_timeout() -> None:
    assert wait_for_workers(FewWorkers(2), 4, "4 workers", 0.2) == 2  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match=r"No worker came within 0\.2 s; 4 workers with 2 cores each were asked for"):
        wait_for_workers(FewWorkers(0), 4, "4 workers with 2 cores each", 0.2)  # type: ignore[arg-type]


ANSWERS = [
    (200, "text/html", b"<html>Please sign in"),
    (200, "application/json", b"{}"),
    (200, "application/json", b"[1"),
    (404, "text/html", b"<html>not found"),
    (404, "text/plain", b"nothing here"),
    (502, "text/html", b"<html>bad gateway"),
    (500, "text/plain", b""),
]


@pytest.mark.long
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", [None, "some"])
def test_what_is_no_gateway_is_told(answer: tuple[int, str, bytes], name: str | None) -> None:
    with answering(*answer) as address, pytest.raises(ClusterError) as caught:
        use(GatewayOptions(name=name, address=address))
    assert address in str(caught.value)
    assert "<html" not in str(caught.value)


@contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """Serve one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


# ----------------------------------------------------------------------------------------------------
# Ends in the middle


def kill_scheduler(gateway: LocalGateway, name: str) -> None:
    """Kill a cluster's scheduler."""
    for one in psutil.Process(gateway.pid).children():
        if "distributed.cli.dask_scheduler" in one.cmdline() and name in one.cwd():
            one.kill()


def stop_cluster(gateway: LocalGateway, name: str) -> None:
    """Stop a cluster as somebody else would."""
    with GatewayApi() as api:
        api.stop(name)


@pytest.mark.long
@pytest.mark.parametrize("end_it", [kill_scheduler, stop_cluster])
def test_a_cluster_that_ends_in_the_middle_is_told(
    default: LocalGateway, end_it: Callable[[LocalGateway, str], None]
) -> None:
    found: list[str] = []

    def work() -> None:
        with gateway_cluster(SMALL) as cluster:
            found.append(cluster.name)
            futures = [cluster.client.submit(time.sleep, 0.2, pure=False) for _ in range(100)]
            futures[0].result(timeout=30)
            end_it(default, cluster.name)
            for one in futures:
                one.result(timeout=60)

    with pytest.raises(ClusterError, match=r"ended while we worked.*Run the same command again"):
        work()
    assert found[0] not in names(default)


@pytest.mark.long
def test_a_fault_of_ours_is_not_the_clusters(default: LocalGateway, shared_cluster: RunningCluster) -> None:
    with pytest.raises(PermissionError), gateway_cluster(GatewayOptions(name=shared_cluster.name)):
        raise PermissionError(13, "ours")


# ----------------------------------------------------------------------------------------------------
# Any scheduler


@pytest.fixture(scope="module")
def scheduler() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="tcp://127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.mark.long
def test_a_scheduler_is_used_and_left_running(scheduler: LocalCluster) -> None:
    for _ in range(2):
        with scheduler_client(scheduler.scheduler_address) as client:
            assert client.submit(sum, [1, 2]).result(timeout=30) == 3


@pytest.mark.long
def test_a_client_that_can_not_be_closed_is_let_go_without_a_word(
    scheduler: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_ends(*_: object, **__: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr("eoap_dask.cluster.gateway.client.CLOSE_TIMEOUT_S", 0.2)
    began, threads = time.monotonic(), set(threading.enumerate())
    with scheduler_client(scheduler.scheduler_address) as client:
        client._timeout = 1  # half of what it waits for when it is collected
        monkeypatch.setattr(client, "_close", never_ends)
    client.__del__()  # as when it is collected
    assert client.status == "closed"
    assert time.monotonic() - began < 10
    assert "IO loop" not in {one.name for one in set(threading.enumerate()) - threads}


@pytest.mark.long
@pytest.mark.parametrize(
    ("address", "error"),
    [("tcp://127.0.0.1:1", ClusterError), ("nonsense", UsageError), ("foo://x:1", UsageError)],
)
def test_no_scheduler_there(address: str, error: type[EoapError]) -> None:
    with pytest.raises(error), scheduler_client(address, timeout_s=1):
        pass


# ----------------------------------------------------------------------------------------------------
# Evidence


@pytest.mark.long
def test_logs_and_a_report_are_collected_without_secrets(shared_cluster: RunningCluster, tmp_path: Path) -> None:
    def shout() -> None:
        import logging

        logging.getLogger("distributed.worker").warning("https://x.example/a?sig=%s", "c2VjcmV0")

    with performance_report(shared_cluster.client, tmp_path / "report.html"):
        shared_cluster.client.submit(shout, pure=False).result(timeout=30)
    assert "<html" in (tmp_path / "report.html").read_text()[:1000].lower()
    written = collect_logs(shared_cluster.client, tmp_path / "logs")
    assert {one.name.split("-")[0].split(".")[0] for one in written} >= {"scheduler", "worker"}
    text = "".join(one.read_text() for one in written)
    assert "https://x.example/a" in text
    assert "c2VjcmV0" not in text


@pytest.mark.long
def test_a_report_of_failures_alone(shared_cluster: RunningCluster, tmp_path: Path) -> None:
    with performance_report(shared_cluster.client, tmp_path / "fine.html", when="failure"):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError), performance_report(shared_cluster.client, tmp_path / "bad.html", when="failure"):
        raise RuntimeError
    assert (tmp_path / "bad.html").exists()
