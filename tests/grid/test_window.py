"""Window against sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geosynth.errors import GridError
from geosynth.grid import Window
from strategies import few, windows


def pixels(window: Window | None) -> set[tuple[int, int]]:
    if window is None:
        return set()
    return {(row, column) for row in range(window.row, window.bottom) for column in range(window.column, window.right)}


@few
@given(windows(), windows())
@example(Window(0, 0, 4, 4), Window(1, 4, 2, 3))  # that touch at a side
@example(Window(0, 0, 4, 4), Window(4, 1, 3, 2))
@example(Window(0, 0, 4, 4), Window(4, 4, 3, 3))  # and at a corner
def test_intersection_is_the_common_pixels(first: Window, second: Window) -> None:
    common = pixels(first) & pixels(second)
    assert pixels(first.intersection(second)) == common
    assert first.contains(second) == (pixels(second) <= pixels(first))
    if common:
        assert pixels(first.overlap(second)) == common
    else:
        with pytest.raises(GridError, match="no pixel in common"):
            first.overlap(second)


@few
@given(windows(), st.integers(-5, 5), st.integers(-5, 5))
def test_shift_moves_each_pixel(window: Window, rows: int, columns: int) -> None:
    assert pixels(window.shift(rows, columns)) == {(row + rows, column + columns) for row, column in pixels(window)}


@few
@given(windows(), windows())
def test_slices_in_a_window_take_the_common_pixels_of_its_array(outer: Window, other: Window) -> None:
    rows, columns = np.mgrid[outer.row : outer.bottom, outer.column : outer.right]
    inner = other.intersection(outer) or outer
    taken = inner.slices_in(outer)
    assert set(zip(rows[taken].flat, columns[taken].flat, strict=True)) == pixels(inner)


@few
@given(windows(), st.integers(1, 30), st.integers(1, 30))
def test_the_middle_lies_inside_and_as_far_from_opposite_edges(window: Window, height: int, width: int) -> None:
    middle = window.middle(height, width)
    assert window.contains(middle)
    assert (middle.height, middle.width) == (min(height, window.height), min(width, window.width))
    assert 0 <= (window.bottom - middle.bottom) - (middle.row - window.row) <= 1
    assert 0 <= (window.right - middle.right) - (middle.column - window.column) <= 1


@few
@given(windows(largest=6), st.integers(0, 4))
def test_buffer_holds_all_pixels_within_reach(window: Window, reach: int) -> None:
    steps = range(-reach, reach + 1)
    near = {(row + down, column + right) for row, column in pixels(window) for down in steps for right in steps}
    assert pixels(window.buffer(reach)) == near


@few
@given(windows(), st.integers(1, 9))
def test_pieces_hold_each_pixel_once_and_come_row_by_row(window: Window, size: int) -> None:
    pieces = window.pieces(size)
    assert [piece for piece in pieces if (piece.row - window.row) % size or (piece.column - window.column) % size] == []
    assert pieces == sorted(pieces)
    assert max(max(piece.height, piece.width) for piece in pieces) <= size
    assert set().union(*map(pixels, pieces)) == pixels(window)
    assert sum(piece.height * piece.width for piece in pieces) == window.height * window.width


@few
@given(st.lists(windows(), min_size=1, max_size=5))
def test_around_begins_and_ends_with_the_outermost_pixels(some: list[Window]) -> None:
    rows, columns = zip(*set().union(*map(pixels, some)), strict=True)
    around = Window.around(some)
    assert (around.row, around.bottom - 1, around.column, around.right - 1) == (
        min(rows),
        max(rows),
        min(columns),
        max(columns),
    )


def test_a_window_is_told_by_its_first_and_last_pixels() -> None:
    assert str(Window(-2, 3, 4, 1)) == "rows -2-1, columns 3-3"


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (-1, 3)])
def test_a_window_without_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(GridError, match=f"{height} x {width}"):
        Window(0, 0, height, width)


def test_a_window_cannot_be_shrunk_away() -> None:
    with pytest.raises(GridError):
        Window(0, 0, 4, 4).buffer(-2)
