"""What docs/lazy.md says of xarray-spatial and rio-stac: where they are right, by numpy, and where they aren't.

A test of what is wrong fails once a release mends it: then the page can say so.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rio_stac
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from xrspatial import convolution, focal, slope, zonal

from eoap_dask.geo.footprint import footprint_4326

GRID = GeoBox((40, 60), Affine(10, 0, 500_000, 0, -10, 4_500_000), "EPSG:32610")
DATE = datetime(2020, 10, 1, tzinfo=UTC)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something computed")


def array(values: np.ndarray, grid: GeoBox = GRID) -> xr.DataArray:
    return xr.DataArray(values, xr_coords(grid, dims=("y", "x")), ("y", "x"))


def reflectance() -> np.ndarray:
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 0.01, (40, 60)).astype(np.float32)
    values[rng.random((40, 60)) < 0.2] = np.nan
    values[35:, 55:] = np.nan
    return values


def zones() -> np.ndarray:
    labels = np.full((40, 60), np.nan, np.float32)
    labels[2:9, 3:20], labels[9:30, 30:50], labels[36:, 56:] = 0, 1, 2
    return labels


def test_zonal_statistics_in_memory_leave_nan_out() -> None:
    table = zonal.stats(array(zones()), array(reflectance()), stats_funcs=["mean", "min", "max", "sum", "std", "count"])
    assert table.zone.tolist() == [0, 1, 2]
    for zone in (0, 1):
        seen = reflectance()[zones() == zone].astype(np.float64)
        seen = seen[~np.isnan(seen)]
        expected = [seen.mean(), seen.min(), seen.max(), seen.sum(), seen.std(), seen.size]
        np.testing.assert_allclose(table.iloc[zone, 1:].astype(float), expected, rtol=1e-5)
    assert table.iloc[2, 1:].isna().all()
    raw = np.nan_to_num(np.rint(reflectance() * 10_000)).astype(np.uint16)
    table = zonal.stats(array(zones()), array(raw), stats_funcs=["mean", "std"], nodata_values=0)
    seen = raw[(zones() == 1) & (raw != 0)].astype(np.float64)
    np.testing.assert_allclose(table.iloc[1, 1:].astype(float), [seen.mean(), seen.std()], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:All-NaN slice", "ignore:invalid value encountered")
def test_zonal_statistics_in_chunks_are_partly_wrong() -> None:
    values = np.full((40, 60), 3000, np.uint16)
    asked = ["mean", "var", "count", "majority"]
    table = zonal.stats(array(zones()).chunk(x=30), array(values).chunk(x=30), stats_funcs=asked)
    table = table.compute(scheduler="sync")
    assert table["mean"].tolist() == [3000, 3000, 3000]
    assert table["count"].tolist() == [7 * 17, 21 * 20, 4 * 4]
    assert "majority" not in table
    assert (table["var"] != 0).all()


def test_focal_functions_are_lazy_and_leave_nan_out_in_any_chunks() -> None:
    values = reflectance()
    padded = np.pad(values.astype(np.float64), 1, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(40, 60, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has nothing around
        mean, most = np.nanmean(around, axis=-1), np.nanmax(around, axis=-1)
    with dask.config.set(scheduler=refuse):
        chunked = array(values).chunk(y=13, x=17)
        stats = focal.focal_stats(chunked, np.ones((3, 3)), stats_funcs=["mean", "max"])
        averaged = focal.mean(chunked)
        convolved = convolution.convolution_2d(chunked, np.ones((3, 3)) / 9)
        assert stats.odc.geobox == averaged.odc.geobox == GRID
    stats, averaged, convolved = dask.compute(stats, averaged, convolved, scheduler="sync")
    np.testing.assert_allclose(stats.sel(stats="mean"), mean, rtol=1e-5)
    np.testing.assert_array_equal(stats.sel(stats="max"), most.astype(np.float32))
    np.testing.assert_allclose(averaged, np.where(np.isnan(values), np.nan, mean), rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(convolved), np.isnan(around).any(axis=-1))


def test_slope_takes_coordinates_for_metres() -> None:
    plane = array(np.arange(60, dtype=np.float32) * np.ones((40, 1), np.float32))  # 1 m in 10 m
    inner = slope(plane.chunk(y=13)).compute(scheduler="sync")[1:-1, 1:-1]
    np.testing.assert_allclose(inner, np.degrees(np.arctan(0.1)), rtol=1e-5)
    degrees = GeoBox((40, 60), Affine(1e-4, 0, 10, 0, -1e-4, 45), "EPSG:4326")  # about 8 m
    assert float(slope(array(plane.to_numpy(), degrees))[5, 5]) > 89


def make(path: Path, grid: GeoBox, value: float = 0.3) -> Path:
    array(np.full(grid.shape, value, np.float32), grid).rio.write_nodata(np.nan, encoded=True).rio.to_raster(path)
    return path


def off_m(item: object, geometry: dict[str, object]) -> float:
    made = shapely.geometry.shape(item.geometry)  # type: ignore[attr-defined]
    return float(made.hausdorff_distance(shapely.geometry.shape(geometry))) * 111_000


def test_footprints_bend_only_when_asked(tmp_path: Path) -> None:
    grid = GeoBox((100, 100), Affine(1000, 0, 560_000, 0, -1000, 5_280_000), "EPSG:32610")
    path = make(tmp_path / "utm.tif", grid)
    geometry, bbox = footprint_4326("EPSG:32610", grid.transform, grid.shape)
    bent = rio_stac.create_stac_item(str(path), input_datetime=DATE, geom_densify_pts=21)
    assert off_m(bent, geometry) < 3
    assert bent.bbox == pytest.approx(bbox, abs=3e-5)
    assert off_m(rio_stac.create_stac_item(str(path), input_datetime=DATE), geometry) > 100


def test_a_bbox_across_the_antimeridian_is_too_wide(tmp_path: Path) -> None:
    grid = GeoBox((300, 200), Affine(1000, 0, 166_000, 0, -1000, 7_200_000), "EPSG:32601")
    item = rio_stac.create_stac_item(str(make(tmp_path / "anti.tif", grid)), input_datetime=DATE, geom_densify_pts=21)
    geometry, (west, _, east, _) = footprint_4326("EPSG:32601", grid.transform, grid.shape)
    assert item.geometry["type"] == geometry["type"] == "MultiPolygon"
    assert off_m(item, geometry) < 20
    assert west > 175
    assert east < -175
    assert (item.bbox[0], item.bbox[2]) == (-180, 180)


def test_nothing_seen_has_statistics_of_zero(tmp_path: Path) -> None:
    path = make(tmp_path / "nothing.tif", GRID, np.nan)
    with rasterio.open(path) as dataset:
        assert np.isnan(dataset.read(1)).all()
    item = rio_stac.create_stac_item(str(path), input_datetime=DATE, with_raster=True)
    (band,) = item.assets["asset"].extra_fields["raster:bands"]
    assert band["statistics"]["mean"] == band["statistics"]["valid_percent"] == 0
