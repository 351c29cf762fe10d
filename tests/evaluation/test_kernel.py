from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from geosynth.errors import DataError
from geosynth.evaluation import distances as kernel
from geosynth.evaluation.distances import KernelSums, kernel_distance


def naive(first: np.ndarray, second: np.ndarray) -> float:
    def mean(left: np.ndarray, right: np.ndarray, same: bool) -> float:
        values = [
            (x @ y / len(x) + 1) ** 3 for i, x in enumerate(left) for j, y in enumerate(right) if not (same and i == j)
        ]
        return float(np.mean(values))

    return mean(first, first, True) + mean(second, second, True) - 2 * mean(first, second, False)


@pytest.mark.parametrize("block", [3, 1024])
def test_the_distance_is_that_of_a_loop_in_any_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_KERNEL_BLOCK", block)
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(11, 6)), rng.normal(0.5, 1, size=(7, 6))
    assert kernel_distance(first, second) == pytest.approx(naive(first, second))


def test_the_distance_is_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(40, 64)), rng.normal(0.3, 1, size=(40, 64))
    expected = poly_mmd(torch.from_numpy(first), torch.from_numpy(second))
    assert kernel_distance(first, second) == pytest.approx(float(expected))


def test_the_distance_of_equal_distributions_is_zero_on_average() -> None:
    rng = np.random.default_rng(2)
    values = np.array([kernel_distance(*rng.normal(1, 1, size=(2, 6, 8))) for _ in range(2000)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (values < 0).mean() > 0.2  # an estimate that never falls below 0 cannot be unbiased


def test_sums_by_place_are_the_distance_of_any_resample() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(12, 5)), rng.normal(0.5, 2, size=(9, 5))
    places = rng.permutation(np.repeat([0, 1, 4], 4)), rng.permutation(np.repeat([0, 1, 3], 3))
    sums = KernelSums.of(first, second, *places)
    assert sums.distance() == pytest.approx(kernel_distance(first, second))
    kept = np.array([1.0, 1, 0, 0, 0])
    parts = (rows[kept[at] > 0] for rows, at in zip((first, second), places, strict=True))
    assert sums.distance(kept) == pytest.approx(naive(*parts))
    # twice the same tiles are no new ones: pairs of copies do not count
    assert sums.distance(2 * kept) == pytest.approx(sums.distance(kept))
    with np.errstate(all="raise"):
        assert np.isnan(sums.distance(np.array([0.0, 0, 0, 0, 1])))


def _images_of_labels(rng: np.random.Generator, tiles: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of two images of each tile's labels: of one distribution, but alike where the labels are."""
    labels = rng.normal(1, 1, (tiles, 8))
    return tuple(labels + rng.normal(0, 0.3, labels.shape) for _ in range(2))


def test_the_distance_of_two_images_of_the_same_labels_is_zero_on_average() -> None:
    rng = np.random.default_rng(6)
    values = np.array([KernelSums.of(*_images_of_labels(rng, 10), paired=True).distance() for _ in range(2000)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


def test_the_two_images_of_a_tile_are_no_pair_in_any_resample() -> None:
    rng = np.random.default_rng(7)
    first, second = _images_of_labels(rng, 9)
    places = rng.permutation(np.repeat([0, 1, 3], 3))
    weights = np.array([2.0, 1, 0, 3])
    drawn = np.repeat(np.arange(9), weights[places].astype(int))
    apart = drawn[:, None] != drawn

    def mean(left: np.ndarray, right: np.ndarray) -> float:
        return float((((left[drawn] @ right[drawn].T) / 8 + 1) ** 3)[apart].mean())

    wanted = mean(first, first) + mean(second, second) - 2 * mean(first, second)
    assert KernelSums.of(first, second, places, places, paired=True).distance(weights) == pytest.approx(wanted)


def test_of_one_tile_there_is_no_distance_and_of_two_there_is() -> None:
    tiles = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0], [1.0, 1.0]])
    sums = KernelSums.of(tiles[:3], tiles[1:], np.arange(3), np.arange(3))
    with np.errstate(all="raise"):
        assert np.isnan(sums.distance(np.array([1.0, 0, 0])))
    assert sums.distance(np.array([1.0, 1, 0])) == pytest.approx(naive(tiles[:2], tiles[1:3]))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_places_that_one_set_lacks_change_nothing(place: int) -> None:
    first, second = np.random.default_rng(5).normal(size=(2, 6, 3))
    sums = KernelSums.of(first, second, np.arange(6), np.full(6, place))
    assert sums.distance() == pytest.approx(kernel_distance(first, second))


def test_resampling_places_does_not_bias_the_distance_upwards() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(1, 1, size=(2, 60, 4))
    sums = KernelSums.of(first, second, np.arange(60), np.arange(60))
    drawn = [sums.distance(weights) for weights in rng.multinomial(60, np.full(60, 1 / 60), 500).astype(float)]
    assert np.mean(drawn) == pytest.approx(sums.distance(), abs=0.3 * np.std(drawn))


def test_bad_features_are_one_line() -> None:
    good = np.zeros((3, 4))
    assert kernel_distance(good, good) == 0
    for pair, which in (((good, good[:1]), "second"), ((good[:1], good), "first")):
        with pytest.raises(DataError, match=f"^{which} set of tiles: 1 of them, but at least 2 are needed: the kernel"):
            kernel_distance(*pair)
    with pytest.raises(DataError, match="not finite"):
        kernel_distance(good, good + np.inf)
    with pytest.raises(DataError, match="cannot be compared"):
        kernel_distance(good, good[:, :3])
