"""Runs that are killed at moments taken from their event stream, and run again; many more by `benchmarks.kills`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.kills import KINDS, MONTHS, SUBJECTS, Arena, Trial, TrialError, contents

pytest.importorskip("dask_gateway_server")
pytest.importorskip("sqlalchemy")

pytestmark = [pytest.mark.cluster, pytest.mark.long]


MOST_ATTEMPTS = 5


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("kills"), seed=3) as prepared:
        yield prepared


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("kills-of-chips"), seed=3, subject=SUBJECTS["crop-chips"]) as prepared:
        yield prepared


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    subject = SUBJECTS["change-detection"]
    with Arena(tmp_path_factory.mktemp("kills-of-changes"), seed=5, subject=subject) as prepared:
        yield prepared


OF_CHANGES = (("scheduler", "client"), ("scheduler", "workers"), ("gateway", "worker"))


def subject_of(number: int) -> str:
    """Say what is killed: what has been tried with mosaics is tried with chips when it comes again."""
    if KINDS[number] in OF_CHANGES:
        return "changes"
    return "chips" if KINDS[number] in KINDS[:number] else "arena"


TRIALS = [(subject_of(number), number) for number in range(len(KINDS))]


@pytest.mark.parametrize(
    ("subject", "number"), TRIALS, ids=["-".join((subject, *KINDS[number])) for subject, number in TRIALS]
)
def test_killed_and_run_again(request: pytest.FixtureRequest, subject: str, number: int) -> None:
    arena: Arena = request.getfixturevalue(subject)
    for attempt in range(MOST_ATTEMPTS):  # a run may be over before its killer comes; then at another moment
        trial = arena.draw(number + attempt * len(KINDS))
        assert (trial.where, trial.victim) == KINDS[number]
        result = arena.try_kill(trial)
        assert result.fault == "", f"{trial}: {result.fault}"
        if result.killed:
            return
    pytest.fail(f"{MOST_ATTEMPTS} runs were over before anything was killed")


def test_trials_are_drawn_again_from_their_seed(arena: Arena) -> None:
    assert [arena.draw(n) for n in range(40)] == [arena.draw(n) for n in range(40)]
    drawn = [arena.draw(n) for n in range(40)]
    assert all(1 <= trial.after < arena._events for trial in drawn)  # before the event that ends a run
    assert len({(trial.after, trial.moment_s) for trial in drawn}) > 20
    assert {trial.update for trial in drawn if trial.where == "local"} == {True, False}


# That a trial would tell.


def test_a_product_that_differs_is_told(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Trial(1000, "local", "client", after=10_000, moment_s=0.0, update=False)  # the run is over before
    expected = dict(arena._new)
    name = f"monthly-mosaic-{MONTHS[0]}/count.tif"
    monkeypatch.setattr(arena, "_new", {**expected, name: "another"})
    fault = arena.try_kill(late).fault
    assert fault == f"the output is there and isn't whole: {name}"
    monkeypatch.setattr(arena, "_new", expected)
    result = arena.try_kill(replace(late, number=1001))
    assert (result.fault, result.killed, result.exit_code) == ("", 0, 0)


def test_what_is_left_is_told(arena: Arena, tmp_path: Path) -> None:
    trial = Trial(0, "local", "client", after=1, moment_s=0.0, update=False)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    arena._check_tidy(trial, tmp_path)
    (tmp_path / "tmp" / "forgotten").touch()
    with pytest.raises(TrialError, match="forgotten"):
        arena._check_tidy(trial, tmp_path)
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(TrialError, match=r"out\.partial"):
        arena._check_tidy(trial, tmp_path)


def test_a_time_may_differ_and_nothing_else(tmp_path: Path) -> None:
    for name, text in (
        ("one", '{"timings": 1, "a": 1}'),
        ("two", '{"a": 1, "timings": 2}'),
        ("three", '{"timings": 1, "a": 2}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
        (tmp_path / name / "events.jsonl").write_text(name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") != contents(tmp_path / "three")
