"""Things of any type, given for every parameter of every public function: used, or refused in a sentence."""

from __future__ import annotations

import dataclasses
import inspect
import json
import operator
import re
import types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

import eoap_dask as eo
from eoap_dask.applications.registry import PYTHON_NAMES
from eoap_dask.errors import EoapError
from eoap_dask.networks.architecture import TOY
from eoap_dask.networks.weights import lacking, random_weights

THINGS: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: 5,
    lambda: -1,
    lambda: 10**5000,
    lambda: 2.5,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 1 + 2j,
    lambda: Decimal("1.5"),
    lambda: Fraction(1, 3),
    lambda: "",
    lambda: "x",
    lambda: "5",
    lambda: "a\0b",
    lambda: b"1234",
    lambda: bytearray(b"12"),
    list,
    lambda: [None],
    lambda: ["x", 5],
    lambda: [[1], [2, 3]],
    tuple,
    lambda: (1, 2),
    lambda: (1, 2, 3, 4),
    dict,
    lambda: {"a": 1},
    lambda: {1: {2: object()}},
    lambda: {"type": "Feature"},
    lambda: {"type": "FeatureCollection", "features": [5]},
    lambda: {"type": "Polygon", "coordinates": 5},
    lambda: {"x", "y"},
    object,
    lambda: int,
    lambda: pd.DataFrame,
    lambda: len,
    lambda: json,
    lambda: range(3),
    lambda: iter([1, "x"]),
    lambda: (one for one in ({}, None)),
    lambda: date(2020, 10, 5),
    lambda: datetime(2020, 10, 5, 12, tzinfo=UTC),
    lambda: timedelta(5),
    lambda: time(5),
    lambda: np.datetime64("2020-10-05"),
    lambda: np.datetime64("NaT"),
    lambda: np.timedelta64(5, "D"),
    lambda: np.array(5),
    lambda: np.array([1.0, 2.0]),
    lambda: np.zeros((2, 2)),
    lambda: np.float32(2),
    lambda: np.bool_(True),
    lambda: np.ma.masked,
    lambda: pd.Timestamp("2020-10-05", tz="Asia/Tokyo"),
    lambda: pd.NaT,
    lambda: pd.NA,
    lambda: pd.Series([1, 2]),
    lambda: pd.DataFrame({"a": [1]}),
    lambda: xr.DataArray([1.0, 2.0], dims="x"),
    lambda: xr.DataArray("x"),
    lambda: xr.DataArray([pd.Timestamp("2020-10-05")], dims="time"),
    lambda: xr.Dataset(),
    lambda: xr.Dataset({"a": ("time", [1.0])}, {"time": [1]}),
    lambda: xr.Dataset({"cloud_mask": ("x", [1.0]), "a": ("x", ["b"])}),
    lambda: da.zeros((2, 2)),
    lambda: Path("nowhere"),
    lambda: shapely.Point(1, 2),
    lambda: GeoBox((2, 2), rasterio.Affine(10, 0, 5e5, 0, -10, 4.6e6), "EPSG:32633"),
    lambda: GeoBox((2, 2), rasterio.Affine(10, 0, 5e5, 0, -10, 4.6e6), None),
    lambda: re.compile("x"),
    lambda: ValueError("x"),
    lambda: ...,
    lambda: NotImplemented,
    lambda: types.SimpleNamespace(crs=5, __geo_interface__=5),
)
"""What makes a thing, anew each time: iterators are used up."""

REFLECTANCE = ("bai", "nbr", "dnbr", "rdnbr", "rbr", "ndvi", "ndwi", "mndwi", "ndmi", "savi", "evi")
THRESHOLDS = (-0.25, -0.1, 0.1, 0.27, 0.44, 0.66)
AOI = "15.0,41.54,15.02,41.56"


def an_item(name: str, day: str) -> dict[str, Any]:
    """An item over `AOI` whose files don't exist."""
    grid = {"proj:shape": [200, 200], "proj:transform": [10, 0, 500000, 0, -10, 4602000]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": None,
        "bbox": [15, 41, 16, 42],
        "links": [],
        "properties": {"datetime": f"{day}T10:00:00Z", "proj:epsg": 32633, "s2:processing_baseline": "05.00"},
        "assets": {band: {"href": f"{band}.tif", **grid} for band in ("red", "nir", "swir22", "scl")},
    }


