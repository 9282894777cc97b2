"""Fields of any vector file: the same as if it were read whole, and a sentence for what isn't one."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from pyproj import CRS
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from eoap_dask.applications.crop_chips.classes import ClassTable
from eoap_dask.errors import UsageError
from eoap_dask.geo.cleaning import Tally
from eoap_dask.geo.polygons import PolygonFile, Polygons, representative_points
from eoap_dask.text import named_by_flags

SHAPES = [box(500_000 + 100 * n, 4_600_000, 500_080 + 100 * n, 4_600_080) for n in range(5)]
CODES = ["3301010101", "3303050000", None, "3301280000", "3301110000"]
NAMES = ["WHEAT", "OLIVE", None, "TOMATO", "VIÑA"]
BOW_TIE = Polygon([(500_000, 4_600_000), (500_100, 4_600_100), (500_100, 4_600_000), (500_000, 4_600_100)])


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Paths are short in sentences, and nothing warns."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def write(name: str, shapes: Any = SHAPES, crs: Any = 32630, layer: str | None = None, **columns: Any) -> Path:
    path = Path(name)
    columns = columns or {"EC_hcat_c": CODES[: len(shapes)], "EC_trans_n": NAMES[: len(shapes)]}
    frame = gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path, layer=layer)
    return path


def joined(file: PolygonFile, at_once: int = 2, tally: Tally | None = None) -> Polygons:
    """Return all fields of a file that is read in pieces."""
    found = list(file.chunks(at_once, tally))
    assert all(0 < len(one) <= at_once for one in found)
    return Polygons(
        np.concatenate([one.ids for one in found]),
        np.concatenate([one.codes for one in found]),
        None if file.original is None else np.concatenate([one.originals for one in found]),  # type: ignore[misc]
        np.concatenate([one.shapes for one in found]),
    )


def fault(path: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(UsageError) as caught:
        PolygonFile.open(path, *arguments, **named)
    found = caught.value
    assert found.exit_code == 2
    assert all(part.endswith(".") and len(part) < 400 for part in (found.what, found.expected, found.hint))
    return str(found)


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "fgb", "parquet"])
def test_fields_that_are_streamed_are_those_of_the_file(suffix: str) -> None:
    if suffix == "geojson":
        path = write("fields.geojson", [box(n, 45, n + 0.5, 46) for n in range(5)], 4326)
    else:
        path = write(f"fields.{suffix}")
    whole = gpd.read_parquet(path) if suffix == "parquet" else gpd.read_file(path)
    file = PolygonFile.open(path)
    assert (file.path, file.layer, file.count) == (path, "fields", 5)
    assert file.crs == whole.crs
    assert file.crs_text == ("EPSG:4326" if suffix == "geojson" else "EPSG:32630")
    assert file.bounds == pytest.approx(tuple(whole.total_bounds))
    found = joined(file)
    assert found.ids.tolist() == [n + (suffix == "gpkg") for n in range(5)]
    assert found.codes.tolist() == [code if isinstance(code, str) else None for code in whole["EC_hcat_c"]]
    assert found.originals is not None
    assert found.originals.tolist() == [name if isinstance(name, str) else "" for name in whole["EC_trans_n"]]
    assert found.shapes.tolist() == whole.geometry.tolist()
    assert pickle.loads(pickle.dumps(file)) == file  # noqa: S301


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "fgb", "parquet"])
def test_codes_may_be_numbers(suffix: str) -> None:
    shapes = [box(n, 45, n + 0.5, 46) for n in range(5)]
    numbers = [3301010101, 3303050000, 0, 3301280000, 3301110000]
    for codes in (numbers, [float("nan") if n == 0 else float(n) for n in numbers]):
        file = PolygonFile.open(write(f"fields.{suffix}", shapes, 4326, EC_hcat_c=codes))
        found = joined(file)
        assert file.original is None
        assert found.originals is None
        values = ClassTable.of().values(found.codes).tolist()
        assert [values[n] for n in np.argsort([one.bounds[0] for one in found.shapes])] == [5, 1, 0, 7, 8]


@pytest.mark.parametrize("suffix", ["gpkg", "parquet"])
def test_what_is_no_field_is_left_out(suffix: str) -> None:
    high = shapely.force_3d(SHAPES[1], 7.0)
    shapes = [shapely.force_3d(SHAPES[0], 3.0), None, high, shapely.force_3d(BOW_TIE, 1.0), high]
    file = PolygonFile.open(write(f"fields.{suffix}", [*shapes, Polygon()], EC_hcat_c=[*CODES, "1"]))
    tally = Tally()
    found = joined(file, 2, tally)
    assert found.codes.tolist() == [CODES[0], CODES[2], CODES[3]]
    assert not shapely.has_z(found.shapes).any()
    assert shapely.is_valid(found.shapes).all()
    assert found.shapes[:2].tolist() == SHAPES[:2]
    assert found.shapes[2].area == 5000
    assert tally == Tally(rows=6, kept=3, repaired=1, empty=2, duplicates=1)
    assert [one.ids.tolist() for one in file.chunks(2)] == [one.ids.tolist() for one in file.chunks(2)]
    assert [len(one) for one in file.chunks(100)] == [3]


def test_a_layer_of_all_kinds_of_geometry() -> None:
    mixed = [Point(500_000, 4_600_000), SHAPES[0], LineString([(500_000, 4_600_000), (500_001, 4_600_001)]), SHAPES[1]]
    tally = Tally()
    found = joined(PolygonFile.open(write("fields.gpkg", mixed)), 10, tally)
    assert found.shapes.tolist() == SHAPES[:2]
    assert str(tally) == "2 not of polygons left out"


def test_fields_across_180_degrees() -> None:
    split = MultiPolygon([box(179.99, 0, 180, 0.01), box(-180, 0, -179.99, 0.01)])
    tally = Tally()
    found = joined(PolygonFile.open(write("fields.gpkg", [split, box(179, 0, 179.1, 0.1)], 4326)), 10, tally)
    assert found.ids.tolist() == [2]
    assert str(tally) == "1 across 180° left out"


def test_of_many_rows_few_are_in_memory_and_little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand take a fraction of a second; a million took 16 s and 0.5 GB."""
    n = np.arange(10_000)
    squares = shapely.box(500_000 + n, 4_600_000, 500_001 + n, 4_600_001)
    write("fields.gpkg", squares, EC_hcat_c=n, EC_trans_n=n, more=n)
    asked, plain = [], pyogrio.open_arrow
    monkeypatch.setattr(pyogrio, "open_arrow", lambda *a, **named: asked.append(named["columns"]) or plain(*a, **named))
    file = PolygonFile.open("fields.gpkg")
    assert asked == []
    start = time.perf_counter()
    alive: list[weakref.ref[Any]] = []
    for fields in file.chunks(1000):
        assert sum(one() is not None for one in alive) <= 1  # the one before, while the next is read
        alive.append(weakref.ref(fields.shapes))
        representative_points(fields.shapes)
    assert time.perf_counter() - start < 5
    assert len(alive) == 10
    assert asked == [["EC_hcat_c", "EC_trans_n"]]


