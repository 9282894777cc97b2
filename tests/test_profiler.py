"""distributed's profiler, which can lock up workers of Python 3.11: ended there, and only there."""

from __future__ import annotations

import pytest
from distributed import Client, LocalCluster, Worker

from eoap_dask import profiler

pytestmark = pytest.mark.cluster


def _callbacks(dask_worker: Worker) -> list[str]:
    running = {name for name, one in dask_worker.periodic_callbacks.items() if one.is_running()}
    return sorted(running & set(profiler.CALLBACKS))


@pytest.mark.parametrize(("is_dangerous", "running"), [(True, 0), (False, 2)])
def test_workers_do_without_it_where_it_is_dangerous(
    is_dangerous: bool, running: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "IS_DANGEROUS", is_dangerous)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        profiler.end_dangerous_profiler(client)
        assert [len(found) for found in client.run(_callbacks).values()] == [running]
        cluster.scale(2)  # a worker that comes later
        client.wait_for_workers(2, timeout=60)
        assert client.submit(sum, [1, 2]).result(60) == 3
        assert [len(found) for found in client.run(_callbacks).values()] == [running, running]
