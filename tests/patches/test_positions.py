"""PositionIndex: held against each position looked at in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import DataError
from geosynth.grid import SpatialSplit, Window
from geosynth.patches.positions import PositionIndex
from memory_source import MemorySource
from strategies import few

SIDE = 32


def every_position(source: Any, fold: str, size: int) -> np.ndarray:
    """(height, width) bool, by the definition: one scene, the fold, no nodata."""
    height, width = source.geobox.shape
    found = np.zeros((height, width), dtype=bool)
    good = source.read_labels(Window(0, 0, height, width)) < source.legend.num_classes
    good &= source.split.mask(Window(0, 0, height, width), fold)
    for row in range(height - size + 1):
        for column in range(width - size + 1):
            window = Window(row, column, size, size)
            found[row, column] = good[window.slices].all() and any(
                scene.window.contains(window) for scene in source.scenes
            )
    return found


def indexed_positions(index: PositionIndex) -> np.ndarray:
    """How often each position is in the index."""
    found = np.zeros(index.source.geobox.shape, dtype=int)
    for cell, (row, column, height, width) in enumerate(index.cells.tolist()):
        found[row : row + height, column : column + width] += index.mask(cell)
    return found


@st.composite
def sources(draw: st.DrawFn) -> MemorySource:
    side, place = st.integers(6, 24), st.integers(0, SIDE - 6)
    scenes = [
        Window(row, column, min(SIDE - row, draw(side)), min(SIDE - column, draw(side)))
        for row, column in draw(st.lists(st.tuples(place, place), min_size=1, max_size=4))
    ]
    buffer = draw(st.integers(0, 2))
    if draw(st.booleans()):
        split = SpatialSplit.by_scenes({"train": scenes}, buffer=buffer)
    else:
        corner = draw(place)  # a slanted edge through the scenes
        test = shapely.Polygon([(0, corner), (corner, 0), (0, 0)])
        split = SpatialSplit.by_polygons({"train": shapely.box(0, 0, SIDE, SIDE), "test": test}, buffer=buffer)
    return MemorySource((SIDE, SIDE), scenes, split, seed=draw(st.integers(0, 99)), holes=draw(st.booleans()))


@few
@given(source=sources(), size=st.integers(1, 9), block=st.sampled_from([1, 4, 8, 64]))
def test_each_admissible_position_is_in_one_cell(source: MemorySource, size: int, block: int) -> None:
    source.chunk_size = block
    wanted = every_position(source, "train", size)
    try:
        index = PositionIndex(source, "train", size, count_classes=True)
    except DataError:
        assert not wanted.any()
        return
    np.testing.assert_array_equal(indexed_positions(index), wanted)
    np.testing.assert_array_equal(index.counts, [index.mask(cell).sum() for cell in range(len(index.counts))])
    pixels = np.zeros(source.legend.num_classes)
    for row, column in np.argwhere(wanted):
        patch = source.read_labels(Window(int(row), int(column), size, size))
        pixels += np.bincount(patch.ravel(), minlength=len(pixels))
    assert index.class_counts is not None
    np.testing.assert_array_equal(index.class_counts.sum(axis=0), pixels)


@few
@given(source=sources(), seed=st.integers(0, 9), weighted=st.booleans())
def test_draws_are_admissible_and_hold_what_has_weight(source: MemorySource, seed: int, weighted: bool) -> None:
    size = 5
    try:
        index = PositionIndex(source, "train", size, count_classes=True)
    except DataError:
        return
    assert index.class_counts is not None
    weights = np.zeros(source.legend.num_classes)
    weights[source.rarest] = 1e-9  # as small as chances are on a large map
    for cell in range(len(index.counts)):
        if weighted and not index.class_counts[cell, source.rarest]:
            continue
        for window in index.draw(cell, 20, np.random.default_rng(seed), weights if weighted else None):
            row, column, height, width = index.cells[cell].tolist()
            assert Window(row, column, height, width).contains(Window(window.row, window.column, 1, 1))
            assert index.mask(cell)[window.row - row, window.column - column]
            assert not weighted or (source.read_labels(window) == source.rarest).any()


def test_cells_lie_on_storage_blocks_and_labels_are_read_only_if_needed() -> None:
    scenes = [Window(0, 0, SIDE, SIDE)]
    source = MemorySource((SIDE, SIDE), scenes, SpatialSplit.by_scenes({"train": scenes}))
    index = PositionIndex(source, "train", 7)
    assert index.side == 3 * 7 // source.chunk_size * source.chunk_size == 16
    assert not (index.cells[:, :2] % source.chunk_size).any()
    assert source.reads == 0
    holes = MemorySource((SIDE, SIDE), scenes, source.split, holes=True)
    PositionIndex(holes, "train", 7)
    assert holes.reads > 0


def test_refusals(tmp_path: Path) -> None:
    scenes = [Window(0, 0, 20, 30)]
    source = MemorySource((SIDE, SIDE), scenes, SpatialSplit.by_scenes({"train": scenes}))
    with pytest.raises(DataError, match="21 px: the largest is 20 px"):
        PositionIndex(source, "train", 21)
    with pytest.raises(DataError, match="'test' holds a patch of 4 px: the largest is 0 px"):
        PositionIndex(source, "test", 4)
    with pytest.raises(DataError, match="free of nodata"):
        PositionIndex(MemorySource((SIDE, SIDE), scenes, source.split, nothing=True), "train", 4)
