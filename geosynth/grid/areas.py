"""Areas: polygons in pixel coordinates (x = column, y = row), and windows as boxes among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

# Vertices are on this lattice (in pixels; exact in binary), so that an area read from a file equals the written one.
_LATTICE = 1 / 64
# Putting the vertices of a polygon on the lattice moves it by less than this.
_SLACK = 1 / 32
# Windows are reduced by this much (in pixels) to compare them with areas: GEOS is 1000 times slower if edges coincide.
INSET = 1 / 1024


def clean_polygons(geometry: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of a geometry, valid, on the lattice, in an order that does not depend on the input's."""
    valid = _on_lattice(shapely.make_valid(geometry))
    parts = [part for part in _parts(valid) if part.geom_type == "Polygon" and not part.is_empty]
    merged = shapely.unary_union(parts).simplify(0) if parts else shapely.MultiPolygon()
    return shapely.normalize(shapely.MultiPolygon([part for part in _parts(merged) if not part.is_empty]))


def cut_near(area: shapely.MultiPolygon, other: shapely.MultiPolygon, pixels: int) -> shapely.MultiPolygon:
    """An area without the parts that are nearer than some pixels to another one (0: without their common part).

    Areas that are far enough apart are unchanged, because cutting twice along a slanted edge would move it.
    """
    shapely.prepare(area)
    near = bool(shapely.dwithin(area, other, pixels - INSET)) if pixels else True
    shapely.destroy_prepared(area)
    if not near:
        return area
    if not pixels and (area & other).buffer(-2 * _SLACK).is_empty:
        return area
    return clean_polygons(area - _grow(other, pixels))


def _grow(area: shapely.MultiPolygon, pixels: int) -> shapely.Geometry:
    """An area extended with mitred corners: squares stay squares, and no corner is nearer than `pixels`."""
    if not pixels or area.is_empty:
        return area
    coordinates = shapely.get_coordinates(area)
    whole = bool((coordinates == np.round(coordinates)).all()) and _is_rectilinear(area)
    return _on_lattice(shapely.buffer(area, pixels if whole else pixels + _SLACK, join_style="mitre"))


def _is_rectilinear(area: shapely.MultiPolygon) -> bool:
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(shapely.get_parts(area))]
    return all((np.diff(ring, axis=0) == 0).any(axis=1).all() for ring in rings)


def _parts(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    """All parts of a geometry, even of collections in collections."""
    if geometry.geom_type in ("GeometryCollection", "MultiPolygon"):
        return [inner for part in geometry.geoms for inner in _parts(part)]
    return [geometry]


def _on_lattice(geometry: shapely.Geometry) -> shapely.Geometry:
    # Then set to floating precision again: otherwise all later operations would use the lattice, too, and be slow.
    return shapely.set_precision(shapely.set_precision(geometry, _LATTICE), 0)


def boxes_of(windows: npt.NDArray[np.integer[Any]], inset: float = 0) -> npt.NDArray[Any]:
    """Polygons (n,) of windows (n, 4), reduced by `inset` pixels on each side."""
    row, column, height, width = windows.T
    boxes: npt.NDArray[Any] = shapely.box(column + inset, row + inset, column + width - inset, row + height - inset)
    return boxes


def quarters(windows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Windows (n, 4), each cut in half vertically and horizontally; a side of one pixel is not cut."""
    row, column, height, width = windows.T
    top, left = (height + 1) // 2, (width + 1) // 2
    parts = [
        np.column_stack([r, c, h, w])
        for r, h in ((row, top), (row + top, height - top))
        for c, w in ((column, left), (column + left, width - left))
    ]
    joined = np.concatenate(parts)
    return joined[(joined[:, 2:] > 0).all(axis=1)]
