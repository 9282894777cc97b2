"""Expressions of bands: what they come to, in float32, and that nothing but arithmetic is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eoap_dask.errors import UsageError
from eoap_dask.kernels.expressions import parse_expression
from eoap_dask.kernels.indices import INDICES

F32 = np.float32


def bands(**values: list[float]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.array(one, F32) for name, one in values.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a-b)/(a+b)", [0.5, np.nan, np.nan, -1.0]),
        ("a/b", [3.0, np.nan, np.nan, 0.0]),
        ("-a + 2*b", [-0.1, 0.0, np.nan, 0.4]),
        ("a**2", [0.09, 0.0, np.nan, 0.0]),
        ("sqrt(a) - abs(0 - b)", [0.3**0.5 - 0.1, 0.0, np.nan, -0.2]),
        ("a*0", [0.0, 0.0, np.nan, 0.0]),
        ("1.5 + 0*a", [1.5, 1.5, np.nan, 1.5]),
        ("sqrt(0-b)", [np.nan, 0.0, np.nan, np.nan]),
    ],
)
def test_what_expressions_come_to(text: str, expected: list[float]) -> None:
    found = parse_expression(text, "--index")(bands(a=[0.3, 0.0, np.nan, 0.0], b=[0.1, 0.0, 0.1, 0.2]))
    assert found.dtype == F32
    np.testing.assert_allclose(found, np.array(expected, F32), rtol=1e-6, atol=1e-7)


def test_names_are_told_in_order_and_the_text_as_python_writes_it() -> None:
    found = parse_expression(" (nir-B8A)/(nir + 2*red) ", "--index")
    assert found.bands == ("nir", "B8A", "red")
    assert found.text == "(nir - B8A) / (nir + 2 * red)"


@pytest.mark.parametrize(
    "text",
    ["", "1", "1+2", "nir-", "nir red", "nir; red", "import os", "__import__('os')", "nir.real", "nir[0]", "f(nir)",
     "sqrt(nir, red)", "sqrt(x=nir)", "nir if red else 0", "nir > red", "nir and red", "nir // red", "nir % red",
     "nir @ red", "'nir'", "nir + 'x'", "nir + True", "lambda: nir", "[nir]", "nir**red", "nir**-1", "nir**999",
     "nir + 1e39", "nir + " + "1" * 450, "nir**1.5", "nir**9",
     "nir + 1j", "nir := 3", "(" * 300 + "nir" + ")" * 300, "-" * 100 + "nir", "nir+" * 200 + "nir"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--index .* is no expression of bands"):
        parse_expression(text, "--index")


@pytest.mark.parametrize("name", INDICES)
def test_formulas_are_what_kernels_compute(name: str) -> None:
    index = INDICES[name]
    random = np.random.default_rng(1)
    values = {band: random.uniform(0.01, 0.6, 500).astype(F32) for band in index.bands}
    expression = parse_expression(index.formula, "--index")
    assert set(expression.bands) == set(index.bands)
    np.testing.assert_allclose(index.kernel(*values.values()), expression(values), rtol=2e-4)
