from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geosynth.config import BandSettings
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.pixels import (
    NDVI_STEP,
    NDVI_VALUES,
    Distributions,
    _Draws,
    _pooled,
    count_ndvi,
    count_values,
    moments,
    quantiles,
    ratio,
    wasserstein,
)
from geosynth.evaluation.tiles import Block, Tile
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE

DN_VALUES = np.arange(256.0)
samples = hnp.arrays(np.uint8, st.integers(1, 60))


def histogram(values: np.ndarray) -> np.ndarray:
    return count_values(values, np.zeros(values.shape, np.uint8), 1, 256)[0]


@given(values=hnp.arrays(np.uint8, (3, 7)), indices=hnp.arrays(np.uint8, (3, 7), elements=st.integers(0, 5)))
@settings(max_examples=30)
def test_counts_are_those_of_a_loop(values: np.ndarray, indices: np.ndarray) -> None:
    expected = np.zeros((4, 256), dtype=int)
    for value, index in zip(values.ravel(), indices.ravel(), strict=True):
        if index < 4:
            expected[index, value] += 1
    assert np.array_equal(count_values(values, indices, 4, 256), expected)


@given(values=samples)
@settings(max_examples=30)
def test_moments_and_quantiles_are_those_of_the_pixels(values: np.ndarray) -> None:
    mean, variance = moments(histogram(values), DN_VALUES)
    assert mean == pytest.approx(values.mean())
    assert variance == pytest.approx(values.var(), abs=1e-9)
    found = quantiles(histogram(values), DN_VALUES, (0.05, 0.5, 0.95))
    assert found.tolist() == np.quantile(values, [0.05, 0.5, 0.95], method="inverted_cdf").tolist()


@given(first=samples, second=samples)
@settings(max_examples=50)
def test_wasserstein_is_the_distance_of_sorted_samples(first: np.ndarray, second: np.ndarray) -> None:
    # repeated up to a common length, the optimal transport in one dimension pairs sorted samples
    length = np.lcm(len(first), len(second))
    pairs = (np.sort(np.repeat(sample.astype(float), length // len(sample))) for sample in (first, second))
    expected = np.abs(np.subtract(*pairs)).mean()
    assert wasserstein(histogram(first), histogram(second)) == pytest.approx(expected, abs=1e-9)


def test_a_shifted_distribution_is_as_far_as_the_shift() -> None:
    values = np.random.default_rng(0).integers(0, 200, 1000).astype(np.uint8)
    assert wasserstein(histogram(values), histogram(values + 17)) == pytest.approx(17)
    assert wasserstein(histogram(values), histogram(values)) == 0


def test_empty_histograms_have_no_statistics() -> None:
    empty = np.zeros(256, dtype=int)
    assert np.isnan(moments(empty, DN_VALUES)).all()
    assert np.isnan(quantiles(empty, DN_VALUES, (0.5,))).all()
    assert np.isnan(wasserstein(empty, histogram(np.ones(3, np.uint8))))


def test_ndvi_is_that_of_the_pixels_to_half_a_step() -> None:
    rng = np.random.default_rng(1)
    red, nir = rng.integers(0, 256, (2, 50, 50)).astype(np.uint8)
    red[0, :5] = nir[0, :5] = 0  # undefined
    red[1, :5], nir[1, :5] = 0, 9  # exactly 1
    red[2, :5], nir[2, :5] = 1, 0
    counts = count_ndvi(red, nir, np.zeros_like(red), 1)[0]
    defined = (red.astype(int) + nir) > 0
    ndvi = (nir.astype(float) - red)[defined] / (nir.astype(float) + red)[defined]
    assert counts.sum() == defined.sum()
    assert counts[-1] == (ndvi > 1 - NDVI_STEP / 2).sum()
    restored = np.repeat(NDVI_VALUES, counts)
    assert np.abs(np.sort(restored) - np.sort(ndvi)).max() <= NDVI_STEP / 2 + 1e-6


@given(counts=hnp.arrays(np.int64, (3, 2, 9), elements=st.integers(0, 5)))
@settings(max_examples=30)
def test_many_histograms_are_as_one_by_one(counts: np.ndarray) -> None:
    """Draws of places come as an array of histograms."""
    values = np.arange(9.0)
    for which in np.ndindex(3, 2):
        for many, one in (
            (quantiles(counts, values, (0.1, 0.5)), quantiles(counts[which], values, (0.1, 0.5))),
            (wasserstein(counts, counts[::-1], 0.5), wasserstein(counts[which], counts[::-1][which], 0.5)),
            (np.stack(moments(counts, values), axis=-1), np.stack(moments(counts[which], values))),
        ):
            np.testing.assert_allclose(many[which], one)


def test_ratios_that_are_not_defined_are_no_number_and_no_warning() -> None:
    with np.errstate(all="raise"):
        found = ratio([1, 0, 3, np.nan], [0, 0, 2, 1])
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.5, np.nan])
    assert ratio(np.float32(1), np.float32(3)) == np.float64(np.float32(1)) / np.float64(np.float32(3))


def test_classes_that_a_draw_lacks_do_not_count() -> None:
    """Means by pixels, draw by draw; a class without pixels has no distance, but a weight of zero."""
    nan = np.nan
    first = _Draws(np.array([4.0, 0.0, 0.0]), np.array([1.0, nan, nan]), np.array([2.0, nan, nan]), np.full(3, 8.0))
    second = _Draws(np.array([2.0, 1.0, 0.0]), np.array([4.0, 5.0, nan]), np.array([5.0, 7.0, nan]), np.full(3, 2.0))
    pooled = _pooled([first, second])
    np.testing.assert_array_equal(pooled.pixels, [6, 1, 0])
    np.testing.assert_array_equal(pooled.distance, [2, 5, nan])
    np.testing.assert_array_equal(pooled.real_variance, [3, 7, nan])
    np.testing.assert_array_equal(pooled.synthetic_variance, [6, 2, nan])
    assert np.isnan(_pooled([]).distance).all()


def test_distances_and_ratios_are_not_below_zero_however_uncertain() -> None:
    """One place of nine is far off: its draws say more than the sample."""
    rng = np.random.default_rng(0)
    tiles = []
    for place in range(9):
        real = rng.integers(100, 104, (2, 16, 16)).astype(np.uint8)
        synthetic = real if place else rng.choice(np.array([0, 255], np.uint8), (2, 16, 16))
        tiles.append(Tile(place, Window(0, 16 * place, 16, 16), place, Block(real, synthetic, np.zeros((16, 16), int))))
    pair: Any = SimpleNamespace(num_places=9, bands=("Red", "NIR"), quantities=(), legend=CHESAPEAKE)
    seen = Distributions(pair, Levels(BandSettings(names=pair.bands)))
    seen.add(tiles)
    classes, headline = seen.result(seed=1)
    (only,) = classes
    assert (only.name, only.pixels, only.share) == (CHESAPEAKE.classes[0].name, 9 * 256, 1)
    assert only.ndvi is not None
    compared = [*only.bands, only.ndvi]
    assert [one.quantity for one in compared] == ["Red", "NIR", "ndvi"]
    for estimate in [
        *(one.wasserstein for one in compared),
        *(one.variance_ratio for one in compared),
        headline.wasserstein,
        headline.variance_ratio,
        headline.ndvi_wasserstein,
    ]:
        assert (estimate.low, estimate.n) == (0, 9)
        assert 0 < estimate.value < estimate.high
