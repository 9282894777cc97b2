"""CVA and IR-MAD, apart from images on disk: what must hold of either, and against the same by other means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import chi2

from eoap_dask.applications.change_detection.methods import Cva, IrMad, Method
from eoap_dask.kernels import change

METHODS = {"cva": Cva, "irmad": IrMad}

seeds = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=12)


def scene(seed: int, size: int = 120, bands: int = 6, noise: float = 60.0) -> tuple[Any, Any, Any]:
    """Two dates of a landscape, and where it changed: a square of another cover."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(size=(bands, size, size)), (0, 3, 3)) * 4000 + 3000
    gain = rng.uniform(0.9, 1.1, (bands, 1, 1))
    before = ground + rng.normal(scale=noise, size=ground.shape)
    after = ground * gain + rng.uniform(-100, 100, (bands, 1, 1)) + rng.normal(scale=noise, size=ground.shape)
    changed = np.zeros((size, size), bool)
    changed[30:50, 60:75] = True
    after[:, changed] += rng.choice([-1, 1], (bands, 1)) * rng.uniform(900, 1500, (bands, 1))
    return (*(one.clip(1, 20000).round().astype(np.uint16) for one in (before, after)), changed)


def unchanged(seed: int) -> tuple[Any, Any]:
    """Two dates of a landscape that differ by noise alone."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(size=(6, 128, 128)), (0, 3, 3)) * 4000 + 5000
    before, after = (np.round(ground + rng.normal(scale=60, size=ground.shape)).astype(np.uint16) for _ in range(2))
    return before, after


def settled(method: Method, before: Any, after: Any, rows: int = 16, cols: int = 512) -> Any:
    """Gather the statistics as the engine does: piece by piece, until they are done."""
    state, again = None, True
    while again:
        note = None
        for row in range(0, before.shape[1], rows):
            for col in range(0, before.shape[2], cols):
                part = slice(None), slice(row, row + rows), slice(col, col + cols)
                found = method.survey(before[part], after[part], state)
                note = found if note is None else method.merge(note, found)
        state, again = method.reduce(note, state)
    return state


def scored(method: Method, before: Any, after: Any, **how: int) -> tuple[Any, Any]:
    state = settled(method, before, after, **how)
    score = method.score(before, after, state)
    return score, score > method.threshold(state)


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(seed=seeds)
def test_identical_dates_have_no_change(name: str, seed: int) -> None:
    before, _, _ = scene(seed, 64)
    score, mask = scored(METHODS[name](), before, before.copy())
    assert not mask.any()
    assert np.nanmax(score) < 0.1


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(seed=seeds)
def test_a_changed_square_is_found(name: str, seed: int) -> None:
    before, after, changed = scene(seed)
    _, mask = scored(METHODS[name](), before, after)
    assert mask[changed].mean() > 0.9
    assert mask[~changed].mean() < 0.03


@FEW
@given(seed=seeds, shift=st.lists(st.integers(-300, 300), min_size=6, max_size=6))
def test_the_medians_take_out_what_is_added_to_a_band(seed: int, shift: list[int]) -> None:
    before, after, _ = scene(seed, 64)
    after = after.clip(400, 19000).astype(np.int32)
    first, _ = scored(Cva(), before, after)
    second, _ = scored(Cva(), before, after + np.array(shift)[:, None, None])
    np.testing.assert_allclose(second, first, rtol=1e-12)


@FEW
@given(seed=seeds)
def test_no_affine_radiometry_of_a_band_matters_to_irmad(seed: int) -> None:
    before, after, _ = scene(seed, 64)
    rng = np.random.default_rng(seed)
    gains, offsets = rng.uniform(0.2, 5, (2, 6, 1, 1)), rng.uniform(10, 3000, (2, 6, 1, 1))
    first, _ = scored(IrMad(), before, after)
    second, _ = scored(IrMad(), gains[0] * before + offsets[0], gains[1] * after + offsets[1])
    np.testing.assert_allclose(second, first, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(seed=seeds, order=st.permutations(range(6)))
def test_the_order_of_bands_does_not_matter(name: str, seed: int, order: list[int]) -> None:
    before, after, _ = scene(seed, 64)
    first, _ = scored(METHODS[name](), before, after)
    second, _ = scored(METHODS[name](), before[order], after[order])
    np.testing.assert_allclose(second, first, rtol=1e-6)


@FEW
@given(seed=seeds, rows=st.integers(3, 64), cols=st.integers(3, 64))
def test_cva_is_the_same_whatever_the_pieces(seed: int, rows: int, cols: int) -> None:
    before, after, _ = scene(seed, 48)
    before[:, :5, :7] = 0
    assert settled(Cva(), before, after, rows=rows, cols=cols) == settled(Cva(), before, after)


@FEW
@given(seed=seeds)
def test_cva_by_numpy_alone(seed: int) -> None:
    """Medians and MADs of all values at once; of pixels that one date doesn't see in one band, nothing counts."""
    before, after, _ = scene(seed, 64)
    rng = np.random.default_rng(seed)
    before[2, rng.random((64, 64)) < 0.1] = 0
    after[4, rng.random((64, 64)) < 0.1] = 0
    valid = (before > 0).all(axis=0) & (after > 0).all(axis=0)
    off = (after.astype(float) - before)[:, valid]
    middle = np.median(off, axis=1, keepdims=True)
    spread = 1.4826 * np.maximum(np.median(np.abs(off - middle), axis=1, keepdims=True), 20.0)
    score, _ = scored(Cva(), before, after)
    np.testing.assert_array_equal(np.isfinite(score), valid)
    np.testing.assert_allclose(score[valid], np.sqrt((((off - middle) / spread) ** 2).sum(axis=0)), rtol=1e-12)


