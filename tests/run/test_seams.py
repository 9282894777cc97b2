"""The seams that other applications lean on, held by one that leans on all of them: `tests/support/seams.py`."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from distributed import Client
from tests.support.seams import CHIP, REACH, SHAPE, THRESHOLD, WINDOWS, ZONES, Seams, make, pixels

from eoap_dask import Control, Hooks
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.errors import StoppedError, UnitsFailedError, UsageError
from eoap_dask.files import sha256_of
from eoap_dask.publish.per_unit import UnitPublication
from eoap_dask.publish.publication import Publication
from eoap_dask.run.events import Event
from eoap_dask.run.plan import UnitPlan
from eoap_dask.run.result import Run

pytestmark = pytest.mark.cluster

CELLS = [f"cell-{zone}" for zone in ZONES]
KEYS = [*CELLS, "cell-empty", "mean-a", "mean-b", "change"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


@pytest.fixture(scope="module")
def run(seams: Seams, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make(seams, tmp_path_factory.mktemp("seams-run") / "out", client)


def assets(out: Path) -> dict[str, str]:
    """Return the checksum of each asset, by its path."""
    return {p.relative_to(out).as_posix(): sha256_of(p) for p in sorted(out.rglob("*.tif"))}


def edit_params(out: Path, **params: Any) -> None:
    """Let a product say that it was asked for otherwise."""
    account = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**account, "params": {**account["params"], **params}}))


def read(path: Path) -> Any:
    with rasterio.open(path) as file:
        return file.read()


# What is made, against numpy.


def median_of(zone: int, *days: int) -> Any:
    """The median of the days with data; an even number averages the two middle ones, half rounds up."""
    stack = np.stack([pixels(zone, day) for day in days]).astype(np.int64)
    count = (stack > 0).sum(axis=0)
    values = np.sort(np.where(stack == 0, 1 << 20, stack), axis=0)  # what is missing comes last
    low, high = ((np.maximum(count, 1) - 1) // 2, np.maximum(count, 1) // 2)
    both = [np.take_along_axis(values, one[None], 0)[0] for one in (low, high)]
    return np.where(count == 0, 0, (both[0] + both[1] + 1) // 2)


@pytest.mark.parametrize("zone", ZONES)
def test_chips_are_windows_of_their_cell_in_its_zone(run: Run, zone: int) -> None:
    cell = run.output / f"cell-{zone}"
    whole = median_of(zone, 0, 1, 2)
    for number, window in enumerate(WINDOWS):
        name = f"cell-{zone}-chip{number}"
        part = whole[window.row : window.row_stop, window.col : window.col_stop]
        np.testing.assert_array_equal(read(cell / "images" / f"{name}.tif")[0], part)
        mask = np.where(part == 0, 0, np.where(part > THRESHOLD, 2, 1))
        np.testing.assert_array_equal(read(cell / "masks" / f"{name}.tif")[0], mask)
        with rasterio.open(cell / "images" / f"{name}.tif") as file:
            assert file.shape == (CHIP, CHIP)
            assert file.crs.to_epsg() == zone
            assert file.transform.c == 300_000 + 10 * (zone % 7) + 10 * window.col
            assert file.transform.f == 4_900_000 - 10 * window.row


def test_the_item_of_a_cell_lists_and_checksums_those_of_its_chips(run: Run) -> None:
    cell = run.output / CELLS[0]
    item = json.loads((cell / f"{CELLS[0]}.json").read_text())
    links = {link["href"]: link for link in item["links"] if link["rel"] == "item"}
    assert list(links) == [f"./{CELLS[0]}-chip{n}.json" for n in range(3)]
    for href, link in links.items():
        path = cell / href
        assert (link["file:size"], link["file:checksum"]) == (path.stat().st_size, f"1220{sha256_of(path)}")
        chip = json.loads(path.read_text())
        assert chip["properties"]["proj:shape"] == [CHIP, CHIP]
        for asset in chip["assets"].values():
            assert asset["file:checksum"] == f"1220{sha256_of(cell / asset['href'])}"
    assert item["assets"] == {}


def test_a_cell_without_chips_is_done_too(run: Run) -> None:
    assert sorted(p.name for p in (run.output / "cell-empty").iterdir()) == ["cell-empty.json"]
    item = json.loads((run.output / "cell-empty" / "cell-empty.json").read_text())
    assert item["properties"]["test:chips"] == 0
    assert "eoap:valid_percent" not in item["properties"]
    assert [one["id"] for one in run.items] == KEYS


def test_a_change_of_two_units_with_a_statistic_in_three_passes_a_halo_and_a_table(run: Run) -> None:
    before, after = median_of(ZONES[1], 0, 1), median_of(ZONES[1], 2, 3)
    both = (before > 0) & (after > 0)
    change = (after - before)[both]
    mean, deviation = change.mean(), change.std()
    share = (np.abs(change - mean) > deviation).mean()
    item = json.loads((run.output / "change" / "change.json").read_text())
    assert item["properties"]["test:state"] == pytest.approx([mean, deviation, share], rel=1e-12)
    score = np.pad(np.where(both, (after - before - mean) / deviation, 0.0), REACH)
    side = 2 * REACH + 1
    expected = sum(score[r : r + SHAPE[0], c : c + SHAPE[1]] for r in range(side) for c in range(side))
    np.testing.assert_allclose(read(run.output / "change" / "score.tif")[0], expected, rtol=2e-6, atol=2e-6)
    looked_up = (before.astype(np.int64) * 7 + 3) % 60_000
    np.testing.assert_array_equal(read(run.output / "change" / "looked-up.tif")[0], looked_up)


# Equal bytes, however it is made.


@pytest.mark.parametrize(
    "how",
    [
        {"block": 1024},
        {"block": 1024, "budget": 1},
        {"sink": "client"},
        {"sink": "workers", "budget": 600_000},
    ],
    ids=["one block", "strips of 16 rows", "tiles through the client", "other strips, tiles on disk"],
)
def test_blocks_and_strips_change_no_byte(seams: Seams, client: Client, run: Run, tmp_path: Path, how: Any) -> None:
    again = make(seams, tmp_path / "out", client, **how)
    assert assets(again.output) == assets(run.output)
    state = [item["properties"]["test:state"] for item in again.items]
    assert state == [item["properties"]["test:state"] for item in run.items]


@pytest.mark.long
def test_workers_change_no_byte(seams: Seams, run: Run, tmp_path: Path) -> None:
    with local_client(Size(3, 1, 1 << 30)) as three:
        assert assets(make(seams, tmp_path / "out", three).output) == assets(run.output)


# Resume.


def kinds(heard: list[Event], kind: str) -> list[str]:
    return [event.unit for event in heard if event.kind == kind]


def test_a_run_with_nothing_to_do_needs_no_cluster(seams: Seams, run: Run) -> None:
    heard: list[Event] = []
    again = make(seams, run.output, None, Hooks(listener=heard.append), cluster="tcp://127.0.0.1:1")
    assert kinds(heard, "unit-skipped") == KEYS
    assert [item["id"] for item in again.items] == KEYS


@pytest.mark.parametrize("unit", ["cell-32631", "mean-b"])
def test_a_stopped_run_goes_on_where_it_was(seams: Seams, client: Client, run: Run, tmp_path: Path, unit: str) -> None:
    control, heard = Control(), []

    def listen(event: Event) -> None:
        if (event.kind, event.unit) == ("unit-done", unit):
            control.stop("The test says so.")

    with pytest.raises(StoppedError, match="The test says so"):
        make(seams, tmp_path / "out", client, Hooks(listener=listen, control=control))
    assert not (tmp_path / "out").exists()
    kept = {p.name for p in (tmp_path / "out.partial").iterdir() if p.is_dir() and p.name in KEYS}
    assert unit in kept
    assert "change" not in kept
    again = make(seams, tmp_path / "out", client, Hooks(listener=heard.append))
    assert set(kinds(heard, "unit-skipped")) == kept
    assert assets(again.output) == assets(run.output)


def test_a_damaged_chip_makes_its_cell_anew(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    first = make(seams, tmp_path / "out", client)
    chip = first.output / CELLS[1] / "masks" / f"{CELLS[1]}-chip2.tif"
    chip.write_bytes(chip.read_bytes()[:-1] + b"x")
    heard: list[Event] = []
    again = make(seams, tmp_path / "out", client, Hooks(listener=heard.append))
    assert kinds(heard, "unit-done") == [CELLS[1]]
    assert assets(again.output) == assets(run.output)


@pytest.mark.long
def test_a_unit_that_did_without_a_scene_changes_the_one_that_needs_it(seams: Seams, run: Run, tmp_path: Path) -> None:
    """It is the same unit, but what it needs to be is not: its content counts."""
    scene = seams.table.parent / f"{ZONES[1]}-3.tif"
    hidden = scene.with_suffix(".hidden")
    scene.rename(hidden)
    try:
        with local_client(Size(1, 2, 1 << 30)) as fresh:  # one that has nothing of the scene in its memory
            first = make(seams, tmp_path / "out", fresh, retries=0, max_bad_scenes=1)
    finally:
        hidden.rename(scene)
    parts = {}
    properties = {item["id"]: item["properties"] for item in first.items}
    assert properties["mean-b"]["eoap:left_out"] == [f"{ZONES[1]}-3"]
    parts["without"] = properties["change"]["eoap:digest_parts"]
    heard: list[Event] = []
    with local_client(Size(1, 2, 1 << 30)) as fresh:
        again = make(seams, tmp_path / "out", fresh, Hooks(listener=heard.append))
    assert kinds(heard, "unit-done") == ["mean-b", "change"]
    parts["with"] = {item["id"]: item["properties"] for item in again.items}["change"]["eoap:digest_parts"]
    assert parts["with"]["params"] == parts["without"]["params"]
    assert parts["with"]["needs"][0] == parts["without"]["needs"][0]  # mean-a
    assert parts["with"]["needs"][1] != parts["without"]["needs"][1]
    assert assets(again.output) == assets(run.output)


def test_a_unit_fails_with_one_that_it_needs(
    seams: Seams, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean = Seams.mean
    monkeypatch.setattr(
        Seams, "mean", lambda self, key, *days: mean(self, key, *days, *([9] if key == "mean-b" else []))
    )
    heard: list[Event] = []
    with pytest.raises(UnitsFailedError, match=r"2 of 7 units failed\. mean-b: "):
        make(seams, tmp_path / "out", client, Hooks(listener=heard.append), retries=0)
    assert kinds(heard, "unit-failed") == ["mean-b", "change"]
    ledger = json.loads((tmp_path / "out.partial" / "failures.json").read_text())["failures"]
    assert ledger[1] == {"unit": "change", "reason": "It needs mean-b, which failed.", "attempts": 1}


# Units from an iterator; a control; products that grow.


def test_units_from_a_stream_whose_last_depends_on_another(
    seams: Seams, client: Client, run: Run, tmp_path: Path
) -> None:
    heard: list[Event] = []
    made = make(seams, tmp_path / "out", client, Hooks(listener=heard.append), stream=True)
    assert [item["id"] for item in made.items] == [*KEYS, "late"]
    share = made.items[KEYS.index("change")]["properties"]["test:state"][2]
    part = median_of(ZONES[2], 0, 1, 2)[:CHIP, :CHIP]
    mask = np.where(part == 0, 0, np.where(part > round(10_000 * share), 2, 1))
    np.testing.assert_array_equal(read(made.output / "late" / "masks" / "late-chip0.tif")[0], mask)
    same = {name: one for name, one in assets(made.output).items() if not name.startswith("late/")}
    assert same == assets(run.output)
    last = [event for event in heard if event.kind == "block-done"][-1]
    assert last.blocks_done == last.blocks_total == heard[-1].blocks_done
    with pytest.raises(UsageError, match="holds late, which this run wouldn't make"):
        make(seams, tmp_path / "out", client)

    class Overtaken(Publication):
        def __init__(self, *given: Any, **how: Any) -> None:
            shutil.copytree(made.output, tmp_path / "other")  # another run publishes before we have the lock
            super().__init__(*given, **how)

    with pytest.raises(UsageError, match="holds late, which this run wouldn't make"):
        make(seams, tmp_path / "other", client, publisher=Overtaken)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out"]
    added = make(seams, tmp_path / "out", client, update=True)
    assert [item["id"] for item in added.items] == list(KEYS)
    assert assets(made.output).keys() > same.keys()  # it stays
    edit_params(made.output, threshold=THRESHOLD - 1)
    with pytest.raises(UsageError, match=f"threshold was {THRESHOLD - 1}, is {THRESHOLD}"):
        make(seams, tmp_path / "out", client, stream=True)
    edit_params(made.output, threshold=THRESHOLD)
    heard.clear()
    make(seams, tmp_path / "out", client, Hooks(listener=heard.append), stream=True)
    assert kinds(heard, "unit-skipped") == [*KEYS, "late"]


def test_a_paused_run_sends_nothing_until_it_goes_on(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    """What is under way when it is paused comes back, two blocks for each of two slots at most; then nothing does."""
    control, blocks = Control(), [0]
    seen: list[int] = []

    def listen(event: Event) -> None:
        if event.kind == "block-done":
            blocks[0] += 1
            if blocks[0] == 1:
                control.pause()
                threading.Timer(1.0, lambda: seen.append(blocks[0])).start()
                threading.Timer(2.0, lambda: (seen.append(blocks[0]), control.resume())).start()

    made = make(seams, tmp_path / "out", client, Hooks(listener=listen, control=control))
    assert assets(made.output) == assets(run.output)
    assert seen[0] == seen[1] <= 5 < blocks[0]


def test_a_stream_is_told_of_failures_and_ends(
    seams: Seams, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for ever for a unit that can't come."""
    mean = Seams.mean

    def more(self: Seams, key: str, *days: int) -> UnitPlan:  # there is no file of day 9
        return mean(self, key, *days, *([9] if key == "mean-b" else []))

    monkeypatch.setattr(Seams, "mean", more)
    failed: list[str] = []
    hooks = Hooks(unit_failed=lambda failure: failed.append(failure.unit))
    with pytest.raises(UnitsFailedError):
        make(seams, tmp_path / "out", client, hooks, stream=True, retries=0, max_failures=1)
    assert failed == ["mean-b", "change"]


