"""run_study, plan_study and tabulate_study: the sweeps, here or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from geosynth.config import StudySettings
from geosynth.files import write_whole
from geosynth.locks import alone_in
from geosynth.parallel import open_client
from geosynth.progress import Progress, silent
from geosynth.raster.stores.store import Store
from geosynth.study.duration import StudyPlan, expected_work
from geosynth.study.figures import figures_of
from geosynth.study.report import StudyReport
from geosynth.study.study import Study
from geosynth.study.tables import to_csv, to_html, to_markdown
from geosynth.study.tasks import TaskQueue, work_off

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

    The class of `settings` determines the sweep. Each cell (a setting and a seed) is kept under a name that stands for
    everything that it depends on; so an interrupted study continues, more seeds or settings add cells, and studies in
    one folder share generators, twins and cells. A cell that fails does not stop the others; the report says which
    failed and why.

    Args:
        data: a store, or its path; workers read it by its path.
        out: folder; the results go to `out/SWEEP`: `results.json`, `table.csv`, `table.md`, PNG figures and a
            self-contained `report.html`.
        settings: `ReplaceSettings`, `AugmentSettings`, `DiversitySettings` or `TransferSettings`.
        model: a generator; None to train generators, each on no more than its segmenter may see. A transfer trains
            none; for it, None is the embedded model.
        target: for a transfer: the store of the other place, on whose real tiles segmenters are tested.
        client: of a running Dask cluster whose workers see the same files; each does one cell at a time.
        scheduler: address of the scheduler of such a cluster.
        workers: number of processes to start on this machine, which share its cores.
        progress: called after each cell with the number of finished cells and of all cells.

    Returns:
        the report; `missing` names the cells that failed.

    Raises:
        SettingsError, DataError, LegendError, RasterError, CheckpointError, OutputError: before anything is done;
            OutputError also if another process does this sweep in `out`, or the disk is full.
        ClusterError: if the cluster does not answer, or is lost.
    """
    cluster = open_client(client, scheduler, workers)
    study = Study.open(data, out, settings, model, target=target)
    with alone_in(study.folder), cluster if study.unfinished() else contextlib.nullcontext() as running:
        return run_cells(study, running, progress)


def run_cells(study: Study, client: Client | None = None, progress: Progress = silent) -> StudyReport:
    """What `run_study` does with an open study; arguments and errors as there."""
    tasks, total = TaskQueue(study.unfinished()), len({cell.recipe for cell in study.cells})
    before = total - tasks.num_cells
    progress(before, total)
    study.artifacts.drop_locks()
    try:
        for done, recipe in enumerate(work_off(study.artifacts, tasks, client), start=before + 1):
            if recipe in tasks.failed:
                cell = next(cell for cell in study.cells if cell.recipe == recipe)
                _LOG.warning("%s: %s", cell, tasks.failed[recipe])
            progress(done, total)
    finally:  # even if the study was interrupted
        report = study.report(tasks.failed)
        write_results(study.folder, report)
    return report


def plan_study(  # noqa: D417 - as run_study's
    data: str | Path | Store,
    out: str | Path,
    settings: StudySettings,
    *,
    model: str | Path | None = None,
    target: str | Path | None = None,
    workers: int | None = None,
) -> StudyPlan:
    """What `run_study` would do, and about how long it would take; leaves nothing behind.

    Times are those of finished work of the same kind in `out`, if there is any; else a few steps of each kind are
    timed, which takes a minute or two at most.

    Args:
        data, out, settings, model, target: as for `run_study`.
        workers: number of workers that will share the work.

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
    """Write the results of the finished cells, even while the study runs or after it was killed.

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
    """Write all files of a report.

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
