"""Two doors, one answer: what the production writes is what the lazy functions give, however either is cut."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from tests.support.place import Place

from eoap_dask import ItemSet, Run
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import (
    AssetError,
    BandError,
    CollectionError,
    DateError,
    EoapError,
    GridError,
    HrefError,
    NothingFoundError,
    UsageError,
)
from eoap_dask.geo.grid import grid_for, project_aoi
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.lazy.composites import composite, period_groups
from eoap_dask.lazy.cube import load, mask_clouds, search

BANDS = ("nir", "red", "green")
MONTHS = ("2020-10", "2020-11")


class Doors(Place):
    """The archive through both doors."""

    @property
    def ring(self) -> dict[str, Any]:
        """An area that is no box, with a hole, that leaves whole blocks out."""
        west, south, east, north = self.archive.aoi_bbox
        width, height = east - west, north - south
        outer = [(0.1, 0.0), (0.95, 0.3), (0.7, 1.0), (0.0, 0.8), (0.1, 0.0)]
        hole = [(0.3, 0.4), (0.5, 0.7), (0.6, 0.35), (0.3, 0.4)]
        return {
            "type": "Polygon",
            "coordinates": [[[west + width * x, south + height * y] for x, y in line] for line in (outer, hole)],
        }

    def items(self, **more: Any) -> ItemSet:
        options = {"stac": self.server.url, "collection": self.archive.collection, **more}
        return search(self.box, "2020-10-01", "2020-11-30", **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Tiles as those of Sentinel-2, though small: 10 m, classes of 20 m."""
    root = tmp_path_factory.mktemp("doors")
    archive = make_archive(root / "demo", size_px=768, resolution_m=10.0, months=MONTHS, dates_per_month=4)
    with ServerProcess(archive) as server, local_client(Size(1, 2, 2 << 30)) as client, client.as_current():
        yield Doors(archive, server, client, root, BANDS)


@pytest.fixture(scope="module")
def items(place: Doors) -> ItemSet:
    return place.items()


def pixels(run: Run, asset: str) -> np.ndarray:
    """(month, band, y, x) of an asset."""
    layers = []
    for item in run.items:
        with rasterio.open(run.output / item["id"] / item["assets"][asset]["href"]) as dataset:
            layers.append(dataset.read())
    return np.stack(layers)


def stacked(month: xr.Dataset, bands: tuple[str, ...] = BANDS) -> np.ndarray:
    """(month, band, y, x) of a lazy composite."""
    return month[list(bands)].to_dataarray("band").transpose("time", "band", "y", "x").to_numpy()


def assert_same(run: Run, month: xr.Dataset, bands: tuple[str, ...] = BANDS) -> None:
    """The files hold exactly what the composite computes to, on the same grid."""
    month = month.compute()
    expected, count = pixels(run, "data"), pixels(run, "count")
    found = stacked(month, bands)
    assert expected.any()
    assert not (expected * (count == 0)).any()
    if found.dtype == np.float32:
        np.testing.assert_array_equal(np.isnan(found), expected == 0)
        found = np.nan_to_num(np.rint(found * 10000)).astype(np.uint16)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(month["count"].to_numpy(), count[:, 0])
    assert [str(t)[:7] for t in month.time.to_numpy()] == [i["properties"]["datetime"][:7] for i in run.items]
    with rasterio.open(run.output / run.items[0]["id"] / run.items[0]["assets"]["data"]["href"]) as dataset:
        assert month.odc.geobox.transform == dataset.transform
        assert month.odc.geobox.shape == dataset.shape
        assert month.rio.crs == dataset.crs


