"""geosynth train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import progress_bar, show_warnings


def train(
    data: Annotated[Path, typer.Option("--data", help="A store made by `geosynth ingest`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, checkpoints and previews.")],
    fold: Annotated[str, typer.Option("--fold", help="Fold to train on.")] = "train",
    steps: Annotated[int | None, typer.Option("--steps", help="Updates of the generator.")] = None,
    max_hours: Annotated[float | None, typer.Option("--max-hours", help="End after this time at the latest.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Patches a step.")] = None,
    crop_size: Annotated[int | None, typer.Option("--crop-size", help="Side of a patch, pixels.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, bf16 or fp32.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of weights, patches and noise.")] = None,
    other: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as in base_width=32; may be repeated.")
    ] = None,
) -> None:
    """Train a generator on a store; goes on where an interrupted run in the same folder ended."""
    import geosynth

    show_warnings()
    given: dict[str, Any] = {
        "steps": steps,
        "max_hours": max_hours,
        "batch_size": batch_size,
        "crop_size": crop_size,
        "precision": precision,
        "seed": seed,
    }
    values = {name: value for name, value in given.items() if value is not None} | dict(map(_pair, other or []))
    settings = geosynth.TrainSettings.parse(values)
    with progress_bar("train") as progress:
        model = geosynth.train(data, out, settings, fold=fold, progress=lambda done, total, left: progress(done, total))
    typer.echo(str(model))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        from geosynth.errors import SettingsError

        raise SettingsError(f"--set {text}: say NAME=VALUE")
    return name, value
