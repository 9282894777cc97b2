"""Building computes nothing, and graphs are small: a written budget of tasks and of bytes.

| what | budget | measured when this was written |
|---|---|---|
| production, tasks per (unit, block) | 2 | 1 + 1 / blocks |
| production, bytes of function and arguments per task, 24 scenes | 2000 | 1257 with one block, 618 with four |
| the same with hrefs as long as real ones | 2000 | 1.5 k with one block |
| lazy door, tasks that read, per chunk | 1 | 1, for any number of bands |
| lazy door, tasks per (chunk, band), reflectance · raw | 6 · 3 | 5.0 · 2.0 |
| the same with `mask_clouds` and `composite` | 12 · 9 | 11.0 · 8.0; 6.7 · 5.7 once optimised |
| lazy door, bytes per task beside the list of scenes | 200 | 80 to 100 |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import pytest
from dask.base import tokenize
from distributed import Client, Future
from distributed.diagnostics.plugin import SchedulerPlugin

import eoap_dask
from eoap_dask import ItemSet, MosaicParams, RunOptions, cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION, find_items, understand
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.render.block import render_block
from eoap_dask.run.plan import Plan

TASKS_PER_BLOCK = 2
BYTES_PER_TASK = 2000
BANDS = ("nir", "red", "green")


class ComputedError(Exception):
    """Something computed that shouldn't."""


