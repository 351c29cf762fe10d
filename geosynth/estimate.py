"""Estimate: a number with its 95 % interval, from places drawn with replacement or from seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict
from scipy import stats

from geosynth.errors import SettingsError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

NUM_DRAWS = 200
# For all measures of an evaluation: with fewer places, the spread of the draws says little about a distance. If there
# are fewer clusters of scenes, places are squares of tiles. For a mean IoU fewer suffice, see `segmentation.scores`.
MIN_PLACES = 8


def _finite(value: Any) -> Any:
    return None if value is None or not np.isfinite(value) else value


FiniteOrNone = Annotated[float | None, BeforeValidator(_finite)]
"""A number of a report: None if it is not defined, as JSON has neither NaN nor infinity."""


def number(value: float | None) -> str:
    """A number as reports show it: three digits, or all digits before the point; "-" for None."""
    # From 999.5 on, three digits would be 1e+03.
    return "-" if value is None else f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


class Estimate(BaseModel):
    """A number, its 95 % interval, and how many places or seeds both rest on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: FiniteOrNone = None
    """None if it is not defined."""
    low: FiniteOrNone = None
    """None, like `high`, if there is no interval: too few places or seeds, or too many draws without a value."""
    high: FiniteOrNone = None
    n: int | None = None
    """Number of independent places or seeds; None if they were not counted."""

    def times(self, factor: float) -> Estimate:
        """The estimate in other units; the factor is positive."""
        value, low, high = (None if one is None else factor * one for one in (self.value, self.low, self.high))
        return Estimate(value=value, low=low, high=high, n=self.n)

    def __format__(self, form: str) -> str:
        """As in "0.51 [0.48, 0.544]", each number in this format (by default as `number`); "-" for None."""

        def shown(one: float) -> str:
            return format(one, form) if form else number(one)

        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return shown(self.value)
        return f"{shown(self.value)} [{shown(self.low)}, {shown(self.high)}]"

    def __str__(self) -> str:
        return format(self)

    def in_unit(self, unit: str) -> str:
        """As in "0.51 [0.48, 0.544] DN"; "-" for None."""
        return str(self) if self.value is None else f"{self} {unit}"


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean and its 95 % t interval: mean -+ t s / sqrt(n), t Student's 97.5 % quantile of n - 1 degrees of freedom.

    It shows how a result varies if tiles, weights and images are drawn again, not how it varies with the test area.

    Args:
        values: one for each seed, at least one; a single one has no interval.
    """
    array = np.asarray(values)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Estimate(value=mean, n=n)
    reach = _quantile(n) * float(array.std(ddof=1)) / np.sqrt(n)
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n)


def draw_places(num_places: int, seed: int | np.random.Generator, num_draws: int = NUM_DRAWS) -> Floats:
    """How often each place counts in draws with replacement (Efron 1979); each draw has as many places as there are.

    A place contributes all that is in it, its real and its synthetic pixels, so that comparisons of both stay paired.

    Returns:
        (1 + num_draws, num_places). Row 0 is not a draw but the sample itself, with each place once, so that a
        statistic of these weights gives its value and its draws at once, as `estimate_from_draws` takes them.
    """
    drawn = np.random.default_rng(seed).multinomial(num_places, np.full(num_places, 1 / num_places), size=num_draws)
    return np.concatenate([np.ones((1, num_places)), drawn])


def estimate_from_draws(
    values: npt.ArrayLike,
    num_places: int,
    *,
    least: float = -np.inf,
    most: float = np.inf,
    min_places: int = MIN_PLACES,
) -> Estimate:
    """A statistic and its 95 % interval from its values over draws of places.

    The interval is value -+ t s sqrt(P / (P - 1)): s the standard deviation over the draws, P the number of places, t
    Student's quantile of P - 1 degrees of freedom. For the mean of normal values this is the exact interval, even with
    few places. Percentiles of the draws would not do: with few places they are too narrow, and distances are biased
    upwards by resampling, so that their percentiles can all be above the measured value.

    Args:
        values: (1 + draws,): of the sample itself, then of each draw; not finite if undefined.
        num_places: number of places that were drawn from.
        least: lower bound of the statistic, such as 0 for a distance.
        most: its upper bound.
        min_places: with fewer places there is no interval; nor is there one if half the draws are undefined.
    """
    value, drawn = float(np.asarray(values)[0]), np.asarray(values)[1:]
    known = drawn[np.isfinite(drawn)]
    if num_places < min_places or not np.isfinite(value) or len(known) < max(2, len(drawn) / 2):
        return Estimate(value=value, n=num_places)
    spread = float(known.std(ddof=1)) * np.sqrt(num_places / (num_places - 1))
    reach = _quantile(num_places) * spread
    return Estimate(value=value, low=max(least, value - reach), high=min(most, value + reach), n=num_places)


def estimate_over_places(
    statistic: Callable[[Floats], npt.ArrayLike],
    places: Indices,
    seed: int,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> Estimate:
    """A statistic of tiles and its 95 % interval (`estimate_from_draws`), from draws of the tiles' places.

    Args:
        statistic: takes weights (1 + 200, tiles), how often each tile counts, and returns (1 + 200,) values.
        places: (tiles,) the place of each tile; the real and the synthetic image of a tile are drawn together.
        seed: of the draws; the same seed gives the same interval.
        least: lower bound of the statistic.
        most: its upper bound.

    Raises:
        SettingsError: if there is no tile.
    """
    if not len(places):
        raise SettingsError("an interval needs tiles, got none")
    numbers, members = np.unique(places, return_inverse=True)
    # Draws numbers of places and counts them, unlike `draw_places`, so that a seed still gives the interval that it
    # always gave.
    chosen = np.random.default_rng(seed).integers(len(numbers), size=(NUM_DRAWS, len(numbers)))
    drawn = [np.bincount(row, minlength=len(numbers)) for row in (np.arange(len(numbers)), *chosen)]
    return estimate_from_draws(
        statistic(np.stack(drawn)[:, members].astype(np.float64)), len(numbers), least=least, most=most
    )


def mean_over_places(
    values: Floats, places: Indices, seed: int, *, least: float = -np.inf, most: float = np.inf
) -> Estimate:
    """The mean of one value per tile, (tiles,), and its interval; see `estimate_over_places`."""
    return estimate_over_places(
        lambda weights: weights @ values / weights.sum(axis=1), places, seed, least=least, most=most
    )


def _quantile(n: int) -> float:
    """97.5 % quantile of Student's t with n - 1 degrees of freedom."""
    return float(stats.t.ppf(0.975, n - 1))
