"""Intervals of any statistic of tiles, by resampling the independent places that the tiles lie in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from geosynth.errors import SettingsError
from geosynth.evaluation.histograms import Floats

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