def good_arguments(root: Path) -> dict[str, dict[str, Any]]:
    """By the name of a function or method: arguments for all of its parameters that it takes."""
    before = eo.ItemSet.of(an_item("S2A_x", "2020-10-05"), folder=root)
    after = eo.ItemSet.of(an_item("S2A_y", "2020-11-05"), folder=root)
    nothing = root / "nothing.json"
    nothing.write_text('{"type": "FeatureCollection", "features": []}')
    pixels = xr.DataArray(np.full((2, 2), 0.3, np.float32), dims=("y", "x"))
    cube = xr.Dataset(
        {"red": (("time", "y", "x"), [[[0.3]]]), "cloud_mask": (("time", "y", "x"), [[[False]]])},
        {"time": [np.datetime64("2020-10-05", "ns")]},
    )
    found: dict[str, dict[str, Any]] = {
        name: dict.fromkeys(inspect.signature(getattr(eo, name)).parameters, pixels) for name in REFLECTANCE
    }
    found["savi"]["soil"] = 0.5
    grid = {"aoi": AOI, "resolution": 10, "crs": "auto", "clip": True, "chunks": None}
    search = {"collection": "sentinel-2-l2a", "max_cloud_cover": 100, "max_items": 5, "filter": ""}
    apps = {"items": nothing, "stac": str(nothing), "aoi": AOI, "output_dir": root / "out"}
    fields = {"fields": root / "fields.gpkg", "cell_size": 20_000}
    if not fields["fields"].exists():
        squares = shapely.box(*np.array([(15 + n / 1e3, 41.55, 15.001 + n / 1e3, 41.551) for n in range(6)]).T)
        crops = {"EC_hcat_c": ["3301010101"] * 6, "geometry": squares}
        geopandas.GeoDataFrame(crops, crs=4326).to_file(fields["fields"])
    cells = {"grid": fields["fields"], "grid_id_column": "EC_hcat_c", "years": "2019-2020", "month": 10}
    dates = {name: xr.Dataset({"red": pixels, "nir": pixels}) for name in ("before", "after")}
    october = {"start_date": "2020-10-01", "end_date": "2020-10-31"}
    return {
        **found,
        "search": {"aoi": AOI, "start": "2020-10-01", "end": "2020-10-31", "stac": before, **search},
        "load": {
            **grid,
            "items": before,
            "bands": ["red"],
            "geobox": None,
            "cloud_mask": "scl",
            "also_mask": (),
            "mask_classes": None,
            "raw": False,
            "stac": None,
            "loader": "eoap-dask",
        },
        "mask_clouds": {"cube": cube},
        "composite": {"cube": cube, "method": "median", "period": "monthly", "start": None, "date_band": False},
        "period_groups": {"cube": cube, "period": "monthly", "start": None},
        "severity": {"dnbr": pixels, "thresholds": THRESHOLDS},
        "severity_classes": {"thresholds": THRESHOLDS},
        "burned_area": {"pre": before, "post": after, "thresholds": THRESHOLDS, "force": False, **grid},
        "parse_aoi": {"value": AOI},
        "ItemSet": {"features": before.features, "stac": "x", "collection": "sentinel-2-l2a"},
        "ItemSet.of": {"items": before, "folder": root},
        "ItemSet.load": {"path": nothing, "query": None},
        "ItemSet.save": {"self": before, "path": root / "saved.json"},
        "ItemSet.merged": {"self": before, "other": after},
        "ItemSet.private_hosts": {"self": before, "stac": None},
        "Hooks": {"run": "r", "listener": print, "control": eo.Control(), "unit_done": print, "published": print},
        "Control.drain": {"self": eo.Control(), "reason": "No."},
        "Control.stop": {"self": eo.Control(), "reason": "No."},
        "cloudless_mosaic": {**apps, **october},
        "burned_area_map": apps,
        "crop_chips": {**{name: one for name, one in apps.items() if name != "aoi"}, **fields},
        "change_detection": {**{name: one for name, one in apps.items() if name != "aoi"}, **cells},
        "ChangeStages": {**cells, "items": nothing, "params": None, "options": None, "client": None, "listener": None},
        "cva": {**dates, "bands": ["red"], "least_mad": 20.0, "min_pixels": 6},
        "irmad": {**dates, "bands": ["red"], "rounds": 3, "min_pixels": 6},
        "btc": {
            **{name: one.assign(green=one.red, blue=one.red) for name, one in dates.items()},
            "weights": "me/mine" if lacking() else random_weights(root / "toy.safetensors", TOY),
            "threshold": 0.2,
            "window": 32,
            "stretch": (0.0, 0.3),
            "device": "cpu",
            "min_pixels": 6,
        },
        "chips": {"items": before, "bands": ["red"], "cells": None, "classes": None, "seed": 0, **fields},
        "MosaicParams": {},
        "BurnedAreaParams": {},
        "ChangeParams": {},
        "CropChipsParams": {},
        "RunOptions": {},
    }


