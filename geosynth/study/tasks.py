"""Tasks of a study: their order, and how they are done, here or on the workers of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from geosynth.errors import GeosynthError
from geosynth.parallel import stream
from geosynth.study.artifacts import Artifacts
from geosynth.study.recipes import Artifact, CellRecipe, Task, needs

if TYPE_CHECKING:
    from distributed import Client


class TaskQueue:
    """The tasks in the order of the plan; each is handed out once, after the tasks that it needs are settled.

    Args:
        recipes: of the cells to do.

    Attributes:
        num_cells: number of cells to do.
        failed: reasons, by task that failed.
    """

    def __init__(self, recipes: Sequence[CellRecipe]) -> None:
        self.num_cells = len(recipes)
        self.failed: dict[Artifact, str] = {}
        self._cells = set(recipes)
        self._todo: list[Task] = list(dict.fromkeys(task for recipe in recipes for task in (*_before(recipe), recipe)))
        self._unsettled = set(self._todo)

    def __iter__(self) -> Iterator[Task | None]:
        """All tasks; None when all that remain must wait until another one is settled."""
        while self._todo:
            ready = next((task for task in self._todo if self._unsettled.isdisjoint(_before(task))), None)
            if ready is not None:
                self._todo.remove(ready)
            yield ready

    def settle(self, task: Task, reason: str | None) -> Iterator[CellRecipe]:
        """Record that a task is finished or, for a reason, failed, with all that need it; yields the settled cells."""
        self._unsettled.discard(task)
        if reason is not None:
            self.failed[task] = reason
            for other in [other for other in self._todo if task in _before(other)]:
                if other in self._todo:  # it may have been removed with another one
                    self._todo.remove(other)
                    yield from self.settle(other, reason)
        if isinstance(task, CellRecipe) and task in self._cells:
            yield task


def _before(task: Task) -> list[Task]:
    """The tasks that a task needs; twins and looks are made by the first task that needs them."""
    return [one for one in needs(task) if isinstance(one, Task)]


def work_off(artifacts: Artifacts, tasks: TaskQueue, client: Client | None) -> Iterator[CellRecipe]:
    """Do the tasks, one after the other or one per worker of a cluster; yields cells as they are settled.

    A task that fails does not stop the others.

    Raises:
        ClusterError: if the scheduler is lost.
    """
    results: Generator[tuple[Task, str | None], None, None]
    if client is None:
        results = ((task, _make(artifacts, task)) for task in tasks if task is not None)
    else:
        results = stream(
            _make, artifacts, iter(tasks), name=artifacts.out, client=client, one_a_worker=True, killed=_killed
        )
    with contextlib.closing(results):
        for task, reason in results:
            yield from tasks.settle(task, reason)


def _make(artifacts: Artifacts, task: Task) -> str | None:
    """Do a task; returns the reason if it fails."""
    try:
        artifacts.make(task)
    except (GeosynthError, MemoryError) as error:
        return str(error) or "out of memory"
    return None


def _killed(task: Task) -> str:
    return "workers died again and again over it; have they enough memory?"