# The two doors. At 10 m the nearest class decides, at 100 m the share of classes, at 40 m an overview of the data.


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("resolution", "area", "raw"),
    [
        (10.0, "box", False),
        (10.0, "ring", True),
        (40.0, "box", True),
        (40.0, "ring", False),
        (100.0, "box", True),
        (100.0, "box", False),
        (100.0, "ring", True),
        (100.0, "ring", False),
    ],
)
def test_the_doors_agree(place: Doors, items: ItemSet, resolution: float, area: str, raw: bool) -> None:
    aoi = getattr(place, area)
    run = place.mosaic(aoi=aoi, resolution=resolution)
    cube = load(items, BANDS, aoi=aoi, resolution=resolution, raw=raw)
    assert_same(run, composite(mask_clouds(cube)))


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("resolution", "raw", "chunks"),
    [
        (10.0, True, {"time": 1, "y": 512, "x": 512}),
        (10.0, False, {"time": 3, "y": 101, "x": 611}),
        (10.0, True, {"y": 333, "x": 177}),
        (100.0, False, {"time": 5, "y": 9, "x": -1}),
        (100.0, True, {"time": 2, "y": (7, 13, -1), "x": 29}),
    ],
    ids=str,
)
def test_chunks_change_nothing(
    place: Doors, items: ItemSet, resolution: float, raw: bool, chunks: dict[str, Any]
) -> None:
    run = place.mosaic(aoi=place.ring, resolution=resolution)
    if isinstance(chunks["y"], tuple):
        height = grid_for(parse_aoi(place.ring), "auto", resolution).shape[0]
        chunks = {**chunks, "y": (*chunks["y"][:-1], height - sum(chunks["y"][:-1]))}
    cube = load(items, BANDS, aoi=place.ring, resolution=resolution, raw=raw, chunks=chunks)
    assert cube.nir.data.npartitions > 4
    assert_same(run, composite(mask_clouds(cube)))


@pytest.mark.cluster
def test_chunking_afterwards_changes_nothing(place: Doors, items: ItemSet) -> None:
    run = place.mosaic(resolution=100.0)
    cube = load(items, BANDS, aoi=place.box, resolution=100).chunk(time=3, y=23, x=29)
    assert_same(run, composite(mask_clouds(cube).chunk(time=2, y=31)))


@pytest.mark.cluster
def test_in_memory_is_the_same(place: Doors, items: ItemSet) -> None:
    cube = load(items, BANDS, aoi=place.box, resolution=100).compute()
    month = composite(mask_clouds(cube))
    assert not month.chunks
    assert_same(place.mosaic(resolution=100.0), month)


@pytest.mark.cluster
@pytest.mark.parametrize("period", ["weekly", "dekad", "seasonal", "yearly", "all", "10d"])
def test_the_doors_agree_on_every_period(place: Doors, items: ItemSet, period: str) -> None:
    run = place.mosaic(resolution=100.0, period=period)
    cube = mask_clouds(load(items, BANDS, aoi=place.box, resolution=100, raw=True))
    found = composite(cube, period=period, start="2020-10-01")
    groups = period_groups(cube, period, start="2020-10-01")
    assert sorted(step for _, steps in groups for step in steps) == list(range(cube.sizes["time"]))
    assert [item["id"].endswith(f"mosaic-{one.key}") for item, (one, _) in zip(run.items, groups, strict=True)]
    np.testing.assert_array_equal(stacked(found), pixels(run, "data"))
    assert [str(t)[:10] for t in found.time.to_numpy()] == [str(one.first) for one, _ in groups]


@pytest.mark.cluster
def test_without_a_mask(place: Doors, items: ItemSet) -> None:
    run = place.mosaic(resolution=100.0, cloud_mask="none")
    assert_same(run, composite(load(items, BANDS, aoi=place.box, resolution=100, cloud_mask="none", raw=True)))
    # a mask that is there but wasn't applied isn't applied
    unmasked = composite(load(items, BANDS, aoi=place.box, resolution=100, raw=True))
    assert set(unmasked) == {*BANDS, "count"}
    assert_same(run, unmasked)
    assert (pixels(run, "count") > pixels(place.mosaic(resolution=100.0), "count")).any()


