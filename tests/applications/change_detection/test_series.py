"""Real Sentinel-2 of a hundred pixels squared, two months of a year as two years, by the command. No truth is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from tests.support.changes import cva_score, image_path, large_patches, mask_path, read
from tests.support.command_line import Shell

pytestmark = [pytest.mark.cluster, pytest.mark.long]

BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir16": "B11", "swir22": "B12"}
YEARS = {2021: "2021-05-01", 2022: "2021-08-01", 2023: "2020-12-01"}
"""Which month of the series stands for the August of which year; the last has no data at all."""
NODATA = 65535


def pixels_of(series: xr.Dataset, name: str, month: str) -> np.ndarray[Any, Any]:
    """Return a band of a month: uint16, which the file says by an attribute."""
    found: np.ndarray[Any, Any] = series[f"S2-L2A-{name}"].sel(t=month).values.astype(np.uint16)
    return found


def write_years(series: xr.Dataset, folder: Path) -> Path:
    """Write months as COGs and items of years; return the file of items. Pixels are reflectance × 10000."""
    x, y = series.x.values, series.y.values
    transform = Affine(10, 0, x[0] - 5, 0, -10, y[0] + 5)
    degrees = geopandas.GeoSeries([shapely.box(x[0] - 5, y[-1] - 5, x[-1] + 5, y[0] + 5)], crs=32631).to_crs(4326)[0]
    items = []
    for year, month in YEARS.items():
        assets: dict[str, Any] = {}
        for band, name in BANDS.items():
            path = folder / f"{year}_{name}.tif"
            profile = {"driver": "COG", "dtype": "uint16", "count": 1, "height": 100, "width": 100, "crs": "EPSG:32631"}
            with rasterio.open(path, "w", **profile, transform=transform, nodata=NODATA) as dataset:
                dataset.write(pixels_of(series, name, month), 1)
            told = {"proj:shape": [100, 100], "proj:transform": list(transform)[:6]}
            bands = [{"nodata": NODATA, "scale": 0.0001, "offset": 0}]
            assets[band] = {
                "href": path.name,
                "eo:bands": [{"name": name, "common_name": band}],
                "raster:bands": bands,
                **told,
            }
        items.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": f"S2A_31UFS_{year}0815_0_L2A",
                "collection": "sentinel-2-l2a",
                "geometry": shapely.geometry.mapping(degrees),
                "bbox": list(degrees.bounds),
                "properties": {
                    "datetime": f"{year}-08-15T10:30:00Z",
                    "proj:epsg": 32631,
                    "eo:cloud_cover": 0,
                    "s2:processing_baseline": "02.14",
                },
                "links": [],
                "assets": assets,
            }
        )
    path = folder / "years.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def test_a_real_series(shared: Path, shell: Shell) -> None:
    with xr.open_dataset(shared / "series" / "worldcereal_preprocessed_inputs.nc", mask_and_scale=False) as series:
        items = write_years(series, shell.cwd)
        months = {
            year: np.stack([pixels_of(series, name, month) for name in BANDS.values()]) for year, month in YEARS.items()
        }
        x, y = series.x.values, series.y.values
    cell = shapely.box(x[0] - 5, y[-1] - 5, x[-1] + 5, y[0] + 5)
    geopandas.GeoDataFrame({"id": [7]}, geometry=[cell], crs=32631).to_file(shell.cwd / "cell.gpkg")
    done = shell.run(
        *("change-detection", "--items", items, "--grid", "cell.gpkg", "--years", "2021-2023", "--cloud-mask", "none"),
        *("--output-dir", "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "nir is compared instead" in done.stderr  # there is no B8A
    assert "sentinel2_grid_7_2023_08 is empty: not one pixel was seen clearly." in done.stderr
    out = shell.cwd / "out"
    for year in (2021, 2022):
        is_missing = ((months[year] == NODATA) | (months[year] == 0)).any(axis=0)  # 0 is no data with Sentinel-2
        np.testing.assert_array_equal(read(image_path(out, "7", year)), np.where(is_missing, 0, months[year]))
    score = cva_score(read(image_path(out, "7", 2021)), read(image_path(out, "7", 2022)))
    found = read(mask_path(out, "7", 2022, "_score.tif"))[0] * 0.01
    np.testing.assert_allclose(found[found > 0], score[~np.isnan(score)], atol=0.0051)
    rows = {row["year"]: row for row in csv.DictReader((out / "changes.csv").open())}
    mask = read(mask_path(out, "7", 2022))[0]
    np.testing.assert_array_equal(mask == 2, large_patches(np.nan_to_num(score) > float(rows["2022"]["threshold"]), 6))
    assert float(rows["2022"]["changed_ha"]) == pytest.approx((mask == 2).sum() / 100)
    assert (float(rows["2023"]["seen_ha"]), rows["2023"]["changed_percent"]) == (0, "")
    assert not read(mask_path(out, "7", 2023)).any()