def test_points_lie_inside() -> None:
    ring = SHAPES[0].difference(SHAPES[0].buffer(-20))
    shapes = np.array([*SHAPES, ring, MultiPolygon(SHAPES[:2])], object)
    points = representative_points(shapes)
    assert points.shape == (7, 2)
    assert points.dtype == np.float64
    assert shapely.contains_xy(shapes, points).all()
    assert (points == representative_points(shapes[::-1])[::-1]).all()
    assert representative_points(shapes[:0]).shape == (0, 2)


def test_other_peoples_fields_with_classes_of_their_own(shared: Path) -> None:
    Path("classes.csv").write_text(
        "class;name;code\n1;soy;soy_soybeans\n2;maize;Maize\n3;beans;beans/*\n4;nuts;GROUNDNUTS\n"
    )
    path = shared / "fields" / "malawi_extraction_polygons.gpkg"
    file = PolygonFile.open(path, attribute="croptype")
    tally = Tally()
    found = joined(file, 100, tally)
    assert (file.layer, file.count, file.crs_text, file.original) == (path.stem, 287, "EPSG:4326", None)
    values = ClassTable.of("classes.csv").values(found.codes)
    counts = pd.Series(gpd.read_file(path)["croptype"]).value_counts()
    assert np.bincount(values)[1:].sum() == 132 - tally.duplicates - tally.broken
    assert counts[["soy_soybeans", "maize", "beans/peas", "groundnuts"]].sum() == 132
    assert tally.kept == len(found) == 287 - tally.duplicates
    assert "'EC_hcat_c'. Its attributes are start_date, end_date, croptype. Try class_attribute='croptype'." in fault(
        path
    )


