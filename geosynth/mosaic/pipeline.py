"""Painting many blocks in one process: reading, the network and writing overlap."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from geosynth.errors import GeosynthError
from geosynth.grid import BlockPlan, Window
from geosynth.mosaic.painter import Painter
from geosynth.raster.labels import LabelRaster
from geosynth.raster.unfinished import Scratch

if TYPE_CHECKING:
    pass


Item = TypeVar("Item")
Executor = Callable[[Painter, LabelRaster, BlockPlan, Iterable[int], Scratch], Iterator[int]]
Progress = Callable[[str, int, int], None]

_LOG = logging.getLogger(__name__)


class LabelSource(Protocol):
    """Labels to paint; `LabelRaster` is one."""

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Class indices and where there is a class, both (height, width); the window may reach beyond the raster."""


def paint_blocks(
    painter: Painter, source: LabelSource, plan: BlockPlan, todo: Iterable[int], scratch: Scratch
) -> Iterator[int]:
    """Paint blocks into the scratch. Blocks without data are not written.

    One thread reads labels, the caller's makes noise and runs the network on all cores, one more writes; each is one
    block ahead of the next at most, which bounds memory. Noise is not made ahead: a third thread would take a core from
    the network, whose others then wait for that one (measured: the whole took a fifth longer).

    Args:
        painter: makes pixels from labels.
        source: of the labels.
        plan: all blocks.
        todo: numbers of those to paint.
        scratch: takes them.

    Yields:
        the number of each block that is finished, or has no data.

    Raises:
        RasterError: if labels cannot be read.
        OutputError: if a block cannot be written.
    """
    read = ((index, *read_around(painter, source, plan[index], plan.origin)) for index in todo)
    with ThreadPoolExecutor(1, "geosynth-writer") as pool:
        unfinished: tuple[int, Future[None]] | None = None
        for index, context, indices, valid in ahead(read):
            if not valid.any():
                yield index
                continue
            pixels = painter.paint(indices, context, plan[index], plan.origin, valid)
            if unfinished is not None:
                unfinished[1].result()
                yield unfinished[0]
            unfinished = index, pool.submit(scratch.write, index, pixels, valid)
        if unfinished is not None:
            unfinished[1].result()
            yield unfinished[0]


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each made in another thread while the one before it is used."""
    iterator = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1, "geosynth-ahead") as pool:
        following = pool.submit(next, iterator, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, iterator, end)
            yield item


def read_around(
    painter: Painter, source: LabelSource, window: Window, origin: tuple[int, int]
) -> tuple[Window, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """The labels around a window, and where the window has a class."""
    context = painter.context(window, origin)
    indices, has_class = source.read(context)
    return context, indices, has_class[window.shift(-context.row, -context.column).slices]


def paint_missing(
    painter: Painter,
    source: LabelRaster,
    scratch: Scratch,
    blocks: Iterable[int],
    executor: Executor,
    progress: Progress,
) -> None:
    """Paint those of the blocks that the scratch does not hold yet.

    Args:
        painter: makes pixels from labels.
        source: of the labels.
        scratch: open; its plan names the blocks.
        blocks: numbers of all that are wanted.
        executor: see `paint_blocks`.
        progress: called with ("painting", blocks done, blocks wanted).

    Raises:
        RasterError, OutputError, ClusterError: as the executor does; finished blocks are kept, which is said.
    """
    wanted = list(blocks)
    finished = scratch.done()
    todo = [index for index in wanted if index not in finished]
    first = len(wanted) - len(todo)
    progress("painting", first, len(wanted))
    try:
        with contextlib.closing(executor(painter, source, scratch.plan, todo, scratch)) as indices:  # type: ignore[type-var]
            for done, _ in enumerate(indices, start=first + 1):
                progress("painting", done, len(wanted))
    except (KeyboardInterrupt, SystemExit, GeosynthError, MemoryError):
        if kept := len(scratch.done()):
            _LOG.warning(
                "%s: stopped; %d of %d blocks are kept in %s, and the same command goes on from there",
                scratch.out,
                kept,
                len(wanted),
                scratch.folder,
            )
        raise
