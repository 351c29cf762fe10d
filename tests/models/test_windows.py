"""Windows at absolute positions: oracles are the pixels that they cover."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.models.windows import Windows, middles_of_cells

PLACES = st.integers(-(10**9), 10**9)
SIDES = st.integers(1, 50)


def covered(windows: Windows) -> list[tuple[range, range]]:
    """Rows and columns of each window."""
    firsts = zip(windows.row.tolist(), windows.column.tolist(), strict=True)
    return [(range(row, row + windows.height), range(column, column + windows.width)) for row, column in firsts]


@given(PLACES, PLACES, SIDES, SIDES, st.integers(0, 20))
def test_a_buffer_is_as_wide_on_each_side(row: int, column: int, height: int, width: int, pixels: int) -> None:
    window = Windows.at(row, column, height, width)
    assert covered(window) == [(range(row, row + height), range(column, column + width))]
    ((rows, columns),) = covered(window.buffer(pixels))
    assert rows == range(row - pixels, row + height + pixels)
    assert columns == range(column - pixels, column + width + pixels)
    assert covered(window.buffer(pixels).buffer(-pixels)) == covered(window)


@given(st.lists(st.tuples(PLACES, PLACES), min_size=1, max_size=3), SIDES, SIDES, st.integers(1, 32))
def test_cells_cover_the_same_pixels(places: list[tuple[int, int]], height: int, width: int, stride: int) -> None:
    rows, columns = torch.tensor(places).T
    cells = Windows(rows, columns, height, width)
    pixels = Windows(rows * stride, columns * stride, height * stride, width * stride)
    assert covered(pixels.in_cells(stride)) == covered(cells)


@given(st.lists(PLACES, min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 32))
def test_middles_are_exact_far_from_the_origin(starts: list[int], count: int, stride: int) -> None:
    middles = middles_of_cells(torch.tensor(starts), count, stride)
    assert middles.tolist() == [[start + (cell + 0.5) * stride for cell in range(count)] for start in starts]
