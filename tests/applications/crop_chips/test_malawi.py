"""Real field polygons, 287 in Malawi with names of crops, under the demo's scenes: by command, with their own table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from tests.support.chips import median_of, observed
from tests.support.command_line import Shell

from eoap_dask.demo.farmland import Place
from eoap_dask.demo.fields import FieldsArchive, make_fields
from eoap_dask.demo.process import ServerProcess

pytestmark = [pytest.mark.cluster, pytest.mark.long]

MALAWI = Place("36LWL", 32736, (586_880.0, 8_573_660.0))
"""The middle of the fields, which reach over 10 by 9 km."""
BANDS = ("red", "nir", "swir16")
CLASSES = {"soy_soybeans": 1, "maize": 2, "oilseed_crops": 3, "tobacco": 4, "groundnuts": 5, "beans/peas": 6}
"""By the names of the crops; mixtures and roots are in none."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> FieldsArchive:
    return make_fields(tmp_path_factory.mktemp("malawi") / "scenes", size_px=1280, place=MALAWI)


@pytest.fixture(scope="module")
def served(archive: FieldsArchive) -> Iterator[str]:
    with ServerProcess(archive.root) as server:
        yield server.url


def test_fields_in_malawi(shared: Path, archive: FieldsArchive, served: str, shell: Shell) -> None:
    table = [f"{value},{code.replace('/', '_')},{code}" for code, value in CLASSES.items()]
    (shell.cwd / "crops.csv").write_text("\n".join(("class,name,code", *table)))
    path = shared / "fields" / "malawi_extraction_polygons.gpkg"
    command = [
        *("crop-chips", "--fields", path, "--class-attribute", "croptype", "--classes", "crops.csv"),
        *("--cell-size", 3000, "--chip-size", 128, "--min-distance", 640, "--stac", served),
        *(part for band in BANDS for part in ("--bands", band)),
    ]
    planned = json.loads(shell.run(*command, "--dry-run", "--json").stdout)["facts"]
    assert sum(planned["fields"].values()) == 287
    assert planned["fields"]["soy_soybeans"] == 75
    assert planned["fields"]["in no class"] == 72 + 24 + 1
    done = shell.run(*command)
    assert done.returncode == 0, done.stderr
    assert "Mixture three or more (72), without a code (24), root_crops (1)" in done.stderr
    assert "Traceback" not in done.stderr
    chips = shell.cwd / "crop-chips"
    index = geopandas.read_parquet(chips / "chips.parquet")
    assert len(index) == planned["chips"] > 20
    fields = geopandas.read_file(path).to_crs(32736)
    values = fields.croptype.map(CLASSES).fillna(0).astype(np.uint8)
    large_first = np.argsort(-fields.area, kind="stable")
    seen: set[int] = set()
    for image, mask in zip(index.image, index["mask"], strict=True):
        with rasterio.open(chips / image) as dataset:
            assert dataset.crs.to_epsg() == 32736
            days = ("2023-05-18", "2023-05-28", "2023-06-17", "2023-06-27")
            np.testing.assert_array_equal(dataset.read(), median_of(observed(archive, days, dataset, BANDS)))
            col, row = np.meshgrid(np.arange(128) + 0.5, np.arange(128) + 0.5)
            x, y = dataset.transform * (col, row)
        expected = np.zeros((128, 128), np.uint8)
        for number in large_first:
            expected[shapely.contains_xy(fields.geometry.iloc[number], x, y)] = values.iloc[number]
        with rasterio.open(chips / mask) as dataset:
            np.testing.assert_array_equal(dataset.read(1), expected)
        seen |= set(np.unique(expected).tolist())
    assert seen == {0, *CLASSES.values()}
