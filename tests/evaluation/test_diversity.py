from __future__ import annotations

import numpy as np
import pytest

from geosynth.evaluation.diversity import feature_diversity, pixel_diversity


def test_distances_are_those_of_a_loop_over_pairs() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 2, 8, 8)).astype(np.uint8)
    features = rng.normal(size=(4, 3, 5))
    found_pixels, found_features = pixel_diversity(images), feature_diversity(list(features))
    for tile in range(3):
        pairs = [(i, j) for i in range(4) for j in range(i)]
        pixels = [np.abs(images[i, tile].astype(int) - images[j, tile]).mean() for i, j in pairs]
        distances = [np.linalg.norm(features[i, tile] - features[j, tile]) for i, j in pairs]
        assert found_pixels[tile] == pytest.approx(np.mean(pixels))
        assert found_features[tile] == pytest.approx(np.mean(distances))


def test_a_generator_that_ignores_its_latent_has_none() -> None:
    images = np.random.default_rng(1).integers(0, 256, (1, 2, 3, 8, 8)).astype(np.uint8).repeat(3, axis=0)
    assert pixel_diversity(images).tolist() == feature_diversity([np.ones((2, 4))] * 3).tolist() == [0, 0]
