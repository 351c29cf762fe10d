"""ingest: image and label files on one pixel grid into one chunked Zarr store, without changing a pixel."""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
from dask.callbacks import Callback
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError, OutputError
from geosynth.grid import SpatialSplit, TilePlan, Window, offset_in
from geosynth.legend import CodeCounts, Legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Raster, open_raster
from geosynth.raster.store import Scene, Store

Paths = str | Path | Sequence[str | Path]
Progress = Callable[[int, int], None]

_CHUNK_SIZE = 256
_RASTER_SUFFIXES = {".tif", ".tiff", ".vrt", ".img", ".jp2"}
_COLOUR_NAMES = {"red", "green", "blue", "nir", "gray", "undefined"}


@dataclass(frozen=True, slots=True)
class _Pair:
    image: Raster
    labels: LabelRaster
    window: Window  # on the store's grid


def ingest(
    images: Paths,
    labels: Paths,
    out: str | Path,
    *,
    legend: str | Path | Legend = "chesapeake",
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    shares: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Store:
    """Copy aligned image and label rasters into one store; touching scenes share a fold.

    Where scenes overlap, the later one (by name) wins. Nothing is resampled.

    Args:
        images, labels: files, folders or globs; paired by file name, or one by one if there is one of each.
        out: folder of the store; written under a temporary name and renamed when whole.
        legend: of the store.
        label_legend: of the label files, if their codes differ; classes are matched by name.
        bands: names of the image bands; needed where a file does not tell them.
        shares: of the folds train, val, test.
        seed: of the split.

    Raises:
        DataError, GridError, LegendError, RasterError, OutputError: one line each.
    """
    target = legend if isinstance(legend, Legend) else Legend.load(legend)
    source = target if label_legend is None else label_legend
    source = source if isinstance(source, Legend) else Legend.load(source)
    source = source.translation_to(target)
    out = Path(out)
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already; choose another name or say --overwrite")

    files = _pair_files(_expand(images, "images"), _expand(labels, "labels"))
    pairs, geobox = _place([(open_raster(image), LabelRaster(label, source)) for image, label in files])
    band_names = _band_names(pairs[0].image, bands)
    _check_alike([pair.image for pair in pairs], len(band_names))
    counts = [pair.labels.check_codes() for pair in pairs]
    split = SpatialSplit.by_cluster([pair.window for pair in pairs], shares, seed)
    scenes = [_scene(pair, fold, count, source) for pair, fold, count in zip(pairs, split.folds, counts, strict=True)]

    partial = out.with_name(out.name + ".partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        store = Store.create(
            partial,
            geobox,
            legend=target,
            nodata=_nodata_code(target),
            band_names=band_names,
            dtype=pairs[0].image.dtype,
            scenes=scenes,
            chunk_size=_CHUNK_SIZE,
        )
        _fill(store, pairs, progress)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except PermissionError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Store(out)


def _expand(paths: Paths, what: str) -> list[Path]:
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    found: list[Path] = []
    for entry in listed:
        path = Path(entry)
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in _RASTER_SUFFIXES)
        elif glob.has_magic(str(entry)):
            found += sorted(Path(name) for name in glob.glob(str(entry), recursive=True))
        else:
            found.append(path)
    if not found:
        raise DataError(f"{what}: no raster files in {', '.join(map(str, listed))}")
    return found


def _pair_files(images: list[Path], labels: list[Path]) -> list[tuple[Path, Path]]:
    if len(images) == len(labels) == 1:
        return [(images[0], labels[0])]
    by_name = {path.stem: path for path in labels}
    lonely = [path.name for path in images if path.stem not in by_name]
    lonely += sorted(set(by_name) - {path.stem for path in images})
    if lonely:
        shown = ", ".join(lonely[:5]) + (" ..." if len(lonely) > 5 else "")
        raise DataError(f"images and labels are paired by file name; {len(lonely)} have no partner: {shown}")
    return [(path, by_name[path.stem]) for path in images]


def _place(files: list[tuple[Raster, LabelRaster]]) -> tuple[list[_Pair], GeoBox]:
    """Put all scenes on the pixel grid of the first one, and span them with one geobox."""
    first = files[0][0].geobox
    windows = []
    for image, labels in files:
        same_place = offset_in(image.geobox, labels.raster.geobox, labels.raster.path) == (0, 0)
        if not same_place or image.geobox.shape != labels.raster.geobox.shape:
            raise GridError(f"{labels.raster.path}: does not cover the same pixels as {image.path}")
        row, column = offset_in(first, image.geobox, image.path)
        windows.append(image.window.shift(row, column))
    top, left = min(window.row for window in windows), min(window.column for window in windows)
    bottom, right = max(window.bottom for window in windows), max(window.right for window in windows)
    transform = first.affine * first.affine.translation(left, top)
    geobox = GeoBox((bottom - top, right - left), transform, first.crs)
    pairs = [
        _Pair(image, labels, window.shift(-top, -left)) for (image, labels), window in zip(files, windows, strict=True)
    ]
    return pairs, geobox


