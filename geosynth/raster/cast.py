"""CastImage: an image whose values are read as another type."""

from __future__ import annotations

import numpy as np

from geosynth.config.bands import Quantity
from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.raster_file import RasterFile, check_one_type
from geosynth.raster.read import SCAN_BLOCK, Array, ImageRaster, Mask, View, filled


class CastImage(View, ImageRaster):
    """An image whose values are read as another type: unchanged, or for float32 rounded to the nearest number.

    Raises:
        RasterError: if the bands are of several types.
    """

    source: ImageRaster

    def __init__(self, source: ImageRaster, dtype: str) -> None:
        check_one_type(source)
        super().__init__(source)
        self.dtype, self.dtypes = np.dtype(dtype), (dtype,) * source.count
        self.bands, self.band_names = source.bands, source.band_names
        self.colour_interpretation, self.mask_kind = source.colour_interpretation, source.mask_kind

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Those of the source."""
        return self.source.quantities

    def read(self, window: Window) -> tuple[Array, Mask]:
        """See `Raster.read`; 0 without data.

        Raises:
            DataError: if a value does not fit; it counts those in the whole image.
        """
        values, valid, misfit = self._cast(*self.source.read(window))
        if misfit.any():
            count = sum(int(self._cast(*self.source.read(part))[2].sum()) for part in self.window.pieces(SCAN_BLOCK))
            others = "" if self.dtype.kind == "f" else "use --dtype float32, or "
            remedy = f" (rio convert --dtype {self.dtype} --scale-ratio RATIO FILE NEW)"
            raise DataError(
                f"{self.path}: {count} px hold values that do not fit {self.dtype}; {others}scale them first"
                f"{remedy if isinstance(self.source, RasterFile) else ''}"
            )
        return values, valid

    def read_reduced(self, shape: tuple[int, int], how: str) -> tuple[Array, Mask]:
        """See `ImageRaster`; values that do not fit are not refused."""
        return self._cast(*self.source.read_reduced(shape, how))[:2]

    def _cast(self, values: Array, valid: Mask) -> tuple[Array, Mask, Mask]:
        """Values as the other type, where there is data, and where a value does not fit."""
        values = filled(values, valid)
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(self.dtype)
        fits = np.isfinite(cast) if self.dtype.kind == "f" else cast == values
        return cast, valid, ~fits.all(axis=0)
