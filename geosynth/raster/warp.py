"""Labels on a grid of other pixels: class codes resampled window by window, in bounded memory."""

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
from rasterio.errors import RasterioError

from geosynth.errors import GridError, RasterError, SettingsError
from geosynth.grid import TilePlan, Window, ground_sampling_distance
from geosynth.grid.alignment import same_crs
from geosynth.raster.read import Array, Mask, Raster, check_inside

# --- A raster seen on another grid: warped window by window, the same pixels however it is cut.

# Radius of the kernel, in pixels of the coarser grid.
IMAGE_METHODS = {"nearest": 1, "bilinear": 1, "average": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3}
LABEL_METHODS = {"nearest": 1, "mode": 1}
_RADIUS = {**IMAGE_METHODS, **LABEL_METHODS}

_MAX_SOURCE = 4096  # pixels; side of what is read at once
_POINTS = 33  # along a side: where the other CRS's curves are looked at
_EDGE = 1e-6  # of a pixel: what lies this near to a pixel's edge lies on it
_NO_CRS = "EPSG:3857"  # stands for "one CRS, whichever": pixel coordinates need no other


class WarpedRaster:
    """`source` resampled to `geobox` by GDAL's warper, without its approximate transformer.

    Pixels without data take no part in a mean; a pixel has data where GDAL's kernel finds some. In integer rasters
    pixels without data hold the nodata value, else 0; in others NaN.

    Args:
        source: the raster.
        geobox: the grid to see it on.
        method: "nearest", "bilinear", "average", "cubic", "cubic_spline", "lanczos" or "mode".

    Raises:
        GridError: if one of the two grids has a CRS and the other none.
    """

    def __init__(self, source: Raster, geobox: GeoBox, method: str) -> None:
        if (source.geobox.crs is None) != (geobox.crs is None):
            raise GridError(f"{source.path}: only one of its CRS and the grid's is known; assign the right one")
        self.source, self.geobox = source, geobox
        self.path, self.count, self.dtype, self.nodata = source.path, source.count, source.dtype, source.nodata
        self._method = method
        self._one_crs = same_crs(source.geobox, geobox)
        # Target pixels to source pixels.
        shift = ~source.geobox.affine * geobox.affine
        self._to_source = Affine(
            *(_clean(value, 1e-6 if place in (2, 5) else 1e-9) for place, value in enumerate(shift[:6]))
        )
        self._scale = self._measure_scale()

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self.window, self.path)
        warped = self._warp(window)
        valid = ~np.isnan(warped).any(axis=0)
        if not np.issubdtype(self.dtype, np.integer):
            return warped.astype(self.dtype), valid
        limits = np.iinfo(self.dtype)
        hole = 0 if self.nodata is None or not limits.min <= self.nodata <= limits.max else self.nodata
        rounded = np.floor(warped + 0.5).clip(limits.min, limits.max)
        return np.where(np.isnan(warped), hole, rounded).astype(self.dtype), valid

    def _warp(self, window: Window) -> npt.NDArray[np.floating[Any]]:
        """(bands, height, width), NaN where there is no data."""
        wide = self.dtype.itemsize > 4 or (self.dtype.itemsize == 4 and self.dtype.kind != "f")
        dtype = np.float64 if wide else np.float32  # exact for the source's values
        warped = np.full((self.count, window.height, window.width), np.nan, dtype)
        below = self._below(window)
        if below is None:
            return warped
        if max(below.height, below.width) > _MAX_SOURCE and max(window.height, window.width) > 1:
            for part in _halves(window):
                place = part.shift(-window.row, -window.column).slices
                warped[(slice(None), *place)] = self._warp(part)
            return warped
        pixels, valid = self.source.read(below)
        values = pixels.astype(dtype)
        values[:, ~valid] = np.nan
        try:
            rasterio.warp.reproject(
                values,
                warped,
                **self._transforms(window, below),
                src_nodata=np.nan,
                dst_nodata=np.nan,
                resampling=enums.Resampling[self._method],
                tolerance=0,
                XSCALE=self._scale[0],
                YSCALE=self._scale[1],
            )
        except RasterioError as error:
            raise RasterError(f"{self.path}: cannot be warped at {window}: {' '.join(str(error).split())}") from error
        return warped

    def _transforms(self, window: Window, below: Window) -> dict[str, Any]:
        target, source = Affine.translation(window.column, window.row), Affine.translation(below.column, below.row)
        if self._one_crs:  # pixels of the source, blown up: GDAL takes pixels of size 1 for no transform at all
            size = 4 if abs(self._to_source.a) == 0.5 else 2
            blown = Affine.scale(size, -size)
            transforms = (blown * self._to_source * target, blown * source)
            return dict(zip(("dst_transform", "src_transform"), transforms, strict=True)) | dict.fromkeys(
                ("dst_crs", "src_crs"), _NO_CRS
            )
        return {
            "dst_transform": self.geobox.affine * target,
            "src_transform": self.source.geobox.affine * source,
            "dst_crs": str(self.geobox.crs),
            "src_crs": str(self.source.geobox.crs),
        }

    def _measure_scale(self) -> tuple[float, float]:
        """Target pixels a source pixel, along x and y, in the middle; GDAL would take another one for each window."""
        height, width = self.geobox.shape
        columns, rows = width / 2 + np.array([0.0, 1.0, 0.0]), height / 2 + np.array([0.0, 0.0, 1.0])
        x, y = pixels_on(self.source.geobox, self.geobox, columns, rows)
        steps = [math.hypot(*(places[1:] - places[0])) for places in (x, y)]
        if not all(0 < step < math.inf for step in steps):
            raise GridError(f"{self.path}: has no place on the grid it is to be warped to; choose another CRS")
        return 1 / steps[0], 1 / steps[1]

    def _below(self, window: Window) -> Window | None:
        """The source's pixels that a window needs; None if it has none there."""
        columns, rows = _grid_points(window)
        x, y = pixels_on(self.source.geobox, self.geobox, columns, rows, None if not self._one_crs else self._to_source)
        found = np.isfinite(x) & np.isfinite(y)
        if not found.any():
            return None
        edges = []
        for places, length in ((y[found], window.height), (x[found], window.width)):
            low, high = places.min(), places.max()
            scale = max(1.0, (high - low) / length)
            margin = _RADIUS[self._method] * scale + 2 + (0 if self._one_crs else 0.02 * (high - low))
            edges.append((math.floor(low - margin), math.ceil(high + margin)))
        (top, bottom), (left, right) = edges
        return Window(top, left, bottom - top, right - left).intersection(self.source.window)


