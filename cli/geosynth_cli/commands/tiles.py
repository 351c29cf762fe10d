"""geosynth tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geosynth_cli.console import print_json, print_table, progress_bar, show_warnings


def tiles(
    data: Annotated[Path, typer.Option("--data", help="A store made by `geosynth ingest`.")],
    fold: Annotated[str | None, typer.Option("--fold", help="train, val or test; without it all three.")] = None,
    size: Annotated[int, typer.Option("--size", help="Side of a tile, pixels.")] = 256,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Pixels from one tile to the next; half of --size if not given.")
    ] = None,
    edge: Annotated[
        str, typer.Option("--edge", help="align: one more tile that ends at a scene's far edge; skip: none there.")
    ] = "align",
    max_nodata: Annotated[
        float, typer.Option("--max-nodata", help="Share of a tile's pixels that may have no data, 0 to 1.")
    ] = 0.0,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write GeoTIFF pairs into this folder (without --fold: into a folder a fold)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Count the overlapping tiles of a store's folds, or write them as files.

    Tiles lie wholly in their fold. Training needs no files: tiles are views on the store.
    """
    import geosynth

    show_warnings()
    folds = [fold] if fold else ["train", "val", "test"]
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
            if counts[name] or fold:
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
