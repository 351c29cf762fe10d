"""Whether synthetic tiles are copies: are they nearer to the tiles that the generator has seen than to others?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.intervals import Indices, Interval, place_interval
from geosynth.evaluation.neighbours import distance_blocks, nearest
from geosynth.evaluation.samples import check_features, check_pair

NUM_CLOSEST = 8
MIN_TILES = 2
_NUM_SUBSETS = 20
_WHY = "one tile to be nearest says nothing"


@dataclass(frozen=True)
class ClosePair:
    """A synthetic tile and the train tile nearest to it, as indices into their sets, and their distance."""

    synthetic: int
    train: int
    distance: float


@dataclass(frozen=True)
class Memorisation:
    """Nearest neighbours of synthetic tiles among equally many train and other real tiles.

    Attributes:
        num_references: tiles of either real set that are compared at once.
        nearer_train: share of the synthetic tiles whose nearest train tile is nearer than their nearest other one (a
            tie counts half); that of `control` is expected if nothing is memorised.
        distance_ratio: median distance to the nearest train tile over that to the nearest other; about 1 is
            expected likewise, near 0 of copies. NaN where the other tiles are copied.
        control: `nearer_train` of the other real tiles, which nobody has memorised: about 0.5, unless their places
            resemble each other more, or less, than they do those of train.
        closest: the pairs of the smallest distance to any train tile, closest first.
    """

    num_references: int
    nearer_train: Interval
    distance_ratio: Interval
    control: Interval
    closest: tuple[ClosePair, ...]


def memorisation(
    synthetic: npt.ArrayLike,
    train: npt.ArrayLike,
    other: npt.ArrayLike,
    places: Indices,
    other_places: Indices,
    seed: int,
) -> Memorisation:
    """Compare, with distances in feature space.

    The nearest of more tiles is nearer, so both real sets count with the number of the smaller: the mean over 20 random
    subsets. A synthetic tile shares its labels with the real tile of its own window, and much with its neighbours, so
    real tiles of its own place do not count among the others. For the same reason, paint the labels of a fold that was
    not trained on.

    Args:
        synthetic: (n, d) features.
        train: (m, d) of the real tiles that the generator was trained on.
        other: (k, d) of real tiles that it has not seen, of the same kind of place.
        places: (n,) number of the place of each synthetic tile.
        other_places: (k,) of each other real tile; the same number is the same place.
        seed: of subsets and draws.

    Raises:
        DataError: if a set has fewer than two tiles, or features that are not finite or do not fit together, or if the
            other tiles lie in one place.
    """
    tiles = check_features(synthetic, "synthetic tiles", 1, "there is nothing to look at")
    seen = check_features(train, "train tiles", MIN_TILES, _WHY)
    unseen = check_features(other, "other real tiles", MIN_TILES, _WHY)
    check_pair(tiles, seen)
    check_pair(tiles, unseen)
    number = min(len(seen), len(unseen) - int(np.unique(other_places, return_counts=True)[1].max()))
    if not number:
        raise DataError(
            "all other real tiles lie in one place; nearest neighbours need another one, since tiles of one place"
            " resemble each other"
        )
    sets = _References(seen, None, number, seed), _References(unseen, other_places, number, seed + 1)
    to_train, to_other = (references.nearest(tiles, places) for references in sets)
    nearer = _nearer(to_train, to_other)
    control = _nearer(*(references.nearest(unseen, other_places) for references in sets))

    def ratio(chosen: Indices) -> float:
        over, under = (np.median(distances[:, chosen], axis=1) for distances in (to_train, to_other))
        return float((over / under).mean()) if under.all() else float("nan")

    return Memorisation(
        num_references=number,
        nearer_train=place_interval(lambda chosen: float(nearer[chosen].mean()), places, seed, least=0.0),
        distance_ratio=place_interval(ratio, places, seed, least=0.0),
        control=place_interval(lambda chosen: float(control[chosen].mean()), other_places, seed, least=0.0),
        closest=closest_pairs(tiles, seen),
    )


def closest_pairs(synthetic: Floats, train: Floats, number: int = NUM_CLOSEST) -> tuple[ClosePair, ...]:
    """The synthetic tiles (n, d) with the nearest train tiles (m, d), closest first; each synthetic tile once."""
    distances, indices = nearest(synthetic, train)
    order = np.argsort(distances, kind="stable")[:number]
    return tuple(ClosePair(int(place), int(indices[place]), float(distances[place])) for place in order)


def _nearer(to_train: Floats, to_other: Floats) -> Floats:
    """(tiles,): share of the subsets (subsets, tiles) in which train is nearer."""
    share: Floats = ((to_train < to_other) + 0.5 * (to_train == to_other)).mean(axis=0)
    return share


class _References:
    """Random subsets of real tiles: `number` of them for each tile that is compared, none of its own place.

    Args:
        features: (m, d).
        places: (m,); None if no place is shared.
        number: of tiles in a subset.
        seed: of the subsets.
    """

    def __init__(self, features: Floats, places: Indices | None, number: int, seed: int) -> None:
        self._features, self._places, self._number = features, places, number
        rng = np.random.default_rng(seed)
        self._orders = [rng.permutation(len(features)) for _ in range(_NUM_SUBSETS)]

    def nearest(self, tiles: Floats, places: Indices) -> Floats:
        """(subsets, tiles): distance of `tiles` (n, d) to the nearest of each subset."""
        found = np.empty((_NUM_SUBSETS, len(tiles)))
        for rows, distances in distance_blocks(tiles, self._features):
            allowed = np.ones(distances.shape, dtype=bool)
            if self._places is not None:
                allowed = self._places != places[rows, None]
            distances[~allowed] = np.inf
            for which, order in enumerate(self._orders):
                # The first `number` that are allowed, in this order.
                wanted = allowed[:, order].cumsum(axis=1) <= self._number
                found[which, rows] = np.where(wanted, distances[:, order], np.inf).min(axis=1)
        return found
