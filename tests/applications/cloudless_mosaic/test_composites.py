"""Every composite by the application, on land whose passes differ: as by the lazy functions, and as worked out here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from distributed import Client
from tests.support.command_line import Shell

import eoap_dask as eo
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.changes import ChangesArchive, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.kernels.composites import COMPOSITES, ITERATIONS, TOLERANCE
from eoap_dask.periods import PERIODS

pytestmark = pytest.mark.cluster

Array = np.ndarray[Any, Any]
BANDS = ("green", "red", "nir", "swir16")
PICKED = ("medoid", "max-ndvi", "latest", "clearest-1")
OTHERS = ("mean", "percentile:25", "geomedian", "clearest-2")


@dataclass
class Place:
    """Land with four passes in each of two Augusts, served."""

    land: ChangesArchive
    url: str
    client: Client
    root: Path
    made: dict[str, eo.Run] = field(default_factory=dict)

    @property
    def aoi(self) -> str:
        """A part of the land that doesn't lie on its grid."""
        west, south, east, north = self.land.items[0]["bbox"]
        return f"{west + (east - west) / 5},{south + (north - south) / 4},{east - (east - west) / 6},{north - 0.001}"

    def mosaic(self, **params: Any) -> eo.Run:
        """Return a mosaic; each is made once."""
        key = repr(sorted(params.items()))
        if key not in self.made:
            place = {"stac": self.url, "aoi": self.aoi, "bands": BANDS, "resolution": 10.0, "max_cloud_cover": 100.0}
            dates = {"start_date": "2022-08-01", "end_date": "2023-08-31", "collection": self.land.collection}
            how = {"output_dir": self.root / f"mosaic-{len(self.made)}", "client": self.client, "block": 512}
            self.made[key] = eo.cloudless_mosaic(**{**place, **dates, **how, **params})
        return self.made[key]

    def cube(self, **how: Any) -> xr.Dataset:
        """Return what the clear passes show, lazily."""
        items = eo.search(self.aoi, "2022-08-01", "2023-08-31", stac=self.url, collection=self.land.collection)
        return eo.mask_clouds(eo.load(items, BANDS, aoi=self.aoi, resolution=10, **how))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("composites")
    land = make_changes(root / "land", rows=1, cols=2, cell_px=96, passes=4, clouds=0.4, years=(2022, 2023))
    with ServerProcess(land.root) as server, local_client(Size(1, 2, 2 << 30)) as client, client.as_current():
        yield Place(land, server.url, client, root)


@pytest.fixture(scope="module")
def seen(place: Place) -> xr.Dataset:
    """All clear observations, raw, in memory."""
    return place.cube(raw=True).compute()


def pixels(run: eo.Run, asset: str) -> Array:
    """(unit, band, y, x) of an asset."""
    layers = []
    for item in run.items:
        with rasterio.open(run.output / item["id"] / item["assets"][asset]["href"]) as dataset:
            layers.append(dataset.read())
    return np.stack(layers)


def stacked(found: xr.Dataset) -> Array:
    return found[list(BANDS)].to_dataarray("band").transpose("time", "band", "y", "x").to_numpy()


@pytest.mark.parametrize("method", [*PICKED, *OTHERS])
def test_both_doors_give_the_same(place: Place, method: str) -> None:
    has_days = method in PICKED
    run = place.mosaic(composite=method, date_band=has_days)
    lazy = eo.composite(place.cube(raw=True, chunks={"time": 3, "y": 50, "x": 71}), method, date_band=has_days)
    assert lazy.nir.chunks
    found = lazy.compute()
    data = pixels(run, "data")
    np.testing.assert_array_equal(stacked(found), data)
    np.testing.assert_array_equal(found["count"].to_numpy(), pixels(run, "count")[:, 0])
    assert (data != pixels(place.mosaic(), "data")).any()
    if has_days:
        np.testing.assert_array_equal(found.date.to_numpy(), pixels(run, "date")[:, 0])
    floats = eo.composite(place.cube(), method)
    np.testing.assert_array_equal(np.nan_to_num(np.rint(stacked(floats) * 10000)), data)


