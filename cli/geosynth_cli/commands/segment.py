"""geosynth segment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import naming_what_is_kept, print_table, progress_bar, show_warnings
from geosynth_cli.options import parse_setting


def segment(
    data: Annotated[str, typer.Option("--data", help="A store made by `geosynth ingest`, or a YAML of files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model and report.json.")],
    synthetic: Annotated[
        Path | None, typer.Option("--synthetic", help="A twin of the data, made by `geosynth twin`.")
    ] = None,
    real_tiles: Annotated[int | None, typer.Option("--real-tiles", help="How many; without it all.")] = None,
    synthetic_tiles: Annotated[
        int | None, typer.Option("--synthetic-tiles", help="How many of the twin; without it all, if there is a twin.")
    ] = None,
    tile_size: Annotated[int | None, typer.Option("--tile-size", help="Side of a tile, pixels.")] = None,
    augment: Annotated[str | None, typer.Option("--augment", help="none, flips or flips+colour.")] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="Of the U-Net, as resnet18 or resnet50.")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Of the encoder: none, imagenet (downloaded) or a local file.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Updates of the network.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Tiles a step.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the choice of tiles, weights and order.")] = None,
    other: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as in crop_size=128; may be repeated.")
    ] = None,
    train_fold: Annotated[str, typer.Option("--train-fold", help="Fold to train on.")] = "train",
    test_fold: Annotated[str, typer.Option("--test-fold", help="Fold to test on, always real.")] = "test",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do it again, whatever is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Train a segmenter on real and synthetic tiles and test it on real ones.

    A finished report of the same settings and data is shown again, an interrupted training goes on.
    """
    import geosynth

    show_warnings()
    given: dict[str, Any] = {
        "real_tiles": real_tiles,
        "synthetic_tiles": synthetic_tiles,
        "tile_size": tile_size,
        "augment": augment,
        "encoder": encoder,
        "weights": weights,
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None} | dict(
        map(parse_setting, other or [])
    )
    if synthetic is not None:
        changes.setdefault("synthetic_tiles", None)
    with naming_what_is_kept(out / "last.ckpt"), progress_bar("segment") as progress:
        report = geosynth.segment(
            data,
            out,
            geosynth.SegmentSettings.parse(changes),
            synthetic=synthetic,
            train_fold=train_fold,
            test_fold=test_fold,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        print_table(("measure", "value", "meaning"), report.summary())
