"""Indices against values worked by hand, and against float64; stored pixels and reflectance give the same bits."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eoap_dask.kernels import indices

PIECE = 1 << 15
"""Pixels that a kernel takes at once; sizes around it are the risky ones."""

Floats = np.ndarray[Any, np.dtype[np.float32]]
NAN = float("nan")

FORMULAS: dict[str, tuple[int, Callable[..., Any]]] = {
    "bai": (2, lambda red, nir: 1 / np.maximum((0.1 - red) ** 2 + (0.06 - nir) ** 2, 1e-8)),
    "nbr": (2, lambda a, b: (a - b) / (a + b)),
    "dnbr": (2, lambda a, b: a - b),
    "rdnbr": (2, lambda d, pre: d / np.sqrt(np.where(np.abs(pre) < np.float32(0.001), NAN, np.abs(pre)))),
    "rbr": (2, lambda d, pre: d / (pre + 1.001)),
    "ndvi": (2, lambda a, b: (a - b) / (a + b)),
    "ndwi": (2, lambda a, b: (a - b) / (a + b)),
    "mndwi": (2, lambda a, b: (a - b) / (a + b)),
    "ndmi": (2, lambda a, b: (a - b) / (a + b)),
    "savi": (2, lambda nir, red: (nir - red) / (nir + red + 0.5) * 1.5),
    "evi": (3, lambda nir, red, blue: 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)),
}


def kernel(name: str) -> Callable[..., Floats]:
    found: Callable[..., Floats] = getattr(indices, name)
    return found


def one(name: str, *values: float, **keywords: Any) -> float:
    """A kernel's value for one pixel; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = kernel(name)(*(np.array([v], np.float32) for v in values), **keywords)
    assert out.dtype == np.float32
    return float(out[0])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("bai", (0.2, 0.36), 10.0),  # 1 / (0.1² + 0.3²) = 1 / 0.1
        ("bai", (0.05, 0.08), 344.8276),  # 1 / (0.05² + 0.02²) = 1 / 0.0029
        ("bai", (0.0, 0.06), 100.0),  # 1 / 0.1²
        ("bai", (0.1, 0.06), 1e8),  # on charcoal itself: 1 / 0 is taken for 1 / 1e-8
        ("nbr", (0.3, 0.1), 0.5),  # 0.2 / 0.4
        ("nbr", (0.1, 0.3), -0.5),
        ("nbr", (0.2, 0.0), 1.0),
        ("dnbr", (0.5, -0.125), 0.625),
        ("rdnbr", (0.6, 0.25), 1.2),  # 0.6 / 0.5
        ("rdnbr", (0.1, -0.16), 0.25),  # 0.1 / √|-0.16| = 0.1 / 0.4
        ("rdnbr", (0.1, 0.001), 3.162278),  # 0.1 / 0.0316228: the floor itself still divides
        ("rdnbr", (0.1, 0.00099), NAN),
        ("rdnbr", (0.1, -0.00099), NAN),
        ("rdnbr", (0.0, 0.0), NAN),
        ("rbr", (0.6, 0.499), 0.4),  # 0.6 / 1.5
        ("rbr", (-0.3, -0.401), -0.5),  # -0.3 / 0.6
        ("rbr", (0.001, -1.0), 1.0),  # 0.001 / 0.001: the smallest divisor there is
        ("ndvi", (0.4, 0.1), 0.6),  # 0.3 / 0.5
        ("ndwi", (0.1, 0.3), -0.5),  # -0.2 / 0.4
        ("mndwi", (0.09, 0.01), 0.8),  # 0.08 / 0.1
        ("ndmi", (0.3, 0.2), 0.2),  # 0.1 / 0.5
        ("savi", (0.4, 0.1), 0.45),  # 0.3 / (0.5 + 0.5) × 1.5
        ("evi", (0.4, 0.1, 0.05), 0.4615385),  # 2.5 × 0.3 / (0.4 + 0.6 - 0.375 + 1) = 0.75 / 1.625
    ],
)
def test_by_hand(name: str, values: tuple[float, ...], expected: float) -> None:
    # to the rounding of float32, which rbr at its smallest divisor multiplies by a thousand
    assert one(name, *values) == pytest.approx(expected, rel=1e-4 if values[-1] == -1.0 else 2e-6, nan_ok=True)


def test_savi_has_its_soil() -> None:
    assert one("savi", 0.4, 0.1, soil=1.0) == pytest.approx(0.4)  # 0.3 / 1.5 × 2
    assert one("savi", 0.4, 0.1, soil=0.0) == pytest.approx(0.6)  # NDVI


