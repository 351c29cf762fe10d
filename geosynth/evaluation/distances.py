"""Frechet distance between sets of feature vectors, and draws of places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.statistics import Floats, Indices, Interval, place_interval

# --- What every statistic of feature vectors asks of them.


def check_features(features: npt.ArrayLike, what: str, least: int, why: str) -> Floats:
    """Features as float64 (n, d), or one clear line.

    Args:
        features: (n, d), a row a tile.
        what: they are of, for the message, as in "real tiles".
        least: tiles that the statistic needs.
        why: it needs them, as in "a covariance needs two".

    Raises:
        DataError: if there are fewer tiles than `least`, or values that are not finite.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise DataError(f"{what}: features must have the shape (tiles, features), got {rows.shape}")
    if len(rows) < least:
        raise DataError(f"{what}: {len(rows)} of them, but at least {least} are needed: {why}")
    broken = int((~np.isfinite(rows)).any(axis=1).sum())
    if broken:
        raise DataError(f"{what}: {broken} of {len(rows)} have features that are not finite; leave these tiles out")
    return rows


def check_pair(first: Floats, second: Floats) -> None:
    """Two sets must come from one feature space.

    Raises:
        DataError: if they have different numbers of features.
    """
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"sets of {first.shape[1]} and {second.shape[1]} features a tile cannot be compared;"
            " take both from one extractor"
        )


_NUM_DRAWS = 200
ROUNDING = 1e-9  # of the traces: what roots leave where two covariances are equal


def gaussian(features: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Mean (d,) and unbiased covariance (d, d) of `features` (n, d); `weights` (n,) say how often each counts."""
    weights = np.ones(len(features)) if weights is None else weights
    total = weights.sum()
    mean = weights @ features / total
    centred = features - mean
    return mean, (centred * weights[:, None]).T @ centred / (total - 1)


def frechet(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
    """Squared Frechet distance of two Gaussians, each given by mean (d,) and covariance (d, d).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982). The trace of the root is the sum of the
    singular values of C1^(1/2) C2^(1/2), which needs no root of an unsymmetric matrix.
    """
    (first_mean, first_covariance), (second_mean, second_covariance) = first, second
    roots = _square_root(first_covariance) @ _square_root(second_covariance)
    overlap = np.linalg.svd(roots, compute_uv=False).sum()
    total = np.trace(first_covariance) + np.trace(second_covariance)
    spread = total - 2 * overlap
    if spread < ROUNDING * total:
        spread = 0.0  # equal covariances, but for the rounding of their roots
    return float(((first_mean - second_mean) ** 2).sum() + spread)


def _square_root(covariance: Floats) -> Floats:
    """The symmetric root of a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


@dataclass(frozen=True)
class Bootstrap:
    """Draws of places with replacement (Efron 1979), the same ones for every statistic.

    A drawn place brings its real and its synthetic pixels: the comparison is paired.

    Attributes:
        weights: (draws, units): how often each unit (a tile or a group of neighbouring tiles) is drawn.
    """

    weights: Floats

    @classmethod
    def draw(cls, num_units: int, seed: int) -> Bootstrap:
        """As many units a draw as there are."""
        rng = np.random.default_rng(seed)
        chances = np.full(num_units, 1 / num_units)
        return cls(rng.multinomial(num_units, chances, size=_NUM_DRAWS).astype(np.float64))


# --- The Frechet distance of two sets of tiles, from their features.

MIN_TILES = 2
_WHY_FRECHET = "the covariance of fewer is not defined"


