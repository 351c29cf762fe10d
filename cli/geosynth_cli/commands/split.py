"""geosynth split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import print_json, print_table, progress_bar, show_warnings
from geosynth_cli.options import parse_pixels


def split(
    data: Annotated[
        Path | None, typer.Option("--data", help="A store; for --check also a table of polygons with a column fold.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="blocks, clusters (of touching scenes), polygons or scenes.")] = (
        "blocks"
    ),
    shares: Annotated[str, typer.Option("--shares", help="Shares of train, val and test.")] = "0.7,0.1,0.2",
    buffer: Annotated[
        str, typer.Option("--buffer", help="Distance between folds: metres, or pixels as in 64px.")
    ] = "0",
    block_size: Annotated[
        int,
        typer.Option(
            "--block-size",
            parser=parse_pixels,
            metavar="PIXELS",
            help="Side of the blocks, pixels; several times the buffer.",
        ),
    ] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of blocks or clusters.")] = 0,
    stratify: Annotated[
        bool, typer.Option("--stratify/--no-stratify", help="Give each fold its share of each class.")
    ] = True,
    polygons: Annotated[
        Path | None, typer.Option("--polygons", help="For --by polygons: a vector file with a column fold, any CRS.")
    ] = None,
    scenes: Annotated[
        Path | None, typer.Option("--scenes", help="For --by scenes: a CSV file with columns scene and fold.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the split as polygons: .parquet, .gpkg or .geojson.")
    ] = None,
    file_only: Annotated[bool, typer.Option("--file-only", help="Leave the store's split as it is.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: fail if two folds touch or are nearer than --buffer.")
    ] = False,
    patch_size: Annotated[
        int | None,
        typer.Option(
            "--patch-size",
            parser=parse_pixels,
            metavar="PIXELS",
            help="For --check of a store: measure patches of this size.",
        ),
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option("--train", help="For --check: rasters of train, folder or glob; repeatable.")
    ] = None,
    val: Annotated[list[str] | None, typer.Option("--val", help="For --check: rasters of val.")] = None,
    test: Annotated[list[str] | None, typer.Option("--test", help="For --check: rasters of test.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Split a store into train, val and test by place; or check any split for leakage."""
    show_warnings()
    files = {name: paths for name, paths in (("train", train), ("val", val), ("test", test)) if paths}
    if check:
        _check(data, files, buffer, patch_size, as_json)
        return
    import geosynth
    from geosynth.errors import SettingsError

    if data is None or files:
        raise SettingsError("--data STORE is needed; --train, --val and --test are for --check")
    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise SettingsError(f"--shares {shares}: three numbers are needed, as in 0.7,0.1,0.2") from error
    with progress_bar("split") as progress:
        result = geosynth.split(
            data,
            by=by,  # type: ignore[arg-type]  # checked there
            shares=parts,
            seed=seed,
            buffer=buffer,
            block_size=block_size,
            stratify=stratify,
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
    for store in result["stores"]:
        _print_store(store, len(result["stores"]) > 1)


def _print_store(store: dict[str, Any], named: bool) -> None:
    if named:
        typer.echo(f"{store['path']}:")
    folds = store["folds"]
    rows = [
        ("pixels", *(f"{values['pixels']:,}" for values in folds.values())),
        ("share of all", *(f"{values['share']:.1%}" for values in folds.values())),
        *(
            (name, *(f"{values['class_shares'][name]:.1%}" for values in folds.values()))
            for name in folds["train"]["class_shares"]
        ),
    ]
    print_table(("", *folds), rows)
    if store["file"]:
        typer.echo(store["file"])


def _check(data: Path | None, files: dict[str, list[str]], buffer: str, patch_size: int | None, as_json: bool) -> None:
    import geosynth
    from geosynth.errors import DataError

    leaks = geosynth.check_split(data, folds=files or None, distance=buffer, patch_size=patch_size)
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
