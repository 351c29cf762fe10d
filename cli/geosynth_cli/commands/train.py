"""geosynth train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import naming_what_is_kept, print_table, progress_bar, show_warnings
from geosynth_cli.options import parse_setting


def _list_presets(wanted: bool) -> None:
    if not wanted:
        return
    import geosynth

    def known(cost: Any) -> str:
        return "-" if cost is None else f"{cost.memory:.3g} GiB, {1 / cost.seconds_per_step:.2g} steps/s"

    rows = [
        (
            name,
            f"{preset.parameters / 1e6:.1f} M",
            known(preset.on_core),
            known(preset.on_gpu),
            preset.purpose,
        )
        for name, preset in geosynth.TrainSettings.presets().items()
    ]
    print_table(("preset", "parameters", "on one core", "on an H100", "for"), rows)
    raise typer.Exit


def train(
    data: Annotated[
        str, typer.Option("--data", help="A store made by `geosynth ingest`, or a YAML of files to read in place.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, checkpoints and previews.")],
    fold: Annotated[str, typer.Option("--fold", help="Fold to train on.")] = "train",
    preset: Annotated[
        str | None, typer.Option("--preset", help="tiny, small, base or reference; see --list-presets.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", help="Model file to go on from; chesapeake-small: the embedded one."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML of settings; goes over the preset.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Updates of the generator.")] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", help="End after this time at the latest, as in 90m, 2h or 1h30m.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Patches a step, over all devices.")] = None,
    crop_size: Annotated[int | None, typer.Option("--crop-size", help="Side of a patch, pixels.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")] = None,
    devices: Annotated[int | None, typer.Option("--devices", help="GPUs, or processes where there is none.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of weights, patches and noise.")] = None,
    other: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as in base_width=32; may be repeated.")
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the presets and exit.", is_eager=True, callback=_list_presets)
    ] = False,
) -> None:
    """Train a generator; goes on where an interrupted run in the same folder ended.

    Defaults are overridden by --preset, that by --config, that by single options and --set.
    """
    import geosynth

    show_warnings()
    given: dict[str, Any] = {
        "init": init,
        "steps": steps,
        "max_time": max_time,
        "batch_size": batch_size,
        "crop_size": crop_size,
        "precision": precision,
        "devices": devices,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    changes |= dict(map(parse_setting, other or []))
    settings = geosynth.TrainSettings.resolve(preset=preset, config=config, **changes)
    with naming_what_is_kept(out / "last.ckpt"), progress_bar("train") as progress:
        model = geosynth.train(data, out, settings, fold=fold, progress=lambda done, total, left: progress(done, total))
    typer.echo(str(model))