def frechet_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Squared Frechet distance of Gaussians fitted to two sets of tiles; the FID (Heusel et al. 2017) on Inception.

    `frechet` of the moments; in the form |m1 - m2|^2 + tr C1 + tr C2 - 2 |X1 X2^T|_* / sqrt((n1 - 1) (n2 - 1)), with
    the nuclear norm of the product of the centred features, where that matrix of (n1, n2) is smaller than (d, d).

    Args:
        first: (n1, d).
        second: (n2, d).

    Raises:
        DataError: if a set has fewer than two tiles, or features that are not finite or do not fit together.
    """
    left = check_features(first, "first set of tiles", MIN_TILES, _WHY_FRECHET)
    right = check_features(second, "second set of tiles", MIN_TILES, _WHY_FRECHET)
    check_pair(left, right)
    if min(len(left), len(right)) > left.shape[1]:
        return frechet(gaussian(left), gaussian(right))
    means = left.mean(axis=0), right.mean(axis=0)
    left, right = ((rows - mean) / np.sqrt(len(rows) - 1) for rows, mean in zip((left, right), means, strict=True))
    overlap = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    total = (left**2).sum() + (right**2).sum()
    spread = total - 2 * overlap
    return float(((means[0] - means[1]) ** 2).sum() + (spread if spread > ROUNDING * total else 0.0))


def bias_note(num_tiles: int, num_features: int) -> str | None:
    """What a reader must know about a Frechet distance of so few tiles; None where there are more than features."""
    if num_tiles > num_features:
        return None
    return (
        f"{num_tiles} tiles span at most {num_tiles - 1} of {num_features} directions, so the distance is biased"
        " upwards: compare it only to distances of equally many tiles, as the baseline is; the kernel distance is"
        f" unbiased; more than {num_features} tiles on either side mend it"
    )


# --- Kernel distance between sets of feature vectors: unbiased at any number of tiles, unlike the Frechet distance.

_WHY_KERNEL = "the kernel distance is a mean over pairs of different tiles of a set"
_KERNEL_BLOCK = 1024  # rows of the kernel matrix at once


def kernel_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3: the KID (Binkowski et al. 2018).

    Of all tiles at once, not a mean over random subsets. Its expectation is 0 where both sets come from one
    distribution, so it may be negative.

    Args:
        first: (n, d) features.
        second: (m, d) features.

    Raises:
        DataError: if a set has fewer than two tiles, or features that are not finite or do not fit together.
    """
    return KernelSums.of(first, second).distance()


