"""``bai`` as a user runs it, on a fire that is known: what is found, and what isn't."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from scipy import ndimage
from tests.support.command_line import Done, Shell, make_shell, read_json

UNIT = "bai-20210713-20210812"
HIDDEN = (0, 1, 3, 6, 8, 9, 10, 11)
"""Scene classes that show no ground that could burn: none, saturated, shadow, water, clouds, cirrus, snow."""

FILES = {
    *("bai.tif", "nbr.tif", "dnbr.tif", "rdnbr.tif", "rbr.tif", "severity.tif", "visual-pre.tif", "visual-post.tif"),
    *("areas.csv", "perimeters.parquet", "perimeters.geojson", "picture.png", "thumbnail.png", f"{UNIT}.json"),
    "severity.qml",
}

Image = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Product:
    """What a run of ``bai`` left, and the truth about it."""

    shell: Shell
    done: Done
    archive: Any

    @property
    def folder(self) -> Path:
        return self.shell.cwd / "burned-area" / UNIT

    @cached_property
    def item(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.folder / f"{UNIT}.json")
        return found

    def read(self, name: str) -> Image:
        with rasterio.open(self.folder / f"{name}.tif") as dataset:
            found: Image = dataset.read()
        return found

    def source(self, item: dict[str, Any], asset: str) -> Image:
        with rasterio.open(self.archive.root / item["assets"][asset]["href"]) as dataset:
            found: Image = dataset.read(1)
        return found if found.shape == (768, 768) else found.repeat(2, 0).repeat(2, 1)

    @cached_property
    def seen(self) -> Image:
        """Where the scene classification of both scenes shows ground."""
        one, other = (~np.isin(self.source(item, "SCL"), HIDDEN) for item in self.archive.fire_pair())
        return np.asarray(one & other)

    @cached_property
    def truth(self) -> Image:
        """The severity with which the ground burned, 4 to 7; 0 where it didn't."""
        tile = self.archive.tiles[0]
        found: Image = self.archive.burn_truth("2021-08", tile.epsg, tile.transform, (768, 768))
        return found


