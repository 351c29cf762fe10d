"""Distances between sets of feature vectors: Frechet and kernel distance, and their scale, real against real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.estimate import Floats, Indices

MIN_TILES = 2
ROUNDING = 1e-9  # relative to the traces: rounding error of the roots if two covariances are equal
_WHY_FRECHET = "the covariance of fewer is not defined"
_WHY_KERNEL = "the kernel distance is a mean over pairs of different tiles of a set"
_KERNEL_BLOCK = 1024  # rows of the kernel matrix at once
_MIN_HALVED_PLACES = 2


def check_features(features: npt.ArrayLike, what: str, least: int, why: str) -> Floats:
    """Features as float64 (n, d), after checking them.

    Args:
        features: (n, d), one row per tile.
        what: what they are of, for the message, as in "real tiles".
        least: number of tiles that the statistic needs.
        why: the reason, as in "a covariance needs two".

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
    """Refuse two sets from different feature spaces.

    Raises:
        DataError: if they have different numbers of features.
    """
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"sets of {first.shape[1]} and {second.shape[1]} features a tile cannot be compared;"
            " take both from one extractor"
        )


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
    total = np.trace(first_covariance) + np.trace(second_covariance)
    return _squared_distance(first_mean, second_mean, total, roots)


def _squared_distance(first_mean: Floats, second_mean: Floats, total: Any, product: Floats) -> float:
    """The distance from means (d,), the sum of both traces, and a matrix with the nuclear norm of C1^(1/2) C2^(1/2)."""
    spread = total - 2 * np.linalg.svd(product, compute_uv=False).sum()
    if spread < ROUNDING * total:
        spread = 0.0  # equal covariances, but for the rounding of their roots
    return float(((first_mean - second_mean) ** 2).sum() + spread)


def _square_root(covariance: Floats) -> Floats:
    """The symmetric root of a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def frechet_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Squared Frechet distance of Gaussians fitted to two sets of tiles; the FID (Heusel et al. 2017) on Inception.

    This is `frechet` of the moments. If (n1, n2) is smaller than (d, d), it is computed in the form
    |m1 - m2|^2 + tr C1 + tr C2 - 2 |X1 X2^T|_* / sqrt((n1 - 1) (n2 - 1)), with the nuclear norm of the product of the
    centred features.

    Args:
        first: (n1, d).
        second: (n2, d).

    Raises:
        DataError: if a set has fewer than two tiles, or if features are not finite or from different spaces.
    """
    left = check_features(first, "first set of tiles", MIN_TILES, _WHY_FRECHET)
    right = check_features(second, "second set of tiles", MIN_TILES, _WHY_FRECHET)
    check_pair(left, right)
    if min(len(left), len(right)) > left.shape[1]:
        return frechet(gaussian(left), gaussian(right))
    means = left.mean(axis=0), right.mean(axis=0)
    left, right = ((rows - mean) / np.sqrt(len(rows) - 1) for rows, mean in zip((left, right), means, strict=True))
    return _squared_distance(*means, (left**2).sum() + (right**2).sum(), left @ right.T)


def bias_note(num_tiles: int, num_features: int) -> str | None:
    """A note on a Frechet distance of few tiles; None if there are more tiles than features."""
    if num_tiles > num_features:
        return None
    return (
        f"{num_tiles} tiles span at most {num_tiles - 1} of {num_features} directions, so the distance is biased"
        " upwards: compare it only to distances of equally many tiles, as the baseline is; the kernel distance is"
        f" unbiased; more than {num_features} tiles on either side mend it"
    )


