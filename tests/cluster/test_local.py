"""Clusters: as large as the machine allows, somebody else's where there is one, and gone without a trace."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.system
import distributed
import distributed.dashboard.scheduler
import distributed.system
import numpy as np
import psutil
import pytest
import urllib3
from distributed import Client, default_client
from tornado import web

from eoap_dask.cluster.connect import open_client
from eoap_dask.cluster.environment import HEAP
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size, local_size, size_of
from eoap_dask.errors import ClusterError, UsageError
from eoap_dask.run.options import RunOptions

GIB = 1 << 30
SMALL = Size(1, 1, GIB)


# How large.


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to be on a machine, or in a container, with so many cores and so much memory."""

    def pretend(cores: int, memory: int = 16 * GIB) -> None:
        monkeypatch.setattr(dask.system, "CPU_COUNT", cores)
        monkeypatch.setattr(distributed.system, "MEMORY_LIMIT", memory)

    return pretend


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 5, 8, 9, 16, 64, 250])
@pytest.mark.parametrize("tasks", [None, 1, 3, 1000])
def test_a_cluster_uses_the_cores_and_no_more(machine: Any, cores: int, tasks: int | None) -> None:
    machine(cores)
    size = local_size(tasks=tasks)
    wanted = min(cores, tasks or cores)
    assert size.workers >= 1
    assert size.threads_per_worker in range(1, 5)
    assert wanted <= size.slots < wanted + size.workers  # a remainder may be shared out


@pytest.mark.parametrize("workers", [None, 1, 2, 7])
@pytest.mark.parametrize("memory", [2 * GIB, 16 * GIB, 1000 * GIB])
def test_memory_is_shared_out_with_some_left(machine: Any, workers: int | None, memory: int) -> None:
    machine(8, memory)
    size = local_size(workers)
    assert size.workers * size.memory_per_worker <= 0.8 * memory
    assert size.workers * size.memory_per_worker > 0.79 * memory


