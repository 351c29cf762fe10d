"""geosynth evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import print_table, progress_bar, show_warnings


def evaluate(
    real: Annotated[str, typer.Option("--real", help="Real image.")],
    synthetic: Annotated[str, typer.Option("--synthetic", help="Synthetic image on the same pixel grid.")],
    labels: Annotated[str, typer.Option("--labels", help="Their label raster.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.json and report.html.")] = None,
    legend: Annotated[str, typer.Option("--legend", help="A built-in legend or a YAML file.")] = "chesapeake",
    label_legend: Annotated[
        str | None, typer.Option("--label-legend", help="Legend of the label file, if its codes differ.")
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Band names, as in red,green,blue,nir.")] = None,
    tile_size: Annotated[int, typer.Option("--tile-size", help="Side of the tiles that are compared, pixels.")] = 256,
    block_size: Annotated[int, typer.Option("--block-size", help="Of `generate`, for the seam score.")] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Of intervals and pictures.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Compare a synthetic image with the real one, class by class, and write a report."""
    import geosynth

    show_warnings()
    with progress_bar("evaluate") as progress:
        report = geosynth.evaluate(
            real,
            synthetic,
            labels,
            out,
            legend=legend,
            label_legend=label_legend,
            bands=bands.split(",") if bands else None,
            tile_size=tile_size,
            block_size=block_size,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        print_table(("measure", "value", "meaning"), report.summary())
