"""The area of a product: read, gridded and projected in one place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely

from eoap_dask.errors import AoiError
from eoap_dask.geo.aoi import parse_aoi
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.grid import grid_for, project_aoi
from eoap_dask.geo.options import AreaParams, is_area

BOX = "9.0,47.0,9.1,47.1"
RING = "POLYGON ((9 47, 9.1 47, 9.1 47.1, 9 47))"


def test_a_box_is_not_cut_and_stays_as_it_was_written() -> None:
    area = Area.of(AreaParams(aoi=BOX))
    assert area.shape is None
    assert area.geobox == grid_for(parse_aoi(BOX), "auto", 100.0)
    assert area.json == BOX


@pytest.mark.parametrize("crs", ["auto", "EPSG:3035", "ESRI:54009", "+proj=laea +lat_0=47 +lon_0=9 +units=m"])
def test_a_shape_is_the_one_of_the_grid(crs: str) -> None:
    """Also where the grid's CRS has no code, and is written in another way than it was given."""
    area = Area.of(AreaParams(aoi=RING, crs=crs, resolution=20.0))
    assert area.geobox == grid_for(parse_aoi(RING), crs, 20.0)
    expected = project_aoi(parse_aoi(RING), crs_name(area.geobox))
    assert shapely.to_wkb(area.shape) == shapely.to_wkb(expected)


def test_without_clip_an_area_is_its_box() -> None:
    area = Area.of(AreaParams(aoi=RING, clip=False))
    assert area.shape is None
    assert area.aoi.is_box
    assert area.geobox == grid_for(parse_aoi(BOX), "auto", 100.0)


def test_on_a_grid_that_is_given() -> None:
    grid = grid_for(parse_aoi("9,47,10,48"), "EPSG:3035", 50.0)
    area = Area.of(AreaParams(aoi=RING, crs="EPSG:999999", resolution=-1.0), grid)
    assert area.geobox == grid
    assert area.shape == project_aoi(parse_aoi(RING), "EPSG:3035")


def test_a_file_is_recorded_as_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(shapely.from_wkt(RING))))
    for given in (path, str(path)):
        found = Area.of(AreaParams(aoi=given)).json
        assert shapely.geometry.shape(found).equals(shapely.from_wkt(RING))


AREAS = (BOX, " (9, 47, 9.1, 47.1) ", "9;47;9.1;47.1", "-1 .5 1e1 +2.", RING, f"SRID=4326;{RING}", "[9,47,9.1,47.1]")


@pytest.mark.parametrize("text", AREAS)
def test_a_text_that_is_an_area_is_never_a_file(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / text.strip()).write_text("not an area")
    assert is_area(text)
    assert parse_aoi(text).geometry.area > 0


@pytest.mark.parametrize("text", ['{"type": 1}', "[9]", "POINT", "polygon.geojson"])
def test_nor_is_one_that_only_begins_like_an_area(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / text).write_text(json.dumps(shapely.geometry.mapping(shapely.from_wkt(RING))))
    assert is_area(text)
    with pytest.raises(AoiError):
        parse_aoi(text)


@pytest.mark.parametrize(
    "text", ["area.geojson", "..", "1", "1,2,3", "1,2,3,4/5", "/1,2,3,4", "e,e,e,e", "file:///x", "x POLYGON", ""]
)
def test_other_texts_may_be_files(text: str) -> None:
    assert not is_area(text)
