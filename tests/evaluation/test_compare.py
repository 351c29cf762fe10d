"""Distances, shares and their intervals for sets of tiles whose features are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from geosynth.estimate import Floats
from geosynth.evaluation.compare import compare_in_space
from geosynth.evaluation.distances import frechet_distance, kernel_distance
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
        assert found.reason == f"no {missing} tile without a hole; a smaller tile_size gives some"
        assert found.kid.estimate.value is found.precision.value is None
        assert (found.num_real, found.num_synthetic) == (len(real), len(synthetic))
