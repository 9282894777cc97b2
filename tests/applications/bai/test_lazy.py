"""Burned area through the lazy door: nothing computes too early, and the pixels are those of the application."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from distributed import Client
from odc.geo.geom import Geometry

from eoap_dask import Run, burned_area, burned_area_map
from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.errors import GridError, HrefError, NothingFoundError, UsageError
from eoap_dask.items.find import item_from_url
from eoap_dask.items.itemset import ItemSet
from eoap_dask.kernels.severity import KEY_BENSON
from eoap_dask.run.options import RunOptions

VARIABLES = ("bai_pre", "bai_post", "dbai", "nbr_pre", "nbr_post", "dnbr", "rdnbr", "rbr", "severity")
STEPS = {"nbr_pre": 10_000, "nbr_post": 10_000, "dnbr": 10_000, "rbr": 10_000, "rdnbr": 500}
"""Per unit, as the application says that it stores them."""


@dataclass
class Place:
    """A served fire, a cluster, and the maps that were made of it so far."""

    fire: Any
    client: Client
    root: Path
    made: dict[str, Run] = field(default_factory=dict)

    @property
    def ring(self) -> dict[str, Any]:
        """An area that is no box, with a hole, over the fire."""
        west, south, east, north = self.fire.archive.fire_pair()[0]["bbox"]
        width, height = east - west, north - south
        outer = [(0.05, 0.1), (0.9, 0.05), (0.8, 0.8), (0.4, 0.95), (0.05, 0.1)]
        hole = [(0.45, 0.45), (0.5, 0.6), (0.6, 0.5), (0.45, 0.45)]
        return {
            "type": "Polygon",
            "coordinates": [[[west + width * x, south + height * y] for x, y in line] for line in (outer, hole)],
        }

    def map(self, **params: Any) -> Run:
        """Make it as the application does, once."""
        key = repr(sorted(params.items()))
        if key not in self.made:
            before, after = self.fire.urls
            self.made[key] = burned_area_map(
                BurnedAreaParams(pre_fire_url=before, post_fire_url=after, **params),
                RunOptions(output_dir=self.root / f"map-{len(self.made)}", block=512),
                client=self.client,
            )
        return self.made[key]

    def lazy(self, **params: Any) -> xr.Dataset:
        return burned_area(*self.fire.urls, **params)


@pytest.fixture(scope="module")
def place(fire: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with local_client(Size(1, 2, 2 << 30)) as client, client.as_current():
        yield Place(fire, client, tmp_path_factory.mktemp("burned-area"))


def stored(run: Run) -> dict[str, np.ndarray]:
    """The pixels of all bands of a map, by their names."""
    (item,) = run.items
    found = {}
    for image in ("bai", "nbr", "dnbr", "rdnbr", "rbr", "severity"):
        with rasterio.open(run.output / item["id"] / item["assets"][image]["href"]) as dataset:
            found |= dict(zip(dataset.descriptions, dataset.read(), strict=True))
    assert set(found) == set(VARIABLES)
    return found


def as_stored(name: str, values: np.ndarray) -> np.ndarray:
    """Round as the files say, without any of our kernels: whole steps, or twelve bits of a mantissa."""
    if name == "severity":
        return values
    if name in STEPS:
        steps = np.clip(np.rint(values * np.float32(STEPS[name])), -32767, 32767)
        return np.where(np.isnan(steps), -32768, steps).astype(np.int16)
    mantissa, exponent = np.frexp(values.astype(np.float64))  # 0.5 to 1, so that 13 bits are 1 and 12 behind it
    bits = np.copysign(np.floor(np.abs(mantissa) * 2**13 + 0.5), mantissa)
    return np.ldexp(bits / 2**13, exponent).astype(np.float32)


def assert_same(run: Run, fire: xr.Dataset) -> None:
    """The files hold what the dataset computes to, rounded, on the same grid."""
    (item,) = run.items
    computed = fire.compute()
    with rasterio.open(run.output / item["id"] / "severity.tif") as dataset:
        assert fire.odc.geobox.transform == dataset.transform
        assert fire.odc.geobox.shape == dataset.shape
        assert fire.rio.crs == dataset.crs
    for name, expected in stored(run).items():
        np.testing.assert_array_equal(as_stored(name, computed[name].to_numpy()), expected, err_msg=name)
    assert {4, 5, 6, 7} <= set(np.unique(computed.severity))
    assert (computed.severity == 0).any()


# The two doors. At 10 m the nearest class decides; at 60 m the data come from an overview, and the share of classes
# decides.


@pytest.mark.cluster
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"aoi": "ring"},
        {"aoi": "ring", "clip": False},
        {"aoi": "ring", "crs": "EPSG:32611"},
        {"aoi": "ring", "crs": "EPSG:32611", "resolution": 60.0},
        {"aoi": "ring", "resolution": 60.0},
        {"resolution": 60.0},
        {"resolution": 20.0, "thresholds": (-0.3, -0.1, 0.08, 0.2, 0.4, 0.6)},
    ],
    ids=str,
)
def test_the_doors_agree(place: Place, params: dict[str, Any]) -> None:
    params = {**params, **({"aoi": place.ring} if "aoi" in params else {})}
    assert_same(place.map(**params), place.lazy(**params))


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.parametrize("chunks", [{"y": 100, "x": 333}, {"y": -1, "x": 64}], ids=str)
def test_chunks_change_nothing(place: Place, chunks: dict[str, int]) -> None:
    fire = place.lazy(aoi=place.ring, chunks=chunks)
    assert fire.severity.data.npartitions > 4
    assert_same(place.map(aoi=place.ring), fire)


@pytest.mark.long
def test_what_lies_in_the_hole_or_outside_is_nothing(place: Place) -> None:
    """By the centre of each pixel, with shapely."""
    fire = place.lazy(aoi=place.ring).severity.compute()
    grid = fire.odc.geobox
    shape = Geometry(place.ring, "EPSG:4326").to_crs(grid.crs, resolution=0.0005).geom
    inside = shapely.contains_xy(shape, *np.meshgrid(fire.x, fire.y))
    known = shapely.distance(shape.boundary, shapely.points(*np.meshgrid(fire.x, fire.y))) > 0.1
    assert not ((fire.to_numpy() != 0) & ~inside & known).any()
    # and inside of it nothing is lost: as much is seen there as without an area
    whole = place.lazy().severity.compute().sel(x=fire.x, y=fire.y, method="nearest", tolerance=0.1).to_numpy()
    np.testing.assert_array_equal(fire.to_numpy()[inside & known], whole[inside & known])


# Laziness.


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("something was computed while a graph was built")


def test_nothing_computes_while_it_is_built(place: Place) -> None:
    with dask.config.set(scheduler=refuse):
        fire = place.lazy(aoi=place.ring, chunks={"y": 128, "x": 128})
        burned = (fire.severity >= 4).sum() * 0.01
        for name in VARIABLES:
            assert fire[name].dims == ("y", "x")
            assert fire[name].chunks is not None
            assert fire[name].dtype == (np.uint8 if name == "severity" else np.float32)
            assert fire[name].rio.transform() == fire.odc.geobox.transform
            np.testing.assert_equal(float(fire[name].rio.nodata), 0 if name == "severity" else np.nan)
        assert fire.dbai.attrs == {"long_name": "differenced burned area index", "units": "1"}
        assert burned.chunks is not None
        with pytest.raises(AssertionError, match="something was computed"):
            burned.compute()


def test_the_graph_stays_small(place: Place) -> None:
    """Two reads per chunk, and a bounded number of steps: what Dask runs once it has fused them is far less."""
    sizes = {}
    for side in (384, 192):
        fire = place.lazy(chunks={"y": side, "x": side})
        chunks = fire.severity.data.npartitions
        sizes[chunks] = len(dict(fire.__dask_graph__()))
        reads = [key for key in fire.__dask_graph__() if str(key[0] if isinstance(key, tuple) else key)[:5] == "load-"]
        assert len(reads) == 2 * chunks
        (optimised,) = dask.optimize(fire)
        assert len(dict(optimised.__dask_graph__())) <= 40 * chunks + 20
    few, many = sorted(sizes)
    assert (few, many) == (4, 16)
    assert (sizes[many] - sizes[few]) / (many - few) <= 80


# What it takes.


def test_items_do_as_well_as_their_urls(place: Place) -> None:
    one, other = (item_from_url(url) for url in place.fire.urls)
    area = {"aoi": place.ring, "resolution": 60.0}
    xr.testing.assert_identical(burned_area(one, other, **area).compute(), place.lazy(**area).compute())


def test_a_file_of_an_item_and_where_it_may_lead(place: Place, tmp_path: Path) -> None:
    before, after = place.fire.urls
    file = item_from_url(before).save(tmp_path / "before.json")
    assert ItemSet.load(file).from_file
    with pytest.raises(HrefError, match=r"127\.0\.0\.1"):
        burned_area(file, after)


def test_what_cannot_be_compared_is_refused_before_anything_is_read(place: Place) -> None:
    before, after = place.fire.urls
    place.fire.server.stats.reset()
    for pair, says in (((after, before), "isn't older"), ((before, before), "Expected two scenes")):
        with pytest.raises(UsageError, match=says):
            burned_area(*pair)
    with pytest.raises(UsageError, match="six finite, rising"):
        burned_area(before, after, thresholds=KEY_BENSON[::-1])
    for crs, resolution in (("EPSG:4326", 0.001), ("EPSG:3857", 60.0)):
        with pytest.raises(GridError, match="in which they are right within 1 %"):
            burned_area(before, after, place.ring, crs=crs, resolution=resolution)
    nothing = replace(item_from_url(before), features=())
    with pytest.raises(NothingFoundError, match="no item of the scene before the fire"):
        burned_area(nothing, after)
    with pytest.raises(NothingFoundError, match="no item of the scene after the fire"):
        burned_area(before, nothing)
    assert not place.fire.server.stats.ranges


def test_several_passes_are_not_one_scene(place: Place) -> None:
    before, after = (item_from_url(url) for url in place.fire.urls)
    with pytest.raises(UsageError, match=r"2 passes of the satellite where one was expected"):
        burned_area(before.merged(after), after, aoi=place.ring)


def test_the_examples_run(place: Place) -> None:
    from eoap_dask.applications.bai import lazy as fires

    before, after = place.fire.urls
    names = {**vars(fires), "pre": before, "post": after, "aoi": place.ring}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(fires, "fires", globs=names):
        runner.run(test)
    assert runner.summarize().attempted >= 5
    assert runner.summarize().failed == 0