@pytest.fixture(scope="module")
def found(fire: Any, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """Two URLs and nothing else, one option as it is spelt here and one as its users have spelt it."""
    shell = make_shell(tmp_path_factory.mktemp("bai"))
    before, after = fire.urls
    return Product(shell, shell.run("bai", "--pre-fire-url", before, "--post_fire_url", after), fire.archive)


def test_the_command_works_and_leaves_only_its_output(found: Product) -> None:
    assert found.done.returncode == 0, found.done.stderr
    assert found.done.stdout == f"{found.shell.cwd / 'burned-area' / 'catalog.json'}\n"
    assert {path.name for path in found.folder.iterdir()} == FILES
    assert {path.name for path in (found.shell.cwd / "burned-area").iterdir()} == {
        *("catalog.json", "collection.json", "items.json", "run.json", "failures.json", "run.log", "events.jsonl"),
        UNIT,
    }
    assert "Warning" not in found.done.stderr
    found.shell.assert_tidy()


def test_no_catalogue_is_named_that_was_not_asked(found: Product) -> None:
    account = read_json(found.shell.cwd / "burned-area" / "run.json")
    assert account["params"]["stac"] is None
    assert account["params"]["pre_fire_url"] == account["search"]["stac"]


def test_the_grid_is_what_both_scenes_show(found: Product) -> None:
    tile = found.archive.tiles[0]
    for name in ("severity", "bai", "visual-pre"):
        with rasterio.open(found.folder / f"{name}.tif") as dataset:
            assert (dataset.crs.to_epsg(), dataset.transform) == (tile.epsg, tile.transform)
            assert dataset.shape == (768, 768)


@pytest.mark.long
def test_items_on_this_machine_with_files_beside_them(found: Product, tmp_path: Path) -> None:
    shell = make_shell(tmp_path)
    for name, item in zip(("before", "after"), found.archive.fire_pair(), strict=True):
        local = {**item, "links": [], "assets": {}}
        for key in ("B04", "B08", "B12", "SCL"):
            file = shell.cwd / "scenes" / name / f"{key}.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.archive.root / item["assets"][key]["href"], file)
            # relative, and as a whole path
            href = str(file) if key == "SCL" else f"{name}/{key}.tif"
            local["assets"][key] = {**item["assets"][key], "href": href}
        (shell.cwd / "scenes" / f"{name}.json").write_text(json.dumps(local))
    pair = ("--pre-fire-url", "scenes/before.json", "--post-fire-url", "scenes/after.json")
    done = shell.run("bai", *pair)
    assert done.returncode == 0, done.stderr
    for name in ("severity", "dnbr", "bai"):
        with rasterio.open(shell.cwd / "burned-area" / UNIT / f"{name}.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(), found.read(name))
    # out of the directory of its item file nothing is read, whatever way a path takes
    outside = shell.cwd / "B04.tif"
    (shell.cwd / "scenes" / "before" / "B04.tif").rename(outside)
    (shell.cwd / "scenes" / "before" / "B04.tif").symlink_to(outside)
    done = shell.run("bai", *pair, "--output-dir", "other")
    assert done.returncode == 3
    assert "only within its own directory" in done.stderr


# ----------------------------------------------------------------------------------------------------
# The fire


def test_the_area_is_true_within_2_percent(found: Product) -> None:
    burned = found.read("severity")[0] >= 4
    true = (found.truth > 0) & found.seen
    assert true.sum() * 0.01 > 150  # hectares
    assert burned.sum() == pytest.approx(true.sum(), rel=0.02)
    # and it is the same ground, not only as much of it: at the edge a pixel of 20 m may show another field
    assert (burned & true).sum() > 0.97 * true.sum()
    # in this pair no cloud is over the fire, so that all of it is found
    assert burned.sum() * 0.01 == pytest.approx(found.archive.burned_ha("2021-08"), rel=0.02)


def test_just_what_both_scenes_see_has_a_class(found: Product) -> None:
    """Water, clouds, shadows and all else by the scene classification, read by rasterio and repeated."""
    for item in found.archive.fire_pair():
        classes = found.source(item, "SCL")
        assert {6, 8, 9} <= set(np.unique(classes))
    severity = found.read("severity")[0]
    np.testing.assert_array_equal(severity != 0, found.seen)
    for name, nodata in (("dnbr", -32768), ("rbr", -32768), ("nbr", -32768)):
        for band in found.read(name):
            np.testing.assert_array_equal(band != nodata, found.seen)
    for band in found.read("bai"):
        np.testing.assert_array_equal(~np.isnan(band), found.seen)


def test_the_classes_are_true(found: Product) -> None:
    severity, truth = found.read("severity")[0], np.where(found.truth > 0, found.truth, 3)
    # where the 20 m of short-wave infrared have one truth, it is found; on land such as the demo's fire is made for,
    # which pixels that show the infrared of one field and the short-wave infrared of another may not be
    cells = truth.reshape(384, 2, 384, 2)
    uniform = (cells == cells[:, :1, :, :1]).all(axis=(1, 3)).repeat(2, 0).repeat(2, 1) & found.seen
    before = found.archive.fire_pair()[0]
    ratio = found.source(before, "B08") / np.maximum(found.source(before, "B12"), 1)
    known = uniform & ((truth == 3) | ((ratio >= 0.8) & (ratio <= 5)))
    assert known[severity >= 4].mean() > 0.8
    np.testing.assert_array_equal(severity[known], truth[known])
    assert {3, 4, 5, 6, 7} == set(severity[known])


def test_the_numbers_are_those_of_the_files(found: Product) -> None:
    """In float64, from the files as they are: minus 1000 after the fire, as its baseline 05.00 asks for."""
    red, nir, swir = [], [], []
    for item, shift in zip(found.archive.fire_pair(), (0, 1000), strict=True):
        for band, asset in ((red, "B04"), (nir, "B08"), (swir, "B12")):
            band.append(np.maximum(found.source(item, asset)[found.seen].astype(float) - shift, 1) / 10_000)
    nbr = [(n - s) / (n + s) for n, s in zip(nir, swir, strict=True)]
    bai = [1 / ((0.1 - r) ** 2 + (0.06 - n) ** 2) for r, n in zip(red, nir, strict=True)]
    dnbr = nbr[0] - nbr[1]

    def stored(name: str, band: int = 0) -> Image:
        return found.read(name)[band][found.seen].astype(float)

    half = 0.5 + 0.005  # a step, and what float32 has lost
    for band in (0, 1):
        np.testing.assert_allclose(stored("nbr", band), 10_000 * nbr[band], atol=half)
        np.testing.assert_allclose(stored("bai", band), bai[band], rtol=1 / 8192 + 1e-4)
    np.testing.assert_allclose(stored("dnbr"), 10_000 * dnbr, atol=half)
    np.testing.assert_allclose(stored("rbr"), 10_000 * dnbr / (nbr[0] + 1.001), atol=half)
    np.testing.assert_allclose(stored("bai", 2), bai[1] - bai[0], rtol=1 / 8192, atol=1e-4 * max(bai[1]))
    some = np.abs(nbr[0]) >= 0.00101
    np.testing.assert_allclose(
        stored("rdnbr")[some], (500 * dnbr / np.sqrt(np.maximum(np.abs(nbr[0]), 1e-3)))[some], atol=0.51
    )
    assert (stored("rdnbr")[np.abs(nbr[0]) < 0.00099] == -32768).all()
    assert (np.abs(nbr[0]) < 0.00099).any()


# ----------------------------------------------------------------------------------------------------
# Hectares and perimeters


def test_hectares_are_the_same_everywhere(found: Product) -> None:
    counted = np.bincount(found.read("severity").reshape(-1), minlength=8)
    with (found.folder / "areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["value"]) for row in rows] == list(range(8))
    assert [int(row["pixels"]) for row in rows] == counted.tolist()
    assert [float(row["hectares"]) for row in rows] == pytest.approx(counted * 0.01, abs=1e-9)
    properties = found.item["properties"]
    assert properties["eoap:severity_ha"] == {row["name"]: float(row["hectares"]) for row in rows[1:]}
    burned = sum(float(row["hectares"]) for row in rows if row["burned"] == "yes")
    assert properties["eoap:burned_ha"] == pytest.approx(burned, abs=1e-9)
    assert burned == pytest.approx(counted[4:].sum() * 0.01)
    assert properties["eoap:valid_percent"] == pytest.approx(100 * counted[1:].sum() / counted.sum(), abs=1e-4)
    classes = found.item["assets"]["severity"]["bands"][0]["classification:classes"]
    assert [entry["count"] for entry in classes] == counted.tolist()


def test_it_says_at_the_end_what_burned(found: Product) -> None:
    lines = found.done.stderr.splitlines()[-4:]
    with (found.folder / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    burned = sum(float(row["hectares"]) for row in rows if row["burned"] == "yes")
    assert lines[0].startswith(f"{found.folder.name}: 2 passes, ")
    assert lines[1] == f"  burned: {burned:,.1f} ha"
    classes = [
        f"{row['name'].replace('_', ' ')} {float(row['hectares']):,.1f} ha"
        for row in rows
        if row["dnbr_from"] or row["dnbr_to"]
    ]
    assert lines[2] == f"  severity: {', '.join(classes)}"
    assert lines[3].startswith("1 unit, ")


def test_perimeters_hold_what_burned(found: Product) -> None:
    """Against scipy's labels of dNBR ≥ 0.1, read from its file."""
    dnbr = found.read("dnbr")[0].astype(int)
    labels, number = ndimage.label(dnbr >= 1000)
    sizes = np.bincount(labels.reshape(-1), minlength=number + 1)
    sizes[0] = 0
    large = np.isin(labels, np.flatnonzero(sizes >= 100))  # 1 ha and more
    table = geopandas.read_parquet(found.folder / "perimeters.parquet")
    assert table.crs.to_epsg() == 32610
    assert list(table.columns) == ["id", "area_ha", "dnbr_mean", "pre_date", "post_date", "cut", "geometry"]
    assert table.geometry.is_valid.all()
    assert set(table.geometry.geom_type) == {"Polygon"}
    assert table.area_ha.to_numpy() == pytest.approx(table.geometry.area / 10_000, rel=1e-12)
    assert sorted(table.area_ha) == pytest.approx(sorted(sizes[sizes >= 100] * 0.01))
    assert table.area_ha.is_monotonic_decreasing
    assert (table.area_ha >= 1).all()
    assert table.area_ha.sum() == pytest.approx(large.sum() * 0.01)
    painted = rasterize(
        zip(table.geometry, table.id, strict=True), (768, 768), transform=found.archive.tiles[0].transform
    )
    np.testing.assert_array_equal(painted > 0, large)
    for row in table.itertuples():
        assert row.dnbr_mean == pytest.approx(dnbr[painted == row.id].mean() / 10_000, abs=1e-4)
        assert (row.pre_date, row.post_date) == ("2021-07-13", "2021-08-12")
        place = np.pad(painted == row.id, 1)
        shown = np.pad((found.read("visual-pre") != 0).all(axis=0) & (found.read("visual-post") != 0).all(axis=0), 1)
        assert row.cut == (ndimage.binary_dilation(place) & ~shown).any()
    assert found.item["properties"]["eoap:perimeters"] == len(table) > 1
    assert not table.cut.all()


def test_both_files_of_perimeters_agree(found: Product) -> None:
    table = geopandas.read_parquet(found.folder / "perimeters.parquet")
    plain = json.loads((found.folder / "perimeters.geojson").read_text())
    assert "crs" not in plain  # RFC 7946: degrees, and nothing else
    other = geopandas.read_file(found.folder / "perimeters.geojson")
    assert other.crs.to_epsg() == 4326
    assert other.geometry.is_valid.all()
    for name in ("id", "area_ha", "dnbr_mean"):
        assert other[name].to_numpy() == pytest.approx(table[name].to_numpy())
    assert (other.pre_date.astype(str).str[:10] == table.pre_date).all()
    back = other.to_crs(table.crs)
    # seven decimals of a degree are about a centimetre
    for one, two in zip(table.geometry, back.geometry, strict=True):
        assert shapely.hausdorff_distance(one, two) < 0.05
    for feature in plain["features"]:
        assert shapely.LinearRing(feature["geometry"]["coordinates"][0]).is_ccw


# ----------------------------------------------------------------------------------------------------
# Options


@pytest.mark.long
def test_a_file_of_an_item_does_as_well(fire: Any, found: Product, shell: Shell) -> None:
    """As saved from a browser; that it may lead to this machine is said by --stac."""
    before, _ = read_json(found.shell.cwd / "burned-area" / "items.json")["features"]
    (shell.cwd / "before.json").write_text(json.dumps(before))
    done = shell.run(
        *("bai", "--pre-fire-url", "before.json", "--post-fire-url", fire.urls[1], "--stac", fire.server.url)
    )
    assert done.returncode == 0, done.stderr
    for name in sorted(FILES - {f"{UNIT}.json"}):
        assert (shell.cwd / "burned-area" / UNIT / name).read_bytes() == (found.folder / name).read_bytes(), name


@pytest.mark.long
def test_an_area_thresholds_and_a_minimum(fire: Any, found: Product, shell: Shell) -> None:
    """A part of the fire, cut to its shape: there the classes that were asked for, and nothing elsewhere."""
    fires = geopandas.read_parquet(found.folder / "perimeters.parquet")
    middle = fires.geometry.iloc[0].centroid
    area = geopandas.GeoSeries([middle.buffer(900)], crs=fires.crs)
    area.to_crs(4326).to_file(shell.cwd / "area.gpkg")
    edges = (-0.5, -0.2, 0.5, 0.6, 0.7, 0.8)  # so that what burned is many islands
    done = shell.run(
        *("bai", "--pre-fire-url", fire.urls[0], "--post-fire-url", fire.urls[1], "--aoi", "area.gpkg"),
        *(part for edge in edges for part in ("--threshold", edge)),
        *("--min-area-ha", 2, "--output-dir", "mine", "--json", "-q"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (item,) = json.loads(done.stdout)["items"]
    folder = shell.cwd / "mine" / UNIT
    assert (shell.cwd / item["assets"]["severity"]).samefile(folder / "severity.tif")
    with rasterio.open(folder / "severity.tif") as dataset:
        severity, transform, shape = dataset.read(1), dataset.transform, dataset.shape
    left = round((transform.c - found.archive.tiles[0].transform.c) / 10)
    top = round((found.archive.tiles[0].transform.f - transform.f) / 10)
    part = np.s_[top : top + shape[0], left : left + shape[1]]
    inside = rasterize(area, shape, transform=transform, dtype="uint8").astype(bool)
    dnbr = found.read("dnbr")[0][part].astype(float) / 10_000
    expected = np.where(inside & found.seen[part], 1 + np.searchsorted(edges, dnbr, side="right"), 0)
    # the edge of the circle went to degrees and back; and a dNBR that is stored as 0.15 may be 0.14999
    differ = severity != expected
    rim = inside ^ ndimage.binary_erosion(inside) | (ndimage.binary_dilation(inside) & ~inside)
    close = np.abs(dnbr[..., None] - edges).min(axis=-1) <= 0.5e-4
    assert not (differ & ~rim & ~close).any()
    assert (severity[inside] > 3).sum() > 100
    table = geopandas.read_parquet(folder / "perimeters.parquet")
    sizes = np.bincount(ndimage.label(severity >= 4)[0].reshape(-1))[1:]
    assert sorted(table.area_ha) == pytest.approx(sorted(sizes[sizes >= 200] * 0.01))
    assert 0 < len(table) < len(sizes)
    outside = np.pad(~inside, 1, constant_values=True)
    painted = rasterize(zip(table.geometry, table.id, strict=True), shape, transform=transform)
    for row in table.itertuples():
        assert row.cut == (ndimage.binary_dilation(np.pad(painted == row.id, 1)) & outside).any()
    assert table.cut.any()
    assert read_json(folder / f"{UNIT}.json")["properties"]["eoap:cut_perimeters"] == table.cut.sum()
    log = (shell.cwd / "mine" / "run.log").read_text()
    assert f"of {len(table)} perimeters" in log
    assert "cut by the edge of the area or of the data" in log
