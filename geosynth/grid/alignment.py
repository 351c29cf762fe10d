"""Where pixels of one grid lie on another, in whole pixels."""

from __future__ import annotations

import math

from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError

# Fractions of a pixel. Real files carry rounding in their transforms (0.600000000599999 for 0.6 m): at UTM northings
# that adds up to a hundredth of a pixel. Half a pixel is a real shift.
_TOLERANCE = 0.05
_SIZE_TOLERANCE = 1e-6


def absolute_origin(geobox: GeoBox) -> tuple[int, int]:
    """Absolute (row, column) of the first pixel, counted from the origin of the CRS in the grid's own directions.

    Two rasters with equal pixel size and orientation whose origins differ by whole pixels get positions that differ by
    exactly that many pixels. A fraction of a pixel is rounded down alike for both.
    """
    linear, origin = _split(geobox.affine)
    column, row = ~linear * origin
    # Fractions just below a whole pixel are rounding, not position.
    return int((row + _TOLERANCE) // 1), int((column + _TOLERANCE) // 1)


def ground_sampling_distance(geobox: GeoBox) -> float | None:
    """Metres a pixel (the side of a square of its area); None without a projected CRS."""
    if geobox.crs is None or not geobox.crs.projected:
        return None
    metres_per_unit: float = geobox.crs.proj.axis_info[0].unit_conversion_factor
    return float(abs(geobox.affine.determinant) ** 0.5 * metres_per_unit)


def offset_in(outer: GeoBox, inner: GeoBox, source: str = "raster") -> tuple[int, int]:
    """(row, column) of the first pixel of `inner` on the grid of `outer`.

    Raises:
        GridError: if CRS, pixel size or orientation differ, or the offset is not whole pixels; names `source`.
    """
    if not _same_crs(outer, inner):
        raise GridError(
            f"{source}: CRS {_name(inner)} differs from {_name(outer)}; reproject it or assign the right one"
        )
    pairs = zip(_split(outer.affine)[0], _split(inner.affine)[0], strict=True)
    # The shorter side of a pixel.
    scale = min(math.hypot(outer.affine.a, outer.affine.d), math.hypot(outer.affine.b, outer.affine.e))
    if any(abs(first - second) > _SIZE_TOLERANCE * scale for first, second in pairs):
        raise GridError(
            f"{source}: pixel size or orientation {_linear(inner)} differs from {_linear(outer)}; resample it first"
        )
    column, row = ~outer.affine * (inner.affine.c, inner.affine.f)
    if max(abs(column - round(column)), abs(row - round(row))) > _TOLERANCE:
        raise GridError(
            f"{source}: its pixels are shifted by a fraction ({column % 1:.3f}, {row % 1:.3f} px); resample it first"
        )
    return round(row), round(column)


def _split(transform: Affine) -> tuple[Affine, tuple[float, float]]:
    linear = Affine(transform.a, transform.b, 0, transform.d, transform.e, 0)
    return linear, (transform.c, transform.f)


def _linear(geobox: GeoBox) -> str:
    t = geobox.affine
    return f"({t.a:.12g}, {t.b:.12g}, {t.d:.12g}, {t.e:.12g})"


def _same_crs(outer: GeoBox, inner: GeoBox) -> bool:
    if outer.crs is None or inner.crs is None:
        return outer.crs is inner.crs
    # Some writers leave the authority out or use another one's twin (ESRI:102039 is EPSG:5070): EPSG's match decides.
    return bool(outer.crs == inner.crs or (outer.crs.epsg is not None and outer.crs.epsg == inner.crs.epsg))


def _name(geobox: GeoBox) -> str:
    if geobox.crs is None:
        return "none"
    return f"EPSG:{geobox.crs.epsg}" if geobox.crs.epsg else str(geobox.crs)[:60]
