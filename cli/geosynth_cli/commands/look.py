"""Looking: info, view, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import print_json, print_mapping, progress_bar
from geosynth_cli.options import AsJson, Overwrite, input_option, output_option, pixels_option, refusing_absent


def info(
    file: Annotated[
        str | None,
        typer.Argument(
            help="A model (or its address), segmenter, store, YAML of data in place, raster, report (or its folder),"
            " folder of tiles or STAC item; without it, the embedded model.",
            callback=refusing_absent("chesapeake-small"),
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything, compare checksums, and fail if any is wrong.")
    ] = False,
    as_json: AsJson = False,
    stac: Annotated[
        bool, typer.Option("--stac", help="Print a model or segmenter as a STAC item (JSON) with the MLM extension.")
    ] = False,
) -> None:
    """Describe a model, a segmenter, a store, data in place, a raster or a report."""
    import geosynth

    if verify:
        with progress_bar("verify") as progress:
            values = geosynth.info(file, stac=stac, verify=True, progress=progress)
    else:
        values = geosynth.info(file, stac=stac)
    if as_json or stac:
        print_json(values)
    else:
        print_mapping(_without_ancestors(values))


def _without_ancestors(values: dict[str, Any]) -> dict[str, Any]:
    """A description that only names the model from which the described one was trained, without all its trainings."""
    match values:
        case {"provenance": {"init": dict(init)}}:
            name = {key: value for key, value in init.items() if not isinstance(value, dict | list)}
            shown = {**name, "its own provenance": "--json shows it"}
            return {**values, "provenance": {**values["provenance"], "init": shown}}
    return values


def view(
    rasters: Annotated[
        list[str],
        typer.Argument(
            help="Up to eight images and labels of one area: synthetic, real, land cover.",
            callback=refusing_absent(),
        ),
    ],
    out: Annotated[Path, output_option("The page (.html).")],
    legend: Annotated[
        str | None,
        input_option(
            "--legend", "Legend of labels without a class table: a built-in name or a YAML file.", "chesapeake"
        ),
    ] = None,
    size: Annotated[int, pixels_option("--size", "Most pixels shown along the longer side.")] = 1024,
    overwrite: Overwrite = False,
) -> None:
    """Show rasters of one area in an HTML page with pan, zoom and a slider between any two of them."""
    import geosynth

    typer.echo(str(geosynth.view(rasters, out, legend=legend, size=size, overwrite=overwrite)))


def doctor(as_json: AsJson = False) -> None:
    """Describe this machine for bug reports: versions, devices, formats, paths of weights."""
    import geosynth

    (print_json if as_json else print_mapping)(geosynth.doctor())
