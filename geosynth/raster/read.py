"""Open a raster once, read windows of it from any thread or process."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geosynth.errors import RasterError
from geosynth.grid import Window

Array = npt.NDArray[Any]


class Raster:
    """A raster file: what it is, and windowed reading.

    The description is read once. Handles are opened per process and thread, because a GDAL handle shared between them
    gives wrong pixels; a Raster may be pickled and sent to workers.

    Attributes:
        path: file name or URL.
        geobox: shape, affine transform and CRS (None where the file has none).
        count: number of bands.
        dtype: of the first band.
        dtypes: of all bands.
        nodata: declared nodata value, or None.
        band_names: descriptions; None where a band has none.
        colour_interpretation: GDAL's names, as in ("red", "green", "blue", "alpha").
        tags: of the default domain.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._local = threading.local()
        dataset = self._dataset()
        _refuse_unreferenced(dataset, self.path)
        crs = CRS(dataset.crs.to_wkt()) if dataset.crs else None
        self.geobox = GeoBox((dataset.height, dataset.width), dataset.transform, crs)
        self.count: int = dataset.count
        self.dtypes: tuple[str, ...] = dataset.dtypes
        self.dtype = np.dtype(dataset.dtypes[0])
        self.nodata: float | None = dataset.nodata
        self.band_names: tuple[str | None, ...] = dataset.descriptions
        self.colour_interpretation = tuple(band.name for band in dataset.colorinterp)
        self.tags: dict[str, str] = dataset.tags()
        self._all_valid = all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums)
        self._has_alpha = ColorInterp.alpha in dataset.colorinterp

    @property
    def window(self) -> Window:
        """The whole raster."""
        height, width = self.geobox.shape
        return Window(0, 0, height, width)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Height and width of the file's own blocks."""
        height, width = self._dataset().block_shapes[0]
        return height, width

    @property
    def overviews(self) -> list[int]:
        """Decimation factors of the file's overviews."""
        return list(self._dataset().overviews(1))

    @property
    def colour_table(self) -> dict[int, tuple[int, ...]]:
        """Code to (red, green, blue, alpha); empty where the file has none."""
        try:
            return dict(self._dataset().colormap(1))
        except ValueError:
            return {}

    def read(self, window: Window, bands: Sequence[int] | None = None) -> Array:
        """(bands, height, width) of the file's dtype; `bands` count from 1.

        Raises:
            RasterError: if the file cannot be read there.
        """
        rows, columns = window.slices
        try:
            values: Array = self._dataset().read(
                list(bands) if bands is not None else None,
                window=((rows.start, rows.stop), (columns.start, columns.stop)),
            )
        except RasterioError as error:
            raise RasterError(f"{self.path}: cannot read {window}: {_one_line(error)}") from error
        return values

    def read_valid(self, window: Window, *, trust_alpha: bool = True) -> npt.NDArray[np.bool_]:
        """(height, width): where the file has data, by its nodata value, mask or alpha band.

        Args:
            trust_alpha: False where the band marked alpha is known to be data: GDAL calls the fourth band of an unmarked
                4-band file alpha, near infrared or not.
        """
        if self._all_valid or (self._has_alpha and not trust_alpha):
            return np.ones((window.height, window.width), dtype=bool)
        rows, columns = window.slices
        try:
            mask = self._dataset().dataset_mask(window=((rows.start, rows.stop), (columns.start, columns.stop)))
        except RasterioError as error:
            raise RasterError(f"{self.path}: cannot read the mask of {window}: {_one_line(error)}") from error
        return np.asarray(mask != 0)

    def _dataset(self) -> Any:
        held = getattr(self._local, "held", None)
        if held is None or held[0] != os.getpid():
            held = (os.getpid(), _open(self.path))
            self._local.held = held
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def __repr__(self) -> str:
        height, width = self.geobox.shape
        return f"Raster({self.path!r}, {self.count} x {height} x {width}, {self.dtype})"


def open_raster(path: str | Path) -> Raster:
    """Open a raster that GDAL can read (GeoTIFF, COG, VRT, ...), by file name or URL.

    Raises:
        RasterError: if it is missing, not a raster, or placed on the ground only by control points or RPCs.
    """
    return Raster(path)


def _open(path: str) -> Any:
    local = "://" not in path and not path.startswith("/vsi")
    if local and not Path(path).exists():
        raise RasterError(f"{path}: no such file")
    if local and Path(path).is_dir():
        raise RasterError(f"{path}: is a folder, not a raster file")
    try:
        with warnings.catch_warnings():  # a missing georeference is reported by whoever needs one
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise RasterError(f"{path}: cannot be opened as a raster: {_one_line(error)}") from error


def _refuse_unreferenced(dataset: Any, path: str) -> None:
    if dataset.transform.is_identity and (dataset.gcps[0] or dataset.rpcs):
        how = "ground control points" if dataset.gcps[0] else "RPCs"
        raise RasterError(f"{path}: is placed by {how}, not by a grid; warp it to a grid first (gdalwarp)")


def _one_line(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())
