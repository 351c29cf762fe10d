"""What the looks of a window depend on beside the place: the labels in the window and around it."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from geosynth.config import GeneratorSettings
from geosynth.models.looks.edge_effect import shares_around
from geosynth.models.looks.regions import ways_to_middles
from geosynth.models.looks.styles import STYLE_CELL


class Surroundings(NamedTuple):
    """For each cell of a window, what its labels and those around say of objects and edges."""

    ways: npt.NDArray[np.int8]
    """`ways_to_middles` of the classes in `style_regions`, (regions, 2, H / 8, W / 8)."""
    shares: npt.NDArray[np.float32]
    """`shares_around`, (num_classes, H / 8, W / 8); of no class if the generator is not conditioned on looks."""

    @classmethod
    def of(cls, labels: npt.NDArray[Any], settings: GeneratorSettings) -> Self:
        """Those of a window.

        Args:
            labels: class indices of the window and `settings.look_side` pixels around it; its sides and the absolute
                positions where windows begin are multiples of `STYLE_CELL`.
            settings: of the generator.
        """
        border = settings.look_side // STYLE_CELL
        shares = shares_around(labels, settings.num_classes if settings.style_lengths else 0)
        shares = shares[:, border : shares.shape[1] - border, border : shares.shape[2] - border]
        if settings.style_regions:
            return cls(ways_to_middles(labels, settings.style_regions), shares)
        return cls(np.empty((0, 2, *shares.shape[1:]), np.int8), shares)

    @classmethod
    def of_tile(cls, labels: npt.NDArray[Any], settings: GeneratorSettings) -> Self:
        """Those of (H, W) class indices beyond which nothing is known: as if the last labels were repeated there."""
        return cls.of(np.pad(labels, settings.look_side, mode="edge"), settings)

    def within(self, rows: slice, columns: slice) -> Self:
        """Those of a part of the window, given in pixels from its corner, multiples of `STYLE_CELL`."""
        down, across = (slice(side.start // STYLE_CELL, side.stop // STYLE_CELL) for side in (rows, columns))
        return type(self)(self.ways[..., down, across], self.shares[..., down, across])

    def tobytes(self) -> bytes:
        """All values, to tell one from another."""
        return self.ways.tobytes() + self.shares.tobytes()
