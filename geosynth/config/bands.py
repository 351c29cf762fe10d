"""What an image's bands mean, and how their values reach the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from geosynth.config.base import Settings
from geosynth.errors import counted

ArrayLike = TypeVar("ArrayLike", bound=Any)  # a numpy array or a torch tensor: this room imports neither

ImageDtype = Literal["uint8", "uint16", "int16", "float32"]


def named_bands(names: Sequence[str], *wanted: str) -> tuple[int, ...] | None:
    """Indices of the bands of these names, whatever their case; None unless all are there."""
    lower = [name.casefold() for name in names]
    return tuple(map(lower.index, wanted)) if set(wanted) <= set(lower) else None


def rgb_bands(names: Sequence[str]) -> tuple[int, ...]:
    """Indices of the bands to see as red, green and blue: by name, else the first three; of fewer, the last repeats."""
    last = len(names) - 1
    return named_bands(names, "red", "green", "blue") or (0, min(1, last), min(2, last))


class BandSettings(Settings):
    """The bands of an image, and the scaling of their values between raster and network."""

    names: tuple[str, ...] = Field(min_length=1)
    """The name of each band, as in `("red", "green", "blue", "nir")`."""
    low: float | tuple[float, ...] = 0.0
    """The raster value that is -1 in the network: one number for all bands, or one for each."""
    high: float | tuple[float, ...] = 255.0
    """The raster value that is 1 in the network, likewise."""
    dtype: ImageDtype = "uint8"
    """The data type of the raster."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, tuple) and len(value) != len(self.names):
                raise ValueError(f"{name}: {counted(len(value), 'value')} for {counted(len(self.names), 'band')}")
        for name, (low, high) in zip(self.names, self._limits, strict=True):
            if low >= high:
                raise ValueError(f"band {name}: low must be less than high")
        return self

    @property
    def scale(self) -> tuple[float, ...]:
        """For each band, the factor of `to_network`: network value = raster value x scale + shift."""
        return tuple(2 / (high - low) for low, high in self._limits)

    @property
    def shift(self) -> tuple[float, ...]:
        """For each band, the summand of `to_network`, see `scale`."""
        return tuple(-2 * low / (high - low) - 1 for low, high in self._limits)

    def to_network(self, values: ArrayLike) -> ArrayLike:
        """Raster values scaled to [-1, 1]; what lies beyond `low` and `high` becomes -1 and 1.

        Args:
            values: float array or tensor of shape (..., bands, height, width).
        """
        scaled: ArrayLike = (values * _columns(self.scale, values) + _columns(self.shift, values)).clip(-1, 1)
        return scaled

    def from_network(self, values: ArrayLike) -> ArrayLike:
        """Network values in [-1, 1] scaled to raster values: floats, which the writer rounds and casts to `dtype`."""
        low = tuple(low for low, _ in self._limits)
        half = tuple((high - low) / 2 for low, high in self._limits)
        scaled: ArrayLike = (values + 1) * _columns(half, values) + _columns(low, values)
        return scaled

    def only(self, numbers: Sequence[int]) -> Self:
        """These bands alone, in this order."""
        names, low, high = zip(*((self.names[number], *self._limits[number]) for number in numbers), strict=True)
        return type(self)(names=names, low=low, high=high, dtype=self.dtype)

    @property
    def _limits(self) -> list[tuple[float, float]]:
        both = (value if isinstance(value, tuple) else (value,) * len(self.names) for value in (self.low, self.high))
        return list(zip(*both, strict=True))


def _columns(numbers: tuple[float, ...], values: ArrayLike) -> Any:
    """One number if all are equal, else an array or tensor like `values` of shape (bands, 1, 1)."""
    if len(set(numbers)) == 1:
        return numbers[0]
    if not hasattr(values, "new_empty"):
        return values.dtype.type([[[number]] for number in numbers])
    column = values.new_empty((len(numbers), 1, 1))
    for place, number in zip(column, numbers, strict=True):
        place.fill_(number)  # on a GPU this does not wait, as a copy would
    return column
