"""Painting by Dask workers: they get the painter once, tasks are block numbers, blocks go into the image's folder."""

from __future__ import annotations

import contextlib
import threading
import uuid
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosynth.checkpoint import load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError
from geosynth.models.device import uses_bfloat16
from geosynth.models.process_settings import keep_freed_memory
from geosynth.mosaic.painter import LabelledWindow, Painter
from geosynth.mosaic.pipeline import read_around
from geosynth.mosaic.style import packed, unpacked
from geosynth.parallel import stream
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Array, Mask
from geosynth.raster.unfinished_image import UnfinishedImage

if TYPE_CHECKING:
    from distributed import Client

_loading = threading.Lock()


class PortablePainter:
    """A `Painter` for tasks: weights are never pickled, and each process paints one window at a time.

    Tasks in threads take turns, because the network itself uses all the threads it may have; so memory does not grow
    with the number of tasks.

    Args:
        painter: used directly in this process; other processes load its model from its file, which must be the same
            one there.
    """

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self._turn = threading.Lock()
        self._memory: contextlib.ExitStack | None = None

    def paint(self, labels: LabelledWindow) -> Array:
        """As `Painter.paint`."""
        with self._turn:
            if self._memory is None:
                self._memory = self._keep_memory()
            return self.painter.paint(labels)

    def _keep_memory(self) -> contextlib.ExitStack:
        """Keep memory from the first window on, as long as this painter exists; else each task would map it again."""
        stack = contextlib.ExitStack()
        if self.painter.on_cpu:
            stack.enter_context(keep_freed_memory())
            weakref.finalize(self, stack.close)
        return stack

    def __reduce__(self) -> Any:
        one = self.painter
        identity = (one.model.path.absolute(), one.model.sha256, one.settings, one.style_length, packed(one.style))
        return _load, (type(one), *identity)

    def __dask_tokenize__(self) -> Any:
        return self.__reduce__()[1]


def _load(*identity: Any) -> PortablePainter:
    with _loading:
        return _loaded(*identity)


@lru_cache(maxsize=2)
def _loaded(
    kind: type[Painter],
    path: Path,
    sha256: str,
    settings: GenerateSettings,
    style_length: int,
    style: bytes | None,
) -> PortablePainter:
    model = load_generator(path, settings.device)
    if model.sha256 != sha256:
        raise CheckpointError(f"{path}: on this worker another file than where the work began; copy the model there")
    return PortablePainter(kind(model, settings, style_length, unpacked(style)))


def settle_precision(settings: GenerateSettings, client: Client) -> GenerateSettings:
    """The settings, with precision "auto" replaced by bf16 if all workers would choose it, else by fp32."""
    choices = client.run(uses_bfloat16, settings.precision, settings.device)
    return settings.model_copy(update={"precision": "bf16" if all(choices.values()) else "fp32"})


@dataclass(frozen=True)
class _Work:
    """What a worker needs for all blocks."""

    painter: PortablePainter
    source: LabelRaster
    image: UnfinishedImage
    mark: Path


# The pixels of a block and where they are valid, if the worker could not write them itself.
Sent = tuple[Array, Mask] | None


def paint_on_cluster(
    client: Client, painter: Painter, source: LabelRaster, image: UnfinishedImage, todo: Iterable[int]
) -> Iterator[int]:
    """As `pipeline.paint_blocks`, on the workers of a cluster.

    A worker runs its network on as many threads as Dask gives it (`--nthreads`), one block at a time, while its other
    tasks read labels. A worker that sees the image's folder writes its blocks there; others send them back.

    Raises:
        ClusterError: if the scheduler is lost, or if the same block kills workers again and again.
        GeosynthError: what `pipeline.paint_blocks` raises, on whichever worker it happens.
    """
    mark = image.folder / f"{uuid.uuid4().hex}.partial"  # a worker that sees this file sees the folder
    mark.touch()
    work = _Work(PortablePainter(painter), source, image, mark)
    # Large blocks first, so that no worker is left alone with one at the end.
    order = sorted(todo, key=lambda index: -image.plan[index].height * image.plan[index].width)
    try:
        for index, sent in stream(_paint_block, work, order, name=image.out, client=client):
            if sent is not None:
                image.write_block(index, *sent)
            yield index
    finally:
        mark.unlink(missing_ok=True)


def _paint_block(work: _Work, index: int) -> Sent:
    """The task: paint one block."""
    plan = work.image.plan
    labels = read_around(work.painter.painter, work.source, plan[index], plan.origin)
    if not labels.valid.any():
        return None
    pixels = work.painter.paint(labels)
    if not work.mark.exists():
        return pixels, labels.valid
    work.image.write_block(index, pixels, labels.valid)
    return None