def unwarped(raster: Raster) -> Raster:
    """What a warped raster is made of; any other itself."""
    while isinstance(raster, WarpedRaster | ResampledRaster):
        raster = raster.source
    return raster


def cover(lattice: GeoBox, inner: GeoBox) -> Window:
    """The pixels of `lattice` (which goes on beyond its edges) that hold a part of `inner`.

    Raises:
        GridError: if that has no place in the CRS of `lattice`.
    """
    columns, rows = _grid_points(Window(0, 0, *inner.shape))
    x, y = pixels_on(lattice, inner, columns, rows)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise GridError("it has no place in that CRS")
    left, top = math.floor(x.min() + _EDGE), math.floor(y.min() + _EDGE)
    right, bottom = math.ceil(x.max() - _EDGE), math.ceil(y.max() - _EDGE)
    return Window(top, left, max(1, bottom - top), max(1, right - left))


def pixels_on(
    target: GeoBox,
    source: GeoBox,
    columns: npt.NDArray[np.floating[Any]],
    rows: npt.NDArray[np.floating[Any]],
    shift: Affine | None = None,
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """Pixel coordinates (x, y) on `target` of pixel coordinates on `source`; not finite where there are none.

    Args:
        target: the grid looked at.
        source: the grid the coordinates are of.
        columns: (n,).
        rows: (n,).
        shift: from the one to the other, if it is known already.
    """
    if shift is None and same_crs(source, target):
        shift = ~target.affine * source.affine
    if shift is not None:
        x, y = shift * (columns, rows)
        return np.asarray(x), np.asarray(y)
    places = source.affine * (columns, rows)
    moved = rasterio.warp.transform(str(source.crs), str(target.crs), *(np.asarray(axis).tolist() for axis in places))
    x, y = ~target.affine * (np.asarray(moved[0]), np.asarray(moved[1]))
    return np.asarray(x), np.asarray(y)


def _grid_points(window: Window) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    columns = np.linspace(window.column, window.right, _POINTS)
    rows = np.linspace(window.row, window.bottom, _POINTS)
    x, y = np.meshgrid(columns, rows)
    return x.ravel(), y.ravel()


def _clean(value: float, tolerance: float) -> float:
    """Of large coordinates' rounding, which would decide about pixels whose edges meet: 5/12 is meant by 0.41666666."""
    simple = float(Fraction(value).limit_denominator(1000))
    return simple if abs(simple - value) <= tolerance else value


def _halves(window: Window) -> tuple[Window, Window]:
    row, column, height, width = window.row, window.column, window.height, window.width
    if height >= width:
        half = height // 2
        return Window(row, column, half, width), Window(row + half, column, height - half, width)
    half = width // 2
    return Window(row, column, height, half), Window(row, column + half, height, width - half)


Resampling = Literal["nearest", "mode"]

_SOURCE_BLOCK = 2048  # pixels; side of what is read at once
_TOLERANCE = 1e-6  # of a pixel: an edge or centre that rounding puts beside a pixel border lies on it


class ResampledRaster:
    """Another raster's class codes at another pixel size, on the lattice of that size.

    Pixel borders lie on multiples of the new size from the origin of the CRS (in the grid's own directions), so that
    neighbouring rasters, resampled apart, stand on one grid. The new grid covers all of the old one.

    "nearest" takes the pixel below the new pixel's centre. "mode" takes the code with the largest area below the new
    pixel, among pixels with data; the smallest code where areas are equal.

    Attributes:
        path: of the source.
        geobox: the new grid.
        count: 1.
        dtype, nodata: of the source.
        source: the raster below.
    """

    count = 1

    def __init__(self, source: Raster, gsd: float, how: Resampling = "mode") -> None:
        """Lay the new grid over `source`.

        Args:
            source: single-band, in a projected CRS.
            gsd: metres a pixel of the new grid.
            how: see above.

        Raises:
            GridError: if pixels of the source cannot be told in metres.
        """
        old = source.geobox
        metres = ground_sampling_distance(old)
        if metres is None:
            raise GridError(f"{source.path}: its pixels are not in metres, so they cannot be resampled to {gsd:g} m")
        self.source, self.how = source, how
        self.path, self.dtype, self.nodata = source.path, source.dtype, source.nodata
        t = old.affine
        size = gsd * math.sqrt(abs(t.determinant)) / metres  # in units of the CRS
        # New pixels a source pixel, along (x, y).
        factors = (math.hypot(t.a, t.d) / size, math.hypot(t.b, t.e) / size)
        column, row = ~_linear(t) * (t.c, t.f)  # absolute position of the source's first pixel
        height, width = old.shape
        columns, rows = _Axis(column, width, factors[0]), _Axis(row, height, factors[1])
        self._rows, self._columns = rows, columns
        linear = _linear(t) * Affine.scale(1 / factors[0], 1 / factors[1])
        origin = linear * (columns.first, rows.first)
        transform = Affine(linear.a, linear.b, origin[0], linear.d, linear.e, origin[1])
        self.geobox = GeoBox((rows.count, columns.count), transform, old.crs)

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where there is data (height, width); see `Raster.read`."""
        values = np.full((1, window.height, window.width), 0 if self.nodata is None else self.nodata, self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        for target, source, rows, columns in self._parts(window):
            codes, has = self.source.read(source)
            if self.how == "nearest":
                picked = _nearest(codes[0], rows, columns)
                valid[target] = _nearest(has, rows, columns) & rows.inside[:, None] & columns.inside
            else:
                picked, valid[target] = _mode(codes[0], has, rows, columns)
            np.copyto(values[0][target], picked, where=valid[target])
        return values, valid

    def _parts(self, window: Window) -> Iterator[tuple[tuple[slice, slice], Window, _Part, _Part]]:
        """Pieces of a window: place in it, source pixels below, and the new pixels' rows and columns on these."""
        check_inside(window, self.window, f"{self.path}, resampled")
        size = max(1, int(_SOURCE_BLOCK * min(self._rows.factor, self._columns.factor)))
        for piece in TilePlan(window.height, window.width, size):
            place = piece.shift(window.row, window.column)
            rows = self._rows.part(place.row, place.bottom)
            columns = self._columns.part(place.column, place.right)
            yield piece.slices, Window(rows.start, columns.start, rows.length, columns.length), rows, columns


def resample_labels(source: Raster, gsd: float, how: Resampling) -> Raster:
    """`source` at `gsd` metres a pixel; itself if it is so already. See `ResampledRaster`.

    Raises:
        SettingsError: if `how` is neither.
        GridError: if pixels of the source cannot be told in metres.
    """
    if how not in ("nearest", "mode"):
        raise SettingsError(f"labels are resampled by nearest or mode, not by {how!r}")
    metres = ground_sampling_distance(source.geobox)
    t = source.geobox.affine
    is_square = math.isclose(math.hypot(t.a, t.d), math.hypot(t.b, t.e), rel_tol=_TOLERANCE)
    if metres is not None and math.isclose(metres, gsd, rel_tol=_TOLERANCE) and is_square:
        return source
    return ResampledRaster(source, gsd, how)


class _Part(NamedTuple):
    """A run of new pixels along one axis, over source pixels `start` .. `start + length - 1`.

    Positions count source pixels from `start`: `edges` (new pixels + 1) are borders of new pixels, `nearest` (new
    pixels) is the source pixel below each one's centre, cropped to the source; `inside` tells where it was not.
    """

    start: int
    length: int
    edges: npt.NDArray[np.float64]
    nearest: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]


