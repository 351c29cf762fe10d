"""The look of a place and season, and what the styles of an image are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

OBJECTS = 8
"""Of a class in a tile, whose styles a look keeps."""
STREAM = 1 << 21
"""Of the random numbers of looks (`hashing`), with the next one; different from those of `models.field`."""
REACH = 1.25
"""In spacings of the objects' lattice; in classes that change gradually, objects up to here count in a mean."""


@dataclass(frozen=True)
class Look:
    """How the classes look in one place and season: styles that were observed there together.

    A style drawn from a look (`field.look_field`) is always the whole style of an observed object: a bright roof
    keeps the spread, the detail and the direction that belong to its brightness, which a normal distribution would mix
    with those of others.

    Attributes:
        mean: (num_classes, style_size), over all pixels of the class.
        departures: (tiles, num_classes, OBJECTS, style_size): styles of objects in each tile, minus the mean.
        shares: (num_classes,) share of each class in the pixels in which the look was measured.
        asked: (num_classes, style_size), the means that a generator is asked for so that it paints `mean`, see
            `calibration`; None for `mean` itself.
        around: (tiles, num_classes, OBJECTS), the share of its class around each object (`edge_effect.shares_around`).
        edge_effect: (num_classes, 2, style_size), how a style changes with that share (`edge_effect.edge_change`).
            Both are None in looks of older versions, where styles do not depend on the labels around.
    """

    mean: Tensor
    departures: Tensor
    shares: Tensor
    asked: Tensor | None = None
    around: Tensor | None = None
    edge_effect: Tensor | None = None

    def __repr__(self) -> str:
        tiles, num_classes = self.departures.shape[:2]
        return f"Look({num_classes} classes, observed in {tiles} tiles)"

    @property
    def of_tiles(self) -> Tensor:
        """What the objects of a tile have in common, minus the mean, (tiles, num_classes, 1, style_size)."""
        return self.departures.mean(2, keepdim=True)

    def to(self, device: torch.device | str) -> Look:
        """The same look on a device."""
        return Look(**{name: values.to(device) for name, values in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the names of the attributes; without those that are None."""
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: values for name, values in parts if values is not None}


class LookDraws(NamedTuple):
    """What styles are drawn from, in all windows of an image."""

    look: Look
    """Its styles are `mean` + `departures`."""
    seed: int
    gaps: Sequence[int]
    """Between the objects of each class, pixels."""
    gradual: Sequence[int]
    """Classes that change gradually."""
    style_length: int
    """Pixels between places; 0 for one place everywhere."""
