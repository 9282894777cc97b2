"""Workers come and go, die and are replaced: what becomes of a run, on a scheduler with worker processes of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.processes import SchedulerAndWorkers
from distributed import Client

from eoap_dask import cloudless_mosaic
from eoap_dask.cluster import profiler
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import ClusterError, UnitsFailedError
from eoap_dask.run.control import Control
from eoap_dask.run.engine import Engine
from eoap_dask.run.events import Event, read_events
from eoap_dask.run.result import Run

pytestmark = pytest.mark.cluster

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]


@pytest.fixture(scope="module")
def undisturbed(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mosaic, made without trouble on an embedded cluster."""
    return make(calm, tmp_path_factory.mktemp("undisturbed") / "out", "local").output


def make(
    server: DemoServer, out: Path, cluster: str, listener: Callable[[Event], None] | None = None, **more: Any
) -> Run:
    return cloudless_mosaic(
        stac=server.url, resolution=200.0, bands=("red",), output_dir=out, cluster=cluster, listener=listener, **more
    )


def assert_same(out: Path, other: Path) -> None:
    for month in MONTHS:
        for name in (f"{month}.tif", "count.tif", "visual.tif", "thumbnail.png"):
            assert (out / month / name).read_bytes() == (other / month / name).read_bytes()


def kinds(events: Path) -> list[tuple[str, str]]:
    return [(event["kind"], event.get("unit", "")) for event in read_events(events)]


SLOW = """
import time

from eoap_dask.render import block as render


def render_block(packed, number, made=render.render_block):
    time.sleep(1)
    return made(packed, number)


render.render_block = render_block
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """What makes every block of a worker take a second: while one unit is finished, another is still to be made."""
    preload = tmp_path / "slow.py"
    preload.write_text(SLOW)
    return preload


class When:
    """A listener that does something at the first event of a kind, and remembers all."""

    def __init__(self, kind: str, action: Callable[[], object], message: str = "") -> None:
        self.kind, self.action, self.message = kind, action, message
        self.done = False
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if not self.done and event.kind == self.kind and self.message in event.message:
            self.done = True
            self.action()


@pytest.mark.long
def test_without_workers_a_run_ends_and_the_next_goes_on(
    calm: DemoServer, tmp_path: Path, undisturbed: Path, slow: Path
) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with SchedulerAndWorkers(tmp_path / "cluster", workers=2, preload=slow) as cluster:
        when = When("unit-done", cluster.kill_workers)
        with pytest.raises(ClusterError) as caught:
            make(calm, out, cluster.address, when, cluster_timeout=3.0)
        assert when.done
        assert caught.value.exit_code == 5
        assert str(caught.value) == (
            "The Dask cluster had no worker for 3 s: 2 workers had been there, none is left and none came. "
            "What is finished is kept. Give it workers, and run the same command again."
        )
        assert not out.exists()
        finished = [month for month in MONTHS if (partial / month / f"{month}.json").is_file()]
        assert finished
        assert (partial / "logs" / "scheduler.log").is_file()
        assert list(read_events(partial / "events.jsonl"))[-1]["message"] == caught.value.what

        cluster.start_worker()
        make(calm, out, cluster.address)
    skipped = [unit for kind, unit in kinds(out / "events.jsonl") if kind == "unit-skipped"]
    assert skipped == finished
    assert_same(out, undisturbed)


@pytest.mark.long
def test_a_result_that_dies_with_the_last_worker_ends_the_run(
    calm: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask would make it again, and waits for a worker that could, for ever."""
    fetch = Engine._fetch

    def killing(self: Engine, future: Any) -> Any:
        cluster.kill_workers()
        return fetch(self, future)

    monkeypatch.setattr(Engine, "_fetch", killing)
    with (
        SchedulerAndWorkers(tmp_path / "cluster") as cluster,
        pytest.raises(ClusterError, match="had no worker for 2 s"),
    ):
        make(calm, tmp_path / "out", cluster.address, cluster_timeout=2.0)


