"""Painting many blocks in one process: reading, the network and writing overlap."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from geosynth.grid import Window
from geosynth.legend import ClassIndices
from geosynth.models.device import side_by_side
from geosynth.mosaic.painter import Cell, Painter
from geosynth.parallel import ahead, one_behind
from geosynth.progress import StageProgress
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Array, Mask
from geosynth.raster.unfinished_image import UnfinishedImage

Executor = Callable[[Painter, LabelRaster, UnfinishedImage, Iterable[int]], Iterator[int]]

_NARROW = 32  # base channels, at most: threads that share a cell wait for each other; wider networks keep them busy


def paint_blocks(painter: Painter, source: LabelRaster, image: UnfinishedImage, todo: Iterable[int]) -> Iterator[int]:
    """Paint blocks of an image. Blocks without data are not written.

    One thread reads labels and finds their regions (several where a GPU waits for them; the caller's those of the first
    block), the caller's makes noise and runs the network on all cores (or starts the next block on a GPU, or in two
    threads that paint a cell each, before it fetches the one before), and one more writes (several for a GPU). Each is
    one block ahead of the next at most, which bounds memory.
    Noise is not made ahead: a third thread would take a core from the network, whose others then wait for that one
    (measured: the whole took a fifth longer).

    Args:
        painter: makes pixels from labels.
        source: of the labels.
        image: takes them.
        todo: numbers of the blocks to paint.

    Yields:
        the number of each block that is finished, or has no data.

    Raises:
        RasterError: if labels cannot be read.
        OutputError: if a block cannot be written.
    """
    plan, helpers = image.plan, painter.helpers

    def read(index: int) -> tuple[int, list[Cell], Mask]:
        window, origin = plan[index], plan.origin
        context, indices, valid = read_around(painter, source, window, origin)
        return index, painter.labelled_cells(indices, context, window, origin, valid), valid

    def begun() -> Iterator[tuple[int, Callable[[], Array] | None, Mask]]:
        for index, cells, valid in ahead(read, todo, helpers):
            yield index, painter.begin(cells, plan[index], plan.origin, submit) if cells else None, valid

    two = _paints_two_cells(painter) and len(plan) > 1  # few cells gain less than fresh memory for two costs
    with painter.computing(), side_by_side(1 + two) as submit, ThreadPoolExecutor(helpers, "geosynth-writer") as pool:
        unfinished: deque[tuple[int, Future[None]]] = deque()

        def first_written() -> int:
            index, written = unfinished.popleft()
            written.result()
            return index

        for index, pixels, valid in one_behind(begun()) if two or not painter.on_cpu else begun():
            if pixels is None:
                yield index
                continue
            painted = pixels()
            if len(unfinished) == helpers:
                yield first_written()
            unfinished.append((index, pool.submit(image.write_block, index, painted, valid)))
        while unfinished:
            yield first_written()


def _paints_two_cells(painter: Painter) -> bool:
    """Whether a CPU is faster, and has the memory, with two cells at a time, each on half of torch's threads."""
    narrow = painter.mode == "exact" and painter.network.base_width <= _NARROW
    return painter.on_cpu and narrow and painter.settings.max_memory is None and torch.get_num_threads() > 1


def read_around(
    painter: Painter, source: LabelRaster, window: Window, origin: tuple[int, int]
) -> tuple[Window, ClassIndices, Mask]:
    """The labels around a window, and where the window has a class."""
    context = painter.context(window, origin)
    indices, has_class = source.read(context)
    return context, indices, has_class[window.slices_in(context)]


def paint_missing(
    painter: Painter,
    source: LabelRaster,
    image: UnfinishedImage,
    blocks: Collection[int],
    executor: Executor,
    progress: StageProgress,
) -> Iterator[int]:
    """Paint those of the blocks that are not finished yet.

    Args:
        painter: makes pixels from labels.
        source: of the labels.
        image: open.
        blocks: numbers of all that are wanted.
        executor: see `paint_blocks`.
        progress: called with ("painting", blocks done, blocks wanted).

    Yields:
        the number of each block that is painted now, or has no data.

    Raises:
        RasterError, OutputError, ClusterError: as the executor does.
    """
    finished = image.finished_blocks()
    todo = [index for index in blocks if index not in finished]
    first = len(blocks) - len(todo)
    progress("painting", first, len(blocks))
    with contextlib.closing(executor(painter, source, image, todo)) as indices:  # type: ignore[type-var]
        for done, index in enumerate(indices, start=first + 1):
            progress("painting", done, len(blocks))
            yield index
