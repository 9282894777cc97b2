"""A published map of a fire, as others see it: STAC, COG, GDAL, tables, people."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import rioxarray
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.enums import ColorInterp
from rio_cogeo import cog_info, cog_validate
from rio_tiler.io import Reader

from eoap_dask import Run, RunOptions, burned_area_map, parse_aoi, severity_classes
from eoap_dask.applications.bai.report import report_on
from eoap_dask.applications.bai.science import BlockNote
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.run.unit import Unit
from eoap_dask.scenes.model import Pass, Scene
from eoap_dask.stac.document import CLASSIFICATION, PROCESSING, RASTER

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("offline")]

SCHEMAS = Path(__file__).parents[2] / "schemas"
UNIT = "bai-20210713-20210812"
ESA = "European Space Agency (ESA)"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"

IMAGES: dict[str, tuple[tuple[str, ...], str, float | None]] = {
    "bai": (("bai_pre", "bai_post", "dbai"), "float32", None),
    "nbr": (("nbr_pre", "nbr_post"), "int16", 0.0001),
    "dnbr": (("dnbr",), "int16", 0.0001),
    "rdnbr": (("rdnbr",), "int16", 0.002),
    "rbr": (("rbr",), "int16", 0.0001),
    "severity": (("severity",), "uint8", None),
    "visual-pre": (("swir22", "nir", "red"), "uint8", None),
    "visual-post": (("swir22", "nir", "red"), "uint8", None),
}
"""Bands, type, and what a step is worth."""

OTHERS = {
    "thumbnail": ("thumbnail.png", "image/png", ["thumbnail"]),
    "perimeters": ("perimeters.parquet", "application/vnd.apache.parquet", ["data"]),
    "perimeters-geojson": ("perimeters.geojson", "application/geo+json", ["data"]),
    "areas": ("areas.csv", "text/csv", ["data"]),
    "severity-style": ("severity.qml", "application/xml", ["metadata"]),
    "picture": ("picture.png", "image/png", ["overview"]),
}


@pytest.fixture(scope="module")
def run(fire: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    before, after = fire.urls
    options = RunOptions(output_dir=tmp_path_factory.mktemp("output") / "fire", block=512)
    with local_client(Size(1, 2, 2 << 30)) as client:
        return burned_area_map(options=options, client=client, pre_fire_url=before, post_fire_url=after)


@pytest.fixture(scope="module")
def item(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.output / UNIT / f"{UNIT}.json").read_text())
    return found


def path_of(run: Run, name: str) -> Path:
    return run.output / UNIT / f"{name}.tif"


# STAC.


@pytest.mark.parametrize(
    ("name", "kind"),
    [("catalog.json", "CATALOG"), ("collection.json", "COLLECTION"), (f"{UNIT}/{UNIT}.json", "ITEM")],
)
def test_documents_are_valid(name: str, kind: str, run: Run, validator: JsonSchemaSTACValidator) -> None:
    document = json.loads((run.output / name).read_text())
    extensions = set(document.get("stac_extensions", []))
    here = sorted(e for e in extensions if e in validator.schema_cache)
    if kind != "CATALOG":
        assert CLASSIFICATION in here
        assert extensions - set(here) <= {RASTER, PROCESSING}
    validator.validate(document, pystac.STACObjectType[kind], "1.1.0", here)


def test_classes_keep_the_rules_of_their_extension(run: Run, item: dict[str, Any]) -> None:
    """Its schema knows no bands of STAC 1.1 yet, so that the part for one class is applied here."""
    schema = json.loads((SCHEMAS / "classification-v2.0.0.json").read_text())
    one_class = {**schema["definitions"]["class_object"], "additionalProperties": False}
    collection = json.loads((run.output / "collection.json").read_text())
    for severity in (item["assets"]["severity"], collection["item_assets"]["severity"]):
        (band,) = severity["bands"]
        classes = band["classification:classes"]
        for entry in classes:
            jsonschema.validate(entry, one_class)
        assert len({entry["value"] for entry in classes}) == len({entry["name"] for entry in classes}) == 8
        assert [entry["value"] for entry in classes] == list(range(8))
        assert [entry.get("nodata", False) for entry in classes] == [True] + 7 * [False]
        assert band["nodata"] == 0
    # what is one run's own doesn't describe the collection
    assert all("count" in entry for entry in item["assets"]["severity"]["bands"][0]["classification:classes"])
    classes = collection["item_assets"]["severity"]["bands"][0]["classification:classes"]
    assert not any("count" in entry for entry in classes)
    known = {c.value: (c.name, c.title, c.hex_colour) for c in severity_classes()}
    assert {e["value"]: (e["name"], e["title"], e["color_hint"]) for e in classes if e["value"]} == known


def test_the_catalog_opens_and_its_links_lead_somewhere(run: Run) -> None:
    catalog = pystac.Catalog.from_file(str(run.catalog))
    (found,) = catalog.get_items()
    assert found.id == UNIT
    assert (found.get_collection().id, found.get_root()) == ("bai", catalog)
    assert list(found.assets) == [*IMAGES, *OTHERS]
    for name in ("catalog.json", "collection.json", f"{UNIT}/{UNIT}.json"):
        document = json.loads((run.output / name).read_text())
        hrefs = [link["href"] for link in document["links"] if link["rel"] not in ("derived_from", "license")]
        hrefs += [asset["href"] for asset in document.get("assets", {}).values()]
        for href in hrefs:
            assert not href.startswith(("/", "file:", "http"))
            assert ((run.output / name).parent / href).is_file(), href


def test_the_style_has_the_colours_of_the_file_and_the_titles_of_the_item(run: Run, item: dict[str, Any]) -> None:
    folder = run.output / item["id"]
    root = ET.fromstring((folder / "severity.qml").read_bytes())  # noqa: S314 - ours
    entries = root.findall("./pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry")
    classes = item["assets"]["severity"]["bands"][0]["classification:classes"]
    with rasterio.open(folder / "severity.tif") as made:
        colours = made.colormap(1)
    shown = [one for one in classes if not one.get("nodata")]
    assert [(int(one.attrib["value"]), one.attrib["label"]) for one in entries] == [
        (one["value"], one["title"]) for one in shown
    ]
    for one in entries:
        assert one.attrib["color"] == "#{:02x}{:02x}{:02x}".format(*colours[int(one.attrib["value"])][:3])


def test_checksums_and_sizes_are_those_of_the_files(run: Run, item: dict[str, Any]) -> None:
    for asset in item["assets"].values():
        content = (run.output / UNIT / asset["href"]).read_bytes()
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert {asset["href"].removeprefix("./") for asset in item["assets"].values()} | {f"{UNIT}.json"} == {
        path.name for path in (run.output / UNIT).iterdir()
    }


def test_other_files_say_what_they_are(item: dict[str, Any]) -> None:
    for key, (href, media_type, roles) in OTHERS.items():
        asset = item["assets"][key]
        assert (asset["href"], asset["type"], asset["roles"]) == (f"./{href}", media_type, roles)
        assert "bands" not in asset


def test_the_item_says_what_was_compared(run: Run, item: dict[str, Any], fire: Any) -> None:
    before, after = fire.archive.fire_pair()
    properties = item["properties"]
    assert properties["start_datetime"] == before["properties"]["datetime"].replace("+00:00", "Z")
    assert properties["end_datetime"] == after["properties"]["datetime"].replace("+00:00", "Z")
    assert properties["eoap:pre_fire"] == [before["id"]]
    assert properties["eoap:post_fire"] == [after["id"]]
    assert [link["href"] for link in item["links"] if link["rel"] == "derived_from"] == list(fire.urls)
    assert properties["proj:code"] == "EPSG:32610"
    assert properties["gsd"] == 10
    assert properties["eoap:dropped_classes"] == [0, 1, 3, 6, 8, 9, 10, 11]
    assert properties["eoap:levels_read"] == {"data": [10.0, 20.0], "mask": [20.0]}
    assert (properties["eoap:resampled_scenes"], properties["eoap:reprojected_scenes"]) == (0, 0)
    assert "water" in properties["processing:lineage"]
    catalog = json.loads(run.catalog.read_text())
    assert "Contains data of eoap-dask demo (synthetic data)." in catalog["description"]
    assert "Copernicus" not in run.catalog.read_text() + (run.output / "collection.json").read_text()


@pytest.mark.parametrize(
    ("makers", "credit"),
    [
        (((ESA,), (ESA,)), "Contains modified Copernicus Sentinel data."),
        ((("A",), ("A",)), "Contains data of A."),
        (((ESA,), ("A",)), "Contains modified Copernicus Sentinel data. Contains data of A."),
    ],
)
def test_the_picture_credits_who_made_the_sources(makers: tuple[tuple[str, ...], ...], credit: str) -> None:
    when = datetime(2021, 7, 13, tzinfo=UTC)
    scenes = [Scene(str(n), "", when, "", "", (5, 0), (), None, (), made) for n, made in enumerate(makers)]
    unit, passes = Unit("bai", "Burned area", when, when), [Pass(s.id, when, (s,)) for s in scenes]
    geobox = GeoBox((10, 10), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32610")
    notes = [BlockNote((100, *[0] * 7), (), ())]
    assert report_on(notes, severity_classes(), geobox, unit, passes, 1).credit == credit


# The images.


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_strict_cogs(name: str, run: Run) -> None:
    path = path_of(run, name)
    assert cog_validate(path, strict=True) == (True, [], [])
    info = cog_info(path)
    assert info.Compression == "DEFLATE"
    assert [(level.Width, level.Height) for level in info.IFD] == [(768, 768), (384, 384)]
    assert info.IFD[0].Blocksize == (512, 512)


@pytest.mark.parametrize("name", IMAGES)
def test_tags_are_as_in_the_item(name: str, run: Run, item: dict[str, Any]) -> None:
    bands, dtype, step = IMAGES[name]
    asset = item["assets"][name]
    assert asset["type"] == COG
    assert asset["roles"] == (["visual"] if name.startswith("visual") else ["data"])
    with rasterio.open(path_of(run, name)) as dataset:
        assert dataset.descriptions == tuple(band["name"] for band in asset["bands"]) == bands
        assert set(dataset.dtypes) == {band["data_type"] for band in asset["bands"]} == {dtype}
        for nodata, band in zip(dataset.nodatavals, asset["bands"], strict=True):
            assert band["nodata"] == ("nan" if np.isnan(nodata) else nodata)
        assert dataset.scales == tuple(band.get("raster:scale", 1.0) for band in asset["bands"])
        assert dataset.offsets == tuple(band.get("raster:offset", 0.0) for band in asset["bands"])
        assert set(dataset.scales) == {step or 1.0}
        assert dataset.crs.to_epsg() == 32610
        assert list(dataset.transform)[:6] == asset["proj:transform"]
        assert list(dataset.shape) == asset["proj:shape"]
        if name.startswith("visual"):
            assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def test_statistics_are_those_of_the_pixels(run: Run, item: dict[str, Any]) -> None:
    for name in ("bai", "nbr", "dnbr", "rdnbr", "rbr"):
        with rasterio.open(path_of(run, name)) as dataset:
            for number, band in enumerate(item["assets"][name]["bands"], 1):
                values = dataset.read(number, masked=True).compressed().astype(np.float64)
                values = values[~np.isnan(values)]
                found = band["statistics"]
                assert found["minimum"] == values.min()
                assert found["maximum"] == values.max()
                assert found["mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
                assert found["stddev"] == pytest.approx(values.std(), rel=1e-6, abs=1e-6)
                assert found["valid_percent"] == pytest.approx(100 * values.size / 768**2, abs=1e-4)


def scaled(run: Run, name: str, band: int = 0) -> np.ndarray:
    """What an index is, by GDAL's own scale and mask."""
    with rioxarray.open_rasterio(path_of(run, name), mask_and_scale=True) as array:
        found: np.ndarray = array.to_numpy()[band]
    return found