class _Axis:
    """New pixels along one axis: `factor` of them a source pixel; number `first` is the first, `count` in all."""

    def __init__(self, position: float, length: int, factor: float) -> None:
        self.position, self.length, self.factor = position, length, factor
        self.first = math.floor(position * factor + _TOLERANCE)
        self.count = math.ceil((position + length) * factor - _TOLERANCE) - self.first

    def part(self, start: int, stop: int) -> _Part:
        """New pixels `start` .. `stop - 1`, counted from `first`."""
        numbers = np.arange(self.first + start, self.first + stop + 1)
        edges = numbers / self.factor - self.position
        whole = np.round(edges)
        edges = np.where(np.abs(edges - whole) < _TOLERANCE, whole, edges).clip(0, self.length)
        nearest = np.floor((numbers[:-1] + 0.5) / self.factor - self.position + _TOLERANCE).astype(np.int64)
        inside = (nearest >= 0) & (nearest < self.length)
        nearest = nearest.clip(0, self.length - 1)
        low = min(int(edges[0]), int(nearest[0]))
        high = max(math.ceil(edges[-1]), int(nearest[-1]) + 1)
        return _Part(low, high - low, edges - low, nearest - low, inside)


def _linear(transform: Affine) -> Affine:
    return Affine(transform.a, transform.b, 0, transform.d, transform.e, 0)


