"""Painting: generate, twin."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geosynth_cli.console import print_json, progress_bar
from geosynth_cli.options import (
    AsJson,
    Device,
    LineWidth,
    Look,
    ModelOrEmbedded,
    Overwrite,
    PaintPrecision,
    PaintSeed,
    Scheduler,
    StoreOrFiles,
    StyleLength,
    VectorLayer,
    Workers,
    given,
    input_option,
    output_option,
    parse_factors,
    parse_names,
    parse_width,
    pixels_option,
    refuse_idle,
)

if TYPE_CHECKING:
    from geosynth.progress import Progress


def generate(
    labels: Annotated[
        str,
        input_option(
            "--labels",
            "Label raster (GeoTIFF, VRT, Zarr); a folder or glob of tiles is one mosaic. With --column: a vector file.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The image: .tif (Cloud Optimized GeoTIFF) or .zarr.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out-dir", help="Folder for one image per label file; finished ones are skipped.")
    ] = None,
    model: ModelOrEmbedded = None,
    legend: Annotated[
        str | None,
        input_option(
            "--legend",
            "Legend of --labels and --style-labels: a name, a YAML file, or from-raster (their own class tables).",
            "chesapeake",
            "from-raster",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", help="For a vector file as --labels: its column with class names or codes."),
    ] = None,
    layer: VectorLayer = None,
    width: LineWidth = None,
    resolution: Annotated[
        float | None,
        typer.Option("--resolution", help="For a vector file: pixel size, metres; without it, the model's."),
    ] = None,
    crs: Annotated[
        str | None, typer.Option("--crs", help="For a vector file: CRS of the image; without it, that of the features.")
    ] = None,
    unknown: Annotated[
        str, typer.Option("--unknown", help="What to do with codes that are not in the legend: error or nodata.")
    ] = "error",
    resample: Annotated[
        str | None,
        typer.Option("--resample-labels", help="Resample labels to the model's pixel size: mode or nearest."),
    ] = None,
    seed: PaintSeed = 0,
    samples: Annotated[
        int,
        typer.Option("--samples", help="Number of realisations: NAME_0.tif, NAME_1.tif, ...; a dimension in .zarr."),
    ] = 1,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="Also write NAME_summary.tif: mean and deviation of the samples, spread of NDVI."
        ),
    ] = False,
    look: Look = None,
    style_from: Annotated[
        list[str] | None,
        input_option("--style-from", "An image whose look (colours, season, sensor) to take; repeatable."),
    ] = None,
    style_labels: Annotated[
        list[str] | None,
        input_option(
            "--style-labels",
            "Labels of that image, one for each, so that each class takes its own look. If their legend is another one"
            " than that of --labels: `geosynth looks add`, and --look.",
        ),
    ] = None,
    style_bands: Annotated[
        str | None,
        typer.Option(
            "--style-bands", help="Names of the bands of that image, or of those to take; see `ingest --bands`."
        ),
    ] = None,
    style_length: StyleLength = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="cog or zarr; without it, the name of --out decides.")
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option("--compress", help="Of a GeoTIFF: deflate (default), zstd or lzw. Zarr is always zstd."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Also write a PNG beside the image.")] = False,
    stac: Annotated[bool, typer.Option("--stac", help="Also write a STAC item beside the image.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    mosaic: Annotated[
        str | None, typer.Option("--mosaic", help="exact or blend; without it, exact if the model allows it.")
    ] = None,
    overlap: Annotated[
        int | None, pixels_option("--overlap", "Overlap of windows in blend mode, pixels; default 64.")
    ] = None,
    block_size: Annotated[
        int | None, pixels_option("--block-size", "Side of the square that is read, painted and kept at once, pixels.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Choose the block size to fit this memory, as in 4GB.")
    ] = None,
    precision: PaintPrecision = "auto",
    device: Device = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Paint synthetic images for label rasters, on exactly their grid. If interrupted, the same command continues."""
    import geosynth

    target = _target(out, out_dir, format_)
    if out is not None and str(out) != labels and (samples == 1 or out.suffix == ".zarr"):  # files of samples: NAME_0
        geosynth.check_place(out, overwrite=overwrite)
    settings = geosynth.GenerateSettings.parse(
        given(
            seed=seed,
            style_length=style_length,
            look=look,
            mosaic=mosaic,
            overlap=overlap,
            block_size=block_size,
            max_memory=max_memory,
            precision=precision,
            device=device,
            compress=compress,
            unknown=unknown,
            resample=resample,
            preview=preview,
            stac=stac,
        )
    )
    start = time.monotonic()
    with (
        progress_bar("generate") as update,
        _labels(
            labels, column, update, model, legend, layer=layer, width=width, resolution=resolution, crs=crs
        ) as source,
    ):
        images = geosynth.generate_many(
            source,
            target,
            model,
            settings,
            each=out_dir is not None,
            samples=samples,
            summary=summary,
            style=style_from or None,
            style_labels=style_labels or None,
            style_bands=parse_names(style_bands),
            legend=legend,
            overwrite=overwrite,
            scheduler=scheduler,
            workers=workers,
            progress=lambda stage, done, total: update(done, total),
        )
    if as_json:
        print_json(_summary(images, time.monotonic() - start))
    else:
        for image in images:
            typer.echo(str(image))


