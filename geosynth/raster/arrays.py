"""The grid of an `xarray.DataArray`: its rows and columns, their coordinates, and its CRS."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import rasterio.crs
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rioxarray.exceptions import MissingSpatialDimensionError

from geosynth.errors import DataError, GridError, RasterError
from geosynth.grid.alignment import TOLERANCE
from geosynth.inputs import remote_allowed
from geosynth.raster.conventions import crs_text_among
from geosynth.raster.georeference import check_grid, crs_of, readable_crs

_ROWS, _COLUMNS = {"y", "lat", "latitude", "northing"}, {"x", "lon", "long", "longitude", "easting"}
_DEGREES = {("lat", "lon"), ("lat", "long"), ("latitude", "longitude")}
# A CRS given as a URL, which GDAL would fetch; those of the OGC it resolves without a network.
_ADDRESS = re.compile(r"\s*https?://(?!(www\.)?opengis\.net/def/crs)", re.IGNORECASE)


def with_places(array: xr.DataArray) -> xr.DataArray | None:
    """`array` with rows and columns known to rioxarray, by CF attributes or by names; None if neither has them."""
    try:
        x, y = array.rio.x_dim, array.rio.y_dim
    except MissingSpatialDimensionError:
        told = [[dim for dim in array.dims if str(dim).casefold() in names] for names in (_COLUMNS, _ROWS)]
        if not all(told):
            return None
        x, y = told[0][0], told[1][0]
    placed: xr.DataArray = array.rio.set_spatial_dims(x, y)
    return placed


def single_layer(array: xr.DataArray, name: str) -> xr.DataArray:
    """`array` as (y, x), without its other dimensions, of size one; nothing is read.

    Raises:
        GridError: if it has no spatial dimensions.
        DataError: if it has more than one layer.
    """
    placed = with_places(array)
    if placed is None:
        raise GridError(f"{name}: no dimensions y and x among {list(array.dims)}; rename them")
    y, x = placed.rio.y_dim, placed.rio.x_dim
    others = [dim for dim in placed.dims if dim not in (y, x)]
    if any(placed.sizes[dim] != 1 for dim in others):
        sizes = ", ".join(f"{dim} {placed.sizes[dim]}" for dim in others)
        raise DataError(
            f"{name}: more than one layer ({sizes}); choose one with .isel (colours are bytes over band: red, green,"
            " blue)"
        )
    return placed.squeeze(others, drop=True).transpose(y, x)


def grid_of(array: xr.DataArray, name: str) -> GeoBox:
    """The grid of a (y, x) array: pixel centres from its coordinates, CRS as rioxarray finds it (or None).

    The coordinates decide, not a stored GeoTransform, which a selection does not update. Latitudes and longitudes
    without a CRS are taken as WGS 84.

    Raises:
        GridError: if coordinates are missing, rotated, uneven or empty; the message starts with `name`.
    """
    y, x = array.dims
    (y_start, y_step), (x_start, x_step) = (_even_steps(array, dim, name) for dim in (y, x))
    transform = Affine(x_step, 0, x_start - x_step / 2, 0, y_step, y_start - y_step / 2)
    crs = crs_among(array, name)
    if crs is None and (str(y).casefold(), str(x).casefold()) in _DEGREES:
        crs = CRS("EPSG:4326")
    geobox = GeoBox(array.shape, transform, crs)
    check_grid(geobox, name)
    return geobox


def crs_among(array: xr.DataArray, name: str) -> CRS | None:
    """The CRS of an array, as rioxarray finds it or by the Zarr convention `proj`; None for none.

    Raises:
        RasterError: if it cannot be interpreted, or is an address in the network; the message starts with `name`.
    """
    reference = array.coords.get(array.rio.grid_mapping)
    convention = crs_text_among(array.attrs)
    told = [
        array.attrs.get("crs"),
        convention,
        *([] if reference is None else map(reference.attrs.get, ("spatial_ref", "crs_wkt"))),
    ]
    for text in filter(_ADDRESS.match, map(str, told)):
        if not remote_allowed():
            raise RasterError(
                f"{name}: its CRS is read from the network ({text[:200]}); use --remote if that is intended"
            )
    with readable_crs(name):
        own = array.rio.crs
        return crs_of(rasterio.crs.CRS.from_user_input(convention) if own is None and convention else own, name)


def _even_steps(array: xr.DataArray, dim: Any, name: str) -> tuple[float, float]:
    """First coordinate along a dimension, and the distance between neighbours."""
    if dim not in array.coords or array.coords[dim].dims != (dim,):
        raise GridError(f"{name}: no coordinates along {dim!r}, as on a rotated grid; warp it to a straight grid first")
    places = np.asarray(array.coords[dim], dtype=np.float64)
    if not len(places):
        raise GridError(f"{name}: no pixel along {dim!r}")
    if len(places) == 1:
        reference = array.coords.get(array.rio.grid_mapping)
        if reference is None or "GeoTransform" not in reference.attrs:
            raise GridError(f"{name}: one pixel along {dim!r}, and no GeoTransform that gives its size")
        transform = array.rio.transform()
        return float(places[0]), float(transform.a if dim == array.dims[1] else transform.e)
    step = (places[-1] - places[0]) / (len(places) - 1)
    even = places[0] + step * np.arange(len(places))
    if step == 0 or not np.abs(places - even).max() <= TOLERANCE * abs(step):
        raise GridError(f"{name}: uneven coordinates along {dim!r}; resample it to a regular grid first")
    return float(places[0]), float(step)


def pixel_centres(geobox: GeoBox) -> dict[str, Any]:
    """The coordinates `y` and `x` of a grid that is not rotated."""
    # odc-geo names no dimensions of other CRSs, such as a site's own coordinates.
    is_named = geobox.crs is None or geobox.crs.geographic or geobox.crs.projected
    coordinates = xr_coords(geobox if is_named else GeoBox(geobox.shape, geobox.affine, None), always_yx=True)
    return {name: coordinates[name] for name in ("y", "x")}
