"""Areas: polygons in pixel coordinates (x = column, y = row), and windows as boxes among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

# Vertices lie on this lattice (pixels; exact in binary), so that an area comes back from a file as it was.
_LATTICE = 1 / 64
# A polygon off the whole pixels moves by less than this when its vertices are put on the lattice.
_SLACK = 1 / 32
# Windows are compared with areas this much smaller (pixels): GEOS is a thousand times slower where edges coincide.
INSET = 1 / 1024


def clean_polygons(geometry: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of a geometry, valid, on the lattice, in one order whatever the input's."""
    valid = _on_lattice(shapely.make_valid(geometry))
    parts = [part for part in _parts(valid) if part.geom_type == "Polygon" and not part.is_empty]
    merged = shapely.unary_union(parts).simplify(0) if parts else shapely.MultiPolygon()
    return shapely.normalize(shapely.MultiPolygon([part for part in _parts(merged) if not part.is_empty]))


def cut_near(area: shapely.MultiPolygon, other: shapely.MultiPolygon, pixels: int) -> shapely.MultiPolygon:
    """An area without what is nearer than some pixels to another (0: what both have in common).

    Areas that are apart already stay as they are: cutting along a slanted edge twice would move it.
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
    """With mitred corners: squares stay squares, and no corner is nearer than `pixels`."""
    if not pixels or area.is_empty:
        return area
    coordinates = shapely.get_coordinates(area)
    whole = bool((coordinates == np.round(coordinates)).all()) and _is_rectilinear(area)
    return _on_lattice(shapely.buffer(area, pixels if whole else pixels + _SLACK, join_style="mitre"))


def _is_rectilinear(area: shapely.MultiPolygon) -> bool:
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(shapely.get_parts(area))]
    return all((np.diff(ring, axis=0) == 0).any(axis=1).all() for ring in rings)


def _parts(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    """Of collections in collections too."""
    if geometry.geom_type in ("GeometryCollection", "MultiPolygon"):
        return [inner for part in geometry.geoms for inner in _parts(part)]
    return [geometry]


def _on_lattice(geometry: shapely.Geometry) -> shapely.Geometry:
    # Set back to floating: otherwise every later operation would work on the lattice too, and be slow.
    return shapely.set_precision(shapely.set_precision(geometry, _LATTICE), 0)


def boxes_of(windows: npt.NDArray[np.integer[Any]], inset: float = 0) -> npt.NDArray[Any]:
    """(n,) polygons of (n, 4) windows, smaller by `inset` pixels on each side."""
    row, column, height, width = windows.T
    boxes: npt.NDArray[Any] = shapely.box(column + inset, row + inset, column + width - inset, row + height - inset)
    return boxes


def quarters(windows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n, 4) windows cut in half down and across; a side of one pixel is not cut."""
    row, column, height, width = windows.T
    top, left = (height + 1) // 2, (width + 1) // 2
    parts = [
        np.column_stack([r, c, h, w])
        for r, h in ((row, top), (row + top, height - top))
        for c, w in ((column, left), (column + left, width - left))
    ]
    joined = np.concatenate(parts)
    return joined[(joined[:, 2:] > 0).all(axis=1)]
