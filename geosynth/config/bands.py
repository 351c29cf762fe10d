"""What an image's bands mean, and how their values reach the network."""

from __future__ import annotations

import math
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from geosynth.config.base import Settings

ArrayLike = TypeVar("ArrayLike", bound=Any)  # a numpy array or a torch tensor: this room imports neither

ImageDtype = Literal["uint8", "uint16", "int16", "float32"]


class BandSettings(Settings):
    """What the generator's output channels mean.

    Attributes:
        names: one a band, as in `("red", "green", "blue", "nir")`.
        low, high: raster values that correspond to -1 and 1 in the network: one number for all bands, or one a band.
        dtype: of the raster.
    """

    names: tuple[str, ...] = Field(min_length=1)
    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 255.0
    dtype: ImageDtype = "uint8"

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, tuple) and len(value) != len(self.names):
                raise ValueError(f"{name}: {len(value)} values for {len(self.names)} bands")
        for name, (low, high) in zip(self.names, self._limits, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"band {name}: low must be less than high, and both finite")
        return self

    @property
    def scale(self) -> tuple[float, ...]:
        """By which each band's values are multiplied on their way to the network; then `shift` is added."""
        return tuple(2 / (high - low) for low, high in self._limits)

    @property
    def shift(self) -> tuple[float, ...]:
        """See `scale`."""
        return tuple(-2 * low / (high - low) - 1 for low, high in self._limits)

    def to_network(self, values: ArrayLike) -> ArrayLike:
        """Raster values scaled to [-1, 1]; what lies beyond `low` and `high` becomes -1 and 1.

        Args:
            values: a float array or tensor, (..., bands, height, width).
        """
        scaled: ArrayLike = (values * _columns(self.scale, values) + _columns(self.shift, values)).clip(-1, 1)
        return scaled

    def from_network(self, values: ArrayLike) -> ArrayLike:
        """The inverse of `to_network` within the limits; rounding and casting to `dtype` are left to the writer."""
        low = tuple(low for low, _ in self._limits)
        half = tuple((high - low) / 2 for low, high in self._limits)
        scaled: ArrayLike = (values + 1) * _columns(half, values) + _columns(low, values)
        return scaled

    @property
    def _limits(self) -> list[tuple[float, float]]:
        both = (value if isinstance(value, tuple) else (value,) * len(self.names) for value in (self.low, self.high))
        return list(zip(*both, strict=True))


def _columns(numbers: tuple[float, ...], values: ArrayLike) -> Any:
    """One number, if all are equal; else (bands, 1, 1) of the kind of `values`."""
    if len(set(numbers)) == 1:
        return numbers[0]
    column = [[[number]] for number in numbers]
    return values.new_tensor(column) if hasattr(values, "new_tensor") else values.dtype.type(column)
