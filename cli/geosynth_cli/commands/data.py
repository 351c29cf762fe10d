"""Data: rasterize, ingest, split, tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import print_json, print_table, progress_bar
from geosynth_cli.options import (
    AsJson,
    Bands,
    Buffer,
    LineWidth,
    Overwrite,
    Scheduler,
    StoreOrFiles,
    VectorLayer,
    folder_option,
    given,
    input_option,
    output_option,
    parse_names,
    parse_shares,
    parse_width,
    pixels_option,
    refuse_idle,
    refusing_absent,
)


def rasterize(
    vector: Annotated[
        Path,
        typer.Argument(help="GeoPackage, GeoJSON, FlatGeobuf, Shapefile or GeoParquet.", callback=refusing_absent()),
    ],
    column: Annotated[str, typer.Option("--column", help="Column with the class: names or codes of the legend.")],
    out: Annotated[Path, output_option("The label raster: a Cloud Optimized GeoTIFF with colours.")],
    layer: VectorLayer = None,
    legend: Annotated[
        str, input_option("--legend", "Legend of the classes: a built-in name or a YAML file.", "chesapeake")
    ] = "chesapeake",
    resolution: Annotated[float | None, typer.Option("--resolution", help="Pixel size, metres.")] = None,
    crs: Annotated[
        str | None, typer.Option("--crs", help="CRS of the raster; without it, that of the features.")
    ] = None,
    like: Annotated[
        str | None, input_option("--like", "Instead of --resolution and --crs: a raster whose grid to use.")
    ] = None,
    width: LineWidth = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a label raster from polygons, or from lines with a width.

    A pixel gets the class of the feature that contains its centre (of several, the last in the file); pixels without a
    feature have no data.
    """
    import geosynth

    with progress_bar("rasterize") as progress:
        path = geosynth.rasterize(
            vector,
            out,
            column,
            legend,
            layer=layer,
            resolution=resolution,
            crs=crs,
            like=like,
            width=parse_width(width),
            overwrite=overwrite,
            progress=lambda stage, done, total: progress(done, total),
        )
    typer.echo(str(path))


def _check_legend(parameter: typer.CallbackParam, legend: str | None) -> str | None:
    from geosynth.errors import GeosynthError

    if legend == "from-raster":
        raise GeosynthError(
            "--legend from-raster: a name or a YAML file is needed for a store; --label-legend from-raster reads label"
            " files by their own class tables"
        )
    return refusing_absent("chesapeake")(parameter, legend)  # type: ignore[no-any-return]