@pytest.mark.parametrize("method", PICKED)
def test_a_pixel_is_what_was_seen_on_its_day(place: Place, seen: xr.Dataset, method: str) -> None:
    run = place.mosaic(composite=method, date_band=True)
    data, days = pixels(run, "data"), pixels(run, "date")[:, 0]
    np.testing.assert_array_equal(days == 0, data[:, 0] == 0)
    steps = {int(t.astype("datetime64[D]").astype(int)): number for number, t in enumerate(seen.time.to_numpy())}
    assert set(np.unique(days)) - {0} <= set(steps)
    assert len(np.unique(days)) > 2
    for day, number in steps.items():
        for unit in range(len(days)):
            here = days[unit] == day
            for index, band in enumerate(BANDS):
                np.testing.assert_array_equal(data[unit, index][here], seen[band].to_numpy()[number][here])
    with rasterio.open(run.output / run.items[0]["id"] / "date.tif") as dataset:
        assert (dataset.nodata, dataset.dtypes) == (0, ("uint16",))


def test_days_are_right_where_a_scene_is_left_out(place: Place, tmp_path: Path) -> None:
    root = tmp_path / "land"
    shutil.copytree(place.land.root, root)
    first = min(place.land.items, key=lambda one: str(one["properties"]["datetime"]))
    for asset in first["assets"].values():
        path = root / asset["href"]
        if path.suffix == ".tif":
            path.write_bytes(path.read_bytes()[:1000])
    with ServerProcess(root) as server:
        there = Place(place.land, server.url, place.client, tmp_path)
        how = {"composite": "latest", "date_band": True, "max_bad_scenes": 1, "retries": 0}
        run = there.mosaic(end_date="2022-08-31", **how)
    whole = place.mosaic(composite="latest", date_band=True)
    data, days = pixels(run, "data")[0], pixels(run, "date")[0, 0]
    left_out = date.fromisoformat(str(first["properties"]["datetime"])[:10]).toordinal() - date(1970, 1, 1).toordinal()
    all_days = pixels(whole, "date")[0, 0]
    assert (all_days == left_out).any()
    kept = (all_days != left_out) & (all_days > 0)
    np.testing.assert_array_equal(days[kept], all_days[kept])
    np.testing.assert_array_equal(data[:, kept], pixels(whole, "data")[0][:, kept])
    assert not (days == left_out).any()


def test_the_order_of_time_steps_changes_nothing(place: Place, seen: xr.Dataset) -> None:
    turned = seen.isel(time=[3, 1, 0, 2, 7, 6, 5, 4])
    for method in ("latest", "medoid", "geomedian", "max-ndvi"):
        one, other = (eo.composite(cube, method) for cube in (seen, turned))
        np.testing.assert_array_equal(stacked(one), stacked(other))


def test_a_block_of_a_lazy_composite_needs_its_own_chunks_alone(place: Place) -> None:
    cube = place.cube(raw=True, chunks={"y": 40, "x": 40})
    for method in ("median", "medoid", "geomedian"):
        corner = eo.composite(cube, method).nir.isel(time=0, y=slice(0, 5), x=slice(0, 5))
        (graph,) = dask.optimize(corner.data)
        assert sum("load-" in str(key) for key in dict(graph.__dask_graph__())) <= 2, method


