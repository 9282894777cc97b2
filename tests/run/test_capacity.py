"""Disk and memory that don't suffice are said before any work, as far as they can be estimated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eoap_dask import MosaicParams, RunOptions, cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION, find_items, understand
from eoap_dask.cluster.size import Size
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import ClusterError, OutputError
from eoap_dask.geo.window import TILE, Window
from eoap_dask.readers import tiles as tile_reader
from eoap_dask.readers.limits import READS
from eoap_dask.render import reading as stack
from eoap_dask.render.recipe import BLOCK, FEWEST_ROWS, strip_height
from eoap_dask.run import sizing
from eoap_dask.run.capacity import check_disk, check_memory
from eoap_dask.run.events import read_events
from eoap_dask.run.plan import Plan

GIB = 1 << 30


@pytest.fixture(scope="module")
def plan_for(calm: DemoServer) -> Callable[..., Plan]:
    """Plan a mosaic with changed options."""

    def plan(size: Size | None = None, options: RunOptions | None = None, **changes: Any) -> Plan:
        request = understand(MosaicParams(stac=calm.url, **changes))
        options = options or RunOptions()
        made = APPLICATION.plan_for(request, find_items(request), options)
        return made if size is None else made.sized(size, options)

    return plan


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def pretend(monkeypatch: pytest.MonkeyPatch, free: int) -> list[Path]:
    """Let every disk have so much room, and tell which were asked for."""
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(free, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


# ----------------------------------------------------------------------------------------------------
# Estimates


@pytest.mark.parametrize("resolution", [pytest.param(20.0, marks=pytest.mark.long), 60.0])
def test_the_estimate_of_what_is_written_is_about_right(calm: DemoServer, tmp_path: Path, resolution: float) -> None:
    params = {"stac": calm.url, "resolution": resolution}  # finer than the archive, and as it is
    estimated = APPLICATION.dry_run(MosaicParams(**params), RunOptions(output_dir=tmp_path / "out")).output_bytes
    run = cloudless_mosaic(output_dir=tmp_path / "out", **params)
    written = sum(path.stat().st_size for path in run.output.rglob("*.tif"))
    assert written / 3 < estimated < written * 3


def test_output_grows_with_area_and_shrinks_with_shape(plan_for: Callable[..., Plan]) -> None:
    box = "-122.27,47.55,-121.97,47.75"
    half = "POLYGON((-122.27 47.55,-121.97 47.55,-122.27 47.75,-122.27 47.55))"
    coarse, fine, cut = (plan_for(aoi=aoi, resolution=r) for aoi, r in ((box, 200), (box, 100), (half, 100)))
    assert fine.output_bytes == pytest.approx(4 * coarse.output_bytes, rel=0.05)
    assert cut.output_bytes == pytest.approx(fine.output_bytes / 2, rel=0.1)
    assert 0 < fine.spool_bytes <= fine.output_bytes * len(fine.units)
    assert plan_for().only([]).spool_bytes == plan_for().only([]).output_bytes == 0


@pytest.mark.parametrize("resolution", [10.0, 60.0, 400.0])
@pytest.mark.parametrize("memory", [GIB // 4, GIB // 2, 4 * GIB])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_quick_bound_of_memory_is_one(
    plan_for: Callable[..., Plan], resolution: float, memory: int, threads: int
) -> None:
    plan = plan_for(Size(2, threads, memory), resolution=resolution)
    assert plan.worker_bytes_at_most >= plan.estimates()["worker_bytes"]


def test_a_plan_says_how_its_work_is_cut(plan_for: Callable[..., Plan]) -> None:
    plan = plan_for(Size(1, 1, 4 * GIB), resolution=10.0)
    small = plan_for(Size(1, 4, GIB), resolution=10.0)
    own = plan_for(Size(1, 1, 4 * GIB), RunOptions(block=512, budget=1), resolution=10.0)
    rows = [p.to_dict()["strip_rows"] for p in (plan, small, own)]
    assert rows[0] > rows[1] >= 64  # less memory, lower strips
    assert rows[2] == 16  # the least there is
    eager = plan_for(Size(1, 4, GIB), RunOptions(reads=32), resolution=10.0)
    assert eager.strip_rows is not None
    assert small.strip_rows is not None
    assert eager.strip_rows < small.strip_rows  # what is read ahead has to fit as well
    assert "a worker reads 32 files at once" in str(eager)
    for one in (plan, small, own):
        for unit in one.units:
            for window in unit.work.recipe.windows():
                height = strip_height(unit.work.recipe, window, len(unit.work.recipe.stack.touching(window)))
                assert height >= min(one.strip_rows, window.shape[0])
        assert f"in strips of {one.strip_rows} rows; a worker reads 8 files at once" in str(one)
    assert plan.only([]).strip_rows is None


@pytest.mark.parametrize(("cores", "memory", "passes"), [(1, 2, 19), (2, 4, 29), (4, 8, 29), (1, 64, 29)])
def test_so_many_passes_are_read_whole(plan_for: Callable[..., Plan], cores: int, memory: int, passes: int) -> None:
    recipe = plan_for(resolution=5.0).units[0].work.recipe
    _, budget = sizing.choose_sizes(recipe, 40, Size(4, cores, memory * GIB))
    recipe = replace(recipe, budget=budget)
    block = Window(0, BLOCK, 0, BLOCK)
    assert strip_height(recipe, block, passes) == BLOCK
    assert strip_height(recipe, block, passes + 1) < BLOCK


def test_small_blocks_are_read_more_at_once(plan_for: Callable[..., Plan]) -> None:
    def reads(resolution: float, size: Size, options: RunOptions | None = None) -> int:
        return plan_for(size, options, resolution=resolution).reads

    large = Size(1, 2, 8 * GIB)
    assert reads(60.0, large) == sizing.EAGER_READS
    assert reads(60.0, large, RunOptions(reads=3)) == 3
    assert reads(60.0, large, RunOptions(budget=1 << 20)) == READS  # not where a block goes in strips
    assert reads(60.0, Size(1, 2, GIB // 2)) == READS
    assert [reads(60.0, Size(n, 1, 8 * GIB)) for n in (8, 16, 100)] == [24, 12, READS]
    assert reads(60.0, Size(1, 1, 8 * GIB), RunOptions(workers=16)) == 12
    assert plan_for(large, resolution=60.0).sized(Size(1, 2, GIB // 2), RunOptions()).reads == READS
    fine = plan_for(Size(1, 1, 8 * GIB), resolution=5.0)
    assert fine.units[0].work.recipe.block * min(fine.units[0].work.recipe.shape) > sizing.EAGER_PX
    assert fine.reads == READS
    assert reads(5.0, Size(1, 1, 8 * GIB), RunOptions(block=512)) == sizing.EAGER_READS


def test_the_documented_rule_is_the_one_that_is_followed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}

    def mib(size: int) -> str:
        return f"{size >> 20} MiB"

    for part in (sizing.PROCESS_BYTES, tile_reader.memory_bytes(READS), stack.memory_bytes()):
        assert mib(part) in rows["a slot's memory"]
    assert rows["side of a block"].split(" | ")[1].startswith(f"{BLOCK} px; halved, down to {TILE},")
    assert mib(sizing.MAX_BUDGET) in rows["budget of a task's strips"]
    assert f"multiple of {TILE} rows" in rows["height of a strip"]
    assert f"at least {FEWEST_ROWS} |" in rows["height of a strip"]
    assert f"| {READS} per worker" in rows["files read at once"]
    eager = f"{sizing.EAGER_READS}, or as many as make {sizing.EAGER_READS_OF_ALL} of all workers"
    assert eager in rows["files read at once"]
    assert sizing.EAGER_PX == 1024**2
    assert "1024 × 1024 px" in rows["files read at once"]
    assert f"| {tile_reader.HELPERS} more than files" in rows["requests at once"]
    for row in ("side of a block", "blocks under way"):
        assert f"{sizing.IN_FLIGHT_BYTES >> 30} GiB" in rows[row]


# ----------------------------------------------------------------------------------------------------
# The checks


def test_a_disk_with_room_is_nothing_to_talk_of(
    plan_for: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    plan = plan_for()
    asked = pretend(monkeypatch, plan.output_bytes + plan.spool_bytes)
    check_disk(plan, tmp_path / "not" / "yet" / "there")
    assert asked == [tmp_path.resolve()]
    assert said == []
    pretend(monkeypatch, 0)
    check_disk(plan.only([]), tmp_path)  # nothing to write


def test_a_disk_that_is_likely_too_small_is_warned_of(
    plan_for: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    plan = plan_for(resolution=10.0)
    pretend(monkeypatch, int(0.7 * (plan.output_bytes + plan.spool_bytes)))
    check_disk(plan, tmp_path / "out")
    assert [line for line in said if line.startswith(f"The disk of {tmp_path / 'out'} has ")] == said[-1:]


def test_a_disk_that_is_far_too_small_is_refused_before_work(
    calm: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, 100_000)
    with pytest.raises(OutputError, match=r"has 0\.1 MB free; the output will take about .*Make room") as caught:
        cloudless_mosaic(stac=calm.url, output_dir=tmp_path / "out", resolution=20.0)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="free"):
        APPLICATION.dry_run(MosaicParams(stac=calm.url, resolution=20.0), RunOptions(output_dir=tmp_path / "out"))


def test_what_is_finished_needs_no_room(calm: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"stac": calm.url, "output_dir": tmp_path / "out", "resolution": 400.0}
    cloudless_mosaic(**asked)
    pretend(monkeypatch, 0)
    cloudless_mosaic(**asked)
    kinds = [(event["kind"], event.get("unit", "")) for event in read_events(tmp_path / "out" / "events.jsonl")]
    assert kinds[-1][0] == "end"


def test_workers_with_too_little_memory_are_refused_before_work(plan_for: Callable[..., Plan]) -> None:
    check_memory(plan_for(Size(2, 2, 4 * GIB), resolution=10.0))
    check_memory(plan_for(Size(1, 1, 2**62), resolution=10.0))  # a worker without a limit
    large = RunOptions(block=4096, budget=2 * GIB)
    plan = plan_for(Size(2, 2, GIB), large, resolution=10.0)
    with pytest.raises(ClusterError, match=r"^A worker has 1\.1 GB of memory; with 2 threads it would need about"):
        check_memory(plan)


@pytest.mark.cluster
def test_the_memory_of_the_cluster_that_is_there_counts(calm: DemoServer, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"A worker has 536\.9 MB of memory") as caught:
        cloudless_mosaic(
            *(None, RunOptions(output_dir=tmp_path / "out", worker_memory="512M", block=4096, budget=2 * GIB)),
            stac=calm.url,
            resolution=10.0,
        )
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []
