"""geosynth ingest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geosynth_cli.console import progress_bar, show_warnings
from geosynth_cli.options import parse_pixels


def ingest(
    out: Annotated[
        Path, typer.Option("--out", help="The store (a folder, .zarr); with several CRSs, one for each in it.")
    ],
    images: Annotated[
        list[str] | None, typer.Option("--images", help="Image file, folder or glob; may be repeated.")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", help="Label file, folder or glob; paired by file name.")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option("--items", help="Instead: a list of pairs (CSV, GeoParquet, GeoJSON, STAC items)."),
    ] = None,
    image_asset: Annotated[str | None, typer.Option("--image-asset", help="For STAC: key of the image.")] = None,
    labels_asset: Annotated[str | None, typer.Option("--labels-asset", help="For STAC: key of the labels.")] = None,
    chesapeake: Annotated[
        Path | None, typer.Option("--chesapeake", help="Instead: the folder of the Chesapeake Land Cover data set.")
    ] = None,
    state: Annotated[str, typer.Option("--state", help="For --chesapeake: states, as in md,de.")] = "de,md,va,wv,pa,ny",
    split: Annotated[
        str, typer.Option("--split", help="For --chesapeake: splits, as in train,val.")
    ] = "train,val,test",
    extra: Annotated[
        list[str] | None,
        typer.Option(
            "--extra", help="One more map to keep: a layer of --chesapeake (nlcd), or a column or asset of --items."
        ),
    ] = None,
    legend: Annotated[
        str | None,
        typer.Option("--legend", help="Legend of the store: a built-in name or a YAML file; chesapeake if not said."),
    ] = None,
    label_legend: Annotated[
        str | None,
        typer.Option(
            "--label-legend",
            help="Legend of the label files, if their codes differ: the same, or from-raster (their own class tables).",
        ),
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Band names, as in red,green,blue,nir.")] = None,
    crs: Annotated[str | None, typer.Option("--crs", help="One CRS for all, as in EPSG:26917.")] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", help="Size of the store's pixels, in units of its CRS.")
    ] = None,
    like: Annotated[Path | None, typer.Option("--like", help="A raster whose pixels are those of the store.")] = None,
    resample_images: Annotated[
        str | None,
        typer.Option(
            "--resample-images",
            help="How images off the store's grid are brought to it: nearest, bilinear, average, cubic, cubic_spline,"
            " lanczos. Without it they are refused.",
        ),
    ] = None,
    resample_labels: Annotated[
        str | None, typer.Option("--resample-labels", help="Likewise for labels and extra maps: nearest or mode.")
    ] = None,
    by: Annotated[
        str, typer.Option("--by", help="How folds are chosen: clusters (of touching scenes) or blocks.")
    ] = "clusters",
    shares: Annotated[
        str | None, typer.Option("--shares", help="Shares of train, val and test; 0.7,0.1,0.2 if not said.")
    ] = None,
    block_size: Annotated[
        int,
        typer.Option(
            "--block-size", parser=parse_pixels, metavar="PIXELS", help="For --by blocks: their side, pixels."
        ),
    ] = 1024,
    buffer: Annotated[
        str, typer.Option("--buffer", help="Distance between folds: metres, or pixels as in 64px.")
    ] = "0",
    seed: Annotated[int, typer.Option("--seed", help="Of the split into folds.")] = 0,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask cluster that sees the same files.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")] = False,
) -> None:
    """Copy image and label rasters into a chunked Zarr store, split into folds by place.

    One that was interrupted goes on where it was when it is run again.
    """
    import geosynth
    from geosynth.errors import SettingsError

    show_warnings()
    try:
        parts = [float(share) for share in shares.split(",")] if shares else None
    except ValueError as error:
        raise SettingsError(f"--shares {shares}: three numbers are needed, as in 0.7,0.1,0.2") from error
    if sum(source is not None for source in (images or labels, items, chesapeake)) != 1:
        raise SettingsError("either --images and --labels, or --items, or --chesapeake is needed")
    names = bands.split(",") if bands else None
    listed = None
    if items is not None:
        listed = geosynth.read_items(items, extras=extra or (), image_asset=image_asset, labels_asset=labels_asset)
    elif chesapeake is not None:
        listed = geosynth.chesapeake_items(chesapeake, state.split(","), split.split(","), extras=extra or ())
        names, legend = names or ["red", "green", "blue", "nir"], legend or "chesapeake"
    elif extra:
        raise SettingsError("--extra needs --chesapeake or --items")
    with progress_bar("ingest") as progress:
        stores = geosynth.ingest(
            images,
            labels,
            out,
            items=listed,
            legend=legend,
            label_legend=label_legend,
            bands=names,
            crs=crs,
            resolution=resolution,
            like=like,
            resample_images=resample_images,
            resample_labels=resample_labels,
            by=by,
            shares=parts,
            block_size=block_size,
            buffer=buffer,
            seed=seed,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress,
        )
    for store in stores:
        folds = ", ".join(f"{fold} {len(store.scenes_in(fold))}" for fold in ("train", "val", "test"))
        typer.echo(f"{len(store.scenes)} scenes ({folds})", err=True)
        typer.echo(store.path)
