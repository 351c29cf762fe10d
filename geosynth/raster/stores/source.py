"""PatchSource: what patches are read from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend
from geosynth.raster.stores.scene import Scene


class PatchSource(Protocol):
    """Aligned imagery and labels on one pixel grid: a `Store`, or files read in place (`open_in_place`).

    Sources may be pickled and used after a fork and by several threads at a time.

    Attributes:
        path: a name for messages.
        geobox: the whole grid.
        legend: of the labels.
        band_names: of the imagery.
        scenes: the places on the grid that hold data.
        split: which parts of the grid are train, val and test.
    """

    path: str
    geobox: GeoBox
    legend: Legend
    band_names: tuple[str, ...]
    scenes: tuple[Scene, ...]
    split: SpatialSplit

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the imagery."""

    @property
    def chunk_size(self) -> int:
        """Side of the blocks that the imagery is stored in, pixels: windows on their edges are the cheapest."""

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance, metres a pixel; None without a projected CRS."""

    def scenes_in(self, fold: str) -> tuple[Scene, ...]:
        """The scenes that have a part in the fold."""

    def read_image(self, window: Window) -> npt.NDArray[Any]:
        """(bands, height, width); the window lies inside the grid.

        Raises:
            RasterError: if it cannot be read; names the file.
        """

    def read_labels(self, window: Window) -> npt.NDArray[np.uint8]:
        """(height, width) class indices; `num_classes` where there is no data.

        Raises:
            RasterError: if it cannot be read; names the file.
        """
