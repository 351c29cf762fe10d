"""ZarrRaster: one array of a Zarr store, ours or any that xarray reads and that says where it lies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geosynth.config.bands import told_of_each
from geosynth.errors import DataError, GridError, RasterError, one_line
from geosynth.grid import Window
from geosynth.grid.alignment import crs_name
from geosynth.raster.arrays import grid_of, with_places
from geosynth.raster.chunks import ChunkReader
from geosynth.raster.class_table import ClassTable
from geosynth.raster.quantities import quantities_among
from geosynth.raster.read import Array, Mask, check_inside, has_data
from geosynth.raster.remote import open_group
from geosynth.raster.stores.store import Store


class ZarrRaster:
    """Labels (y, x) or an image (band, y, x) in a Zarr store. A `Raster`."""

    def __init__(self, path: str | Path, variable: str | None = None) -> None:
        """Open lazily.

        Args:
            path: of the group; a URL is read through fsspec.
            variable: name of the array; None for the labels: the one called "labels", else the only integer map, or
                the only array.

        Raises:
            RasterError: if it is not a Zarr group.
            DataError: if there is no such variable, several could be the labels, or it has further dimensions.
            GridError: if its coordinates are missing, rotated or uneven.
        """
        self.path = str(path)
        group = open_group(path)
        self.class_table: ClassTable = {}
        """Code to (name, colour), by the legend of a store of ours, or by CF's `flag_values` and `flag_meanings`."""
        self.band_names: tuple[str, ...] = ()
        """By the coordinate of the band dimension, or the attribute `long_name`; empty where neither tells."""
        attributes: Mapping[str, Any] = {}
        dims: tuple[Any, ...] = ("y", "x")
        if variable is None and not {"geosynth", "geosynth_stores"}.isdisjoint(group.attrs):
            store = Store(path)  # knows rotated grids too, which have no coordinates; refuses a group of stores
            self.geobox, self.nodata = store.geobox, store.nodata
            self.class_table = {entry.code: (entry.name, entry.colour) for entry in store.legend.classes}
            stored, (y, x) = store.labels, dims
        else:
            array, (y, x), bands, others = _dimensions(
                _choose(_dataset(group, self.path), self.path, variable), self.path
            )
            layer = array.isel(dict.fromkeys(others, 0), drop=True).transpose(y, x)
            self.geobox, self.nodata = grid_of(layer, self.path), array.rio.nodata
            self.band_names, self.class_table = _band_names(array, bands), _flags(array.attrs)
            stored, dims, attributes = group[array.name], array.dims, array.attrs
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype)
        self._axes = dims.index(y), dims.index(x)
        self.block_shape: tuple[int, int] = tuple(stored.chunks[axis] for axis in self._axes)
        """Height and width of the chunks."""
        self._shape: tuple[int, ...] = stored.shape
        self.window = Window(0, 0, *self.geobox.shape)
        self.count = math.prod(self._shape) // math.prod(self.geobox.shape)
        self.quantities = quantities_among(attributes, self.count, self.path)
        """What the values of each band mean; empty where nothing tells."""
        self._reader = ChunkReader(stored, self.path)

    def describe(self) -> dict[str, Any]:
        """What it is, as plain values, by the names that `RasterFile.describe` uses."""
        names = self.band_names or [None] * self.count
        return {
            "crs": crs_name(self.geobox.crs),
            "height": self.window.height,
            "width": self.window.width,
            "transform": list(self.geobox.affine[:6]),
            "bands": [
                {"name": name, "dtype": str(self.dtype), **told}
                for name, told in zip(names, told_of_each(self.quantities, self.count), strict=True)
            ],
            "nodata": None if self.nodata is None else str(self.nodata),
            "blocks": list(self.block_shape),
            "classes": {code: name for code, (name, _) in self.class_table.items()},
        }

    @property
    def is_full(self) -> bool:
        """Whether each pixel is known to hold data, without reading it."""
        return self.nodata is None and self.dtype.kind != "f"

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self.window, self.path)
        box = [slice(0, length) for length in self._shape]
        for axis, part in zip(self._axes, window.slices, strict=True):
            box[axis] = part
        values = np.moveaxis(self._reader.read(*box), self._axes, (-2, -1)).reshape(-1, window.height, window.width)
        return values, has_data(values, self.nodata)