class Transfer:
    """A future that is done, and whose result takes a while to come."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.begun = fault, 0

    def result(self) -> str:
        self.begun += 1
        time.sleep(0.5)
        if self.fault:
            raise self.fault
        return "rendered"


def test_a_long_transfer_is_waited_for_and_the_cluster_looked_after() -> None:
    engine = object.__new__(Engine)
    looks: list[None] = []
    engine._watch = SimpleNamespace(look=lambda: looks.append(None))  # type: ignore[assignment]
    engine._control = Control()
    with ThreadPoolExecutor(1) as engine._fetcher:
        transfer = Transfer()
        assert engine._fetch(transfer) == "rendered"  # type: ignore[arg-type,comparison-overlap]
        assert transfer.begun == 1
        assert looks
        with pytest.raises(TimeoutError, match="of the worker"):  # that is no timeout of ours
            engine._fetch(Transfer(TimeoutError("of the worker")))  # type: ignore[arg-type]


@pytest.mark.long
def test_workers_that_come_back_in_time_go_on(calm: DemoServer, tmp_path: Path, undisturbed: Path, slow: Path) -> None:
    with SchedulerAndWorkers(tmp_path / "cluster", preload=slow) as cluster:
        killer = When("block-done", cluster.kill_workers)
        starter = When("cluster", cluster.start_worker, message="no worker")

        def both(event: Event) -> None:
            killer(event)
            starter(event)

        make(calm, tmp_path / "out", cluster.address, both, cluster_timeout=120.0)
        assert killer.done
        assert starter.done
    assert [e.message for e in killer.events if e.kind == "cluster"] == [
        "1 worker × 1 thread",
        "no worker",
        "1 worker × 1 thread",
    ]
    assert_same(tmp_path / "out", undisturbed)


@pytest.mark.long
def test_a_worker_that_joins_later_is_looked_at(calm: DemoServer, tmp_path: Path, slow: Path) -> None:
    preload = tmp_path / "other_software.py"
    preload.write_text(
        "import distributed.versions as versions\n"
        "def other(packages, found=versions.get_package_info):\n"
        "    return {**found(packages), 'numpy': '1.0.0'}\n"
        "versions.get_package_info = other\n"
    )
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with SchedulerAndWorkers(tmp_path / "cluster", preload=slow) as cluster:

        def replace() -> None:
            cluster.kill_workers()
            cluster.start_worker(preload)

        when = When("unit-done", replace)
        with pytest.raises(ClusterError, match=r"different software:\n(?s:.*)numpy .* 1\.0\.0") as caught:
            make(calm, out, cluster.address, when, cluster_timeout=120.0)
        assert "allow_version_mismatch=True" in caught.value.hint
        finished = [kind for kind, _ in kinds(partial / "events.jsonl")].count("unit-done")
        assert finished == sum((partial / month / f"{month}.json").is_file() for month in MONTHS)
        assert finished < 3  # nothing is kept that the other worker had a part in

        make(calm, out, cluster.address, allow_version_mismatch=True, cluster_timeout=120.0)
    assert out.is_dir()


POISON = """
import os
import signal
import time
from pathlib import Path

from eoap_dask.render import block as render

DEATHS = Path("{folder}")
begun = []


def until(done):
    ends = time.monotonic() + 60
    while not done() and time.monotonic() < ends:
        time.sleep(0.05)


