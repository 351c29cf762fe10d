"""Intervals of any statistic of tiles, by resampling the independent places that the tiles lie in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from geosynth.errors import SettingsError

# --- Exact statistics of whole-number values from their histograms: no sampling, memory independent of the raster.

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


Indices = npt.NDArray[np.int64]

MIN_PLACES = 8  # of fewer, the spread of the draws says little


@dataclass(frozen=True)
class Interval:
    """A statistic with its 95 % interval.

    Attributes:
        value: of all tiles.
        low, high: of the interval; None where there are fewer than 8 places, or the statistic is undefined.
        num_tiles, num_places: that it rests on.
    """

    value: float
    low: float | None
    high: float | None
    num_tiles: int
    num_places: int


def place_interval(
    statistic: Callable[[Indices], float],
    places: Indices,
    seed: int,
    *,
    num_draws: int = 200,
    least: float = -np.inf,
) -> Interval:
    """Value and 95 % interval of a statistic of tiles, from draws of places with replacement (Efron 1979).

    The interval is value -+ t s sqrt(P / (P - 1)): s the standard deviation over the draws, P the number of places, t
    Student's quantile of P - 1 degrees of freedom. For the mean of normal values that is the exact interval, also of
    few places. Percentiles of the draws would not do: distances are biased upwards by resampling, and their percentile
    interval can lie wholly above the measured value.

    Args:
        statistic: of the tiles with these indices, among which tiles of a place drawn twice stand twice; NaN where it
            is undefined.
        places: (n,) number of the place of each tile. Both images of a tile share it: they are drawn together.
        seed: of the draws; the same seed gives the same interval.
        num_draws: of places.
        least: value that the statistic cannot fall below, such as 0 for a distance.

    Raises:
        SettingsError: if there is no tile.
    """
    if not len(places):
        raise SettingsError("an interval needs tiles, got none")
    numbers, members = np.unique(places, return_inverse=True)
    order = np.argsort(members, kind="stable")
    tiles_of = np.split(order, np.cumsum(np.bincount(members))[:-1])
    value = float(statistic(np.arange(len(places))))
    low = high = None
    if len(numbers) >= MIN_PLACES and np.isfinite(value):
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(numbers), size=(num_draws, len(numbers)))
        drawn = np.array([statistic(np.concatenate([tiles_of[place] for place in row])) for row in chosen])
        low, high = bounds(value, drawn, len(numbers), least)
    return Interval(value, low, high, len(places), len(numbers))


def bounds(
    value: float, drawn: Floats, num_places: int, least: float = -np.inf
) -> tuple[float, float] | tuple[None, None]:
    """The interval of `place_interval` from the statistic of each draw; None, None if half of them are undefined."""
    known = drawn[np.isfinite(drawn)]
    if num_places < MIN_PLACES or not np.isfinite(value) or len(known) < max(2, len(drawn) / 2):
        return None, None
    spread = float(known.std(ddof=1)) * np.sqrt(num_places / (num_places - 1))
    reach = float(student.ppf(0.975, num_places - 1)) * spread
    return max(least, float(value - reach)), float(value + reach)
