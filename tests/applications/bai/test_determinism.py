"""Burned area is the same to the last byte for any workers, blocks and budgets, and after being killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from eoap_dask import Run, burned_area_map
from eoap_dask.applications.bai.application import APPLICATION
from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.errors import UsageError
from eoap_dask.run.events import Event
from eoap_dask.run.options import RunOptions

pytestmark = pytest.mark.cluster

MIB = 1 << 20
UNIT = "bai-20210713-20210812"
MAY_DIFFER = {"processing:datetime"}


@dataclass
class Place:
    fire: Any
    root: Path

    @property
    def params(self) -> BurnedAreaParams:
        """1.5 × 1.5 blocks of 512, a shape that isn't a box, perimeters of single pixels across the blocks' edges."""
        west, south, east, north = self.fire.archive.fire_pair()[0]["bbox"]
        ring = [[west, south], [east, south], [east, north], [(west + east) / 2, north], [west, south]]
        before, after = self.fire.urls
        return BurnedAreaParams(
            pre_fire_url=before,
            post_fire_url=after,
            aoi={"type": "Polygon", "coordinates": [ring]},
            min_area_ha=0.0,
        )


@pytest.fixture(scope="module")
def place(fire: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(fire, tmp_path_factory.mktemp("determinism"))


@pytest.fixture(scope="module")
def one() -> Iterator[Client]:
    with local_client(Size(1, 1, 2 << 30)) as client:
        yield client


def again(place: Place, client: Client | None, name: str, **options: Any) -> Run:
    options = {"output_dir": place.root / name, "block": 512, **options}
    return burned_area_map(place.params, RunOptions(**options), client=client)


@pytest.fixture(scope="module")
def reference(place: Place, one: Client) -> Run:
    """What all others must be like: one worker with one thread, one small block after the other."""
    run = again(place, one, "reference")
    (item,) = run.items
    assert min(item["properties"]["proj:shape"]) > 512
    assert item["properties"]["eoap:burned_ha"] > 100
    # the fire lies across the blocks' edges
    outlines = json.loads((run.output / UNIT / "perimeters.geojson").read_text())["features"]
    assert len(outlines) == item["properties"]["eoap:perimeters"] > 1
    return run


def fingerprints(output: Path) -> dict[str, str]:
    """SHA-256 of each file of the unit, by its name; the item without the time when it was made."""
    found = {}
    for file in sorted((output / UNIT).iterdir()):
        content = file.read_bytes()
        if file.name == f"{UNIT}.json":
            item = json.loads(content)
            for name in MAY_DIFFER:
                del item["properties"][name]
            content = json.dumps(item).encode()
        found[file.name] = hashlib.sha256(content).hexdigest()
    return found


def assert_same(output: Path, reference: Run) -> None:
    expected = fingerprints(reference.output)
    assert fingerprints(output) == expected
    assert len(expected) == 15
    for name in ("catalog.json", "collection.json", "items.json", "failures.json"):
        assert (output / name).read_bytes() == (reference.output / name).read_bytes(), name


@pytest.mark.long
def test_four_workers(place: Place, reference: Run) -> None:
    with local_client(Size(4, 1, 1 << 30)) as four:
        assert_same(again(place, four, "four").output, reference)


@pytest.mark.parametrize(
    "options",
    [{}, {"block": 1024}, {"block": 2048}, {"block": None}, {"budget": 1}, {"block": 2048, "budget": 2 * MIB}],
    ids=str,
)
def test_blocks_and_budgets(place: Place, one: Client, reference: Run, options: dict[str, Any]) -> None:
    name = "-".join(f"{key}{value}" for key, value in options.items()) or "again"
    assert_same(again(place, one, name, **options).output, reference)


# Killed, and run again.

KILLED = """
import json, os, signal, sys
from pathlib import Path
from eoap_dask import BurnedAreaParams, RunOptions, burned_area_map

def listen(event):
    if event.kind == "block-done" and event.blocks_done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    params = BurnedAreaParams(**json.loads(sys.argv[1]))
    burned_area_map(params, RunOptions(output_dir=Path(sys.argv[2]), block=512, workers=1), listener=listen)
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 3])
def test_killed_and_run_again(number: int, place: Place, one: Client, reference: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    given = json.dumps({k: getattr(place.params, k) for k in ("pre_fire_url", "post_fire_url", "aoi", "min_area_ha")})
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))}
    done = subprocess.run(
        [sys.executable, program, given, output, str(number)], env=clean, capture_output=True, timeout=150, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    assert (tmp_path / "out.partial").is_dir()
    run = burned_area_map(place.params, RunOptions(output_dir=output, block=512), client=one)
    assert run.output == output
    assert_same(output, reference)
    assert not (tmp_path / "out.partial").exists()


# An output that is there.


@pytest.mark.long
def test_the_same_again_is_skipped_and_another_threshold_is_made(
    place: Place, one: Client, reference: Run, tmp_path: Path
) -> None:
    options = RunOptions(output_dir=tmp_path / "out", block=512)
    first = burned_area_map(place.params, options, client=one)
    assert_same(first.output, reference)

    events: list[Event] = []
    place.fire.server.stats.reset()
    burned_area_map(place.params, options, client=one, listener=events.append)
    kinds = [event.kind for event in events]
    assert kinds.count("unit-skipped") == 1
    assert "block-done" not in kinds
    assert not place.fire.server.stats.ranges  # not a pixel was read
    assert_same(first.output, reference)
    (state,) = APPLICATION.dry_run(place.params, options).states.values()
    assert state.kind == "skip"

    others = {
        "thresholds": (-0.25, -0.1, 0.12, 0.27, 0.44, 0.66),
        "min_area_ha": 2.0,
        "resolution": 20.0,
        "crs": "EPSG:32611",
        "clip": False,
    }
    for name, value in others.items():
        changed = BurnedAreaParams(**{**vars(place.params), name: value})
        with pytest.raises(UsageError, match=rf"was made with other parameters: {name} was .*, is "):
            APPLICATION.dry_run(changed, options)
        (state,) = APPLICATION.dry_run(changed, options.replace(overwrite=True)).states.values()
        assert state.kind == "recompute", name
    (state,) = APPLICATION.dry_run(BurnedAreaParams(**{**vars(place.params), "force": True}), options).states.values()
    assert state.kind == "skip"

    changed = BurnedAreaParams(**{**vars(place.params), "thresholds": others["thresholds"]})
    with pytest.raises(UsageError):
        burned_area_map(changed, options, client=one)
    assert_same(first.output, reference)
    second = burned_area_map(changed, options.replace(overwrite=True), client=one)
    assert second.output == first.output
    before, after = fingerprints(reference.output), fingerprints(second.output)
    differ = {name for name in before if before[name] != after[name]}
    # the classes and what follows from them; the indices and pictures of the dates are what they were
    assert differ == {
        *("severity.tif", "areas.csv", "perimeters.geojson", "perimeters.parquet", "picture.png", f"{UNIT}.json"),
    }
    assert second.items[0]["properties"]["eoap:burned_ha"] < first.items[0]["properties"]["eoap:burned_ha"]