@pytest.mark.cluster
def test_the_order_of_bands_only_orders_bands(place: Doors, items: ItemSet) -> None:
    first = place.mosaic(resolution=100.0)
    turned = ("green", "nir", "red")
    run = place.mosaic(resolution=100.0, bands=turned)
    np.testing.assert_array_equal(pixels(run, "data"), pixels(first, "data")[:, [BANDS.index(band) for band in turned]])
    month = composite(mask_clouds(load(items, turned, aoi=place.box, resolution=100, raw=True)))
    assert list(month.data_vars) == [*turned, "count"]
    assert_same(run, month, turned)
    assert_same(first, month, BANDS)


@pytest.mark.cluster
def test_bands_have_the_name_that_was_asked_for(place: Doors, items: ItemSet) -> None:
    run = place.mosaic(resolution=100.0)
    asked = ("B08", "red", "B03")
    month = composite(mask_clouds(load(items, asked, aoi=place.box, resolution=100, raw=True)))
    assert_same(run, month, asked)


@pytest.mark.cluster
def test_the_order_of_items_is_of_no_meaning(place: Doors, items: ItemSet) -> None:
    run = place.mosaic(resolution=100.0)
    generator = np.random.default_rng(5)
    for _ in range(2):
        mixed = tuple(items.features[i] for i in generator.permutation(len(items)))
        shuffled = ItemSet(mixed, items.stac, items.collection, items.signing)
        assert_same(run, composite(mask_clouds(load(shuffled, BANDS, aoi=place.box, resolution=100, raw=True))))


@pytest.mark.cluster
def test_a_geobox_by_hand_is_the_same_grid(place: Doors, items: ItemSet) -> None:
    """Production's grid in another CRS, made by hand; and a part of it is that part."""
    run = place.mosaic(aoi=place.ring, resolution=100.0, crs="EPSG:32611")
    grid = grid_for(parse_aoi(place.ring), "EPSG:32611", 100.0)
    by_hand = GeoBox(tuple(grid.shape), Affine(*tuple(grid.transform)[:6]), "EPSG:32611")
    month = composite(mask_clouds(load(items, BANDS, geobox=by_hand, aoi=place.ring, raw=True))).compute()
    assert_same(run, month)

    whole = load(items, BANDS, geobox=by_hand, raw=True, chunks={"y": 20}).compute()
    assert (stacked(whole) != 0).sum() > (
        stacked(load(items, BANDS, geobox=by_hand, aoi=place.ring, raw=True)) != 0
    ).sum()
    unclipped = load(items, BANDS, geobox=by_hand, aoi=place.ring, clip=False, raw=True).compute()
    xr.testing.assert_identical(unclipped, whole)


def test_a_geobox_of_any_kind(items: ItemSet, place: Doors) -> None:
    """Odd origin, oblong pixels, a geographic CRS, no CRS code: `.odc` and `.rio` see what was asked for."""
    west, _, _, north = place.archive.aoi_bbox
    x, y = project_aoi(parse_aoi(place.box), "EPSG:32610").centroid.coords[0]
    grids = [
        GeoBox((31, 47), Affine(73.5, 0, x + 0.25, 0, -73.5, y), "EPSG:32610"),
        GeoBox((30, 20), Affine(50, 0, x, 0, -30, y), "EPSG:32610"),
        GeoBox((40, 50), Affine(0.001, 0, west, 0, -0.001, north), "EPSG:4326"),
        GeoBox((20, 20), Affine(100, 0, -500, 0, -100, 500), f"+proj=laea +lon_0={west + 0.04} +lat_0={north - 0.02}"),
    ]
    for grid in grids:
        cube = load(items, ["red"], geobox=grid)
        assert cube.odc.geobox == grid
        assert cube.red.odc.geobox == grid
        assert cube.rio.crs.to_wkt() == rasterio.crs.CRS.from_wkt(grid.crs.wkt).to_wkt()
        assert cube.rio.transform().almost_equals(grid.transform)
        assert cube.sizes == {"time": 8, **dict(zip(cube.odc.spatial_dims, grid.shape, strict=True))}
        assert cube.red.notnull().any()


