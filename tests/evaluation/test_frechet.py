from __future__ import annotations

import numpy as np
import pytest

from geosynth.errors import DataError
from geosynth.evaluation.distances import bias_note, frechet, frechet_distance, gaussian


@pytest.mark.parametrize("counts", [(9, 12), (60, 8), (50, 70)], ids=["few", "one side few", "many"])
def test_frechet_of_features_is_that_of_their_gaussians(counts: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=(count, 20)) @ rng.normal(size=(20, 20)) for count in counts)
    expected = frechet(gaussian(first), gaussian(second))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_two_tiles_are_enough() -> None:
    # means 1 and 3, variances 2 and 8
    assert frechet_distance([[0.0], [2.0]], [[1.0], [5.0]]) == pytest.approx(4 + (np.sqrt(2) - np.sqrt(8)) ** 2)


@pytest.mark.parametrize("count", [5, 40])
def test_equal_sets_and_constant_ones_have_defined_distances(count: int) -> None:
    features = np.random.default_rng(2).normal(size=(count, 10))
    constant = np.tile(features[0], (count, 1))
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(constant, constant + 2) == pytest.approx(40)
    spread = np.trace(np.cov(features.T)) + ((features.mean(axis=0) - features[0]) ** 2).sum()
    assert frechet_distance(features, constant) == pytest.approx(spread)


@pytest.mark.parametrize("scale", [1e-5, 1e5])
@pytest.mark.parametrize("count", [8, 40])
def test_distances_change_with_the_square_of_the_unit(scale: float, count: int) -> None:
    first, second = np.random.default_rng(5).normal(size=(2, count, 20))
    assert frechet_distance(scale * first, scale * second) == pytest.approx(scale**2 * frechet_distance(first, second))
    assert frechet_distance(scale * first, scale * first) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_features_of_any_type_are_computed_with_as_double(dtype: type) -> None:
    first, second = (100 * np.random.default_rng(6).normal(size=(2, 6, 20))).astype(dtype)
    exact = frechet_distance(first.astype(np.float64), second.astype(np.float64))
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-12)


def test_distances_of_many_tiles_approach_the_closed_form() -> None:
    rng = np.random.default_rng(3)
    deviations = np.array([1.0, 2.0, 0.5])
    first, second = rng.normal(size=(20_000, 3)), 1.0 + deviations * rng.normal(size=(20_000, 3))
    assert frechet_distance(first, second) == pytest.approx(3 + ((deviations - 1) ** 2).sum(), rel=0.03)


def test_few_tiles_bias_upwards_and_the_note_says_so() -> None:
    rng = np.random.default_rng(4)
    found = {count: frechet_distance(*rng.normal(size=(2, count, 40))) for count in (10, 30, 1000)}
    assert found[10] > 2 * found[30] > 20 * found[1000]
    assert "30 tiles span at most 29 of 40 directions" in (bias_note(30, 40) or "")
    assert "40 tiles span at most 39 of 40 directions" in (bias_note(40, 40) or "")
    assert bias_note(41, 40) is None


def test_bad_features_are_one_line() -> None:
    good = np.zeros((4, 3))
    broken = good.copy()
    broken[2, 1] = np.nan
    for pair, which in (((good, good[:1]), "second"), ((good[:1], good), "first")):
        with pytest.raises(
            DataError, match=f"^{which} set of tiles: 1 of them, but at least 2 are needed: the covarian"
        ):
            frechet_distance(*pair)
    with pytest.raises(DataError, match="first set of tiles: 1 of 4 have features that are not finite"):
        frechet_distance(broken, good)
    with pytest.raises(DataError, match="sets of 3 and 2 features a tile cannot be compared"):
        frechet_distance(good, good[:, :2])
    with pytest.raises(DataError, match="shape"):
        frechet_distance(good, good[0])