@dataclass(frozen=True)
class KernelSums:
    """Sums of the kernel over pairs of places: all that the distance of any resample of places needs.

    So a thousand draws of a bootstrap cost no more than one look at the features.

    Attributes:
        pairs: three matrices (places, places): sums of the kernel over the tile pairs of two places; first with first,
            second with second, first with second.
        equal: (2, places): sums of the kernel of each tile with itself, first and second.
        counts: (2, places): tiles, first and second.
    """

    pairs: tuple[Floats, Floats, Floats]
    equal: Floats
    counts: Floats

    @classmethod
    def of(
        cls,
        first: npt.ArrayLike,
        second: npt.ArrayLike,
        first_places: npt.NDArray[np.int64] | None = None,
        second_places: npt.NDArray[np.int64] | None = None,
    ) -> KernelSums:
        """In blocks of rows.

        Args:
            first: (n, d) features.
            second: (m, d) features.
            first_places: (n,) numbers of places from 0; the same number is the same place in both sets. None: one.
            second_places: (m,).

        Raises:
            DataError: as `kernel_distance`.
        """
        left = check_features(first, "first set of tiles", MIN_TILES, _WHY_KERNEL)
        right = check_features(second, "second set of tiles", MIN_TILES, _WHY_KERNEL)
        check_pair(left, right)
        members = [
            np.zeros(len(rows), np.int64) if places is None else np.asarray(places, np.int64)
            for rows, places in ((left, first_places), (right, second_places))
        ]
        num_places = max(int(places.max()) for places in members) + 1
        at = members[0], members[1]
        pairs = (
            _place_sums(left, left, at[0], at[0], num_places),
            _place_sums(right, right, at[1], at[1], num_places),
            _place_sums(left, right, at[0], at[1], num_places),
        )
        itself = [(np.square(rows).mean(axis=1) + 1) ** 3 for rows in (left, right)]
        equal = [np.bincount(*pair, minlength=num_places) for pair in zip(at, itself, strict=True)]
        counts = [np.bincount(places, minlength=num_places).astype(np.float64) for places in at]
        return cls(pairs, np.stack(equal), np.stack(counts))

    def distance(self, weights: Floats | None = None) -> float:
        """The distance where each place counts `weights` (places,) times; NaN if fewer than two tiles are left.

        Pairs of a tile with a copy of itself are left out, as those with itself are: they would bias it upwards.
        """
        times = np.ones(self.counts.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
        totals = self.counts @ times
        num_pairs = totals**2 - self.counts @ times**2
        if (num_pairs <= 0).any():
            return float("nan")
        own = [times @ sums @ times for sums in self.pairs[:2]] - self.equal @ times**2
        return float((own / num_pairs).sum() - 2 * (times @ self.pairs[2] @ times) / totals.prod())


def _place_sums(
    left: Floats, right: Floats, left_places: npt.NDArray[np.int64], right_places: npt.NDArray[np.int64], number: int
) -> Floats:
    sums = np.zeros((number, number))
    order = np.argsort(right_places, kind="stable")
    right, places = right[order], right_places[order]
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    for start in range(0, len(left), _KERNEL_BLOCK):
        kernel = (left[start : start + _KERNEL_BLOCK] @ right.T / left.shape[1] + 1) ** 3
        by_place = np.zeros((len(kernel), number))
        by_place[:, places[starts]] = np.add.reduceat(kernel, starts, axis=1)
        np.add.at(sums, left_places[start : start + _KERNEL_BLOCK], by_place)
    return sums


# --- Distances between feature vectors and nearest neighbours, a block of rows at a time.

_BLOCK = 1024
_ROUNDING = 1e-12  # of the squared lengths: what matrix products leave where two vectors are equal


def distance_blocks(first: Floats, second: Floats) -> Iterator[tuple[slice, Floats]]:
    """Euclidean distances (rows, m) of a slice of rows of `first` (n, d) to all of `second` (m, d), slice by slice.

    Equal vectors are exactly 0 apart.
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
    """(n,): distance of each of `features` (n, d) to the `k`-th nearest other one; n > k."""
    found = np.empty(len(features))
    for rows, distances in distance_blocks(features, features):
        # Whatever rounding says, each is its own nearest: place 0 after the partition.
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = -1
        found[rows] = np.partition(distances, k, axis=1)[:, k]
    return found


def nearest(first: Floats, second: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Distance to, and index of, the nearest of `second` (m, d) for each of `first` (n, d): two arrays (n,)."""
    distance, index = np.empty(len(first)), np.empty(len(first), dtype=np.int64)
    for rows, distances in distance_blocks(first, second):
        index[rows] = distances.argmin(axis=1)
        distance[rows] = distances.min(axis=1)
    return distance, index


# --- Fidelity and diversity apart: precision and recall, density and coverage.


@dataclass(frozen=True)
class Manifolds:
    """How far two sets lie in each other's manifolds, tile by tile; a score is the mean over the tiles.

    A set's manifold is the union of balls around its features that reach to their `k`-th neighbour. So the mean over
    any part of the tiles is that part's score against the whole other set, which is what intervals resample.

    Attributes:
        k: neighbours.
        precise: (synthetic,) 1 where a synthetic tile lies in the real manifold (Kynkaanniemi et al. 2019).
        recalled: (real,) 1 where a real tile lies in the synthetic manifold (Kynkaanniemi et al. 2019).
        densities: (synthetic,) real balls that hold a synthetic tile, over k (Naeem et al. 2020).
        covered: (real,) 1 where a real tile's ball holds a synthetic one (Naeem et al. 2020).
    """

    k: int
    precise: Floats
    recalled: Floats
    densities: Floats
    covered: Floats

    @property
    def precision(self) -> float:
        """Share of the synthetic tiles that look like real ones, 0 to 1."""
        return float(self.precise.mean())

    @property
    def recall(self) -> float:
        """Share of the real tiles that the synthetic ones could stand for, 0 to 1."""
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        """Precision that one outlier among the real tiles cannot inflate; 1 is expected of equal distributions."""
        return float(self.densities.mean())

    @property
    def coverage(self) -> float:
        """Share of the real tiles with a synthetic one near; 1 - 2^-k is expected of equally many from equal ones."""
        return float(self.covered.mean())


def compare_manifolds(real: npt.ArrayLike, synthetic: npt.ArrayLike, k: int = 5) -> Manifolds:
    """Compare, a block of rows of the distance matrix at a time. A tile on the rim of a ball is inside.

    Args:
        real: (n, d) features.
        synthetic: (m, d) features.
        k: neighbours that a ball reaches to.

    Raises:
        DataError: if a set has no more than `k` tiles, or features that are not finite or do not fit together.
    """
    why = f"the ball around a tile reaches to its neighbour number {k}"
    left = check_features(real, "real tiles", k + 1, why)
    right = check_features(synthetic, "synthetic tiles", k + 1, why)
    check_pair(left, right)
    real_radii, synthetic_radii = radii(left, k), radii(right, k)
    inside_real = np.zeros(len(right))
    recalled, covered = np.zeros(len(left)), np.zeros(len(left))
    for rows, distances in distance_blocks(left, right):
        in_ball = distances <= real_radii[rows, None]
        inside_real += in_ball.sum(axis=0)
        covered[rows] = in_ball.any(axis=1)
        recalled[rows] = (distances <= synthetic_radii).any(axis=1)
    return Manifolds(k, (inside_real > 0).astype(np.float64), recalled, inside_real / k, covered)


# --- How much images of the same labels differ when their latents do.

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


# --- Whether synthetic tiles are copies: are they nearer to the tiles that the generator has seen than to others?

NUM_CLOSEST = 8
_NUM_SUBSETS = 20
_WHY_MEMORISATION = "one tile to be nearest says nothing"


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
    seen = check_features(train, "train tiles", MIN_TILES, _WHY_MEMORISATION)
    unseen = check_features(other, "other real tiles", MIN_TILES, _WHY_MEMORISATION)
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
