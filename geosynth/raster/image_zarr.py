"""ZarrImage: imagery in a Zarr store that xarray reads and that says where it lies."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.chunks import ChunkReader
from geosynth.raster.coordinates import grid_of
from geosynth.raster.read import Array
from geosynth.raster.remote import open_group


class ZarrImage:
    """One (band, y, x) or (y, x) array of a Zarr store, seen as a raster.

    Attributes:
        path: of the store.
        geobox: its grid.
        count: bands.
        dtype: of all bands.
        nodata: value without data, or None.
        band_names: from the coordinate of the band dimension, or the attribute `long_name`; None where neither tells.
    """

    def __init__(self, path: str | Path, variable: str = "image") -> None:
        """Open lazily.

        Raises:
            RasterError: if it is not a Zarr group.
            DataError: if there is no such variable, or its dimensions are others.
            GridError: if its coordinates are missing, rotated or uneven.
        """
        self.path = str(path)
        group = open_group(path)
        with warnings.catch_warnings():  # consolidated or not: both are read
            warnings.simplefilter("ignore", RuntimeWarning)
            dataset = xr.open_zarr(
                group.store, group=group.path, chunks=None, decode_coords="all", mask_and_scale=False
            )
        if variable not in dataset.data_vars:
            listed = ", ".join(str(name) for name in dataset.data_vars) or "none"
            raise DataError(f"{path}: no variable {variable!r}; there are: {listed}")
        array = dataset[variable]
        if array.ndim not in (2, 3) or array.dtype.kind not in "iuf":
            raise DataError(
                f"{path}: {variable!r} is {dict(array.sizes)} of {array.dtype}; imagery is numbers over (band, y, x)"
            )
        layer = array if array.ndim == 2 else array.isel({array.dims[0]: 0}, drop=True)
        self.geobox: GeoBox = grid_of(layer, self.path)
        self.count: int = 1 if array.ndim == 2 else array.shape[0]
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.nodata: float | None = array.rio.nodata
        self.band_names = _band_names(array)
        stored = group[variable]
        self.chunk_size = int(stored.chunks[-1])
        self._is_flat = array.ndim == 2
        self._reader = ChunkReader(stored, self.path)

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> Array:
        """(bands, height, width) of the array's dtype, for a window inside the raster.

        Raises:
            RasterError: if a chunk cannot be read.
        """
        if self._is_flat:
            return self._reader.read(*window.slices)[np.newaxis]
        return self._reader.read(slice(0, self.count), *window.slices)

    def read_valid(self, window: Window, *, trust_alpha: bool = True) -> npt.NDArray[np.bool_]:
        """(height, width): where some band does not hold the nodata value (as GDAL has it)."""
        if self.nodata is None or np.isnan(self.nodata):
            return np.ones((window.height, window.width), dtype=bool)
        return np.asarray((self.read(window) != self.nodata).any(axis=0))


def _band_names(array: xr.DataArray) -> tuple[str, ...] | None:
    names: list[Any] = []
    if array.ndim == 3 and array.dims[0] in array.coords:
        names = array.coords[array.dims[0]].to_numpy().tolist()
    if not names or not all(isinstance(name, str) for name in names):
        named = array.attrs.get("long_name", ())
        names = [named] if isinstance(named, str) else list(named)
    is_told = len(set(names)) == len(names) == (1 if array.ndim == 2 else array.shape[0])
    return tuple(str(name) for name in names) if is_told else None