def test_scaled_values_are_the_indices(run: Run) -> None:
    """As users read them, with a library that applies the scale; the formulas on the stored NBR."""
    before, after = (scaled(run, "nbr", band) for band in (0, 1))
    assert np.nanmin(before) >= -1
    assert np.nanmax(before) <= 1
    dnbr, rbr, rdnbr = (scaled(run, name) for name in ("dnbr", "rbr", "rdnbr"))
    half = 0.5001e-4  # of a step, by which each number was rounded
    np.testing.assert_allclose(dnbr, before - after, atol=3 * half)
    off = np.abs(rbr * (before + 1.001) - dnbr)[~np.isnan(dnbr)]
    assert (off <= (half * (1 + (before + 1.001) + np.abs(rbr)))[~np.isnan(dnbr)]).all()
    firm = np.abs(before) > 0.05
    root = np.sqrt(np.abs(before[firm]))
    np.testing.assert_allclose(rdnbr[firm] * root, dnbr[firm], rtol=2e-3, atol=1e-3 + 3 * half)
    np.testing.assert_array_equal(np.isnan(dnbr), np.isnan(before))
    assert 0.5 < np.nanmax(dnbr) < 2
    # the classes are of dNBR as it was before it was rounded
    severity = scaled(run, "severity")
    for c in severity_classes():
        inside = dnbr[severity == c.value]
        assert (inside >= c.lower - 0.5001e-4).all()
        assert (inside < c.upper + 0.5001e-4).all()
    np.testing.assert_array_equal(np.isnan(severity), np.isnan(dnbr))


