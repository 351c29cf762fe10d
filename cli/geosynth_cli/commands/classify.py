"""geosynth classify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import progress_bar, show_warnings


def classify(
    image: Annotated[str, typer.Option("--image", help="Any raster with the segmenter's bands.")],
    model: Annotated[Path, typer.Option("--model", help="A segmenter: the folder or file made by `geosynth segment`.")],
    out: Annotated[Path, typer.Option("--out", help="The label raster: a Cloud Optimized GeoTIFF with colours.")],
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing raster.")] = False,
) -> None:
    """Predict the class of each pixel of an image, on its grid; interrupted, the same command goes on."""
    import geosynth

    show_warnings()
    with progress_bar("classify") as progress:
        path = geosynth.classify(image, model, out, device=device, overwrite=overwrite, progress=progress)
    typer.echo(str(path))
