"""Where pixels of one grid are on another one, in any CRS, as fractions of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError
from geosynth.grid import Window
from geosynth.grid.crs import crs_in_short, crs_wkt, same_crs
from geosynth.raster.drivers import GDAL_ERRORS

ROUNDING = 1e-6
"""Of a pixel; positions this near to a pixel's edge count as on it."""

_POINTS = 33  # along a side, to follow the curve that it is in the other CRS


def cover(lattice: GeoBox, inner: GeoBox, name: str) -> Window:
    """The window of `lattice`, continued beyond its edges, that covers `inner`.

    Raises:
        GridError: if `inner` cannot be located in the CRS of `lattice`; it names `name`.
    """
    columns, rows = grid_points(Window(0, 0, *inner.shape))
    x, y = pixels_on(lattice, inner, columns, rows)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise GridError(f"{name}: has no place in the CRS {crs_in_short(lattice.crs)}; choose another one")
    left, top = math.floor(np.min(x) + ROUNDING), math.floor(np.min(y) + ROUNDING)
    right, bottom = math.ceil(np.max(x) - ROUNDING), math.ceil(np.max(y) - ROUNDING)
    return Window(top, left, max(1, bottom - top), max(1, right - left))


def pixels_on(
    target: GeoBox,
    source: GeoBox,
    columns: npt.NDArray[np.floating[Any]],
    rows: npt.NDArray[np.floating[Any]],
    shift: Affine | None = None,
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """Pixel coordinates (x, y) on `target` from pixel coordinates on `source`; not finite where there are none.

    Args:
        target: the grid of the result.
        source: the grid of the coordinates.
        columns: (n,).
        rows: (n,).
        shift: transform from source to target pixels, if it is known already.
    """
    if shift is None and same_crs(source.crs, target.crs):
        shift = ~target.affine @ source.affine
    if shift is not None:
        x, y = shift @ (columns, rows)
        return np.asarray(x), np.asarray(y)
    places = [np.asarray(axis).tolist() for axis in source.affine @ (columns, rows)]
    try:
        moved = rasterio.warp.transform(crs_wkt(source.crs), crs_wkt(target.crs), *places)
    except GDAL_ERRORS:  # a local CRS, or one of another planet, cannot be transformed to others
        moved = np.full((2, len(columns)), np.nan)
    x, y = ~target.affine @ (np.asarray(moved[0]), np.asarray(moved[1]))
    return np.asarray(x), np.asarray(y)


def grid_points(window: Window) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """Pixel coordinates (x, y), each (n,), of points all over a window and on its edges."""
    columns = np.linspace(window.column, window.right, _POINTS)
    rows = np.linspace(window.row, window.bottom, _POINTS)
    x, y = np.meshgrid(columns, rows)
    return x.ravel(), y.ravel()
