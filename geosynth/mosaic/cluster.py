"""Painting by a Dask cluster: tasks are block numbers, workers hold the model, finished blocks land in the scratch.

What a task needs travels once to each worker, also to those that join or come back later, as a plugin of a few
kilobytes: the paths of the model and of the labels, the settings, the plan. A worker that sees the scratch folder
(shared storage) writes its blocks there itself; from others the pixels come back and are written here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from functools import cached_property, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin, as_completed, get_worker
from distributed.comm import CommClosedError

from geosynth.checkpoint import load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError, ClusterError, GeosynthError
from geosynth.grid import BlockPlan, Window
from geosynth.models.device import uses_bfloat16
from geosynth.mosaic.painter import Painter
from geosynth.mosaic.pipeline import LabelSource, read_around
from geosynth.raster.unfinished import Scratch

if TYPE_CHECKING:
    from distributed import Client

# --- A painter that travels to other processes as the path of its model, and is made there once.

_loading = threading.Lock()


class PortablePainter:
    """A `Painter` for tasks: the weights are never pickled, and one window of a process is painted at a time.

    Threads take turns, since the network uses all the threads it may have by itself, and memory then does not grow
    with the number of tasks.

    Args:
        painter: used as it is in this process; elsewhere its model is loaded from its file, which must be the same
            one there.
    """

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self._turn = threading.Lock()

    def paint(self, *arguments: Any) -> npt.NDArray[Any]:
        """As `Painter.paint`."""
        with self._turn:
            return self.painter.paint(*arguments)

    def context(self, window: Window, origin: tuple[int, int]) -> Window:
        """As `Painter.context`."""
        return self.painter.context(window, origin)

    def __reduce__(self) -> Any:
        one = self.painter
        style = None if one.style is None else tuple(one.style.flatten().tolist())
        identity = (one.model.path.absolute(), one.model.sha256, one.settings, one.style_length, style)
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
    style: tuple[float, ...] | None,
) -> PortablePainter:
    model = load_generator(path, settings.device)
    if model.sha256 != sha256:
        raise CheckpointError(f"{path}: on this worker another file than where the work began; copy the model there")
    return PortablePainter(kind(model, settings, style_length, None if style is None else torch.tensor(style)))


_AHEAD = 2  # tasks in flight for each thread of the cluster: a worker never waits for this process
_PATIENCE = "30s"  # until a scheduler answers, and until it has a worker

# A block's number; and the pixels and where they are valid, if the worker could not write them, or why there are none.
Finished = tuple[int, tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] | GeosynthError | None]


@contextlib.contextmanager
def open_client(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    """A client of a running cluster, or of worker processes made for the purpose on this machine.

    Args:
        scheduler: address of a running one, as tcp://host:8786; it goes on running afterwards.
        workers: without it, the number of processes to start, which share this machine's cores.

    Raises:
        ClusterError: if no scheduler answers at the address, or it has no workers.
    """
    with contextlib.ExitStack() as stack:
        where: Any = scheduler
        if scheduler is None:
            threads = max(1, CPU_COUNT // (workers or 1))
            # Workers that stop have nothing to lose: no word about how long it takes them.
            options = {"dashboard_address": None, "silence_logs": logging.ERROR}
            where = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=threads, **options))
        try:
            client = stack.enter_context(Client(where, timeout=_PATIENCE, set_as_default=False))
            client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"{scheduler}: no Dask scheduler with workers answers there; check the address"
            ) from error
        yield client


def settle_precision(settings: GenerateSettings, client: Client) -> GenerateSettings:
    """The settings with "auto" decided by the workers, for all alike: bf16 where all of them would choose it."""
    choices = client.run(uses_bfloat16, settings.precision, settings.device)
    return settings.model_copy(update={"precision": "bf16" if all(choices.values()) else "fp32"})


def executor_of(client: Client) -> Callable[..., Iterator[int]]:
    """`paint_on_cluster` with this client, for `generate_file`."""
    return partial(paint_on_cluster, client)


def paint_on_cluster(
    client: Client, painter: Painter, source: LabelSource, plan: BlockPlan, todo: Iterable[int], scratch: Scratch
) -> Iterator[int]:
    """As `pipeline.paint_blocks`, by the workers of a cluster. A worker that dies loses nothing: others do its blocks.

    A worker runs its network on as many threads as Dask gives it (`--nthreads`), one block at a time, while its other
    tasks read labels.

    Raises:
        ClusterError: if the scheduler goes away, or the same block kills workers again and again.
        GeosynthError: what `pipeline.paint_blocks` raises, on whichever worker it happened.
    """
    work = _Work(PortablePainter(painter), source, plan, scratch)
    mark = scratch.folder / work.name
    mark.touch()  # a worker that sees it sees the scratch
    try:
        client.register_plugin(work, name=work.name)
        # The large ones first, so that no worker is left alone with one at the end.
        order = sorted(todo, key=lambda index: -plan[index].height * plan[index].width)
        yield from _stream(client, work.name, iter(order), scratch)
    except KilledWorker as error:
        message = f"{scratch.out}: workers died again and again over one block; have they enough memory?"
        raise ClusterError(message) from error
    except (CancelledError, CommClosedError) as error:
        raise ClusterError(f"{scratch.out}: the Dask scheduler went away; run again to go on") from error
    finally:
        mark.unlink(missing_ok=True)
        with contextlib.suppress(Exception):  # of a scheduler that went away
            client.unregister_worker_plugin(work.name)


def _stream(client: Client, name: str, todo: Iterator[int], scratch: Scratch) -> Iterator[int]:
    """Keeps tasks in flight, and takes what they finish."""
    running: set[Future] = set()
    finished = as_completed(loop=client.loop)

    def top_up() -> None:
        room = max(1, _AHEAD * sum(client.nthreads().values())) - len(running)  # workers come and go
        for index in islice(todo, max(0, room)):
            future = client.submit(_paint_block, name, index, key=f"{name}-{index}", pure=False)
            running.add(future)
            finished.add(future)

    try:
        top_up()
        for future in finished:
            index, painted = future.result()
            running.discard(future)
            if isinstance(painted, GeosynthError):
                raise painted
            top_up()
            if painted is not None:
                scratch.write(index, *painted)
            yield index
    finally:
        client.cancel(list(running), asynchronous=False)


class _Work(WorkerPlugin):  # type: ignore[misc]
    """What a worker needs for its tasks; unpacked, and the model loaded, when the first of them comes."""

    def __init__(self, painter: PortablePainter, source: LabelSource, plan: BlockPlan, scratch: Scratch) -> None:
        self.name = f"geosynth-{uuid.uuid4().hex}"
        self.device = painter.painter.settings.device
        self.parcel = pickle.dumps((painter, source, plan, scratch))

    def setup(self, worker: Worker) -> None:
        self.threads = worker.state.nthreads
        self.worker = str(worker.name)

    @cached_property
    def parts(self) -> tuple[PortablePainter, LabelSource, BlockPlan, Scratch]:
        if self.device == "cuda":
            torch.cuda.set_device(choose_gpu(self.worker, torch.cuda.device_count()))
        parts: tuple[PortablePainter, LabelSource, BlockPlan, Scratch] = pickle.loads(self.parcel)  # noqa: S301 - our own
        return parts

    @cached_property
    def sees_scratch(self) -> bool:
        return (self.parts[3].folder / self.name).exists()


def choose_gpu(worker: str, count: int) -> int:
    """Which of the GPUs of its machine a worker uses: they take turns by the number their name ends in.

    Where CUDA_VISIBLE_DEVICES is set the choice has been made (dask-cuda puts each worker's own GPU first).
    """
    number = re.search(r"\d+$", worker)
    return 0 if count <= 1 or "CUDA_VISIBLE_DEVICES" in os.environ or number is None else int(number[0]) % count


def _paint_block(name: str, index: int) -> Finished:
    """The task."""
    work: _Work = get_worker().plugins[name]
    try:
        painter, source, plan, scratch = work.parts
        # Nannies set OMP_NUM_THREADS=1; the number is kept per thread, hence here.
        torch.set_num_threads(work.threads)
        context, indices, valid = read_around(painter.painter, source, plan[index], plan.origin)
        if valid.any():
            pixels = painter.paint(indices, context, plan[index], plan.origin, valid)
            if not work.sees_scratch:
                return index, (pixels, valid)
            scratch.write(index, pixels, valid)
    except GeosynthError as error:  # raised here, it would fill the worker's log with its traceback
        return index, error
    return index, None
