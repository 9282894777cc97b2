"""Severity classes against the table of the field manual."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eoap_dask.kernels.severity import KEY_BENSON, severity, severity_classes


def classify(*values: float) -> list[int]:
    found: list[int] = severity(np.array(values, np.float32)).tolist()
    return found


def test_the_table_of_the_manual() -> None:
    """FIREMON's table, in dNBR × 1000: first and last whole number of each class."""
    printed = [(-500, -251), (-250, -101), (-100, 99), (100, 269), (270, 439), (440, 659), (660, 1300)]
    for value, edges in enumerate(printed, start=1):
        assert classify(*(edge / 1000 for edge in edges)) == [value, value]
    names = [c.name for c in severity_classes()]
    assert names == [
        "enhanced-regrowth-high", "enhanced-regrowth-low", "unburned", "low", "moderate-low", "moderate-high", "high",
    ]  # fmt: skip


def test_a_threshold_belongs_to_the_class_above() -> None:
    edges = np.array(KEY_BENSON, np.float32)
    assert severity(edges).tolist() == [2, 3, 4, 5, 6, 7]
    assert severity(np.nextafter(edges, np.float32(-2))).tolist() == [1, 2, 3, 4, 5, 6]


def test_what_is_missing_is_no_class_and_nothing_else_is() -> None:
    assert classify(float("nan"), -2, 2, float("-inf"), float("inf")) == [0, 1, 7, 1, 7]


def test_other_thresholds() -> None:
    mine = (-0.3, -0.2, 0.2, 0.3, 0.5, 0.7)
    assert severity(np.array([0.15, 0.25, 0.66], np.float32), mine).tolist() == [3, 4, 6]
    low = severity_classes(mine)[3]
    assert (low.name, low.lower, low.upper, low.burned) == ("low", 0.2, 0.3, True)


@pytest.mark.parametrize("bad", [(), (1.0,), KEY_BENSON[::-1], (-0.25, -0.1, 0.1, 0.1, 0.44, 0.66), (*KEY_BENSON, 1.0)])
def test_bad_thresholds_are_refused(bad: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising"):
        severity(np.zeros(1, np.float32), bad)
    with pytest.raises(ValueError, match="rising"):
        severity_classes(bad)
    with pytest.raises(ValueError, match="rising"):
        severity_classes((*KEY_BENSON[:5], float("nan")))


def test_classes_describe_themselves() -> None:
    classes = severity_classes()
    assert [c.value for c in classes] == list(range(1, 8))
    assert [c.burned for c in classes] == [False] * 3 + [True] * 4
    assert len({c.colour for c in classes}) == 7
    assert classes[0].range_text == "below -0.25"
    assert classes[4].range_text == "0.27 to 0.44"
    assert classes[-1].range_text == "from 0.66"
    assert classes[-1].hex_colour == "A41FD6"
    for this, following in itertools.pairwise(classes):
        assert this.upper == following.lower
    with pytest.raises(AttributeError):
        classes[0].lower = 1.0  # type: ignore[misc]


@settings(deadline=None)
@given(
    dnbr=hnp.arrays(np.float32, (4, 5), elements=st.floats(-2, 2, width=32) | st.just(float("nan"))),
    edges=st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6, unique=True).map(sorted),
)
def test_pixels_lie_in_the_range_of_their_class(dnbr: Any, edges: list[float]) -> None:
    found = severity(dnbr, edges)
    assert found.dtype == np.uint8
    table = severity_classes(edges)
    for value, at in zip(found.ravel(), dnbr.ravel(), strict=True):
        if np.isnan(at):
            assert value == 0
        else:
            assert table[value - 1].lower <= at < table[value - 1].upper


def test_pieces_and_places_make_no_difference() -> None:
    dnbr = np.random.default_rng(2).normal(0.2, 0.4, (3, (1 << 16) + 7)).astype(np.float32)
    whole = severity(dnbr)
    np.testing.assert_array_equal(np.stack([severity(row) for row in dnbr]), whole)
    np.testing.assert_array_equal(severity(dnbr.T), whole.T)
    out = np.full(dnbr.shape, 9, np.uint8)
    assert severity(dnbr, out=out) is out
    np.testing.assert_array_equal(out, whole)
    with pytest.raises(ValueError, match="out must be"):
        severity(dnbr, out=out[:, ::2])
    with pytest.raises(ValueError, match="float32"):
        severity(dnbr.astype(np.float64))  # type: ignore[arg-type]
