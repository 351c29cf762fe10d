"""Distances between feature vectors and nearest neighbours, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.histograms import Floats

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