def test_a_part_of_a_grid_is_that_part(items: ItemSet, place: Doors) -> None:
    grid = grid_for(parse_aoi(place.box), "auto", 10.0)
    part = grid[130:217, 41:300]
    whole = load(items, ["nir"], geobox=grid, raw=True, chunks={"y": 100, "x": 100})
    np.testing.assert_array_equal(
        load(items, ["nir"], geobox=part, raw=True).nir.to_numpy(), whole.nir[:, 130:217, 41:300].to_numpy()
    )


def test_a_grid_that_runs_up_is_the_same_upside_down(items: ItemSet, place: Doors) -> None:
    grid = grid_for(parse_aoi(place.ring), "auto", 100.0)
    turned = grid.flipy()
    assert turned.transform.e == 100
    one = load(items, ["nir"], geobox=grid, aoi=place.ring, raw=True)
    other = load(items, ["nir"], geobox=turned, aoi=place.ring, raw=True)
    for name in ("nir", "cloud_mask"):
        np.testing.assert_array_equal(other[name].to_numpy()[:, ::-1], one[name].to_numpy())


# What the lazy door gives.


def test_reflectance(items: ItemSet, place: Doors) -> None:
    cube = load(items, BANDS, aoi=place.ring, resolution=50)
    stored = load(items, BANDS, aoi=place.ring, resolution=50, raw=True).compute()
    assert list(cube.data_vars) == [*BANDS, "cloud_mask"]
    assert list(cube.dims) == ["time", "y", "x"]
    assert cube.time.dtype == np.dtype("datetime64[ns]")
    assert list(cube.time.to_index()) == sorted(cube.time.to_index())
    assert cube.cloud_mask.dtype == bool
    for band in BANDS:
        assert cube[band].attrs == {"long_name": "surface reflectance", "units": "1"}
        assert cube[band].dtype == np.float32
        values, numbers = cube[band].to_numpy(), stored[band].to_numpy()
        assert (numbers == 0).any()
        assert (numbers != 0).any()
        np.testing.assert_array_equal(np.isnan(values), numbers == 0)
        np.testing.assert_allclose(values[numbers != 0], numbers[numbers != 0] / 10000, rtol=1e-6)
        assert np.nanmin(values) > 0


def test_raw(items: ItemSet, place: Doors) -> None:
    cube = load(items, BANDS, aoi=place.ring, resolution=50, raw=True)
    month = composite(mask_clouds(cube))
    for band in BANDS:
        assert cube[band].dtype == mask_clouds(cube)[band].dtype == month[band].dtype == np.uint16
        assert cube[band].attrs == {
            "long_name": "surface reflectance",
            "units": "1",
            "scale": 1e-4,
            "nodata": 0,
        }
        assert month[band].attrs == mask_clouds(cube)[band].attrs == cube[band].attrs
        assert month[band].rio.nodata == 0
        assert month[band].odc.nodata == 0
    assert month["count"].dtype == np.uint16
    assert month["count"].attrs == {}


def test_a_raw_zero_never_reaches_a_median_of_reflectance(items: ItemSet, place: Doors) -> None:
    """What people do next, in xarray's own words, is right: nothing counts as black that wasn't seen."""
    cube = mask_clouds(load(items, ["nir"], aoi=place.ring, resolution=50)).compute()
    assert cube.nir.isnull().any()
    ours = composite(cube)
    for number, month in enumerate(MONTHS):
        part = cube.nir.sel(time=month)
        theirs = part.median("time").to_numpy()
        mine = ours.nir.isel(time=number).to_numpy()
        np.testing.assert_array_equal(np.isnan(theirs), np.isnan(mine))
        np.testing.assert_allclose(theirs, mine, atol=0.51e-4)
        assert np.nanmin(theirs) > 0
        assert (part.min("time").fillna(1) > 0).all()
        np.testing.assert_array_equal(part.count("time").to_numpy(), ours["count"].isel(time=number).to_numpy())