def test_a_stream_that_never_ends_gives_up_after_too_many_failures(
    seams: Seams, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(self: Seams) -> Iterator[UnitPlan | None]:
        for number in count():
            yield self.mean(f"mean-{number}", 9)

    monkeypatch.setattr(Seams, "stream", endless)
    with pytest.raises(UnitsFailedError, match="units failed"):
        make(seams, tmp_path / "out", client, stream=True, retries=0, max_failures=2)


def test_a_unit_of_nothing_that_was_lost_is_made_again(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    first = make(seams, tmp_path / "out", client)
    (first.output / "cell-empty" / "cell-empty.json").unlink()
    again = make(seams, tmp_path / "out", client)
    assert (again.output / "cell-empty" / "cell-empty.json").is_file()
    assert assets(again.output) == assets(run.output)


def test_equal_chips_have_equal_items(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    """So that what needs their cell isn't made anew with it."""
    again = make(seams, tmp_path / "out", client)
    for chip in sorted((run.output / CELLS[0]).glob("*-chip*.json")):
        assert chip.read_bytes() == (again.output / CELLS[0] / chip.name).read_bytes()


def test_what_a_unit_is_made_from_is_linked(run: Run) -> None:
    item = json.loads((run.output / "change" / "change.json").read_text())
    links = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert links == ["../mean-a/mean-a.json", "../mean-b/mean-b.json"]


def test_a_drained_run_finishes_what_it_has_begun(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    control, heard = Control(), []

    def listen(event: Event) -> None:
        heard.append(event)
        if event.kind == "unit-started" and event.unit == CELLS[1]:
            control.drain("The node goes down.")

    with pytest.raises(StoppedError, match="The node goes down"):
        make(seams, tmp_path / "out", client, Hooks(listener=listen, control=control))
    assert kinds(heard, "unit-done") == kinds(heard, "unit-started")
    assert CELLS[1] in kinds(heard, "unit-done")
    assert len(kinds(heard, "unit-done")) < len(KEYS)
    assert assets(make(seams, tmp_path / "out", client).output) == assets(run.output)


def test_units_are_published_one_by_one(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    """A reader sees each unit when it is finished, whole, and a stopped run leaves what there was."""
    out, control, seen = tmp_path / "out", Control(), []

    def done(item: dict[str, Any]) -> None:
        found = json.loads((out / item["id"] / f"{item['id']}.json").read_text())
        for asset in found["assets"].values():
            assert asset["file:checksum"] == f"1220{sha256_of(out / item['id'] / asset['href'])}"
        seen.append(item["id"])
        if item["id"] == CELLS[2]:
            control.stop()

    with pytest.raises(StoppedError):
        make(seams, out, client, Hooks(control=control, unit_done=done), publisher=UnitPublication)
    assert not (out / "catalog.json").exists()
    assert not (tmp_path / "out.partial").exists()
    assert not (tmp_path / "out.lock").exists()
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.tif")}
    assert before
    heard: list[Event] = []
    made = make(seams, out, client, Hooks(listener=heard.append), publisher=UnitPublication, stream=True)
    assert set(kinds(heard, "unit-skipped")) >= {CELLS[2]}
    assert {p: p.stat().st_mtime_ns for p in before} == before
    catalog = json.loads(made.catalog.read_text())
    listed = [link["href"] for link in catalog["links"] if link["rel"] == "item"]
    units = [f"./{key}/{key}.json" for key in [*KEYS, "late"]]
    chips = [f"./{key}/{key}-chip{number}.json" for key in CELLS for number in range(3)]
    assert sorted(listed) == sorted([*units, *chips, "./late/late-chip0.json"])
    index = json.loads((made.output / "collection.json").read_text())["assets"]["index"]
    assert (made.output / index["href"]).read_text().split() == sorted([*KEYS, "late"])
    assert index["file:checksum"] == f"1220{sha256_of(made.output / index['href'])}"
    same = {name: one for name, one in assets(out).items() if not name.startswith("late/")}
    assert same == assets(run.output)
    edit_params(out, threshold=THRESHOLD - 1)
    with pytest.raises(UsageError, match="A product is never replaced unasked"):
        make(seams, out, client, publisher=UnitPublication, stream=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_hooks_are_told_of_units_and_of_the_product(seams: Seams, client: Client, tmp_path: Path) -> None:
    units: list[str] = []
    published: list[Run] = []
    made = make(
        seams,
        tmp_path / "out",
        client,
        Hooks(unit_done=lambda item: units.append(item["id"]), published=published.append),
    )
    assert sorted(units) == sorted(KEYS)
    assert published == [made]
    assert math.isfinite(made.seconds)


def test_what_a_stream_no_longer_asks_for_is_removed(seams: Seams, client: Client, run: Run, tmp_path: Path) -> None:
    """A stream isn't known before its end: what an interrupted run left of other units goes then."""
    control = Control()

    def listen(event: Event) -> None:
        if event.kind == "unit-done" and event.unit == CELLS[0]:
            control.stop()

    with pytest.raises(StoppedError):
        make(seams, tmp_path / "out", client, Hooks(listener=listen, control=control))
    left = tmp_path / "out.partial" / "left-over"
    (tmp_path / "out.partial" / CELLS[0]).rename(left)
    (left / f"{CELLS[0]}.json").rename(left / "left-over.json")
    made = make(seams, tmp_path / "out", client, stream=True)
    assert not (made.output / "left-over").exists()
    assert {name for name in assets(made.output) if not name.startswith("late/")} == set(assets(run.output))


@pytest.mark.long
@pytest.mark.parametrize("grows", [False, True], ids=["at once", "unit by unit"])
@pytest.mark.parametrize("after", [1, 9])
def test_killed_and_run_again(seams: Seams, run: Run, tmp_path: Path, after: int, grows: bool) -> None:
    """Nothing that says it is finished is damaged, and the next run makes the same bytes."""
    out = tmp_path / "out"
    command = [*(sys.executable, "-m", "tests.support.seams"), seams.files_url, str(seams.table), str(out)]
    command += ["grows"] * grows
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, start_new_session=True)
    events, deadline = tmp_path / "out.partial" / "events.jsonl", time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if events.exists() and events.read_text().count('"block-done"') >= after:
                break
            time.sleep(0.005)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for path in out.glob("*/*.json"):  # whoever looks now finds whole units
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            assert asset["file:checksum"] == f"1220{sha256_of(path.parent / asset['href'])}"
    subprocess.run(command, cwd=root, check=True, timeout=100)
    assert {k: v for k, v in assets(out).items() if not k.startswith("late/")} == assets(run.output)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