def parameters_of(name: str, given: Mapping[str, Any]) -> list[str]:
    """Return the parameters of a function or class, also those that are fields of others."""
    if name in ("MosaicParams", "BurnedAreaParams", "ChangeParams", "CropChipsParams", "RunOptions"):
        return [one.name for one in dataclasses.fields(getattr(eo, name))]
    if name in APPLICATIONS:
        fields = [*dataclasses.fields(PYTHON_NAMES[name].params), *dataclasses.fields(eo.RunOptions)]
        return [*(one.name for one in fields), "params", "options", "client", "listener", "hooks"]
    return [one for one in given if one != "self"]


FUNCTIONS = (
    *(*REFLECTANCE, "search", "load", "mask_clouds", "composite", "period_groups"),
    *("severity", "severity_classes", "burned_area"),
    *("parse_aoi", "ItemSet", "ItemSet.of", "ItemSet.load", "ItemSet.save", "ItemSet.merged", "ItemSet.private_hosts"),
    *("Hooks", "Control.drain", "Control.stop", "cloudless_mosaic", "burned_area_map"),
    *("crop_chips", "chips", "change_detection", "ChangeStages", "cva", "irmad", "btc"),
    *("MosaicParams", "BurnedAreaParams", "ChangeParams", "CropChipsParams", "RunOptions"),
)
APPLICATIONS = ("cloudless_mosaic", "burned_area_map", "crop_chips", "change_detection")
RESULTS = {"Run", "Aoi", "Control"}
"""What functions return, or what takes nothing."""


