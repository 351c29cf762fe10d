"""TilePlan: each pixel in exactly one block; overlapping tiles that reach the edge, or leave the rest out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import GridError
from geosynth.grid import TilePlan, Window
from strategies import few

sides, sizes = st.integers(1, 70), st.integers(1, 30)


@few
@given(sides, sides, sizes)
def test_each_pixel_lies_in_exactly_one_block(height: int, width: int, size: int) -> None:
    plan = TilePlan(height, width, size)
    visits = np.zeros((height, width), dtype=int)
    blocks = list(plan)
    for block in blocks:
        assert Window(0, 0, height, width).contains(block)
        assert block.row % size == block.column % size == 0
        assert max(block.height, block.width) <= size
        visits[block.slices] += 1
    assert (visits == 1).all()
    assert len(plan) == len(blocks)
    assert blocks == sorted(blocks)


@pytest.mark.parametrize("values", [(0, 4, 2), (4, 0, 2), (4, 4, 0), (4, 4, -1)])
def test_nothing_to_cut_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(GridError, match="cannot cut"):
        TilePlan(*values)


@few
@given(sides, sides, sizes, st.integers(1, 40))
def test_overlapping_tiles_stand_every_stride_and_treat_the_edge_as_told(
    height: int, width: int, size: int, stride: int
) -> None:
    plans = {edge: list(TilePlan(height, width, size, stride, edge)) for edge in ("crop", "align", "skip")}
    full = [
        Window(row, column, size, size)
        for row in range(0, height, stride)
        for column in range(0, width, stride)
        if row + size <= height and column + size <= width
    ]
    assert plans["skip"] == full
    for edge, tiles in plans.items():
        assert len(TilePlan(height, width, size, stride, edge)) == len(tiles) == len(set(tiles))
        assert set(full) <= set(tiles)
        assert all(Window(0, 0, height, width).contains(tile) for tile in tiles)
        assert tiles == sorted(tiles)
    assert all(tile.height == tile.width == size for tile in plans["align"])
    if stride <= size:  # no gaps: crop reaches every pixel, align too where a tile fits
        for edge in ("crop", "align") if min(height, width) >= size else ("crop",):
            visits = np.zeros((height, width), dtype=int)
            for tile in plans[edge]:
                visits[tile.slices] += 1
            assert visits.min() > 0
    if min(height, width) < size:
        assert not plans["align"]


def test_tiles_that_end_with_the_raster_leave_no_rest() -> None:
    crop, align, skip = (list(TilePlan(10, 10, 4, 2, edge)) for edge in ("crop", "align", "skip"))
    assert crop == align == skip
    assert len(skip) == 16


def test_a_stride_that_cannot_be() -> None:
    with pytest.raises(GridError, match="stride"):
        TilePlan(9, 9, 3, 0)
