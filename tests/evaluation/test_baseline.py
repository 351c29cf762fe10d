from __future__ import annotations

import numpy as np
import pytest

from geosynth.errors import DataError
from geosynth.evaluation.distances import frechet_distance, kernel_distance, real_baseline

SHIFT = np.array([100, 0])


def test_places_never_part_and_numbers_are_equal() -> None:
    places = np.array([5, 5, 5, 2, 2, 9, 9, 9, 9, 1])
    features = np.stack([np.arange(10.0), places], axis=1)
    seen = []

    def distance(first: np.ndarray, second: np.ndarray) -> float:
        seen.append((first, second))
        return float(len(seen))

    found = real_baseline(features, features + SHIFT, places, distance, draws=6, seed=0)
    assert found.turned.size == 0
    assert found.real.tolist() == [1, 3, 5, 7, 9, 11]
    assert found.across.tolist() == [2, 4, 6, 8, 10, 12]
    for first, second in seen:
        assert len(first) == len(second) == found.num_tiles
        assert not set(first[:, 1]) & set(second[:, 1])
    for (real, other), (first, synthetic) in zip(seen[::2], seen[1::2], strict=True):
        assert np.array_equal(real, first)
        assert np.array_equal(synthetic, other + SHIFT)
    assert len({tuple(first[:, 0]) for first, _ in seen}) > 1


def test_a_perfect_generator_is_as_far_as_real_is() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(12), 4)
    real = rng.normal(size=(12, 3))[places] + rng.normal(size=(48, 3))
    perfect = real_baseline(real, real.copy(), places, frechet_distance, draws=5, seed=0)
    assert np.array_equal(perfect.real, perfect.across)
    flat = real_baseline(real, 0.1 * real, places, frechet_distance, draws=5, seed=0)
    assert (flat.across > 1.5 * flat.real).all()


def test_places_that_differ_are_further_than_tiles_at_random() -> None:
    rng = np.random.default_rng(1)
    places = np.repeat(np.arange(10), 10)
    features = 3 * rng.normal(size=(10, 4))[places] + rng.normal(size=(100, 4))
    between = real_baseline(features, features, places, kernel_distance, draws=20, seed=0)
    within = real_baseline(features, features, np.arange(100), kernel_distance, draws=20, seed=0)
    assert between.real.mean() > 5 * abs(within.real.mean())


def test_the_same_seed_gives_the_same_baseline() -> None:
    rng = np.random.default_rng(2)
    features, places = rng.normal(size=(20, 3)), np.repeat(np.arange(5), 4)
    first, again, other = (real_baseline(features, features, places, kernel_distance, 4, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.real, again.real)
    assert not np.array_equal(first.real, other.real)


def test_two_places_are_the_halves() -> None:
    def kept(first: np.ndarray, second: np.ndarray) -> float:
        assert len(first) == len(second)
        return 0.0

    features, places = np.arange(6.0)[:, None], np.array([4, 4, 4, 9, 9, 9])
    found = real_baseline(features, features + 5, places, frechet_distance, draws=3, seed=0)
    assert found.num_tiles == 3
    assert real_baseline(features[:2], features[:2], np.arange(2), kept, 1, 0).num_tiles == 1
    for seed in range(4):  # whichever half the larger place is
        assert real_baseline(features, features, np.array([4, 9, 9, 9, 9, 9]), kept, 1, seed).num_tiles == 1
    assert found.real == pytest.approx(9)
    assert all(distance == pytest.approx(64) or distance == pytest.approx(4) for distance in found.across)


def test_one_place_has_no_baseline() -> None:
    with pytest.raises(DataError, match="the real tiles lie in 1 place; real against real needs 2"):
        real_baseline(np.zeros((8, 2)), np.zeros((8, 2)), np.full(8, 3), kernel_distance, 4, 0)


def test_turned_tiles_are_measured_between_the_same_halves() -> None:
    rng = np.random.default_rng(2)
    real, places = rng.normal(size=(30, 3)), np.repeat(np.arange(10), 3)
    found = real_baseline(real, real + 1, places, frechet_distance, 5, 0, turned=real + 1)
    assert np.array_equal(found.turned, found.across)
    assert (found.turned > found.real).all()