def render_block(packed, number, made=render.render_block):
    together = len(list(DEATHS.iterdir())) < 2  # later, each has a worker for itself
    if render._unpack(packed).images[0].name == "{month}":
        if together:
            until(lambda: len(begun) == 2)
        (DEATHS / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    begun.append(packed)
    if together:
        until(lambda: False)  # the worker dies first
    return made(packed, number)


render.render_block = render_block
"""


@pytest.mark.long
def test_a_block_that_kills_its_workers_fails_its_unit_alone(
    calm: DemoServer, tmp_path: Path, undisturbed: Path
) -> None:
    preload, deaths = tmp_path / "poison.py", tmp_path / "deaths"
    deaths.mkdir()
    preload.write_text(POISON.format(month=MONTHS[0], folder=deaths))
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    env = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}  # by default 3, which only takes longer
    with SchedulerAndWorkers(tmp_path / "cluster", threads=3, nanny=True, preload=preload, env=env) as cluster:
        when = When("block-retried", lambda: None)
        with pytest.raises(UnitsFailedError) as caught:
            make(calm, out, cluster.address, when, cluster_timeout=120.0)
    assert caught.value.exit_code == 6
    (entry,) = json.loads((partial / "failures.json").read_text())["failures"]
    assert (entry["unit"], entry["reason"]) == (
        MONTHS[0],
        "Workers died on a block of it again and again, out of memory perhaps.",
    )
    # both of the others were on the worker when it died, and Dask gave them up as well
    assert {event.unit for event in when.events if event.kind == "block-retried"} == set(MONTHS)
    for month in MONTHS[1:]:
        name = f"{month}.tif"
        assert (partial / month / name).read_bytes() == (undisturbed / month / name).read_bytes()
    # what the cluster knows of it is kept, though the run came to its end
    assert (partial / "logs" / "scheduler.log").is_file()
    assert "<html" in (partial / "logs" / "performance-report.html").read_text()[:1000].lower()


TOGETHER = """
import time
import uuid
from pathlib import Path

from eoap_dask.render import block as render

FOLDER = Path("{folder}")


def render_block(packed, number, made=render.render_block):
    (FOLDER / uuid.uuid4().hex).touch()
    ends = time.monotonic() + 90
    while len(list(FOLDER.iterdir())) < 3:
        if time.monotonic() > ends:
            raise RuntimeError("no three blocks are under way")
        time.sleep(0.05)
    return made(packed, number)


render.render_block = render_block
"""


@pytest.mark.long
def test_more_workers_get_more_to_do(calm: DemoServer, tmp_path: Path) -> None:
    """One worker has two blocks; that there are three under way takes that the others are noticed."""
    started = tmp_path / "started"
    started.mkdir()
    preload = tmp_path / "together.py"
    preload.write_text(TOGETHER.format(folder=started))
    with SchedulerAndWorkers(tmp_path / "cluster", preload=preload) as cluster:
        when = When("unit-started", lambda: [cluster.start_worker() for _ in range(2)])
        make(calm, tmp_path / "out", cluster.address, when, cluster_timeout=120.0)
    sizes = [event.message for event in when.events if event.kind == "cluster"]
    assert (sizes[0], sizes[-1]) == ("1 worker × 1 thread", "3 workers × 1 thread")


FAULTS = """
from eoap_dask.render import block as render

RAISES = {{
    "{0}": PermissionError(13, "Permission denied", "/on/the/worker"),
    "{1}": MemoryError(),
    "{2}": TimeoutError("too slow for https://h/x?sig=c2VjcmV0"),
}}


def render_block(packed, number):
    raise RAISES[render._unpack(packed).images[0].name]


render.render_block = render_block
"""


def test_what_a_worker_raises_fails_its_unit_and_not_the_run(calm: DemoServer, tmp_path: Path) -> None:
    """It is neither this machine's disk and memory, nor the end of the cluster."""
    preload = tmp_path / "faults.py"
    preload.write_text(FAULTS.format(*MONTHS))
    with (
        SchedulerAndWorkers(tmp_path / "cluster", preload=preload) as cluster,
        pytest.raises(UnitsFailedError, match="3 of 3 units failed"),
    ):
        make(calm, tmp_path / "out", cluster.address, cluster_timeout=120.0)
    entries = json.loads((tmp_path / "out.partial" / "failures.json").read_text())["failures"]
    reasons = {entry["unit"]: entry["reason"] for entry in entries}
    assert reasons[MONTHS[0]] == (
        "A worker failed on block 0: PermissionError, [Errno 13] Permission denied: '/on/the/worker'."
    )
    assert reasons[MONTHS[1]] == "A worker failed on block 0: it ran out of memory."
    assert reasons[MONTHS[2]].startswith("A worker failed on block 0: TimeoutError, too slow for https://h/x")
    assert "c2VjcmV0" not in str(reasons)


WITHOUT_OURS = """
import sys

import distributed.versions as versions

sys.modules["eoap_dask"] = None  # imports fail


def without_ours(packages, found=versions.get_package_info):
    return {**found(packages), "eoap-dask": None}


versions.get_package_info = without_ours
"""


@pytest.mark.long
def test_workers_of_a_client_of_ones_own_without_our_software(
    calm: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told in the table, before anything of ours is sent to them."""
    monkeypatch.setattr(profiler, "IS_DANGEROUS", True)
    preload = tmp_path / "without_ours.py"
    preload.write_text(WITHOUT_OURS)
    with (
        SchedulerAndWorkers(tmp_path / "cluster", preload=preload) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        with pytest.raises(ClusterError, match=r"different software:\n(?s:.*)eoap-dask .* missing"):
            make(calm, tmp_path / "out", "auto", client=client)
