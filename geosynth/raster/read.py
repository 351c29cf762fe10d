"""What a raster is: pixels on one grid, read window by window; and where it has data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.errors import GridError
from geosynth.grid import Window
from geosynth.raster.class_table import ClassTable

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Read = Callable[[Window], tuple[Array, Mask]]
"""Returns the pixels of a window (bands, height, width), and where it has data (height, width)."""

SCAN_BLOCK = 2048
"""Pixels: side of the blocks in which a whole raster is read; 4 MB of labels per thread."""

# Size of GDAL's cache of decoded blocks where memory must not depend on the raster; GDAL's default is 5 % of the RAM.
CACHE_BYTES = 128 << 20


class Raster(ABC):
    """Pixels on one grid, read window by window from any thread or process: a file, a Zarr array, a mosaic, ..."""

    path: str
    """Its name in messages and provenance."""
    geobox: GeoBox
    """Shape, affine transform and CRS (None if there is none)."""
    count: int = 1
    """Number of bands."""
    dtype: np.dtype[Any]
    """Type of the values."""
    nodata: float | None
    """Declared nodata value, or None."""
    tags: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    """Its tags, such as those that record how it was made."""
    holds_colours: bool = False
    """Whether its codes are colours, 0xRRGGBB."""
    is_full: bool = False
    """Whether all pixels are known to have data, without reading them."""
    block_shape: tuple[int, int] | None = None
    """Height and width of the blocks in which it is stored; None if that is not known."""

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.geobox.shape)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it is read from, as far as they are on a disk."""
        return ()

    @property
    def class_table(self) -> ClassTable:
        """What its codes mean; empty if it does not say."""
        return {}

    @abstractmethod
    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width), and where there is data (height, width); the caller may change both.

        Raises:
            GridError: if the window reaches beyond the raster.
            RasterError: if the raster cannot be read there.
        """


class ImageRaster(Raster):
    """A raster that describes its bands: a `RasterFile`, a `ZarrRaster`, or one of these as another type."""

    bands: tuple[int, ...]
    """Numbers of the bands that are read, from 1; all below describes these."""
    dtypes: tuple[str, ...]
    """Type of the values of each band."""
    band_names: tuple[str | None, ...]
    """Name of each band, None if it has none."""
    colour_interpretation: tuple[str, ...]
    """By GDAL's names, as in ("red", "green", "blue", "alpha")."""
    mask_kind: str
    """How pixels without data are marked: "none", "nodata" (value), "mask" or "alpha" (band)."""

    @property
    def types(self) -> str:
        """The types of its values, as in "uint8", or "int16/uint8" if bands differ."""
        return "/".join(sorted(set(self.dtypes)))

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """What the values of each band mean; empty if the raster does not say."""

    @abstractmethod
    def read_reduced(self, shape: tuple[int, int], how: str) -> tuple[Array, Mask]:
        """As `read`, for the whole raster in fewer pixels, from its overviews if it has some.

        Args:
            shape: height and width of the result.
            how: "average" for images, "mode" for class codes.

        Raises:
            RasterError: if the raster cannot be read.
        """


class View(Raster):
    """Another raster, `source`, seen with other pixels; what it says of itself stays the same."""

    def __init__(self, source: Raster) -> None:
        self.source = source
        self.path, self.geobox, self.count = source.path, source.geobox, source.count
        self.dtype, self.nodata = source.dtype, source.nodata
        self.tags, self.holds_colours = source.tags, source.holds_colours

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.files

    @property
    def class_table(self) -> ClassTable:
        """That of the source."""
        return self.source.class_table


def check_inside(window: Window, raster: Raster) -> None:
    """Refuse a window that reaches beyond its raster.

    Raises:
        GridError: one line.
    """
    whole = raster.window
    if not whole.contains(window):
        raise GridError(f"{raster.path}: {window} reach beyond its {whole.height} x {whole.width} px")


def has_data(values: Array, nodata: float | Sequence[float | None] | None, *, every: bool = False) -> Mask:
    """Where pixels have data, (height, width): all bands are finite numbers, and at least one is not its nodata value.

    A negative nodata value, such as -9999, is not a brightness, as 0 and 255 may be: if a single band has it, the pixel
    has no data.

    Args:
        values: (bands, height, width).
        nodata: as declared: one value for all bands, or one per band; None for none.
        every: any nodata value in a single band is enough for no data.
    """
    valid, marked = np.zeros(values.shape[1:], bool), np.zeros(values.shape[1:], bool)
    for band, hole in zip(values, nodata if isinstance(nodata, Sequence) else [nodata] * len(values), strict=True):
        if hole is None:
            valid[:] = True
            continue
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):  # the lowest float64, declared for float32
                own = band.dtype.type(hole)
        else:  # as an integer: to compare with a float, numpy would convert all bytes to floats
            own = int(hole) if float(hole).is_integer() else hole
        differs = band != own
        valid |= differs
        if hole < 0 or every:
            marked |= ~differs
    valid &= ~marked
    return valid & np.isfinite(values).all(axis=0) if values.dtype.kind == "f" else valid


def filled(values: Array, valid: Mask, fill: float = 0) -> Array:
    """The values, with `fill` where there is no data; not copied if there is data everywhere."""
    return values if valid.all() else np.where(valid, values, fill)


def without_hidden(values: Array, valid: Mask) -> Array:
    """Imagery as networks and stores get it: 0, or NaN in floats, where there is no data, whatever is stored there.

    Floats that are NaN in some band, and so show by themselves that there is no data, are left as they are.
    """
    if values.dtype.kind != "f":
        return filled(values, valid)
    return filled(values, valid | np.isnan(values).any(axis=0), np.nan)


def bounded_cache() -> AbstractContextManager[Any]:
    """A context in which GDAL keeps at most `CACHE_BYTES` of decoded blocks, in all threads together."""
    environment: AbstractContextManager[Any] = rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)
    return environment
