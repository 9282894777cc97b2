"""The pages of docs/ run: their code, from top to bottom, on the demo's archives instead of one far away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from distributed import Client
from odc.geo.geom import Geometry
from PIL import Image

from eoap_dask import errors
from eoap_dask.applications.bai.images import burn_images
from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.applications.composition import composite_images
from eoap_dask.cli.application import ENDING
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import EXIT_CODES, EoapError, OutOfMemoryError, StoppedError
from eoap_dask.geo.footprint import footprint_4326
from eoap_dask.kernels.severity import KEY_BENSON, severity_classes
from eoap_dask.params import declarations
from eoap_dask.periods import parse_day
from eoap_dask.run.options import RunOptions
from eoap_dask.scenes.sensor import sensor_for

DOCS = Path(__file__).parents[2] / "docs"


def code_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_exit_codes_mean_the_same_everywhere() -> None:
    faults = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EoapError)]
    stopped = {StoppedError.exit_code}  # that of a signal, which help texts tell apart
    assert {kind.exit_code for kind in faults} - stopped == set(EXIT_CODES) - {0}
    assert "memory" in EXIT_CODES[OutOfMemoryError.exit_code]
    readme = " ".join((DOCS.parent / "README.md").read_text().split())
    table = (DOCS / "cwl.md").read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in readme
        assert f"{code} {meaning}" in " ".join(ENDING.split())
        (row,) = re.findall(rf"^\| {code} \| (.*) \|$", table, re.MULTILINE)
        assert code == 2 or all(word in row for word in re.findall(r"\w{3,}", meaning))


def test_what_a_platform_can_set_is_no_input() -> None:
    page = (DOCS / "calrissian.md").read_text()
    text = page[page.index("How the work is done can be") : page.index("Not what an input of the package decides")]
    variables = re.findall(r"`EOAP_DASK_(\w+)`", text)
    run, inputs = ({name.upper() for name in declarations(kind)} for kind in (RunOptions, MosaicParams))
    assert variables
    assert set(variables) <= run - inputs


def test_the_readme_names_the_images_of_a_mosaic_with_their_types() -> None:
    """As they are described in code: file, type, scale and nodata."""
    sensor = sensor_for(MosaicParams.collection)
    images = composite_images("monthly-mosaic-2020-10", MosaicParams.bands, sensor, "median")
    told = re.findall(r"^    ([\w-]+)\.tif +(\w+), (.*)$", (DOCS.parent / "README.md").read_text(), re.MULTILINE)
    assert [(name, dtype) for name, dtype, _ in told] == [(image.name, image.dtype) for image in images]
    (scale,) = {band.scale for band in images[0].bands}
    assert scale is not None
    assert f"reflectance × {1 / scale:.0f}, {images[0].nodata} = nodata" in told[0][2]
    tree = (DOCS / "cwl.md").read_text()
    assert all(f"{image.name}.tif" in tree for image in images)


def test_the_readme_names_the_images_of_a_fire_with_their_types() -> None:
    images = burn_images(severity_classes(), *(parse_day(day) for day in ("2021-07-13", "2021-08-12")))
    text = " ".join((DOCS.parent / "README.md").read_text().split("It writes, for the pair,")[1].split())
    told = re.findall(r"`([\w-]+)\.tif`(?: \(([^)]*)\))?", text)
    assert [name for name, _ in told] == [image.name for image in images]
    about = ""
    for image, (_, words) in reversed(list(zip(images, told, strict=True))):
        if words:
            about = words  # which holds for those before it, too
        if image.is_measured:
            assert image.dtype in about
            assert ("scale" in about) == (image.bands[0].scale is not None)
    assert "classes" in dict(told)["severity"]


def test_the_page_on_burned_area_has_the_formulas_and_thresholds() -> None:
    """The formulas as they are in items, in the signs of mathematics."""
    page = (DOCS / "burned-area.md").read_text().replace("−", "-")
    rows = dict(re.findall(r"^\| (\w+) \| (.*?[^\\]) \|", page, re.MULTILINE))
    images = burn_images(severity_classes(), parse_day("2021-07-13"), parse_day("2021-08-12"))
    formulas = {image.name: image.expression for image in images}
    assert formulas["nbr"] == rows["NBR"]
    assert formulas["dnbr"] == rows["dNBR"].replace("NBR before - NBR after", "nbr_pre - nbr_post")
    assert formulas["rbr"] == rows["RBR"].replace("dNBR", "dnbr").replace("NBR before", "nbr_pre")
    assert [float(n) for n in re.findall(r"-?\d[\d.]*", rows["severity"])] == list(KEY_BENSON)


@pytest.mark.long
@pytest.mark.cluster
def test_the_page_on_burned_area(
    fire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    blocks = code_of("burned-area.md")
    assert len(blocks) >= 6
    said, names = [], {"__name__": "page"}
    with local_client(Size(1, 2, 2 << 30)) as client, client.as_current():
        assert Client.current() is client
        urls = dict(zip(re.findall(r'"(https://[^"]+/items/[^"]+)"', blocks[0]), fire.urls, strict=True))
        for number, block in enumerate(blocks):
            code = re.sub(r'"(https://[^"]+)"', lambda found: repr(urls[found[1]]), block)
            exec(compile(code, f"burned-area.md, block {number + 1}", "exec"), names)  # noqa: S102 - our own page
            said.append(capsys.readouterr().out)
    true = fire.archive.burned_ha("2021-08")
    assert (names["before"], names["after"]) == fire.urls
    assert names["burned_ha"] == pytest.approx(true, rel=0.02)
    assert f"{names['burned_ha']:.0f} ha burned" in said[1]
    (item,) = names["run"].items
    assert item["properties"]["eoap:burned_ha"] == pytest.approx(names["burned_ha"])
    by_title = {c.title: item["properties"]["eoap:severity_ha"][c.name] for c in names["classes"]}
    assert by_title == pytest.approx(names["hectares"])
    assert names["perimeters"].area_ha.min() >= 2
    assert 0.66 < float(names["dnbr"].max()) < 1.5
    with Image.open(tmp_path / "severity.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 6
    assert (tmp_path / "fire" / "catalog.json").is_file()


def test_the_page_on_lazy_arrays(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    bands = ("nir", "red")
    archive = make_archive(
        tmp_path_factory.mktemp("lazy") / "demo",
        size_px=512,
        resolution_m=60.0,
        months=("2020-10",),
        dates_per_month=3,
        bands=bands,
    )
    names: dict[str, Any] = {"__name__": "page"}
    with ServerProcess(archive) as server:
        for number, block in enumerate(code_of("lazy.md")):
            code = re.sub(r'"https://planetarycomputer[^"]+"', repr(server.url), block)
            exec(compile(code, f"lazy.md, block {number + 1}", "exec"), names)  # noqa: S102 - our own page
        xr.testing.assert_identical(names["again"].compute(), names["cube"].compute())
    ndvi = names["ndvi"]
    assert float(ndvi.notnull().mean()) > 0.5

    # the files: grid and nodata, and only what lies in the park
    with rasterio.open("ndvi.tif") as whole, rasterio.open("park.tif") as park, rasterio.open("red.tif") as raw:
        assert whole.transform == ndvi.odc.geobox.transform
        assert np.isnan([whole.nodata, park.nodata]).all()
        np.testing.assert_array_equal(whole.read(1), ndvi)
        assert (raw.nodata, raw.scales, raw.dtypes) == (0, (1e-4,), ("uint16",))
        shape = Geometry(names["park"], "EPSG:4326").to_crs(ndvi.odc.geobox.crs).geom
        rows, columns = np.indices(park.shape)
        xs, ys = park.transform @ (columns + 0.5, rows + 0.5)
        inside = shapely.contains_xy(shape, xs, ys)
        found = park.read(1)
        assert np.isnan(found[~inside]).all()
        assert np.nanmax(np.abs(found - ndvi.sel(x=xs[0], y=ys[:, 0]).to_numpy())[inside]) == 0

    # the fields, by numpy
    table = names["table"].set_index("zone")
    assert len(table) == 3
    for number, field in enumerate(names["fields"].geometry):
        inside = shapely.contains_xy(field, *np.meshgrid(ndvi.x, ndvi.y))
        seen = ndvi.to_numpy()[inside].astype(float)
        seen = seen[~np.isnan(seen)]
        assert table.loc[number, "count"] == seen.size > 100
        assert table.loc[number, "mean"] == pytest.approx(seen.mean(), rel=1e-5)
        assert table.loc[number, "std"] == pytest.approx(seen.std(), rel=1e-4)

    # the neighbourhoods: the mean of what of nine was seen
    smooth = names["smooth"]
    around = ndvi.rolling(y=3, x=3, center=True, min_periods=1).construct(y="dy", x="dx").mean(["dy", "dx"])
    np.testing.assert_allclose(smooth, around, rtol=1e-4, atol=1e-6)
    assert smooth.odc.geobox == ndvi.odc.geobox

    # the item, against our own footprint of the same grid
    item = names["item"]
    geometry, bbox = footprint_4326("EPSG:32610", ndvi.odc.geobox.transform, ndvi.shape)
    assert item.bbox == pytest.approx(bbox, abs=1e-5)
    assert shapely.geometry.shape(item.geometry).hausdorff_distance(shapely.geometry.shape(geometry)) < 2e-5
    assert item.properties["proj:epsg"] == 32610
    (band,) = item.assets["asset"].extra_fields["raster:bands"]
    assert band["nodata"] == "nan"
    assert band["statistics"]["maximum"] == pytest.approx(float(ndvi.max()))
