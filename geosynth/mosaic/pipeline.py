"""Painting many blocks in one process: reading, the network and writing overlap."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from geosynth.grid import Window
from geosynth.models.device import side_by_side
from geosynth.mosaic.painter import Cell, LabelledWindow, Painter
from geosynth.parallel import ahead, one_behind
from geosynth.progress import StageProgress
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Array, Mask
from geosynth.raster.unfinished_image import UnfinishedImage

Executor = Callable[[Painter, LabelRaster, UnfinishedImage, Iterable[int]], Iterator[int]]

_NARROW = 32  # base channels; up to here, threads that share a cell wait for each other; wider networks keep them busy


def paint_blocks(painter: Painter, source: LabelRaster, image: UnfinishedImage, todo: Iterable[int]) -> Iterator[int]:
    """Paint blocks of an image. Blocks without data are not written.

    One thread reads labels and finds their regions (with a GPU, several; the caller's thread does it for the first
    block). The caller's thread makes noise and runs the network on all cores; with a GPU, or with two threads that
    paint a cell each, it starts the next block before it fetches the previous one. One more thread writes (with a GPU,
    several). Each stage is at most one block ahead of the next, which bounds memory.
    Noise is not made ahead: a third thread would take a core from the network, whose other threads would then wait for
    that one (measured: the whole took a fifth longer).

    Args:
        painter: makes pixels from labels.
        source: the labels.
        image: receives the blocks.
        todo: numbers of the blocks to paint.

    Yields:
        the number of each block, once it is written or found to have no data.

    Raises:
        RasterError: if labels cannot be read.
        OutputError: if a block cannot be written.
    """
    plan, helpers = image.plan, painter.helpers

    def read(index: int) -> tuple[int, list[Cell], Mask]:
        labels = read_around(painter, source, plan[index], plan.origin)
        return index, painter.labelled_cells(labels), labels.valid

    def begun() -> Iterator[tuple[int, Callable[[], Array] | None, Mask]]:
        for index, cells, valid in ahead(read, todo, helpers):
            window = plan[index].shift(*plan.origin)
            yield index, painter.begin(cells, window, submit) if cells else None, valid

    two = _paints_two_cells(painter) and len(plan) > 1  # for few cells, memory for two costs more
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
    """Whether to paint two cells at a time on a CPU, each on half of torch's threads: if faster, and memory allows."""
    narrow = painter.mode == "exact" and painter.network.base_width <= _NARROW
    return painter.on_cpu and narrow and painter.settings.max_memory is None and torch.get_num_threads() > 1


def read_around(painter: Painter, source: LabelRaster, window: Window, origin: tuple[int, int]) -> LabelledWindow:
    """A window of a raster with the labels around it.

    Args:
        painter: says how far around.
        source: the labels.
        window: in the raster's pixel coordinates.
        origin: absolute (row, column) of the raster's first pixel.
    """
    place = window.shift(*origin)
    context = painter.context(place)
    indices, has_class = source.read(context.shift(-origin[0], -origin[1]))
    return LabelledWindow(place, context, indices, has_class[place.slices_in(context)])


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
        source: the labels.
        image: receives the blocks; open.
        blocks: numbers of all blocks that are wanted.
        executor: see `paint_blocks`.
        progress: called with ("painting", blocks done, blocks wanted).

    Yields:
        the number of each block that this call paints or finds to have no data.

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
