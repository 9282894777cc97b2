"""Areas from files of several layers: the union of all polygons, or the layer that is named."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, box

from eoap_dask.errors import AoiError
from eoap_dask.geo import vector
from eoap_dask.geo.parse import parse_aoi

ROMAN, ALPINE = box(12, 41, 13, 42), box(9, 47, 9.5, 47.5)
BOTH = shapely.union_all([ROMAN, ALPINE])


@pytest.fixture(autouse=True)
def _no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def write(path: Path, shapes: Any, crs: Any = 4326, layer: str | None = None) -> Path:
    """Write shapes in degrees as a layer in a CRS, with vertices enough that it is the same on Earth."""
    frame = gpd.GeoDataFrame(geometry=shapely.segmentize(shapes, 0.01), crs=4326).to_crs(crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path, layer=layer)
    return path


def assert_is(aoi: Any, expected: shapely.Geometry) -> None:
    """Within some ten metres, which edges move that are straight in another CRS."""
    found = parse_aoi(aoi).geometry
    assert shapely.symmetric_difference(found, expected).area < 1e-3 * expected.area
    assert found.bounds == pytest.approx(expected.bounds, abs=1e-4)


def fault(aoi: Any) -> str:
    with pytest.raises(AoiError) as caught:
        parse_aoi(aoi)
    return str(caught.value)


def geopackage(folder: Path) -> Path:
    """Layers in two CRSs, one of points, and a table."""
    path = write(folder / "areas.gpkg", [ROMAN], 32633, "rome")
    write(path, [ALPINE], 4326, "alps")
    write(path, [Point(0, 0)], 4326, "towns")
    write(path, [LineString([(0, 0), (1, 1)])], 4326, "roads")
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="table")
    return path


def test_a_geopackage_is_the_union_of_its_layers(tmp_path: Path) -> None:
    path = geopackage(tmp_path)
    assert_is(path, BOTH)
    assert_is(str(path), BOTH)
    for given_as in (str, Path):
        assert_is(given_as(f"{path}|layername=rome"), ROMAN)
        assert_is(given_as(f"{path}|layername=alps"), ALPINE)
    assert parse_aoi(f"{path}|layername=alps").source == "areas.gpkg|layername=alps"


def test_a_layer_that_isnt_there_or_holds_no_area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = geopackage(tmp_path).relative_to(tmp_path)
    monkeypatch.chdir(tmp_path)  # long paths are cut in sentences
    assert "areas.gpkg' has no layer 'x'. Its layers are rome, alps, towns, roads." in fault(f"{path}|layername=x")
    assert "no layer 'table'" in fault(f"{path}|layername=table")
    assert "only Point" in fault(f"{path}|layername=towns")
    for rest in ("|layerid=0", "|layername=", "|x", "|", "|layername=rome|subset=a>1"):
        assert "isn't understood. Expected the name of a layer" in fault(f"{path}{rest}")
    assert "There is no file" in fault(f"{tmp_path / 'none.gpkg'}|layername=x")
    write(tmp_path / "names.gpkg", [ALPINE], 4326, "x=1, y")
    assert_is(f"{tmp_path / 'names.gpkg'}|layername=x=1, y", ALPINE)


def test_a_file_whose_name_has_a_bar(tmp_path: Path) -> None:
    write(tmp_path / "a.gpkg", [ROMAN])
    shutil.copy(write(tmp_path / "b.gpkg", [ALPINE]), tmp_path / "a.gpkg|layername=a")
    assert_is(f"{tmp_path}/a.gpkg|layername=a", ALPINE)


KML = """<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>
<Folder><name>{first}</name>{rome}<Folder><name>inner</name>{alps}</Folder></Folder>
<Folder><name>{second}</name>{sea}</Folder></Document></kml>"""


def placemark(one: shapely.Geometry) -> str:
    ring = " ".join(f"{x},{y},0" for x, y in one.exterior.coords)
    return (
        "<Placemark><Polygon><outerBoundaryIs><LinearRing><coordinates>"
        f"{ring}</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
    )


@pytest.mark.parametrize("second", ["b", "a"])
@pytest.mark.parametrize("suffix", [".kml", ".kmz"])
def test_folders_of_kml(second: str, suffix: str, tmp_path: Path) -> None:
    """Also where two have one name."""
    sea = box(5, 43, 6, 44)
    text = KML.format(first="a", second=second, rome=placemark(ROMAN), alps=placemark(ALPINE), sea=placemark(sea))
    path = tmp_path / f"area{suffix}"
    if suffix == ".kml":
        path.write_text(text)
    else:
        if "LIBKML" not in pyogrio.list_drivers():
            pytest.skip("without LIBKML")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("doc.kml", text)
    assert_is(path, shapely.union_all([ROMAN, ALPINE, sea]))


def two_shapefiles(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "rome.shp", [ROMAN], 32633)
    write(folder / "alps.shp", [ALPINE], 3035)
    write(folder / "towns.shp", [Point(0, 0)])
    (folder / "._rome.shp").write_bytes(b"a fork of a Mac's file system")
    (folder / "style.json").write_text("{}")
    (folder / "readme.txt").write_text("POLYGON ((0 0, 1 1, 1 0, 0 0))")
    return folder


def zipped(folder: Path, path: Path, below: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{below}{file.relative_to(folder)}")
    return path


def test_a_directory_and_its_archive(tmp_path: Path) -> None:
    folder = two_shapefiles(tmp_path / "some areas")
    assert_is(folder, BOTH)
    assert_is(zipped(folder, tmp_path / "flat {1}.zip"), BOTH)
    assert_is(zipped(folder, tmp_path / "deep.zip", "down/in the/"), BOTH)
    assert_is(f"{folder}|layername=alps", ALPINE)
    assert_is(f"{tmp_path / 'deep.zip'}|layername=alps", ALPINE)
    write(folder / "more.gpkg", [box(5, 43, 6, 44)])
    assert_is(folder, shapely.union_all([BOTH, box(5, 43, 6, 44)]))
    (folder / "sub").mkdir()
    write(folder / "sub" / "c.parquet", [box(5, 42, 6, 43)], 3035)
    assert_is(folder, shapely.union_all([BOTH, box(5, 42, 6, 44)]))
    assert_is(zipped(folder, tmp_path / "all.zip"), shapely.union_all([BOTH, box(5, 42, 6, 44)]))


def test_a_file_geodatabase_is_one_dataset(tmp_path: Path) -> None:
    base = tmp_path / "areas.gdb"
    for name, one, crs in (("rome", ROMAN, 32633), ("alps", ALPINE, 4326)):
        frame = gpd.GeoDataFrame(geometry=shapely.segmentize([one], 0.01), crs=4326).to_crs(crs)
        frame.to_file(base, layer=name, driver="OpenFileGDB")
    assert_is(base, BOTH)
    assert_is(f"{base}|layername=rome", ROMAN)
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copytree(base, folder / "areas.gdb")
    assert_is(folder, BOTH)
    assert_is(zipped(folder, tmp_path / "areas.zip"), BOTH)


@pytest.mark.parametrize("crs", [4326, 32633, 3035, "OGC:CRS84"])
def test_geoparquet(crs: Any, tmp_path: Path) -> None:
    path = tmp_path / "perimeters.parquet"
    frame = gpd.GeoDataFrame({"id": [1, 2]}, geometry=shapely.segmentize([ROMAN, ALPINE], 0.01), crs=4326).to_crs(crs)
    frame.to_parquet(path, index=False, write_covering_bbox=True)  # as bai writes its perimeters
    assert_is(path, BOTH)
    assert parse_aoi(str(path)).source == "perimeters.parquet"
    native = tmp_path / "native.geoparquet"
    frame.rename_geometry("where").to_parquet(native, geometry_encoding="geoarrow")
    assert_is(native, BOTH)


def test_parquet_that_isnt_geoparquet(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "table.parquet")
    assert "without the metadata of GeoParquet" in fault(tmp_path / "table.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    assert "can't be read as vector data" in fault(tmp_path / "broken.parquet")
    write(tmp_path / "towns.parquet", [Point(1, 1)])
    assert "only Point" in fault(tmp_path / "towns.parquet")
    write(tmp_path / "none.parquet", [])
    assert "has no geometry" in fault(tmp_path / "none.parquet")


def test_one_bad_file_is_named_and_fails_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # long paths are cut in sentences
    tmp_path = Path()
    folder = two_shapefiles(tmp_path / "areas")
    (folder / "broken.gpkg").write_bytes(b"nonsense")
    assert "'areas' can't be read as vector data: broken.gpkg: " in fault(folder)
    archive = zipped(folder, tmp_path / "areas.zip")
    assert "areas.zip' can't be read as vector data: broken.gpkg: " in fault(archive)
    archive.write_bytes(archive.read_bytes()[:500])
    assert "can't be read as vector data" in fault(archive)
    (tmp_path / "empty").mkdir()
    assert "can't be read as vector data" in fault(tmp_path / "empty")


def test_a_directory_of_too_many_files_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "_MOST_ENTRIES", 3)
    assert "it holds more than 3 files" in fault(two_shapefiles(tmp_path / "areas"))


CRSS = [4326, 4258, 32633, 32632, 3035, 3857, 6933]


@settings(max_examples=15)
@given(
    data=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from(CRSS)), min_size=1, max_size=4),
    kind=st.sampled_from(["gpkg", "directory", "zip", "parquet directory"]),
    points=st.booleans(),
)
def test_any_layers_in_any_crs_are_their_union(data: list[tuple[int, int, int]], kind: str, points: bool) -> None:
    """Axes: how many layers, where they lie (also on each other), CRS of each, container, one without an area."""
    squares = [box(10 + x / 2, 45 + y / 2, 11 + x / 2, 46 + y / 2) for x, y, _ in data]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for number, (one, (_, _, crs)) in enumerate(zip(squares, data, strict=True)):
            suffix = "parquet" if kind.startswith("parquet") else "shp"
            path = folder / ("all.gpkg" if kind == "gpkg" else f"l{number}.{suffix}")
            write(path, [one], crs, f"l{number}")
        if points:
            write(folder / ("all.gpkg" if kind == "gpkg" else "points.shp"), [Point(0, 0)], 4326, "points")
        whole = folder / "all.gpkg" if kind == "gpkg" else folder
        if kind == "zip":
            whole = zipped(folder, Path(name) / "in.zip")
        assert_is(whole, shapely.union_all(squares))
        assert_is(f"{whole}|layername=l0", squares[0])


def test_that_a_file_tells_no_crs_is_said(tmp_path: Path, said: list[str]) -> None:
    path = write(tmp_path / "fields.shp", [ROMAN])
    assert_is(path, ROMAN)
    assert said == []
    path.with_suffix(".prj").unlink()
    assert_is(path, ROMAN)
    assert_is(gpd.GeoSeries([ROMAN]), ROMAN)
    taken = "tells no CRS: its coordinates are taken for degrees (EPSG:4326)."
    assert said == [f"fields.shp {taken}", f"GeoSeries {taken}"]


def test_geoparquet_without_a_crs_is_in_degrees_by_its_standard(tmp_path: Path, said: list[str]) -> None:
    path = write(tmp_path / "fields.parquet", [ROMAN])
    table = pyarrow.parquet.read_table(path)
    told = json.loads(table.schema.metadata[b"geo"])
    del told["columns"]["geometry"]["crs"]
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"geo": json.dumps(told)}), path)
    assert_is(path, ROMAN)
    assert said == []
