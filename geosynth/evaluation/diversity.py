"""How much images of the same labels differ from each other, painted with different latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.estimate import Estimate, Floats, Indices, mean_over_places
from geosynth.evaluation.features import Space
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.measures import DiversityComparison
from geosynth.evaluation.tiles import StoreTiles, Tile


class Diversity:
    """How much the twins of a store differ from each other.

    Args:
        pair: with at least two twins.
        levels: in which networks see them.
        space: feature space; None for none.
        numbers: of the tiles to use.
    """

    def __init__(self, pair: StoreTiles, levels: Levels, space: Space | None, numbers: Indices) -> None:
        self._pair, self._levels, self._space = pair, levels, space
        self._numbers = frozenset(numbers.tolist())
        self._places: list[int] = []
        self._pixels: list[Floats] = []
        self._features: list[Floats] = []

    def add(self, tiles: Sequence[Tile]) -> None:
        """Compare the twins in whole tiles."""
        chosen = [tile for tile in tiles if tile.number in self._numbers]
        if not chosen:
            return
        self._places += [tile.place for tile in chosen]
        images = np.stack([self._pair.read_latents(tile.window) for tile in chosen], axis=1)
        self._pixels.append(pixel_diversity(images))
        if self._space is not None:
            embedded = [self._space.embed(self._levels.of(image)) for image in images]
            self._features.append(feature_diversity(embedded))

    def result(self, seed: int) -> DiversityComparison:
        """Means over the tiles.

        Args:
            seed: of the draws of places.
        """
        num_latents = len(self._pair.twins)
        if not self._places:
            return DiversityComparison(num_latents=num_latents, reason="no whole tile is free of nodata")
        places: Indices = np.asarray(self._places, dtype=np.int64)

        def mean(values: list[Floats]) -> Estimate:
            return mean_over_places(np.concatenate(values), places, seed, least=0)

        return DiversityComparison(
            num_latents=num_latents,
            num_tiles=len(places),
            pixels=mean(self._pixels),
            feature_space=None if self._space is None else self._space.name,
            features=Estimate() if self._space is None else mean(self._features),
        )


def pixel_diversity(images: npt.NDArray[Any]) -> Floats:
    """How much images of the same labels differ: mean over pairs of latents (Yang et al. 2019, DSGAN).

    Args:
        images: (k, n, bands, height, width): n tiles, each painted with k latents, at least two.

    Returns:
        (n,) mean absolute difference of the pixels, in raster values.
    """

    def apart(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Floats:
        # One by one, as differences take more memory than the images.
        differences = (np.abs(one.astype(np.float32) - other) for one, other in zip(first, second, strict=True))
        return np.array([difference.mean(dtype=np.float64) for difference in differences])

    return _mean_over_pairs(images, apart)


def feature_diversity(features: Sequence[Floats]) -> Floats:
    """As `pixel_diversity`, for features: for each of k latents (n, d); returns Euclidean distances (n,)."""
    return _mean_over_pairs(features, lambda first, second: np.linalg.norm(first - second, axis=1))


def _mean_over_pairs(by_latent: Sequence[Any] | npt.NDArray[Any], apart: Callable[[Any, Any], Floats]) -> Floats:
    distances = [apart(first, second) for first, second in combinations(by_latent, 2)]
    mean: Floats = np.asarray(sum(distances)) / len(distances)
    return mean
