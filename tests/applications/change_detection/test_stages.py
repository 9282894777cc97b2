"""Stages one by one from Python, also awaited: each makes its own, and all of them what the application makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from dask.base import is_dask_collection
from distributed import Client
from tests.support.changes import image_path, keys_of, mask_path, read

import eoap_dask as eo
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.changes import ChangesArchive, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> ChangesArchive:
    return make_changes(tmp_path_factory.mktemp("land") / "archive", rows=1, cols=3, cell_px=64)


@pytest.fixture(scope="module")
def served(land: ChangesArchive) -> Iterator[str]:
    with ServerProcess(land.root) as server:
        yield server.url


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


def stages(land: ChangesArchive, url: str, out: Path, client: Client, **how: Any) -> eo.ChangeStages:
    return eo.ChangeStages(grid=land.cells, stac=url, output_dir=out, client=client, **how)


def test_each_stage_adds_its_own(land: ChangesArchive, served: str, client: Client, tmp_path: Path) -> None:
    whole = eo.change_detection(grid=land.cells, stac=served, output_dir=tmp_path / "whole", client=client)
    mine = stages(land, served, tmp_path / "out", client)
    assert mine.years == (2022, 2023, 2024)
    assert not (tmp_path / "out").exists()
    assert keys_of(mine.store(2022)) == [f"images/2022/sentinel2_grid_{cell}_2022_08" for cell in (463, 464, 465)]
    mine.store(2022)  # nothing to do
    changed = mine.change(2023)
    assert len(keys_of(changed)) == 9
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/*/*.json")}
    assert len(found) == 9
    assert not any("2024" in name for name in found)
    mine.run()
    for path in (tmp_path / "whole").rglob("*"):
        if path.parent.parent.name in ("images", "masks") and path.suffix != ".json":
            assert sha256_of(tmp_path / "out" / path.relative_to(tmp_path / "whole")) == sha256_of(path)
    assert len(whole.items) == len(list((tmp_path / "out").glob("*/*/*.json"))) == 15


@pytest.mark.long
def test_images_can_be_looked_at_before_they_are_stored(
    land: ChangesArchive, served: str, client: Client, tmp_path: Path
) -> None:
    frame = geopandas.read_file(land.cells)
    frame.loc[1, "geometry"] = frame.geometry[1].buffer(-100).buffer(90)  # with round corners
    frame.to_file(tmp_path / "cells.gpkg")
    mine = eo.ChangeStages(
        grid=tmp_path / "cells.gpkg", stac=served, years="2023,2024", output_dir=tmp_path / "out", client=client
    )
    images = mine.download(2023)
    assert list(images) == ["463", "464", "465"]
    assert all(is_dask_collection(image) for image in images.values())
    mine.store(2023)
    for cell, image in images.items():
        stored = read(image_path(tmp_path / "out", cell, 2023))
        np.testing.assert_array_equal(image.drop_vars("count").to_dataarray().compute(), stored)
        np.testing.assert_array_equal(
            image["count"].compute(), read(image_path(tmp_path / "out", cell, 2023, "_count"))[0]
        )
    assert images["464"].sizes["x"] < 64
    with pytest.raises(eo.UsageError, match="year must be one of the years 2023, 2024, got 2022"):
        mine.download(2022)
    with pytest.raises(eo.UsageError, match="2023 is the first of the years"):
        mine.change(2023)


@pytest.mark.long
def test_stages_are_awaited_side_by_side(land: ChangesArchive, served: str, client: Client, tmp_path: Path) -> None:
    async def work() -> list[Any]:
        first, second = (
            stages(land, served, tmp_path / name, client, grid_ids=cell) for name, cell in (("a", "463"), ("b", "465"))
        )
        images, *_ = await asyncio.gather(
            first.download_async(2022), first.store_async(2022), second.change_async(2024)
        )
        await first.change_async(2023)
        await second.run_async()
        return list(images)

    assert asyncio.run(work()) == ["463"]
    assert mask_path(tmp_path / "a", "463", 2023).is_file()
    assert mask_path(tmp_path / "b", "465", 2023).is_file()


@pytest.mark.long
def test_a_cancelled_stage_stops_and_keeps_what_is_finished(
    land: ChangesArchive, client: Client, tmp_path: Path
) -> None:
    finished = asyncio.Event()

    async def work(url: str) -> None:
        loop = asyncio.get_running_loop()

        def heard(event: Any) -> None:
            if event.kind == "unit-done":
                loop.call_soon_threadsafe(finished.set)

        mine = stages(land, url, tmp_path / "out", client, listener=heard)
        task = asyncio.create_task(mine.run_async())
        await finished.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ServerProcess(land.root, latency_s=0.2) as server:
        asyncio.run(work(server.url))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.lock").exists()
    assert len(list((tmp_path / "out.partial").glob("images/2022/*.json"))) >= 1


def test_a_stage_keeps_what_an_interrupted_run_finished(
    land: ChangesArchive, served: str, client: Client, tmp_path: Path
) -> None:
    control = eo.Control()

    def heard(event: Any) -> None:
        if event.kind == "unit-done":
            control.stop("Enough.")

    how: dict[str, Any] = {"grid": land.cells, "stac": served, "output_dir": tmp_path / "out", "client": client}
    with pytest.raises(eo.StoppedError):
        eo.change_detection(**how, hooks=eo.Hooks(control=control, listener=heard))
    finished = {path.name: sha256_of(path) for path in (tmp_path / "out.partial").glob("images/2022/*.tiff")}
    assert finished
    with pytest.raises(eo.UsageError, match="can't be combined"):
        stages(land, served, tmp_path / "out", client, resume=False).store(2023)
    assert {path.name for path in (tmp_path / "out.partial").glob("images/2022/*.tiff")} == set(finished)
    run = stages(land, served, tmp_path / "out", client).store(2023)
    assert len(run.items) >= 3 + len(finished)
    for name, checksum in finished.items():
        assert sha256_of(tmp_path / "out" / "images" / "2022" / name) == checksum


def test_fewer_items_are_those_of_the_product(
    land: ChangesArchive, served: str, client: Client, tmp_path: Path
) -> None:
    mine = stages(land, served, tmp_path / "out", client, years="2022-2023", max_items=1)
    images = mine.download(2022)
    mine.store(2022)
    for cell, image in images.items():
        stored = read(image_path(tmp_path / "out", cell, 2022))
        np.testing.assert_array_equal(image.drop_vars("count").to_dataarray().compute(), stored)
