"""geosynth import-spade."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import show_warnings


class Depth(StrEnum):
    """The reference's --num_upsampling_layers."""

    normal = "normal"
    more = "more"
    most = "most"


def import_spade(
    generator: Annotated[Path, typer.Argument(help="The generator's weights (latest_net_G.pth).")],
    out: Annotated[Path, typer.Option("--out", help="The model file (.safetensors).")],
    legend: Annotated[
        str, typer.Option("--legend", help="A class for each label channel: a built-in name or a YAML file.")
    ],
    bands: Annotated[str, typer.Option("--bands", help="Names of the output bands.")] = "red,green,blue",
    encoder: Annotated[
        Path | None, typer.Option("--encoder", help="The style encoder's weights (latest_net_E.pth).")
    ] = None,
    depth: Annotated[
        Depth | None, typer.Option("--depth", help="Number of doublings, where the weights do not tell it.")
    ] = None,
    crop_size: Annotated[
        int | None, typer.Option("--crop-size", help="Side of the training crops in pixels; may tell the depth.", min=1)
    ] = None,
    gsd: Annotated[float | None, typer.Option("--gsd", help="Metres a pixel of the training imagery.", min=0)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Make a model file of weights of the SPADE reference implementation."""
    import geosynth

    show_warnings()
    path = geosynth.import_spade(
        generator,
        out,
        legend=legend,
        bands=[name.strip() for name in bands.split(",")],
        encoder=encoder,
        depth=depth.value if depth else None,
        crop_size=crop_size,
        gsd=gsd,
        overwrite=overwrite,
    )
    typer.echo(path)
