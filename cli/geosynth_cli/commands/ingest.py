"""geosynth ingest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import progress_bar, show_warnings


def ingest(
    images: Annotated[list[str], typer.Option("--images", help="Image file, folder or glob; may be repeated.")],
    labels: Annotated[list[str], typer.Option("--labels", help="Label file, folder or glob; paired by file name.")],
    out: Annotated[Path, typer.Option("--out", help="The store (a folder, .zarr).")],
    legend: Annotated[
        str, typer.Option("--legend", help="Legend of the store: a built-in name or a YAML file.")
    ] = "chesapeake",
    label_legend: Annotated[
        str | None, typer.Option("--label-legend", help="Legend of the label files, if their codes differ.")
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Band names, as in red,green,blue,nir.")] = None,
    shares: Annotated[str, typer.Option("--shares", help="Shares of train, val and test.")] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option("--seed", help="Of the split into folds.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")] = False,
) -> None:
    """Copy aligned image and label rasters into one chunked Zarr store, split into folds by place."""
    import geosynth
    from geosynth.errors import SettingsError

    show_warnings()
    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise SettingsError(f"--shares {shares}: three numbers are needed, as in 0.7,0.1,0.2") from error
    with progress_bar("ingest") as progress:
        store = geosynth.ingest(
            images,
            labels,
            out,
            legend=legend,
            label_legend=label_legend,
            bands=bands.split(",") if bands else None,
            shares=parts,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    folds = ", ".join(f"{fold} {len(store.scenes_in(fold))}" for fold in ("train", "val", "test"))
    typer.echo(f"{len(store.scenes)} scenes ({folds})", err=True)
    typer.echo(store.path)
