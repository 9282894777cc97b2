"""distributed's profiler, which can lock up workers of Python 3.11: ended there, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster, Worker

from eoap_dask.cluster import profiler

pytestmark = pytest.mark.cluster


def _callbacks(dask_worker: Worker) -> list[str]:
    running = {name for name, one in dask_worker.periodic_callbacks.items() if one.is_running()}
    return sorted(running & set(profiler.CALLBACKS))


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as running:
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as connected:
        yield connected


def running(client: Client) -> list[int]:
    return [len(found) for found in client.run(_callbacks).values()]


def plugins(client: Client) -> list[str]:
    """Those of ours, for workers that are still to come."""
    known = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins))
    return [name for name in known if "eoap" in name]


@pytest.mark.parametrize(("is_dangerous", "left"), [(True, 0), (False, 2)])
def test_workers_do_without_it_where_it_is_dangerous(
    is_dangerous: bool, left: int, cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "IS_DANGEROUS", is_dangerous)
    with profiler.without_dangerous_profiler(client):
        assert running(client) == [left]
        cluster.scale(2)  # a worker that comes later
        client.wait_for_workers(2, timeout=60)
        assert client.submit(sum, [1, 2]).result(60) == 3
        assert running(client) == [left, left]
    assert running(client) == [2, 2]  # as whoever owns the cluster had it
    assert plugins(client) == []


def test_it_stays_away_until_the_last_run_is_over(
    cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "IS_DANGEROUS", True)
    with Client(cluster, set_as_default=False) as other, profiler.without_dangerous_profiler(client):
        with profiler.without_dangerous_profiler(other):
            assert running(client) == [0]
        assert running(client) == [0]
    assert running(client) == [2]


def test_a_scheduler_that_is_gone_keeps_nothing_up(
    cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "IS_DANGEROUS", True)
    with profiler.without_dangerous_profiler(client):
        cluster.close()  # then leaving is no fault of its own
