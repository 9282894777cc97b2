"""Layers of vector files: rows that are streamed are the rows of the file."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from shapely.geometry import Point, box

from eoap_dask.geo.layers import LayerHead, LayerInfo, Rows, layer_heads, layer_info, layer_rows
from eoap_dask.geo.vector import VectorError

SQUARES = [box(n, 45, n + 0.5, 46) for n in range(7)]


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def write(path: Path, shapes: Any = SQUARES, crs: Any = 4326, **columns: Any) -> Path:
    frame = gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def only(path: Path) -> tuple[LayerHead, LayerInfo]:
    (head,) = layer_heads(path)
    return head, layer_info(head)


def read(path: Path, *attributes: str, at_once: int = 3) -> list[Rows]:
    return list(layer_rows(*only(path), attributes, at_once))


def texts(path: Path, attribute: str) -> list[str | None]:
    return [one for rows in read(path, attribute) for one in rows.texts[0]]


FORMATS = ["gpkg", "shp", "geojson", "fgb", "parquet"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_come_in_the_files_order(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"fields.{suffix}", a=list("abcdefg"), b=range(7))
    head, info = only(path)
    assert (head.name, head.has_polygons) == ("fields", True)
    assert info.bounds == (0, 45, 6.5, 46)
    assert (info.count, info.attributes) == (7, ("a", "b"))
    found = read(path, "b", "a")
    whole = gpd.read_parquet(path) if suffix == "parquet" else gpd.read_file(path)
    assert [len(rows.ids) for rows in found] == [3, 3, 1]
    ids = np.concatenate([rows.ids for rows in found])
    assert ids.tolist() == list(range(1, 8) if suffix == "gpkg" else range(7))
    assert ids.dtype == np.int64
    assert [one for rows in found for one in rows.texts[1]] == whole["a"].tolist()
    assert [one for rows in found for one in rows.texts[0]] == whole["b"].astype(str).tolist()
    assert all(shapely.equals_exact(np.concatenate([rows.shapes for rows in found]), whole.geometry))


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "parquet"])
def test_rows_without_a_shape(suffix: str, tmp_path: Path) -> None:
    shapes = [None, *SQUARES[:3], None, None, SQUARES[3]]
    for at_once in (1, 3, 100):
        found = read(write(tmp_path / f"fields.{suffix}", shapes, a=range(7)), "a", at_once=at_once)
        streamed = np.concatenate([rows.shapes for rows in found])
        assert shapely.normalize(streamed).tolist() == shapely.normalize(shapes).tolist()  # rings of .shp go clockwise
        assert sum(rows.unreadable for rows in found) == 0


def test_flatgeobuf_with_rows_without_a_shape_is_refused(tmp_path: Path) -> None:
    """GDAL's Arrow stream puts other shapes in place of theirs."""
    path = tmp_path / "fields.fgb"
    gpd.GeoDataFrame(geometry=[SQUARES[0], None, SQUARES[1]], crs=4326).to_file(path, SPATIAL_INDEX="NO")
    with pytest.raises(VectorError, match="it has rows without geometry, which GDAL mistakes in FlatGeobuf"):
        read(path)
    gpd.GeoDataFrame(geometry=[None, SQUARES[0]], crs=4326).to_file(path, SPATIAL_INDEX="NO")
    (rows,) = read(path)
    assert (rows.shapes.tolist(), rows.unreadable) == ([None, SQUARES[0]], 0)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
def test_attributes_are_text(suffix: str, tmp_path: Path) -> None:
    values = {
        "whole": [3301010101, 0, -5],
        "float": [3301010101.0, 2.5, float("nan")],
        "text": [" a ", "", "Viña"],
        "truth": [True, False, True],
        "day": ["2023-05-15", "x", None],
    }
    path = write(tmp_path / f"fields.{suffix}", SQUARES[:3], **values)
    assert texts(path, "whole") == ["3301010101", "0", "-5"]
    assert texts(path, "float") == ["3301010101", "2.5", None]
    assert texts(path, "text") == ["a", None, "Viña"]
    assert texts(path, "truth") == ["True", "False", "True"]
    assert texts(path, "day") == ["2023-05-15", "x", None]