def ingest(
    out: Annotated[
        Path,
        output_option("The store (a folder, .zarr); with several CRSs or dates, a folder with one store for each."),
    ],
    images: Annotated[
        list[str] | None,
        input_option(
            "--images", "Image file, folder or glob; '*_{red=B04,nir=B08}.tif' for files of bands; repeatable."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        input_option(
            "--labels",
            "Label file, folder or glob, paired by file name; or one file for all images, also with --items.",
        ),
    ] = None,
    items: Annotated[
        Path | None,
        input_option("--items", "Instead of --images: a list of pairs (CSV, GeoParquet, GeoJSON, STAC items)."),
    ] = None,
    image_asset: Annotated[
        str | None,
        typer.Option("--image-asset", help="For STAC: asset key of the image, or of each of its bands, as in red,nir."),
    ] = None,
    labels_asset: Annotated[
        str | None, typer.Option("--labels-asset", help="For STAC: asset key of the labels.")
    ] = None,
    chesapeake: Annotated[
        Path | None,
        input_option("--chesapeake", "Instead of --images: the folder of the Chesapeake Land Cover data set."),
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="For --chesapeake: states, as in md,de; without it, all.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="For --chesapeake: splits, as in train,val; without it, all.")
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            "--extra", help="A further map to keep: a layer of --chesapeake (nlcd), or a column or asset of --items."
        ),
    ] = None,
    legend: Annotated[
        str | None,
        typer.Option(
            "--legend",
            help="Legend of the store: a built-in name or a YAML file; default chesapeake.",
            callback=_check_legend,
        ),
    ] = None,
    label_legend: Annotated[
        str | None,
        input_option(
            "--label-legend",
            "Legend of the label files, if their codes differ: a name, a YAML file, or from-raster (their own class"
            " tables).",
            "chesapeake",
            "from-raster",
        ),
    ] = None,
    bands: Bands = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="Data type of the store's imagery; without it, that of the files. All values must fit."
        ),
    ] = None,
    crs: Annotated[str | None, typer.Option("--crs", help="One CRS for all scenes, as in EPSG:26917.")] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", help="Pixel size of the store, in units of its CRS.")
    ] = None,
    like: Annotated[str | None, input_option("--like", "A raster whose pixel grid to use.")] = None,
    resample_images: Annotated[
        str | None,
        typer.Option(
            "--resample-images",
            help="How to resample images that are off the store's grid: nearest, bilinear, average, cubic,"
            " cubic_spline, lanczos. Without it, they are refused.",
        ),
    ] = None,
    resample_labels: Annotated[
        str | None, typer.Option("--resample-labels", help="The same for labels and extra maps: nearest or mode.")
    ] = None,
    apart: Annotated[
        bool,
        typer.Option(
            "--apart",
            help="Images have no georeference and show different places: lay them out far apart, on a grid without a"
            " CRS whose unit is a pixel.",
        ),
    ] = False,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="clusters (of touching scenes) or blocks; without it, clusters, or blocks if these are too few.",
        ),
    ] = None,
    shares: Annotated[
        str | None, typer.Option("--shares", help="Shares of train, val and test; default 0.7,0.1,0.2.")
    ] = None,
    block_size: Annotated[
        int | None, pixels_option("--block-size", "For --by blocks: side of a block, pixels; default 1024.")
    ] = None,
    buffer: Buffer = "0",
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed of the split into folds; default 0.")] = None,
    per: Annotated[
        str | None, typer.Option("--per", help="Make a store for each year, month or day of the items' dates.")
    ] = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy image and label rasters into a chunked Zarr store, split into folds by place.

    If interrupted, the same command continues.
    """
    import geosynth
    from geosynth.errors import SettingsError, counted

    parts = parse_shares(shares)
    of_files = images or (labels if items is None else None)
    if sum(source is not None for source in (of_files, items, chesapeake)) != 1:
        raise SettingsError("either --images and --labels, or --items, or --chesapeake is needed")
    refuse_idle("without --items", items is None, image_asset=image_asset, labels_asset=labels_asset)
    refuse_idle("without --chesapeake", chesapeake is None, state=state, split=split)
    refuse_idle("without --items or --chesapeake", of_files, extra=extra)
    refuse_idle("without --by blocks", by != "blocks", block_size=block_size)
    names = parse_names(bands)
    listed = None
    if items is not None:
        keys = parse_names(image_asset)
        listed = geosynth.read_items(
            items, extras=extra or (), image_asset=keys, labels_asset=labels_asset, labels=labels
        )
        labels = None
    elif chesapeake is not None:
        chosen = given(states=parse_names(state), splits=parse_names(split))
        listed = geosynth.chesapeake_items(chesapeake, **chosen, extras=extra or ())
        names, legend = names or ["red", "green", "blue", "nir"], legend or "chesapeake"
    with progress_bar("ingest") as progress:
        stores = geosynth.ingest(
            images,
            labels,
            out,
            items=listed,
            legend=legend,
            label_legend=label_legend,
            bands=names,
            dtype=dtype,
            crs=crs,
            resolution=resolution,
            like=like,
            resample_images=resample_images,
            resample_labels=resample_labels,
            apart=apart,
            by=by,
            shares=parts,
            **given(block_size=block_size),
            buffer=buffer,
            seed=seed,
            per=per,  # type: ignore[arg-type]  # checked there
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress,
        )
    for store in stores:
        folds = ", ".join(f"{fold} {len(store.scenes_in(fold))}" for fold in ("train", "val", "test"))
        whose = store.legend.name if legend or label_legend else f"{store.legend.name}, as none was named"
        typer.echo(f"classes ({whose}): {_shares_told(store.legend.names, store.class_pixels())}", err=True)
        typer.echo(f"{counted(len(store.scenes), 'scene')} ({folds})", err=True)
        typer.echo(store.path)


def _shares_told(names: Sequence[str], pixels: Sequence[int]) -> str:
    """Percentages of the labelled pixels for the classes that have any."""
    shares = ((name, 100 * count / sum(pixels)) for name, count in zip(names, pixels, strict=True) if count)
    return ", ".join(f"{name} {share:.{0 if share >= 1 else 2}f} %" for name, share in shares)


def split(
    data: Annotated[
        str | None, input_option("--data", "A store; for --check also a vector file of polygons with a column fold.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="blocks (default), clusters (of touching scenes), polygons or scenes."),
    ] = None,
    shares: Annotated[
        str | None, typer.Option("--shares", help="Shares of train, val and test; default 0.7,0.1,0.2.")
    ] = None,
    buffer: Buffer = "0",
    block_size: Annotated[
        int | None,
        pixels_option(
            "--block-size", "For --by blocks: side of a block, pixels; several times the buffer; default 1024."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the choice of blocks or clusters; default 0.")
    ] = None,
    stratify: Annotated[
        bool | None,
        typer.Option("--stratify/--no-stratify", help="Give each fold its share of every class (default), or do not."),
    ] = None,
    polygons: Annotated[
        Path | None, input_option("--polygons", "For --by polygons: a vector file with a column fold, in any CRS.")
    ] = None,
    scenes: Annotated[
        Path | None, input_option("--scenes", "For --by scenes: a CSV file with columns scene and fold.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the split as polygons: .parquet, .gpkg or .geojson.")
    ] = None,
    file_only: Annotated[
        bool, typer.Option("--file-only", help="Write only --out; leave the store's split unchanged.")
    ] = False,
    overwrite: Overwrite = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if two folds touch or are nearer than --buffer.")
    ] = False,
    patch_size: Annotated[
        int | None, pixels_option("--patch-size", "For --check of a store: side of the patches to measure, pixels.")
    ] = None,
    train: Annotated[
        list[str] | None, input_option("--train", "For --check: raster, folder or glob of train; repeatable.")
    ] = None,
    val: Annotated[list[str] | None, input_option("--val", "For --check: the same for val.")] = None,
    test: Annotated[list[str] | None, input_option("--test", "For --check: the same for test.")] = None,
    as_json: AsJson = False,
) -> None:
    """Split a store into train, val and test by place, or check any split for leakage."""
    files = {name: paths for name, paths in (("train", train), ("val", val), ("test", test)) if paths}
    refuse_idle("without --check", not check, patch_size=patch_size)
    refuse_idle("without --out", out is None, overwrite=overwrite or None)
    chosen: dict[str, Any] = {"shares": shares, "seed": seed, "stratify": stratify}
    if check:
        rule = {"by": by, **chosen, "block_size": block_size, "polygons": polygons, "scenes": scenes}
        refuse_idle("with --check", True, **rule, out=out, file_only=file_only or None)
        _check(data, files, buffer, patch_size, as_json)
        return
    import geosynth
    from geosynth.errors import SettingsError

    if data is None or files:
        raise SettingsError("--data STORE is needed; --train, --val and --test are for --check")
    refuse_idle(f"with --by {by}", by in ("clusters", "polygons", "scenes"), block_size=block_size)
    refuse_idle(f"with --by {by}", by in ("polygons", "scenes"), **chosen)
    with progress_bar("split") as progress:
        result = geosynth.split(
            data,
            **given(by=by, block_size=block_size, **chosen | {"shares": parse_shares(shares)}),
            buffer=buffer,
            polygons=polygons,
            scenes=scenes,
            out=out,
            keep=not file_only,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json(result)
        return
    stores = result["stores"]
    for store in stores:
        if len(stores) > 1:
            typer.echo(f"{store['path']}:")
        _print_folds(store["folds"])
        if store["file"]:
            typer.echo(store["file"])
    if len(stores) > 1:
        typer.echo("all stores:")
        _print_folds(result["folds"])


def _print_folds(folds: dict[str, Any]) -> None:
    rows = [
        ("pixels", *(f"{values['pixels']:,}" for values in folds.values())),
        ("share of all", *(f"{values['share']:.1%}" for values in folds.values())),
        *(
            (name, *(f"{values['class_shares'][name]:.1%}" for values in folds.values()))
            for name in folds["train"]["class_shares"]
        ),
    ]
    print_table(("", *folds), rows)


def _check(data: str | None, files: dict[str, list[str]], buffer: str, patch_size: int | None, as_json: bool) -> None:
    import geosynth
    from geosynth.errors import DataError, GeosynthError

    try:
        leaks = geosynth.check_split(data, folds=files or None, distance=buffer, patch_size=patch_size)
    except GeosynthError as error:
        error.setting = "buffer" if error.setting == "distance" else error.setting
        raise
    if as_json:
        print_json({"leaks": any(leak.num_pairs for leak in leaks), "measured": [leak.to_values() for leak in leaks]})
    else:
        rows = [
            (
                " - ".join(leak.folds),
                f"{leak.smallest:,.2f}",
                str(leak.num_pairs),
                f"{leak.num_first} / {leak.num_second}",
            )
            for leak in leaks
        ]
        smallest = ", ".join(part for part in ("smallest distance", leaks[0].unit) if part)
        print_table(("folds", smallest, "pairs too near", "places concerned"), rows)
    worst = max(leaks, key=lambda leak: leak.num_pairs)
    if worst.num_pairs:
        raise DataError(str(worst))


def tiles(
    data: StoreOrFiles,
    fold: Annotated[str | None, typer.Option("--fold", help="train, val or test; without it, all three.")] = None,
    size: Annotated[int, pixels_option("--size", "Side of a tile, pixels.")] = 256,
    stride: Annotated[
        int | None, pixels_option("--stride", "Pixels from one tile to the next; default half of --size.")
    ] = None,
    edge: Annotated[
        str, typer.Option("--edge", help="align: add a tile that ends at a scene's far edge; skip: leave it out.")
    ] = "align",
    max_nodata: Annotated[
        float, typer.Option("--max-nodata", help="Share of a tile's pixels that may have no data, 0 to 1.")
    ] = 0.0,
    export: Annotated[
        Path | None,
        folder_option(
            "Write GeoTIFF pairs into this folder (without --fold: one folder per fold).", "index.parquet", "--export"
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Count the overlapping tiles of a store's folds, or write them as files.

    Tiles lie entirely in their fold. Training needs no files: it reads tiles from the store.
    """
    refuse_idle("without --export", export is None, overwrite=overwrite or None)
    import geosynth

    folds = [fold] if fold else ["train", "val", "test"]
    if export is not None:
        for name in folds:
            geosynth.check_place(export if fold else export / name, overwrite=True, mark="export.json")
    views: dict[str, Any] = {}
    with progress_bar("tiles") as progress:
        for name in folds:
            views[name] = geosynth.view_tiles(
                data,
                name,
                size,
                stride,
                edge=edge,  # type: ignore[arg-type]  # checked there
                max_nodata=max_nodata,
                progress=progress,
            )
    counts = {name: sum(map(len, of_fold)) for name, of_fold in views.items()}
    folders: dict[str, str] = {}
    if export is not None:
        for name in folds:
            if counts[name] or fold or not any(counts.values()):  # none at all is an error
                with progress_bar(f"export {name}") as progress:
                    folder = geosynth.export_tiles(
                        views[name], export if fold else export / name, overwrite=overwrite, progress=progress
                    )
                folders[name] = str(folder)
    first = views[folds[0]][0]
    values = {"size": first.size, "stride": first.stride, "edge": first.edge, "tiles": counts, "folders": folders}
    if as_json:
        print_json(values)
    else:
        print_table(("fold", "tiles"), [(name, f"{count:,}") for name, count in counts.items()])
        for path in folders.values():
            typer.echo(path)
