"""The public indices: values by hand, against xarray-spatial, lazy, the same for any chunks, refused where wrong."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import xrspatial
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import eoap_dask as eo
from eoap_dask.errors import GridError, GridMismatchError, UsageError
from eoap_dask.kernels.severity import KEY_BENSON
from eoap_dask.lazy import indices

NAN = np.nan
BOX = GeoBox.from_bbox((500000, 4500000, 500080, 4500060), "EPSG:32610", resolution=10)
OTHER_ZONE = GeoBox.from_bbox((500000, 4500000, 500080, 4500060), "EPSG:32611", resolution=10)

TWO = ("bai", "nbr", "dnbr", "rdnbr", "rbr", "ndvi", "ndwi", "mndwi", "ndmi", "savi")
NUMBER = dict.fromkeys(TWO, 2) | {"evi": 3, "severity": 1}


class ComputedError(Exception):
    """Something computed that shouldn't."""


def refuse(*args: Any, **kwargs: Any) -> None:
    raise ComputedError("something computed")


def function(name: str) -> Callable[..., xr.DataArray]:
    found: Callable[..., xr.DataArray] = getattr(eo, name)
    return found


def bands(number: int, shape: tuple[int, ...] = (6, 8), seed: int = 0) -> list[xr.DataArray]:
    """Reflectance with gaps and zeros, on `BOX` where the shape is its."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        values = rng.random(shape, np.float32)
        values[rng.random(shape) < 0.1] = NAN
        values[rng.random(shape) < 0.1] = 0
        dims = ("time", "y", "x")[-len(shape) :]
        found.append(xr.DataArray(values, coords=xr_coords(BOX) if shape == (6, 8) else None, dims=dims))
    return found


def pixel(*values: float) -> list[xr.DataArray]:
    return [xr.DataArray(np.float64(v)) for v in values]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("bai", (0.2, 0.36), 10.0),  # 1 / (0.1² + 0.3²)
        ("bai", (0.1, 0.06), 1e8),  # the floor of the denominator
        ("nbr", (0.3, 0.1), 0.5),  # 0.2 / 0.4
        ("dnbr", (0.5, -0.125), 0.625),
        ("rdnbr", (0.6, 0.25), 1.2),  # 0.6 / √0.25
        ("rdnbr", (0.6, 0.0005), NAN),
        ("rbr", (0.6, 0.499), 0.4),  # 0.6 / 1.5
        ("ndvi", (0.4, 0.1), 0.6),  # 0.3 / 0.5
        ("ndwi", (0.1, 0.3), -0.5),  # -0.2 / 0.4
        ("mndwi", (0.09, 0.01), 0.8),  # 0.08 / 0.1
        ("ndmi", (0.3, 0.2), 0.2),  # 0.1 / 0.5
        ("savi", (0.4, 0.1), 0.45),  # 0.3 / 1 × 1.5
        ("evi", (0.4, 0.1, 0.05), 0.4615385),  # 0.75 / 1.625
        ("nbr", (0.0, 0.0), NAN),
        ("ndvi", (0.4, NAN), NAN),
    ],
)
def test_by_hand(name: str, values: tuple[float, ...], expected: float) -> None:
    out = function(name)(*pixel(*values))
    assert out.dtype == np.float32
    assert float(out) == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert out.name == name
    assert out.attrs["units"] == "1"
    assert out.attrs["long_name"]


def test_bands_go_where_their_names_say() -> None:
    red, nir = pixel(0.1, 0.4)
    blue, swir = pixel(0.05, 0.2)
    assert float(eo.bai(nir=nir, red=red)) == float(eo.bai(red, nir))
    assert float(eo.ndvi(red=red, nir=nir)) == pytest.approx(0.6)
    assert float(eo.nbr(swir22=swir, nir=nir)) == pytest.approx(1 / 3)
    assert float(eo.evi(blue=blue, red=red, nir=nir)) == pytest.approx(0.4615385)
    assert float(eo.savi(nir, red, soil=1.0)) == pytest.approx(0.4)
    assert float(eo.dnbr(pre=nir, post=red)) == pytest.approx(0.3)
    assert float(eo.rbr(nbr_pre=red, dnbr=nir)) == pytest.approx(0.4 / 1.101)


def test_severity_names_its_classes() -> None:
    out = eo.severity(xr.DataArray([NAN, -0.3, 0.0, 0.1, 0.44, 0.7], dims="x"))
    assert out.values.tolist() == [0, 1, 3, 4, 6, 7]
    assert out.dtype == np.uint8
    meanings = out.attrs["flag_meanings"].split()
    assert dict(zip(out.attrs["flag_values"].tolist(), meanings, strict=True))[6] == "moderate-high"
    assert meanings[0] == "no-data"
    changed = eo.severity(xr.DataArray([0.15], dims="x"), thresholds=(-0.3, -0.2, 0.2, 0.3, 0.5, 0.7))
    assert changed.values.tolist() == [3]
    assert [c.lower for c in eo.severity_classes()][1:] == list(KEY_BENSON)
    with pytest.raises(UsageError, match="thresholds must be six finite, rising numbers of dNBR, got"):
        eo.severity(xr.DataArray([0.15], dims="x"), thresholds=(0.1, 0.2))
    with pytest.raises(UsageError, match="thresholds must be six finite, rising numbers of dNBR, got"):
        eo.severity_classes(("low",))  # type: ignore[arg-type]


# Against xarray-spatial.


@pytest.mark.parametrize(
    ("ours", "theirs", "number"),
    [("ndvi", "ndvi", 2), ("nbr", "nbr", 2), ("ndmi", "ndmi", 2), ("evi", "evi", 3)],
)
def test_xarray_spatial_agrees(ours: str, theirs: str, number: int) -> None:
    inputs = bands(number)
    expected = getattr(xrspatial.multispectral, theirs)(*inputs)
    found = function(ours)(*inputs)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    assert np.isfinite(found).sum() > 20


def test_xarray_spatial_agrees_on_savi_without_soil() -> None:
    # with soil, its release 0.5 divides by 1 + soil, where Huete (1988) multiplies
    nir, red = bands(2)
    expected = xrspatial.multispectral.savi(nir, red, soil_factor=0.0)
    np.testing.assert_allclose(eo.savi(nir, red, soil=0.0), expected, rtol=2e-5, atol=1e-6)


# Any dims, any chunks, nothing computed.


@pytest.mark.parametrize("name", NUMBER)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_chunks_make_no_difference(name: str, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(7,), (6, 8), (3, 5, 4), (1, 1, 1)]))
    inputs = bands(NUMBER[name], shape, seed=data.draw(st.integers(0, 99)))
    whole = function(name)(*inputs)
    lazy = [
        array.chunk({dim: data.draw(st.integers(1, size)) for dim, size in array.sizes.items()})
        if number == 0 or data.draw(st.booleans())
        else array  # some may be in memory
        for number, array in enumerate(inputs)
    ]
    out = function(name)(*lazy)
    assert out.chunks is not None
    assert out.dtype == whole.dtype
    xr.testing.assert_identical(out.compute(), whole)


@pytest.mark.parametrize("name", NUMBER)
def test_nothing_computes(name: str) -> None:
    inputs = [array.chunk(y=3, x=4) for array in bands(NUMBER[name])]
    with dask.config.set(scheduler=refuse):
        out = function(name)(*inputs)
        assert repr(out)
        assert out._repr_html_()
        assert out.odc.geobox == BOX
        assert out.chunks == ((3, 3), (4, 4))
        with pytest.raises(ComputedError):  # so the refusal works
            out.compute()


def test_a_chain_is_one_task_per_function_and_chunk_and_fuses() -> None:
    inputs = [array.chunk(y=3, x=4) for array in bands(4)]
    with dask.config.set(scheduler=refuse):
        nir, swir, nir_after, swir_after = inputs
        before = eo.nbr(nir, swir)
        change = eo.dnbr(before, eo.nbr(nir_after, swir_after))
        out = xr.Dataset({"rdnbr": eo.rdnbr(change, before), "rbr": eo.rbr(change, before), "s": eo.severity(change)})
    sources = set().union(*(dict(array.__dask_graph__()) for array in inputs))
    assert len(set(dict(out.__dask_graph__())) - sources) == 4 * 6  # 4 chunks; nbr twice, and four more
    (fused,) = dask.optimize(out["s"])
    assert len(set(dict(fused.__dask_graph__())) - sources) == 4
    with dask.config.set(scheduler="synchronous"):
        whole = eo.severity(eo.dnbr(eo.nbr(*bands(4)[:2]), eo.nbr(*bands(4)[2:])))
        xr.testing.assert_identical(out["s"].compute(), whole.rename("s"))


def test_the_inputs_are_left_alone() -> None:
    for name, number in NUMBER.items():
        inputs = bands(number)
        kept = [a.copy(deep=True) for a in inputs]
        function(name)(*inputs)
        for before, after in zip(kept, inputs, strict=True):
            xr.testing.assert_identical(before, after)


def test_one_scene_before_goes_with_a_series_after() -> None:
    (before,) = bands(1)
    series = xr.concat(bands(3), "time").assign_coords(time=np.array(["2021-08", "2021-09", "2021-10"], "M8[ns]"))
    out = eo.dnbr(before.assign_coords(time=np.datetime64("2021-07", "ns")), series)
    assert set(out.dims) == {"time", "y", "x"}
    for step in range(3):
        found = out.isel(time=step, drop=True).transpose("y", "x")
        np.testing.assert_array_equal(found, eo.dnbr(before, series.isel(time=step, drop=True)))


def test_scenes_of_two_times_combine_once_their_time_is_gone() -> None:
    first, second = (
        a.expand_dims(time=np.array([day], "M8[ns]"))
        for a, day in zip(bands(2), ("2021-07-13", "2021-08-12"), strict=True)
    )
    with pytest.raises(GridMismatchError, match=r"2021-07-13.*2021-08-12.*isel\(time=0\)"):
        eo.dnbr(first, second)
    assert eo.dnbr(first.isel(time=0), second.isel(time=0)).shape == (6, 8)


# One grid, or refused.


def test_other_pixels_are_refused() -> None:
    a, b = bands(2)
    with pytest.raises(GridMismatchError, match="8 and 7 values along x"):
        eo.nbr(a, b.isel(x=slice(7)))
    with pytest.raises(GridMismatchError, match="on y"):
        eo.nbr(a, b.assign_coords(y=b.y + 10))
    with pytest.raises(GridMismatchError, match="on x"):
        eo.nbr(a, b.assign_coords(x=b.x + 0.1))  # a hundredth of a pixel
    with pytest.raises(GridMismatchError, match="EPSG:32610 and EPSG:32611"):
        eo.nbr(a, b.assign_coords(xr_coords(OTHER_ZONE)))
    with pytest.raises(GridMismatchError):
        eo.evi(a, a, b.assign_coords(x=b.x + 10))
    assert issubclass(GridMismatchError, GridError)
    assert GridMismatchError("").exit_code == 2


def test_the_last_digit_of_a_coordinate_is_no_other_grid() -> None:
    a, b = bands(2)
    near = b.assign_coords(x=b.x + 1e-6, y=b.y - 1e-6)
    xr.testing.assert_identical(eo.nbr(a, near), eo.nbr(a, b))


def test_arrays_without_coordinates_go_by_their_size() -> None:
    a, b = bands(2)
    bare = b.drop_vars(list(b.coords))
    np.testing.assert_array_equal(eo.nbr(a, bare), eo.nbr(a, b))
    assert eo.nbr(a, bare).odc.geobox == BOX


# Whole numbers have an unknown past.


@pytest.mark.parametrize("name", NUMBER)
def test_whole_numbers_are_refused(name: str) -> None:
    inputs = bands(NUMBER[name])
    for place in range(len(inputs)):
        stored = [*inputs]
        stored[place] = (inputs[place].fillna(0) * 10000).astype(np.uint16)
        with pytest.raises(UsageError, match=r"has the dtype uint16\. Expected reflectance in \[0, 1\]"):
            function(name)(*stored)


def test_what_is_no_data_array_is_refused() -> None:
    with pytest.raises(UsageError, match="ndarray"):
        eo.nbr(np.zeros(3, np.float32), np.zeros(3, np.float32))  # type: ignore[arg-type]


def test_the_examples_run() -> None:
    assert doctest.testmod(indices).attempted >= 5
    assert doctest.testmod(indices).failed == 0
