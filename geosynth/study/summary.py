"""Means over seeds with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats


class Summary(BaseModel):
    """A mean over seeds.

    Attributes:
        mean: of the values.
        low, high: 95 % t interval of the mean; None for fewer than two seeds.
        n: seeds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float | None
    high: float | None
    n: int

    def text(self, scale: float = 1.0, sign: str = "") -> str:
        """As "0.512 [0.480, 0.544]", three digits after the point; without an interval if there is none.

        Args:
            scale: what values are multiplied by; above 1 one digit after the point is shown.
            sign: "+" shows that of positive values too.
        """
        digits = f"{sign}.{1 if scale > 1 else 3}f"
        shown = f"{self.mean * scale:{digits}}"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} [{self.low * scale:{digits}}, {self.high * scale:{digits}}]"


def summarise(values: Sequence[float]) -> Summary:
    """Mean and mean -+ t s / sqrt(n), where t is the 97.5 % quantile of Student's t with n - 1 degrees of freedom.

    Over seeds: it tells how the result varies with tiles, weights and images drawn anew, not with the test area.

    Args:
        values: one a seed, at least one.
    """
    array = np.asarray(values, dtype=np.float64)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Summary(mean=mean, low=None, high=None, n=n)
    reach = float(stats.t.ppf(0.975, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Summary(mean=mean, low=mean - reach, high=mean + reach, n=n)
