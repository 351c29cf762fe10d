"""geosynth evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import print_json, progress_bar, show_warnings


def evaluate(
    real: Annotated[str, typer.Option("--real", help="Real image.")],
    synthetic: Annotated[str, typer.Option("--synthetic", help="Synthetic image on the same grid.")],
    labels: Annotated[str, typer.Option("--labels", help="Their label raster.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.json and report.html.")] = None,
    legend: Annotated[str, typer.Option("--legend", help="A built-in legend or a YAML file.")] = "chesapeake",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Compare a synthetic image with the real one, class by class, and write a report."""
    import geosynth

    show_warnings()
    with progress_bar("evaluate") as progress:
        report = geosynth.evaluate(real, synthetic, labels, out, legend=legend, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(report.summary())
