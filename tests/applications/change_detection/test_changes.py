"""Change of the demo's land: images, scores and masks against others that know nothing of ours, and what is said."""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from distributed import Client
from PIL import Image
from rio_cogeo import cog_validate
from tests.support.changes import (
    cva_score,
    f1,
    image_path,
    keys_of,
    large_patches,
    mask_path,
    read,
    truth_of,
)
from tests.support.chips import median_of, observed

import eoap_dask as eo
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.changes import ChangesArchive, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.cluster

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> ChangesArchive:
    return make_changes(tmp_path_factory.mktemp("land") / "archive", rows=1, cols=3, cell_px=128, clouds=0.35)


@pytest.fixture(scope="module")
def served(land: ChangesArchive) -> Iterator[str]:
    with ServerProcess(land.root) as server:
        yield server.url


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


def find(land: ChangesArchive, url: str, out: Path, client: Client, **how: Any) -> eo.Run:
    return eo.change_detection(grid=land.cells, stac=url, output_dir=out, client=client, **how)


@pytest.fixture(scope="module")
def run(land: ChangesArchive, served: str, client: Client, tmp_path_factory: pytest.TempPathFactory) -> eo.Run:
    return find(land, served, tmp_path_factory.mktemp("changes") / "out", client)


def test_files_lie_where_their_users_look(run: eo.Run) -> None:
    files = {path.relative_to(run.output).as_posix() for path in run.output.rglob("*") if path.is_file()}
    for cell in (463, 464, 465):
        for year in (2022, 2023, 2024):
            image = f"images/{year}/sentinel2_grid_{cell}_{year}_08"
            assert {f"{image}.tiff", f"{image}.json"} <= files
        for year in (2023, 2024):
            mask = f"masks/{year}/change_mask_grid_{cell}_{year}"
            assert {f"{mask}.png", f"{mask}.pgw", f"{mask}.json"} <= files
    assert {name.split("/")[0] for name in files} == {
        *("images", "masks", "catalog.json", "collection.json", "changes.csv", "changes.png", "checkpoints", "logs"),
        *("items.json", "run.json", "run.log", "events.jsonl", "failures.json"),
    }


def test_images_are_the_median_of_what_is_seen_clearly(land: ChangesArchive, run: eo.Run) -> None:
    for year in (2022, 2023, 2024):
        days = [one["properties"]["datetime"][:10] for one in land.items]
        with rasterio.open(image_path(run.output, "464", year)) as dataset:
            seen = observed(land, [day for day in days if day.startswith(str(year))], dataset, BANDS)
            assert len(seen) == 3
            assert (seen == 0).any()
            np.testing.assert_array_equal(dataset.read(), median_of(seen))
            assert dataset.descriptions == BANDS


@pytest.mark.parametrize(("cell", "before", "year"), [("463", 2022, 2023), ("464", 2023, 2024), ("465", 2023, 2024)])
def test_scores_and_masks_are_those_of_the_papers(run: eo.Run, cell: str, before: int, year: int) -> None:
    expected = cva_score(read(image_path(run.output, cell, before)), read(image_path(run.output, cell, year)))
    score = read(mask_path(run.output, cell, year, "_score.tif"))[0]
    np.testing.assert_array_equal(score == 0, np.isnan(expected))
    seen = score > 0
    np.testing.assert_allclose(score[seen] * 0.01, np.maximum(expected[seen], 0.01), atol=0.0051)
    item = json.loads(mask_path(run.output, cell, year, ".json").read_text())
    threshold = item["properties"]["eoap:change_statistics"]["threshold"]
    assert threshold >= 4.1
    mask = read(mask_path(run.output, cell, year))[0]
    np.testing.assert_array_equal(mask == 0, ~seen)
    above = np.nan_to_num(expected) > threshold
    np.testing.assert_array_equal(mask == 2, large_patches(above, 6))
    assert item["properties"]["eoap:changed_ha"] == round(float((mask == 2).sum()) * 0.01, 4)
    assert item["properties"]["eoap:seen_ha"] == round(float(seen.sum()) * 0.01, 4)