def test_masking(items: ItemSet, place: Doors) -> None:
    for raw, nothing in ((False, np.nan), (True, 0)):
        cube = load(items, BANDS, aoi=place.box, resolution=50, raw=raw).compute()
        clear = mask_clouds(cube)
        bad = cube.cloud_mask.to_numpy()
        assert "cloud_mask" not in clear
        assert 0.05 < bad.mean() < 0.95
        for band in BANDS:
            np.testing.assert_array_equal(clear[band].to_numpy()[bad], np.full(bad.sum(), nothing, cube[band].dtype))
            np.testing.assert_array_equal(clear[band].to_numpy()[~bad], cube[band].to_numpy()[~bad])


def test_the_cut_is_by_pixel_centre(items: ItemSet, place: Doors) -> None:
    cube = load(items, ["nir"], aoi=place.ring, resolution=50, cloud_mask="none")
    seen = cube.nir.notnull().any("time").to_numpy()
    shape = project_aoi(parse_aoi(place.ring), "EPSG:32610")
    x, y = np.meshgrid(cube.x, cube.y)
    inside = shapely.contains_xy(shape, x, y)
    sure = shapely.distance(shapely.points(x, y), shape.boundary) > 0.01
    assert not seen[~inside & sure].any()
    assert seen[inside & sure].all()


def test_stored_pixels_survive_reflectance() -> None:
    """All 65536 numbers, there and back."""
    numbers = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    cube = xr.Dataset({"red": (("time", "y", "x"), numbers)}, {"time": np.array(["2020-10-05"], "datetime64[ns]")})
    as_float = (cube.astype(np.float32) * np.float32(1e-4)).where(cube != 0)
    month = composite(as_float).red.to_numpy()[0]
    np.testing.assert_array_equal(np.rint(month * np.float32(10000))[1:], numbers[0][1:])
    assert np.isnan(month[0, 0])
    np.testing.assert_array_equal(composite(cube).red.to_numpy()[0], numbers[0])


