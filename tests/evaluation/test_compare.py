"""Distances, shares and their intervals for sets of tiles whose features are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from geosynth.estimate import Floats, draw_places, estimate_from_draws
from geosynth.evaluation.compare import compare_in_space
from geosynth.evaluation.distances import frechet_distance, kernel_distance, real_baseline
from geosynth.evaluation.extractors import Extractor
from geosynth.evaluation.features import Space, TileFeatures
from geosynth.evaluation.measures import FeatureComparison
from geosynth.evaluation.neighbours import compare_manifolds
from geosynth.grid import Window

DIMENSIONS = 3
_EXTRACTOR = SimpleNamespace(name="given", num_features=DIMENSIONS, embed=lambda images: images[:, 0, 0])
SPACE = Space("given", cast(Extractor, _EXTRACTOR), (0,), None)


def tiles_of(features: Floats, places: list[int]) -> TileFeatures:
    found = TileFeatures([SPACE])
    if places:
        found.add([Window(0, number, 1, 1) for number in range(len(places))], places, features[:, None, None])
    return found


def compared(real: TileFeatures, synthetic: TileFeatures, turned: TileFeatures | None = None) -> FeatureComparison:
    return compare_in_space(SPACE, "train", real, synthetic, in_training=False, turned=turned, seed=0)


def test_all_tiles_count_and_each_set_has_its_own_places() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(40, DIMENSIONS)), rng.normal(1.2, 1, size=(24, DIMENSIONS))
    found = compared(tiles_of(left, [*range(10)] * 4), tiles_of(right, [*range(5, 17)] * 2))
    assert (found.num_real, found.num_synthetic, found.num_places) == (40, 24, 12)
    manifolds = compare_manifolds(left, right)
    for estimate, value, num_places in (
        (found.frechet.estimate, frechet_distance(left, right), 10),  # the set with fewer places decides
        (found.kid.estimate, kernel_distance(left, right), 10),
        (found.precision, manifolds.precise.mean(), 12),
        (found.density, manifolds.densities.mean(), 12),
        (found.recall, manifolds.recalled.mean(), 10),
        (found.coverage, manifolds.covered.mean(), 10),
    ):
        assert estimate.value == pytest.approx(value)
        assert estimate.n == num_places
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    assert found.frechet.real.value is found.kid.real.value is None


def test_images_of_a_place_are_drawn_together_and_other_sets_apart() -> None:
    features, places = np.random.default_rng(1).normal(size=(24, DIMENSIONS)), [*range(12)] * 2
    same = tiles_of(features, places)
    together, apart = compared(same, same, turned=same), compared(same, same)
    assert (together.frechet.estimate.low, together.frechet.estimate.high) == pytest.approx((0, 0), abs=1e-6)
    assert (together.kid.estimate.low, together.kid.estimate.high) == pytest.approx((0, 0), abs=1e-9)
    assert apart.frechet.estimate.high > 0.1
    assert apart.frechet.estimate.low == 0
    assert apart.kid.estimate.low < -0.1 < 0.1 < apart.kid.estimate.high


def test_a_frechet_interval_is_that_of_tiles_repeated_as_their_places_are_drawn() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(120, DIMENSIONS)), rng.normal(0.5, 1, size=(30, DIMENSIONS))
    of_left, of_right = [*range(10)] * 12, [*range(20, 35)] * 2
    found = compared(tiles_of(left, of_left), tiles_of(right, of_right))
    draws = np.random.default_rng(0)
    weights = [draw_places(10, draws), draw_places(15, draws)]
    values = []
    for counts in zip(*weights, strict=True):
        times = np.concatenate(counts).astype(int)
        repeated = [
            np.array([tile for tile, place in zip(tiles, places, strict=True) for _ in range(times[number[place]])])
            for tiles, places, number in (
                (left, of_left, {place: place for place in range(10)}),
                (right, of_right, {place: place - 10 for place in range(20, 35)}),
            )
        ]
        values.append(frechet_distance(*repeated))
    expected = estimate_from_draws(values, 10, least=0)
    assert found.frechet.estimate.low == pytest.approx(expected.low)
    assert found.frechet.estimate.high == pytest.approx(expected.high)


def test_the_scale_is_the_mean_and_the_range_of_ten_halvings() -> None:
    rng = np.random.default_rng(4)
    places = [*range(12)] * 2
    real, synthetic, turned = (rng.normal(shift, 1, (24, DIMENSIONS)) for shift in (0, 1, 2))
    found = compared(*(tiles_of(features, places) for features in (real, synthetic, turned)))
    for distance, measured in ((frechet_distance, found.frechet), (kernel_distance, found.kid)):
        halves = real_baseline(real, synthetic, np.array(places), distance, draws=10, seed=0, turned=turned)
        assert measured.num_halves == halves.num_tiles == 12
        for estimate, values in (
            (measured.real, halves.real),
            (measured.across, halves.across),
            (measured.turned, halves.turned),
        ):
            assert estimate.value == pytest.approx(sum(values) / 10)
            assert (estimate.low, estimate.high) == pytest.approx((min(values), max(values)))


def test_few_tiles_are_noted() -> None:
    rng = np.random.default_rng(5)
    many, three, one = (tiles_of(rng.normal(size=(n, DIMENSIONS)), [*range(n)]) for n in (24, 3, 1))
    for found in (compared(many, three), compared(three, many)):
        assert (found.frechet.note or "").startswith("3 tiles span at most 2 of 3 directions")
        assert found.frechet.estimate.value is not None
        assert found.kid.note is None
    assert compared(many, many).frechet.note is None
    found = compared(many, one)
    assert "at least 2 are needed: the covariance" in (found.frechet.note or "")
    assert "at least 2 are needed: the kernel distance" in (found.kid.note or "")
    assert found.frechet.estimate.value is found.kid.estimate.value is None


def test_intervals_of_shares_stay_between_none_and_all() -> None:
    """The tiles of one place coincide in both sets, those of seven other places are far away in either."""
    rng = np.random.default_rng(2)
    common, real, synthetic = rng.normal(size=(6, 3)), rng.normal(1e3, 1, (7, 3)), rng.normal(-1e3, 1, (7, 3))
    places = [0] * 6 + [*range(1, 8)]
    found = compared(*(tiles_of(np.concatenate([common, others]), places) for others in (real, synthetic)))
    for share in (found.precision, found.recall, found.coverage):
        assert share.value == pytest.approx(6 / 13)
        assert (share.low, share.high) == (0, 1)
    assert found.density.low == 0
    assert found.density.high is not None
    assert found.density.high > 1  # it is no share


def test_a_set_without_tiles_is_told() -> None:
    some, none = tiles_of(np.zeros((9, DIMENSIONS)), [*range(9)]), tiles_of(np.zeros((0, DIMENSIONS)), [])
    for real, synthetic, missing in ((none, some, "real"), (some, none, "synthetic")):
        found = compared(real, synthetic)
        assert found.reason == f"no {missing} tile without a hole; smaller tiles give some"
        assert found.kid.estimate.value is found.precision.value is None
        assert (found.num_real, found.num_synthetic) == (len(real), len(synthetic))