def refuse(*args: Any, **kwargs: Any) -> None:
    raise ComputedError("something computed")


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A month of daily work: 12 passes over two tiles, 24 scenes."""
    return make_archive(
        tmp_path_factory.mktemp("graphs") / "demo",
        size_px=256,
        months=("2020-10",),
        dates_per_month=12,
        cloudiness=0.1,
        reprocessed=False,
        workers=1,
    )


@pytest.fixture(scope="module")
def served(dense: Archive) -> Iterator[ServerProcess]:
    with ServerProcess(dense) as running:
        yield running


@pytest.fixture(scope="module")
def params(dense: Archive, served: ServerProcess) -> MosaicParams:
    return MosaicParams(
        stac=served.url,
        collection=dense.collection,
        aoi=",".join(map(str, dense.aoi_bbox)),
        bands=BANDS,
        resolution=20.0,
        end_date="2020-10-31",
        max_cloud_cover=100.0,
    )


@pytest.fixture(scope="module")
def items(params: MosaicParams) -> ItemSet:
    return find_items(understand(params))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


# Nothing computes, and no file is asked for.


@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 100, "x": 77}], ids=["whole", "chunked"])
@pytest.mark.parametrize("raw", [False, True], ids=["float", "raw"])
def test_the_lazy_door_computes_nothing_while_it_is_built(
    items: ItemSet, params: MosaicParams, served: ServerProcess, raw: bool, chunks: dict[str, int] | None
) -> None:
    before = served.stats.requests
    with dask.config.set(scheduler=refuse):
        cube = eoap_dask.load(items, BANDS, aoi=params.aoi, resolution=20, raw=raw, chunks=chunks)
        month = eoap_dask.composite(eoap_dask.mask_clouds(cube))
        assert repr(month)
        assert month._repr_html_()
        assert month.odc.geobox == cube.odc.geobox
        (month.nir - month.red) / (month.nir + month.red)
        with pytest.raises(ComputedError):  # so the refusal works
            month.nir.isel(time=0, y=0, x=0).compute()
    assert served.stats.requests == before


def test_a_plan_computes_nothing(items: ItemSet, params: MosaicParams, served: ServerProcess) -> None:
    before = served.stats.requests
    with dask.config.set(scheduler=refuse):
        plan = APPLICATION.plan_for(understand(params), items, RunOptions())
        assert str(plan)
        assert plan._repr_html_()
        assert json.dumps(plan.to_dict())
        assert plan.estimates()["read_bytes"] > 0
    assert served.stats.requests == before


def test_a_dry_run_asks_the_catalogue_but_for_no_file(
    params: MosaicParams, served: ServerProcess, tmp_path: Path
) -> None:
    served.stats.reset()
    with dask.config.set(scheduler=refuse):
        assert APPLICATION.dry_run(params, RunOptions(output_dir=tmp_path / "out")).blocks == 1
    assert served.stats.api_requests == served.stats.requests > 0
    assert served.stats.ranges == {}
    assert list(tmp_path.iterdir()) == []


# Production.


class Counter(SchedulerPlugin):
    """Counts the tasks that reach the scheduler."""

    def __init__(self) -> None:
        self.keys: set[Any] = set()

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:
        self.keys.add(key)


def measure(client: Client, monkeypatch: pytest.MonkeyPatch, params: MosaicParams, out: Path) -> tuple[Plan, int, int]:
    """Run, and return the plan, the tasks that the scheduler saw, and the bytes of their functions and arguments."""
    counter, sizes = Counter(), []
    submit = Client.submit

    def listen(self: Client, function: Any, *args: Any, **kwargs: Any) -> Future:
        sent = [a.key if isinstance(a, Future) else a for a in args]
        sizes.append(len(cloudpickle.dumps((function, sent, kwargs))))
        return submit(self, function, *args, **kwargs)

    options = RunOptions(output_dir=out, block=512)
    plan = APPLICATION.dry_run(params, options, client)
    monkeypatch.setattr(Client, "submit", listen)
    client.cluster.scheduler.add_plugin(counter, name="counter")
    try:
        cloudless_mosaic(params, options, client=client)
    finally:
        client.cluster.scheduler.remove_plugin("counter")
    assert len(sizes) == len(counter.keys)  # `submit` is the only way that tasks go
    return plan, len(counter.keys), sum(sizes)


@pytest.mark.cluster
@pytest.mark.parametrize(("resolution", "blocks"), [(20.0, 1), (5.0, 4)], ids=["one block", "four blocks"])
def test_production_stays_within_its_budget(
    client: Client,
    params: MosaicParams,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    resolution: float,
    blocks: int,
) -> None:
    plan, tasks, size = measure(client, monkeypatch, replace(params, resolution=resolution), tmp_path / "out")
    assert plan.blocks == blocks
    assert len(plan.units[0].work.recipe.stack.scenes) == 24
    assert tasks == plan.tasks == blocks + 1
    assert tasks <= TASKS_PER_BLOCK * plan.blocks
    assert size <= BYTES_PER_TASK * tasks


REAL_HREF = (
    "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/{zone}/{band}/{square}/{day}/{name}.SAFE/GRANULE/"
    "L2A_T{tile}_A{orbit}_{start}/IMG_DATA/R{metres}m/T{tile}_{start}_{key}_{metres}m.tif"
)
PER_TASK = 250
"""Bytes of a task beside its recipe; the runs above have 192."""


def as_in_the_real_catalogue(items: ItemSet) -> ItemSet:
    """The same items with hrefs as long and as varied as Planetary Computer's."""
    features = json.loads(json.dumps(items.features))
    for item in features:
        product = item["properties"]["s2:product_uri"].removesuffix(".SAFE")
        tile, start = item["properties"]["s2:mgrs_tile"], product.split("_")[2]
        for key, asset in item["assets"].items():
            asset["href"] = REAL_HREF.format(
                zone=tile[:2],
                band=tile[2],
                square=tile[3:],
                day=f"{start[:4]}/{start[4:6]}/{start[6:8]}",
                name=product,
                tile=tile,
                orbit=item["properties"]["s2:datatake_id"].split("_")[2],
                start=start,
                metres=20 if key == "SCL" else 10,
                key=key,
            )
    return replace(items, features=tuple(features))


@pytest.mark.parametrize(("resolution", "blocks"), [(20.0, 1), (5.0, 4), (1.25, 42)])
def test_recipes_are_small_with_real_hrefs_too(
    items: ItemSet, params: MosaicParams, resolution: float, blocks: int
) -> None:
    request = understand(replace(params, resolution=resolution))
    plan = APPLICATION.plan_for(request, as_in_the_real_catalogue(items), RunOptions(block=512))
    recipes = [len(unit.work.pack()) for unit in plan.units]
    assert plan.blocks == blocks
    assert sum(recipes) + PER_TASK * plan.tasks <= BYTES_PER_TASK * plan.tasks


def test_a_recipe_grows_by_some_tens_of_bytes_per_scene(items: ItemSet, params: MosaicParams) -> None:
    real = as_in_the_real_catalogue(items)

    def size(count: int) -> int:
        few = replace(real, features=real.features[:count])
        (unit,) = APPLICATION.plan_for(understand(params), few, RunOptions()).units
        assert len(unit.work.recipe.stack.scenes) == count
        return len(unit.work.pack())

    assert size(24) - size(12) <= 12 * 100


