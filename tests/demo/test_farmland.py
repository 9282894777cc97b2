"""The demo's farmland is parcels that others can draw, with crops that can be told apart."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import shapely

from eoap_dask.demo.farmland import CROPS, FARM_BANDS, Farmland, lay_farmland
from eoap_dask.demo.scenes import projected

DAYS = [date(2023, 5, 18), date(2023, 5, 28), date(2023, 6, 17), date(2023, 6, 27)]

# Which codes a class has: of several that fit, the longest counts.
CLASSES = {
    "330305": 1, "330306": 2, "330304": 3, "33030102": 3, "33030112": 3, "330303": 4, "3306": 4,
    "33010101": 5, "33010104": 5, "33010105": 5, "33010108": 5, "330102": 6, "3301280000": 7, "330103": 7,
    "33012204": 7, "33012903": 7, "3301110000": 8, "3301000000": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def farmland() -> Farmland:
    return lay_farmland(512, 28)


@pytest.fixture(scope="module")
def fields(farmland: Farmland) -> np.ndarray:
    found: np.ndarray = projected(farmland.degrees[farmland.declared], 4326, 32630)
    return found


def test_fields_are_valid_and_apart(fields: np.ndarray) -> None:
    assert shapely.is_valid(fields).all()
    hectares = shapely.area(fields) / 10_000
    assert 1 <= hectares.min() < hectares.max() < 15
    one, other = shapely.STRtree(fields).query(fields, predicate="intersects")
    shared = shapely.area(shapely.intersection(fields[one], fields[other]))
    assert shared[one != other].sum() < 1


def test_the_grid_is_that_of_sentinel_2(farmland: Farmland) -> None:
    """Of the tile 30TUM: 300000 E, 4700040 N, in steps of 20 m."""
    assert (farmland.tile.west - 300_000) % 20 == 0
    assert (4_700_040 - farmland.tile.north) % 20 == 0


def test_all_classes_are_there_in_several_crops(farmland: Farmland) -> None:
    grown = {CROPS[number] for number in farmland.crop[farmland.declared]}
    for number in range(9):
        assert len({crop.translated for crop in grown if crop.kind == number}) > 1
    for crop in CROPS:
        fitting = [prefix for prefix in CLASSES if crop.code.startswith(prefix)]
        assert crop.kind == (CLASSES[max(fitting, key=len)] if fitting else 0), crop


def test_crops_are_named_as_eurocrops_names_them(shared: Path) -> None:
    with (shared / "eurocrops" / "HCAT3.csv").open() as file:
        names = {row["HCAT3_code"]: row["HCAT3_name"] for row in csv.DictReader(file)}
    assert [crop.code for crop in CROPS if names.get(crop.code) != crop.name] == ["3388000000"]


def test_some_parts_have_few_fields(fields: np.ndarray) -> None:
    middles = shapely.get_coordinates(shapely.centroid(fields))
    counts = np.histogram2d(*middles.T, bins=5)[0]
    assert counts.min() < 3
    assert counts.max() > 8


def test_cells_are_of_the_field_around_their_centre(farmland: Farmland, fields: np.ndarray) -> None:
    x, y = np.meshgrid(*farmland.tile.axes())
    numbers = np.flatnonzero(farmland.declared)
    for number, field in list(zip(numbers, fields, strict=True))[::9]:
        np.testing.assert_array_equal(farmland.cells == number, shapely.contains_xy(field, x, y))


def test_classes_can_be_told_apart(farmland: Farmland) -> None:
    """By the nearest mean spectrum of a crop, in the median of four dates."""
    crop = np.append(np.where(farmland.declared, farmland.crop, -1), [-1] * 4)[farmland.cells]
    days = np.array([[farmland.layer(band, day) for band in FARM_BANDS] for day in DAYS])
    spectra = np.median(days, axis=0)[:, crop >= 0].T
    crop = crop[crop >= 0]
    means = np.array([spectra[crop == number].mean(axis=0) for number in np.unique(crop)])
    nearest = np.unique(crop)[np.argmin([((spectra - mean) ** 2).sum(axis=1) for mean in means], axis=0)]
    kinds = np.array([one.kind for one in CROPS])
    assert (kinds[nearest] == kinds[crop]).mean() > 0.9


def test_seasons_pass(farmland: Farmland) -> None:
    """Cereals ripen, maize grows; citrus stays."""

    def ndvi(cover: str, day: date) -> float:
        chosen = np.flatnonzero([number >= 0 and CROPS[number].cover == cover for number in farmland.crop])
        red, nir = (farmland.layer(band, day)[np.isin(farmland.cells, chosen)].mean() for band in ("red", "nir"))
        return float((nir - red) / (nir + red))

    early, late = DAYS[0], DAYS[-1]
    assert ndvi("cereal", early) > 0.7
    assert ndvi("cereal", late) < 0.4
    assert ndvi("maize", early) < 0.5 < ndvi("maize", late)
    assert ndvi("citrus", early) == pytest.approx(ndvi("citrus", late), abs=0.03)


def test_ground_is_classified(farmland: Farmland) -> None:
    for day in DAYS:
        scl = farmland.scl(day)
        assert scl.shape == (256, 256)
        assert set(np.unique(scl)) == {4, 5, 6}
    assert (farmland.scl(DAYS[0]) == 4).mean() > (farmland.scl(DAYS[-1]) == 4).mean()


def test_large_pixels_show_the_cell_below_and_right_of_their_centre(farmland: Farmland) -> None:
    layer = farmland.layer("swir16", DAYS[0])
    np.testing.assert_array_equal(farmland.stored("swir16", DAYS[0]), layer[1::2, 1::2])
    np.testing.assert_array_equal(farmland.stored("nir", DAYS[0]), farmland.layer("nir", DAYS[0]))


def test_another_seed_is_another_land(farmland: Farmland) -> None:
    again, other = lay_farmland(512, 28), lay_farmland(512, 3)
    assert (again.degrees == farmland.degrees).all()
    np.testing.assert_array_equal(again.layer("red", DAYS[0]), farmland.layer("red", DAYS[0]))
    assert (other.layer("red", DAYS[0]) != farmland.layer("red", DAYS[0])).mean() > 0.8