NUMBERS = st.sampled_from([0, 0, 1, 2, 7, 8, 9999, 65534, 65535])


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_composites_of_any_chunks_are_those_of_numpy(data: st.DataObject) -> None:
    """numpy = dask for any chunks, and = a median written another way."""
    depth, height, width = (data.draw(st.integers(1, n)) for n in (7, 5, 6))
    numbers = data.draw(st.lists(NUMBERS, min_size=depth * height * width, max_size=depth * height * width))
    stack = np.array(numbers, np.uint16).reshape(depth, height, width)
    days = sorted(data.draw(st.lists(st.integers(0, 60), min_size=depth, max_size=depth, unique=True)))
    times = np.datetime64("2020-10-01", "ns") + np.array(days) * np.timedelta64(1, "D")
    cube = xr.Dataset({"red": (("time", "y", "x"), stack)}, {"time": times})
    chunks = {"time": data.draw(st.integers(1, depth)), "y": data.draw(st.integers(1, height)), "x": 2}

    month = composite(cube)
    xr.testing.assert_identical(composite(cube.chunk(chunks)).compute(), month)
    for number, name in enumerate(month.time.to_numpy().astype("datetime64[M]")):
        part = stack[times.astype("datetime64[M]") == name]
        for row, col in np.ndindex(height, width):
            valid = sorted(int(v) for v in part[:, row, col] if v)
            middle = valid[(len(valid) - 1) // 2 : len(valid) // 2 + 1]
            expected = (sum(middle) + 1) // 2 if len(middle) == 2 else sum(middle)
            assert month.red.to_numpy()[number, row, col] == expected
            assert month["count"].to_numpy()[number, row, col] == len(valid)


def test_periods_without_an_observation_are_not_there() -> None:
    times = np.array(["2020-10-05", "2020-12-24", "2020-12-31T23:59:59"], "datetime64[ns]")
    cube = xr.Dataset({"red": (("time", "y", "x"), np.full((3, 2, 2), 7, np.uint16))}, {"time": times})
    month = composite(cube)
    assert [str(t)[:10] for t in month.time.to_numpy()] == ["2020-10-01", "2020-12-01"]
    assert month["count"].to_numpy()[:, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("bad", [-0.25, 6.6, np.inf])
@pytest.mark.parametrize("chunks", [{}, {"x": 1}], ids=["numpy", "dask"])
def test_a_composite_of_what_is_no_reflectance_is_refused(bad: float, chunks: dict[str, int]) -> None:
    """An index may be negative; as a stored pixel it would become a large number."""
    values = np.array([[[0.1, bad]]], np.float32)
    cube = xr.Dataset({"ndvi": (("time", "y", "x"), values)}, {"time": np.array(["2020-10-05"], "datetime64[ns]")})
    with pytest.raises(UsageError, match=r"Expected surface reflectance from 0 to 6\.5535"):
        composite(cube.chunk(chunks) if chunks else cube).compute()


def test_a_very_dark_pixel_is_still_one() -> None:
    values = np.array([[[0.0, 0.00001, np.nan]]], np.float32)
    cube = xr.Dataset({"red": (("time", "y", "x"), values)}, {"time": np.array(["2020-10-05"], "datetime64[ns]")})
    month = composite(cube)
    np.testing.assert_array_equal(month.red.to_numpy(), np.array([[[1e-4, 1e-4, np.nan]]], np.float32))
    assert month["count"].to_numpy().tolist() == [[[1, 1, 0]]]


# Faults.


def test_an_area_or_a_grid_is_needed(items: ItemSet) -> None:
    with pytest.raises(GridError, match="Neither a geobox nor an area"):
        load(items, BANDS)


def test_a_turned_grid_is_refused(items: ItemSet) -> None:
    turned = GeoBox(
        (10, 10), Affine.translation(560000, 5280000) @ Affine.rotation(20) @ Affine.scale(100, -100), 32610
    )
    with pytest.raises(GridError, match="rotated or sheared"):
        load(items, BANDS, geobox=turned)


def test_a_grid_without_a_place_is_refused(items: ItemSet) -> None:
    with pytest.raises(GridError, match="no CRS"):
        load(items, BANDS, geobox=GeoBox((10, 10), Affine.scale(100, -100), None))


def test_one_band_by_its_name(items: ItemSet, place: Doors) -> None:
    assert list(load(items, "nir", aoi=place.box, cloud_mask="none")) == ["nir"]
    assert list(load(items, iter(["nir", "red"]), aoi=place.box, cloud_mask="none")) == ["nir", "red"]


@pytest.mark.parametrize("bands", [[], ["red", "nir", "red"]], ids=["none", "twice"])
def test_no_band_and_one_band_twice(items: ItemSet, place: Doors, bands: list[str]) -> None:
    with pytest.raises(BandError, match="at least one band, and each once"):
        load(items, bands, aoi=place.box)


def test_an_unknown_mask_is_not_silently_none(items: ItemSet, place: Doors) -> None:
    with pytest.raises(UsageError, match="cloud_mask must be 'scl' or 'none', got 'SCL'"):
        load(items, ["red"], aoi=place.box, cloud_mask="SCL")


def test_a_band_that_nobody_has(items: ItemSet, place: Doors) -> None:
    with pytest.raises(BandError, match=r"No item has reflectance in a band 'purple'\. Expected .*red"):
        load(items, ["purple"], aoi=place.box)


def test_a_composite_that_nobody_knows(items: ItemSet, place: Doors) -> None:
    cube = load(items, ["red"], aoi=place.box)
    with pytest.raises(UsageError, match=r"method must be one of median, mean, .*got 'maximum'"):
        composite(cube, method="maximum")
    with pytest.raises(DateError, match=r"period must be one of monthly, weekly.*got 'hourly'"):
        composite(cube, period="hourly")


def test_a_mask_that_is_not_there(items: ItemSet, place: Doors) -> None:
    with pytest.raises(UsageError, match="no cloud_mask"):
        mask_clouds(load(items, ["red"], aoi=place.box, cloud_mask="none"))


def test_a_grid_elsewhere(items: ItemSet) -> None:
    with pytest.raises(NothingFoundError, match="No item touches the grid"):
        load(items, ["red"], aoi="12.1,41.8,12.2,41.9")


def test_a_collection_that_nobody_knows(items: ItemSet, place: Doors) -> None:
    strange = ItemSet(items.features, items.stac, "my-photographs", items.signing)
    with pytest.raises(CollectionError, match="my-photographs"):
        load(strange, ["red"], aoi=place.box)


def test_local_files_of_a_catalogue_are_not_read(items: ItemSet, place: Doors) -> None:
    feature = {**items.features[0], "assets": {k: dict(v) for k, v in items.features[0]["assets"].items()}}
    feature["assets"]["B04"]["href"] = "/etc/passwd"
    with pytest.raises(HrefError):
        load(ItemSet((feature,), items.stac, items.collection, items.signing), ["red"], aoi=place.box)


def test_an_asset_that_fails_is_named_when_computed(place: Doors, items: ItemSet) -> None:
    # of a band that no other test reads: GDAL remembers what it has read
    place.server.faults = {items.features[-1]["assets"]["B02"]["href"].rsplit("/files/")[1]: "404"}
    try:
        cube = load(items, ["blue"], aoi=place.box, resolution=400)
        with pytest.raises(AssetError, match="404") as caught:
            cube.compute()
    finally:
        place.server.faults = {}
    assert caught.value.item_id == items.features[-1]["id"]
    assert caught.value.asset == "B02"
    assert isinstance(caught.value, EoapError)


def test_the_names_of_the_package_are_functions() -> None:
    code = "import eoap_dask; eoap_dask.cloudless_mosaic; assert all(callable(getattr(eoap_dask, n)) for n in NAMES)"
    names = ("cloudless_mosaic", "composite", "load", "mask_clouds", "parse_aoi", "search")
    subprocess.run([sys.executable, "-c", code.replace("NAMES", repr(names))], check=True, capture_output=True)


# A pass over midnight belongs to one month, also where catalogues date its scenes one by one.


@pytest.mark.cluster
def test_a_pass_over_the_end_of_a_month_counts_once(place: Doors, items: ItemSet) -> None:
    west = next(i for i in items.features if "_T10TET_" in i["id"])
    taken = west["properties"]["s2:datatake_id"]
    both = [i for i in items.features if i["properties"]["s2:datatake_id"] == taken]
    assert len(both) == 2
    moments = (datetime(2020, 10, 31, 23, 59, 58, tzinfo=UTC), datetime(2020, 11, 1, 0, 0, 3, tzinfo=UTC))
    dated = tuple(
        {**item, "properties": {**item["properties"], "datetime": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}}
        for item, moment in zip(both, moments, strict=True)
    )
    few = ItemSet(dated, items.stac, items.collection, items.signing)
    file = few.save(place.root / "midnight.json")
    run = place.mosaic(items=str(file), resolution=100.0)
    assert [i["id"] for i in run.items] == ["monthly-mosaic-2020-10"]
    assert_same(run, composite(mask_clouds(load(few, BANDS, aoi=place.box, resolution=100, raw=True))))


# Examples.


def test_the_examples_run(place: Doors) -> None:
    from eoap_dask.lazy import cube as lazy

    names = {**vars(lazy), "composite": composite, "aoi": place.box, "stac": place.server.url}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(lazy, "lazy", globs=names):
        runner.run(test)
    assert runner.summarize().attempted >= 6
    assert runner.summarize().failed == 0
