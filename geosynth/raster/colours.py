"""Labels that tell classes by their colours in three bands, seen as one band of codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.read import Array, Mask, Raster, RasterFile, open_raster

_RGB = ["red", "green", "blue"]
_SAMPLE, _MOST_IN_SAMPLE = 256, 4096  # side, pixels; colours that a mask has in it, soft edges and all


class ColourLabels:
    """Red, green and blue as codes 0xRRGGBB, which a `ColourLegend` reads. A `Raster`.

    Args:
        source: three bands of bytes, in this order.
    """

    count = 1
    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, source: Raster) -> None:
        self.source = source
        self.path, self.geobox, self.window = source.path, source.geobox, source.window
        hole = source.nodata
        self.nodata = None if hole is None or hole not in range(256) else int(hole) * 0x010101

    @property
    def files(self) -> tuple[str, ...]:
        """All that the source is read from."""
        files: tuple[str, ...] = getattr(self.source, "files", ())
        return files

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where there is data (height, width); see `Raster.read`."""
        bands, valid = self.source.read(window)
        codes = bands[:1].astype(self.dtype)
        for band in bands[1:]:
            codes <<= 8
            codes |= band
        return codes, valid

    def check_is_mask(self) -> None:
        """Refuse what is plainly an image, by a few pixels in its middle.

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


def colours_as_codes(raster: Raster) -> Raster:
    """A raster of red, green and blue bytes, with alpha or without, as `ColourLabels`; any other as it is."""
    if isinstance(raster, RasterFile):
        told = list(raster.colour_interpretation)
        if set(raster.dtypes) != {"uint8"} or sorted(told) not in (sorted(_RGB), sorted([*_RGB, "alpha"])):
            return raster
        bands = tuple(raster.bands[told.index(colour)] for colour in _RGB)  # alpha, left out, says where data are
        return ColourLabels(raster if bands == raster.bands else open_raster(raster.path, bands))
    told = [str(name).lower() for name in getattr(raster, "band_names", ())]
    return ColourLabels(raster) if told == _RGB and raster.dtype == np.uint8 else raster
