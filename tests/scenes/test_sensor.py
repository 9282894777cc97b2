"""The sensors' tables: complete, without contradictions, and in the words of the real catalogues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.errors import CollectionError
from eoap_dask.scenes.sensor import Sensor, sensor_for, sensor_of, sensors

S2 = sensor_for("sentinel-2-l2a")


@pytest.mark.parametrize("sensor", sensors(), ids=lambda s: s.id)
def test_every_name_means_one_band(sensor: Sensor) -> None:
    owners: dict[str, str] = {}
    for band in sensor.bands:
        for name in {band.name, band.common_name, *band.assets}:
            assert owners.setdefault(name, band.name) == band.name
            assert sensor.band(name) is band
    assert sensor.band("no such band") is None
    assert sensor.band("") is None


@pytest.mark.parametrize("sensor", sensors(), ids=lambda s: s.id)
def test_the_numbers_make_sense(sensor: Sensor) -> None:
    assert sensor.quantification == 10000
    assert 0 <= sensor.nodata <= 65535
    assert [int(n) for n in sensor.offset_baseline.split(".")]
    assert set(sensor.mask_dropped) <= set(range(256))
    assert sensor.mask_nodata in sensor.mask_dropped  # unseen is never clear
    assert sensor.mask_assets
    assert sensor.collections


@pytest.mark.parametrize("sensor", sensors(), ids=lambda s: s.id)
def test_the_credits_make_sense(sensor: Sensor) -> None:
    assert sensor_of(sensor.id) is sensor
    assert sensor.provider.is_meant(sensor.provider.name)
    assert sensor.flies_on(sensor.constellation)
    assert sensor.instruments
    assert all(name == name.lower() for name in (*sensor.instruments, *sensor.platforms, sensor.constellation))
    assert {"producer"} <= set(sensor.provider.roles) <= {"producer", "licensor", "processor", "host"}
    assert sensor.provider.url.startswith("https://")
    assert sensor.terms.href.startswith("https://")
    assert sensor.terms.notice[-1] not in " ."  # years and a full stop follow


def test_names_are_compared_word_by_word() -> None:
    said = ("ESA", "esa", "ESA/Copernicus", "Copernicus Data Space Ecosystem", "European Space Agency (ESA)")
    assert all(S2.provider.is_meant(name) for name in said)
    assert not any(S2.provider.is_meant(name) for name in ("", "Mesa Labs", "European Space", "ESAB"))


def test_a_collection_belongs_to_one_sensor() -> None:
    collections = [c for s in sensors() for c in s.collections]
    assert len(collections) == len(set(collections))
    assert all(sensor_for(c) in sensors() for c in collections)
    assert MosaicParams().collection in collections
    assert all(S2.band(name) for name in MosaicParams().bands)


def test_a_collection_that_nobody_knows_is_said() -> None:
    with pytest.raises(CollectionError) as refused:
        sensor_for("landsat-c2-l2")
    assert str(refused.value) == (
        "The collection 'landsat-c2-l2' isn't supported. "
        "Expected one of sentinel-2-l2a, sentinel-2-c1-l2a, sentinel-s2-l2a-cogs. "
        "Try the collection sentinel-2-l2a."
    )
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sentinel2-l2a", "sentinel-2-l2a"),
        ("Sentinel-2", "sentinel-2-l2a"),
        ("sentinel-2-c1", "sentinel-2-c1-l2a"),
        ("sentinel-s2-cogs", "sentinel-s2-l2a-cogs"),
        ("modis", "sentinel-2-l2a"),  # the usual one
    ],
)
def test_a_collection_that_may_be_meant(typed: str, meant: str) -> None:
    with pytest.raises(CollectionError) as refused:
        sensor_for(typed)
    assert str(refused.value).endswith(f"Try the collection {meant}.")


def test_sentinel_2_by_the_book() -> None:
    # ESA, Sentinel-2 Products Specification Document: bands, classes, and the offset of baseline 04.00
    assert " ".join(b.name for b in S2.bands) == "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"
    assert (S2.constellation, S2.instruments) == ("sentinel-2", ("msi",))
    assert (S2.offset_baseline, S2.offset_dn, S2.nodata) == ("04.00", 1000, 0)


def real(shared: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "stac" / name).read_text("utf-8"))
    return found


def test_the_keys_of_planetary_computer(shared: Path) -> None:
    assets = real(shared, "planetary_computer_sentinel-2-l2a.collection.json")["item_assets"]
    for band in S2.bands:
        (key,) = (k for k in band.assets if k in assets)
        assert assets[key]["eo:bands"][0]["name"] == key == band.name
    assert any(k in assets for k in S2.mask_assets)


def test_the_keys_of_earth_search(shared: Path) -> None:
    assets = real(shared, "earthsearch_v1_c1_S2B_T38XNF_20250422T091553_L2A.json")["assets"]
    for band in S2.bands:
        (key,) = (k for k in band.assets if k in assets)
        assert assets[key]["eo:bands"][0]["name"] == band.name
    assert any(k in assets for k in S2.mask_assets)


def test_the_keys_of_cdse_and_the_common_names_of_stac(shared: Path) -> None:
    assets = real(shared, "cdse-sentinel-2-l2a.collection.json")["item_assets"]
    for band in S2.bands:
        (key,) = (k for k in band.assets if k in assets)
        assert assets[key]["bands"] == [{"name": band.name, "eo:common_name": band.common_name}]
        assert "sampling:original" in assets[key]["roles"]
    assert any(k in assets for k in S2.mask_assets)
