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
# Of all measures of an evaluation: of fewer places, the spread of the draws says little of a distance. Where there are
# fewer clusters of scenes, squares of tiles are its places. A mean IoU alone asks for less, see `segmentation.scores`.
MIN_PLACES = 8


def _finite(value: Any) -> Any:
    return None if value is None or not np.isfinite(value) else value


FiniteOrNone = Annotated[float | None, BeforeValidator(_finite)]
"""A number of a report: None where it is not defined, so that JSON can hold it."""


def number(value: float | None) -> str:
    """As reports show it: three digits, of large numbers all before the point; "-" for none."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


class Estimate(BaseModel):
    """A number, the 95 % interval around it, and what both rest on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: FiniteOrNone = None
    """None where it is not defined."""
    low: FiniteOrNone = None
    """None, as `high` is, where there is no interval: too few places or seeds, or too many draws without a value."""
    high: FiniteOrNone = None
    n: int | None = None
    """Independent places or seeds; None where nobody counted."""

    def times(self, factor: float) -> Estimate:
        """In other units; the factor is positive."""
        value, low, high = (None if one is None else factor * one for one in (self.value, self.low, self.high))
        return Estimate(value=value, low=low, high=high, n=self.n)

    def __format__(self, form: str) -> str:
        """As "0.51 [0.48, 0.544]", each number in this format (as `number` if not said); "-" for none."""

        def shown(one: float) -> str:
            return format(one, form) if form else number(one)

        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return shown(self.value)
        return f"{shown(self.value)} [{shown(self.low)}, {shown(self.high)}]"

    def __str__(self) -> str:
        return format(self)


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean and its 95 % t interval: mean -+ t s / sqrt(n), t Student's 97.5 % quantile of n - 1 degrees of freedom.

    It tells how a result varies with tiles, weights and images drawn anew, not with the test area.

    Args:
        values: one a seed, at least one; a single one has no interval.
    """
    array = np.asarray(values)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Estimate(value=mean, n=n)
    reach = _quantile(n) * float(array.std(ddof=1)) / np.sqrt(n)
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n)


def draw_places(num_places: int, seed: int | np.random.Generator, num_draws: int = NUM_DRAWS) -> Floats:
    """How often each place counts in draws with replacement (Efron 1979), as many places a draw as there are.

    A place brings all that lies in it, its real and its synthetic pixels: a comparison of both stays paired.

    Returns:
        (1 + num_draws, num_places). Row 0 is no draw but the sample itself, each place once; so a statistic of these
        weights gives its value and its draws at once, as `estimate_from_draws` takes them.
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
    Student's quantile of P - 1 degrees of freedom. For the mean of normal values that is the exact interval, also of
    few places. Percentiles of the draws would not do: of few places they are too narrow; and distances are biased
    upwards by resampling, so that theirs can lie wholly above the measured value.

    Args:
        values: (1 + draws,): of the sample itself, then of each draw; not finite where it is undefined.
        num_places: that were drawn.
        least: what the statistic cannot fall below, such as 0 for a distance.
        most: what it cannot exceed.
        min_places: fewer have no interval; nor has a statistic of which half the draws are undefined.
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
    """A statistic of tiles and its 95 % interval (`estimate_from_draws`), from draws of the places they lie in.

    Args:
        statistic: of weights (1 + 200, tiles), which say how often each tile counts, gives (1 + 200,) values.
        places: (tiles,) the place of each. Both images of a tile share it: they are drawn together.
        seed: of the draws; the same seed gives the same interval.
        least: what the statistic cannot fall below.
        most: what it cannot exceed.

    Raises:
        SettingsError: if there is no tile.
    """
    if not len(places):
        raise SettingsError("an interval needs tiles, got none")
    numbers, members = np.unique(places, return_inverse=True)
    # Numbers of places, then counted, not counts as in `draw_places`: a seed goes on to give the interval it always
    # gave.
    chosen = np.random.default_rng(seed).integers(len(numbers), size=(NUM_DRAWS, len(numbers)))
    drawn = [np.bincount(row, minlength=len(numbers)) for row in (np.arange(len(numbers)), *chosen)]
    return estimate_from_draws(
        statistic(np.stack(drawn)[:, members].astype(np.float64)), len(numbers), least=least, most=most
    )


def mean_over_places(
    values: Floats, places: Indices, seed: int, *, least: float = -np.inf, most: float = np.inf
) -> Estimate:
    """The mean of a value of each tile (tiles,), as `estimate_over_places`."""
    return estimate_over_places(
        lambda weights: weights @ values / weights.sum(axis=1), places, seed, least=least, most=most
    )


def _quantile(n: int) -> float:
    """97.5 % quantile of Student's t, n - 1 degrees of freedom."""
    return float(stats.t.ppf(0.975, n - 1))