def test_every_public_function_is_here() -> None:
    offered = {name for name in eo.__all__ if callable(getattr(eo, name))}
    faults = {name for name in offered if isinstance(one := getattr(eo, name), type) and issubclass(one, EoapError)}
    assert offered - faults - RESULTS == {name for name in FUNCTIONS if "." not in name}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, over the strangest of them
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_thing_is_used_or_refused_in_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    """Thirty wrong types and more, for each parameter. Any other exception than ours fails."""
    monkeypatch.chdir(tmp_path)
    good = good_arguments(tmp_path)
    assert set(good) == set(FUNCTIONS)
    arguments = good[name]
    function = operator.attrgetter(name)(eo)
    # these would go on to start workers, and that needs PyTorch
    if name not in APPLICATIONS and not (name == "btc" and lacking()):
        function(**arguments)
    for parameter in parameters_of(name, arguments):
        for number, thing in enumerate(THINGS):
            said = "used."
            try:
                function(**{**arguments, parameter: thing()})
            except EoapError as fault:
                said = str(fault)
            except Exception as fault:
                raise AssertionError(f"{name}({parameter}=THINGS[{number}])") from fault
            assert re.fullmatch(r"[^\n]{1,800}[.…]", said), f"{name}({parameter}=THINGS[{number}]): {said}"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: eo.load([], ["red"], aoi=AOI), "There are no items. Expected one or more."),
        (lambda: eo.load(None, ["red"], aoi=AOI), "items must be an ItemSet, or STAC items as pystac has them, as "),
        (lambda: eo.load([{"id": "x"}], "red", aoi=AOI), "items must be an ItemSet, or STAC items as pystac has them,"),
        (lambda: eo.load([], None, aoi=AOI), "bands must be a list, got None. Try bands=['red']."),
        (lambda: eo.load([], {"red", "nir"}, aoi=AOI), "bands must be a list, got {'nir', 'red'}. Try bands=['red']."),
        (lambda: eo.load([], "red", aoi=AOI, clip="no"), "clip must be True or False, got 'no'."),
        (lambda: eo.load([], "red", aoi=AOI, chunks={"X": 5}),
         "chunks names 'X', which isn't a dimension. Expected time, y or x. Try chunks={'time': -1,"),
        (lambda: eo.load([], "red", aoi=AOI, chunks=512),
         "chunks must be sides by dimension, or 'auto', got 512. Try chunks={'y': 1024, 'x': 1024}."),
        (lambda: eo.load([], "red", aoi=AOI, chunks={"x": 0}),
         "chunks['x'] must be 1 or more, or -1, got 0. Try chunks['x']=1024."),
        (lambda: eo.load([], "red", aoi=AOI, resolution=(10, 20)),
         "resolution must be one number, or two of one size, got (10.0, 20.0). Pixels are squares."),
        (lambda: eo.load([], "red", geobox=xr.Dataset()), "geobox must be a GeoBox of odc-geo, got a Dataset. "),
        (lambda: eo.search(AOI, None, "2020-10-31"), "start must be a day, got None. Expected the form YYYY-MM-DD,"),
        (lambda: eo.search(AOI, "2020-10-01", pd.NaT), "end must be a day, got a NaTType."),
        (lambda: eo.search(AOI, np.datetime64("2020-10"), "2020-10-31"),
         "'2020-10' isn't a date. Expected the form YYYY-MM-DD. Add the day: try 2020-10-01."),
        (lambda: eo.search(AOI, "2020-10-01", "2020-10-31", max_items="many"),
         "max_items must be a whole number, got 'many'. Try max_items=1000."),
        (lambda: eo.search(AOI, "2020-10-01", "2020-10-31", max_items=2.5),
         "max_items must be a whole number, got 2.5. Try max_items=1000."),
        (lambda: eo.severity_classes("123456"), "thresholds must be six finite, rising numbers of dNBR, got '123456'."),
        (lambda: eo.MosaicParams(start_date=5), "start_date must be a day, got 5."),  # type: ignore[arg-type]
        (lambda: eo.MosaicParams(bands=5), "bands must be a list, got 5. Try bands=['nir', 'red', 'green']."),
        (lambda: eo.RunOptions(output_dir=5), "output_dir must be a path, got 5. Try output_dir='output'."),
        (lambda: eo.RunOptions(cluster_options=[5]), "cluster_options must hold pairs of a name and a value, got 5."),
        (lambda: eo.cloudless_mosaic({"aoi": AOI}), "params must be MosaicParams, got {'aoi': '15.0,41.54,15.02,41.5"),
        (lambda: eo.cloudless_mosaic(client="tcp://x"), "client must be a Client of dask.distributed, and not"),
        (lambda: eo.parse_aoi(b"1234"), "An area of interest can't be read from a value of type bytes."),
        (lambda: eo.composite(5), "cube must be a Dataset of xarray, got 5."),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_sentences(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(EoapError) as refused:
        call()
    said = str(refused.value)
    expected = sentence.replace("{'nir', 'red'}", "{'red', 'nir'}") if "{'red', 'nir'}" in said else sentence
    assert said.startswith(expected), said


def test_no_secret_of_a_wrong_value_is_shown() -> None:
    url = "https://example.com/items?sig=abcdefgh&se=2030"
    for wrong in (url, [url], {"stac": url}):
        with pytest.raises(EoapError) as refused:
            eo.RunOptions(workers=wrong)  # type: ignore[arg-type]
        assert "abcdefgh" not in str(refused.value)