def kernel_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3: the KID (Binkowski et al. 2018).

    It is computed from all tiles at once, not as a mean over random subsets. Its expectation is 0 if both sets come
    from the same distribution, so it may be negative.

    Args:
        first: (n, d) features.
        second: (m, d) features.

    Raises:
        DataError: if a set has fewer than two tiles, or if features are not finite or from different spaces.
    """
    return KernelSums.of(first, second).distance()


class KernelSums(NamedTuple):
    """Sums of the kernel over pairs of places, from which the distance for any draw of places follows.

    So a thousand draws of a bootstrap need only one pass over the features.
    """

    pairs: tuple[Floats, Floats, Floats]
    """(places, places) each: sums over the tile pairs of two places; first with first, second with second, first with
    second."""
    equal: Floats
    """(3, places): sums over the pairs that the distance leaves out: each tile of the first set with itself, each of
    the second with itself, and, if sets are paired, the two images of one tile."""
    num_equal: Floats
    """(3, places): the numbers of pairs in `equal`."""

    @classmethod
    def of(
        cls,
        first: npt.ArrayLike,
        second: npt.ArrayLike,
        first_places: npt.NDArray[np.int64] | None = None,
        second_places: npt.NDArray[np.int64] | None = None,
        *,
        paired: bool = False,
    ) -> KernelSums:
        """Compute the sums, in blocks of rows.

        Args:
            first: (n, d) features.
            second: (m, d) features.
            first_places: (n,) numbers of places from 0; the same number is the same place in both sets. None: one.
            second_places: (m,).
            paired: row by row both are images of one tile. Then these two are no pair: they show the same labels, which
                would bias the distance downwards (Gretton et al. 2012, equation 4).

        Raises:
            DataError: as `kernel_distance`.
        """
        left = check_features(first, "first set of tiles", MIN_TILES, _WHY_KERNEL)
        right = check_features(second, "second set of tiles", MIN_TILES, _WHY_KERNEL)
        check_pair(left, right)
        here = np.zeros(len(left), np.int64) if first_places is None else first_places
        there = np.zeros(len(right), np.int64) if second_places is None else second_places
        num_places = int(max(np.max(here), np.max(there))) + 1
        pairs = (
            _place_sums(left, left, here, here, num_places),
            _place_sums(right, right, there, there, num_places),
            _place_sums(left, right, here, there, num_places),
        )
        alike = slice(None if paired else 0)
        same = (left, left, here), (right, right, there), (left[alike], right[alike], here[alike])
        equal = [np.bincount(at, ((one * other).mean(axis=1) + 1) ** 3, num_places) for one, other, at in same]
        num_equal = [np.bincount(at, minlength=num_places).astype(np.float64) for _, _, at in same]
        return cls(pairs, np.stack(equal), np.stack(num_equal))

    def distance(self, weights: Floats | None = None) -> float:
        """The distance where each place counts `weights` (places,) times; NaN if fewer than two tiles are left.

        Pairs of a tile with a copy of itself are left out, as those with itself are: they would bias it upwards.
        """
        times = np.ones(self.num_equal.shape[1]) if weights is None else weights
        first, second = self.num_equal[:2] @ times
        num_pairs = np.array([first**2, second**2, first * second]) - self.num_equal @ times**2
        if (num_pairs <= 0).any():
            return float("nan")
        sums = [times @ sums @ times for sums in self.pairs] - self.equal @ times**2
        of_first, of_second, of_both = sums / num_pairs
        return float(of_first + of_second - 2 * of_both)


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


class Baseline(NamedTuple):
    """Distances between halves of the places, in several draws of halves, always with the same number of tiles."""

    num_tiles: int
    """Number of tiles in each set; distances that depend on it can be compared only with others of the same number."""
    real: Floats
    """Real tiles of one half against real tiles of the other, (draws,)."""
    across: Floats
    """Real tiles of the same half against synthetic ones of the other, (draws,); only what is synthetic differs."""
    turned: Floats
    """Real tiles of the same half against turned real tiles of the other, (draws,); empty without these."""


def real_baseline(
    features: Floats,
    synthetic: Floats,
    places: Indices,
    distance: Callable[[Floats, Floats], float],
    draws: int,
    seed: int,
    turned: Floats | None = None,
) -> Baseline:
    """Split the places at random into two disjoint halves, several times, and measure between them.

    Args:
        features: (n, d) of real tiles.
        synthetic: (n, d) of the synthetic tiles of the same windows in the same order.
        places: (n,) the place of each tile; tiles of one place stay together.
        distance: a function of two sets of features.
        draws: number of splits.
        seed: of the splits.
        turned: (n, d) of the real tiles, turned.

    Raises:
        DataError: if there are fewer than two places; whatever `distance` raises.
    """
    numbers, members = np.unique(places, return_inverse=True)
    if len(numbers) < _MIN_HALVED_PLACES:
        raise DataError(
            f"the real tiles lie in {len(numbers)} place; real against real needs {_MIN_HALVED_PLACES}, since tiles of"
            " one place resemble each other"
        )
    rng = np.random.default_rng(seed)
    sizes = np.bincount(members)
    halves = [_halve(sizes, rng) for _ in range(draws)]
    count = min(int(min(sizes[half].sum(), sizes[~half].sum())) for half in halves)
    real, across, of_turned = [], [], []
    for half in halves:
        first, second = (np.sort(rng.permutation(np.flatnonzero(side[members]))[:count]) for side in (half, ~half))
        real.append(distance(features[first], features[second]))
        across.append(distance(features[first], synthetic[second]))
        if turned is not None:
            of_turned.append(distance(features[first], turned[second]))
    return Baseline(count, np.array(real), np.array(across), np.array(of_turned))


def _halve(sizes: Indices, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Assign places in random order to the half with fewer tiles so far, (places,)."""
    half, tiles = np.zeros(len(sizes), dtype=bool), [0, 0]
    for place in rng.permutation(len(sizes)):
        side = int(tiles[1] < tiles[0])
        half[place] = bool(side)
        tiles[side] += int(sizes[place])
    return half
