"""Pixels of each class: in blocks, and in the folds of a split. Labels are read a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from geosynth.grid import SpatialSplit, TilePlan, Window
from geosynth.grid.groups import blocks_over
from geosynth.raster.stores.scene import FoldPixels, add_pixels, count_by_fold
from geosynth.raster.stores.source import PatchSource

Progress = Callable[[int, int], None]

_PIECE = 2048  # side of what is read at once, pixels: 4 MB of labels a thread


def count_blocks(
    source: PatchSource, blocks: Sequence[Window], progress: Progress = lambda done, total: None
) -> npt.NDArray[np.int64]:
    """(blocks, classes): labelled pixels of each class in each block, which may reach beyond the grid."""
    grid = Window(0, 0, *source.geobox.shape)

    def count(block: Window) -> npt.NDArray[np.int64]:
        inside = block.intersection(grid)
        total = np.zeros(source.legend.num_classes, dtype=np.int64)
        if inside is not None:
            for piece in TilePlan(inside.height, inside.width, _PIECE):
                labels = source.read_labels(piece.shift(inside.row, inside.column))
                total += np.bincount(labels.ravel(), minlength=len(total) + 1)[: len(total)]
        return total

    counts = np.zeros((len(blocks), source.legend.num_classes), dtype=np.int64)
    with ThreadPoolExecutor() as pool:
        for index, found in enumerate(pool.map(count, blocks)):
            counts[index] = found
            progress(index + 1, len(blocks))
    return counts


def count_folds(source: PatchSource, split: SpatialSplit, progress: Progress = lambda done, total: None) -> FoldPixels:
    """Labelled pixels of each class in each fold, and under "all" those of no fold too."""
    grid = Window(0, 0, *source.geobox.shape)
    blocks = blocks_over([scene.window for scene in source.scenes], _PIECE)
    pieces = [piece for block in blocks if (piece := block.intersection(grid))]

    def count(piece: Window) -> FoldPixels:
        return count_by_fold(source.read_labels(piece), piece, split, source.legend)

    pixels: FoldPixels = {}
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(count, pieces), start=1):
            add_pixels(pixels, found)
            progress(done, len(pieces))
    return pixels