def test_what_was_asked_for_counts(machine: Any) -> None:
    machine(8)
    assert local_size(workers=3) == Size(3, 2, int(16 * GIB * 0.8) // 3)
    assert local_size(workers=20).threads_per_worker == 1
    assert local_size(memory_per_worker=3 * GIB).memory_per_worker == 3 * GIB
    assert local_size(workers=2, memory_per_worker=GIB, tasks=1) == Size(2, 4, GIB)
    assert Size(3, 2, GIB).slots == 6


# Gone without a trace.


def processes() -> set[int]:
    """Our descendants, but for the tracker that Python keeps for all of them."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if not t.daemon}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in this test, and in the processes that it starts; the current directory is another."""
    folder, here = tmp_path / "scratch", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@contextmanager
def nothing_stays(scratch: Path) -> Iterator[None]:
    before = processes(), threads()
    levels = [logging.getLogger(name).level for name in ("distributed", "distributed.worker", "bokeh", "tornado")]
    settings = {key: dask.config.get(key, None) for key in ("distributed.worker.memory.spill", "temporary-directory")}
    yield
    deadline = time.monotonic() + 10
    while processes() - before[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes() - before[0] == set()
    assert threads() - before[1] == set()
    assert list(Path.cwd().iterdir()) == []
    assert list(scratch.iterdir()) == []
    assert levels == [
        logging.getLogger(name).level for name in ("distributed", "distributed.worker", "bokeh", "tornado")
    ]
    assert settings == {key: dask.config.get(key, None) for key in settings}
    with pytest.raises(ValueError, match="No client"):
        default_client()


@pytest.mark.cluster
def test_nothing_is_left_after_success(scratch: Path) -> None:
    with nothing_stays(scratch):
        with local_client(Size(2, 1, GIB)) as client:
            assert sum(client.gather(client.map(abs, range(-4, 0)))) == 10
            workers = set(client.run(os.getpid).values())
            assert len(workers) == 2
            assert workers <= processes()
        assert client.status == "closed"
        assert not any(psutil.pid_exists(pid) for pid in workers)


def fail(fault: type[BaseException], *, busy: bool) -> None:
    with local_client(SMALL) as client:
        if busy:
            task = client.submit(time.sleep, 60)
            deadline = time.monotonic() + 10
            while not any(task.key in keys for keys in client.processing().values()) and time.monotonic() < deadline:
                time.sleep(0.02)
        raise fault("something happened")


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [KeyError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_a_fault(scratch: Path, fault: type[BaseException]) -> None:
    with nothing_stays(scratch), pytest.raises(fault):
        fail(fault, busy=False)


@pytest.mark.cluster
def test_work_that_goes_on_is_not_waited_for(scratch: Path) -> None:
    began = time.monotonic()
    with nothing_stays(scratch), pytest.raises(KeyError):
        fail(KeyError, busy=True)
    assert time.monotonic() - began < 30


@pytest.mark.cluster
def test_nothing_is_left_of_a_cluster_whose_worker_died(scratch: Path) -> None:
    with nothing_stays(scratch), local_client(SMALL) as client:
        (pid,) = client.run(os.getpid).values()
        psutil.Process(pid).kill()
        assert client.submit(abs, -3).result(timeout=30) == 3  # another took its place
        assert set(client.run(os.getpid).values()) != {pid}


def test_a_cluster_that_does_not_start(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no port is free")

    monkeypatch.setattr(distributed, "LocalCluster", refuse)
    with nothing_stays(scratch):
        with pytest.raises(ClusterError, match="no port is free") as caught, local_client(SMALL):
            pytest.fail("there's nothing to work with")
        assert caught.value.exit_code == 5


@pytest.mark.cluster
def test_a_fault_of_the_work_is_not_one_of_the_cluster(scratch: Path) -> None:
    """OSError, ValueError and the like mean a failed start only while it starts."""
    with nothing_stays(scratch), pytest.raises(ValueError, match="mine"), local_client(SMALL):
        raise ValueError("mine")


# Whose.


@pytest.mark.cluster
def test_size_of() -> None:
    with local_client(Size(2, 3, GIB)) as client:
        assert size_of(client) == Size(2, 3, GIB)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None, memory_limit=0) as client:
        size = size_of(client)  # no limit is a large one, not none at all
        assert (size.workers, size.threads_per_worker) == (1, 2)
        assert size.memory_per_worker > 1000 * GIB
        client.cluster.scale(0)
        deadline = time.monotonic() + 10
        while client.scheduler_info(n_workers=-1)["workers"] and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(ClusterError, match="no workers"):
            size_of(client)


@pytest.mark.cluster
def test_workers_do_not_profile_where_that_may_stop_them_for_ever() -> None:
    with local_client(SMALL) as client:
        (profiles,) = client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks).values()
    assert profiles == (sys.version_info >= (3, 12))


def faults_of_arrays() -> int:
    """Return how many pages the kernel has to hand out for a hundred arrays of 1 MiB, one after the other."""
    import resource

    np.ones(1 << 20, np.uint8)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(100):
        np.ones(1 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_workers_use_their_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HEAP:
        monkeypatch.delenv(name, raising=False)
    with local_client(SMALL) as client:
        assert client.submit(faults_of_arrays, pure=False).result() < 2_560  # a tenth of all pages
    assert not HEAP.keys() & os.environ.keys()
    own = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 20}
    with dask.config.set(own), local_client(SMALL) as client:
        found = client.submit(lambda: dict(os.environ), pure=False).result()
    assert found["MALLOC_TRIM_THRESHOLD_"] == str(1 << 20)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as Dask leaves it behind
    with local_client(SMALL) as client:
        assert client.submit(faults_of_arrays, pure=False).result() < 2_560
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "65536"
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")  # whoever wants it otherwise gets it
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    with local_client(SMALL) as client:
        assert client.submit(faults_of_arrays, pure=False).result() > 20_000


@pytest.mark.cluster
def test_a_cluster_that_is_there_is_used_and_kept() -> None:
    with local_client(SMALL) as mine, mine.as_current():
        with open_client(RunOptions(cluster="auto"), SMALL) as active:
            assert active is mine
        with open_client(RunOptions(cluster="auto"), SMALL, mine) as given:
            assert given is mine
        with open_client(RunOptions(cluster="local"), SMALL, mine) as given:
            assert given is mine
        assert mine.submit(abs, -1).result() == 1

        with open_client(RunOptions(cluster="local"), SMALL) as own:  # asked for by name
            assert own is not mine
            assert own.scheduler.address != mine.scheduler.address
        assert own.status == "closed"
        assert default_client() is mine
        assert mine.submit(abs, -2).result() == 2


@pytest.mark.cluster
def test_without_one_a_cluster_is_started_and_stopped(scratch: Path) -> None:
    with nothing_stays(scratch):
        with open_client(RunOptions(cluster="auto"), SMALL) as own:
            assert size_of(own) == SMALL
        assert own.status == "closed"


@pytest.mark.cluster
def test_options_that_only_a_gateway_has_are_told_elsewhere(scratch: Path, said: list[str]) -> None:
    with open_client(RunOptions(cluster="local"), SMALL, scratch=scratch):
        assert said == []
    options = RunOptions(cluster="local", worker_cores=2, image="ours:1", cluster_options=(("a", "b"),))
    with open_client(options, SMALL, scratch=scratch):
        pass
    assert said == ["Only a cluster that a Gateway starts takes worker_cores, image, cluster_options: set aside here."]


def test_an_unknown_kind_of_cluster() -> None:
    with (
        pytest.raises(UsageError, match=r"cluster must be auto, .* got 'moon'"),
        open_client(RunOptions(cluster="moon"), SMALL),
    ):
        pytest.fail("there's nothing to work with")


@pytest.mark.cluster
def test_the_dashboard_is_made_when_somebody_looks_at_it(scratch: Path) -> None:
    def get(page: str) -> tuple[int, str]:
        answer = urllib3.request("GET", client.dashboard_link.replace("/status", page), retries=False, timeout=60)
        return answer.status, answer.data.decode()

    with local_client(SMALL) as client:
        assert get("/health") == (200, "ok")
        assert get("/metrics")[0] == 200
        assert not client.cluster.scheduler.http_application.applications
        for page in ("/status", "/workers", "/status"):
            status, text = get(page)
            assert (status, "bokeh" in text.lower()) == (200, True)
        assert get("/no-page-of-this-name")[0] == 404
        assert len(client.cluster.scheduler.http_application.applications) == 1


@pytest.mark.cluster
def test_a_list_of_plots_makes_the_dashboard_too(scratch: Path) -> None:
    with local_client(SMALL) as client:
        link = client.dashboard_link.replace("/status", "/individual-plots.json")
        assert "/individual-task-stream" in urllib3.request("GET", link, retries=False, timeout=60).json().values()


@pytest.mark.cluster
def test_without_a_dashboard_the_work_goes_on(scratch: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def connect(application: Any, *_: Any) -> None:
        application.add_application(web.Application())
        raise ImportError("Dask needs another bokeh")

    monkeypatch.setattr(distributed.dashboard.scheduler, "connect", connect)
    with local_client(SMALL) as client:
        for _ in range(2):
            assert urllib3.request("GET", client.dashboard_link, retries=False).status == 404
        assert not client.cluster.scheduler.http_application.applications
        assert client.submit(abs, -3).result() == 3
    assert said == ["There is no dashboard: Dask needs another bokeh"]


@pytest.mark.cluster
def test_a_result_of_a_worker_that_has_died_comes_all_the_same(scratch: Path) -> None:
    with local_client(SMALL) as client, client.as_current():
        assert client.direct_to_workers
        process = psutil.Process(client.submit(os.getpid).result())
        future = client.submit(np.ones, 3_000_000)
        distributed.wait(future)
        process.kill()
        assert future.result(timeout=60).sum() == 3_000_000