def test_the_picture_of_a_mask_tells_no_change_from_not_seen(run: eo.Run) -> None:
    path = mask_path(run.output, "463", 2023, ".png")
    with Image.open(path) as picture:
        assert picture.mode == "LA"
        grey, alpha = np.moveaxis(np.array(picture), -1, 0)
    mask = read(mask_path(run.output, "463", 2023))[0]
    assert set(np.unique(mask)) == {0, 1, 2}
    np.testing.assert_array_equal(grey == 255, mask == 2)
    np.testing.assert_array_equal(alpha == 0, mask == 0)
    assert set(np.unique(grey)) | set(np.unique(alpha)) == {0, 255}
    with rasterio.open(path) as placed, rasterio.open(mask_path(run.output, "463", 2023)) as dataset:
        assert placed.transform.almost_equals(dataset.transform)


def test_items_are_stac_and_tell_what_is_there(run: eo.Run, validator: Any, offline: None) -> None:
    catalog = pystac.Catalog.from_file(str(run.catalog))
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 15
    for item in items:
        document = item.to_dict(include_self_link=False)
        known = [one for one in document["stac_extensions"] if one in validator.schema_cache]
        assert len(known) >= 2
        validator.validate(document, pystac.STACObjectType.ITEM, "1.1.0", known)
        for asset in item.assets.values():
            path = Path(asset.get_absolute_href() or "")
            assert asset.extra_fields["file:checksum"] == "1220" + sha256_of(path)
            if path.suffix in (".tif", ".tiff"):
                assert cog_validate(path, strict=True)[0], path
    (change,) = [item for item in items if item.id == "change_mask_grid_463_2023"]
    sources = [link.get_absolute_href() for link in change.get_links("derived_from")]
    assert [Path(str(source)).is_file() for source in sources] == [True, True]


def test_hectares_are_in_a_table(run: eo.Run) -> None:
    rows = list(csv.DictReader((run.output / "changes.csv").open()))
    assert [(row["cell"], row["year_before"], row["year"]) for row in rows] == [
        (cell, str(year - 1), str(year)) for year in (2023, 2024) for cell in ("463", "464", "465")
    ]
    for row in rows:
        mask = read(mask_path(run.output, row["cell"], int(row["year"])))[0]
        assert float(row["changed_ha"]) == pytest.approx((mask == 2).sum() / 100)
        assert (run.output / row["item"]).is_file()


SEEDS = [1 + secrets.randbelow(100_000) for _ in range(3)]
"""Other ones each time."""


@pytest.mark.parametrize("number", [0, *(pytest.param(one, marks=pytest.mark.long) for one in (1, 2))])
def test_a_settlement_and_a_clearing_are_found_and_noise_is_borne(number: int, client: Client, tmp_path: Path) -> None:
    seed = SEEDS[number]
    land = make_changes(tmp_path / "archive", rows=1, cols=3, cell_px=128, seed=seed)
    with ServerProcess(land.root) as server:
        run = find(land, server.url, tmp_path / "out", client)
    for cell, year in (("463", 2023), ("465", 2024)):
        path = mask_path(run.output, cell, year)
        found = f1(read(path)[0], truth_of(land, path, year - 1, year))
        assert found >= 0.8, (seed, cell, found)
    for cell, year in (("464", 2023), ("464", 2024), ("463", 2024), ("465", 2023)):  # as docs/change-detection.md says
        mask = read(mask_path(run.output, cell, year))[0]
        assert (mask == 2).sum() <= 0.01 * (mask > 0).sum(), (seed, cell)


def test_people_get_the_same_pixels(run: eo.Run) -> None:
    """Whatever the chunks are, and lazily."""
    for cell, year, chunks in (("463", 2023, {"y": 33, "x": 70}), ("465", 2024, {"y": 128, "x": 128})):
        before, after = (dataset_of(image_path(run.output, cell, one), chunks) for one in (year - 1, year))
        found = eo.cva(before, after)
        score = read(mask_path(run.output, cell, year, "_score.tif"))[0]
        expected = np.where(score == 0, np.nan, score * np.float32(0.01)).astype(np.float32)
        np.testing.assert_array_equal(found.score.compute(), expected)
        np.testing.assert_array_equal(found.change.compute(), read(mask_path(run.output, cell, year))[0])
        assert found.odc.geobox == before.odc.geobox


