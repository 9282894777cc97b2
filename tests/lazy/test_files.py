"""Cubes know grid and nodata at once, and keep both in files: COGs of rioxarray, Zarr and NetCDF of xarray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import eoap_dask as eo
from eoap_dask import ItemSet
from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.geo.grid import grid_for
from eoap_dask.geo.parse import parse_aoi

BANDS = ("nir", "red")
BOX = GeoBox((1024, 1024), Affine(10, 0, 500_000, 0, -10, 4_500_000), "EPSG:32610")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("files") / "demo"
    return make_archive(root, size_px=256, resolution_m=40.0, months=("2020-10",), dates_per_month=3, bands=BANDS)


@pytest.fixture(scope="module")
def items(archive: Archive) -> Iterator[ItemSet]:
    with ServerProcess(archive) as server:
        yield eo.search(box(archive), "2020-10-01", "2020-10-31", stac=server.url, collection=archive.collection)


def box(archive: Archive) -> str:
    return ",".join(map(str, archive.aoi_bbox))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something computed")


def assert_knows(array: xr.DataArray, grid: GeoBox, nodata: float | None) -> None:
    """`.rio` and `.odc` agree with a grid, and on what is no data."""
    assert array.rio.transform() == array.rio.transform(recalc=True) == grid.transform
    assert array.rio.shape == grid.shape
    assert array.rio.crs.to_epsg() == grid.crs.epsg
    assert array.odc.geobox == grid
    if nodata is None:
        assert array.rio.nodata is None
        assert array.odc.nodata is None
    else:
        np.testing.assert_equal(float(array.rio.nodata), nodata)
        np.testing.assert_equal(float(array.odc.nodata), nodata)


# At once.


@pytest.mark.parametrize("name", ["load", "ndvi"])
def test_nobody_has_to_import_rioxarray(name: str) -> None:
    program = f"import eoap_dask as eo, xarray as xr; eo.{name}; xr.DataArray([0.5]).rio; xr.Dataset().odc"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("raw", [False, True])
def test_every_variable_knows_its_grid_and_nodata(archive: Archive, items: ItemSet, raw: bool) -> None:
    nothing = 0 if raw else np.nan
    with dask.config.set(scheduler=refuse):
        cube = eo.load(items, BANDS, aoi=box(archive), resolution=80, raw=raw)
        clear = eo.mask_clouds(cube)
        month = eo.composite(clear)
        grid = cube.odc.geobox
        for band in BANDS:
            for array in (cube[band], clear[band], month[band], cube[band].isel(time=0)):
                assert_knows(array, grid, nothing)
        assert_knows(cube.cloud_mask, grid, None)
        assert_knows(month["count"], grid, None)
        part = cube.nir[0, 3:20, 5:6]
        assert_knows(part, grid[3:20, 5:6], nothing)
    assert_knows(part.compute(), grid[3:20, 5:6], nothing)
    assert_knows(month.red.compute(), grid, nothing)


def test_so_do_indices_and_classes(archive: Archive, items: ItemSet) -> None:
    with dask.config.set(scheduler=refuse):
        month = eo.composite(eo.mask_clouds(eo.load(items, BANDS, aoi=box(archive), resolution=80)))
        before = eo.nbr(month.nir, month.red)
        for array in (eo.ndvi(month.nir, month.red), eo.bai(month.red, month.nir), before, eo.dnbr(before, before)):
            assert_knows(array, month.odc.geobox, np.nan)
        assert_knows(eo.severity(before), month.odc.geobox, 0)


def test_what_is_counted_or_compared_has_no_nan(archive: Archive, items: ItemSet) -> None:
    """Nodata of a float never goes along into what can't hold it."""
    cube = eo.load(items, BANDS, aoi=box(archive), resolution=80)
    for array in (cube.red > 0.2, cube.red.notnull().sum("time"), cube.red.fillna(0).astype("uint8")):
        assert_knows(array, cube.odc.geobox, None)
    again = ((cube.red + cube.nir) / 2).rio.write_nodata(np.nan, encoded=True)
    assert_knows(again, cube.odc.geobox, np.nan)


# COGs. Pixels of the first overview are made of 2 × 2; the left 511 columns show nothing, so that each overview pixel
# of column 255 has one column of values.


def seen_on_the_right() -> xr.DataArray:
    stored = np.zeros((1, 1024, 1024), np.uint16)
    stored[..., 511:] = 6000
    stored[0, ::2, 511] = 2000
    coords = {"time": np.array(["2020-10-05"], "datetime64[ns]"), **xr_coords(BOX)}
    return xr.DataArray(stored, coords, ("time", "y", "x"), attrs={"nodata": 0}).chunk(y=512)


