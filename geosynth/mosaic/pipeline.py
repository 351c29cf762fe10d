"""Painting many blocks in one process: reading, the network and writing overlap."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from geosynth.errors import GeosynthError
from geosynth.grid import BlockPlan, Window
from geosynth.mosaic.painter import Indices, Mask, Painter, Pixels
from geosynth.raster.labels import LabelRaster
from geosynth.raster.unfinished import Scratch

Item = TypeVar("Item")
Result = TypeVar("Result")
Executor = Callable[[Painter, LabelRaster, BlockPlan, Iterable[int], Scratch], Iterator[int]]
Progress = Callable[[str, int, int], None]

_LOG = logging.getLogger(__name__)
_READERS = 4  # threads that read for a GPU


class LabelSource(Protocol):
    """Labels to paint; `LabelRaster` is one."""

    def read(self, window: Window) -> tuple[Indices, Mask]:
        """Class indices and where there is a class, both (height, width); the window may reach beyond the raster."""


def paint_blocks(
    painter: Painter, source: LabelSource, plan: BlockPlan, todo: Iterable[int], scratch: Scratch
) -> Iterator[int]:
    """Paint blocks into the scratch. Blocks without data are not written.

    One thread reads labels (several where a GPU waits for them), the caller's makes noise and runs the network on all
    cores (or starts the next block on a GPU before it fetches the one before), and one more writes. Each is one block
    ahead of the next at most, which bounds memory. Noise is not made ahead: a third thread would take a core from the
    network, whose others then wait for that one (measured: the whole took a fifth longer).

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

    def read(index: int) -> tuple[int, Window, Indices, Mask]:
        return index, *read_around(painter, source, plan[index], plan.origin)

    def begun() -> Iterator[tuple[int, Callable[[], Pixels] | None, Mask]]:
        for index, context, indices, valid in ahead(read, todo, 1 if painter.on_cpu else _READERS):
            begin = partial(painter.begin, indices, context, plan[index], plan.origin, valid)
            yield index, begin() if valid.any() else None, valid

    with ThreadPoolExecutor(1, "geosynth-writer") as pool:
        unfinished: tuple[int, Future[None]] | None = None
        for index, pixels, valid in begun() if painter.on_cpu else one_behind(begun()):
            if pixels is None:
                yield index
                continue
            painted = pixels()
            if unfinished is not None:
                unfinished[1].result()
                yield unfinished[0]
            unfinished = index, pool.submit(scratch.write, index, painted, valid)
        if unfinished is not None:
            unfinished[1].result()
            yield unfinished[0]


def ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int = 1) -> Iterator[Result]:
    """The function's results in the order of the items; the next ones are made in other threads meanwhile."""
    remaining, waiting = iter(items), deque[Future[Result]]()
    with ThreadPoolExecutor(threads, "geosynth-ahead") as pool:
        try:
            waiting.extend(pool.submit(function, item) for item in islice(remaining, threads))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each when the one after it has been made."""
    former: list[Item] = []
    for item in items:
        yield from former
        former = [item]
    yield from former


def read_around(
    painter: Painter, source: LabelSource, window: Window, origin: tuple[int, int]
) -> tuple[Window, Indices, Mask]:
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