def test_the_colour_table_is_that_of_the_classes(run: Run) -> None:
    with rasterio.open(path_of(run, "severity")) as dataset:
        assert dataset.colorinterp == (ColorInterp.palette,)
        table = dataset.colormap(1)
        for c in severity_classes():
            assert table[c.value] == (*c.colour, 255)
        assert dataset.overviews(1) == [2]
        whole, half = dataset.read(1), dataset.read(1, out_shape=(384, 384))
        np.testing.assert_array_equal(half, whole[::2, ::2])  # classes aren't averaged


def test_a_tile_server_shows_classes_in_their_colours(run: Run) -> None:
    """rio-tiler, as titiler uses it, finds the colours in the file itself."""
    with Reader(str(path_of(run, "severity"))) as reader:
        image = reader.preview(max_size=256)
        assert reader.colormap is not None
        colours = image.render(img_format="PNG", colormap=reader.colormap)
    shown = np.asarray(Image.open(io.BytesIO(colours)).convert("RGBA"))
    opaque = {tuple(int(v) for v in pixel) for pixel in shown[shown[..., 3] == 255].reshape(-1, 4)[:, :3]}
    assert opaque <= {c.colour for c in severity_classes()}
    assert severity_classes()[6].colour in opaque  # some of it burned badly


def test_means_of_floating_point_overviews(run: Run) -> None:
    with rasterio.open(path_of(run, "bai")) as dataset:
        whole, half = dataset.read(), dataset.read(out_shape=(3, 384, 384))
    cells = whole.reshape(3, 384, 2, 384, 2).transpose(0, 1, 3, 2, 4).reshape(3, 384, 384, 4).astype(np.float64)
    some = ~np.isnan(cells).all(axis=-1)
    np.testing.assert_allclose(half[some], np.nanmean(cells[some], axis=-1), rtol=1e-6)
    assert np.isnan(half[~some]).all()


