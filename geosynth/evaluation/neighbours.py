"""Nearest neighbours among feature vectors: precision, recall, density and coverage; and copies of train tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.estimate import Floats, Indices, estimate_over_places, mean_over_places
from geosynth.evaluation.distances import MIN_TILES, check_features, check_pair
from geosynth.evaluation.measures import MemorisationComparison

_NUM_CLOSEST = 8
_NUM_SUBSETS = 20
_WHY_MEMORISATION = "one tile to be nearest says nothing"
_BLOCK = 1024  # rows of a distance matrix at once
_ROUNDING = 1e-12  # relative to the squared lengths: rounding error of matrix products for equal vectors
_RIM = 1e-9  # part of a radius; rounding moves a tile on the surface of a ball by less


def distance_blocks(first: Floats, second: Floats) -> Iterator[tuple[slice, Floats]]:
    """Euclidean distances (rows, m) of a slice of rows of `first` (n, d) to all of `second` (m, d), slice by slice.

    The distance of equal vectors is exactly 0.
    """
    # Distances do not change with the origin, but their rounding does.
    centre = second.mean(axis=0)
    first, second = first - centre, second - centre
    lengths = np.square(second).sum(axis=1)
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(first)))
        scale = np.square(first[rows]).sum(axis=1)[:, None] + lengths
        squares = scale - 2 * (first[rows] @ second.T)
        squares[squares < _ROUNDING * scale] = 0
        yield rows, np.sqrt(squares, out=squares)


def radii(features: Floats, k: int) -> Floats:
    """Distance of each of `features` (n, d) to the `k`-th nearest other one, (n,); n > k."""
    found = np.empty(len(features))
    for rows, distances in distance_blocks(features, features):
        found[rows] = np.partition(distances, k, axis=1)[:, k]  # position 0 is the tile itself
    return found


def nearest(first: Floats, second: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Distance to, and index of, the nearest of `second` (m, d) for each of `first` (n, d): two arrays (n,)."""
    distance, index = np.empty(len(first)), np.empty(len(first), dtype=np.int64)
    for rows, distances in distance_blocks(first, second):
        index[rows] = distances.argmin(axis=1)
        distance[rows] = distances.min(axis=1)
    return distance, index


class Manifolds(NamedTuple):
    """How far two sets are in each other's manifolds, tile by tile; a score is the mean over the tiles.

    A set's manifold is the union of balls around its features with a radius up to their k-th neighbour. The mean over
    some of the tiles is the score of these against the whole other set, from which intervals are computed.
    """

    precise: Floats
    """(synthetic,) 1 if a synthetic tile is in the real manifold. The mean is the precision, the share of the synthetic
    tiles that look like real ones (Kynkaanniemi et al. 2019)."""
    recalled: Floats
    """(real,) 1 if a real tile is in the synthetic manifold. The mean is the recall, the share of the real tiles that
    the synthetic ones could represent (Kynkaanniemi et al. 2019)."""
    densities: Floats
    """(synthetic,) number of real balls that contain a synthetic tile, over k. The mean is the density, a precision
    that one outlier among the real tiles cannot inflate; 1 is expected for equal distributions (Naeem et al. 2020)."""
    covered: Floats
    """(real,) 1 if a real tile's ball contains a synthetic one. The mean is the coverage; 1 - 2^-k is expected for the
    same number of tiles from equal distributions (Naeem et al. 2020)."""


def compare_manifolds(real: npt.ArrayLike, synthetic: npt.ArrayLike, k: int = 5) -> Manifolds:
    """Compare two sets, one block of rows of the distance matrix at a time. A tile on the surface of a ball is inside.

    Args:
        real: (n, d) features.
        synthetic: (m, d) features.
        k: the radius of a ball is the distance to the k-th neighbour.

    Raises:
        DataError: if a set has no more than `k` tiles, or if features are not finite or from different spaces.
    """
    why = f"the ball around a tile reaches to its neighbour number {k}"
    left = check_features(real, "real tiles", k + 1, why)
    right = check_features(synthetic, "synthetic tiles", k + 1, why)
    check_pair(left, right)
    real_radii, synthetic_radii = ((1 + _RIM) * radii(tiles, k) for tiles in (left, right))
    inside_real = np.zeros(len(right))
    recalled, covered = np.zeros(len(left)), np.zeros(len(left))
    for rows, distances in distance_blocks(left, right):
        in_ball = distances <= real_radii[rows, None]
        inside_real += in_ball.sum(axis=0)
        covered[rows] = in_ball.any(axis=1)
        recalled[rows] = (distances <= synthetic_radii).any(axis=1)
    return Manifolds((inside_real > 0).astype(np.float64), recalled, inside_real / k, covered)


