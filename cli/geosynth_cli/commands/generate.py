"""geosynth generate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import progress_bar, show_warnings


def generate(
    labels: Annotated[str, typer.Option("--labels", help="Label raster: one band of class codes.")],
    out: Annotated[Path, typer.Option("--out", help="The image, a Cloud Optimized GeoTIFF.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", help="A model file; without it the embedded one for the Chesapeake legend."),
    ] = None,
    legend: Annotated[
        str | None, typer.Option("--legend", help="Legend of the labels, if their codes are not the model's.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of styles and texture.")] = 0,
    block_size: Annotated[
        int, typer.Option("--block-size", help="Pixels painted at once; memory grows with it.")
    ] = 1024,
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16 or fp32.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    compress: Annotated[str, typer.Option("--compress", help="deflate, zstd or lzw.")] = "deflate",
    preview: Annotated[bool, typer.Option("--preview", help="Write a PNG beside the image.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing image.")] = False,
) -> None:
    """Paint a synthetic image for a label raster, on exactly its grid."""
    import geosynth

    show_warnings()
    settings = geosynth.GenerateSettings.parse(
        {"seed": seed, "block_size": block_size, "precision": precision, "device": device, "compress": compress}
    )
    with progress_bar("generate") as progress:
        image = geosynth.generate(
            labels,
            out,
            model,
            settings,
            legend=legend,
            preview=preview,
            overwrite=overwrite,
            progress=lambda stage, done, total: progress(done, total),
        )
    typer.echo(str(image))
