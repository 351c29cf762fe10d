"""Models: train, import-spade, looks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import naming_what_is_kept, note, print_table, progress_bar
from geosynth_cli.options import (
    Bands,
    Command,
    ModelOrEmbedded,
    Overwrite,
    StoreOrFiles,
    folder_option,
    given,
    input_option,
    output_option,
    parse_names,
    pixels_option,
    refusing_absent,
    set_option,
)


def _list_presets(wanted: bool) -> None:
    if not wanted:
        return
    import geosynth

    def known(cost: Any) -> str:
        return "unmeasured" if cost is None else f"{cost.memory:.3g} GiB, {1 / cost.seconds_per_step:.2g} steps/s"

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
    print_table(("preset", "parameters", "on one core", "on an H100 (older code)", "for"), rows)
    raise typer.Exit


def train(
    data: StoreOrFiles,
    out: Annotated[Path, folder_option("Folder for the model, checkpoints and previews.", "model.safetensors")],
    fold: Annotated[str, typer.Option("--fold", help="Fold to train on.")] = "train",
    preset: Annotated[
        str | None, typer.Option("--preset", help="tiny, small, base, adapt or reference; see --list-presets.")
    ] = None,
    init: Annotated[
        str | None,
        input_option("--init", "Model file to start from; chesapeake-small: the embedded one.", "chesapeake-small"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of settings; overrides the preset.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Number of updates of the generator.")] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", help="Stop after this time at the latest, as in 90m, 2h or 1h30m.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Patches per step, over all devices.")] = None,
    crop_size: Annotated[int | None, pixels_option("--crop-size", "Side of a patch, pixels.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", help="Number of GPUs, or of processes if there is no GPU.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed of weights, patches and noise.")] = None,
    other: Annotated[list[str] | None, set_option("base_width=32")] = None,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the presets and exit.", is_eager=True, callback=_list_presets)
    ] = False,
) -> None:
    """Train a generator, or continue an interrupted training in the same folder.

    Defaults are overridden by --preset, that by --config, that by single options and --set.
    """
    import geosynth

    changes = given(
        other,
        preset=preset,
        config=config,
        init=init,
        steps=steps,
        max_time=max_time,
        batch_size=batch_size,
        crop_size=crop_size,
        precision=precision,
        devices=devices,
        seed=seed,
    )
    settings = geosynth.TrainSettings.resolve(**changes)
    limit = f" of at most {settings.steps:,}" if settings.max_time is not None else ""
    with naming_what_is_kept(out / "last.ckpt"), progress_bar("train") as update:

        def progress(done: int, total: int, seconds_left: float) -> None:
            update(done, total)
            if seconds_left == 0:  # what follows has no progress, and takes minutes on a slow machine
                note(f"{done:,}{limit} steps{'' if settings.keep_norms else '; now the batch norms are measured'}")

        model = geosynth.train(data, out, settings, fold=fold, progress=progress)
    typer.echo(str(model))


class Depth(StrEnum):
    """The reference's --num_upsampling_layers."""

    normal = "normal"
    more = "more"
    most = "most"


def import_spade(
    generator: Annotated[
        Path, typer.Argument(help="The generator's weights (latest_net_G.pth).", callback=refusing_absent())
    ],
    out: Annotated[Path, output_option("The model file (.safetensors).")],
    legend: Annotated[
        str,
        input_option(
            "--legend", "Legend with a class for each label channel: a built-in name or a YAML file.", "chesapeake"
        ),
    ],
    bands: Annotated[str, typer.Option("--bands", help="Names of the output bands.")] = "red,green,blue",
    encoder: Annotated[
        Path | None, input_option("--encoder", "The style encoder's weights (latest_net_E.pth).")
    ] = None,
    depth: Annotated[
        Depth | None,
        typer.Option("--depth", help="Number of upsampling steps, if it does not follow from the weights."),
    ] = None,
    crop_size: Annotated[
        int | None,
        typer.Option("--crop-size", help="Side of the training crops, pixels; may determine the depth.", min=1),
    ] = None,
    gsd: Annotated[
        float | None, typer.Option("--gsd", help="Pixel size of the training imagery, metres.", min=0)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a model file from weights of the SPADE reference implementation."""
    import geosynth

    path = geosynth.import_spade(
        generator,
        out,
        legend=legend,
        bands=parse_names(bands),
        encoder=encoder,
        depth=depth.value if depth else None,
        crop_size=crop_size,
        gsd=gsd,
        overwrite=overwrite,
    )
    typer.echo(path)


looks = typer.Typer(help="Named looks of a model.", no_args_is_help=True)


@looks.command("add", cls=Command)
def add_look(
    name: Annotated[str, typer.Argument(help="Name of the look: letters, digits, - and _.")],
    image: Annotated[list[str], input_option("--image", "An image to take the look from; repeatable.")],
    out: Annotated[Path, output_option("The model file with the look (.safetensors).")],
    labels: Annotated[
        list[str] | None,
        input_option("--labels", "Labels of that image, one for each. Without them, the look is estimated."),
    ] = None,
    model: ModelOrEmbedded = None,
    legend: Annotated[
        str | None,
        input_option(
            "--legend",
            "Legend of the labels: a name, a YAML file, or from-raster (their own class tables).",
            "chesapeake",
            "from-raster",
        ),
    ] = None,
    bands: Bands = None,
    overwrite: Overwrite = False,
) -> None:
    """Save the look of your place in a copy of a model: --look NAME then paints it."""
    import geosynth

    path = geosynth.add_look(
        name,
        image,
        out,
        model,
        labels=labels or None,
        legend=legend,
        bands=parse_names(bands),
        overwrite=overwrite,
    )
    typer.echo(str(path))
