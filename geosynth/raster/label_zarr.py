"""Labels in a Zarr store: ours, or any that xarray reads and that says where it lies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, RasterError
from geosynth.grid import Window
from geosynth.raster.class_table import ClassTable
from geosynth.raster.coordinates import grid_of, single_layer
from geosynth.raster.like import check_inside
from geosynth.raster.read import Array
from geosynth.raster.stores.store import Store


class ZarrLabels:
    """One two-dimensional integer array of a Zarr store, seen as a raster.

    Attributes:
        path: of the store.
        geobox: its grid.
        count: 1.
        dtype: of the codes.
        nodata: value without a class, or None.
        class_table: code to (name, colour) of our stores' legend, or by CF's `flag_values` and `flag_meanings`.
    """

    count = 1

    def __init__(self, path: str | Path, variable: str | None = None) -> None:
        """Open lazily. `variable` is taken, else the one called "labels", else the only integer map.

        Raises:
            RasterError: if it is not a Zarr group.
            DataError: if no variable, or several, could be the labels.
            GridError: if its coordinates are missing or uneven.
        """
        self.path = str(path)
        self._array: Any
        try:
            with warnings.catch_warnings():  # consolidated or not: both are read
                warnings.simplefilter("ignore", RuntimeWarning)
                dataset = xr.open_zarr(path, chunks=None, decode_coords="all", mask_and_scale=False)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise RasterError(f"{path}: cannot be read as Zarr: {' '.join(str(error).split())}") from error
        if "geosynth" in dataset.attrs:
            store = Store(path)  # knows rotated grids too, which have no coordinates
            self._array = store.labels
            self.class_table: ClassTable = {entry.code: (entry.name, entry.colour) for entry in store.legend.classes}
            self.geobox: GeoBox = store.geobox
            self.nodata: float | None = store.nodata
        else:
            self._array = single_layer(_choose(dataset, self.path, variable), self.path)
            self.class_table = _flags(self._array.attrs)
            self.geobox, self.nodata = grid_of(self._array, self.path), self._array.rio.nodata
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype)

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> Array:
        """(1, height, width) of raw codes.

        Raises:
            GridError: if the window reaches beyond the raster.
            RasterError: if a chunk cannot be read.
        """
        check_inside(window, self.window, self.path)
        try:
            return np.asarray(self._array[window.slices])[np.newaxis]
        except (OSError, RuntimeError, ValueError) as error:
            raise RasterError(f"{self.path}: cannot read {window}: {' '.join(str(error).split())}") from error

    def read_valid(self, window: Window) -> npt.NDArray[np.bool_]:
        """(height, width): where the code is not the nodata value."""
        if self.nodata is None:
            return np.ones((window.height, window.width), dtype=bool)
        return np.asarray(self.read(window)[0] != self.nodata)


def _flags(attributes: Mapping[str, Any]) -> ClassTable:
    values = np.atleast_1d(attributes.get("flag_values", []))
    meanings = str(attributes.get("flag_meanings", "")).split()
    if len(values) != len(meanings):
        return {}
    return {int(value): (meaning, None) for value, meaning in zip(values, meanings, strict=True)}


def _choose(dataset: xr.Dataset, path: str, variable: str | None) -> xr.DataArray:
    if variable is not None:
        if variable not in dataset.data_vars:
            raise DataError(f"{path}: no variable {variable!r}; there are: {', '.join(map(str, dataset.data_vars))}")
        return dataset[variable].rename(None)
    if "labels" in dataset.data_vars:
        return dataset["labels"].rename(None)
    maps = [
        name
        for name, values in dataset.data_vars.items()
        if values.dtype.kind in "iu" and sum(size > 1 for size in values.sizes.values()) == 2
    ]
    if len(maps) != 1:
        told = sorted(f"{name} {dict(values.sizes)}" for name, values in dataset.data_vars.items())
        listed = ", ".join(told) or "none"  # sorted, as Zarr lists variables in any order
        raise DataError(f"{path}: which variable holds the labels? Call it 'labels'; there are: {listed}")
    return dataset[maps[0]]