def dataset_of(path: Path, chunks: dict[str, int]) -> Any:
    import rioxarray

    cube = rioxarray.open_rasterio(path, chunks={**chunks, "band": 1})
    cube = cube.assign_coords(band=list(BANDS)).drop_attrs()  # type: ignore[union-attr]
    return cube.to_dataset("band")


def test_irmad_is_the_same_for_people_too(
    land: ChangesArchive, served: str, client: Client, run: eo.Run, tmp_path: Path
) -> None:
    found = find(land, served, tmp_path / "out", client, method="irmad", grid_ids="463", years="2022-2023", rounds=12)
    assert [one["properties"]["eoap:change_statistics"]["method"] for one in found.items[2:]] == ["irmad"]
    before, after = (dataset_of(image_path(found.output, "463", one), {"y": 50, "x": 50}) for one in (2022, 2023))
    assert sha256_of(image_path(found.output, "463", 2022)) == sha256_of(image_path(run.output, "463", 2022))
    cube = eo.irmad(before, after, rounds=12).compute()
    score = read(mask_path(found.output, "463", 2023, "_score.tif"))[0]
    np.testing.assert_array_equal(cube.score, np.where(score == 0, np.nan, score * np.float32(0.01)).astype(np.float32))
    np.testing.assert_array_equal(cube.change, read(mask_path(found.output, "463", 2023))[0])


