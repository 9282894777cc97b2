"""The event stream: that its file is as docs/events.md says, and that a run's state follows from it."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner

from eoap_dask import cloudless_mosaic
from eoap_dask.cli.status import _Screen
from eoap_dask.cli.status import status as status_command
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import NoRunError, OtherRunError, UnitsFailedError, UsageError
from eoap_dask.run import status as status_module
from eoap_dask.run.events import EVENTS_FILE, Event, EventFile, EventKind, read_events
from eoap_dask.run.status import events_file, follow, read_status

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]

Clock = Callable[[float], datetime]


def section(title: str) -> str:
    """A section of the description."""
    return DOCUMENT.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_column(title: str) -> list[str]:
    """What the table of a section begins its rows with."""
    return re.findall(r"^\| `([^`]+)` \|", section(title), re.M)


def example() -> list[str]:
    """The lines of the description's example."""
    return re.findall(r"```json\n(.*?)```", section("An example"), re.S)[0].splitlines()


# ----------------------------------------------------------------------------------------------------
# As it is described


def test_the_description_names_all_kinds_and_fields() -> None:
    assert first_column("Kinds") == list(get_args(EventKind))
    assert sorted(first_column("A line")) == sorted(field.name for field in dataclasses.fields(Event))


def test_the_example_is_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / EVENTS_FILE).write_text("".join(f"{line}\n" for line in example()))
    for line, event in zip(example(), read_events(out / EVENTS_FILE), strict=True):
        fields = {**event, "time": datetime.fromisoformat(event["time"])}
        assert json.loads(Event(**fields).to_json()) == json.loads(line)
    check_promises(list(read_events(out / EVENTS_FILE)))
    status = read_status(out)
    assert status.state == "complete"
    assert status.units == {MONTHS[0]: "skipped", MONTHS[1]: "done", MONTHS[2]: "done"}
    assert (status.blocks_done, status.blocks_total, status.cluster) == (2, 2, "2 workers × 1 thread")
    assert status.blocks_per_second == pytest.approx(2 / (5.733 - 1.252))


def test_the_code_of_the_description_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("monthly-mosaic").mkdir()
    Path("monthly-mosaic", EVENTS_FILE).write_text("".join(f"{line}\n" for line in example()))
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S):
        exec(block, names)  # noqa: S102 - our own page
    assert capsys.readouterr().out.splitlines()[1] == f"2 unit-checking {MONTHS[0]}"
    assert names["first"]["seq"] == 1
    assert [event["seq"] for event in names["later"]] == list(range(2, 13))


def check_promises(events: list[dict[str, Any]]) -> None:
    """Check what the description says of every file."""
    assert events[0]["kind"] == "run"
    assert [event["kind"] for event in events].count("run") == 1
    assert [event["kind"] for event in events[1:]].count("end") <= 1
    assert {len(event["run"]) for event in events} == {32}
    assert len({event["run"] for event in events}) == 1
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert all(time.utcoffset() == timedelta(0) for time in times)
    over: set[str] = set()
    for event in events:
        assert event["kind"] in get_args(EventKind)
        unit = event.get("unit", "")
        is_of_unit = re.search(rf"^\| `{event['kind']}` \| yes \|", section("Kinds"), re.M) is not None
        assert bool(unit) == is_of_unit
        assert unit not in over
        if event["kind"] in {"unit-done", "unit-skipped", "unit-failed"}:
            over.add(unit)
    kinds = [event["kind"] for event in events]
    if "todo" in kinds:
        assert {"unit-checking", "unit-skipped"}.isdisjoint(kinds[kinds.index("todo") :])
        assert "block-done" not in kinds[: kinds.index("todo")]


@pytest.mark.cluster
def test_runs_keep_what_is_promised(archive: Archive, tmp_path: Path) -> None:
    bad = next(i for i in archive.items if i["properties"]["datetime"].startswith("2020-11"))
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with DemoServer(archive, faults={f"{bad['id']}/B04": "404"}) as server:
        asked = {"stac": server.url, "output_dir": out, "resolution": 400.0, "bands": ("red",), "retries": 0}
        with pytest.raises(UnitsFailedError):
            cloudless_mosaic(**asked, max_cloud_cover=100.0)
        failed = list(read_events(partial / EVENTS_FILE))
        server.faults.clear()
        cloudless_mosaic(**asked, max_cloud_cover=100.0)
    again = list(read_events(out / EVENTS_FILE))
    for events in (failed, again):
        check_promises(events)
    assert failed[0]["run"] != again[0]["run"] == read_status(out).run
    assert [e["unit"] for e in failed if e["kind"] == "unit-failed"] == [MONTHS[1]]
    assert failed[-1]["message"].startswith("1 of 3 units failed.")
    assert [e["unit"] for e in again if e["kind"] == "unit-skipped"] == [MONTHS[0], MONTHS[2]]
    assert [e["unit"] for e in again if e["kind"] == "unit-checking"] == [MONTHS[0], MONTHS[2]]
    assert again[-1]["message"] == "complete"


