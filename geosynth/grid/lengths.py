"""Lengths on a grid: the sides of its pixels in metres, and distances in metres as pixels."""

from __future__ import annotations

import logging
import math
from typing import Literal

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError, SettingsError
from geosynth.grid.crs import has_metres, metres_per_unit

_LOG = logging.getLogger(__name__)

_ROUNDING = 1e-8  # of a pixel's size
_GSD_TOLERANCE = 0.05  # of the expected pixel size
_WHOLE = 1e-6  # of a pixel; by so little more than whole pixels a buffer may be


def pixel_sides(transform: Affine) -> tuple[float, float]:
    """The two sides of a pixel, along the rows and along the columns, in units of the CRS."""
    return math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)


def ground_sampling_distance(geobox: GeoBox) -> float | None:
    """Pixel size in metres (the side of a square of the same area); None unless the CRS has metres."""
    if not has_metres(geobox.crs):
        return None
    return meant(abs(geobox.affine.determinant) ** 0.5) * metres_per_unit(geobox.crs)


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
    sides = [meant(side) * metres_per_unit(geobox.crs) for side in pixel_sides(geobox.affine)]
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
        GridError: if metres are given for a grid whose CRS has none.
    """
    number, unit = parse_distance(buffer)
    if unit == "px" or not number:
        return int(number)
    if not has_metres(geobox.crs):
        what = "the grid has no projected CRS, so metres mean nothing here; give pixels, as in 64px"
        raise GridError(what, setting="buffer")
    a = geobox.affine
    shortest = float(np.linalg.svd(np.array([[a.a, a.b], [a.d, a.e]]), compute_uv=False)[-1])
    # 200 m at 0.5 m are 400 px, even if 0.5 was written as 0.4999999999.
    return math.ceil(number / (shortest * metres_per_unit(geobox.crs)) - _WHOLE)
