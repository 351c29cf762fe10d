"""Doing what a study still lacks, here or on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from geosynth.errors import ClusterError, GeosynthError
from geosynth.study.recipes import Recipe, TrainedGenerator
from geosynth.study.workshop import Workshop

if TYPE_CHECKING:
    from distributed import Client, Future

Step = TrainedGenerator | Recipe
Settled = Callable[[Recipe, str | None], None]  # a cell, and why it failed


class Agenda:
    """Pieces in the order of the plan, each handed out once, when the generator that it needs is there.

    Args:
        recipes: cells to do.
        settled: told of each cell that is finished or has failed.

    Attributes:
        failed: why, by piece.
    """

    def __init__(self, recipes: Sequence[Recipe], settled: Settled) -> None:
        pieces = [piece for recipe in recipes for piece in (*_needs(recipe), recipe)]
        self._todo: list[Step] = list(dict.fromkeys(pieces))
        self._unsettled = set(self._todo)
        self._settled = settled
        self.failed: dict[Step, str] = {}

    def take(self) -> Step | None:
        """The next piece that can be made now."""
        for place, piece in enumerate(self._todo):
            if not self._unsettled & set(_needs(piece)):
                return self._todo.pop(place)
        return None

    def settle(self, piece: Step, reason: str | None) -> None:
        """A piece is finished or, for a reason, failed; with it fails what needs it."""
        self._unsettled.discard(piece)
        if reason is not None:
            self.failed[piece] = reason
            for other in [other for other in self._todo if piece in _needs(other)]:
                self._todo.remove(other)
                self.settle(other, reason)
        if isinstance(piece, Recipe):
            self._settled(piece, reason)


def _needs(piece: Step) -> list[Step]:
    """What must be made before; twins are made by the first cell that needs them."""
    if isinstance(piece, Recipe) and piece.twin is not None and isinstance(piece.twin.generator, TrainedGenerator):
        return [piece.twin.generator]
    return []


def run_here(workshop: Workshop, agenda: Agenda) -> None:
    """One piece after the other. A piece that fails does not stop the others."""
    while (piece := agenda.take()) is not None:
        agenda.settle(piece, _try(workshop, piece))


def run_on_cluster(client: Client, workshop: Workshop, agenda: Agenda) -> None:
    """One piece a worker at a time, on all threads that Dask gives it. Workers must see the same files.

    Raises:
        ClusterError: if the scheduler goes away.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed
    from distributed.comm import CommClosedError

    running: dict[Future, Step] = {}
    finished = as_completed(loop=client.loop)

    def top_up() -> None:
        while len(running) < max(1, len(client.nthreads())) and (piece := agenda.take()) is not None:
            future = client.submit(_task, workshop, piece, pure=False)
            running[future] = piece
            finished.add(future)

    try:
        top_up()
        for future in finished:
            try:
                reason = future.result()
            except KilledWorker:
                reason = "workers died again and again over it; have they enough memory?"
            agenda.settle(running.pop(future), reason)
            top_up()
    except (CancelledError, CommClosedError) as error:
        raise ClusterError("the Dask scheduler went away; run the study again to go on") from error
    finally:
        client.cancel(list(running), asynchronous=False)


def _task(workshop: Workshop, piece: Step) -> str | None:
    import torch
    from distributed import get_worker

    # Nannies set OMP_NUM_THREADS=1; the number is kept per thread, hence here.
    torch.set_num_threads(get_worker().state.nthreads)
    return _try(workshop, piece)


def _try(workshop: Workshop, piece: Step) -> str | None:
    """Make a piece; the reason if it fails."""
    try:
        workshop.make(piece)
    except (GeosynthError, MemoryError) as error:
        return str(error) or "out of memory"
    return None