# ----------------------------------------------------------------------------------------------------
# The file


def test_a_file_and_somebody_else_get_every_event(tmp_path: Path) -> None:
    heard: list[Event] = []
    with EventFile(tmp_path / EVENTS_FILE, heard.append) as tell:
        tell(Event("run", blocks_total=1, message="https://h/x?sig=c2VjcmV0"))
        assert len(list(read_events(tmp_path / EVENTS_FILE))) == 1  # at once, for those who watch
        tell(Event("end", message="complete"))
    assert [event.kind for event in heard] == ["run", "end"]
    assert [event.seq for event in heard] == [1, 2]
    assert {event.run for event in heard} == {event["run"] for event in read_events(tmp_path / EVENTS_FILE)}
    assert "c2VjcmV0" not in (tmp_path / EVENTS_FILE).read_text()


def test_what_is_not_whole_is_passed_by(tmp_path: Path) -> None:
    file = tmp_path / EVENTS_FILE
    lines = example()
    file.write_text(f'{lines[0]}\nnot JSON\n[1]\n{{"no": "kind"}}\n{lines[3]}\n{lines[4][:20]}')
    assert [event["kind"] for event in read_events(file)] == ["run", "todo"]


def test_events_of_many_threads_are_numbered_without_gaps(tmp_path: Path) -> None:
    with EventFile(tmp_path / EVENTS_FILE, run="a" * 32) as tell:
        threads = [
            threading.Thread(target=lambda: [tell(Event("block-done")) for _ in range(50)], daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event["seq"] for event in read_events(tmp_path / EVENTS_FILE)] == list(range(1, 201))


# ----------------------------------------------------------------------------------------------------
# Going on where one stopped


def line(kind: str, run: str, seq: int) -> str:
    return json.dumps({"kind": kind, "time": "2026-03-02T09:00:00+00:00", "run": run, "seq": seq}) + "\n"


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    file = tmp_path / EVENTS_FILE
    file.write_text(line("run", "one", 1) + line("todo", "one", 2) + line("end", "one", 3)[:9])
    events = read_events(file)
    assert (next(events)["seq"], events.offset) == (1, len(line("run", "one", 1)))
    rest = read_events(file, events.offset, "one")
    assert [event["seq"] for event in rest] == [2]
    assert rest.offset == len(line("run", "one", 1) + line("todo", "one", 2))
    with file.open("a") as more:
        more.write(line("end", "one", 3)[9:])
    last = read_events(file, rest.offset, "one")
    assert [event["kind"] for event in last] == ["end"]
    assert list(read_events(file, last.offset, "one")) == []
    assert last.offset == file.stat().st_size


def test_a_file_of_another_run_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / EVENTS_FILE
    file.write_text(line("run", "one", 1) + line("todo", "one", 2))
    offset = file.stat().st_size
    file.write_text(line("run", "two", 1))
    with pytest.raises(OtherRunError, match="holds events of another run than one"):
        next(read_events(file, offset, "one"))
    with pytest.raises(OtherRunError, match=f"has no line that begins at byte {offset}"):  # though it isn't said which
        next(read_events(file, offset))
    assert [event["run"] for event in read_events(file, 0, "two")] == ["two"]
    file.write_text(f"{example()[0]}\n".replace('"run": "5c1f', '"other": "5c1f'))  # as of an earlier version
    assert len(list(read_events(file))) == 1
    with pytest.raises(OtherRunError):
        next(read_events(file, 0, "two"))
    file.write_text("")
    assert list(read_events(file, 0, "two")) == []  # not begun yet
    file.unlink()
    with pytest.raises(FileNotFoundError):
        next(read_events(file, offset, "one"))


def test_the_events_of_a_run_are_found_wherever_they_lie(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    assert events_file(out) is None
    for folder, run in ((out, "one"), (partial, "two")):
        folder.mkdir()
        (folder / EVENTS_FILE).write_text(line("run", run, 1))
    assert events_file(out) == events_file(out, "two") == partial / EVENTS_FILE
    assert events_file(out, "one") == out / EVENTS_FILE
    assert events_file(out, "three") is None


def test_a_run_is_followed_until_it_is_over(tmp_path: Path, events: EventFile) -> None:
    """Also over the moment in which it is published, and from the middle."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    events(Event("run", blocks_total=1))
    events(Event("todo", blocks_total=1))
    followed = follow(out, every_s=0.01)
    seen = [next(followed), next(followed)]

    def go_on() -> None:
        events(Event("block-done", "one", 1, 1))
        events(Event("end", message="complete"))
        partial.rename(out)

    later = threading.Timer(0.1, go_on)
    later.start()
    seen += followed
    later.join()
    assert [event["kind"] for event in seen] == ["run", "todo", "block-done", "end"]
    assert [event["seq"] for event in seen] == [1, 2, 3, 4]
    run = seen[0]["run"]
    partial.mkdir()  # of a run that begins after it
    (partial / EVENTS_FILE).write_text(line("run", "two", 1))
    assert [event["seq"] for event in follow(out, run, after=2)] == [3, 4]
    (out / EVENTS_FILE).unlink()
    with pytest.raises(NoRunError):
        next(follow(out, run, after=2))


def test_a_run_that_was_killed_or_leaves_nothing_is_not_followed_for_ever(tmp_path: Path, events: EventFile) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    events(Event("run", blocks_total=1))
    followed = follow(out, every_s=0.01)
    assert next(followed)["kind"] == "run"
    (partial / EVENTS_FILE).write_text(line("run", "two", 1))  # the next one has begun
    assert list(followed) == []
    (tmp_path / "out.lock").unlink()
    assert [event["run"] for event in follow(out)] == ["two"]  # it has no end, and nobody works


# ----------------------------------------------------------------------------------------------------
# What follows from it


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventFile]:
    """The stream of a run that works: its lock is held."""
    (tmp_path / "out.partial").mkdir()
    lock = (tmp_path / "out.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with EventFile(tmp_path / "out.partial" / EVENTS_FILE) as tell:
        yield tell
    lock.close()


@pytest.fixture
def at() -> Clock:
    """Times that begin so long before a test that nothing depends on how fast it is."""
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1000)
    return lambda seconds: began + timedelta(seconds=seconds)


def test_status_of_a_run_that_checks(tmp_path: Path, events: EventFile, at: Clock) -> None:
    events(Event("run", blocks_total=8, message="2 units, 8 blocks", time=at(0)))
    events(Event("unit-checking", "one", 0, 8, time=at(1)))
    events(Event("unit-skipped", "one", 4, 8, time=at(2)))
    events(Event("unit-checking", "two", 4, 8, time=at(3)))
    status = read_status(tmp_path / "out")
    assert (status.state, status.blocks_done) == ("running", 0)
    assert status.units == {"one": "skipped", "two": "checking"}
    assert status.blocks_per_second is None
    assert "checking  two" in str(status)
    events(Event("todo", blocks_total=4, message="1 unit, 4 blocks to do", time=at(500)))
    assert read_status(tmp_path / "out").units == {"one": "skipped"}
    events(Event("unit-started", "two", 0, 4, time=at(501)))
    events(Event("block-done", "two", 2, 4, time=at(502)))
    status = read_status(tmp_path / "out")
    assert status.blocks_per_second == pytest.approx(2 / 500, rel=0.05)  # not counting the time of the checking
    assert status.seconds_left == pytest.approx(500, rel=0.05)


def test_status_tells_of_trouble(tmp_path: Path, events: EventFile) -> None:
    events(Event("run", blocks_total=2))
    events(Event("todo", blocks_total=2))
    events(Event("cluster", blocks_total=2, message="no worker"))
    events(Event("unit-started", "one", 0, 2))
    events(Event("block-retried", "one", 0, 2, "Workers died while they had block 0."))
    events(Event("unit-failed", "one", 0, 1, "Its source is <gone>."))
    status = read_status(tmp_path / "out")
    assert (status.cluster, status.retried_blocks) == ("no worker", 1)
    assert status.failures == {"one": "Its source is <gone>."}
    assert "no worker" in str(status)
    assert "1 block whose workers died" in str(status)
    assert "&lt;gone&gt;" in status._repr_html_()
    assert json.loads(json.dumps(status.to_dict()))["failures"] == {"one": "Its source is <gone>."}


def test_a_run_that_was_killed_is_told_from_one_that_works(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.lock").write_text("{}")
    with EventFile(tmp_path / "out.partial" / EVENTS_FILE) as tell:
        tell(Event("run", blocks_total=2))
        with (tmp_path / "out.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert read_status(tmp_path / "out").state == "running"
        status = read_status(tmp_path / "out")
        assert (status.state, status.message) == ("stopped", "killed")
    with pytest.raises(UsageError, match="No run has written to"):
        read_status(tmp_path / "elsewhere")


def test_a_run_that_begins_while_we_look_was_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.partial").mkdir()
    with (tmp_path / "out.lock").open("w") as lock, EventFile(tmp_path / "out.partial" / EVENTS_FILE) as tell:

        def read(path: Path) -> Iterator[dict[str, Any]]:
            fcntl.flock(lock, fcntl.LOCK_EX)  # after the first look at it, before the file is read
            tell(Event("run", blocks_total=2))
            return read_events(path)

        monkeypatch.setattr(status_module, "read_events", read)
        assert read_status(tmp_path / "out").state == "running"


def test_a_file_of_an_earlier_version_is_understood(tmp_path: Path, at: Clock) -> None:
    """Without `todo`, the rate counts from the beginning."""
    (tmp_path / "out").mkdir()
    with EventFile(tmp_path / "out" / EVENTS_FILE) as tell:
        tell(Event("run", blocks_total=2, time=at(0)))
        tell(Event("unit-skipped", "one", 0, 2, time=at(0)))
        tell(Event("unit-started", "two", 0, 2, time=at(1)))
        tell(Event("block-done", "two", 2, 2, time=at(10)))
        tell(Event("end", "", 2, 2, "complete", time=at(10)))
    assert read_status(tmp_path / "out").blocks_per_second == pytest.approx(0.2)


def test_a_file_has_no_status(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("not a directory")
    with pytest.raises(UsageError, match="No run has written to"):
        read_status(tmp_path / "out")


def test_every_option_of_status_has_a_variable(tmp_path: Path, events: EventFile) -> None:
    events(Event("run", blocks_total=1))
    events(Event("end", message="complete"))
    said = CliRunner().invoke(
        status_command, [str(tmp_path / "out")], env={"EOAP_DASK_JSON": "1", "EOAP_DASK_WATCH": "1"}
    )
    assert (said.exit_code, json.loads(said.stdout)["state"]) == (0, "complete")
    for option in status_command.params:
        if isinstance(option, click.Option):
            name = max(option.opts, key=len).removeprefix("--")
            assert name == "version" or option.envvar == f"EOAP_DASK_{name.upper()}"


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_watched_status_is_drawn_in_place(tmp_path: Path, events: EventFile, monkeypatch: pytest.MonkeyPatch) -> None:
    events(Event("run", blocks_total=3, units_total=3))
    events(Event("unit-done", "a", 1, 3))
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "30")
    shown = _Screen(is_json=False)
    for _ in range(2):
        shown.show(read_status(tmp_path / "out"))
    first, up, again = re.split(r"\x1b\[(\d+)A\x1b\[J", screen.getvalue())  # so many lines up, and all below is erased
    assert int(up) == first.count("\n")
    assert first.splitlines()[:3] == again.splitlines()[:3]
    assert all(len(line) < 30 for line in first.splitlines())
    assert first.splitlines()[0].endswith("…")


def test_status_says_of_how_many_units(tmp_path: Path, events: EventFile) -> None:
    events(Event("run", blocks_total=3, units_total=3))
    events(Event("unit-done", "a", 1, 3))
    found = read_status(tmp_path / "out")
    assert "  units     1 done, 0 finished before, 0 failed of 3\n" in str(found)
    assert found.to_dict()["units_total"] == 3
    said = CliRunner().invoke(status_command, [str(tmp_path / "out")]).stdout
    assert "\x1b" not in said  # a file isn't drawn in
    events(Event("run", blocks_total=3))  # units that come as the run goes on
    assert "0 failed\n" in str(read_status(tmp_path / "out"))