def test_the_layer_of_a_file_of_several() -> None:
    path = write("fields.gpkg", layer="parcels")
    write("fields.gpkg", [Point(0, 0)], layer="towns")
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="table")
    assert PolygonFile.open(path).layer == "parcels"  # the only one of polygons
    write("fields.gpkg", SHAPES[:2], layer="more")
    assert fault(path) == (
        "The file 'fields.gpkg' has 2 layers that may hold fields: parcels, more. Expected one of them. "
        "Try layer='parcels'."
    )
    with named_by_flags():
        assert "Try --layer parcels." in fault(path)
    assert PolygonFile.open(path, "more").count == 2
    assert PolygonFile.open("fields.gpkg|layername=more").count == 2
    assert PolygonFile.open("fields.gpkg|layername=more", "more").count == 2
    assert "'parcels'" in fault("fields.gpkg|layername=more", "parcels")
    assert fault(path, "mor") == (
        "The file 'fields.gpkg' has no layer 'mor'. Its layers are parcels, towns, more. Try layer='more'."
    )
    assert "has no layer 'table'" in fault(path, "table")
    assert fault(path, "towns") == (
        "The layer 'towns' of 'fields.gpkg' holds Point. Fields are of Polygon or MultiPolygon. "
        "Give the outlines of the fields."
    )
    assert "isn't understood. Expected the name of a layer" in fault("fields.gpkg|layer=more")


def test_files_that_hold_no_polygons() -> None:
    write("fields.gpkg", [Point(0, 0)], layer="towns")
    write("fields.gpkg", [LineString([(0, 0), (1, 1)])], layer="roads")
    assert fault("fields.gpkg") == (
        "The file 'fields.gpkg' has no layer of polygons. Its layers are towns (Point), roads (LineString). "
        "Give the outlines of the fields."
    )
    mixed = [Point(0, 0), LineString([(0, 0), (1, 1)])]
    assert "The layer 'any' of 'any.gpkg' holds LineString, Point." in fault(write("any.gpkg", mixed))
    assert "has no layer of polygons. Its layers are towns (Point)." in fault(write("towns.parquet", [Point(0, 0)]))
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), "table.gpkg", layer="table")
    assert "The file 'table.gpkg' has no layer with geometry." in fault("table.gpkg")


def test_without_rows_or_without_places() -> None:
    empty = gpd.GeoDataFrame({"EC_hcat_c": []}, geometry=[], crs=4326)
    pyogrio.write_dataframe(empty, "empty.gpkg", geometry_type="Polygon")
    assert fault("empty.gpkg") == (
        "The layer 'empty' of 'empty.gpkg' has no rows. Expected field polygons. Check the file."
    )
    pyogrio.write_dataframe(
        gpd.GeoDataFrame({"EC_hcat_c": ["1"]}, geometry=[None], crs=4326), "none.gpkg", geometry_type="Polygon"
    )
    assert "The layer 'none' of 'none.gpkg' has no geometry." in fault("none.gpkg")


@pytest.mark.parametrize(
    ("names", "wanted", "hint"),
    [
        (["ec_HCAT_c"], "EC_hcat_c", "Try class_attribute='ec_HCAT_c'."),
        (["EC_hcat_n", "id"], "EC_hcat_c", "Try class_attribute='EC_hcat_n'."),
        (["id", "CROP_TYPE"], "EC_hcat_c", "Try class_attribute='CROP_TYPE'."),
        (["id", "area"], "EC_hcat_c", "Name the one of the codes by class_attribute."),
    ],
)
def test_without_the_attribute(names: list[str], wanted: str, hint: str) -> None:
    path = write("fields.gpkg", **{name: range(5) for name in names})
    assert fault(path, attribute=wanted) == (
        f"The layer 'fields' of 'fields.gpkg' has no attribute {wanted!r}. "
        f"Its attributes are {', '.join(names)}. {hint}"
    )


def test_a_file_without_attributes() -> None:
    gpd.GeoDataFrame(geometry=SHAPES, crs=32630).to_parquet("fields.parquet")
    assert "has no attribute 'EC_hcat_c'. It has none. Name the one" in fault("fields.parquet")


@pytest.mark.parametrize("suffix", ["shp", "gpkg", "parquet", "local"])
def test_without_a_crs(suffix: str) -> None:
    local = 'ENGCRS["a plan",EDATUM["mine"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
    crs = CRS.from_wkt(local) if suffix == "local" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(f"fields.{'parquet' if suffix == 'local' else suffix}", crs=crs)
    assert "tells no CRS. Expected one, so that its fields have a place on Earth. Assign it to the file." in fault(path)


