"""Kernel distance between sets of feature vectors: unbiased at any number of tiles, unlike the Frechet distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.samples import check_features, check_pair

MIN_TILES = 2
_WHY = "the kernel distance is a mean over pairs of different tiles of a set"
_BLOCK = 1024  # rows of the kernel matrix at once


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
        left = check_features(first, "first set of tiles", MIN_TILES, _WHY)
        right = check_features(second, "second set of tiles", MIN_TILES, _WHY)
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
    for start in range(0, len(left), _BLOCK):
        kernel = (left[start : start + _BLOCK] @ right.T / left.shape[1] + 1) ** 3
        by_place = np.zeros((len(kernel), number))
        by_place[:, places[starts]] = np.add.reduceat(kernel, starts, axis=1)
        np.add.at(sums, left_places[start : start + _BLOCK], by_place)
    return sums