def test_adding_a_year_makes_that_year_and_its_changes_only(
    land: ChangesArchive, served: str, client: Client, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    find(land, served, out, client, years="2022-2023", grid_ids="463,465")
    before = {path: sha256_of(path) for path in out.rglob("*") if path.is_file() and "2024" not in str(path)}
    kinds: list[tuple[str, str]] = []
    run = find(
        land,
        served,
        out,
        client,
        years="2022-2024",
        grid_ids="463,465",
        listener=lambda one: kinds.append((one.kind, one.unit)),
    )
    assert len(run.items) == 10
    made = [unit for kind, unit in kinds if kind == "unit-done"]
    assert sorted(made) == sorted(
        [
            *(f"images/2024/sentinel2_grid_{cell}_2024_08" for cell in (463, 465)),
            *(f"masks/2024/change_mask_grid_{cell}_2024" for cell in (463, 465)),
        ]
    )
    # a year at a time across all cells
    assert [unit.split("/")[:2] for unit in made] == [["images", "2024"]] * 2 + [["masks", "2024"]] * 2
    for path, checksum in before.items():
        if path.parent.parent.name in ("images", "masks") and path.suffix != ".json":
            assert sha256_of(path) == checksum, path


@pytest.mark.long
def test_a_poisoned_cell_leaves_the_others_alone(land: ChangesArchive, client: Client, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    shutil.copytree(land.root, root)
    # one scene of 2024 over 465 alone is spoilt: its tiles hold rubbish there
    frame = geopandas.read_file(root / "cells.gpkg")
    assert list(frame["id"]) == [463, 464, 465]
    path = next(
        root / one["assets"]["red"]["href"] for one in land.items if "2024-08-05" in one["properties"]["datetime"]
    )
    path.write_bytes(path.read_bytes()[:2000])
    with ServerProcess(root) as server:
        run = find(land, server.url, tmp_path / "out", client, max_failures=9, retries=0)
    failed = {one.unit for one in run.failures}
    assert failed == {
        *(f"images/2024/sentinel2_grid_{cell}_2024_08" for cell in (463, 464, 465)),
        *(f"masks/2024/change_mask_grid_{cell}_2024" for cell in (463, 464, 465)),
    }
    assert len(run.items) == 9


@pytest.mark.long
def test_nir_is_compared_where_a_band_is_missing(
    land: ChangesArchive, client: Client, tmp_path: Path, said: list[str]
) -> None:
    items = json.loads(json.dumps(land.items))
    del items[0]["assets"]["nir08"]
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = f"archive/{asset['href']}"
    shutil.copytree(land.root, tmp_path / "archive")
    file = tmp_path / "items.json"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    run = eo.change_detection(
        grid=land.cells, items=file, output_dir=tmp_path / "out", client=client, grid_ids="464", years="2022,2023"
    )
    with rasterio.open(image_path(run.output, "464", 2023)) as dataset:
        assert dataset.descriptions == tuple("nir" if band == "nir08" else band for band in BANDS)
    assert "blue, green, red, nir, swir16" in run.items[-1]["properties"]["processing:lineage"]
    assert any("nir is compared instead" in line for line in said)


@pytest.mark.long
def test_cells_of_any_shape_and_crs_are_taken_and_said(
    land: ChangesArchive, served: str, client: Client, tmp_path: Path, said: list[str]
) -> None:
    frame = geopandas.read_file(land.cells)
    frame["name"] = ["West", "Middle", "East"]
    frame.loc[1, "geometry"] = frame.geometry[1].buffer(400)  # over its neighbours
    frame.to_crs(4326).to_file(tmp_path / "cells.geojson")
    run = eo.change_detection(
        grid=tmp_path / "cells.geojson", grid_id_column="name", grid_ids="Middle,East", stac=served,
        years="2022-2023", output_dir=tmp_path / "out", client=client,
    )  # fmt: skip
    assert [key.rpartition("/")[2] for key in keys_of(run)] == [
        *("sentinel2_grid_middle_2022_08", "sentinel2_grid_east_2022_08"),
        *("sentinel2_grid_middle_2023_08", "sentinel2_grid_east_2023_08"),
        *("change_mask_grid_middle_2023", "change_mask_grid_east_2023"),
    ]
    assert any("1 pair of cells overlaps" in line for line in said)
    with rasterio.open(mask_path(run.output, "middle", 2023)) as dataset:
        mask = dataset.read(1)
        assert dataset.crs == "EPSG:32633"
    assert (mask[0, 0], mask[-1, -1]) == (0, 0)  # its corners are round
    east = read(image_path(run.output, "east", 2023))
    np.testing.assert_array_equal(
        east, read(image_path(find(land, served, tmp_path / "same", client, grid_ids="465").output, "465", 2023))
    )


def test_a_year_without_data_is_said_and_left_out(
    land: ChangesArchive, served: str, client: Client, tmp_path: Path, said: list[str]
) -> None:
    run = find(land, served, tmp_path / "out", client, years="2021-2023", grid_ids="463")
    assert set(run.empty) == {"images/2021/sentinel2_grid_463_2021_08", "masks/2022/change_mask_grid_463_2022"}
    assert len(run.items) == 3
    assert any("No items of sentinel-2-l2a in 2021-08" in line for line in said)
    with pytest.raises(eo.NothingFoundError, match="2017-08"):
        find(land, served, tmp_path / "none", client, years="2017-2019")


@pytest.mark.long
def test_squares_over_an_area_are_cells(land: ChangesArchive, served: str, client: Client, tmp_path: Path) -> None:
    west, south, east, north = geopandas.read_file(land.cells).iloc[[0]].buffer(-200).to_crs(4326).total_bounds
    run = eo.change_detection(
        aoi=f"{west},{south},{east},{north}", cell_size=640, stac=served, years="2022-2023", month=8,
        output_dir=tmp_path / "out", client=client,
    )  # fmt: skip
    cells = {item["properties"]["eoap:cell"] for item in run.items}
    with rasterio.open(image_path(run.output, sorted(cells)[0], 2022)) as dataset:
        assert dataset.shape == (64, 64)
        assert (dataset.transform.c / 640, dataset.transform.f / 640) == (
            int(dataset.transform.c / 640),
            int(dataset.transform.f / 640),
        )
    assert len(cells) == 4


def checkpoint(out: Path, name: str) -> Any:
    return json.loads((out / "checkpoints" / f"{name}.json").read_text())


def test_checkpoints_report_stages(run: eo.Run) -> None:
    names = {path.stem for path in (run.output / "checkpoints").iterdir()}
    assert names == {
        *(f"{stage}_{year}" for stage in ("download", "store") for year in (2022, 2023, 2024)),
        *("change_2023", "change_2024"),
    }
    found = checkpoint(run.output, "download_2023")
    assert list(found) == [
        *("stage_name", "year", "total_tasks", "completed_tasks", "failed_tasks", "skipped_tasks", "tasks")
    ]
    assert (found["stage_name"], found["year"], found["total_tasks"], found["completed_tasks"]) == (
        "download",
        2023,
        3,
        3,
    )
    assert set(found["tasks"]) == {"download_463_2023", "download_464_2023", "download_465_2023"}
    for task in found["tasks"].values():
        assert task["status"] == "completed"
        assert task["started_at"] <= task["completed_at"]
    for stage in ("download", "store", "change"):
        lines = (run.output / "logs" / f"{stage}.log").read_text().splitlines()
        assert any("cell 463, 2023: " in line for line in lines), stage


def test_checkpoints_are_explained_and_never_trusted(
    land: ChangesArchive, served: str, client: Client, run: eo.Run, tmp_path: Path, said: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run.output, out)
    (out / "checkpoints" / "download_2022.json").write_text("{broken")
    (out / "checkpoints" / "store_2024.json").unlink()
    edited = checkpoint(out, "change_2024")
    edited["tasks"]["change_463_2024"]["status"] = "failed"
    edited["tasks"]["change_464_2024"]["status"] = "pending"
    edited["tasks"]["change_999_2024"] = {"status": "completed"}
    (out / "checkpoints" / "change_2024.json").write_text(json.dumps(edited))
    again = find(land, served, out, client)
    assert len(again.items) == 15
    text = "\n".join(said)
    assert "download_2022.json isn't JSON: it is written anew" in text
    assert "1 checkpoint is missing: store_2024.json" in text
    for what in ("change_463_2024 is failed", "change_464_2024 is pending", "change_999_2024 is completed"):
        assert what in text
    assert checkpoint(out, "download_2022")["completed_tasks"] == 3
    assert checkpoint(out, "change_2024")["tasks"]["change_463_2024"]["status"] == "completed"
    assert checkpoint(out, "change_2024")["total_tasks"] == 3


@pytest.mark.long
def test_wrong_checkpoints_are_put_right_though_all_is_finished(
    land: ChangesArchive, served: str, client: Client, run: eo.Run, tmp_path: Path, said: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run.output, out)
    (out / "checkpoints" / "store_2023.json").write_text("{broken")
    find(land, served, out, client)
    assert any("store_2023.json isn't JSON: it is written anew" in line for line in said)
    assert checkpoint(out, "store_2023") == checkpoint(run.output, "store_2023") | {
        "tasks": checkpoint(out, "store_2023")["tasks"]
    }
    said.clear()
    find(land, served, out, client)
    find(land, served, out, client, resume=False)  # whose reports told the truth
    assert not any("checkpoint" in line for line in said)


@pytest.mark.long
def test_what_a_run_did_not_reach_and_what_failed_is_reported(
    land: ChangesArchive, client: Client, tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    shutil.copytree(land.root, root)
    (item,) = [one for one in land.items if one["properties"]["datetime"].startswith("2023-08-05")]
    path = root / item["assets"]["swir22"]["href"]
    path.write_bytes(path.read_bytes()[:2000])
    out = tmp_path / "out"
    with ServerProcess(root) as server, pytest.raises(eo.UnitsFailedError):
        find(land, server.url, out, client, retries=0, years="2021-2023", grid_ids="463")
    partial = tmp_path / "out.partial"
    assert checkpoint(partial, "store_2022")["completed_tasks"] == 1
    assert checkpoint(partial, "download_2021")["skipped_tasks"] == 1
    failed = checkpoint(partial, "download_2023")
    assert failed["failed_tasks"] == 1
    assert "swir22" in failed["tasks"]["download_463_2023"]["reason"]
    assert checkpoint(partial, "store_2023")["tasks"]["store_463_2023"]["status"] == "pending"
    assert checkpoint(partial, "change_2023")["failed_tasks"] == 1
