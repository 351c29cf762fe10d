"""What label rasters are read from, be it a file, a Zarr array, many tiles, or another of these, resampled."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError
from geosynth.grid import Window


class RasterLike(Protocol):
    """A raster on one grid, read window by window from any thread; may be pickled and sent to workers."""

    @property
    def path(self) -> str:
        """What messages and provenance call it."""
        ...

    @property
    def geobox(self) -> GeoBox:
        """Shape, affine transform and CRS (None where there is none)."""
        ...

    @property
    def count(self) -> int:
        """Number of bands."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        ...

    @property
    def nodata(self) -> float | None:
        """Declared nodata value, or None."""
        ...

    @property
    def window(self) -> Window:
        """The whole raster."""
        ...

    def read(self, window: Window) -> npt.NDArray[Any]:
        """(bands, height, width) of a window inside the raster."""
        ...

    def read_valid(self, window: Window) -> npt.NDArray[np.bool_]:
        """(height, width): where there is data, for a window inside the raster."""
        ...


def check_inside(window: Window, whole: Window, name: str) -> None:
    """Refuse a window that reaches beyond its raster.

    Raises:
        GridError: one line.
    """
    if not whole.contains(window):
        raise GridError(f"{name}: {window} reach beyond its {whole.height} x {whole.width} px")