def test_a_block_gets_only_the_scenes_that_touch_it(items: ItemSet, params: MosaicParams) -> None:
    (unit,) = APPLICATION.plan_for(understand(replace(params, resolution=5.0)), items, RunOptions(block=512)).units
    stack, windows = unit.work.recipe.stack, unit.work.recipe.windows()
    everything = {scene.id for one in stack.passes for scene in one.scenes}
    far = replace(windows[0], col=windows[0].col + 4096, col_stop=windows[0].col_stop + 4096)
    touched = [{scene.id for _, scenes in stack.touching(w) for scene in scenes} for w in windows]
    assert set().union(*touched) == everything
    assert stack.touching(far) == ()
    assert render_block.__module__ == "eoap_dask.render.block"  # a task names its function, it doesn't carry it
    assert len(cloudpickle.dumps(render_block)) < 100


# The lazy door.


def lazy(items: ItemSet, params: MosaicParams, **more: Any) -> Any:
    options: dict[str, Any] = {"resolution": 20, "chunks": {"time": 6, "y": 100, "x": 77}, **more}
    return eoap_dask.load(items, BANDS, aoi=params.aoi, **options)


def chunks_of(cube: Any) -> int:
    return int(cube[BANDS[0]].data.npartitions)


def tasks_of(collection: Any) -> int:
    return len(dict(collection.__dask_graph__()))


@pytest.mark.parametrize(("raw", "per_chunk_and_band", "with_composite"), [(False, 6, 12), (True, 3, 9)])
def test_the_lazy_door_stays_within_its_budget(
    items: ItemSet, params: MosaicParams, raw: bool, per_chunk_and_band: int, with_composite: int
) -> None:
    cube = lazy(items, params, raw=raw)
    pieces = chunks_of(cube) * len(BANDS)
    month = eoap_dask.composite(eoap_dask.mask_clouds(cube))
    assert tasks_of(cube) <= per_chunk_and_band * pieces
    assert tasks_of(month) <= with_composite * pieces
    assert tasks_of(dask.optimize(month)[0]) <= tasks_of(month)


@pytest.mark.parametrize("bands", [("nir",), BANDS, ("nir", "red", "green", "blue")])
def test_a_chunk_is_read_by_one_task_for_all_bands(
    items: ItemSet, params: MosaicParams, bands: tuple[str, ...]
) -> None:
    cube = eoap_dask.load(items, bands, aoi=params.aoi, resolution=20, chunks={"time": 6, "y": 100, "x": 77})
    reads = [key for key in dict(cube.__dask_graph__()) if isinstance(key, tuple) and key[0].startswith("load-")]
    assert len(reads) == chunks_of(cube)


def test_the_scenes_are_in_the_graph_once(items: ItemSet, params: MosaicParams) -> None:
    one, many = lazy(items, params, chunks=None), lazy(items, params)
    assert chunks_of(many) > 10 * chunks_of(one)
    extra = len(cloudpickle.dumps(dict(many.__dask_graph__()))) - len(cloudpickle.dumps(dict(one.__dask_graph__())))
    assert extra <= 200 * (tasks_of(many) - tasks_of(one))


def test_equal_requests_have_equal_names(items: ItemSet, params: MosaicParams) -> None:
    def names(**more: Any) -> tuple[str, ...]:
        month = eoap_dask.composite(eoap_dask.mask_clouds(lazy(items, params, **more)))
        return tuple(str(v.data.name) for v in month.data_vars.values())

    assert names() == names()
    assert not set(names()) & set(names(raw=True))


def test_what_decides_pixels_decides_the_name(items: ItemSet, params: MosaicParams) -> None:
    def token(found: ItemSet = items, **more: Any) -> str:
        return tokenize(lazy(found, params, **more))

    other = json.loads(json.dumps(items.features))
    other[3]["assets"]["B08"]["href"] += "f"
    moved = json.loads(json.dumps(items.features))
    moved[3]["properties"]["s2:processing_baseline"] = "05.09"
    tokens = [
        token(),
        token(replace(items, features=tuple(other))),
        token(replace(items, features=tuple(moved))),
        token(cloud_mask="none"),
        token(resolution=40),
        token(crs="EPSG:32611"),
    ]
    assert len(set(tokens)) == len(tokens)
