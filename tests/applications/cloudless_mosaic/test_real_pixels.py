"""Real Sentinel-2 pixels through the whole program: files, STAC API, command line, and a median by other means.

The cube has 19 dates of 2023, every five days from October to December, over fields near Antwerp; all of November is
under clouds. Its values are reflectance × 10000; the archive of that time has 1000 added, and so have the files that
are made of it here. Its scene classification is that of 20 m, each pixel twice in either direction; it is put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess

pytestmark = pytest.mark.cluster

BANDS = ("B02", "B03", "B04", "B08")
NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
EPSG = 32631
DROPPED = (0, 1, 3, 8, 9, 10)
SHIFT = 1000
MARGIN = 4
"""Pixels of the cube that the area leaves out on each side."""
OCTOBER, NOVEMBER, DECEMBER = (f"monthly-mosaic-2023-{month}" for month in (10, 11, 12))


@pytest.fixture(scope="module")
def cube(shared: Path) -> xr.Dataset:
    """(t, y, x), uint16 all; read through GDAL, which every installation has, rather than another library."""
    path = shared / "series" / "test_optical_cube.nc"
    if not path.is_file():
        pytest.skip("the real series isn't here")
    with rasterio.Env() as env:
        if "netCDF" not in env.drivers():
            pytest.skip("this GDAL doesn't read netCDF")
    layers = {}
    for band in (*BANDS, "SCL"):
        with rasterio.open(f"netcdf:{path}:S2-L2A-{band}") as dataset:
            layers[band] = (("t", "y", "x"), dataset.read())
            days = [int(dataset.tags(i)["NETCDF_DIM_t"]) for i in range(1, dataset.count + 1)]
            transform = dataset.transform
            assert dataset.crs.to_epsg() == EPSG
    times = np.datetime64("1990-01-01", "D") + np.array(days)
    found = xr.Dataset(layers, {"t": times.astype("datetime64[ns]")}, {"transform": tuple(transform)[:6]})
    assert found.sizes == {"t": 19, "y": 52, "x": 46}
    assert all(found[band].dtype == np.uint16 for band in found)
    assert min(int(found[band].min()) for band in BANDS) == 132  # every pixel of every date has data, no offset
    assert max(int(found[band].max()) for band in BANDS) < 65535 - SHIFT
    assert set(np.unique(found.SCL)) == {4, 5, 6, 7, 8, 9, 10}
    return found


def classes_of_20_m(scl: np.ndarray) -> np.ndarray:
    """The pixels that were doubled: the cube begins with the lower half of a row of 20 m."""
    found = scl[np.r_[0, 1 : scl.shape[0] : 2], ::2]
    doubled = np.repeat(np.repeat(found, 2, 0), 2, 1)[1 : 1 + scl.shape[0]]
    np.testing.assert_array_equal(doubled, scl)
    return found.astype(np.uint8)


@pytest.fixture(scope="module")
def server(cube: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Each date as a product of the Planetary Computer, served."""
    root = tmp_path_factory.mktemp("real")
    items = [write_scene(root, cube.isel(t=number)) for number in range(cube.sizes["t"])]
    with ServerProcess(Catalogue(root, items, "sentinel-2-l2a")) as running:
        yield running


def write_scene(root: Path, scene: xr.Dataset) -> dict[str, Any]:
    transform = Affine(*scene.attrs["transform"])
    start = f"{str(scene.t.to_numpy())[:10].replace('-', '')}T105031"
    name = f"S2B_MSIL2A_{start}_N0509_R051_T31UES_{start[:8]}T150000"
    (root / name).mkdir()
    assets = {}
    for band in BANDS:
        stored = scene[band].to_numpy() + np.uint16(SHIFT)
        assets[band] = write_asset(root, f"{name}/{band}.tif", stored, transform)
        assets[band]["eo:bands"] = [{"name": band, "common_name": NAMES[band]}]
    coarse = Affine(20, 0, transform.c, 0, -20, transform.f + 10)
    assets["SCL"] = write_asset(root, f"{name}/SCL.tif", classes_of_20_m(scene.SCL.to_numpy()), coarse)
    bounds = rasterio.transform.array_bounds(*scene.SCL.shape, transform)
    west, south, east, north = Transformer.from_crs(EPSG, 4326, always_xy=True).transform_bounds(*bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name.replace("_N0509", ""),
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": f"{str(scene.t.to_numpy())[:10]}T10:50:31.024000Z",
            "platform": "Sentinel-2B",
            "proj:epsg": EPSG,
            "s2:product_uri": f"{name}.SAFE",
            "s2:datatake_id": f"GS2B_{start}_034000_N05.09",
            "s2:processing_baseline": "05.09",
            "s2:mgrs_tile": "31UES",
            "s2:generation_time": f"{str(scene.t.to_numpy())[:10]}T15:00:00.000000Z",
            "eo:cloud_cover": round(100 * float(np.isin(scene.SCL, (8, 9, 10)).mean()), 6),
        },
        "links": [],
        "assets": assets,
    }


