"""How much images of the same labels differ when their latents do."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.histograms import Floats

MIN_LATENTS = 2


class Diversity(NamedTuple):
    """Mean distances over the pairs of latents, tile by tile; take means and intervals over the tiles.

    Attributes:
        pixels: (n,) mean absolute difference, in units of the pixels (DN).
        features: (n,) Euclidean distance of the features.
    """

    pixels: Floats
    features: Floats


def pairwise_diversity(images_by_latent: npt.NDArray[Any], features_by_latent: npt.ArrayLike) -> Diversity:
    """Diversity of n tiles painted with k latents each (the pairs of DSGAN, Yang et al. 2019).

    Args:
        images_by_latent: (k, n, bands, height, width).
        features_by_latent: (k, n, d) of the same images.

    Raises:
        DataError: if there are fewer than two latents, or the arrays do not fit together.
    """
    features = np.asarray(features_by_latent, dtype=np.float64)
    if len(images_by_latent) < MIN_LATENTS:
        raise DataError(
            f"{len(images_by_latent)} image a tile; diversity compares at least {MIN_LATENTS}, of different seeds"
        )
    if images_by_latent.ndim != 5 or features.ndim != 3 or images_by_latent.shape[:2] != features.shape[:2]:
        raise DataError(
            f"images {images_by_latent.shape} and features {features.shape} are not of the same latents and tiles"
        )
    pairs = list(combinations(range(len(images_by_latent)), 2))
    pixels, distances = np.zeros((2, images_by_latent.shape[1]))
    for first, second in pairs:
        distances += np.linalg.norm(features[first] - features[second], axis=1)
        for tile in range(len(pixels)):  # one by one: differences need more bytes than the images
            difference = images_by_latent[first, tile].astype(np.float32) - images_by_latent[second, tile]
            pixels[tile] += np.abs(difference).mean(dtype=np.float64)
    return Diversity(pixels / len(pairs), distances / len(pairs))
