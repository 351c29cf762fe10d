"""A raster on another grid: resampled window by window in bounded memory, with the same pixels however it is cut.

Images are resampled by GDAL's warper. Nearest pixels and modes, the only methods for class codes, are computed here if
the two grids are parallel: where pixel edges coincide, GDAL's warper depends on rounding, and which of two equally
frequent codes it takes is not defined. Between grids that are not parallel, these too are GDAL's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio import enums

from geosynth.errors import GridError, RasterError, SettingsError, one_line
from geosynth.grid import Window, ground_sampling_distance
from geosynth.grid.crs import crs_wkt, metres_per_unit, same_crs
from geosynth.grid.lengths import meant, pixel_sides
from geosynth.raster.drivers import GDAL_ERRORS
from geosynth.raster.georeference import check_grid
from geosynth.raster.read import Array, Mask, Raster, View, check_inside
from geosynth.raster.reprojection import ROUNDING, grid_points, pixels_on

Resampling = Literal["nearest", "mode"]

# Radius of the kernel, in pixels of the coarser grid.
IMAGE_METHODS = {"nearest": 1, "bilinear": 1, "average": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3}
LABEL_METHODS = {"nearest": 1, "mode": 1}
_RADIUS = {**IMAGE_METHODS, **LABEL_METHODS}

_MAX_SOURCE = 2048  # pixels; side of what is read at once
_SORTED = 1 << 20  # pixels sorted at once
_SLIVER = 0.01  # of a pixel; rounding in files adds up to this, so no row of pixels is made for less
_NO_CRS = "EPSG:3857"  # an arbitrary CRS for two grids in pixel coordinates


class WarpedRaster(View):
    """`source` resampled to another grid.

    "nearest" takes the source pixel at the new pixel's centre; "mode" takes the value with the largest area in the new
    pixel, the smallest value if areas are equal (between grids that are not parallel, GDAL's choice). The others are
    GDAL's, with its exact transformer. Pixels without data do not contribute, and a new pixel has data if any pixel
    under the kernel has. Without data, integers are the nodata value, else 0; floats are NaN.

    Args:
        source: the raster.
        geobox: the grid to see it on.
        method: one of `IMAGE_METHODS` and `LABEL_METHODS`.

    Raises:
        GridError: if only one of the two grids has a CRS, or if the new one has too many pixels.
    """

    def __init__(self, source: Raster, geobox: GeoBox, method: str) -> None:
        if (source.geobox.crs is None) != (geobox.crs is None):
            raise GridError(f"{source.path}: only one of its CRS and the grid's is known; assign the right one")
        check_grid(geobox, f"{source.path} on the new grid")
        super().__init__(source)
        self.geobox = geobox
        axes = _parallel_axes(source.geobox, geobox) if method in LABEL_METHODS else None
        self._kernel = _OnAxes(source, *axes, method) if axes else _Warper(source, geobox, method)

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self)
        values = np.full((self.count, window.height, window.width), self._hole(), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        for part, below in self._parts(window):
            place = part.slices_in(window)
            resampled, valid[place] = self._kernel(part, below)
            np.copyto(values[(slice(None), *place)], resampled, where=valid[place])
        return values, valid

    def _parts(self, window: Window) -> Iterator[tuple[Window, Window]]:
        """Parts of a window, each with the window of the source that it needs; as few parts as memory allows."""
        below = self._kernel.below(window)
        if below is None:
            return
        if max(below.height, below.width) > _MAX_SOURCE and max(window.height, window.width) > 1:
            for half in _halves(window):
                yield from self._parts(half)
        else:
            yield window, below

    def _hole(self) -> float:
        if self.dtype.kind == "f":
            return math.nan
        limits = np.iinfo(self.dtype)
        return 0 if self.nodata is None or not limits.min <= self.nodata <= limits.max else self.nodata


def unwarped(raster: Raster) -> Raster:
    """The source of a warped raster; any other raster itself."""
    while isinstance(raster, WarpedRaster):
        raster = raster.source
    return raster


def resample_labels(source: Raster, gsd: float, how: Resampling = "mode") -> Raster:
    """Class codes at `gsd` metres per pixel, on the lattice of that size; `source` itself if it has that size already.

    Pixel edges are at multiples of the new size from the origin of the CRS (in the grid's own directions), so that
    neighbouring rasters that are resampled separately share a grid. The new grid covers the old one, except for slivers
    of less than a hundredth of a pixel, which come from rounding in files; pixel sizes are cleaned of rounding, too.

    Raises:
        SettingsError: if `how` is neither "nearest" nor "mode".
        GridError: if the source's pixel size is not known in metres.
    """
    if how not in LABEL_METHODS:
        raise SettingsError(f"labels are resampled by nearest or mode, not by {how!r}")
    metres, t = ground_sampling_distance(source.geobox), source.geobox.affine
    if source.geobox.crs is None:
        raise GridError(
            f"{source.path}: has no CRS, so it cannot be resampled to {gsd:g} m; assign the right one"
            " (rio edit-info --crs EPSG:CODE FILE)"
        )
    if metres is None:
        raise GridError(
            f"{source.path}: its pixels are not in metres, so they cannot be resampled to {gsd:g} m; warp it to a"
            " projected CRS first (rio warp FILE NEW --dst-crs EPSG:CODE)"
        )
    sides = pixel_sides(t)
    if math.isclose(metres, gsd, rel_tol=ROUNDING) and math.isclose(*sides, rel_tol=ROUNDING):
        return source
    size = meant(gsd / metres_per_unit(source.geobox.crs))  # in units of the CRS
    along, down = (t.a / sides[0] * size, t.d / sides[0] * size), (t.b / sides[1] * size, t.e / sides[1] * size)
    lattice = GeoBox((1, 1), Affine(along[0], down[0], 0, along[1], down[1], 0), source.geobox.crs)
    columns, rows = np.array([0, source.geobox.shape.x]), np.array([0, source.geobox.shape.y])
    (left, right), (top, bottom) = pixels_on(lattice, source.geobox, columns, rows)
    first = math.floor(left + _SLIVER), math.floor(top + _SLIVER)
    last = math.ceil(right - _SLIVER), math.ceil(bottom - _SLIVER)
    shape = max(1, last[1] - first[1]), max(1, last[0] - first[0])
    corner = lattice.affine @ first
    if max(abs(left - first[0]), abs(top - first[1])) < _SLIVER:
        corner = t.c, t.f  # exactly, not the same sum with another rounding
    transform = Affine(along[0], down[0], corner[0], along[1], down[1], corner[1])
    return WarpedRaster(source, GeoBox(shape, transform, source.geobox.crs), how)


class _Axis(NamedTuple):
    """The new grid along one axis, in source pixels: edge of its first pixel, pixel size, and the source's length.

    Positions are rounded in the same way for any window: those within `ROUNDING` of a source pixel's edge are on it.
    """

    start: float
    size: float
    length: int

    def edges(self, first: int, stop: int) -> npt.NDArray[np.float64]:
        """Edges of the new pixels `first` to `stop - 1`, clipped to the source, (stop - first + 1,)."""
        edges = self.start + np.arange(first, stop + 1) * self.size
        whole = np.round(edges)
        return np.where(np.abs(edges - whole) < ROUNDING, whole, edges).clip(0, self.length)

    def nearest(self, first: int, stop: int) -> tuple[npt.NDArray[np.int64], Mask]:
        """The source pixel at the centre of each new pixel, else the nearest one; and where there is one."""
        centres = self.start + (np.arange(first, stop) + 0.5) * self.size
        below = np.floor(centres + ROUNDING).astype(np.int64)
        return below.clip(0, self.length - 1), (below >= 0) & (below < self.length)

    def below(self, first: int, stop: int) -> tuple[int, int]:
        """The first source pixel that the new pixels need, and the first one after those."""
        edges, (nearest, _) = self.edges(first, stop), self.nearest(first, stop)
        return min(int(edges[0]), int(nearest[0])), max(math.ceil(edges[-1]), int(nearest[-1]) + 1)


def _parallel_axes(source: GeoBox, target: GeoBox) -> tuple[_Axis, _Axis] | None:
    """Rows and columns of `target` in pixels of `source`, if the two grids are parallel."""
    if not same_crs(source.crs, target.crs):
        return None
    shift = ~source.affine @ target.affine
    drift = max(abs(shift.b), abs(shift.d)) * max(target.shape)  # in pixels, over the whole raster
    if drift > ROUNDING or shift.a <= 0 or shift.e <= 0:
        return None
    return _Axis(shift.f, shift.e, source.shape.y), _Axis(shift.c, shift.a, source.shape.x)


class _OnAxes:
    """The nearest pixels, or the modes, of a raster on a parallel grid."""

    def __init__(self, source: Raster, rows: _Axis, columns: _Axis, method: str) -> None:
        self._source, self._rows, self._columns, self._method = source, rows, columns, method

    def below(self, window: Window) -> Window:
        """The window of the source that a window needs."""
        top, bottom = self._rows.below(window.row, window.bottom)
        left, right = self._columns.below(window.column, window.right)
        return Window(top, left, bottom - top, right - left)

    def __call__(self, window: Window, below: Window) -> tuple[Array, Mask]:
        values, valid = self._source.read(below)
        if self._method == "nearest":
            rows, has_row = self._rows.nearest(window.row, window.bottom)
            columns, has_column = self._columns.nearest(window.column, window.right)
            picked = np.ix_(rows - below.row, columns - below.column)
            return values[:, picked[0], picked[1]], valid[picked] & has_row[:, np.newaxis] & has_column
        across = self._rows.edges(window.row, window.bottom) - below.row
        along = self._columns.edges(window.column, window.right) - below.column
        modes = np.stack([_modes(band, valid, across, along) for band in values])
        return modes, _areas(valid, across, along) > ROUNDING


def _modes(values: Array, valid: Mask, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Array:
    """Values with the largest area between neighbouring `rows` and `columns`, the smallest if areas are equal; else 0.

    The source pixels of each new pixel are sorted, so that the time does not depend on the number of values.
    """
    (row, tall), (column, wide) = _overlaps(rows, len(values)), _overlaps(columns, values.shape[1])
    modes = np.zeros((row.shape[1], column.shape[1]), values.dtype)
    step = max(1, _SORTED // (column.size * len(row)))
    for strip in (slice(first, first + step) for first in range(0, len(modes), step)):
        place = row[:, None, strip, None], column[:, None]
        shape = -1, *modes[strip].shape
        below = values[place].reshape(shape)
        area = (tall[:, None, strip, None] * wide[:, None] * valid[place]).reshape(shape)
        order = np.argsort(below, axis=0)
        below, total = np.take_along_axis(below, order, 0), np.cumsum(np.take_along_axis(area, order, 0), axis=0)
        is_last = np.append(below[1:] != below[:-1], np.ones((1, *shape[1:]), bool), axis=0)  # of its value
        total[1:] -= np.maximum.accumulate(np.where(is_last, total, 0), axis=0)[:-1]
        area = np.where(is_last, total, 0)
        largest = area.max(axis=0)
        first = np.argmax(area >= largest - ROUNDING, axis=0)
        modes[strip] = np.where(largest > ROUNDING, np.take_along_axis(below, first[np.newaxis], 0)[0], 0)
    return modes


def _overlaps(edges: npt.NDArray[np.float64], length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Source pixels between neighbouring edges along an axis, and the share of each, (largest number, new pixels)."""
    first, stop = np.floor(edges[:-1]).astype(np.int64), np.ceil(edges[1:]).astype(np.int64)
    most = int(np.max(stop - first, initial=1))
    pixels = first + np.arange(most, dtype=np.int64)[:, np.newaxis]
    parts = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return pixels.clip(max=length - 1), parts.clip(min=0)


def _areas(mask: Mask, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Area of `mask` between neighbouring edges, in pixels, by differences of running sums along one axis at a time."""
    return _sums(_sums(mask.astype(np.float64), rows).T, columns).T


def _sums(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integrals of piecewise constant columns of `values` between neighbouring edges: (len(edges) - 1, columns)."""
    running = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=running[1:])
    whole = np.floor(edges).astype(np.int64)
    inner = values[whole.clip(max=len(values) - 1)] * (edges - whole)[:, np.newaxis]
    sums: npt.NDArray[np.float64] = np.diff(running[whole] + inner, axis=0)
    return sums


class _Warper:
    """GDAL's warper, without its approximate transformer, with one scale for the whole raster."""

    def __init__(self, source: Raster, geobox: GeoBox, method: str) -> None:
        self._source, self._geobox, self._dtype, self._method = source, geobox, source.dtype, method
        self._to_source: Affine | None = None  # from target pixels to source pixels, if the CRS is the same
        if same_crs(source.geobox.crs, geobox.crs):
            shift = ~source.geobox.affine @ geobox.affine
            self._to_source = Affine(
                *(_clean(value, 1e-6 if place in (2, 5) else 1e-9) for place, value in enumerate(shift[:6]))
            )
        self.scale = self._measure_scale()

    def _measure_scale(self) -> tuple[float, float]:
        """Target pixels per source pixel along x and y, in the middle; GDAL would measure it for each window."""
        height, width = self._geobox.shape
        columns, rows = width / 2 + np.array([0.0, 1.0, 0.0]), height / 2 + np.array([0.0, 0.0, 1.0])
        x, y = pixels_on(self._source.geobox, self._geobox, columns, rows)
        steps = [math.hypot(*(places[1:] - places[0])) for places in (x, y)]
        if not all(0 < step < math.inf for step in steps):
            raise GridError(f"{self._source.path}: has no place on the grid it is to be warped to; choose another CRS")
        return 1 / steps[0], 1 / steps[1]

    def below(self, window: Window) -> Window | None:
        """The window of the source that a window needs; None if there is none."""
        columns, rows = grid_points(window)
        x, y = pixels_on(self._source.geobox, self._geobox, columns, rows, self._to_source)
        found = np.isfinite(x) & np.isfinite(y)
        if not found.any():
            return None
        edges = []
        for places, length in ((y[found], window.height), (x[found], window.width)):
            low, high = np.min(places), np.max(places)
            scale = max(1.0, (high - low) / length)
            margin = _RADIUS[self._method] * scale + 2 + (0.02 * (high - low) if self._to_source is None else 0)
            edges.append((math.floor(low - margin), math.ceil(high + margin)))
        (top, bottom), (left, right) = edges
        return Window(top, left, bottom - top, right - left).intersection(self._source.window)

    def __call__(self, window: Window, below: Window) -> tuple[Array, Mask]:
        pixels, valid = self._source.read(below)
        wide = self._dtype.itemsize > 4 or (self._dtype.itemsize == 4 and self._dtype.kind != "f")
        values = pixels.astype(np.float64 if wide else np.float32)  # represents the source's values exactly
        values[:, ~valid] = np.nan
        warped = np.full((len(values), window.height, window.width), np.nan, values.dtype)
        try:
            rasterio.warp.reproject(
                values,
                warped,
                **self._transforms(window, below),
                src_nodata=np.nan,
                dst_nodata=np.nan,
                resampling=enums.Resampling[self._method],
                tolerance=0,
                XSCALE=self.scale[0],
                YSCALE=self.scale[1],
            )
        except GDAL_ERRORS as error:
            raise RasterError(f"{self._source.path}: cannot be warped at {window}: {one_line(error)}") from error
        has_data = np.asarray(~np.isnan(warped).any(axis=0))
        if self._dtype.kind != "f":
            limits = np.iinfo(self._dtype)
            warped = np.floor(np.where(has_data, warped, 0) + 0.5).clip(limits.min, limits.max)
        return warped.astype(self._dtype), has_data

    def _transforms(self, window: Window, below: Window) -> dict[str, Any]:
        target, source = Affine.translation(window.column, window.row), Affine.translation(below.column, below.row)
        if self._to_source is not None:  # enlarged, as GDAL takes pixels of size 1 for no transform
            size = 4 if abs(self._to_source.a) == 0.5 else 2
            blown = Affine.scale(size, -size)
            transforms = (blown @ self._to_source @ target, blown @ source)
            return dict(zip(("dst_transform", "src_transform"), transforms, strict=True)) | dict.fromkeys(
                ("dst_crs", "src_crs"), _NO_CRS
            )
        return {
            "dst_transform": self._geobox.affine @ target,
            "src_transform": self._source.geobox.affine @ source,
            "dst_crs": crs_wkt(self._geobox.crs),
            "src_crs": crs_wkt(self._source.geobox.crs),
        }


def _clean(value: float, tolerance: float) -> float:
    """A number without the rounding of large coordinates, which matters where edges coincide: 0.41666666 is 5/12."""
    simple = float(Fraction(value).limit_denominator(1000))
    return simple if abs(simple - value) <= tolerance else value


def _halves(window: Window) -> tuple[Window, Window]:
    row, column, height, width = window.row, window.column, window.height, window.width
    if height >= width:
        half = height // 2
        return Window(row, column, half, width), Window(row + half, column, height - half, width)
    half = width // 2
    return Window(row, column, height, half), Window(row, column + half, height, width - half)
