"""Where the pixels of one grid are on another, in whole pixels."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError, SettingsError
from geosynth.grid.window import BlockPlan, Window

_LOG = logging.getLogger(__name__)

# Of a pixel. Transforms in real files are rounded (0.600000000599999 for 0.6 m), which at UTM northings adds up to a
# hundredth of a pixel. Half a pixel is a real shift.
_TOLERANCE = 0.05
_SIZE_TOLERANCE = 1e-6
_ROUNDING = 1e-8  # of a pixel's size
_GSD_TOLERANCE = 0.05  # of the expected pixel size


def absolute_origin(geobox: GeoBox) -> tuple[int, int]:
    """Absolute (row, column) of the first pixel, counted from the origin of the CRS in the grid's own directions.

    If two rasters have the same pixel size and orientation, and origins that differ by whole pixels, their positions
    differ by exactly as many pixels. A fraction of a pixel is rounded down in both.
    """
    linear, origin = _split(geobox.affine)
    column, row = ~linear @ origin
    # Fractions just below a whole pixel are rounding errors.
    return int((row + _TOLERANCE) // 1), int((column + _TOLERANCE) // 1)


def block_plan(geobox: GeoBox, size: int, least: int = 0) -> BlockPlan:
    """The blocks of a grid, on the lattice of its absolute positions; see `BlockPlan`."""
    height, width = geobox.shape
    return BlockPlan(height, width, absolute_origin(geobox), size, least)


def parse_crs(crs: str) -> CRS:
    """A CRS from an authority's code, such as "EPSG:26917", or from WKT.

    Raises:
        SettingsError: if it is neither.
    """
    try:
        return CRS(crs)
    except Exception as error:  # pyproj's, wrapped by odc-geo
        raise SettingsError(f"CRS {crs}: unknown; write it as in EPSG:26917") from error


def is_nowhere(geobox: GeoBox) -> bool:
    """Whether a grid has no georeference: no CRS, and pixels that are counted from (0, 0)."""
    return geobox.crs is None and geobox.affine.is_identity


def is_south_up(geobox: GeoBox) -> bool:
    """Whether a grid's first row is the southernmost; False if it has no georeference."""
    return geobox.affine.determinant > 0 and not is_nowhere(geobox)


def crop(geobox: GeoBox, window: Window) -> GeoBox:
    """The grid of a window, which may exceed the whole grid."""
    transform = geobox.affine @ Affine.translation(window.column, window.row)
    return GeoBox((window.height, window.width), transform, geobox.crs)


def ground_sampling_distance(geobox: GeoBox) -> float | None:
    """Pixel size in metres (the side of a square of the same area); None without a projected CRS."""
    if geobox.crs is None or not geobox.crs.projected:
        return None
    return meant(abs(geobox.affine.determinant) ** 0.5) * metres_per_unit(geobox)


def metres_per_unit(geobox: GeoBox) -> float:
    """Metres in one unit of a grid's coordinates; its CRS must be projected."""
    return float(geobox.crs.proj.axis_info[0].unit_conversion_factor)


def meant(size: float) -> float:
    """A pixel size without the rounding in files: 0.6 for 0.600000000599999."""
    plain = float(f"{size:.6g}")
    return plain if math.isclose(plain, size, rel_tol=_ROUNDING) else size


def warn_of_pixel_size(path: str, geobox: GeoBox, expected: float | None, told: str) -> None:
    """Warn if a side of a raster's pixels differs by more than 5 % from the expected length.

    Args:
        path: of the raster.
        geobox: of the raster.
        expected: pixel size in metres; None if it is not known.
        told: text that says who expects it and what follows, with %g for the metres.
    """
    if expected is None or ground_sampling_distance(geobox) is None:
        return
    t = geobox.affine
    sides = [meant(math.hypot(*side)) * metres_per_unit(geobox) for side in ((t.a, t.d), (t.b, t.e))]
    if any(abs(side / expected - 1) > _GSD_TOLERANCE for side in sides):
        own = " x ".join(dict.fromkeys(f"{side:g}" for side in sides))
        message = f"%s: pixels of %s m; {told}"
        _LOG.warning(message, path, own, expected)


def parse_distance(distance: float | str, setting: str = "buffer") -> tuple[float, Literal["m", "px"]]:
    """Metres, as in 200 or "200m", or whole pixels, as in "64px": the number and its unit.

    Raises:
        SettingsError: if it is neither, or negative; it names the setting.
    """
    text = str(distance).strip()
    unit: Literal["m", "px"] = "px" if text.endswith("px") else "m"
    try:
        number = float(text.removesuffix(unit))
    except ValueError as error:
        what = f"{distance!r} is neither metres, as in 200, nor pixels, as in 64px"
        raise SettingsError(what, setting=setting) from error
    if unit == "px" and not (number >= 0 and number.is_integer()):
        raise SettingsError(f"must be whole pixels, 0 or more; got {distance!r}", setting=setting)
    if not 0 <= number < math.inf:
        raise SettingsError(f"must be metres, 0 or more; got {number:g}", setting=setting)
    return number, unit


