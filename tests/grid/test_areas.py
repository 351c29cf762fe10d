"""Areas: what is kept of geometries, and how far apart cutting leaves two of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geosynth.grid import Window, as_array
from geosynth.grid.areas import clean_polygons, cut_near, quarters
from strategies import few, windows

CORNER = st.tuples(st.integers(0, 40), st.integers(0, 40))
TRIANGLES = st.lists(CORNER, min_size=3, max_size=3).map(shapely.Polygon).filter(lambda drawn: drawn.area > 1)
BOXES = windows(reach=30).map(lambda w: shapely.box(w.column, w.row, w.right, w.bottom))


def test_no_windows_are_an_array_of_none() -> None:
    assert (as_array([]).shape, as_array([]).dtype) == ((0, 4), np.int64)


def test_polygons_are_kept_and_all_else_is_left_out() -> None:
    first, second = shapely.box(0, 0, 4, 4), shapely.box(2, 2, 6, 6)
    inner = shapely.GeometryCollection([shapely.LineString([(0, 0), (9, 0)]), shapely.MultiPolygon([first])])
    cleaned = clean_polygons(shapely.GeometryCollection([shapely.Point(9, 9), inner, second]))
    assert cleaned.geom_type == "MultiPolygon"
    assert len(cleaned.geoms) == 1
    assert cleaned.equals(first | second)
    assert clean_polygons(shapely.Point(9, 9)) == clean_polygons(shapely.Polygon()) == shapely.MultiPolygon()
    bow_tie = clean_polygons(shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]))
    assert bow_tie.equals(shapely.Polygon([(0, 0), (0, 4), (2, 2)]) | shapely.Polygon([(4, 0), (4, 4), (2, 2)]))


@few
@given(st.lists(BOXES, min_size=1, max_size=4), st.randoms())
def test_equal_areas_are_equal_polygons(boxes: list[shapely.Polygon], random: object) -> None:
    area = clean_polygons(shapely.GeometryCollection(boxes))
    random.shuffle(boxes)
    dense = shapely.segmentize(shapely.GeometryCollection(boxes), 2)  # with vertices that no corner needs
    assert clean_polygons(dense) == clean_polygons(area) == area


@few
@given(TRIANGLES, TRIANGLES, st.integers(1, 9))
def test_what_is_left_is_no_nearer_than_the_buffer(area: shapely.Polygon, other: shapely.Polygon, pixels: int) -> None:
    area, other = clean_polygons(area), clean_polygons(other)
    left = cut_near(area, other, pixels)
    assert left.is_empty or shapely.distance(left, other) >= pixels - 1 / 1024
    assert (left - shapely.buffer(area, 1 / 32)).is_empty
    if shapely.distance(area, other) >= pixels:
        assert left == area


@few
@given(BOXES, BOXES, st.integers(0, 9))
def test_boxes_lose_a_box_that_is_larger_by_the_buffer(
    area: shapely.Polygon, other: shapely.Polygon, pixels: int
) -> None:
    left, top, right, bottom = other.bounds
    grown = shapely.box(left - pixels, top - pixels, right + pixels, bottom + pixels)
    assert cut_near(clean_polygons(area), clean_polygons(other), pixels).equals(area - grown)


@few
@given(st.lists(windows(largest=9), min_size=1, max_size=4))
def test_quarters_have_each_pixel_once(some: list[Window]) -> None:
    def pixels(rows: np.ndarray) -> Counter[tuple[int, int]]:
        return Counter((r + i, c + j) for r, c, height, width in rows for i in range(height) for j in range(width))

    whole = as_array(some)
    parts = quarters(whole)
    assert pixels(parts) == pixels(whole)
    assert (parts[:, 2:] > 0).all()
    assert (parts[:, 2:].max(axis=0) == (whole[:, 2:].max(axis=0) + 1) // 2).all()
