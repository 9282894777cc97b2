"""Score and mask of strips: those of the whole, however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eoap_dask.applications.change_detection.images import change_images
from eoap_dask.applications.change_detection.methods import Cva, IrMad, Method
from eoap_dask.applications.change_detection.science import CHANGED, NOTHING, Change, stored_score
from eoap_dask.kernels.change import sieve
from eoap_dask.render.identity import hash_of, identity_of
from eoap_dask.render.science import Strip

METHODS = {"cva": Cva, "irmad": IrMad}

SIZE = 48


def dates(seed: int) -> Any:
    """Layers of two dates, (band, date, y, x), with gaps, specks and a patch of change."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(2000, 4000, (3, 1, SIZE, SIZE))
    layers = (ground + rng.normal(0, 40, (3, 2, SIZE, SIZE))).astype(np.uint16)
    layers[:, 1][:, rng.random((SIZE, SIZE)) < 0.05] += 900
    layers[:, 1, 20:30, 12:30] += 1500
    layers[:, 0, :7, 30:] = 0
    layers[1, 1, 40:, 3] = 0
    return layers


def surveyed(method: Method, layers: Any) -> Any:
    state, again = None, True
    while again:
        state, again = method.reduce(method.survey(layers[:, 0], layers[:, 1], state), state)
    return state


def composed(science: Change, layers: Any, state: Any, window: tuple[slice, slice]) -> tuple[Any, Any]:
    """Compose a window, with the halo that the engine gives: what is around it, and nothing beyond the whole."""
    wide = np.pad(layers, ((0, 0), (0, 0), (science.halo,) * 2, (science.halo,) * 2))
    rows, cols = window
    part = wide[:, :, rows.start : rows.stop + 2 * science.halo, cols.start : cols.stop + 2 * science.halo]
    shape = 1, rows.stop - rows.start, cols.stop - cols.start
    out = np.full(shape, 9, np.uint16), np.full(shape, 9, np.uint8)
    science.compose(Strip(part, None, (0, 1), state=state), out)
    return out[0][0], out[1][0]


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10)
@given(seed=st.integers(0, 999), row=st.integers(1, SIZE - 1), col=st.integers(1, SIZE - 1), least=st.integers(1, 8))
def test_parts_are_those_of_the_whole(name: str, seed: int, row: int, col: int, least: int) -> None:
    layers, science = dates(seed), Change(METHODS[name](bands=3), least)
    state = surveyed(science.method, layers)
    score, mask = composed(science, layers, state, (slice(0, SIZE), slice(0, SIZE)))
    for rows in (slice(0, row), slice(row, SIZE)):
        for cols in (slice(0, col), slice(col, SIZE)):
            part = composed(science, layers, state, (rows, cols))
            np.testing.assert_array_equal(part[0], score[rows, cols])
            np.testing.assert_array_equal(part[1], mask[rows, cols])
    found = science.method.score(layers[:, 0], layers[:, 1], state)
    blind = (layers == 0).any(axis=(0, 1))
    np.testing.assert_array_equal(mask == NOTHING, blind)
    np.testing.assert_array_equal(score == 0, blind)
    expected = sieve(np.nan_to_num(found) > science.method.threshold(state), least)
    np.testing.assert_array_equal(mask == CHANGED, expected)
    assert expected[22:28, 14:28].all()
    assert science.note((score[None], mask[None]), 0, 0) == ((~blind).sum(), expected.sum())


def test_scores_as_they_are_stored() -> None:
    stored = stored_score(np.array([np.nan, 0.0, 0.004, 0.015, 4.1, 1e9]), 0.01)
    assert stored.tolist() == [0, 1, 1, 2, 410, 65535]
    assert stored.dtype == np.uint16


def test_images_say_what_they_are() -> None:
    score, mask = change_images(METHODS["cva"](), "mask")
    assert (score.nodata, score.bands[0].scale) == (0, 0.01)
    assert [one.name for one in mask.bands[0].classes] == ["nodata", "unchanged", "changed"]


def test_all_that_decides_pixels_is_in_the_identity() -> None:
    cva, mad = METHODS["cva"], METHODS["irmad"]
    kinds = [
        Change(cva(), 6),
        Change(cva(), 7),
        Change(cva(least_mad=30.0), 6),
        Change(cva(bands=3), 6),
        Change(mad(), 6),
        Change(mad(rounds=5), 6),
    ]
    assert len({hash_of(identity_of(one)) for one in kinds}) == len(kinds)
    assert kinds[0].versions() == {"cva": 1, "sieve": 1}
    assert kinds[0].halo == 6