def test_texts_of_a_shapefile_that_doesnt_tell_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "fields.shp"
    gpd.GeoDataFrame({"a": ["VIÑA"]}, geometry=SQUARES[:1], crs=4326).to_file(path, encoding="ISO-8859-1")
    assert texts(path, "a") == ["VIÑA"]
    path.with_suffix(".cpg").unlink()
    assert texts(path, "a") == ["VIÑA"]


def test_codes_with_a_list_of_meanings_stay_codes(tmp_path: Path) -> None:
    """Of which Arrow has the meanings."""
    path = write(tmp_path / "fields.gpkg", SQUARES[:3], a=np.array([1, 2, 1], "int32"))
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript("""
            CREATE TABLE gpkg_data_columns (table_name TEXT, column_name TEXT, name TEXT, title TEXT, description TEXT,
                mime_type TEXT, constraint_name TEXT);
            INSERT INTO gpkg_data_columns VALUES ('fields', 'a', NULL, NULL, NULL, NULL, 'crops');
            CREATE TABLE gpkg_data_column_constraints (constraint_name TEXT, constraint_type TEXT, value TEXT,
                min NUMERIC, min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT);
            INSERT INTO gpkg_data_column_constraints VALUES
                ('crops', 'enum', '1', NULL, NULL, NULL, NULL, 'wheat'),
                ('crops', 'enum', '2', NULL, NULL, NULL, NULL, 'maize');
        """)
    assert texts(path, "a") == ["1", "2", "1"]
    path = write(tmp_path / "fields.parquet", SQUARES[:3], a=pd.Categorical(["x", None, "x"]))
    assert texts(path, "a") == ["x", None, "x"]


def test_heights_are_dropped(tmp_path: Path) -> None:
    high = [shapely.force_3d(one, 5) for one in SQUARES]
    for suffix in FORMATS:
        path = write(tmp_path / f"fields.{suffix}", high)
        assert only(path)[1].bounds == (0, 45, 6.5, 46)
        assert not any(shapely.has_z(rows.shapes).any() for rows in read(path))


def test_arcs_become_straight(tmp_path: Path) -> None:
    """As parcels of surveyors have them: a circle of four arcs."""
    path = write(tmp_path / "fields.gpkg", SQUARES[:3], 32630)
    arcs = struct.pack("<BIIBII10d", 1, 10, 1, 1, 8, 5, *(0, 0), *(1, 1), *(2, 0), *(1, -1), *(0, 0))
    with closing(sqlite3.connect(path)) as base, base:
        for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            base.execute(f'DROP TRIGGER "{name}"')
        base.execute("UPDATE fields SET geom = ? WHERE fid = 2", (struct.pack("<2sBBi", b"GP", 0, 1, 32630) + arcs,))
        base.execute("UPDATE gpkg_geometry_columns SET geometry_type_name = 'CURVEPOLYGON'")
    (rows,) = read(path)
    assert rows.unreadable == 0
    assert rows.shapes[0].equals(SQUARES[0])
    assert rows.shapes[1].area == pytest.approx(np.pi, rel=1e-3)
    assert rows.shapes[1].centroid.equals_exact(Point(1, 0), 1e-9)


def test_what_cant_be_read_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "fields.parquet", [SQUARES[0], None, SQUARES[2]])
    table = pyarrow.parquet.read_table(path)
    stored = pyarrow.array([table["geometry"][0].as_py(), None, b"nonsense"])
    pyarrow.parquet.write_table(table.set_column(0, table.schema.field("geometry"), stored), path)
    (rows,) = read(path)
    assert rows.unreadable == 1
    assert [one is None for one in rows.shapes] == [False, True, True]


