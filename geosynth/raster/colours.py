"""Labels that show classes by their colours in three bands, seen as one band of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.class_table import ClassTable
from geosynth.raster.raster_file import RasterFile, open_raster
from geosynth.raster.read import Array, Mask, Raster, View

_RGB = ["red", "green", "blue"]
_RGBA = [*_RGB, "alpha"]
_SAMPLE, _MOST_IN_SAMPLE = 256, 4096  # side in pixels; most colours that a mask has in it, even with soft edges


class ColourLabels(View):
    """Red, green and blue as codes 0xRRGGBB, which a `ColourLegend` reads.

    Args:
        source: three bands of bytes, in this order; a fourth one is alpha, 0 where there is no data.
    """

    def __init__(self, source: Raster) -> None:
        super().__init__(source)
        self.count, self.dtype, self.nodata = 1, np.dtype(np.uint32), nodata_colour(source.nodata)
        self.holds_colours = True

    @property
    def class_table(self) -> ClassTable:
        """Empty: colours mean what they mean to a legend."""
        return {}

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where there is data (height, width); see `Raster.read`."""
        (red, green, blue, *alpha), valid = self.source.read(window)
        for band in alpha:
            valid = valid & (band > 0)
        return colour_codes(red, green, blue)[np.newaxis], valid

    def check_is_mask(self) -> None:
        """Refuse what is plainly an image, judging by a few pixels in its middle.

        Raises:
            DataError: one line.
        """
        middle = self.window.middle(_SAMPLE, _SAMPLE)
        codes, valid = self.read(middle)
        if (found := len(np.unique(codes[0][valid]))) > _MOST_IN_SAMPLE:
            raise DataError(
                f"{self.path}: has {found} colours in {middle.height} x {middle.width} px: an image, or a mask with"
                " soft edges (JPEG, smooth resampling)? A label raster has one band of class codes, or the colours of"
                " its classes alone"
            )


def colour_codes(red: Any, green: Any, blue: Any) -> Any:
    """Codes 0xRRGGBB from bands of bytes, arrays of numpy, dask or xarray; lazy ones are not read."""
    return (red.astype(np.uint32) << 16) | (green.astype(np.uint32) << 8) | blue


def nodata_colour(value: float | None) -> int | None:
    """The code of the colour with a nodata value in all three bands; None if that is not a byte."""
    return None if value is None or value not in range(256) else int(value) * 0x010101


def are_colours(names: Sequence[str | None], dtype: np.dtype[Any]) -> bool:
    """Whether bands of these names are red, green and blue, with alpha or without."""
    return dtype == np.uint8 and [str(name).lower() for name in names] in (_RGB, _RGBA)


def colours_as_codes(raster: Raster) -> Raster:
    """A raster of red, green and blue bytes, with or without alpha, as `ColourLabels`; any other unchanged."""
    if isinstance(raster, RasterFile):
        told = list(raster.colour_interpretation)
        if set(raster.dtypes) != {"uint8"} or sorted(told) not in (sorted(_RGB), sorted(_RGBA)):
            return raster
        bands = tuple(raster.bands[told.index(colour)] for colour in _RGB)  # without alpha, which then is the mask
        return ColourLabels(raster if bands == raster.bands else open_raster(raster.path, bands))
    return ColourLabels(raster) if are_colours(getattr(raster, "band_names", ()), raster.dtype) else raster
