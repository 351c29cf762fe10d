"""run_study, plan_study and tabulate_study: the three sweeps as verbs, here or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geosynth.config import StudySettings
from geosynth.errors import GeosynthError
from geosynth.files import write_whole
from geosynth.parallel import open_client, stream
from geosynth.raster.stores.store import Store
from geosynth.study.estimate import StudyPlan, estimate
from geosynth.study.figures import figures_of
from geosynth.study.plan import (
    Recipe,
    TrainedGenerator,
)
from geosynth.study.report import StudyReport
from geosynth.study.study import Study
from geosynth.study.tables import to_csv, to_html, to_markdown
from geosynth.study.workshop import Workshop

if TYPE_CHECKING:
    from distributed import Client


# --- Doing what a study still lacks, here or on the workers of a Dask cluster.

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

    def offers(self) -> Iterator[Step | None]:
        """All pieces; None where one must wait until another is settled."""
        while self._todo:
            yield self.take()

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


def work_off(workshop: Workshop, agenda: Agenda, client: Client | None) -> None:
    """One piece after the other, or one a worker of a cluster. A piece that fails does not stop the others.

    Raises:
        ClusterError: if the scheduler goes away.
    """
    if client is None:
        while (piece := agenda.take()) is not None:
            agenda.settle(piece, _try(workshop, piece))
        return
    settled: Generator[tuple[Step, str | None], None, None] = stream(
        _try, workshop, agenda.offers(), name=workshop.out, client=client, one_a_worker=True, killed=_killed
    )
    with contextlib.closing(settled):
        for piece, reason in settled:
            agenda.settle(piece, reason)


def _killed(piece: Step) -> str:
    return "workers died again and again over it; have they enough memory?"


def _try(workshop: Workshop, piece: Step) -> str | None:
    """Make a piece; the reason if it fails."""
    try:
        workshop.make(piece)
    except (GeosynthError, MemoryError) as error:
        return str(error) or "out of memory"
    return None


# --- run_study, plan_study and tabulate_study: the three sweeps as verbs.

Progress = Callable[[int, int], None]  # cells done, cells in all

_LOG = logging.getLogger(__name__)


def run_study(
    data: str | Path | Store,
    out: str | Path,
    settings: StudySettings,
    *,
    model: str | Path | None = None,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> StudyReport:
    """Measure what synthetic tiles are worth: segmenters over settings and seeds, tested on real tiles.

    The class of `settings` says which sweep. Each cell (a setting and a seed) is kept under a name that stands for all
    that it depends on; so an interrupted study goes on, more seeds or settings add cells, and studies in one folder
    share generators, twins and cells. A cell that fails does not stop the others; the report says which and why.

    Args:
        data: a store, or its path; workers read it by its path.
        out: folder; the results go to `out/SWEEP`: `results.json`, `table.csv`, `table.md`, PNG figures and a
            self-contained `report.html`.
        settings: `ReplaceSettings`, `AugmentSettings` or `DiversitySettings`.
        model: a generator; None: the study trains generators, each on no more than its segmenter may see.
        client: of a running Dask cluster, whose workers do one cell each at a time and see the same files.
        scheduler: address of one.
        workers: processes to start on this machine, which share its cores.
        progress: told after each cell.

    Returns:
        the report; `missing` names cells that failed.

    Raises:
        SettingsError, DataError, LegendError, RasterError, CheckpointError, OutputError: one line each, before anything
            is done; OutputError also if the disk is full.
        ClusterError: if the cluster does not answer, or goes away.
    """
    cluster = open_client(client, scheduler, workers)
    study = Study.open(data, out, settings, model)
    with cluster if study.unfinished() else contextlib.nullcontext() as running:
        return do(study, running, progress)


def do(
    study: Study,
    client: Client | None = None,
    progress: Progress = lambda done, total: None,
) -> StudyReport:
    """What `run_study` does with a study that was opened; arguments and errors as there."""
    todo = study.unfinished()
    total = len({cell.recipe for cell in study.cells})
    failed: dict[Recipe, str] = {}
    settled = total - len(todo)
    progress(settled, total)

    def tell(recipe: Recipe, reason: str | None) -> None:
        nonlocal settled
        settled += 1
        if reason is not None:
            failed[recipe] = reason
            cell = next(cell for cell in study.cells if cell.recipe == recipe)
            _LOG.warning("%s: %s", cell, reason)
        progress(settled, total)

    agenda = Agenda(todo, tell)
    try:
        work_off(study.workshop, agenda, client)
    finally:  # also of a study that was interrupted
        report = study.report(failed)
        write_results(study.folder, report)
    return report


def plan_study(  # noqa: D417 - as run_study's
    data: str | Path | Store,
    out: str | Path,
    settings: StudySettings,
    *,
    model: str | Path | None = None,
    workers: int | None = None,
) -> StudyPlan:
    """What `run_study` would do, and about how long; leaves nothing behind.

    Times are those of finished pieces of the same kind in `out`, if there are any; else a few steps of each kind are
    taken and timed, which needs up to a minute or two.

    Args:
        data, out, settings, model: as for `run_study`.
        workers: among how many the work will be shared.

    Raises:
        GeosynthError: as `run_study`.
    """
    return estimate(Study.open(data, out, settings, model), workers or 1)


def tabulate_study(  # noqa: D417 - as run_study's
    data: str | Path | Store, out: str | Path, settings: StudySettings, *, model: str | Path | None = None
) -> StudyReport:
    """Write the results of what is finished, also while the study runs or after it was killed.

    Args:
        data, out, settings, model: as for `run_study`.

    Raises:
        GeosynthError: as `run_study`.
    """
    study = Study.open(data, out, settings, model)
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
