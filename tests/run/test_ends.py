"""How runs end: with an `end` in their events in any case, and with one unit's fault as that unit's alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from eoap_dask.applications.cloudless_mosaic.application import APPLICATION
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import ClusterError, EoapError, NothingFoundError, OutputError, UnitsFailedError
from eoap_dask.publish.publication import Publication
from eoap_dask.run.events import Event, read_events
from eoap_dask.run.result import Run
from eoap_dask.run.written import WrittenUnit

pytestmark = pytest.mark.cluster

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]

Finish = Callable[[Any, WrittenUnit], dict[str, Any]]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


def make(
    server: DemoServer, out: Path, client: Client, heard: list[Event], finish: Finish = APPLICATION.finish, **more: Any
) -> Run:
    asked = {"stac": server.url, "resolution": 400.0, "bands": ("red",), "output_dir": out, **more}
    return dataclasses.replace(APPLICATION, finish=finish).run(client=client, listener=heard.append, changes=asked)


def failing(faults: dict[str, Exception]) -> Finish:
    """Finish units as ever, but for some that raise."""

    def finish(request: Any, written: WrittenUnit) -> dict[str, Any]:
        if written.plan.unit.key in faults:
            raise faults[written.plan.unit.key]
        return APPLICATION.finish(request, written)

    return finish


def assert_ends_once(heard: list[Event], message: str) -> None:
    assert [event.kind for event in heard].count("end") == 1
    assert heard[-1].kind == "end"
    assert heard[-1].message.startswith(message)


# ----------------------------------------------------------------------------------------------------
# The last event


def test_a_run_with_nothing_to_do_ends_complete(calm: DemoServer, tmp_path: Path, client: Client) -> None:
    make(calm, tmp_path / "out", client, [])
    heard: list[Event] = []
    again = make(calm, tmp_path / "out", client, heard)
    assert [item["id"] for item in again.items] == MONTHS
    assert_ends_once(heard, "complete")
    assert not (tmp_path / "out.partial").exists()


def test_a_run_that_is_stopped_while_it_checks(
    calm: DemoServer, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnitsFailedError):  # leaves something to be checked
        make(calm, tmp_path / "out", client, [], failing({MONTHS[2]: OutputError("No.")}))

    def interrupted(self: Publication, key: str, digest: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Publication, "adopt", interrupted)
    heard: list[Event] = []
    with pytest.raises(KeyboardInterrupt):
        make(calm, tmp_path / "out", client, heard)
    assert_ends_once(heard, "KeyboardInterrupt")
    assert list(read_events(tmp_path / "out.partial" / "events.jsonl"))[-1]["kind"] == "end"


def test_a_run_whose_catalog_cant_be_made(calm: DemoServer, tmp_path: Path, client: Client) -> None:
    def describe(*_: Any) -> Any:
        raise OutputError("The catalog can't be made.")

    heard: list[Event] = []
    application = dataclasses.replace(APPLICATION, describe=describe)
    asked = {"stac": calm.url, "resolution": 400.0, "bands": ("red",), "output_dir": tmp_path / "out"}
    with pytest.raises(OutputError, match=r"The catalog can't be made\."):
        application.run(client=client, listener=heard.append, changes=asked)
    assert_ends_once(heard, "The catalog can't be made.")
    assert heard[-1].blocks_done == heard[-1].blocks_total == 3  # as far as it had come


# ----------------------------------------------------------------------------------------------------
# A unit that can't be finished


def test_a_unit_that_cant_be_finished_fails_alone(calm: DemoServer, tmp_path: Path, client: Client) -> None:
    heard: list[Event] = []
    finish = failing({MONTHS[0]: EoapError("Its item can't be made.", "", "Try.")})
    with pytest.raises(UnitsFailedError, match=r"1 of 3 units failed\. monthly-mosaic-2020-10: Its item can't be made"):
        make(calm, tmp_path / "out", client, heard, finish)
    assert_ends_once(heard, "1 of 3 units failed.")
    partial = tmp_path / "out.partial"
    assert json.loads((partial / "failures.json").read_text())["failures"] == [
        {"unit": MONTHS[0], "reason": "Its item can't be made.", "attempts": 1}
    ]
    assert sorted(path.name for path in partial.glob("monthly-*")) == MONTHS[1:]


def test_a_unit_that_cant_be_finished_may_be_missing(calm: DemoServer, tmp_path: Path, client: Client) -> None:
    finish = failing({MONTHS[0]: NothingFoundError("Nothing is to be seen.")})
    run = make(calm, tmp_path / "out", client, [], finish, max_failures=1)
    assert [item["id"] for item in run.items] == MONTHS[1:]
    assert [failure.reason for failure in run.failures] == ["Nothing is to be seen."]


def test_a_cluster_that_goes_away_is_no_units_fault(calm: DemoServer, tmp_path: Path, client: Client) -> None:
    with pytest.raises(ClusterError, match="It went away"):
        make(calm, tmp_path / "out", client, [], failing({MONTHS[0]: ClusterError("It went away.")}), max_failures=3)


def test_where_no_unit_has_anything_to_be_seen_nothing_was_found(
    calm: DemoServer, tmp_path: Path, client: Client
) -> None:
    heard: list[Event] = []
    nothing = NothingFoundError("Nothing is to be seen.", "Expected something.", "Try elsewhere.")
    october = {"start_date": "2020-10-01", "end_date": "2020-10-31"}
    with pytest.raises(NothingFoundError) as caught:
        make(calm, tmp_path / "out", client, heard, failing({MONTHS[0]: nothing}), max_failures=1, **october)
    assert str(caught.value) == "Nothing is to be seen. Expected something. Try elsewhere."
    assert caught.value.exit_code == 3
    assert_ends_once(heard, "Nothing is to be seen.")
    assert not (tmp_path / "out.partial").exists()


# ----------------------------------------------------------------------------------------------------
# What is recorded


def test_items_that_a_catalogue_kept_back_are_recorded(calm: DemoServer, tmp_path: Path, client: Client) -> None:
    make(calm, tmp_path / "out", client, [])
    found = json.loads((tmp_path / "out" / "items.json").read_text())
    assert "missing" not in json.loads((tmp_path / "out" / "run.json").read_text())["search"]
    (tmp_path / "found.json").write_text(json.dumps({**found, "eoap:missing": 3}))
    make(calm, tmp_path / "again", client, [], items=str(tmp_path / "found.json"), allow_hosts=("127.0.0.1",))
    search = json.loads((tmp_path / "again" / "run.json").read_text())["search"]
    assert (search["missing"], search["truncated"]) == (3, True)
