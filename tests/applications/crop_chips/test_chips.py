"""Chips of the demo's fields: images and masks against others that know nothing of ours, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pystac
import pytest
import rasterio
import shapely
from distributed import Client
from tests.support.chips import median_of, observed

import eoap_dask as eo
from eoap_dask.applications.crop_chips.classes import ClassTable
from eoap_dask.applications.crop_chips.product import class_names
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.farmland import FARM_BANDS
from eoap_dask.demo.fields import FieldsArchive, make_fields
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of

pytestmark = pytest.mark.cluster

SMALL = {"grid": 3, "chip_size": 64, "min_distance": 300.0, "max_chips": 3, "split_block": 1}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> FieldsArchive:
    return make_fields(tmp_path_factory.mktemp("farm") / "archive", size_px=512)


@pytest.fixture(scope="module")
def served(farm: FieldsArchive) -> Iterator[str]:
    with ServerProcess(farm.root) as server:
        yield server.url


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


def cut(farm: FieldsArchive, url: str, out: Path, client: Client, **how: Any) -> eo.Run:
    return eo.crop_chips(fields=farm.fields, stac=url, output_dir=out, client=client, **{**SMALL, **how})


@pytest.fixture(scope="module")
def run(farm: FieldsArchive, served: str, client: Client, tmp_path_factory: pytest.TempPathFactory) -> eo.Run:
    return cut(farm, served, tmp_path_factory.mktemp("chips") / "out", client)


def chips_of(run: eo.Run) -> dict[str, tuple[dict[str, Any], Path, Path]]:
    """Return the item, image and mask of each chip by its name."""
    found = {}
    for item in run.items:
        folder = run.output / item["id"]
        for link in item["links"]:
            if link["rel"] == "item":
                chip = json.loads((folder / link["href"]).read_text())
                image, mask = (folder / chip["assets"][key]["href"] for key in ("image", "mask"))
                found[chip["id"]] = chip, image, mask
    return found


DAYS = ["2023-05-18", "2023-05-28", "2023-06-17", "2023-06-27"]
"""Those with less than 10 % of clouds."""


def test_images_are_the_median_of_what_is_seen_clearly(farm: FieldsArchive, run: eo.Run) -> None:
    chips = chips_of(run)
    assert len(chips) > 15
    clouds = 0
    for _, path, _ in chips.values():
        with rasterio.open(path) as dataset:
            found = dataset.read()
            seen = observed(farm, DAYS, dataset)
            assert dataset.descriptions == FARM_BANDS
            assert (dataset.nodata, dataset.scales[0]) == (0, 1e-4)
        clouds += int((seen == 0).any(axis=(0, 1)).sum())
        np.testing.assert_array_equal(found, median_of(seen))
    assert clouds > 1000


def test_masks_are_the_fields_at_the_centres_of_pixels(farm: FieldsArchive, run: eo.Run) -> None:
    """By shapely, one polygon after the other; the demo's fields don't overlap."""
    fields = geopandas.read_file(farm.fields).to_crs("EPSG:32630")
    values = ClassTable.of(None).values(fields["EC_hcat_c"].tolist(), fields["EC_trans_n"].tolist())
    occurring: set[int] = set()
    for item, _, path in chips_of(run).values():
        with rasterio.open(path) as dataset:
            mask = dataset.read(1)
            col, row = np.meshgrid(np.arange(dataset.width) + 0.5, np.arange(dataset.height) + 0.5)
            x, y = dataset.transform * (col, row)
            inside = shapely.box(*dataset.bounds)
            colours, told = dataset.colormap(1), dataset.tags(1)
        expected = np.zeros_like(mask)
        touching = [n for n, shape in enumerate(fields.geometry) if shape.intersects(inside)]
        for number in touching:
            expected[shapely.contains_xy(fields.geometry[number], x, y)] = values[number]
        np.testing.assert_array_equal(mask, expected)
        assert item["properties"]["eoap:fields"] == len(touching)
        counted = {value: int((mask == value).sum()) for value in np.unique(mask)}
        names = class_names(ClassTable.of(None))
        assert told == {f"CLASS_{value}": name for value, name in names.items()}
        assert item["properties"]["eoap:class_pixels"] == {names[value]: n for value, n in counted.items()}
        assert colours[5][:3] == (0xF0, 0xE4, 0x42)
        occurring |= set(counted)
    assert occurring >= set(range(9))


def test_chips_lie_where_the_pixels_of_the_scenes_do(run: eo.Run) -> None:
    for item, image, mask in chips_of(run).values():
        with rasterio.open(image) as one, rasterio.open(mask) as other:
            assert (one.transform, one.crs, one.shape) == (other.transform, other.crs, other.shape)
            assert (one.transform.a, one.transform.c % 10, one.transform.f % 10) == (10, 0, 0)
            assert one.shape == (64, 64)
        assert image.stem == mask.stem == item["id"]
        assert (image.parent.name, mask.parent.name) == ("images", "masks")


def test_each_cell_lists_its_chips_and_what_was_left_out(run: eo.Run, farm: FieldsArchive) -> None:
    points = geopandas.read_file(farm.fields).representative_point()
    left, bottom, right, top = geopandas.read_file(farm.fields).total_bounds
    rows = np.minimum(((top - points.y) / (top - bottom) * 3).astype(int), 2)
    cols = np.minimum(((points.x - left) / (right - left) * 3).astype(int), 2)
    counts: dict[str, int] = {}
    for r, c in zip(rows, cols, strict=True):
        counts[f"cell{r:02d}{c:02d}"] = counts.get(f"cell{r:02d}{c:02d}", 0) + 1
    assert {item["id"] for item in run.items} == {name for name, n in counts.items() if n >= 5}
    for item in run.items:
        linked = [link for link in item["links"] if link["rel"] == "item"]
        assert item["properties"]["eoap:counts"]["chips"] == len(linked)
        assert item["properties"]["eoap:counts"]["chips_left_out"] + len(linked) <= 3
        for link in linked:
            path = run.output / item["id"] / link["href"]
            assert link["file:checksum"] == f"1220{sha256_of(path)}"


def test_what_is_said_in_stac(run: eo.Run) -> None:
    catalog = pystac.Catalog.from_file(str(run.catalog))
    chips = chips_of(run)
    assert {item.id for item in catalog.get_items()} == {*chips, *(item["id"] for item in run.items)}
    collection = json.loads((run.output / "collection.json").read_text())
    assert set(collection["item_assets"]) == {"image", "mask"}
    assert [band["name"] for band in collection["item_assets"]["image"]["bands"]] == list(FARM_BANDS)
    assert "EuroCrops" in [one["name"] for one in collection["providers"]]
    for key, asset in collection["assets"].items():
        assert asset["file:checksum"] == f"1220{sha256_of(run.output / asset['href'])}", key
    for item, _, _ in chips.values():
        assert item["assets"]["image"]["ml-aoi:role"] == "feature"
        assert item["properties"]["label:type"] == "raster"
        assert [link for link in item["links"] if link["rel"] == "derived_from"]


@pytest.mark.parametrize("name", ["label-v1.0.1.json", "ml-aoi-v0.2.0.json"])
def test_chips_fit_the_schemas_of_their_extensions(run: eo.Run, shared: Path, name: str) -> None:
    import jsonschema

    schema = json.loads((shared / "schemas" / name).read_text())
    for item, _, _ in chips_of(run).values():
        jsonschema.validate(item, schema)
        assert any(name.split("-v")[0] in one for one in item["stac_extensions"])


def test_splits_index_and_items_agree(run: eo.Run) -> None:
    index = geopandas.read_parquet(run.output / "chips.parquet")
    chips = chips_of(run)
    assert sorted(index.id) == sorted(chips)
    own = {"train": "train", "validate": "val", "test": "test"}
    for name in ("train", "val", "test"):
        listed = (run.output / "splits" / f"{name}.txt").read_text().split()
        assert sorted(listed) == sorted(index[index.split == name].image)
        assert all((run.output / one).is_file() for one in listed)
    for row in index.itertuples():
        properties = chips[row.id][0]["properties"]
        assert own.get(properties.get("ml-aoi:split")) == row.split
        assert properties["eoap:class_pixels"].get("vineyards", 0) == row.pixels_vineyards
    utm = index.to_crs("EPSG:32630")
    for name in ("train", "val", "test"):
        mine, others = utm[utm.split == name], utm[utm.split.notna() & (utm.split != name)]
        assert not mine.intersects(others.union_all()).any()
    assert utm.split.notna().sum() > len(utm) / 3


@pytest.mark.parametrize("name", ["max_cloud_cover", "workers", "start_date", "colour"])
def test_the_lazy_door_refuses_what_it_would_ignore(farm: FieldsArchive, served: str, name: str) -> None:
    items = eo.search(farm.aoi_bbox, "2023-05-15", "2023-05-31", stac=served)
    with pytest.raises(eo.UsageError, match=f"There is no parameter '{name}'"):
        eo.chips(items, farm.fields, **{name: 5})


def test_the_lazy_door_shows_the_same(run: eo.Run, farm: FieldsArchive, served: str, client: Client) -> None:
    items = eo.search(farm.aoi_bbox, "2023-05-15", "2023-06-30", stac=served, max_cloud_cover=10)
    chips = eo.chips(items, farm.fields, **SMALL)
    assert chips.image.dtype == np.uint16
    assert chips.mask.chunks[0] == (1,) * chips.sizes["chip"]
    for name, (item, image, mask) in list(chips_of(run).items())[:3]:
        one = chips.sel(chip=name).compute()
        with rasterio.open(image) as dataset:
            np.testing.assert_array_equal(one.image, dataset.read())
            assert (dataset.transform.c, dataset.transform.f) == (one.left, one.top)
            assert dataset.crs == one.crs.item()
        with rasterio.open(mask) as dataset:
            np.testing.assert_array_equal(one.mask, dataset.read(1))
        assert one.cell == item["properties"]["eoap:cell"]


@pytest.mark.long
def test_the_clearest_pass_of_each_chip(farm: FieldsArchive, served: str, client: Client, tmp_path: Path) -> None:
    run = cut(farm, served, tmp_path / "out", client, composite="clearest-1", min_valid=0.5)
    dates = set()
    for item, path, _ in chips_of(run).values():
        with rasterio.open(path) as dataset:
            seen = observed(farm, DAYS, dataset)
            clear = (seen[:, 0] > 0).sum(axis=(1, 2))
            np.testing.assert_array_equal(dataset.read(), seen[int(np.argmax(clear))])
            tags = dataset.tags()
        day = DAYS[int(np.argmax(clear))]
        assert {item["properties"][key][:10] for key in ("datetime", "start_datetime", "end_datetime")} == {day}
        assert tags["TIFFTAG_DATETIME"][:10].replace(":", "-") == day
        assert [
            link["href"].count(day.replace("-", "")) for link in item["links"] if link["rel"] == "derived_from"
        ] == [1]
        dates.add(day)
    assert len(dates) > 1


@pytest.mark.long
def test_chips_of_which_too_little_is_seen_are_counted(
    farm: FieldsArchive, served: str, client: Client, tmp_path: Path, run: eo.Run
) -> None:
    few = cut(farm, served, tmp_path / "out", client, min_valid=0.5, max_cloud_cover=4.5)
    strict = cut(farm, served, tmp_path / "strict", client, min_valid=1.0, max_cloud_cover=4.5)
    kept = {name for name, (item, _, _) in chips_of(few).items() if item["properties"]["eoap:valid_percent"] == 100.0}
    assert set(chips_of(strict)) == kept
    assert len(kept) < len(chips_of(few))
    left = sum(item["properties"]["eoap:counts"]["chips_left_out"] for item in strict.items)
    assert left == len(chips_of(run)) + sum(i["properties"]["eoap:counts"]["chips_left_out"] for i in run.items) - len(
        kept
    )


def test_a_run_that_was_stopped_goes_on_and_gives_equal_files(
    farm: FieldsArchive, served: str, client: Client, tmp_path: Path, run: eo.Run
) -> None:
    out, control = tmp_path / "out", eo.Control()
    with pytest.raises(eo.StoppedError):
        cut(farm, served, out, client, hooks=eo.Hooks(control=control, unit_done=lambda _: control.stop()))
    assert not out.exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.partial").rglob("*.tif")}
    assert before
    again = cut(farm, served, out, client)
    assert {out / path.relative_to(tmp_path / "out.partial"): time for path, time in before.items()}.items() <= {
        path: path.stat().st_mtime_ns for path in out.rglob("*.tif")
    }.items()
    for name, (item, image, mask) in chips_of(run).items():
        other, *files = chips_of(again)[name]
        assert [sha256_of(path) for path in files] == [sha256_of(image), sha256_of(mask)]
        assert other == item
    for name in ("chips.parquet", "splits/train.txt", "contact-sheet.png", "class-balance.png"):
        assert sha256_of(run.output / name) == sha256_of(out / name), name


@pytest.mark.long
def test_no_two_chips_share_ground(farm: FieldsArchive, served: str, tmp_path: Path, client: Client) -> None:
    run = cut(farm, served, tmp_path / "out", client, overlap=False, min_distance=0.0, legacy_names=True)
    shapes = []
    for name, (_, image, _) in chips_of(run).items():
        assert name.startswith("worker1_task")
        with rasterio.open(image) as dataset:
            shapes.append(shapely.box(*dataset.bounds))
    assert len(shapes) > 10
    for number, one in enumerate(shapes):
        assert not any(shapely.intersection(one, other).area > 0 for other in shapes[:number])


@pytest.mark.long
@pytest.mark.parametrize("border", [1, 2])
def test_borders_may_be_ignored(farm: FieldsArchive, served: str, client: Client, tmp_path: Path, border: int) -> None:
    fields = geopandas.read_file(farm.fields).to_crs("EPSG:32630")
    lines = fields.boundary.union_all()
    run = cut(farm, served, tmp_path / "out", client, border_ignore=border, max_chips=1, other_class=255)
    for _, _, path in chips_of(run).values():
        with rasterio.open(path) as dataset:
            mask = dataset.read(1)
            col, row = np.meshgrid(np.arange(dataset.width) + 0.5, np.arange(dataset.height) + 0.5)
            x, y = dataset.transform * (col, row)
        distance = shapely.distance(shapely.points(x, y), lines)
        assert (mask[distance < border * 10 * 0.97] == 255).all()
        unknown = fields[ClassTable.of(None).values(fields["EC_hcat_c"].tolist(), fields["EC_trans_n"].tolist()) == 0]
        others = shapely.contains_xy(unknown.union_all(), x, y)
        assert (mask[others] == 255).all()
        assert (mask[(distance > border * 10) & ~others] != 255).all()


@pytest.mark.long
def test_cells_from_a_file(farm: FieldsArchive, served: str, client: Client, tmp_path: Path) -> None:
    left, bottom, right, top = geopandas.read_file(farm.fields).to_crs("EPSG:3035").total_bounds
    middle = (left + right) / 2
    cells = geopandas.GeoDataFrame(
        geometry=[shapely.box(middle, bottom, right, top), shapely.box(left, bottom, middle, top)], crs="EPSG:3035"
    )
    pyogrio.write_dataframe(cells, tmp_path / "cells.gpkg")
    run = cut(farm, served, tmp_path / "out", client, cells=str(tmp_path / "cells.gpkg"), grid=10)
    assert [item["id"] for item in run.items] == ["cell0000", "cell0001"]
    first, second = (chips_of(run)[f"{item['id']}_chip0"][0]["bbox"] for item in run.items)
    assert first[0] > second[0]


def test_a_product_without_a_chip_says_why(
    farm: FieldsArchive, served: str, client: Client, tmp_path: Path, said: list[str]
) -> None:
    one_day = {"start_date": "2023-06-07", "end_date": "2023-06-07", "max_cloud_cover": 100.0, "min_valid": 1.0}
    run = cut(farm, served, tmp_path / "out", client, grid=1, chip_size=256, max_chips=1, bands=("red",), **one_day)
    assert not chips_of(run)
    (line,) = [one for one in said if "No chip was written" in one]
    assert "1 chip has data in less than 100% of the pixels. Try a smaller min_valid" in line