def write_asset(root: Path, name: str, pixels: np.ndarray, transform: Affine) -> dict[str, Any]:
    height, width = pixels.shape
    profile = {"driver": "COG", "height": height, "width": width, "count": 1, "dtype": pixels.dtype, "nodata": 0}
    with rasterio.open(root / name, "w", crs=CRS.from_epsg(EPSG), transform=transform, **profile) as dataset:
        dataset.write(pixels, 1)
    return {
        "href": name,
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "proj:shape": [height, width],
        "proj:transform": list(transform)[:6],
        "roles": ["data"],
    }


@pytest.fixture(scope="module")
def run(cube: xr.Dataset, server: ServerProcess, cli: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The command line's result, with what it said."""
    left, top, height, width = window(cube)
    inner = (left + 3, top - 10 * height + 3, left + 10 * width - 3, top - 3)
    back = Transformer.from_crs(EPSG, 4326, always_xy=True)
    corners = [back.transform(x, y) for x in inner[::2] for y in inner[1::2]]
    # inside of all four corners: a box in degrees is a little askew in metres
    lons, lats = sorted(c[0] for c in corners), sorted(c[1] for c in corners)
    done = cli(
        "cloudless-mosaic",
        *("--stac", server.url, "--aoi", f"{lons[1]},{lats[1]},{lons[2]},{lats[2]}"),
        *("--start-date", "2023-10-01", "--end-date", "2023-12-31", "--max-cloud-cover", "100"),
        *(f"--bands={band}" for band in BANDS),
        *("--resolution", "10", "--output-dir", tmp_path_factory.mktemp("out") / "mosaic", "--workers", "1", "--json"),
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def window(cube: xr.Dataset) -> tuple[float, float, int, int]:
    """Left, top, rows and columns of the part that the area was laid in."""
    transform = Affine(*cube.attrs["transform"])
    return (
        transform.c + 10 * MARGIN,
        transform.f - 10 * MARGIN,
        cube.sizes["y"] - 2 * MARGIN,
        cube.sizes["x"] - 2 * MARGIN,
    )


def expected(cube: xr.Dataset, month: int, slices: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Medians (band, y, x) and counts by numpy, from the cube alone: half rounds up, 0 where nothing is clear."""
    part = cube.sel(t=cube.t.dt.month == month).isel(y=slices[0], x=slices[1])
    clear = ~part.SCL.isin(DROPPED)
    medians = []
    for band in BANDS:
        values = part[band].where(clear).to_numpy().astype(float)
        seen = ~np.isnan(values).all(axis=0)
        middle = np.zeros(seen.shape)
        middle[seen] = np.nanmedian(values[:, seen], axis=0)
        medians.append(np.floor(middle + 0.5))
    return np.array(medians).astype(np.uint16), clear.sum("t").to_numpy()


def read(run: dict[str, Any], identifier: str, asset: str) -> tuple[np.ndarray, Affine]:
    (item,) = [i for i in run["items"] if i["id"] == identifier]
    with rasterio.open(item["assets"][asset]) as dataset:
        assert dataset.crs.to_epsg() == EPSG
        return dataset.read(), dataset.transform


def in_cube(cube: xr.Dataset, shape: tuple[int, int], transform: Affine) -> tuple[slice, slice]:
    """Where the grid of a file lies in the cube."""
    origin = Affine(*cube.attrs["transform"])
    assert (transform.a, transform.e) == (10, -10)
    col, row = (transform.c - origin.c) / 10, (origin.f - transform.f) / 10
    assert col == int(col) >= 1
    assert row == int(row) >= 1
    assert row + shape[0] < cube.sizes["y"]
    assert col + shape[1] < cube.sizes["x"]
    return slice(int(row), int(row) + shape[0]), slice(int(col), int(col) + shape[1])


@pytest.mark.parametrize(("identifier", "month"), [(OCTOBER, 10), (NOVEMBER, 11), (DECEMBER, 12)])
def test_every_pixel_is_the_median_of_the_clear_ones(
    cube: xr.Dataset, run: dict[str, Any], identifier: str, month: int
) -> None:
    data, transform = read(run, identifier, "data")
    count, _ = read(run, identifier, "count")
    assert min(data.shape[1:]) > 30
    medians, clear = expected(cube, month, in_cube(cube, data.shape[1:], transform))
    np.testing.assert_array_equal(count[0], clear)
    np.testing.assert_array_equal(data, medians)


def test_the_months_are_as_their_weather_was(cube: xr.Dataset, run: dict[str, Any]) -> None:
    """Otherwise the comparison above might compare nothing."""
    october, december = read(run, OCTOBER, "count")[0], read(run, DECEMBER, "count")[0]
    assert set(np.unique(october)) == {1, 2}  # 22nd and, in part, 7th: averages of two are among them
    assert set(np.unique(december)) == {1}  # 26th
    data, transform = read(run, OCTOBER, "data")
    values = cube.isel(**dict(zip("yx", in_cube(cube, data.shape[1:], transform), strict=True)))
    two = (values.B08.sel(t="2023-10-07") + values.B08.sel(t="2023-10-22")).to_numpy()[october[0] == 2]
    assert (two % 2 == 1).any()  # some of them end in a half


def test_november_is_empty(run: dict[str, Any]) -> None:
    for asset in ("data", "count", "visual"):
        assert not read(run, NOVEMBER, asset)[0].any()
    assert run["empty_periods"] == []
    assert run["failures"] == []
    item = json.loads((Path(run["catalog"]).parent / NOVEMBER / f"{NOVEMBER}.json").read_text())
    assert item["properties"]["eoap:passes"] == 6
    assert all("statistics" not in band for band in item["assets"]["data"]["bands"])


def test_that_november_is_empty_is_said(run: dict[str, Any]) -> None:
    (line,) = [line for line in run["stderr"].splitlines() if "is empty: " in line]
    assert "2023-11" in line


def test_by_default_november_is_left_out_and_that_is_said(
    cube: xr.Dataset, server: ServerProcess, cli: Any, run: dict[str, Any], tmp_path: Path
) -> None:
    """25 % of cloud at most: then there is one scene in October, one in December, and none in between."""
    bounds = ",".join(map(str, server.catalogue.items[0]["bbox"]))
    done = cli(
        "cloudless-mosaic",
        *("--stac", server.url, "--aoi", bounds, "--start-date", "2023-10-01", "--end-date", "2023-12-31"),
        *("--bands", "B04", "--resolution", "10", "--output-dir", tmp_path / "mosaic", "--workers", "1", "--json"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [i["id"] for i in result["items"]] == [OCTOBER, DECEMBER]
    assert result["empty_periods"] == [NOVEMBER]
    assert NOVEMBER in done.stderr
    assert json.loads((tmp_path / "mosaic" / "run.json").read_text())["empty_periods"] == [NOVEMBER]
    for identifier, day in ((OCTOBER, "2023-10-22"), (DECEMBER, "2023-12-26")):
        data, transform = read(result, identifier, "data")
        origin = Affine(*cube.attrs["transform"])
        top, left = int((transform.f - origin.f) / 10), int((origin.c - transform.c) / 10)
        inner = data[0, top : top + cube.sizes["y"], left : left + cube.sizes["x"]]
        one = cube.sel(t=day)
        clear = ~one.SCL.isin(DROPPED).to_numpy()
        np.testing.assert_array_equal(inner, np.where(clear, one.B04.to_numpy(), 0))
        inner[:] = 0
        assert not data.any()  # nothing beyond the edge of the scenes


def test_reflectance_is_that_of_fields(run: dict[str, Any]) -> None:
    """Not shifted by 0.1: winter crops are dark in the red, and bright in the near infrared."""
    data, _ = read(run, OCTOBER, "data")
    blue, green, red, nir = (np.median(band) / 10000 for band in data)
    assert blue < green < 0.12
    assert red < 0.12
    assert 0.2 < nir < 0.45