def test_they_are_what_they_say(place: Place, seen: xr.Dataset) -> None:
    """By numpy from all clear observations of the first August."""
    cube = seen[list(BANDS)].to_dataarray("band").to_numpy()[:, :4].astype(float)  # (band, time, y, x)
    there = (cube > 0).all(axis=0)
    some = there.any(axis=0)
    assert 0 < (~there).mean() < 0.9
    cube[:, ~there] = np.nan
    first = {method: pixels(place.mosaic(composite=method), "data")[0] for method in ("mean", "percentile:25")}
    with np.errstate(all="ignore"):
        means = np.floor(np.nanmean(np.where(some, cube, 0), axis=1) + 0.5)
    np.testing.assert_array_equal(first["mean"], np.where(some, means, 0))
    ranked = np.sort(cube, axis=1)  # NaN last
    rank = np.maximum(np.ceil(there.sum(axis=0) / 4).astype(int) - 1, 0)
    quarter = np.take_along_axis(ranked, np.broadcast_to(rank, (len(BANDS), 1, *rank.shape)), axis=1)[:, 0]
    np.testing.assert_array_equal(first["percentile:25"], np.nan_to_num(quarter))
    # the clearest are ranked over the whole unit
    clear = there.sum(axis=(1, 2))
    assert len(set(clear.tolist())) == 4
    best = int(clear.argmax())
    np.testing.assert_array_equal(
        pixels(place.mosaic(composite="clearest-1", date_band=True), "data")[0], np.nan_to_num(cube[:, best])
    )
    greenest = pixels(place.mosaic(composite="max-ndvi", date_band=True), "data")[0]
    red, nir = cube[1], cube[2]
    ndvi = np.where(there, (nir - red) / (nir + red), -9)
    picked = np.take_along_axis(cube, np.broadcast_to(ndvi.argmax(axis=0), (len(BANDS), 1, *some.shape)), axis=1)[:, 0]
    np.testing.assert_array_equal(greenest, np.nan_to_num(np.where(some, picked, 0)))


def test_a_band_that_only_the_choice_needs_is_not_written(place: Place) -> None:
    run = place.mosaic(bands=("green",), composite="max-ndvi")
    whole = place.mosaic(bands=("green", "red", "nir"), composite="max-ndvi")
    assert pixels(run, "data").shape[1] == 1
    np.testing.assert_array_equal(pixels(run, "data")[:, 0], pixels(whole, "data")[:, 0])


@pytest.mark.parametrize("method", ["median", "medoid"])
def test_indices_are_those_of_the_composite(place: Place, method: str) -> None:
    wet = "(green-swir16)/(green+swir16)"
    run = place.mosaic(composite=method, index=("ndvi", f"wet={wet}", "nir*0-1"))
    month = eo.composite(place.cube(), method)
    for number in range(2):
        one = month.isel(time=number)
        for name, expected in (
            ("ndvi", eo.ndvi(one.nir, one.red)),
            ("wet", (one.green - one.swir16) / (one.green + one.swir16)),
            ("index_3", one.nir * 0 - 1),
        ):
            np.testing.assert_array_equal(pixels(run, name)[number, 0], expected.to_numpy())
    np.testing.assert_array_equal(pixels(run, "data"), pixels(place.mosaic(composite=method), "data"))
    item = run.items[0]
    assert item["assets"]["ndvi"]["title"].startswith("NDVI of the composite (Tucker 1979")
    assert "ndvi = (nir - red) / (nir + red)" in item["properties"]["processing:lineage"]
    with rasterio.open(run.output / item["id"] / "wet.tif") as dataset:
        assert dataset.dtypes == ("float32",)
        assert np.isnan(dataset.nodata)


def test_bands_that_only_indices_need_are_not_written(place: Place) -> None:
    run = place.mosaic(bands=("green",), index=("ndvi", "swir16/green"))
    whole = place.mosaic(index=("ndvi",))
    assert pixels(run, "data").shape[1] == 1
    np.testing.assert_array_equal(pixels(run, "ndvi"), pixels(whole, "ndvi"))


def test_a_band_that_is_nowhere_is_named(place: Place, shell: Shell) -> None:
    place_of = ("--stac", place.url, "--aoi", place.aoi, "--start-date", "2022-08-01", "--end-date", "2022-08-31")
    done = shell.run("cloudless-mosaic", *place_of, "--max-cloud-cover", 100, "--index", "nir/ultraviolet")
    assert done.returncode == 2, done.stderr
    assert "ultraviolet" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--index", "greenness"), "There is no index 'greenness'. Expected ndvi"),
        (("--index", "nir/"), "is no expression of bands"),
        (("--index", "__import__('os')"), "is no expression of bands"),
        (("--index", "Data=nir/red"), "names a layer 'Data'"),
        (("--index", "data=nir/red"), "makes two layers called data"),
        (("--index", "thumbnail=nir/red"), "makes two layers called thumbnail"),
        (("--index", "monthly-mosaic-2020-10=nir/red"), "names a layer 'monthly-mosaic-2020-10'"),
        (("--index", "ndvi", "--index", "ndvi"), "makes two layers called ndvi"),
        (("--mask-classes", "3,x"), "--mask-classes must be codes of scene classes from 0 to 255"),
        (("--mask-classes", "256"), "codes of scene classes"),
        (("--mask-classes", "3", "--cloud-mask", "none"), "can't be combined with --cloud-mask none"),
        (("--composite", "percentile:101"), "--composite must be one of median, mean"),
        (("--composite", "clearest-0"), "the clearest passes one or more"),
        (("--composite", "mode"), "got 'mode'"),
        (("--date-band",), "needs a composite that picks observations"),
        (("--period", "0d"), "or a number of days such as 10d, got '0d'"),
        (("--period", "daily"), "--period must be one of monthly, weekly"),
    ],
)
def test_what_is_not_there_is_refused(shell: Shell, options: tuple[str, ...], sentence: str) -> None:
    done = shell.run("cloudless-mosaic", "--stac", "http://127.0.0.1:9", *options)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr


