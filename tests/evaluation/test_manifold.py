from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from geosynth.errors import DataError
from geosynth.evaluation import neighbours
from geosynth.evaluation.neighbours import Manifolds, distance_blocks, nearest


class Scores(NamedTuple):
    """Means over the tiles."""

    precision: float
    recall: float
    density: float
    coverage: float


def compare_manifolds(real: np.ndarray, synthetic: np.ndarray, **settings: int) -> Scores:
    found: Manifolds = neighbours.compare_manifolds(real, synthetic, **settings)
    return Scores(*(float(of_tiles.mean()) for of_tiles in found))


def naive(real: np.ndarray, synthetic: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def radius(features: np.ndarray, index: int) -> float:
        return sorted(math.dist(features[index], other) for i, other in enumerate(features) if i != index)[k - 1]

    real_radii = [radius(real, index) for index in range(len(real))]
    synthetic_radii = [radius(synthetic, index) for index in range(len(synthetic))]
    inside = [[math.dist(x, y) <= reach for x, reach in zip(real, real_radii, strict=True)] for y in synthetic]
    recalled = [any(math.dist(x, y) <= r for y, r in zip(synthetic, synthetic_radii, strict=True)) for x in real]
    return (
        float(np.mean([any(row) for row in inside])),
        float(np.mean(recalled)),
        float(np.mean([sum(row) for row in inside])) / k,
        float(np.mean(np.any(inside, axis=0))),
    )


@pytest.mark.parametrize("block", [4, 1024])
def test_scores_are_those_of_a_loop_in_any_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(30, 3)), rng.normal(0.7, 0.8, size=(23, 3))
    found = compare_manifolds(real, synthetic, k=3)
    expected = naive(real, synthetic, 3)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)
    assert 0 < found.recall < found.precision  # narrower, inside: faithful, not diverse


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_copies_on_the_rim_of_a_ball_are_inside(offset: float) -> None:
    """A ball reaches to a real tile of which a synthetic one is a copy, however the distances to both are rounded."""
    rng = np.random.default_rng(5)
    real, synthetic = rng.normal(offset, 1, size=(40, 12)), rng.normal(offset + 3, 1, size=(40, 12))
    synthetic[:20] = real[:20]
    assert compare_manifolds(real, synthetic) == pytest.approx(naive(real, synthetic, 5))


def test_equal_distributions_have_density_one_and_the_expected_coverage() -> None:
    rng = np.random.default_rng(1)
    n, k = 120, 5
    draws = [compare_manifolds(*rng.normal(size=(2, n, 6)), k=k) for _ in range(60)]
    # Naeem et al. 2020, appendix: 1 minus the chance that the k nearest of a tile's 2 n - 1 others are all real
    coverage = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert coverage == pytest.approx(1 - 2**-k, abs=0.01)
    for values, expected in (([d.density for d in draws], 1.0), ([d.coverage for d in draws], coverage)):
        assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(len(draws)))


def test_far_sets_share_nothing_and_copies_everything() -> None:
    real = np.random.default_rng(2).normal(size=(20, 4))
    far = compare_manifolds(real, real + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    copies = compare_manifolds(real, real.copy())
    assert (copies.precision, copies.recall, copies.coverage) == (1, 1, 1)
    # each tile lies in its own ball and in as many others as are likely to have it among their k nearest
    assert copies.density == pytest.approx(1 + 1 / 5)


def test_constant_images_are_inside_each_other() -> None:
    constant = np.full((8, 5), 0.1) * np.arange(1, 6)
    found = compare_manifolds(constant, constant)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert compare_manifolds(constant, constant + 1).precision == 0


def test_one_ball_is_enough() -> None:
    # real balls reach from -1 to 1, from 0 to 2 and from 1 to 19
    found = compare_manifolds(np.array([[0.0], [1.0], [10.0]]), np.array([[-0.9], [25.0], [26.0]]), k=1)
    assert (found.precision, found.density, found.coverage) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_one_mode_is_precise_but_does_not_recall() -> None:
    rng = np.random.default_rng(3)
    real = rng.normal(size=(60, 2)) + 10 * np.repeat([[0, 0], [1, 0], [0, 1]], 20, axis=0)
    found = compare_manifolds(real, rng.normal(size=(60, 2)))
    assert found.precision > 0.8
    assert found.coverage < 0.4
    assert found.recall < 0.4


def test_distances_are_those_of_numpy_and_exactly_zero_for_copies() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(50, 1, size=(9, 700)), rng.normal(50, 1, size=(6, 700))
    second[3] = first[5]
    distances = np.concatenate([block.copy() for _, block in distance_blocks(first, second)])
    assert np.allclose(distances, np.linalg.norm(first[:, None] - second, axis=2))
    distance, index = nearest(first, second)
    assert distance[5] == 0
    assert index[5] == 3
    assert np.array_equal(index, distances.argmin(axis=1))
    assert index.dtype == np.int64


def test_distances_do_not_change_with_the_origin_and_with_the_unit_as_they_should() -> None:
    first, second = np.random.default_rng(6).normal(size=(2, 9, 4))
    away = 1e6 * np.arange(1, 5)
    (_, here), (_, there) = (next(distance_blocks(first + shift, second + shift)) for shift in (0, away))
    assert np.allclose(here, there, rtol=1e-6)
    for scale in (1e-9, 1e9):
        _, scaled = next(distance_blocks(scale * first, scale * second))
        assert np.allclose(scaled, scale * here, rtol=1e-6, atol=0)
        assert (np.diag(next(distance_blocks(scale * first, scale * first))[1]) == 0).all()


def test_bad_features_are_one_line() -> None:
    good = np.random.default_rng(5).normal(size=(9, 2))
    with pytest.raises(DataError, match="synthetic tiles: 5 of them, but at least 6 are needed: the ball"):
        compare_manifolds(good, good[:5])
    assert compare_manifolds(good[:6], good[:6], k=5).precision == 1
    with pytest.raises(DataError, match="real tiles: 5 of them, but at least 6 are needed: the ball"):
        compare_manifolds(good[:5], good)
    with pytest.raises(DataError, match="real tiles: 9 of 9 have features that are not finite"):
        compare_manifolds(good * np.nan, good)
