"""Looking after a cluster: who came, who went, and when there is no point in waiting; with answers made up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed.comm.core import CommClosedError

from eoap_dask.cluster import watch as module
from eoap_dask.cluster.watch import WorkerWatch
from eoap_dask.errors import ClusterError


class Scheduler:
    """Answers what it is told to, the last answer again and again."""

    def __init__(self, *answers: dict[str, int] | Exception) -> None:
        self.answers = list(answers)

    def ncores(self) -> dict[str, int]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeClient:
    """A client of such a scheduler."""

    def __init__(self, *answers: dict[str, int] | Exception) -> None:
        self.scheduler: Scheduler | None = Scheduler(*answers)
        self.status = "running"

    def sync(self, function: Any, callback_timeout: float) -> Any:
        assert callback_timeout == module.SILENCE_S
        return function()


@pytest.fixture(autouse=True)
def at_any_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    return


def watching(
    *answers: dict[str, int] | Exception, patience_s: float = 60.0
) -> tuple[WorkerWatch, list[str], list[int]]:
    sizes: list[str] = []
    check_workers: list[int] = []
    client: Any = FakeClient(*answers)
    return WorkerWatch(client, patience_s, sizes.append, lambda: check_workers.append(len(sizes))), sizes, check_workers


ONE, TWO, MIXED = {"a": 1}, {"a": 1, "b": 1}, {"a": 1, "c": 4}


def test_what_has_changed_is_told_once() -> None:
    watch, sizes, check_workers = watching(ONE, ONE, TWO, MIXED, ONE, {}, {}, TWO)
    assert watch.slots == 0
    for _ in range(8):
        watch.look()
    assert sizes == [
        "1 worker × 1 thread",
        "2 workers × 1 thread",
        "1 worker × 1 thread",
        "no worker",
        "2 workers × 1 thread",
    ]
    assert len(check_workers) == 4  # at the first look, b, c instead of b, and a and b again
    assert watch.slots == 2


def test_what_joined_may_be_refused() -> None:
    def refuse() -> None:
        raise ClusterError("other software")

    client: Any = FakeClient(TWO)
    with pytest.raises(ClusterError, match="other software"):
        WorkerWatch(client, 60.0, check_workers=refuse).look()


def test_looking_is_rare_unless_it_is_urgent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 1000.0)
    watch, sizes, _ = watching(ONE, TWO)
    watch.look(at_once=True)
    watch.look()
    assert len(sizes) == 1
    watch.look(at_once=True)
    assert len(sizes) == 2


def look_until_it_raises(watch: WorkerWatch) -> tuple[ClusterError, float]:
    began = time.monotonic()
    while time.monotonic() - began < 30:
        try:
            watch.look()
        except ClusterError as error:
            return error, time.monotonic() - began
        time.sleep(0.01)
    pytest.fail("it waits for ever")


def test_no_worker_for_too_long() -> None:
    watch, _, _ = watching(TWO, {}, patience_s=0.3)
    watch.look()
    error, after = look_until_it_raises(watch)
    assert after >= 0.3
    assert error.what.startswith("The Dask cluster had no worker for 0.3 s: 2 workers had been there")


def test_the_time_without_workers_starts_anew_when_some_came() -> None:
    watch, _, _ = watching({}, ONE, {}, patience_s=0.3)
    watch.look()
    time.sleep(0.25)
    watch.look()
    watch.look()
    _, after = look_until_it_raises(watch)
    assert after >= 0.25


@pytest.mark.parametrize(
    "fault", [CommClosedError("gone"), TimeoutError(), ConnectionRefusedError("no"), RuntimeError("the loop is closed")]
)
def test_a_scheduler_that_does_not_answer(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    watch, _, _ = watching(ONE, fault)
    watch.look()
    error, after = look_until_it_raises(watch)
    assert after >= 0.2
    assert "doesn't answer any more" in error.what
    assert error.exit_code == 5


def test_a_moment_of_silence_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    watch, sizes, _ = watching(ONE, TimeoutError(), ONE, TimeoutError(), ONE)
    for _ in range(5):
        watch.look()
        time.sleep(0.15)
    assert sizes == ["1 worker × 1 thread"]


def test_a_client_that_is_closed_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.1)
    client: Any = FakeClient(AssertionError("it was asked"))
    client.status = "connecting"
    error, _ = look_until_it_raises(WorkerWatch(client, 60.0))
    assert "the connection is closed" in error.what