def describe_arrays(path: str | Path) -> dict[str, Any]:
    """The arrays of a Zarr group that are rasters, each as plain values, by name; empty if there are none.

    Raises:
        RasterError: if it is not a Zarr group.
    """
    group, described = open_group(path), {}
    with suppress(RasterError):
        for name in sorted(map(str, _dataset(group, str(path)).data_vars)):
            with suppress(DataError, GridError):
                described[name] = ZarrRaster(path, name).describe()
    return described


def _dataset(group: Any, path: str) -> xr.Dataset:
    try:
        with warnings.catch_warnings():  # consolidated or not: both are read
            warnings.simplefilter("ignore", RuntimeWarning)
            dataset: xr.Dataset = xr.open_zarr(
                group.store, group=group.path, chunks=None, decode_coords="all", mask_and_scale=False
            )
    except Exception as error:  # xarray's, zarr's and those of the network
        raise RasterError(f"{path}: xarray cannot read its arrays: {one_line(error)}") from error
    return dataset


def _dimensions(array: xr.DataArray, path: str) -> tuple[xr.DataArray, tuple[Any, Any], list[Any], list[Any]]:
    """The array, its rows and columns, the dimension that counts bands (in a list; or none), and all but the first two.

    Rows and columns are those that attributes or names tell, else the last two. Dimensions of size one beside the bands
    are passed over.
    """
    placed = with_places(array)
    y, x = (placed.rio.y_dim, placed.rio.x_dim) if placed is not None else (None, None, *array.dims)[-2:]
    array = array if placed is None else placed
    others = [dim for dim in array.dims if dim not in (y, x)]
    bands = [dim for dim in others if array.sizes[dim] > 1] or others[:1]
    if array.ndim < 2 or len(bands) > 1 or array.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {array.name!r} is {dict(array.sizes)} of {array.dtype}; a raster is numbers over (y, x) or"
            " (band, y, x)"
        )
    return array, (y, x), bands, others


def _choose(dataset: xr.Dataset, path: str, variable: str | None) -> xr.DataArray:
    """The variable of that name, else the labels."""
    if variable is not None:
        if variable not in dataset.data_vars:
            listed = ", ".join(map(str, dataset.data_vars)) or "none"
            raise DataError(f"{path}: no variable {variable!r}; there are: {listed}")
        return dataset[variable]
    if "labels" in dataset.data_vars:
        return dataset["labels"]
    maps = [
        name
        for name, values in dataset.data_vars.items()
        if values.dtype.kind in "iu" and sum(size > 1 for size in values.sizes.values()) == 2
    ]
    candidates = maps or list(dataset.data_vars)
    if len(candidates) != 1:
        told = sorted(f"{name} {dict(values.sizes)}" for name, values in dataset.data_vars.items())
        listed = ", ".join(told) or "none"  # sorted, as Zarr lists variables in any order
        raise DataError(f"{path}: which variable holds the labels? Call it 'labels'; there are: {listed}")
    return dataset[candidates[0]]


def _band_names(array: xr.DataArray, bands: Sequence[Any]) -> tuple[str, ...]:
    """Of the band dimension, if there is one, or of the only band."""
    names = array.coords[bands[0]].to_numpy().tolist() if bands and bands[0] in array.coords else []
    if not names or not all(isinstance(name, str) for name in names):
        named = array.attrs.get("long_name", ())
        names = [named] if isinstance(named, str) else list(named)
    is_told = len(set(names)) == len(names) == (array.sizes[bands[0]] if bands else 1)
    return tuple(str(name) for name in names) if is_told else ()


def _flags(attributes: Mapping[str, Any]) -> ClassTable:
    values = np.atleast_1d(attributes.get("flag_values", []))
    meanings = str(attributes.get("flag_meanings", "")).split()
    if values.shape != (len(meanings),) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return {}
    return {int(value): (meaning, None) for value, meaning in zip(values, meanings, strict=True)}
