"""The georeference of rasters: grids without a place and CRSs without a meaning are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError, RasterError, one_line
from geosynth.raster.drivers import GDAL_ERRORS

_LARGEST = 1 << 44  # pixels, in a raster's side and to the CRS's origin: the Earth's circumference at 2 micrometres
_CRS_ERRORS: tuple[type[Exception], ...] = (*GDAL_ERRORS, RuntimeError)  # of rasterio, and of pyproj


def check_grid(geobox: GeoBox, name: str) -> None:
    """Refuse a grid whose pixels have no size or place, or are more than can be counted.

    Raises:
        GridError: one line.
    """
    t = geobox.affine
    size = abs(t.determinant)
    is_sound = all(map(math.isfinite, t[:6])) and 0 < size < math.inf
    if not is_sound or max(map(abs, ~t @ (0.0, 0.0))) > _LARGEST:
        raise GridError(f"{name}: its transform {tuple(t[:6])} gives pixels no place; assign the right one")
    if math.prod(geobox.shape) > _LARGEST:
        raise GridError(f"{name}: says that it has {geobox.shape.y} x {geobox.shape.x} px; no raster is so large")


def crs_of(known: Any, name: str) -> CRS | None:
    """A CRS of rasterio as one of odc-geo; None for none.

    Raises:
        RasterError: if it cannot be interpreted; it names `name`.
    """
    with readable_crs(name):
        return CRS(known.to_wkt()) if known else None


@contextmanager
def readable_crs(name: str) -> Iterator[None]:
    """Raise errors of a CRS as a RasterError that names `name`."""
    try:
        yield
    except _CRS_ERRORS as error:
        raise RasterError(f"{name}: its CRS cannot be read: {one_line(error)}") from error