def test_other_classes_are_dropped(place: Place) -> None:
    """Clouds alone, by both doors; what the default drops beside them is then seen."""
    run = place.mosaic(mask_classes="10, 9,8")
    assert place.mosaic(mask_classes=[8, 9, 10]).items[0]["properties"]["eoap:dropped_classes"] == [8, 9, 10]
    found = eo.composite(place.cube(raw=True, mask_classes=[8, 9, 10]))
    np.testing.assert_array_equal(stacked(found), pixels(run, "data"))
    usual = pixels(place.mosaic(), "count")
    assert (pixels(run, "count") >= usual).all()
    assert (pixels(run, "count") > usual).any()
    assert "without the classes 8, 9, 10 of the scene" in run.items[0]["properties"]["processing:lineage"]
    # the usual classes by their codes are the usual mask
    usual_codes = place.mosaic().items[0]["properties"]["eoap:dropped_classes"]
    np.testing.assert_array_equal(pixels(place.mosaic(mask_classes=usual_codes), "count"), usual)


def test_a_product_of_months_takes_no_weeks(place: Place, shell: Shell) -> None:
    arguments = ("cloudless-mosaic", "--stac", place.url, "--aoi", place.aoi, "--resolution", 40, "--bands", "red")
    dates = ("--start-date", "2022-08-01", "--end-date", "2022-08-31", "--max-cloud-cover", 100)
    assert shell.run(*arguments, *dates).returncode == 0
    done = shell.run(*arguments, *dates, "--period", "weekly")
    assert done.returncode == 2, done.stderr
    assert re.search(r"never replaced unasked.* without monthly-mosaic-2022-08\.", done.stderr)
    done = shell.run(*arguments, *dates, "--period", "weekly", "--output-dir", "weeks")
    assert done.returncode == 0, done.stderr
    ids = sorted(path.name for path in (shell.cwd / "weeks").iterdir() if path.is_dir())
    days = {one["properties"]["datetime"][:10] for one in place.land.items}
    weeks = {date.fromisoformat(day).isocalendar().week for day in days if day.startswith("2022")}
    assert ids == [f"weekly-mosaic-2022-w{week}" for week in sorted(weeks)]
    item = json.loads((shell.cwd / "weeks" / ids[0] / f"{ids[0]}.json").read_text())
    assert (
        item["properties"]["title"] == "Cloud-free mosaic, week 31 of 2022"  # all of it: August begins on a Monday
    )  # not cut: it begins on a Monday


def test_the_page_tells_all_of_them_and_its_code_runs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "composites.md").read_text()
    for name in (*COMPOSITES, *PERIODS):
        assert f"| `{name}` |" in page
    assert f"more than {TOLERANCE} stored units" in page
    assert f"at most {ITERATIONS} of them" in page
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for there, here in (("2020-10-01", "2022-08-01"), ("2020-12-31", "2023-08-31"), ("resolution=60", "resolution=20")):
        code = code.replace(there, here)
    exec(compile(code, "composites.md", "exec"), {"aoi": place.aoi, "stac": place.url})  # noqa: S102 - our own page
    *groups, last = capsys.readouterr().out.splitlines()
    assert sum(int(line.split()[-1]) for line in groups) == 8
    assert groups[0].startswith("2022-08-01 to 2022-08-10")
    assert last == "2 True"