def _nearest(values: Array, rows: _Part, columns: _Part) -> Array:
    picked: Array = values[np.ix_(rows.nearest, columns.nearest)]
    return picked


def _mode(codes: Array, valid: npt.NDArray[np.bool_], rows: _Part, columns: _Part) -> tuple[Array, Array]:
    """Codes of the largest area below each new pixel, and where there are any."""
    shape = (len(rows.nearest), len(columns.nearest))
    picked, largest = np.zeros(shape, codes.dtype), np.zeros(shape)
    for code in np.unique(codes[valid]):  # in rising order, so that the smallest stands where areas are equal
        area = _areas((codes == code) & valid, rows, columns)
        better = area > largest + _TOLERANCE
        picked[better], largest[better] = code, area[better]
    return picked, largest > 0


def _areas(mask: npt.NDArray[np.bool_], rows: _Part, columns: _Part) -> npt.NDArray[np.float64]:
    """Area of `mask` below each new pixel, in source pixels: differences of running sums, along one axis at a time."""
    return _sums(_sums(mask.astype(np.float64), rows.edges).T, columns.edges).T


def _sums(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integrals of piecewise constant columns of `values` between neighbouring edges: (len(edges) - 1, columns)."""
    running = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=running[1:])
    whole = np.floor(edges).astype(np.int64)
    inner = values[whole.clip(max=len(values) - 1)] * (edges - whole)[:, np.newaxis]
    sums: npt.NDArray[np.float64] = np.diff(running[whole] + inner, axis=0)
    return sums