def overview(array: xr.DataArray, path: Path, **options: Any) -> np.ndarray:
    array.rio.to_raster(path, driver="COG", **options)
    with rasterio.open(path) as dataset:
        assert dataset.transform == BOX.transform
        assert dataset.crs.to_epsg() == 32610
        assert dataset.overviews(1) == [2]
    with rasterio.open(path, overview_level=0) as dataset:
        seen: np.ndarray = dataset.read(1)
        return seen


def test_overviews_are_made_of_what_was_seen(tmp_path: Path) -> None:
    raw = xr.Dataset({"red": seen_on_the_right()})
    cube = (raw.astype(np.float32) / 10_000).where(raw != 0)
    red = eo.composite(cube).red.isel(time=0).compute()
    found = overview(red, tmp_path / "red.tif", overview_resampling="average")
    assert np.isnan(found[:, :255]).all()
    np.testing.assert_allclose(found[:, 255], 0.4, rtol=1e-6)  # (0.2 + 0.6) / 2; with NaN in it, it would be lost
    np.testing.assert_allclose(found[:, 256:], 0.6, rtol=1e-6)
    with rasterio.open(tmp_path / "red.tif") as dataset:
        assert np.isnan(dataset.nodata)
        assert dataset.dtypes == ("float32",)


def test_overviews_of_raw_numbers_are_not_darkened(tmp_path: Path) -> None:
    raw = eo.composite(xr.Dataset({"red": seen_on_the_right()})).red.isel(time=0)
    found = overview(raw, tmp_path / "raw.tif", overview_resampling="average", tags={"scale_factor": 1e-4})
    assert (found[:, :255] == 0).all()
    assert (found[:, 255] == 4000).all()  # (2000 + 6000) / 2; with the zeros it would be 2000
    assert (found[:, 256:] == 6000).all()
    with rasterio.open(tmp_path / "raw.tif") as dataset:
        assert dataset.nodata == 0
        assert dataset.scales == (1e-4,)
        assert dataset.dtypes == ("uint16",)


# Zarr and NetCDF.


def assert_same_again(found: xr.Dataset, cube: xr.Dataset) -> None:
    """Values, dtypes, attributes, coordinates, grid and nodata are those that were written."""
    xr.testing.assert_identical(found.compute(), cube.compute())
    for name, array in cube.data_vars.items():
        assert found[name].dtype == array.dtype
        assert_knows(found[name], cube.odc.geobox, None if array.rio.nodata is None else float(array.rio.nodata))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part in the Zarr format 3")
def test_cubes_survive_zarr(
    archive: Archive, items: ItemSet, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pytest.importorskip("zarr")
    grid = grid_for(parse_aoi(box(archive)), "auto", 80.0)
    row, col = (data.draw(st.integers(0, side - 1)) for side in grid.shape)
    height, width = (data.draw(st.integers(1, 40)) for _ in range(2))
    raw, consolidated = data.draw(st.booleans()), data.draw(st.booleans())
    form = {"zarr_format": data.draw(st.sampled_from([2, 3])), "consolidated": consolidated}
    chunks = {"time": data.draw(st.sampled_from([1, 2, -1])), "y": data.draw(st.integers(7, 50)), "x": 13}
    cube = eo.load(items, BANDS, geobox=grid[row : row + height, col : col + width], raw=raw, chunks=chunks)
    path = tmp_path_factory.mktemp("zarr") / "cube.zarr"
    cube.to_zarr(path, **form)
    found = xr.open_zarr(path, consolidated=consolidated)
    assert_same_again(found, cube)
    found.to_zarr(path.with_name("again.zarr"), **form)
    assert_same_again(xr.open_zarr(path.with_name("again.zarr"), consolidated=consolidated), cube)


@pytest.mark.parametrize("raw", [False, True])
def test_composites_and_indices_survive_zarr(archive: Archive, items: ItemSet, tmp_path: Path, raw: bool) -> None:
    pytest.importorskip("zarr")
    month = eo.composite(eo.mask_clouds(eo.load(items, BANDS, aoi=box(archive), resolution=80, raw=raw)))
    if not raw:
        month["ndvi"] = eo.ndvi(month.nir, month.red)
        month["severity"] = eo.severity(month.ndvi)
    month.to_zarr(tmp_path / "month.zarr", consolidated=False)
    found = xr.open_zarr(tmp_path / "month.zarr", consolidated=False)
    assert_same_again(found, month)
    assert found.red.attrs == month.red.attrs


@pytest.mark.parametrize("raw", [False, True])
def test_cubes_survive_netcdf(archive: Archive, items: ItemSet, tmp_path: Path, raw: bool) -> None:
    cube = eo.load(items, BANDS, aoi=box(archive), resolution=80, raw=raw)
    cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "cube.nc", engine="h5netcdf") as found:
        assert_same_again(found, cube)
