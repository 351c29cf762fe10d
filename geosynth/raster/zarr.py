"""Labels in a Zarr store: ours, or any that xarray reads and that says where it lies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rioxarray.exceptions import MissingSpatialDimensionError

from geosynth.errors import DataError, GridError, RasterError
from geosynth.grid import Window
from geosynth.raster.chunks import ChunkReader
from geosynth.raster.class_table import ClassTable
from geosynth.raster.read import Array, Mask, check_inside, has_data
from geosynth.raster.remote import open_group
from geosynth.raster.stores.store import Store

# --- The grid of an xarray array, from its coordinates.

_UNEVEN = 0.05  # pixels that a coordinate may lie off its place, as in grid.alignment


def single_layer(array: xr.DataArray, name: str) -> xr.DataArray:
    """`array` as (y, x), other dimensions of size one dropped; nothing is read.

    Raises:
        GridError: without spatial dimensions.
        DataError: if it has more than one layer, or holds no numbers.
    """
    try:
        y, x = array.rio.y_dim, array.rio.x_dim
    except MissingSpatialDimensionError as error:
        raise GridError(f"{name}: no dimensions y and x among {list(array.dims)}; rename them") from error
    others = [dim for dim in array.dims if dim not in (y, x)]
    if any(array.sizes[dim] != 1 for dim in others):
        sizes = ", ".join(f"{dim} {array.sizes[dim]}" for dim in others)
        raise DataError(f"{name}: more than one layer ({sizes}); choose one with .isel")
    if array.dtype.kind not in "iuf":
        raise DataError(f"{name}: holds {array.dtype} values; class codes are integers")
    return array.squeeze(others, drop=True).transpose(y, x)


def grid_of(array: xr.DataArray, name: str) -> GeoBox:
    """The grid of a (y, x) array: pixel centres from its coordinates, CRS as rioxarray finds it (or None).

    The coordinates decide, not a stored GeoTransform: selections do not keep that one up to date.

    Raises:
        GridError: if coordinates are missing, rotated or uneven; names `name`.
    """
    y, x = array.dims
    (y_start, y_step), (x_start, x_step) = (_even_steps(array, dim, name) for dim in (y, x))
    transform = Affine(x_step, 0, x_start - x_step / 2, 0, y_step, y_start - y_step / 2)
    crs = CRS(array.rio.crs.to_wkt()) if array.rio.crs else None
    return GeoBox(array.shape, transform, crs)


def _even_steps(array: xr.DataArray, dim: Any, name: str) -> tuple[float, float]:
    """First coordinate along a dimension, and the distance between neighbours."""
    if dim not in array.coords or array.coords[dim].dims != (dim,):
        raise GridError(f"{name}: no coordinates along {dim!r}, as on a rotated grid; warp it to a straight grid first")
    places = np.asarray(array.coords[dim], dtype=np.float64)
    if len(places) == 1:
        reference = array.coords.get(array.rio.grid_mapping)
        if reference is None or "GeoTransform" not in reference.attrs:
            raise GridError(f"{name}: one pixel along {dim!r}, and no GeoTransform that tells its size")
        transform = array.rio.transform()
        return float(places[0]), float(transform.a if dim == array.dims[1] else transform.e)
    step = (places[-1] - places[0]) / (len(places) - 1)
    even = places[0] + step * np.arange(len(places))
    if step == 0 or not np.abs(places - even).max() <= _UNEVEN * abs(step):
        raise GridError(f"{name}: uneven coordinates along {dim!r}; resample it to a regular grid first")
    return float(places[0]), float(step)


# --- ZarrImage: imagery in a Zarr store that xarray reads and that says where it lies.


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

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self.window, self.path)
        if self._is_flat:
            values = self._reader.read(*window.slices)[np.newaxis]
        else:
            values = self._reader.read(slice(0, self.count), *window.slices)
        return values, has_data(values, self.nodata)


def _band_names(array: xr.DataArray) -> tuple[str, ...] | None:
    names: list[Any] = []
    if array.ndim == 3 and array.dims[0] in array.coords:
        names = array.coords[array.dims[0]].to_numpy().tolist()
    if not names or not all(isinstance(name, str) for name in names):
        named = array.attrs.get("long_name", ())
        names = [named] if isinstance(named, str) else list(named)
    is_told = len(set(names)) == len(names) == (1 if array.ndim == 2 else array.shape[0])
    return tuple(str(name) for name in names) if is_told else None


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

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self.window, self.path)
        try:
            values = np.asarray(self._array[window.slices])[np.newaxis]
        except (OSError, RuntimeError, ValueError) as error:
            raise RasterError(f"{self.path}: cannot read {window}: {' '.join(str(error).split())}") from error
        return values, has_data(values, self.nodata)


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
