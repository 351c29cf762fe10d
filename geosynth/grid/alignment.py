"""Where the pixels of one grid are on another, in whole pixels."""

from __future__ import annotations

from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError
from geosynth.grid.crs import crs_in_short, crs_name, same_crs
from geosynth.grid.lengths import pixel_sides
from geosynth.grid.window import BlockPlan, Window

# Of a pixel. Transforms in real files are rounded (0.600000000599999 for 0.6 m), which at UTM northings adds up to a
# hundredth of a pixel. Half a pixel is a real shift.
TOLERANCE = 0.05
_SIZE_TOLERANCE = 1e-6


def absolute_origin(geobox: GeoBox) -> tuple[int, int]:
    """Absolute (row, column) of the first pixel, counted from the origin of the CRS in the grid's own directions.

    If two rasters have the same pixel size and orientation, and origins that differ by whole pixels, their positions
    differ by exactly as many pixels. A fraction of a pixel is rounded down in both.
    """
    linear, origin = _split(geobox.affine)
    column, row = ~linear @ origin
    # Fractions just below a whole pixel are rounding errors.
    return int((row + TOLERANCE) // 1), int((column + TOLERANCE) // 1)


def block_plan(geobox: GeoBox, size: int, least: int = 0) -> BlockPlan:
    """The blocks of a grid, on the lattice of its absolute positions; see `BlockPlan`."""
    height, width = geobox.shape
    return BlockPlan(height, width, absolute_origin(geobox), size, least)


def is_nowhere(geobox: GeoBox) -> bool:
    """Whether a grid has no georeference: no CRS, and pixels that are counted from (0, 0)."""
    return geobox.crs is None and geobox.affine.is_identity


def is_south_up(geobox: GeoBox) -> bool:
    """Whether a grid's first row is the southernmost; False if it has no georeference."""
    return geobox.affine.determinant > 0 and not is_nowhere(geobox)


def north_up(geobox: GeoBox) -> GeoBox:
    """The same pixels with the northernmost row first; unchanged unless it is south up."""
    return geobox.flipy() if is_south_up(geobox) else geobox


def crop(geobox: GeoBox, window: Window) -> GeoBox:
    """The grid of a window, which may exceed the whole grid."""
    transform = geobox.affine @ Affine.translation(window.column, window.row)
    return GeoBox((window.height, window.width), transform, geobox.crs)


def offset_in(outer: GeoBox, inner: GeoBox, source: str = "raster") -> tuple[int, int]:
    """(row, column) of the first pixel of `inner` on the grid of `outer`.

    Raises:
        GridError: if CRS, pixel size or orientation differ, or if the offset is not whole pixels; it names `source`.
    """
    if not same_crs(outer.crs, inner.crs):
        what = "assign" if None in (outer.crs, inner.crs) else "reproject it or assign"
        raise GridError(
            f"{source}: CRS {crs_in_short(inner.crs)} differs from {crs_in_short(outer.crs)}; {what} the right one"
        )
    if not same_pixels(outer, inner):
        raise GridError(
            f"{source}: pixel size or orientation {_linear(inner)} differs from {_linear(outer)}; resample it first"
        )
    column, row = ~outer.affine @ (inner.affine.c, inner.affine.f)
    if max(abs(column - round(column)), abs(row - round(row))) > TOLERANCE:
        raise GridError(
            f"{source}: its pixels are shifted by a fraction ({column % 1:.3f}, {row % 1:.3f} px); resample it first"
        )
    return round(row), round(column)


def same_area(first: GeoBox, second: GeoBox) -> bool:
    """Whether two grids with the same CRS cover the same area, up to one of the larger pixels at the edges."""
    if not same_crs(first.crs, second.crs):
        return False
    into = ~first.affine @ second.affine
    slack = max(1.0, abs(into.determinant) ** 0.5)
    (height, width), (rows, columns) = first.shape, second.shape
    corners = (
        ((0, 0), (0, 0)),
        ((columns, 0), (width, 0)),
        ((0, rows), (0, height)),
        ((columns, rows), (width, height)),
    )
    return all(
        abs(found - wanted) <= slack
        for corner, place in corners
        for found, wanted in zip(into @ corner, place, strict=True)
    )


def same_pixels(outer: GeoBox, inner: GeoBox) -> bool:
    """Whether two grids have the same CRS, pixel size and orientation; they may be shifted by a fraction of a pixel."""
    pairs = zip(_split(outer.affine)[0], _split(inner.affine)[0], strict=True)
    # The shorter side of a pixel.
    scale = min(pixel_sides(outer.affine))
    return same_crs(outer.crs, inner.crs) and all(abs(one - other) <= _SIZE_TOLERANCE * scale for one, other in pairs)


def _split(transform: Affine) -> tuple[Affine, tuple[float, float]]:
    linear = Affine(transform.a, transform.b, 0, transform.d, transform.e, 0)
    return linear, (transform.c, transform.f)


def _linear(geobox: GeoBox) -> str:
    t = geobox.affine
    return f"({t.a:.12g}, {t.b:.12g}, {t.d:.12g}, {t.e:.12g})"


def describe_grid(geobox: GeoBox) -> dict[str, Any]:
    """CRS, size and transform of a grid, as plain values."""
    height, width = geobox.shape
    return {"crs": crs_name(geobox.crs), "height": height, "width": width, "transform": list(geobox.affine[:6])}
