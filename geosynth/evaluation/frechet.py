"""The Frechet distance of two sets of tiles, from their features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.distances import ROUNDING, frechet, gaussian
from geosynth.evaluation.samples import check_features, check_pair

MIN_TILES = 2
_WHY = "the covariance of fewer is not defined"


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
