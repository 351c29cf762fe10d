"""Counting how predicted classes agree with the true ones, and how sure one may be of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_RESAMPLES = 2000
_LEAST_PLACES = 3  # of fewer, resampling makes no interval


class Confusion:
    """Pixels by true and predicted class.

    Args:
        num_classes: of the legend; labels from it on have no class and are left out.

    Attributes:
        matrix: (num_classes, num_classes) int64: rows are true classes, columns predicted ones.
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)

    def add(self, labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> None:
        """Count the pixels of two arrays of class indices of one shape."""
        classes = len(self.matrix)
        known = labels < classes
        codes = labels[known].astype(np.int64) * classes + predicted[known]
        self.matrix += np.bincount(codes, minlength=classes**2).reshape(classes, classes)

    def __add__(self, other: Confusion) -> Confusion:
        total = Confusion(len(self.matrix))
        total.matrix = self.matrix + other.matrix
        return total

    def iou(self) -> Floats:
        """(num_classes,): intersection over union; NaN of a class that is neither true nor predicted anywhere."""
        return _iou(self.matrix.astype(np.float64))

    def miou(self) -> float:
        """Mean IoU over the classes that occur among the true labels; NaN if none does.

        The classes follow from the labels alone, so that models tested on the same tiles are compared on the same
        classes; what a model predicts of other classes is missing from the IoU of those that are true.
        """
        return float(_miou(self.matrix.astype(np.float64)))

    def accuracy(self) -> float:
        """Share of pixels whose class is right; NaN if there is no pixel."""
        total = int(self.matrix.sum())
        return float(np.trace(self.matrix)) / total if total else float("nan")


def miou_interval(places: Sequence[Confusion], seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of the mean IoU by a percentile bootstrap over independent places (Efron 1979).

    Places are drawn with replacement, 2,000 times; the mean IoU is that of all pixels drawn.

    Args:
        places: one count for each place.
        seed: of the draws.

    Returns:
        (low, high); None for fewer than three places.
    """
    if len(places) < _LEAST_PLACES:
        return None
    matrices = np.stack([place.matrix for place in places]).astype(np.float64)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=_RESAMPLES)
    low, high = np.nanpercentile(_miou(np.tensordot(times.astype(np.float64), matrices, axes=1)), [2.5, 97.5])
    return float(low), float(high)


def _iou(matrices: Floats) -> Floats:
    """(..., classes, classes) to (..., classes)."""
    both = np.diagonal(matrices, axis1=-2, axis2=-1)
    either = matrices.sum(axis=-1) + matrices.sum(axis=-2) - both
    shares: Floats = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return shares


def _miou(matrices: Floats) -> Floats:
    """(..., classes, classes) to (...)."""
    occurs = matrices.sum(axis=-1) > 0
    sums, counts = np.where(occurs, _iou(matrices), 0).sum(axis=-1), occurs.sum(axis=-1)
    means: Floats = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means
