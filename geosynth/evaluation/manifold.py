"""Fidelity and diversity apart: precision and recall, density and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.neighbours import distance_blocks, radii
from geosynth.evaluation.samples import check_features, check_pair


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
