"""What every statistic of feature vectors asks of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.histograms import Floats


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
