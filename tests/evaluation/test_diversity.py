from __future__ import annotations

import numpy as np
import pytest

from geosynth.errors import DataError
from geosynth.evaluation.compare import pairwise_diversity


def test_distances_are_those_of_a_loop_over_pairs() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 2, 8, 8)).astype(np.uint8)
    features = rng.normal(size=(4, 3, 5))
    found_pixels, found_features = pairwise_diversity(images, features)
    for tile in range(3):
        pairs = [(i, j) for i in range(4) for j in range(i)]
        pixels = [np.abs(images[i, tile].astype(int) - images[j, tile]).mean() for i, j in pairs]
        distances = [np.linalg.norm(features[i, tile] - features[j, tile]) for i, j in pairs]
        assert found_pixels[tile] == pytest.approx(np.mean(pixels))
        assert found_features[tile] == pytest.approx(np.mean(distances))


def test_a_generator_that_ignores_its_latent_has_none() -> None:
    images = np.random.default_rng(1).integers(0, 256, (1, 2, 3, 8, 8)).astype(np.uint8).repeat(3, axis=0)
    found_pixels, found_features = pairwise_diversity(images, np.ones((3, 2, 4)))
    assert found_pixels.tolist() == found_features.tolist() == [0, 0]


def test_what_cannot_be_compared_is_one_line() -> None:
    images = np.zeros((2, 3, 1, 4, 4), np.uint8)
    with pytest.raises(DataError, match="1 image a tile; diversity compares at least 2"):
        pairwise_diversity(images[:1], np.zeros((1, 3, 2)))
    with pytest.raises(DataError, match="not of the same latents and tiles"):
        pairwise_diversity(images, np.zeros((2, 4, 2)))
