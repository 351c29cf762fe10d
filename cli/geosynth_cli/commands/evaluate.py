"""geosynth evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import print_table, progress_bar, show_warnings


def evaluate(
    real: Annotated[str | None, typer.Option("--real", help="Real image.")] = None,
    synthetic: Annotated[
        list[str] | None,
        typer.Option("--synthetic", help="Synthetic image on its pixel grid; or a twin of --data (repeat: diversity)."),
    ] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Label raster of both.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A store (or YAML), instead of --real, --labels.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Generator that paints twins of --data first; chesapeake-small: the embedded one."
        ),
    ] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Of --data: test (default), val or train.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.json and report.html.")] = None,
    legend: Annotated[
        str | None, typer.Option("--legend", help="Of --labels: a built-in legend (chesapeake) or a YAML file.")
    ] = None,
    label_legend: Annotated[
        str | None, typer.Option("--label-legend", help="Legend of the label file, if its codes differ.")
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Band names, as in red,green,blue,nir.")] = None,
    segmenter: Annotated[
        str | None, typer.Option("--segmenter", help="Made by `segment`: can it find the labels again?")
    ] = None,
    inception: Annotated[
        str | None, typer.Option("--inception", help="FID and KID: a file of the Inception weights, or download.")
    ] = None,
    features: Annotated[
        bool, typer.Option("--features/--no-features", help="Distances between features of a network (slow).")
    ] = True,
    tile_size: Annotated[int, typer.Option("--tile-size", help="Side of the tiles that are compared, pixels.")] = 256,
    max_tiles: Annotated[int, typer.Option("--max-tiles", help="Of a set, for distances between features.")] = 5000,
    block_size: Annotated[int, typer.Option("--block-size", help="Of `generate`, for the seam score.")] = 1024,
    latents: Annotated[int, typer.Option("--latents", help="Twins that --model paints.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of intervals, pictures and the first twin.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, ...: that networks run on.")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder for features and twins; default: cache in --out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Compare synthetic images with real ones, class by class, and write a report."""
    if data is None:
        given = {"--model": model, "--fold": fold}
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise typer.BadParameter(f"goes with --data: {', '.join(wrong)}")
        if real is None or labels is None or not synthetic:
            raise typer.BadParameter("say --real, --synthetic and --labels, or --data")
        if len(synthetic) > 1:
            raise typer.BadParameter("several --synthetic go with --data")
    import geosynth

    sources: dict[str, Any]
    if data is None:
        sources = {"real": real, "synthetic": synthetic[0] if synthetic else None, "labels": labels}
    else:
        sources = {"real": real, "labels": labels, "data": data, "synthetic": synthetic or None, "model": model}
        sources["fold"] = fold or "test"
    show_warnings()
    with progress_bar("evaluate") as progress:
        report = geosynth.evaluate(
            **sources,
            out=out,
            legend=legend,
            label_legend=label_legend,
            bands=bands.split(",") if bands else None,
            segmenter=segmenter,
            inception=inception,
            features=features,
            tile_size=tile_size,
            max_tiles=max_tiles,
            block_size=block_size,
            latents=latents,
            seed=seed,
            device=device,
            cache=cache,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        print_table(("measure", "value", "meaning"), report.summary())
