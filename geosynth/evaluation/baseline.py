"""The scale of a distance: what real tiles of one half of the places are away from those of the other half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geosynth.errors import DataError
from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.intervals import Indices

MIN_PLACES = 2


@dataclass(frozen=True)
class Baseline:
    """Distances between halves of the places, in several draws of halves, with equally many tiles throughout.

    Attributes:
        num_tiles: in either set of a distance: distances that depend on the number compare only at this one.
        real: (draws,) real tiles of one half against real tiles of the other.
        across: (draws,) real tiles of the same half against synthetic ones of the other: it differs from `real` only by
            what is synthetic. None without synthetic tiles.
    """

    num_tiles: int
    real: Floats
    across: Floats | None


def real_baseline(
    features: Floats,
    places: Indices,
    distance: Callable[[Floats, Floats], float],
    draws: int,
    seed: int,
    synthetic: Floats | None = None,
) -> Baseline:
    """Split the places at random into two disjoint halves, several times, and measure between them.

    Args:
        features: (n, d) of real tiles.
        places: (n,) number of the place of each: tiles of one place never part.
        distance: of two sets of features.
        draws: how often to split.
        seed: of the splits.
        synthetic: (n, d) of the synthetic tiles of the same windows in the same order.

    Raises:
        DataError: if there are fewer than two places; whatever `distance` raises.
    """
    numbers, members = np.unique(places, return_inverse=True)
    if len(numbers) < MIN_PLACES:
        raise DataError(
            f"the real tiles lie in {len(numbers)} place; real against real needs {MIN_PLACES}, since tiles of one"
            " place resemble each other"
        )
    rng = np.random.default_rng(seed)
    sizes = np.bincount(members)
    halves = [_halve(sizes, rng) for _ in range(draws)]
    count = min(int(min(sizes[half].sum(), sizes[~half].sum())) for half in halves)
    real, across = [], []
    for half in halves:
        first, second = (_some(np.flatnonzero(side[members]), count, rng) for side in (half, ~half))
        real.append(distance(features[first], features[second]))
        if synthetic is not None:
            across.append(distance(features[first], synthetic[second]))
    return Baseline(count, np.array(real), None if synthetic is None else np.array(across))


def _halve(sizes: Indices, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(places,): places in random order, each to the half that has fewer tiles yet."""
    half, tiles = np.zeros(len(sizes), dtype=bool), [0, 0]
    order = rng.permutation(len(sizes))
    for place in order:
        side = int(tiles[1] < tiles[0])
        half[place] = bool(side)
        tiles[side] += int(sizes[place])
    return half


def _some(tiles: Indices, count: int, rng: np.random.Generator) -> Indices:
    return np.sort(rng.permutation(tiles)[:count])