def buffer_pixels(buffer: float | str, geobox: GeoBox) -> int:
    """A buffer, in metres or in pixels as in "64px", as the least whole number of a grid's pixels that is no shorter.

    Metres are those of the CRS. If pixels are not square, their shorter side counts.

    Raises:
        SettingsError: if it is neither, or negative.
        GridError: if metres are given for a grid without a projected CRS.
    """
    number, unit = parse_distance(buffer)
    if unit == "px" or not number:
        return int(number)
    if geobox.crs is None or not geobox.crs.projected:
        what = "the grid has no projected CRS, so metres mean nothing here; give pixels, as in 64px"
        raise GridError(what, setting="buffer")
    a = geobox.affine
    shortest = float(np.linalg.svd(np.array([[a.a, a.b], [a.d, a.e]]), compute_uv=False)[-1])
    # 200 m at 0.5 m are 400 px, even if 0.5 was written as 0.4999999999.
    return math.ceil(number / (shortest * metres_per_unit(geobox)) - _SIZE_TOLERANCE)


def offset_in(outer: GeoBox, inner: GeoBox, source: str = "raster") -> tuple[int, int]:
    """(row, column) of the first pixel of `inner` on the grid of `outer`.

    Raises:
        GridError: if CRS, pixel size or orientation differ, or if the offset is not whole pixels; it names `source`.
    """
    if not same_crs(outer, inner):
        what = "assign" if None in (outer.crs, inner.crs) else "reproject it or assign"
        raise GridError(f"{source}: CRS {crs_in_short(inner)} differs from {crs_in_short(outer)}; {what} the right one")
    if not same_pixels(outer, inner):
        raise GridError(
            f"{source}: pixel size or orientation {_linear(inner)} differs from {_linear(outer)}; resample it first"
        )
    column, row = ~outer.affine @ (inner.affine.c, inner.affine.f)
    if max(abs(column - round(column)), abs(row - round(row))) > _TOLERANCE:
        raise GridError(
            f"{source}: its pixels are shifted by a fraction ({column % 1:.3f}, {row % 1:.3f} px); resample it first"
        )
    return round(row), round(column)


def same_area(first: GeoBox, second: GeoBox) -> bool:
    """Whether two grids with the same CRS cover the same area, up to one of the larger pixels at the edges."""
    if not same_crs(first, second):
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
    scale = min(math.hypot(outer.affine.a, outer.affine.d), math.hypot(outer.affine.b, outer.affine.e))
    return same_crs(outer, inner) and all(abs(one - other) <= _SIZE_TOLERANCE * scale for one, other in pairs)


def _split(transform: Affine) -> tuple[Affine, tuple[float, float]]:
    linear = Affine(transform.a, transform.b, 0, transform.d, transform.e, 0)
    return linear, (transform.c, transform.f)


def _linear(geobox: GeoBox) -> str:
    t = geobox.affine
    return f"({t.a:.12g}, {t.b:.12g}, {t.d:.12g}, {t.e:.12g})"


def same_crs(outer: GeoBox, inner: GeoBox) -> bool:
    """Whether two grids have the same CRS, in whatever form, or both have none."""
    if outer.crs is None or inner.crs is None:
        return outer.crs is inner.crs
    # Some writers omit the authority or use an equivalent of another one (ESRI:102039 is EPSG:5070): EPSG codes count.
    return bool(outer.crs == inner.crs or (outer.crs.epsg is not None and outer.crs.epsg == inner.crs.epsg))


def crs_name(crs: CRS | None) -> str | None:
    """A CRS as an authority's code, such as "EPSG:26917", else as WKT; None for None."""
    if crs is None:
        return None
    authority, code = crs.authority
    return f"{authority}:{code}" if authority else str(crs.to_wkt())


def describe_grid(geobox: GeoBox) -> dict[str, Any]:
    """CRS, size and transform of a grid, as plain values."""
    height, width = geobox.shape
    return {"crs": crs_name(geobox.crs), "height": height, "width": width, "transform": list(geobox.affine[:6])}


def crs_wkt(geobox: GeoBox) -> str | None:
    """The CRS of a grid as WKT, which every library accepts; None if there is none."""
    return geobox.crs.to_wkt() if geobox.crs else None


def crs_in_short(geobox: GeoBox) -> str:
    """The CRS of a grid for messages."""
    return (crs_name(geobox.crs) or "none")[:60]
