"""Labels that show classes by colours, or have a band for each class (one-hot), seen as one band of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.class_table import ClassTable
from geosynth.raster.raster_file import RasterFile, open_raster
from geosynth.raster.read import Array, Mask, Raster, View

_RGB = ["red", "green", "blue"]
_RGBA = [*_RGB, "alpha"]
_SAMPLE, _MOST_IN_SAMPLE = 256, 4096  # side in pixels; most colours that a mask has in it, even with soft edges
_FEWEST = 4  # bands; three are colours, which a legend can tell
_MOST = 254  # classes of a legend
_PART, _GLANCE = 4, 64  # the part of a side, and pixels, that are seen to know a raster: a few squares in a grid


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


class OneHotLabels(View):
    """Bands of 0 and 1, or of 0 and 255, as codes: the number of the band, from 1, that is set.

    A pixel that is set in no band has no data.

    Args:
        source: the bands.
    """

    def __init__(self, source: Raster) -> None:
        super().__init__(source)
        self.count, self.dtype, self.nodata = 1, np.dtype(np.uint8), None

    @property
    def class_table(self) -> ClassTable:
        """Codes with the names of their bands; empty if the bands have none."""
        names = getattr(self.source, "band_names", ())
        return {code: (name, None) for code, name in enumerate(names, start=1)} if any(names) else {}

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where there is a class (height, width); see `Raster.read`.

        Raises:
            DataError: if a pixel is set in several bands, or has another value.
        """
        values, _ = self.source.read(window)
        times = _times_set(values)
        if times is None:
            raise DataError(
                f"{self.path}: has a band for each class, but pixels in {window} have several, or other values than 0"
                " and 1 or 255; a label raster has one band of class codes"
            )
        codes = np.where(times > 0, (values != 0).argmax(axis=0) + 1, 0).astype(np.uint8)
        return codes[np.newaxis], times > 0


def labels_as_codes(raster: Raster) -> Raster:
    """Labels as one band of codes: a band for each class as `OneHotLabels`, colours as `ColourLabels`, else unchanged.

    Whether each band is a class is judged by a few squares of pixels. Bytes of red, green, blue and alpha are colours,
    unless a colour is transparent. Of codes and alpha, the codes are read, and alpha is their mask.
    """
    if isinstance(raster, RasterFile) and raster.count == 2 and "alpha" in raster.colour_interpretation:
        codes = 1 - raster.colour_interpretation.index("alpha")
        return open_raster(raster.path, raster.bands[codes : codes + 1])
    as_colours, is_set = colours_as_codes(raster), _one_hot_bands(raster)
    if isinstance(as_colours, ColourLabels):
        is_set = is_set[:3]  # alpha is set alone in a picture that is black in these squares
    return OneHotLabels(raster) if is_set.any() else as_colours


def _one_hot_bands(raster: Raster) -> Mask:
    """Which bands are set in some pixel, (bands,), judging by a few squares; none if it has no band for each class."""
    is_set = np.zeros(raster.count, bool)
    if not _FEWEST <= raster.count <= _MOST or raster.dtype.kind not in "iuf":
        return is_set
    height, width = raster.window.height, raster.window.width
    for part in raster.window.pieces(max(_GLANCE, height // _PART, width // _PART)):
        values, _ = raster.read(part.middle(_GLANCE, _GLANCE))
        if _times_set(values) is None:
            return np.zeros(raster.count, bool)
        is_set |= values.any(axis=(1, 2))
    return is_set


def _times_set(values: Array) -> npt.NDArray[np.intp] | None:
    """In how many bands a pixel is set, 0 or 1, (height, width); None if a pixel is in several or has other values."""
    times = np.count_nonzero(values, axis=0)
    is_one_hot = times.max(initial=0) <= 1 and bool(((values == 0) | (values == 1) | (values == 255)).all())
    return times if is_one_hot else None


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


LabelsOfFile = RasterFile | ColourLabels | OneHotLabels
"""Labels that lie where a file says, as codes in one band."""
