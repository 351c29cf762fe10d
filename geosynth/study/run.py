"""run_study, plan_study and tabulate_study: the sweeps, here or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geosynth.config import StudySettings
from geosynth.errors import GeosynthError
from geosynth.files import write_whole
from geosynth.parallel import open_client, stream
from geosynth.progress import Progress, silent
from geosynth.raster.stores.store import Store
from geosynth.study.artifacts import Artifacts
from geosynth.study.duration import StudyPlan, expected_work
from geosynth.study.figures import figures_of
from geosynth.study.plan import Artifact, CellRecipe, Task, needs
from geosynth.study.report import StudyReport
from geosynth.study.study import Study
from geosynth.study.tables import to_csv, to_html, to_markdown
from geosynth.unfinished import alone_in

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger(__name__)


def run_study(
    data: str | Path | Store,
    out: str | Path,
    settings: StudySettings,
    *,
    model: str | Path | None = None,
    target: str | Path | None = None,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> StudyReport:
    """Measure what synthetic tiles are worth: segmenters over settings and seeds, tested on real tiles.

    The class of `settings` says which sweep. Each cell (a setting and a seed) is kept under a name that stands for all
    that it depends on; so an interrupted study goes on, more seeds or settings add cells, and studies in one folder
    share generators, twins and cells. A cell that fails does not stop the others; the report says which and why.

    Args:
        data: a store, or its path; workers read it by its path.
        out: folder; the results go to `out/SWEEP`: `results.json`, `table.csv`, `table.md`, PNG figures and a
            self-contained `report.html`.
        settings: `ReplaceSettings`, `AugmentSettings`, `DiversitySettings` or `TransferSettings`.
        model: a generator; None: the study trains generators, each on no more than its segmenter may see. A transfer
            trains none; there None is the embedded default.
        target: of a transfer: the store of the other place, whose real tiles are tested on.
        client: of a running Dask cluster, whose workers do one cell each at a time and see the same files.
        scheduler: address of one.
        workers: processes to start on this machine, which share its cores.
        progress: told after each cell.

    Returns:
        the report; `missing` names cells that failed.

    Raises:
        SettingsError, DataError, LegendError, RasterError, CheckpointError, OutputError: one line each, before anything
            is done; OutputError also if another process does this sweep in `out`, or the disk is full.
        ClusterError: if the cluster does not answer, or goes away.
    """
    cluster = open_client(client, scheduler, workers)
    study = Study.open(data, out, settings, model, target=target)
    with alone_in(study.folder), cluster if study.unfinished() else contextlib.nullcontext() as running:
        return do(study, running, progress)


def do(
    study: Study,
    client: Client | None = None,
    progress: Progress = silent,
) -> StudyReport:
    """What `run_study` does with a study that was opened; arguments and errors as there."""
    tasks, total = TaskQueue(study.unfinished()), len({cell.recipe for cell in study.cells})
    before = total - tasks.num_cells
    progress(before, total)
    study.artifacts.drop_locks()
    try:
        for done, recipe in enumerate(_work_off(study.artifacts, tasks, client), start=before + 1):
            if recipe in tasks.failed:
                cell = next(cell for cell in study.cells if cell.recipe == recipe)
                _LOG.warning("%s: %s", cell, tasks.failed[recipe])
            progress(done, total)
    finally:  # also of a study that was interrupted
        report = study.report(tasks.failed)
        write_results(study.folder, report)
    return report


class TaskQueue:
    """What is to be made, in the order of the plan: each handed out once, when the tasks that it needs are settled.

    Args:
        recipes: of the cells to do.

    Attributes:
        num_cells: to do.
        failed: why, by task.
    """

    def __init__(self, recipes: Sequence[CellRecipe]) -> None:
        self.num_cells = len(recipes)
        self.failed: dict[Artifact, str] = {}
        self._cells = set(recipes)
        self._todo: list[Task] = list(dict.fromkeys(task for recipe in recipes for task in (*_before(recipe), recipe)))
        self._unsettled = set(self._todo)

    def __iter__(self) -> Iterator[Task | None]:
        """All tasks; None where one must wait until another is settled."""
        while self._todo:
            ready = next((task for task in self._todo if self._unsettled.isdisjoint(_before(task))), None)
            if ready is not None:
                self._todo.remove(ready)
            yield ready

    def settle(self, task: Task, reason: str | None) -> Iterator[CellRecipe]:
        """A task is finished or, for a reason, failed, and with it what needs it; gives the cells that this settles."""
        self._unsettled.discard(task)
        if reason is not None:
            self.failed[task] = reason
            for other in [other for other in self._todo if task in _before(other)]:
                if other in self._todo:  # it may have gone with another one
                    self._todo.remove(other)
                    yield from self.settle(other, reason)
        if isinstance(task, CellRecipe) and task in self._cells:
            yield task


def _before(task: Task) -> list[Task]:
    """The tasks that it needs; twins and looks are made by the first one that needs them."""
    return [one for one in needs(task) if isinstance(one, Task)]


def _work_off(artifacts: Artifacts, tasks: TaskQueue, client: Client | None) -> Iterator[CellRecipe]:
    """The cells as they are settled: one task after the other, or one a worker of a cluster.

    A task that fails does not stop the others.

    Raises:
        ClusterError: if the scheduler goes away.
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
    """The reason if it fails."""
    try:
        artifacts.make(task)
    except (GeosynthError, MemoryError) as error:
        return str(error) or "out of memory"
    return None


def _killed(task: Task) -> str:
    return "workers died again and again over it; have they enough memory?"


def plan_study(  # noqa: D417 - as run_study's
    data: str | Path | Store,
    out: str | Path,
    settings: StudySettings,
    *,
    model: str | Path | None = None,
    target: str | Path | None = None,
    workers: int | None = None,
) -> StudyPlan:
    """What `run_study` would do, and about how long; leaves nothing behind.

    Times are those of finished work of the same kind in `out`, if there are any; else a few steps of each kind are
    taken and timed, which needs up to a minute or two.

    Args:
        data, out, settings, model, target: as for `run_study`.
        workers: among how many the work will be shared.

    Raises:
        GeosynthError: as `run_study`.
    """
    return expected_work(Study.open(data, out, settings, model, target=target), workers or 1)


def tabulate_study(  # noqa: D417 - as run_study's
    data: str | Path | Store,
    out: str | Path,
    settings: StudySettings,
    *,
    model: str | Path | None = None,
    target: str | Path | None = None,
) -> StudyReport:
    """Write the results of what is finished, also while the study runs or after it was killed.

    Args:
        data, out, settings, model, target: as for `run_study`.

    Raises:
        GeosynthError: as `run_study`.
    """
    study = Study.open(data, out, settings, model, target=target)
    report = study.report({})
    write_results(study.folder, report)
    return report


def write_results(folder: Path, report: StudyReport) -> None:
    """All files of a report.

    Raises:
        OutputError: if one cannot be written.
    """
    figures = figures_of(report)
    for name, png in figures.items():
        write_whole(folder / name, png)
    write_whole(folder / "table.csv", to_csv(report))
    write_whole(folder / "table.md", to_markdown(report))
    write_whole(folder / "report.html", to_html(report, figures))
    write_whole(folder / "results.json", report.to_json())
