"""geosynth study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import naming_what_is_kept, print_table, progress_bar, show_warnings
from geosynth_cli.options import parse_setting


def study(
    sweep: Annotated[
        str,
        typer.Argument(
            help="replace: a growing share of a fixed number of tiles is synthetic. augment: few real tiles, with and"
            " without synthetic ones and ordinary augmentation. diversity: lambda of the DSGAN term."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="A store made by `geosynth ingest`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; several sweeps may share it.")],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="A generator (chesapeake-small: the embedded one); without it the study trains its own."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML of settings.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="How many; two or more give intervals.")] = None,
    tiles: Annotated[int | None, typer.Option("--tiles", help="replace, diversity: tiles to train on.")] = None,
    shares: Annotated[str | None, typer.Option("--shares", help="replace: synthetic shares, as in 0,0.5,1.")] = None,
    real_tiles: Annotated[
        str | None, typer.Option("--real-tiles", help="augment: numbers of real tiles kept, as in 20,40.")
    ] = None,
    synthetic_tiles: Annotated[
        int | None, typer.Option("--synthetic-tiles", help="augment: synthetic tiles added.")
    ] = None,
    arms: Annotated[str | None, typer.Option("--arms", help="augment: which, as in 'real,real + synthetic'.")] = None,
    lambdas: Annotated[str | None, typer.Option("--lambdas", help="diversity: weights, as in 0,4,8.")] = None,
    other: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, as in segment.steps=500 or train.steps=2000; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and how long it takes.")] = False,
    tabulate: Annotated[
        bool, typer.Option("--tabulate", help="Only write the results of what is finished so far.")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes to start on this machine.")] = None,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="A Dask cluster, as tcp://host:8786.")] = None,
) -> None:
    """Measure what synthetic tiles are worth for a segmenter; goes on where an interrupted study stopped.

    Results: OUT/SWEEP/report.html, table.csv, table.md, results.json and figures.
    """
    import geosynth

    show_warnings()
    changes: dict[str, Any] = {"seeds": seeds, "tiles": tiles, "synthetic_tiles": synthetic_tiles}
    lists = {"shares": shares, "real_tiles": real_tiles, "arms": arms, "lambdas": lambdas}
    changes |= {name: [part.strip() for part in text.split(",")] for name, text in lists.items() if text is not None}
    changes = {name: value for name, value in changes.items() if value is not None}
    changes |= dict(map(parse_setting, other or []))
    settings = geosynth.StudySettings.resolve(sweep, config=config, **changes)
    if dry_run:
        _show(geosynth.plan_study(data, out, settings, model=model, workers=workers))
    elif tabulate:
        report = geosynth.tabulate_study(data, out, settings, model=model)
        typer.echo(f"{len(report.cells)} cells are finished, {len(report.missing)} missing")
    else:
        with naming_what_is_kept(out), progress_bar(f"study {sweep}") as progress:
            report = geosynth.run_study(
                data, out, settings, model=model, workers=workers, scheduler=scheduler, progress=progress
            )
        if report.missing:
            raise geosynth.GeosynthError(
                f"{len(report.missing)} of {len(report.missing) + len(report.cells)} cells have no result"
                f" ({report.missing[0].cell}: {report.missing[0].reason}); run again to try them again"
            )
    if not dry_run:
        typer.echo(str(out / sweep / "report.html"))


def _time(work: Any) -> str:
    return "-" if work.seconds is None else f"{work.seconds:.3g} s"


def _show(plan: Any) -> None:
    print_table(("cell", ""), [(name, "finished" if is_made else "to do") for name, is_made in plan.cells])
    head = ("work", "finished", "to do", "each", "estimated")
    print_table(head, [(work.kind, str(work.finished), str(work.todo), _time(work), work.source) for work in plan.work])
    typer.echo(f"generator: {plan.generator}")
    shared = "" if plan.workers == 1 else f" with {plan.workers} workers"
    typer.echo(f"about {plan.hours:.2g} hours{shared}")
