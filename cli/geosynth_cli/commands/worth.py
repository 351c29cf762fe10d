"""What images are worth: segment, classify, evaluate, study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import naming_what_is_kept, print_report, print_table, progress_bar
from geosynth_cli.options import (
    AsJson,
    Bands,
    Device,
    Look,
    Overwrite,
    Scheduler,
    StoreOrFiles,
    Workers,
    folder_option,
    given,
    input_option,
    output_option,
    parse_names,
    pixels_option,
    refuse_idle,
    refusing_absent,
    set_option,
)


def segment(
    data: StoreOrFiles,
    out: Annotated[Path, folder_option("Folder for the model and report.json.", "report.json")],
    synthetic: Annotated[
        str | None, input_option("--synthetic", "A twin of the data, made by `geosynth twin`.")
    ] = None,
    real_tiles: Annotated[
        int | None, typer.Option("--real-tiles", help="Number of real tiles; without it, all.")
    ] = None,
    synthetic_tiles: Annotated[
        int | None, typer.Option("--synthetic-tiles", help="Number of tiles of the twin; without it, all.")
    ] = None,
    tile_size: Annotated[int | None, pixels_option("--tile-size", "Side of a tile, pixels.")] = None,
    augment: Annotated[str | None, typer.Option("--augment", help="none, flips or flips+colour.")] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Encoder of the U-Net, as in resnet18 or resnet50.")
    ] = None,
    weights: Annotated[
        str | None,
        input_option(
            "--weights", "Weights of the encoder: none, imagenet (downloaded) or a local file.", "imagenet", "none"
        ),
    ] = None,
    init: Annotated[
        str | None, input_option("--init", "A segmenter, made by `geosynth segment`, to start from.")
    ] = None,
    judge: Annotated[
        str | None,
        input_option(
            "--judge", "A segmenter trained on real tiles: synthetic pixels that it strongly doubts are left out."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Number of updates of the network.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Tiles per step.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the choice of tiles, weights and order.")
    ] = None,
    other: Annotated[list[str] | None, set_option("crop_size=128")] = None,
    train_fold: Annotated[str, typer.Option("--train-fold", help="Fold to train on.")] = "train",
    test_fold: Annotated[str, typer.Option("--test-fold", help="Fold to test on, always with real tiles.")] = "test",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a segmenter on real and synthetic tiles, and test it on real ones.

    If the report for the same settings and data is finished, it is shown again; an interrupted training continues.
    """
    import geosynth

    values = given(
        other,
        real_tiles=real_tiles,
        synthetic_tiles=synthetic_tiles,
        tile_size=tile_size,
        augment=augment,
        encoder=encoder,
        weights=weights,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    )
    settings = geosynth.SegmentSettings.parse(values)
    if init is not None:
        settings.refuse_idle("with --init", "weights")
    if judge is None:
        settings.refuse_idle("without --judge", "agreement")
    with naming_what_is_kept(out / "last.ckpt"), progress_bar("segment") as progress:
        report = geosynth.segment(
            data,
            out,
            settings,
            synthetic=synthetic,
            init=init,
            judge=judge,
            train_fold=train_fold,
            test_fold=test_fold,
            overwrite=overwrite,
            progress=progress,
        )
    print_report(report, out / "model.safetensors", as_json)