# For people.


def colours_of(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        return {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}


def test_the_picture_has_both_dates_the_classes_and_their_legend(run: Run) -> None:
    with Image.open(run.output / UNIT / "picture.png") as picture:
        assert 1200 < picture.width <= 1600
        assert 500 < picture.height < 1200
    assert {c.colour for c in severity_classes()} <= colours_of(run.output / UNIT / "picture.png")


def test_the_thumbnail_shows_the_burn(run: Run) -> None:
    with Image.open(run.output / UNIT / "thumbnail.png") as thumbnail:
        assert max(thumbnail.size) <= 512
        assert len(thumbnail.convert("RGB").getcolors(1 << 24) or []) > 500


def test_perimeters_are_geoparquet(run: Run) -> None:
    """Version 1.1 of the format, with a bounding box per row, as DuckDB, QGIS and GeoPandas read it."""
    file = pq.ParquetFile(run.output / UNIT / "perimeters.parquet")
    about = json.loads(file.schema_arrow.metadata[b"geo"])
    assert about["version"] >= "1.1.0"
    column = about["columns"][about["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32610}
    assert "covering" in column
    assert file.metadata.num_rows > 1


def test_perimeters_are_an_area_of_interest(run: Run) -> None:
    found = parse_aoi(run.output / UNIT / "perimeters.parquet").geometry
    features = json.loads((run.output / UNIT / "perimeters.geojson").read_text())["features"]
    burned = shapely.union_all([shapely.geometry.shape(one["geometry"]) for one in features])
    # the GeoJSON has seven decimals, and no vertices between corners
    assert shapely.symmetric_difference(found, burned).area < 1e-2 * burned.area
    assert found.bounds == pytest.approx(burned.bounds, abs=1e-5)
