"""Two runs in threads of one process, each on an embedded cluster of its own: neither notices the other."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event as Moment
from typing import Any

import dask
import pytest
from distributed import default_client
from loguru import logger

from eoap_dask import Run, UnitsFailedError, cloudless_mosaic
from eoap_dask.cli.progress import Progress
from eoap_dask.cluster.environment import HEAP
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.run.events import EVENTS_FILE, Event, read_events
from eoap_dask.run.status import follow, read_status

pytestmark = [pytest.mark.cluster, pytest.mark.long]

ASKED: dict[str, dict[str, Any]] = {
    "autumn": {"start_date": "2020-10-01", "end_date": "2020-11-30", "resolution": 200.0, "bands": ("red", "nir")},
    "december": {"start_date": "2020-12-01", "end_date": "2020-12-31", "resolution": 100.0, "bands": ("green",)},
}
UNITS = {"autumn": ["monthly-mosaic-2020-10", "monthly-mosaic-2020-11"], "december": ["monthly-mosaic-2020-12"]}
PATIENCE_S = 120


class CancelledError(Exception):
    """Somebody wants no more of a run."""


@dataclasses.dataclass
class Listener:
    """Says what happens as a command does, and does something at the first event of a kind."""

    kind: str = ""
    action: Callable[[], object] = lambda: None
    events: list[Event] = dataclasses.field(default_factory=list)
    say: Progress = dataclasses.field(default_factory=lambda: Progress(quiet=True))

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.say(event)
        if event.kind == self.kind and [one.kind for one in self.events].count(self.kind) == 1:
            self.action()


@pytest.fixture(scope="module")
def served(archive: Archive) -> Iterator[ServerProcess]:
    with ServerProcess(archive) as server:
        yield server


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    logger.enable("eoap_dask")
    yield
    logger.disable("eoap_dask")


def make(server: ServerProcess, name: str, out: Path, listener: Listener | None = None) -> Run:
    """By default on the active client, if there is one."""
    return cloudless_mosaic(
        **ASKED[name], stac=server.url, output_dir=out, listener=listener, retries=0, workers=1, worker_memory="1GiB"
    )


def assets(out: Path) -> dict[str, bytes]:
    files = [*out.glob("*/*.tif"), *out.glob("*/*.png")]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def alone(served: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    root = tmp_path_factory.mktemp("alone")
    made = {name: assets(make(served, name, root / name).output) for name in ASKED}
    assert [len(files) for files in made.values()] == [8, 4]
    return made


def state() -> dict[str, Any]:
    """What runs change of the process."""
    names = ("distributed", "distributed.worker", "distributed.nanny", "distributed.scheduler", "bokeh", "tornado")
    return {
        **{name: logging.getLogger(name).level for name in names},
        **{f"handler {n}": handler.level for n, handler in enumerate(logging.getLogger("distributed").handlers)},
        **{name: os.environ.get(name) for name in HEAP},
        "config": json.dumps(dask.config.config, default=str, sort_keys=True),
    }


def check_own(place: Path, name: str, listener: Listener) -> str:
    """Check that log and events in a directory are those of one run, and return its id."""
    (other,) = set(UNITS) - {name}
    log = (place / "run.log").read_text()
    assert "Dask dashboard at" in log
    assert all(unit in log for unit in UNITS[name])
    assert not any(unit in log for unit in UNITS[other])
    assert log.count("Tiles are put onto the output's disk") == 1
    events = list(read_events(place / EVENTS_FILE))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    (run,) = {event["run"] for event in events}
    assert [(event.run, event.seq) for event in listener.events] == [(run, event["seq"]) for event in events]
    assert {event["unit"] for event in events if "unit" in event} == set(UNITS[name])
    assert [event["kind"] for event in events].count("cluster") == 1
    return str(run)


@pytest.mark.parametrize(("fate", "first"), [("complete", "december"), ("failed", "autumn"), ("cancelled", "december")])
def test_one_ends_while_the_other_works(
    served: ServerProcess, alone: dict[str, dict[str, bytes]], tmp_path: Path, fate: str, first: str
) -> None:
    """December ends, in one way or another, in the middle of autumn; one of them began first."""
    before = state()
    begun, ended = {name: Moment() for name in ASKED}, Moment()
    (second,) = set(ASKED) - {first}

    def cancel() -> None:
        raise CancelledError

    def work(name: str, listener: Listener) -> Run:
        if name == second:
            assert begun[first].wait(PATIENCE_S)
        try:
            return make(served, name, tmp_path / name, listener)
        finally:
            if name == "december":
                ended.set()

    def meet(name: str) -> None:
        begun[name].set()
        assert all(moment.wait(PATIENCE_S) for moment in begun.values())

    listeners = {
        "autumn": Listener("unit-started", lambda: (meet("autumn"), ended.wait(PATIENCE_S))),
        "december": Listener("unit-started", lambda: (meet("december"), cancel() if fate == "cancelled" else None)),
    }
    scenes = [item["id"] for item in served.catalogue.items if item["properties"]["datetime"].startswith("2020-12")]
    served.faults = {f"{scene}/B03": "404" for scene in scenes} if fate == "failed" else {}
    with ThreadPoolExecutor(2) as pool:
        runs: dict[str, Future[Run]] = {name: pool.submit(work, name, listeners[name]) for name in ASKED}
    served.faults = {}

    out = runs["autumn"].result().output
    assert assets(out) == alone["autumn"]
    expected = {"complete": None, "failed": UnitsFailedError, "cancelled": CancelledError}[fate]
    if expected is None:
        assert assets(runs["december"].result().output) == alone["december"]
        place = tmp_path / "december"
    else:
        with pytest.raises(expected):
            runs["december"].result()
        place = tmp_path / "december.partial"
    assert ended.is_set()
    ids = {check_own(out, "autumn", listeners["autumn"])}
    if fate == "cancelled":  # it has finished nothing, and left nothing
        assert not place.exists()
        assert listeners["december"].events[-1].message == "CancelledError"
    else:
        ids.add(check_own(place, "december", listeners["december"]))
        assert len(ids) == 2
        assert read_status(tmp_path / "december").run in ids
        assert [event["seq"] for event in follow(tmp_path / "december")] == [
            event.seq for event in listeners["december"].events
        ]
    assert state() == before
    with pytest.raises(ValueError, match="No client"):
        default_client()
