"""The index of chips: the same bytes for the same chips, in geopandas, in pystac and as a source of items."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyarrow.parquet as pq
import pystac
import pytest
import stac_geoparquet.arrow as stac_arrow

from eoap_dask.applications.crop_chips.index import write_index
from eoap_dask.geo.footprint import footprint_4326
from eoap_dask.items.itemset import ItemSet
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.stac.item import build_item
from eoap_dask.stac.records import COG, AssetRecord, ItemRecord

CLASSES = (
    ClassSpec(0, "other"),
    ClassSpec(1, "olive", "Olive plantations", colour=(120, 140, 60)),
    ClassSpec(5, "wheat-barley"),
    ClassSpec(255, "ignored"),
)
START, END = datetime(2023, 5, 15, tzinfo=UTC), datetime(2023, 6, 30, 23, 59, 59, tzinfo=UTC)
PLAIN = [
    "id", "cell", "split", "valid_percent", "fields", "pixels_other", "pixels_olive", "pixels_wheat-barley",
    "pixels_ignored", "datetime", "start_datetime", "end_datetime", "image", "mask", "geometry",
]  # fmt: skip


def chip_item(number: int, split: str = "train", now: datetime = END, **properties: Any) -> dict[str, Any]:
    """The item of a chip of cell 0307 as the application writes it."""
    name = f"cell0307_chip{number}"
    transform, shape = (10, 0, 500_000 + 5000 * number, 0, -10, 4_600_000), (256, 256)
    geometry, bbox = footprint_4326("EPSG:32630", transform, shape)
    grid: dict[str, Any] = {"shape": shape, "transform": transform}
    file: dict[str, Any] = {**grid, "size": 9, "sha256": "0" * 64}
    image = ImageSpec("images", (BandSpec("B02"), BandSpec("B03")), "uint16", "mean", 0)
    mask = ImageSpec("masks", (BandSpec("class", classes=CLASSES),), "uint8", "nearest", None)
    return build_item(
        ItemRecord(
            name,
            f"Chip {number}",
            START,
            END,
            "EPSG:32630",
            geometry=geometry,
            bbox=bbox,
            assets=(
                AssetRecord("image", f"images/{name}.tif", "Image", COG, ("data",), image, **file),
                AssetRecord("mask", f"masks/{name}.tif", "Mask", COG, ("labels",), mask, **file),
            ),
            lineage="By hand.",
            derived_from=("https://example.com/scene.json",),
            properties={
                "eoap:cell": "cell0307",
                **({"ml-aoi:split": split} if split else {}),
                "eoap:valid_percent": 97.5,
                "eoap:fields": 7,
                "eoap:class_pixels": {"other": 60_000, "olive": 5500 + number, "ignored": 36},
                **properties,
            },
            **grid,
        ),
        collection_id="crop-chips",
        software_version="1",
        now=now,
    )


def homes(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"cell0307/{item['id']}.json": item for item in items}


ITEMS = [chip_item(1), chip_item(2, "validate"), chip_item(3, "test"), chip_item(4, "")]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_index(tmp_path / "chips.parquet", homes(ITEMS), CLASSES)


def test_geopandas_filters_it(index: Path):
    chips = geopandas.read_parquet(index)
    assert list(chips.columns[: len(PLAIN)]) == PLAIN
    assert chips.crs == "EPSG:4326"
    assert list(chips["id"]) == [item["id"] for item in ITEMS]
    assert list(chips["split"].fillna("")) == ["train", "val", "test", ""]
    assert list(chips[chips["split"] == "val"]["id"]) == ["cell0307_chip2"]
    assert list(chips.query("pixels_olive > 5502 and valid_percent > 90 and fields == 7")["pixels_olive"]) == [
        5503,
        5504,
    ]
    assert (chips["pixels_wheat-barley"] == 0).all()
    assert chips["start_datetime"].min() == pd.Timestamp(START)
    assert chips["end_datetime"].max() == pd.Timestamp(END)
    assert chips["image"][0] == "cell0307/images/cell0307_chip1.tif"
    assert chips["mask"][3] == "cell0307/masks/cell0307_chip4.tif"
    assert chips["geometry"].to_crs(32630).area.to_numpy() == pytest.approx(2560**2, rel=1e-3)
    assert chips.dtypes[["fields", "pixels_other", "pixels_wheat-barley"]].astype(str).tolist() == ["int64"] * 3
    west, south, east, north = ITEMS[1]["bbox"]
    near = geopandas.read_parquet(index, bbox=(west + 0.001, south, east - 0.001, north))
    assert list(near["id"]) == ["cell0307_chip2"]


def test_the_same_chips_have_the_same_bytes(index: Path):
    later = [chip_item(number, split, START) for number, split in ((1, "train"), (2, "validate"), (3, "test"), (4, ""))]
    turned = [json.loads(json.dumps(item, sort_keys=True)) for item in reversed(later)]
    again = write_index(index.with_name("again.parquet"), homes(turned), CLASSES)
    assert again.read_bytes() == index.read_bytes()


def test_it_is_a_source_of_items(index: Path):
    found = ItemSet.load(index)
    assert found.collection == "crop-chips"
    assert not found.odd_items
    assert len(found.local_files) == 8
    for item, original in zip(found, ITEMS, strict=True):
        kept = {key: value for key, value in original["properties"].items() if key != "processing:datetime"}
        assert {key: item["properties"].get(key) for key in kept} == kept
        assert item["geometry"] == original["geometry"]
        assert item["bbox"] == original["bbox"]
        assert item["stac_extensions"] == original["stac_extensions"]
        for key, asset in original["assets"].items():
            assert item["assets"][key] == {**asset, "href": str(index.parent / "cell0307" / asset["href"][2:])}


def test_other_readers_of_the_format_take_it(index: Path):
    table = pq.read_table(index)
    assert json.loads(table.schema.metadata[b"stac-geoparquet"]) == {"version": "1.0.0"}
    items = [pystac.Item.from_dict(item) for item in stac_arrow.stac_table_to_items(table)]
    assert [item.id for item in items] == [item["id"] for item in ITEMS]
    assert items[0].assets["mask"].href == "./cell0307/masks/cell0307_chip1.tif"
    assert {link.rel: link.get_href(transform_href=False) for link in items[0].links} == {
        "root": "./catalog.json",
        "parent": "./catalog.json",
        "collection": "./collection.json",
        "derived_from": "https://example.com/scene.json",
    }


def test_a_product_without_chips_has_all_columns(tmp_path: Path):
    path = write_index(tmp_path / "chips.parquet", {}, CLASSES)
    chips = geopandas.read_parquet(path)
    assert len(chips) == 0
    assert list(chips.columns[: len(PLAIN)]) == PLAIN
    assert chips.crs == "EPSG:4326"
    assert len(ItemSet.load(path)) == 0
    full = pq.read_schema(write_index(tmp_path / "full.parquet", homes(ITEMS), CLASSES))
    empty = pq.read_schema(path)
    assert all(full.field(name).type == empty.field(name).type for name in (*PLAIN, "bbox", "stac_extensions"))


def test_what_was_counted_besides_has_a_column(tmp_path: Path):
    item = chip_item(1, **{"eoap:class_pixels": {"zeal": 1, "olive": 2}})
    chips = geopandas.read_parquet(write_index(tmp_path / "chips.parquet", homes([item]), CLASSES[1:2]))
    assert [name for name in chips if name.startswith("pixels")] == ["pixels_olive", "pixels_zeal"]
    assert chips["pixels_zeal"].tolist() == [1]


def test_odd_items_are_stored(tmp_path: Path):
    """Empty objects, which Parquet can't store, and hrefs that don't begin at the item."""
    item = chip_item(1, **{"eoap:class_pixels": {}, "x:empty": {"y": {}}, "x:list": [], "cell": "a name that is taken"})
    item["assets"]["image"]["href"] = "https://example.com/image.tif"
    item["assets"]["mask"]["href"] = "../../elsewhere/mask.tif"
    del item["links"]
    path = write_index(tmp_path / "chips.parquet", homes([item]), CLASSES)
    chips = geopandas.read_parquet(path)
    assert chips["image"][0] == "https://example.com/image.tif"
    assert chips["mask"][0] == "../elsewhere/mask.tif"
    assert chips["cell"][0] == "cell0307"
    assert chips["pixels_olive"][0] == 0
    assert len(ItemSet.load(path)) == 1
