"""geosynth twin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import progress_bar, show_warnings


def twin(
    data: Annotated[
        str, typer.Option("--data", help="A store made by `geosynth ingest`, or a YAML of files to read in place.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the twin, a store.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", help="A model file; without it the embedded one for the Chesapeake legend."),
    ] = None,
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="train, val or test; may be repeated; all without it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of styles and texture.")] = 0,
    style_length: Annotated[
        float | None, typer.Option("--style-length", help="Metres over which the style drifts; 0 keeps one.")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16 or fp32.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    workers: Annotated[int | None, typer.Option("--workers", help="Processes to start on this machine.")] = None,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="A Dask cluster, as tcp://host:8786.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")] = False,
) -> None:
    """Paint the images of a store anew: same places, labels and split, synthetic pixels."""
    import geosynth

    show_warnings()
    values = {"seed": seed, "style_length": style_length, "precision": precision, "device": device}
    settings = geosynth.GenerateSettings.parse(values)
    with progress_bar("twin") as update:
        path = geosynth.twin(
            data,
            out,
            model,
            settings,
            folds=fold or ("train", "val", "test"),
            overwrite=overwrite,
            scheduler=scheduler,
            workers=workers,
            progress=lambda stage, done, total: update(done, total),
        )
    typer.echo(str(path))
