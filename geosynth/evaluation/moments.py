"""Mean and covariance of features in one pass, and the Frechet distance of two sets of tiles."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.distances import ROUNDING, frechet, gaussian
from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.samples import check_features, check_pair

MIN_TILES = 2
_WHY = "the covariance of fewer is not defined"


@dataclass
class FeatureMoments:
    """Running mean and scatter in float64; memory independent of the number of tiles.

    Centred sums (Chan et al. 1979): the difference of two large sums would lose a small variance around a large mean.

    Attributes:
        num_features: d.
        count: tiles so far.
        mean: (d,).
        scatter: (d, d): sum of the outer products of the features less their mean.
    """

    num_features: int
    count: int = 0
    mean: Floats = field(init=False)
    scatter: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.num_features)
        self.scatter = np.zeros((self.num_features, self.num_features))

    def add(self, features: npt.ArrayLike) -> None:
        """Add tiles (n, d).

        Raises:
            DataError: if a feature is not finite, or another number of features comes; nothing is added.
        """
        rows = check_features(features, "tiles", 0, "")
        if rows.shape[1] != self.num_features:
            raise DataError(f"{rows.shape[1]} features a tile cannot be added to moments of {self.num_features}")
        if len(rows):
            mean = rows.mean(axis=0)
            centred = rows - mean
            self._join(len(rows), mean, centred.T @ centred)

    def merge(self, other: FeatureMoments) -> None:
        """Add all tiles that `other` has seen, as another worker's."""
        if other.count:
            self._join(other.count, other.mean, other.scatter)

    def gaussian(self) -> tuple[Floats, Floats]:
        """Mean (d,) and unbiased covariance (d, d), as `frechet` takes them.

        Raises:
            DataError: if there are fewer than two tiles.
        """
        if self.count < MIN_TILES:
            raise DataError(f"{self.count} tiles, but at least {MIN_TILES} are needed: {_WHY}")
        return self.mean, self.scatter / (self.count - 1)

    def _join(self, count: int, mean: Floats, scatter: Floats) -> None:
        total = self.count + count
        step = mean - self.mean
        self.scatter += scatter + np.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total


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
    left = check_features(first, "first set of tiles", MIN_TILES, _WHY)
    right = check_features(second, "second set of tiles", MIN_TILES, _WHY)
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