def test_canonical_correlations_are_those_of_the_textbook() -> None:
    """The singular values of Σ11^-½ Σ12 Σ22^-½; each variate has variance 1, and only its partner goes with it."""
    before, after, _ = scene(7)
    columns = np.concatenate([before, after]).reshape(12, -1)
    found = change.canonical(change.moments(before, after, None), None)
    whole = np.cov(columns, bias=True)

    def root(matrix: Any) -> Any:
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values**-0.5) @ vectors.T

    expected = np.linalg.svd(root(whole[:6, :6]) @ whole[:6, 6:] @ root(whole[6:, 6:]), compute_uv=False)
    np.testing.assert_allclose(found.correlation, expected, atol=1e-5)
    first = found.before.T @ (columns[:6] - columns[:6].mean(axis=1, keepdims=True))
    last = found.after.T @ (columns[6:] - columns[6:].mean(axis=1, keepdims=True))
    np.testing.assert_allclose(np.cov(np.concatenate([first, last]), bias=True)[:6, :6], np.eye(6), atol=1e-4)
    np.testing.assert_allclose(np.cov(first, last, bias=True)[:6, 6:], np.diag(expected), atol=1e-4)


@FEW
@given(seed=seeds)
def test_noise_alone_passes_at_most_its_share(seed: int) -> None:
    """Normal noise and no change: IR-MAD lets one per cent through, and CVA no more, as its MADs are those of noise."""
    before, after = unchanged(seed)
    for name in METHODS:
        _, mask = scored(METHODS[name](), before, after)
        assert mask.mean() < 0.02, name


@pytest.mark.parametrize("bands", [1, 3, 6])
def test_what_weights_leave_of_a_variance(bands: int) -> None:
    """By drawing: noise that weighs as likely as it is."""
    drawn = (np.random.default_rng(bands).normal(size=(1_000_000, bands)) ** 2).sum(axis=1)
    weights = chi2(bands).sf(drawn)
    assert change.left_by_weights(bands) == pytest.approx((weights @ drawn) / weights.sum() / bands, rel=5e-3)


def test_thresholds() -> None:
    assert change.least_threshold(6) == pytest.approx(4.10, abs=0.005)
    assert change.least_threshold(3) == pytest.approx(np.sqrt(chi2(3).ppf(0.99)))
    counts = np.zeros(change.BINS, np.int64)
    counts[10:20], counts[300:310] = 1000, 50
    assert 20 / 32 <= change.otsu(counts, 16.0) <= 300 / 32


@FEW
@given(seed=seeds)
def test_a_missed_cloud_does_not_hide_what_has_changed(seed: int) -> None:
    """80 pixels of 16384 are a cloud, 400 have changed by 13 standard deviations of the noise."""
    before, after = unchanged(seed)
    after[:, 10:18, 10:20] += 9000
    after[:, 60:80, 60:80] += 800
    _, mask = scored(Cva(), before, after)
    assert mask[60:80, 60:80].all()


@pytest.mark.parametrize("name", METHODS)
def test_another_number_of_bands_is_refused(name: str) -> None:
    image = np.ones((3, 8, 8), np.uint16)
    with pytest.raises(ValueError, match="of 6 bands got an image of 3"):
        METHODS[name]().survey(image, image, None)
    assert METHODS[name](bands=3).survey(image, image, None) is not None


@pytest.mark.parametrize("name", METHODS)
def test_nothing_seen_is_nothing_scored(name: str) -> None:
    empty = np.zeros((6, 20, 20), np.uint16)
    method = METHODS[name]()
    state = settled(method, empty, empty)
    assert np.isnan(method.score(empty, empty, state)).all()
    assert method.facts(state) == {}


@FEW
@given(seed=seeds, least=st.integers(1, 9), row=st.integers(0, 20), col=st.integers(0, 20))
def test_a_sieve_looks_no_further_than_its_size(seed: int, least: int, row: int, col: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((64, 64)) < 0.3
    whole = change.sieve(mask, least)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    for number in range(1, count + 1):
        assert whole[labels == number].all() == ((labels == number).sum() >= least)
    window = slice(max(row - least, 0), row + 30 + least), slice(max(col - least, 0), col + 30 + least)
    part = change.sieve(mask[window], least)
    inside = slice(row - window[0].start, row - window[0].start + 30), slice(col - window[1].start, None)
    np.testing.assert_array_equal(part[inside][:, :30], whole[row : row + 30, col : col + 30])