@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
def test_geoparquet_with_native_geometries(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "fields.parquet"
    shapes = SQUARES if kind == "Polygon" else [shapely.MultiPolygon([one]) for one in SQUARES]
    shapes = [*shapes[:4], None, *shapes[4:]]
    frame = gpd.GeoDataFrame({"a": range(8)}, geometry=shapes, crs=3035).rename_geometry("where")
    frame.to_parquet(path, geometry_encoding="geoarrow")
    found = read(path, "a")
    assert [one for rows in found for one in rows.texts[0]] == list("01234567")
    assert [one for rows in found for one in rows.shapes] == shapes


def told(path: Path, change: Any) -> Path:
    """Change what GeoParquet's metadata say of the geometry."""
    table = pyarrow.parquet.read_table(path)
    meta = json.loads(table.schema.metadata[b"geo"])
    change(meta["columns"]["geometry"])
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"geo": json.dumps(meta)}), path)
    return path


def test_what_geoparquet_may_leave_out(tmp_path: Path) -> None:
    path = told(write(tmp_path / "fields.parquet", [*SQUARES, None]), lambda meta: [meta.pop("bbox"), meta.pop("crs")])
    head, info = only(path)
    assert (info.crs, info.bounds) == ("OGC:CRS84", (0, 45, 6.5, 46))
    told(path, lambda meta: meta.update(crs=None, geometry_types=[], bbox=[170, 0, -170, 1]))
    head, info = only(path)
    assert (info.crs, info.bounds, head.has_polygons) == (None, (0, 45, 6.5, 46), None)
    assert only(told(write(path, [None]), lambda meta: meta.pop("bbox", None)))[1].bounds is None
    assert only(told(write(path, []), lambda meta: meta.pop("bbox", None)))[1].bounds is None


def test_bounds_are_of_what_has_a_place(tmp_path: Path) -> None:
    with np.errstate(invalid="ignore"):
        odd = shapely.Polygon([(0, 0), (1, float("inf")), (1, 1)])
        path = write(tmp_path / "fields.parquet", [*SQUARES, odd, None])  # without a bbox then
    assert only(path)[1].bounds == (0, 45, 6.5, 46)


def test_layers_without_geometry_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "fields.gpkg", SQUARES)
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="table")
    gpd.GeoDataFrame(geometry=[Point(0, 0)], crs=4326).to_file(path, layer="towns")
    gpd.GeoDataFrame(geometry=[Point(0, 0), SQUARES[0]], crs=4326).to_file(path, layer="mixed")
    found = [(one.name, one.has_polygons) for one in layer_heads(path)]
    assert found == [("fields", True), ("towns", False), ("mixed", None)]


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "dbf", "geojson", "fgb", "parquet"])
def test_a_file_that_lacks_its_end_is_refused(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"fields.{'shp' if suffix == 'dbf' else suffix}", [*SQUARES] * 200, a=range(1400))
    cut = path.with_suffix(f".{suffix}")
    whole = cut.read_bytes()
    for part in (0.1, 0.5, 0.97):
        cut.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(VectorError, match=r"."):
            read(path)


def test_damage_within_a_file_is_refused(tmp_path: Path) -> None:
    """GDAL ends there, as if the file did."""
    path = write(tmp_path / "fields.gpkg", [*SQUARES] * 1000, a=range(7000))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 80_000)
    with pytest.raises(VectorError, match=r"it ends after [0-9]+ of 7000 rows|malformed"):
        read(path, "a")


def test_a_file_of_an_archive_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = write(folder / "fields.fgb")
    archive = Path(shutil.make_archive(str(tmp_path / "whole"), "zip", folder))
    assert [one for rows in read(archive) for one in rows.shapes] == [one for rows in read(path) for one in rows.shapes]
    path.write_bytes(path.read_bytes()[:-50])
    archive = Path(shutil.make_archive(str(tmp_path / "cut"), "zip", folder))
    with pytest.raises(VectorError, match=r"^fields\.fgb: "):
        read(archive)


def test_rows_may_be_left_half_way(tmp_path: Path) -> None:
    path = write(tmp_path / "fields.gpkg")
    stream = layer_rows(*only(path), (), 2)
    next(stream)
    stream.close()
    path.unlink()