@contextlib.contextmanager
def _labels(
    labels: str,
    column: str | None,
    update: Progress,
    model: str | None,
    legend: str | None,
    *,
    layer: str | None,
    width: str | None,
    resolution: float | None,
    crs: str | None,
) -> Iterator[Any]:
    """The labels as named; features of a vector file as a raster with the model's pixel size and legend."""
    import geosynth
    from geosynth.errors import SettingsError

    if column is None:
        refuse_idle(
            "without --column, of vector labels", True, layer=layer, width=width, resolution=resolution, crs=crs
        )
        yield labels
        return
    options: dict[str, Any] = {"layer": layer, "width": parse_width(width), "crs": crs}
    geosynth.VectorLabels.check(labels, column, resolution=resolution, **options)  # before a model is loaded
    described = geosynth.info(model)
    if (pixel := described["gsd"] if resolution is None else resolution) is None:
        raise SettingsError("the model has no pixel size; give --resolution")
    with geosynth.VectorLabels(
        labels,
        column,
        legend or geosynth.Legend.from_values(described["legend"]),
        resolution=pixel,
        **options,
        progress=lambda stage, done, total: update(done, total),
    ) as raster:
        yield raster


def _target(out: Path | None, out_dir: Path | None, format_: str | None) -> Path:
    """The output for the images, if the three options agree."""
    from geosynth.errors import SettingsError

    target = out if out is not None else out_dir
    if target is None or None not in (out, out_dir):
        raise SettingsError("give --out FILE, or --out-dir FOLDER for one image per label file")
    if format_ not in (None, "cog", "zarr"):
        raise SettingsError(f"--format {format_}: cog or zarr")
    if format_ == "zarr" and out is None:
        raise SettingsError("--out-dir makes GeoTIFFs; use --out NAME.zarr for a Zarr store")
    if out is not None and format_ is not None and (format_ == "zarr") != (out.suffix == ".zarr"):
        raise SettingsError(f"--format {format_} does not fit --out {out}; a Zarr store ends in .zarr, a COG in .tif")
    return target


def _summary(images: list[Path], seconds: float) -> dict[str, Any]:
    """A summary of what was made, from the files themselves; the time is that of the whole command."""
    import geosynth

    described, painted = [], 0.0
    for image in images:
        found = geosynth.info(image)
        tags = found["tags"]
        described.append(
            {
                "path": str(image),
                "bytes": _size(image),
                "height": found["height"],
                "width": found["width"],
                "seed": int(tags["GEOSYNTH_SEED"]),
                "model": tags["GEOSYNTH_MODEL"],
                "model_sha256": tags["GEOSYNTH_MODEL_SHA256"],
                "class_pixels": json.loads(tags["GEOSYNTH_CLASS_PIXELS"]),
            }
        )
        painted += 0 if "GEOSYNTH_SUMMARY" in tags else found["height"] * found["width"] / 1e6
    return {
        "seconds": round(seconds, 3),
        "megapixels_per_second": round(painted / seconds, 4),
        "images": described,
    }


def _size(image: Path) -> int:
    """Size in bytes of a file, or of all files in a Zarr store."""
    files = image.rglob("*") if image.is_dir() else [image]
    return sum(file.stat().st_size for file in files if file.is_file())


def twin(
    data: StoreOrFiles,
    out: Annotated[Path, output_option("The twin, a store (a folder, .zarr).")],
    model: ModelOrEmbedded = None,
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="train, val or test; repeatable; without it, all.")
    ] = None,
    emphasise: Annotated[
        list[str] | None,
        typer.Option(
            "--emphasise",
            metavar="CLASS=TIMES",
            help="Recombine tiles of the labels of one fold (train), so that a class occurs so many times as often, as"
            " in roads=3; repeatable.",
        ),
    ] = None,
    tile_size: Annotated[
        int | None, pixels_option("--tile-size", "Side of a tile of recombined labels, pixels; default 256.")
    ] = None,
    num_tiles: Annotated[
        int | None,
        typer.Option("--tiles", help="Number of tiles of recombined labels; without it, as many as the fold has."),
    ] = None,
    judge: Annotated[
        str | None,
        input_option(
            "--judge",
            "A segmenter trained on real tiles: pixels whose class it strongly doubts get no data in the twin.",
        ),
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option("--agreement", help="The smallest probability that the judge must give a class; default 0.05."),
    ] = None,
    seed: PaintSeed = 0,
    look: Look = None,
    style_length: StyleLength = None,
    precision: PaintPrecision = "auto",
    device: Device = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Paint a synthetic copy of a store: the same places, labels and split, but synthetic images."""
    import geosynth

    refuse_idle("without --emphasise", not emphasise, tile_size=tile_size, tiles=num_tiles)
    refuse_idle("without --judge", judge is None, agreement=agreement)
    settings = geosynth.GenerateSettings.parse(
        given(seed=seed, look=look, style_length=style_length, precision=precision, device=device)
    )
    with progress_bar("twin") as update:
        path = geosynth.twin(
            data,
            out,
            model,
            settings,
            folds=fold,
            emphasise=parse_factors(emphasise) if emphasise else None,
            judge=geosynth.load_segmenter(judge, device) if judge else None,
            **given(tile_size=tile_size, num_tiles=num_tiles, agreement=agreement),
            overwrite=overwrite,
            scheduler=scheduler,
            workers=workers,
            progress=lambda stage, done, total: update(done, total),
        )
    typer.echo(str(path))