def classify(
    image: Annotated[str, input_option("--image", "Any raster with the segmenter's bands.")],
    model: Annotated[
        str,
        input_option("--model", "A segmenter: folder or file made by `geosynth segment`, or the address of a file."),
    ],
    out: Annotated[Path, output_option("The label raster: a Cloud Optimized GeoTIFF with colours.")],
    bands: Bands = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Predict the class of each pixel of an image, on its grid. If interrupted, the same command continues."""
    import geosynth

    with progress_bar("classify") as progress:
        path = geosynth.classify(
            image,
            model,
            out,
            bands=parse_names(bands),
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(str(path))


def _check_judges(parameter: typer.CallbackParam, judges: list[str] | None) -> list[str] | None:
    """Check that the file in NAME=FILE exists; names are checked later."""
    refusing_absent()(parameter, [judge.partition("=")[2] or None for judge in judges or ()])
    return judges


def evaluate(
    real: Annotated[str | None, input_option("--real", "The real image.")] = None,
    synthetic: Annotated[
        list[str] | None,
        input_option(
            "--synthetic", "The synthetic image, on the same pixel grid; or a twin of --data (two twins: diversity)."
        ),
    ] = None,
    labels: Annotated[str | None, input_option("--labels", "The label raster of both.")] = None,
    data: Annotated[
        str | None,
        input_option("--data", "Instead of --real and --labels: a store, or a YAML file that describes data in place."),
    ] = None,
    model: Annotated[
        str | None,
        input_option(
            "--model",
            "Generator that first paints twins of --data; chesapeake-small: the embedded one.",
            "chesapeake-small",
        ),
    ] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Fold of --data: test (default), val or train.")] = None,
    out: Annotated[Path | None, folder_option("Folder for report.json and report.html.", "report.json")] = None,
    legend: Annotated[
        str | None,
        input_option("--legend", "Legend of --labels: a built-in name or a YAML file.", "chesapeake"),
    ] = None,
    label_legend: Annotated[
        str | None, input_option("--label-legend", "Legend of the label file, if its codes differ.", "chesapeake")
    ] = None,
    bands: Bands = None,
    segmenter: Annotated[
        str | None,
        input_option(
            "--segmenter", "A segmenter, made by `geosynth segment`: does it find the labels in the synthetic image?"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        input_option(
            "--target",
            "Unlabelled image of another place: are the real or the synthetic tiles nearer to it? Repeatable.",
        ),
    ] = None,
    inception: Annotated[
        str | None,
        input_option("--inception", "For FID and KID: a file of the Inception weights, or download.", "download"),
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="Further features: efficientnet-lite2, dinov2=FILE or wavelets; repeatable.",
            callback=_check_judges,
        ),
    ] = None,
    features: Annotated[
        bool, typer.Option("--features/--no-features", help="Measure distances between features of networks (slow).")
    ] = True,
    tile_size: Annotated[int, pixels_option("--tile-size", "Side of a tile, pixels.")] = 256,
    max_tiles: Annotated[
        int, typer.Option("--max-tiles", help="Most tiles of a set, for distances between features.")
    ] = 5000,
    block_size: Annotated[
        int, pixels_option("--block-size", "Block size of `geosynth generate`, for the seam score.")
    ] = 1024,
    latents: Annotated[int | None, typer.Option("--latents", help="Number of twins that --model paints; 2.")] = None,
    look: Look = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of intervals, pictures and the first twin.")] = 0,
    device: Device = "auto",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder for features and twins; default: cache in --out.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare synthetic images with real ones, class by class, and write a report.

    Imagery is uint8, uint16, int16 or float32; all but uint8 is seen in 256 levels, which the report lists.
    """
    from geosynth.errors import SettingsError

    refuse_idle("without --out", out is None, overwrite=overwrite or None)
    refuse_idle("without --data", data is None, model=model, fold=fold, look=look)
    sources: dict[str, Any] = {"real": real, "labels": labels}
    if data is None:
        if real is None or labels is None or not synthetic:
            raise SettingsError("give --real, --synthetic and --labels, or --data")
        if len(synthetic) > 1:
            raise SettingsError("several --synthetic need --data")
        sources |= {"synthetic": synthetic[0]}
    else:
        sources |= {"data": data, "synthetic": synthetic or None, "model": model, "fold": fold or "test"}
    import geosynth

    with progress_bar("evaluate") as progress:
        report = geosynth.evaluate(
            **sources,
            out=out,
            legend=legend,
            label_legend=label_legend,
            bands=parse_names(bands),
            segmenter=segmenter,
            target=target,
            inception=inception,
            judges=tuple(judges or ()),
            features=features,
            tile_size=tile_size,
            max_tiles=max_tiles,
            block_size=block_size,
            **given(latents=latents),
            look=look,
            seed=seed,
            device=device,
            cache=cache,
            overwrite=overwrite,
            progress=progress,
        )
    print_report(report, None if out is None else out / "report.html", as_json)


def study(
    sweep: Annotated[
        str,
        typer.Argument(
            help="replace: a growing share of a fixed number of tiles is synthetic. augment: few real tiles, with and"
            " without synthetic ones and ordinary augmentation. diversity: lambda of the DSGAN term. transfer: labels"
            " and imagery of one place; imagery and few labels or none of another."
        ),
    ],
    data: Annotated[str, input_option("--data", "A store made by `geosynth ingest`.")],
    out: Annotated[Path, folder_option("Folder of the study; several sweeps may share it.", "report.html")],
    model: Annotated[
        str | None,
        input_option(
            "--model",
            "A generator; chesapeake-small: the embedded one. Without it, transfer takes that, others train their own.",
            "chesapeake-small",
        ),
    ] = None,
    target: Annotated[
        str | None, input_option("--target", "transfer: a store of the other place, which is tested on.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Number of seeds; two or more give intervals.")] = None,
    tiles: Annotated[
        int | None, typer.Option("--tiles", help="replace, diversity, transfer: number of tiles to train on.")
    ] = None,
    shares: Annotated[str | None, typer.Option("--shares", help="replace: synthetic shares, as in 0,0.5,1.")] = None,
    real_tiles: Annotated[
        str | None, typer.Option("--real-tiles", help="augment: numbers of real tiles kept, as in 20,40.")
    ] = None,
    synthetic_tiles: Annotated[
        int | None, typer.Option("--synthetic-tiles", help="augment: number of synthetic tiles added.")
    ] = None,
    target_tiles: Annotated[
        str | None, typer.Option("--target-tiles", help="transfer: numbers of labelled tiles of the target, as in 0,8.")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option("--arms", help="replace, augment, transfer: arms to run, as in 'real,real + synthetic'."),
    ] = None,
    lambdas: Annotated[str | None, typer.Option("--lambdas", help="diversity: weights, as in 0,4,8.")] = None,
    other: Annotated[list[str] | None, set_option("segment.steps=500 or train.steps=2000")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and how long it would take.")
    ] = False,
    tabulate: Annotated[
        bool, typer.Option("--tabulate", help="Only write the results of the cells finished so far.")
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Measure what synthetic tiles are worth for a segmenter. If interrupted, the same command continues.

    Results: OUT/SWEEP/report.html, table.csv, table.md, results.json and figures.
    """
    import geosynth

    refuse_idle("with --dry-run", dry_run, tabulate=tabulate or None, scheduler=scheduler)
    refuse_idle("with --tabulate", tabulate, workers=workers, scheduler=scheduler)
    lists = given(shares=shares, real_tiles=real_tiles, target_tiles=target_tiles, arms=arms, lambdas=lambdas)
    lists = {name: parse_names(text) for name, text in lists.items()}
    changes = given(other, config=config, seeds=seeds, tiles=tiles, synthetic_tiles=synthetic_tiles, **lists)
    settings = geosynth.StudySettings.resolve(sweep, **changes)
    for store in filter(None, (data, target)):  # before libraries are loaded, which takes seconds
        if Path(store).suffix.lower() in (".yaml", ".yml"):
            raise geosynth.GeosynthError(f"{store}: not a geosynth store; make one with `geosynth ingest`")
    if dry_run:
        _show(geosynth.plan_study(data, out, settings, model=model, target=target, workers=workers))
    elif tabulate:
        from geosynth.errors import counted

        report = geosynth.tabulate_study(data, out, settings, model=model, target=target)
        typer.echo(f"{counted(len(report.cells), 'cell')} finished, {len(report.missing)} missing")
    else:
        with naming_what_is_kept(out), progress_bar(f"study {sweep}") as progress:
            report = geosynth.run_study(
                data,
                out,
                settings,
                model=model,
                target=target,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
            )
        if report.missing:
            raise geosynth.GeosynthError(
                f"{len(report.missing)} of {len(report.missing) + len(report.cells)} cells without a result"
                f" ({report.missing[0].cell}: {report.missing[0].reason}); run again to try them again"
            )
    if not dry_run:
        typer.echo(str(out / sweep / "report.html"))


def _time(work: Any) -> str:
    return "-" if work.seconds is None else f"{work.seconds:.3g} s"


def _show(plan: Any) -> None:
    print_table(("cell", ""), [(name, "finished" if is_made else "to do") for name, is_made in plan.cells])
    head = ("work", "finished", "to do", "each", "estimated")
    print_table(head, [(work.kind, str(work.finished), str(work.todo), _time(work), work.source) for work in plan.work])
    typer.echo(f"generator: {plan.generator}")
    shared = "" if plan.workers == 1 else f" with {plan.workers} workers"
    typer.echo(f"about {plan.hours:.2g} h{shared}")
