"""Scenes and polygons of splits, and what their pixels are, found one pixel at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from hypothesis import strategies as st

from geosynth.grid import SpatialSplit, Window

SIDE = 48  # of the square in which everything lies


@st.composite
def scenes(draw: st.DrawFn, most: int = 5) -> list[Window]:
    """Windows inside the square; they may overlap."""
    places = []
    for _ in range(draw(st.integers(1, most))):
        height, width = draw(st.integers(6, 30)), draw(st.integers(6, 30))
        row, column = draw(st.integers(0, SIDE - height)), draw(st.integers(0, SIDE - width))
        places.append(Window(row, column, height, width))
    return places


@st.composite
def polygons(draw: st.DrawFn) -> shapely.Polygon:
    """Triangles and other convex shapes, corners anywhere."""
    corner = st.tuples(*[st.floats(0, SIDE, allow_nan=False, width=32)] * 2)
    hull = shapely.MultiPoint(draw(st.lists(corner, min_size=3, max_size=6))).convex_hull
    return hull if hull.geom_type == "Polygon" and hull.area > 1 else shapely.box(0, 0, 7.3, 9.1)


def naive_mask(split: SpatialSplit, fold: str) -> npt.NDArray[np.bool_]:
    """Pixels of the square that lie wholly in a fold, each asked for by itself."""
    area = split.area(fold).buffer(1e-4)
    cells = [[area.covers(shapely.box(c, r, c + 1, r + 1)) for c in range(SIDE)] for r in range(SIDE)]
    return np.array(cells)


def allowed(split: SpatialSplit, fold: str, height: int, width: int) -> list[Window]:
    """Every patch of a size that the fold holds."""
    return [
        window
        for row in range(SIDE - height + 1)
        for column in range(SIDE - width + 1)
        if split.holds(window := Window(row, column, height, width), fold)
    ]


def smallest_distance(windows: list[Window], pixels: npt.NDArray[np.bool_]) -> float:
    """Between edges of any window and any pixel; negative where a pixel lies in a window."""
    rows, columns = np.nonzero(pixels)
    best = np.inf
    for window in windows:
        down = np.maximum(rows - window.bottom, window.row - (rows + 1))
        across = np.maximum(columns - window.right, window.column - (columns + 1))
        inside = (down < 0) & (across < 0)
        apart = np.where(inside, -1.0, np.hypot(np.maximum(down, 0), np.maximum(across, 0)))
        best = min(best, float(apart.min(initial=np.inf)))
    return best
