"""TilePlan: each pixel once."""

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