def test_a_crs_that_cant_be_true() -> None:
    assert fault(write("fields.gpkg", crs=4326)) == (
        "The layer 'fields' of 'fields.gpkg' isn't on Earth (its bounds are 500000,4600000,500480,4600080). "
        "Its CRS, WGS 84, is in degrees. Assign the CRS that its coordinates are in."
    )


def test_a_crs_without_a_code() -> None:
    albers = CRS.from_proj4("+proj=aea +lat_1=29 +lat_2=43 +lat_0=30 +lon_0=-3 +datum=WGS84")
    file = PolygonFile.open(write("fields.gpkg", crs=albers))
    assert file.crs_text.startswith("PROJCRS[")
    assert CRS.from_user_input(file.crs_text) == file.crs


def test_files_that_arent_there() -> None:
    assert fault("none.gpkg") == "There is no file 'none.gpkg'. A path must exist on this machine. Check fields."
    assert fault("https://example.org/fields.gpkg").startswith("'https://example.org/fields.gpkg' is a URL. A path")
    with named_by_flags():
        assert "Check --fields." in fault("none.gpkg|layername=x")
    assert "There is no file" in fault("a\0b")


def test_files_that_cant_be_read() -> None:
    Path("empty.gpkg").touch()
    assert "The file 'empty.gpkg' is empty. Expected GeoPackage, GeoParquet," in fault("empty.gpkg")
    Path("text.gpkg").write_text("nonsense")
    assert "The file 'text.gpkg' can't be read as vector data: it is not recognized as being in a" in fault("text.gpkg")
    whole = write("fields.gpkg").read_bytes()
    Path("cut.gpkg").write_bytes(whole[: len(whole) // 2])
    assert "'cut.gpkg' can't be read as vector data: database disk image is malformed. Exp" in fault("cut.gpkg")
    Path("cut.parquet").write_bytes(write("fields.parquet").read_bytes()[:-9])
    assert "The file 'cut.parquet' can't be read as vector data: " in fault("cut.parquet")
    Path("folder").mkdir()
    assert "The file 'folder' can't be read as vector data: it is not recognized" in fault("folder")


def test_damage_is_told_while_reading() -> None:
    path = write("fields.fgb", SHAPES * 40, EC_hcat_c=range(200))
    path.write_bytes(path.read_bytes()[:-2000])
    file = PolygonFile.open(path)
    with pytest.raises(UsageError, match=r"The file 'fields.fgb' can't be read as vector data: "):
        list(file.chunks(50))


OTHER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_program_has_locked() -> None:
    path = write("fields.gpkg")
    before = pyogrio.get_gdal_config_option("SQLITE_BUSY_TIMEOUT")
    pyogrio.set_gdal_config_options({"SQLITE_BUSY_TIMEOUT": 20})  # five seconds otherwise, for locks that are short
    command = [sys.executable, "-c", OTHER, path]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            assert fault(path) == (
                "The file 'fields.gpkg' is locked by another program. Expected a file that can be read. "
                "Close the program that writes to it, or copy the file."
            )
            other.communicate()
    finally:
        pyogrio.set_gdal_config_options({"SQLITE_BUSY_TIMEOUT": before})
    assert PolygonFile.open(path).count == 5


def test_archives_and_folders() -> None:
    Path("in").mkdir()
    write("in/parcels.shp")
    write("in/towns.shp", [Point(0, 0)])
    archive = shutil.make_archive("fields", "zip", "in")
    for path in ("in", archive):
        file = PolygonFile.open(path)
        assert (file.layer, len(joined(file))) == ("parcels", 5)
    with zipfile.ZipFile("two.zip", "w") as both:
        both.write(write("fields.parquet"))
        both.write(write("more.parquet"))
    assert "has 2 layers that may hold fields: fields, more." in fault("two.zip")
    assert len(joined(PolygonFile.open("two.zip", "more"))) == 5
    Path("in/b").mkdir()
    write("in/b/parcels.shp")
    assert "may hold fields: parcels, parcels. Expected one of them. Give a file with one" in fault("in", "parcels")


def test_nothing_is_left_beside_a_file() -> None:
    with closing(sqlite3.connect(write("fields.gpkg"))) as base:
        base.execute("PRAGMA journal_mode = WAL")
    assert len(joined(PolygonFile.open("fields.gpkg"))) == 5
    next(PolygonFile.open("fields.gpkg").chunks(2))
    assert [path.name for path in Path().iterdir()] == ["fields.gpkg"]
