"""The grid of an xarray array, from its coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rioxarray.exceptions import MissingSpatialDimensionError

from geosynth.errors import DataError, GridError

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
