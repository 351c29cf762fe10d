"""BlockPlan: every pixel in one block, edges on absolute lines, rasters on one grid cut alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosynth.grid import BlockPlan, Window, cut
from strategies import few

POSITION, SIDE = st.integers(-10_000_000, 10_000_000), st.integers(1, 90)
PLANS = st.builds(BlockPlan, SIDE, SIDE, st.tuples(POSITION, POSITION), st.integers(1, 40))
WITHOUT_SLIVERS = st.builds(BlockPlan, SIDE, SIDE, st.tuples(POSITION, POSITION), st.integers(8, 40), st.integers(0, 8))

WINDOWS = st.builds(Window, st.integers(-20, 60), st.integers(-20, 60), st.integers(15, 80), st.integers(15, 80))


@few
@given(plan=PLANS | WITHOUT_SLIVERS)
def test_every_pixel_lies_in_exactly_one_block(plan: BlockPlan) -> None:
    hits = np.zeros((plan.height, plan.width), int)
    for block in plan:
        hits[block.slices] += 1
    assert (hits == 1).all()
    assert len(list(plan)) == len(plan)
    assert plan[-1] == list(plan)[-1]


@few
@given(plan=PLANS)
def test_edges_inside_the_raster_are_absolute_multiples_of_the_size(plan: BlockPlan) -> None:
    for block in plan:
        assert block.row == 0 or (block.row + plan.origin[0]) % plan.size == 0
        assert block.column == 0 or (block.column + plan.origin[1]) % plan.size == 0
        assert max(block.height, block.width) <= plan.size


@few
@given(
    side=st.integers(1, 300),
    origin=POSITION,
    least=st.integers(1, 9),
    size=st.sampled_from([10, 20, 40]),
    start=POSITION,
)
def test_slivers_belong_to_their_neighbours_whatever_the_size(
    side: int, origin: int, least: int, size: int, start: int
) -> None:
    """Of blocks, too, that are made of several cells: their cells are those of the whole."""
    whole = cut(start, start + side, origin, 10, least)
    blocks = cut(start, start + side, origin, size, least)
    assert [cell for first, length in blocks for cell in cut(first, first + length, origin, 10, least)] == whole
    assert sum(length for _, length in whole) == side
    assert len(whole) == 1 or min(length for _, length in whole) >= least
    assert max(length for _, length in whole) < 10 + 2 * least


def test_what_is_no_narrower_than_asked_is_a_piece_of_its_own() -> None:
    assert cut(0, 13, 0, 10, least=3) == [(0, 10), (10, 3)]
    assert cut(0, 13, 0, 10, least=4) == [(0, 13)]
    assert cut(0, 13, 0, 10) == [(0, 10), (10, 3)]


@few
@given(plan=PLANS | WITHOUT_SLIVERS, window=WINDOWS)
def test_touching_blocks_are_those_that_share_pixels(plan: BlockPlan, window: Window) -> None:
    expected = [index for index, block in enumerate(plan) if block.intersection(window)]
    assert plan.touching(window) == expected


@few
@given(plan=PLANS, first=st.integers(-9, 9), step=st.integers(1, 3))
def test_blocks_are_numbered_as_in_a_list(plan: BlockPlan, first: int, step: int) -> None:
    blocks = list(plan)
    assert plan[first::step] == blocks[first::step]
    assert plan[-len(plan)] == blocks[0]
    for beyond in (len(plan), -len(plan) - 1):
        with pytest.raises(IndexError, match=str(beyond)):
            plan[beyond]


@few
@given(plan=PLANS)
def test_rows_and_columns_are_those_of_the_blocks(plan: BlockPlan) -> None:
    blocks = list(plan)
    assert plan.rows == [(block.row, block.height) for block in blocks if block.column == 0]
    assert plan.columns == [(block.column, block.width) for block in blocks if block.row == 0]
