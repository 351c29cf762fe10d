"""KeptTiles: a source of which only some tiles may be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.grid import SpatialSplit, Window
from geosynth.grid.split import FOLDS
from geosynth.raster.stores.scene import Scene
from geosynth.raster.stores.source import PatchSource


class KeptTiles:
    """A `PatchSource` with a smaller fold: what lies in no kept tile belongs to no fold. Nothing is copied.

    A patch may reach over several tiles that touch.

    Args:
        source: to read from.
        fold: that is made smaller.
        tiles: what is left of it.
    """

    def __init__(self, source: PatchSource, fold: str, tiles: Sequence[Window]) -> None:
        self._source = source
        self.path, self.geobox, self.legend = source.path, source.geobox, source.legend
        self.band_names, self.scenes = source.band_names, source.scenes
        kept = SpatialSplit.by_scenes({fold: tiles}).area(fold)
        train, val, test = (kept if name == fold else source.split.area(name) for name in FOLDS)
        self.split = SpatialSplit((train, val, test), source.split.buffer)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the imagery."""
        return self._source.dtype

    @property
    def chunk_size(self) -> int:
        """See `PatchSource`."""
        return self._source.chunk_size

    @property
    def gsd(self) -> float | None:
        """See `PatchSource`."""
        return self._source.gsd

    def scenes_in(self, fold: str) -> tuple[Scene, ...]:
        """The scenes that have a part in the fold."""
        return tuple(scene for scene in self.scenes if self.split.meets(scene.window, fold))

    def read_image(self, window: Window) -> npt.NDArray[Any]:
        """See `PatchSource`."""
        return self._source.read_image(window)

    def read_labels(self, window: Window) -> npt.NDArray[np.uint8]:
        """See `PatchSource`."""
        return self._source.read_labels(window)