def memorisation(
    synthetic: npt.ArrayLike,
    train: npt.ArrayLike,
    other: npt.ArrayLike,
    places: Indices,
    other_places: Indices,
    seed: int,
) -> MemorisationComparison:
    """Compare nearest neighbours of synthetic tiles among equally many train and other real tiles, in feature space.

    The nearest of more tiles is nearer, so both real sets are reduced to the size of the smaller one: the result is the
    mean over 20 random subsets. A synthetic tile shares its labels with the real tile of its own window, and much with
    its neighbours, so real tiles of its own place do not count among the others. For the same reason, paint the labels
    of a fold that was not trained on.

    Args:
        synthetic: (n, d) features.
        train: (m, d) of the real tiles that the generator was trained on.
        other: (k, d) of real tiles that it has not seen, of the same kind of place.
        places: (n,) the place of each synthetic tile.
        other_places: (k,) the place of each other real tile; the same number means the same place.
        seed: of subsets and draws.

    Returns:
        the numbers, without the closest pairs (`closest_pairs`), which the caller adds.

    Raises:
        DataError: if there is no synthetic tile, if a real set has fewer than two, if features are not finite or from
            different spaces, or if the other tiles are all in one place.
    """
    tiles = check_features(synthetic, "synthetic tiles", 1, "there is nothing to look at")
    seen = check_features(train, "train tiles", MIN_TILES, _WHY_MEMORISATION)
    unseen = check_features(other, "other real tiles", MIN_TILES, _WHY_MEMORISATION)
    check_pair(tiles, seen)
    check_pair(tiles, unseen)
    number = min(len(seen), len(unseen) - int(np.max(np.unique(other_places, return_counts=True)[1])))
    if not number:
        raise DataError(
            "all other real tiles lie in one place; nearest neighbours need another one, since tiles of one place"
            " resemble each other"
        )

    def to_both(tiles: Floats, places: Indices) -> tuple[Floats, Floats]:
        to_train = _nearest_of_subsets(tiles, places, seen, None, number, seed)
        return to_train, _nearest_of_subsets(tiles, places, unseen, other_places, number, seed + 1)

    to_train, to_other = to_both(tiles, places)
    nearer, control = _nearer(to_train, to_other), _nearer(*to_both(unseen, other_places))

    def median_ratios(weights: Floats) -> list[float]:
        found = []
        for row in weights.astype(np.int64):
            chosen = np.repeat(np.arange(len(row)), row)
            over, under = (np.median(distances[:, chosen], axis=1) for distances in (to_train, to_other))
            found.append(float((over / under).mean()) if under.all() else float("nan"))
        return found

    return MemorisationComparison(
        num_synthetic=len(tiles),
        num_train=number,
        num_other=number,
        share_nearer_train=mean_over_places(nearer, places, seed, least=0, most=1),
        distance_ratio=estimate_over_places(median_ratios, places, seed, least=0),
        control=mean_over_places(control, other_places, seed, least=0, most=1),
        membership_auc=mean_over_places(
            _found_out(tiles, places, seen, unseen, other_places, seed), other_places, seed, least=0, most=1
        ),
    )


def closest_pairs(synthetic: Floats, train: Floats) -> list[tuple[float, int, int]]:
    """The eight synthetic tiles (n, d) with the nearest train tiles (m, d), closest first; each synthetic tile once.

    Returns:
        for each pair the distance, and the indices of the synthetic and the train tile.
    """
    distances, indices = nearest(synthetic, train)
    order = np.argsort(distances, kind="stable")[:_NUM_CLOSEST]
    return [(float(distances[tile]), int(tile), int(indices[tile])) for tile in order]


def _nearer(to_train: Floats, to_other: Floats) -> Floats:
    """Share of the subsets (subsets, tiles) in which train is nearer, (tiles,)."""
    share: Floats = ((to_train < to_other) + 0.5 * (to_train == to_other)).mean(axis=0)
    return share


def _found_out(
    tiles: Floats, places: Indices, seen: Floats, unseen: Floats, other_places: Indices, seed: int
) -> Floats:
    """For each other real tile, the share of the train tiles that are nearer to a synthetic tile than it is, (other,).

    The mean is the area under the ROC curve of an attacker who finds it the more likely that a real tile was trained
    on, the nearer its nearest synthetic tile is (Hilprecht et al. 2019; Chen et al. 2020, GAN-Leaks, black box).
    Synthetic tiles of a real tile's place do not count; a train tile is treated as if it were in a random place of the
    others, so that it has as many candidates.
    """
    asked_at = np.random.default_rng(seed).choice(other_places, len(seen))

    def to_nearest(real: Floats, own: Indices) -> Floats:
        found = np.empty(len(real))
        for rows, distances in distance_blocks(real, tiles):
            found[rows] = np.where(places == own[rows, None], np.inf, distances).min(axis=1)
        return found

    members, others = np.sort(to_nearest(seen, asked_at)), to_nearest(unseen, other_places)
    nearer, not_farther = (np.searchsorted(members, others, side) for side in ("left", "right"))
    share: Floats = (nearer + not_farther) / (2 * len(members))
    return share


def _nearest_of_subsets(
    tiles: Floats, places: Indices, references: Floats, own_places: Indices | None, number: int, seed: int
) -> Floats:
    """Distance to the nearest tile of random subsets of real tiles, (subsets, tiles).

    Args:
        tiles: (n, d) features.
        places: (n,) places of the tiles.
        references: (m, d) features of the real tiles.
        own_places: (m,) places of the real tiles; those of a tile's own place are not in its subsets. None if no place
            is shared.
        number: number of real tiles in a subset.
        seed: of the subsets.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(references)) for _ in range(_NUM_SUBSETS)]
    found = np.empty((_NUM_SUBSETS, len(tiles)))
    for rows, distances in distance_blocks(tiles, references):
        allowed = np.ones(distances.shape, dtype=bool) if own_places is None else own_places != places[rows, None]
        distances[~allowed] = np.inf
        for which, order in enumerate(orders):
            # The first `number` that are allowed, in this order.
            wanted = allowed[:, order].cumsum(axis=1) <= number
            found[which, rows] = np.where(wanted, distances[:, order], np.inf).min(axis=1)
    return found
