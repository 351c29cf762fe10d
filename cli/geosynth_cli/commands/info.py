"""geosynth info."""

from __future__ import annotations

from typing import Annotated

import typer

from geosynth_cli.console import print_json, print_mapping, show_warnings


def info(
    file: Annotated[
        str | None, typer.Argument(help="A model, a segmenter, a store or a raster; without it the embedded model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what a model, a segmenter, a store or a raster holds."""
    import geosynth

    show_warnings()
    values = geosynth.info(file)
    (print_json if as_json else print_mapping)(values)
