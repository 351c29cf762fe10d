"""TilePlan: each pixel once, and one lattice for all rasters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import GridError
from geosynth.grid import TilePlan, Window
from strategies import few

sides, sizes, origins = st.integers(1, 70), st.integers(1, 30), st.integers(-200, 200)


@few
@given(sides, sides, sizes, origins, origins)
def test_each_pixel_lies_in_exactly_one_block(height: int, width: int, size: int, row: int, column: int) -> None:
    plan = TilePlan(height, width, size, (row, column))
    visits = np.zeros((height, width), dtype=int)
    blocks = list(plan)
    for block in blocks:
        assert Window(0, 0, height, width).contains(block)
        visits[block.slices] += 1
    assert (visits == 1).all()
    assert len(plan) == len(blocks)
    assert blocks == sorted(blocks)


@few
@given(sides, sides, sizes, origins, origins)
def test_blocks_are_the_cells_of_the_absolute_lattice(
    height: int, width: int, size: int, row: int, column: int
) -> None:
    for block in TilePlan(height, width, size, (row, column)):
        rows = (np.arange(block.row, block.bottom) + row) // size
        columns = (np.arange(block.column, block.right) + column) // size
        assert len(set(rows)) == len(set(columns)) == 1  # no line of the lattice runs through a block


@few
@given(sizes, origins, origins, st.integers(1, 40), st.integers(1, 40))
def test_two_rasters_on_one_grid_are_cut_along_the_same_lines(
    size: int, row: int, column: int, down: int, right: int
) -> None:
    def lines(origin: tuple[int, int]) -> set[tuple[int, int]]:
        plan = TilePlan(90, 90, size, origin)
        return {(block.row + origin[0], block.column + origin[1]) for block in plan if block.row and block.column}

    one, other = lines((row, column)), lines((row + down, column + right))
    common = Window(row + down, column + right, 90 - down, 90 - right)

    def inside(points: set[tuple[int, int]]) -> set[tuple[int, int]]:
        return {(r, c) for r, c in points if common.row < r < common.bottom and common.column < c < common.right}

    assert inside(one) == inside(other)


@pytest.mark.parametrize("values", [(0, 4, 2), (4, 0, 2), (4, 4, 0), (4, 4, -1)])
def test_nothing_to_cut_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(GridError, match="cannot cut"):
        TilePlan(*values)
