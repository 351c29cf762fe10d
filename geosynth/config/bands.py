"""What an image's bands mean, and how their values reach the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from geosynth.config.base import Settings
from geosynth.errors import counted

ArrayLike = TypeVar("ArrayLike", bound=Any)  # a numpy array or a torch tensor; this room imports neither

ImageDtype = Literal["uint8", "uint16", "int16", "float32"]


def named_bands(names: Sequence[str], *wanted: str) -> tuple[int, ...] | None:
    """Indices of the bands with these names, ignoring case; None unless all of them exist."""
    lower = [name.casefold() for name in names]
    return tuple(map(lower.index, wanted)) if set(wanted) <= set(lower) else None


def rgb_bands(names: Sequence[str]) -> tuple[int, ...]:
    """Indices of the bands to show as red, green and blue: by name, else the first three; the last repeats if fewer."""
    last = len(names) - 1
    return named_bands(names, "red", "green", "blue") or (0, min(1, last), min(2, last))


class Quantity(Settings):
    """What the stored values of a band mean: value x `scale` + `offset`, in `unit`; by default the value itself."""

    scale: float = 1.0
    """Factor, as in GDAL; not 0."""
    offset: float = 0.0
    """Summand, as in GDAL."""
    unit: str | None = None
    """Unit, as in GDAL: "m", "reflectance", ...; None if unknown."""

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("a scale of 0 gives all values one meaning")
        return scale

    @property
    def is_known(self) -> bool:
        """Whether it differs from the default."""
        return (self.scale, self.offset, self.unit) != (1, 0, None)

    def agrees(self, other: Quantity) -> bool:
        """Whether values of both may be mixed: units are equal, and scales and offsets are, up to float32 rounding.

        A unit that only one of them has counts for both.
        """
        pairs = ((self.scale, other.scale), (self.offset, other.offset))
        units = {quantity.unit.casefold() for quantity in (self, other) if quantity.unit}
        return all(math.isclose(*pair, rel_tol=1e-6) for pair in pairs) and len(units) < 2

    def of(self, values: ArrayLike) -> ArrayLike:
        """The meaning of stored values, as floats."""
        meant: ArrayLike = values * self.scale + self.offset
        return meant

    def to_values(self) -> dict[str, Any]:
        """The values that differ from the default, as plain values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def __str__(self) -> str:
        scale = "" if self.scale == 1 else f" x {self.scale:.9g}"
        offset = "" if self.offset == 0 else f" {'-' if self.offset < 0 else '+'} {abs(self.offset):.9g}"
        return f"values{scale}{offset}{f' ({self.unit})' if self.unit else ''}"


def first_known(quantities: Sequence[Sequence[Quantity]]) -> tuple[Quantity, ...]:
    """For each band the first quantity that differs from the default; empty if no band has one.

    Args:
        quantities: for each of several images with the same bands, one quantity per band, or none at all.
    """
    by_band = zip(*filter(None, quantities), strict=True)
    found = tuple(next((one for one in band if one.is_known), Quantity()) for band in by_band)
    return found if any(one.is_known for one in found) else ()


def values_of_each(quantities: Sequence[Quantity], count: int) -> list[dict[str, Any]]:
    """What `Quantity.to_values` returns for each of `count` bands; empty dicts if `quantities` is empty."""
    return [quantity.to_values() for quantity in quantities] or [{}] * count


class BandSettings(Settings):
    """The bands of an image, what their values mean, and their scaling between raster and network."""

    names: tuple[str, ...] = Field(min_length=1)
    """The name of each band, as in `("red", "green", "blue", "nir")`."""
    low: float | tuple[float, ...] = 0.0
    """The raster value that is -1 in the network: one number for all bands, or one for each."""
    high: float | tuple[float, ...] = 255.0
    """The raster value that is 1 in the network, likewise."""
    dtype: ImageDtype = "uint8"
    """The data type of the raster."""
    quantities: tuple[Quantity, ...] = ()
    """What the raster values of each band mean; empty if that is not known."""

    @field_validator("quantities")
    @classmethod
    def _forget_what_is_not_known(cls, quantities: tuple[Quantity, ...]) -> tuple[Quantity, ...]:
        return first_known([quantities])

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, tuple) and len(value) != len(self.names):
                raise ValueError(f"{name}: {counted(len(value), 'value')} for {counted(len(self.names), 'band')}")
        if len(self.quantities) not in (0, len(self.names)):
            raise ValueError(f"quantities: {len(self.quantities)} for {counted(len(self.names), 'band')}")
        for name, (low, high) in zip(self.names, self._limits, strict=True):
            if low >= high:
                raise ValueError(f"band {name}: low must be less than high")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out unknown quantities, as files always have: equal models are equal files."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name != "quantities" or value}

    @property
    def scale(self) -> tuple[float, ...]:
        """For each band, the factor of `to_network`: network value = raster value x scale + shift."""
        return tuple(2 / (high - low) for low, high in self._limits)

    @property
    def shift(self) -> tuple[float, ...]:
        """For each band, the summand of `to_network`, see `scale`."""
        return tuple(-2 * low / (high - low) - 1 for low, high in self._limits)

    def to_network(self, values: ArrayLike) -> ArrayLike:
        """Raster values scaled to [-1, 1]; values below `low` and above `high` become -1 and 1.

        Args:
            values: float array or tensor, (..., bands, height, width).
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
        quantities = [self.quantities[number] for number in numbers] if self.quantities else ()
        return type(self)(names=names, low=low, high=high, dtype=self.dtype, quantities=tuple(quantities))

    def with_quantities(self, quantities: Sequence[Quantity]) -> Self:
        """The same bands with these quantities; quantities that are already known are kept."""
        return self.model_copy(update={"quantities": first_known([self.quantities, quantities])})

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
        place.fill_(number)  # unlike a copy, this does not wait for a GPU
    return column
