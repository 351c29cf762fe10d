"""Exact statistics of whole-number values from their histograms: no sampling, memory independent of the raster."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DN_VALUES: Floats = np.arange(256, dtype=np.float64)

# NDVI of 8-bit bands lies in [-1, 1]; bins are centred on multiples of 0.002, so that -1, 0 and 1 are exact.
NDVI_STEP = 0.002
NDVI_VALUES: Floats = np.linspace(-1, 1, 1001)


def count_values(
    values: npt.NDArray[np.integer[Any]], indices: npt.NDArray[np.uint8], num_classes: int, num_values: int
) -> npt.NDArray[np.int64]:
    """Histograms (num_classes, num_values) of `values` (any shape) per class.

    Args:
        values: in 0 .. num_values - 1.
        indices: class indices, same shape; pixels with an index of `num_classes` or more are left out.
        num_classes: first axis of the result.
        num_values: second axis of the result.
    """
    inside = indices < num_classes
    joint = indices[inside].astype(np.int64) * num_values + values[inside]
    return np.bincount(joint, minlength=num_classes * num_values).reshape(num_classes, num_values)


def count_ndvi(
    red: npt.NDArray[np.uint8], nir: npt.NDArray[np.uint8], indices: npt.NDArray[np.uint8], num_classes: int
) -> npt.NDArray[np.int64]:
    """Histograms (num_classes, 1001) over `NDVI_VALUES` of (nir - red) / (nir + red); left out where both are 0."""
    total = red.astype(np.float32) + nir
    defined = total > 0
    ndvi = (nir.astype(np.float32) - red)[defined] / total[defined]
    bins = np.rint((ndvi + 1) / NDVI_STEP).astype(np.int64)
    return count_values(bins, indices[defined], num_classes, len(NDVI_VALUES))


def moments(counts: npt.NDArray[Any], values: Floats) -> tuple[Floats, Floats]:
    """Mean and population variance (...) of histograms (..., num_values); NaN where a histogram is empty."""
    shares = _shares(counts)
    mean = shares @ values
    variance = (shares * (values - mean[..., None]) ** 2).sum(axis=-1)
    return mean, variance


def quantiles(counts: npt.NDArray[Any], values: Floats, shares: tuple[float, ...]) -> Floats:
    """(..., len(shares)): the smallest value that at least this share of the pixels does not exceed."""
    cumulated = np.cumsum(counts, axis=-1)
    total = cumulated[..., -1:]
    found = [values[(cumulated < share * total).sum(axis=-1)] for share in shares]
    return np.where(total > 0, np.stack(found, axis=-1), np.nan)


def wasserstein(first: npt.NDArray[Any], second: npt.NDArray[Any], step: float = 1.0) -> Floats:
    """Wasserstein-1 distance (...) of histograms (..., num_values) with equal bins, in units of the values.

    In one dimension it is the area between the cumulative distributions (Vallender 1974). NaN where one is empty.

    Args:
        first: counts.
        second: counts, same shape.
        step: distance between neighbouring values.
    """
    difference = np.cumsum(_shares(first), axis=-1) - np.cumsum(_shares(second), axis=-1)
    distance: Floats = step * np.abs(difference).sum(axis=-1)
    return distance


def ratio(over: npt.NDArray[Any] | float, under: npt.NDArray[Any] | float) -> Floats:
    """Elementwise quotient; NaN where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.asarray(over, dtype=np.float64) / np.asarray(under, dtype=np.float64)
    return np.where(np.isfinite(quotient), quotient, np.nan)


def _shares(counts: npt.NDArray[Any]) -> Floats:
    return ratio(counts, counts.sum(axis=-1, keepdims=True))