def _band_names(image: Raster, bands: Sequence[str] | None) -> tuple[str, ...]:
    if bands is not None:
        if len(bands) != image.count:
            raise DataError(f"{image.path}: has {image.count} bands, but {len(bands)} names are given")
        return tuple(bands)
    described = [name for name in image.band_names if name]
    names = described if len(described) == image.count else list(image.colour_interpretation)
    if len(set(names)) < image.count or (not set(names) <= _COLOUR_NAMES and not described):
        raise DataError(
            f"{image.path}: its bands are marked {', '.join(names)}; say what they are, as in --bands red,green,blue,nir"
        )
    return tuple(names)


def _check_alike(images: Iterable[Raster], count: int) -> None:
    first: Raster | None = None
    for image in images:
        first = first or image
        if image.count != count or set(image.dtypes) != {first.dtypes[0]}:
            raise DataError(
                f"{image.path}: {image.count} bands of {'/'.join(sorted(set(image.dtypes)))}, but {first.path} has"
                f" {count} of {first.dtypes[0]}; ingest them into separate stores"
            )


def _scene(pair: _Pair, fold: str, counts: CodeCounts, legend: Legend) -> Scene:
    return Scene(
        name=Path(pair.image.path).name,
        window=pair.window,
        fold=fold,
        class_pixels=tuple(counts.get(code, 0) for code in legend.codes),
        image_sha256=_sha256(pair.image.path),
        labels_sha256=_sha256(pair.labels.raster.path),
    )


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nodata_code(legend: Legend) -> int:
    """The legend's last nodata code, else the smallest code from 255 down that no class has."""
    if legend.nodata:
        return legend.nodata[-1]
    return next(code for code in range(255, -1, -1) if code not in legend.codes)


def _fill(store: Store, pairs: list[_Pair], progress: Progress) -> None:
    """One task a chunk, so that no two tasks write into one chunk."""
    tasks = []
    chunk_height, chunk_width = store.labels.chunks
    size = max(chunk_height, chunk_width)
    for window in _touched(TilePlan(*store.geobox.shape, size), pairs):
        overlapping = [pair for pair in pairs if pair.window.intersection(window)]
        tasks.append(dask.delayed(_fill_chunk)(store, window, overlapping))

    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        progress(min(done, len(tasks)), len(tasks))

    with Callback(posttask=count):
        dask.compute(*tasks, scheduler="threads", optimize_graph=False)


def _touched(plan: TilePlan, pairs: list[_Pair]) -> list[Window]:
    """Blocks of the plan that hold a part of a scene: found scene by scene, since the grid may be mostly empty."""
    blocks = set()
    for pair in pairs:
        for row in range(pair.window.row // plan.size, (pair.window.bottom - 1) // plan.size + 1):
            for column in range(pair.window.column // plan.size, (pair.window.right - 1) // plan.size + 1):
                top, left = row * plan.size, column * plan.size
                height, width = min(plan.size, plan.height - top), min(plan.size, plan.width - left)
                blocks.add(Window(top, left, height, width))
    return sorted(blocks)


def _fill_chunk(store: Store, window: Window, pairs: list[_Pair]) -> None:
    image = np.zeros((len(store.band_names), window.height, window.width), dtype=store.image.dtype)
    indices = np.full((window.height, window.width), store.legend.num_classes, dtype=np.uint8)
    for pair in pairs:
        part = pair.window.intersection(window)
        assert part is not None
        local = part.shift(-pair.window.row, -pair.window.column)
        place = part.shift(-window.row, -window.column).slices
        image[(slice(None), *place)] = pair.image.read(local)
        # Band names are known here, so a fourth band that GDAL marks alpha is data.
        has_image = pair.image.read_valid(local, trust_alpha=False)
        codes, has_label = pair.labels.read_codes(local)
        encoded = pair.labels.legend.encode(codes)
        indices[place] = np.where(has_image & has_label, encoded, store.legend.num_classes)
    store.write(window, image, store.legend.decode(indices, store.nodata).astype(store.labels.dtype))
