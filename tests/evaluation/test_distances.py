from __future__ import annotations

import numpy as np
import pytest

from geosynth.evaluation.distances import frechet, gaussian


def test_frechet_of_commuting_gaussians_is_the_closed_form() -> None:
    # equal axes: the distance is that of the means plus that of the standard deviations
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    first, second = np.array([1.0, 4, 9, 0, 2]), np.array([4.0, 4, 1, 3, 0])
    means = np.arange(5.0), np.ones(5)
    covariances = ((rotation * variances) @ rotation.T for variances in (first, second))
    expected = ((means[0] - means[1]) ** 2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet(*zip(means, covariances, strict=True)) == pytest.approx(expected)


def test_frechet_of_general_gaussians_is_that_with_the_root_of_the_product() -> None:
    rng = np.random.default_rng(1)
    first, second = (gaussian(rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))) for _ in range(2))
    values = np.linalg.eigvals(first[1] @ second[1])
    expected = ((first[0] - second[0]) ** 2).sum() + np.trace(first[1] + second[1]) - 2 * np.sqrt(values.real).sum()
    assert frechet(first, second) == pytest.approx(expected)
    assert frechet(second, first) == pytest.approx(expected)


@pytest.mark.parametrize("rank", [1, 6])
def test_equal_sets_are_no_distance_apart_and_a_shift_counts_squared(rank: int) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(40, rank)) @ rng.normal(size=(rank, 6))
    assert frechet(gaussian(features), gaussian(features)) == 0
    assert frechet(gaussian(features), gaussian(features + 3.0)) == pytest.approx(6 * 9.0)


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(3)
    features, times = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    mean, covariance = gaussian(features, times.astype(float))
    repeated = np.repeat(features, times, axis=0)
    assert np.allclose(mean, repeated.mean(axis=0))
    assert np.allclose(covariance, np.cov(repeated.T))