@pytest.mark.parametrize("name", ["nbr", "ndvi", "ndwi", "mndwi", "ndmi"])
def test_nothing_over_nothing_is_missing(name: str) -> None:
    assert np.isnan(one(name, 0.0, 0.0))
    assert np.isnan(one(name, 0.25, -0.25))  # no infinity either


def test_a_denominator_of_zero_is_missing_in_the_others_too() -> None:
    assert np.isnan(one("evi", 0.5, 0.0, 0.2))  # 0.5 + 0 - 1.5 + 1
    assert np.isnan(one("savi", -0.25, -0.25))
    assert np.isnan(one("savi", 0.25, -0.75))


@pytest.mark.parametrize("name", FORMULAS)
def test_missing_stays_missing(name: str) -> None:
    number = FORMULAS[name][0]
    for missing in range(number):
        values = [0.3, 0.2, 0.1][:number]
        assert not np.isnan(one(name, *values))
        values[missing] = NAN
        assert np.isnan(one(name, *values))


@pytest.mark.parametrize("name", FORMULAS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_formula_in_float64_agrees(name: str, data: st.DataObject) -> None:
    number, formula = FORMULAS[name]
    change = name in ("dnbr", "rdnbr", "rbr")
    low, high = (-1.0, 1.0) if change else (0.0, 1.25)
    some = st.floats(low, high, width=32).filter(lambda v: v == 0 or abs(v) > 1e-4) | st.just(NAN)
    inputs = [data.draw(hnp.arrays(np.float32, (3, 4), elements=some)) for _ in range(number)]
    kept = [a.copy() for a in inputs]
    found = kernel(name)(*inputs)
    with np.errstate(all="ignore"):
        expected = formula(*(a.astype(np.float64) for a in inputs))
    sure = np.ones(found.shape, bool)
    if name == "evi":  # where its denominator is near zero, any number can come out
        sure = np.abs(inputs[0] + 6 * inputs[1] - 7.5 * inputs[2] + 1) > 0.05
        expected = np.where(np.isnan(inputs[0] + inputs[1] + inputs[2]), NAN, expected)
    if name == "bai":  # and where that of BAI is: the difference of two nearly equal numbers
        sure = (expected < 1e4) | np.isnan(expected)
    np.testing.assert_allclose(found[sure], expected[sure], rtol=2e-3 if name == "rbr" else 1e-4, atol=1e-6)
    for before, after in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(before, after)  # the inputs were left alone


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5])
def test_every_way_of_cutting_gives_the_same_bits(name: str, size: int) -> None:
    rng = np.random.default_rng(size)
    number = FORMULAS[name][0]
    inputs = [rng.random(size, np.float32) for _ in range(number)]
    for array in inputs:
        array[rng.random(size) < 0.1] = NAN
        array[rng.random(size) < 0.1] = 0
    whole = kernel(name)(*inputs)
    cuts = sorted(rng.integers(0, size + 1, 3).tolist())
    parts = [kernel(name)(*part) for part in zip(*(np.split(a, cuts) for a in inputs), strict=True)]
    np.testing.assert_array_equal(np.concatenate(parts), whole, strict=True)
    turned = kernel(name)(*(np.broadcast_to(a[:, None], (size, 2)).T for a in inputs))  # not contiguous
    np.testing.assert_array_equal(turned, np.stack([whole, whole]), strict=True)
    for place in range(number):  # in place of any of the inputs
        again = [a.copy() for a in inputs]
        assert kernel(name)(*again, out=again[place]) is again[place]
        np.testing.assert_array_equal(again[place], whole)


def test_memory_beside_the_result_is_small() -> None:
    inputs = np.random.default_rng(1).random((2, 1 << 22), np.float32)
    out = np.empty(1 << 22, np.float32)  # 16 MB
    for kernel_of in (indices.bai, indices.nbr):
        tracemalloc.start()
        kernel_of(*inputs, out=out)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_what_kernels_refuse() -> None:
    good = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="float64"):
        indices.nbr(good.astype(np.float64), good.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        indices.nbr(good, good[:1])
    with pytest.raises(ValueError, match="one shape"):
        indices.nbr(good, good.astype(np.uint16))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        indices.nbr(good, good, out=np.zeros((3, 2), np.float32).T)
    with pytest.raises(ValueError, match="out must be"):
        indices.nbr(good, good, out=np.zeros((2, 3)))  # type: ignore[arg-type]
