"""ingest: image and label files on one pixel grid into one chunked Zarr store, without changing a pixel."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import numpy.typing as npt
from dask.callbacks import Callback

from geosynth.errors import OutputError, RasterError
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend
from geosynth.outputs import check_output, writing
from geosynth.raster.pairs import Pair, Paths, common_bands, find_pairs
from geosynth.raster.read import Array
from geosynth.raster.store import Scene, Store, is_store

Progress = Callable[[int, int], None]

_Counts = list[tuple[int, npt.NDArray[np.int64]]]  # of a chunk: position of a pair, its pixels of each class

_CHUNK_SIZE = 256


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

    Where scenes overlap, the later one (in the order given, by name in a folder) wins, but its nodata does not. Nothing
    is resampled. The store's `image` holds the values of the files; its `labels` are nodata wherever image or label is.

    Args:
        images: files, folders or globs.
        labels: likewise; paired with images by file name without suffix, or one to one if there is one of each.
        out: folder of the store; written under a temporary name and renamed when whole.
        legend: of the store.
        label_legend: of the label files, if their codes differ; classes are matched by name.
        bands: names of the image bands; needed where a file does not tell them.
        shares: of the folds train, val, test.
        seed: of the split.
        overwrite: replace a store at `out`, once the new one is whole.
        progress: told chunks done and chunks in all.

    Raises:
        DataError, GridError, LegendError, RasterError, OutputError: one line each.
    """
    target = Legend.load(legend)
    source = (target if label_legend is None else Legend.load(label_legend)).translation_to(target)
    out = Path(out)
    _check_output(out, overwrite)

    pairs, geobox = find_pairs(images, labels, source)
    band_names = common_bands([pair.image for pair in pairs], bands)
    split = SpatialSplit.by_cluster([pair.window for pair in pairs], shares, seed)
    for pair in pairs:
        pair.labels.check_codes()
    scenes = [_scene(pair, fold) for pair, fold in zip(pairs, split.folds, strict=True)]

    partial = out.with_name(out.name + ".partial")
    try:
        with writing(out):
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
            pixels = _fill(store, pairs, progress)
            store.set_scenes(
                [replace(scene, class_pixels=tuple(row.tolist())) for scene, row in zip(scenes, pixels, strict=True)]
            )
            _move(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Store(out)


def _check_output(out: Path, overwrite: bool) -> None:
    check_output(out, overwrite=overwrite)
    if (out.exists() or out.is_symlink()) and not is_store(out):
        raise OutputError(f"{out}: is not a geosynth store and will not be overwritten; choose another name")


def _move(partial: Path, out: Path) -> None:
    """Give the whole store its name; an old one goes only then."""
    if not out.exists():
        partial.rename(out)
        return
    old = out.with_name(out.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    try:
        partial.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _scene(pair: Pair, fold: str) -> Scene:
    return Scene(
        name=Path(pair.image.path).name,
        window=pair.window,
        fold=fold,
        class_pixels=(),  # counted while the store is filled
        image_sha256=_sha256(pair.image.path),
        labels_sha256=_sha256(pair.labels.raster.path),
    )


def _sha256(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RasterError(f"{path}: cannot be read as a local file: {error.strerror}") from error


def _nodata_code(legend: Legend) -> int:
    """The legend's last nodata code, else the largest code up to 255 that no class has."""
    if legend.nodata:
        return legend.nodata[-1]
    return next(code for code in range(255, -1, -1) if code not in legend.codes)


def _fill(store: Store, pairs: list[Pair], progress: Progress) -> npt.NDArray[np.int64]:
    """Write all chunks and return (pairs, classes): pixels of each class with imagery.

    One task a chunk, so that no two tasks write into one chunk; memory is a few chunks a thread.
    """
    pixels = np.zeros((len(pairs), store.legend.num_classes), dtype=np.int64)
    chunks = _chunks(store, pairs)
    done = itertools.count(1)
    tasks = [
        dask.delayed(functools.partial(_fill_chunk, store, window, pairs, present), pure=False)()
        for window, present in sorted(chunks.items())
    ]
    # A pool of our own: after an error or Ctrl-C nobody may write into a folder that is being removed.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with Callback(posttask=lambda *_: progress(next(done), len(tasks))):
            filled = dask.compute(*tasks, scheduler="threads", pool=pool, optimize_graph=False)
    finally:
        pool.shutdown(cancel_futures=True)
    for position, counts in itertools.chain.from_iterable(filled):
        pixels[position] += counts
    return pixels


def _chunks(store: Store, pairs: list[Pair]) -> dict[Window, list[int]]:
    """Chunks that hold a part of a scene, with the positions of those pairs; the grid may be mostly empty."""
    height, width = store.geobox.shape
    rows, columns = store.labels.chunks
    chunks: dict[Window, list[int]] = {}
    for position, pair in enumerate(pairs):
        for top in range(pair.window.row // rows * rows, pair.window.bottom, rows):
            for left in range(pair.window.column // columns * columns, pair.window.right, columns):
                chunk = Window(top, left, min(rows, height - top), min(columns, width - left))
                chunks.setdefault(chunk, []).append(position)
    return chunks


def _fill_chunk(store: Store, window: Window, pairs: list[Pair], present: list[int]) -> _Counts:
    no_class = store.legend.num_classes
    image = np.zeros((len(store.band_names), window.height, window.width), dtype=store.image.dtype)
    indices = np.full((window.height, window.width), no_class, dtype=np.uint8)
    counts: _Counts = []
    for position in present:
        pair = pairs[position]
        part = pair.window.intersection(window)
        assert part is not None
        values, found = _read_pair(pair, part.shift(-pair.window.row, -pair.window.column), no_class)
        counts.append((position, np.bincount(found.ravel(), minlength=no_class + 1)[:no_class]))
        rows, columns = part.shift(-window.row, -window.column).slices
        taken = (found < no_class) | (indices[rows, columns] == no_class)  # never erase an earlier scene by nodata
        image[:, rows, columns] = np.where(taken, values, image[:, rows, columns])
        indices[rows, columns] = np.where(taken, found, indices[rows, columns])
    store.write(window, image, store.legend.decode(indices, store.nodata).astype(store.labels.dtype))
    return counts


def _read_pair(pair: Pair, local: Window, no_class: int) -> tuple[Array, npt.NDArray[np.uint8]]:
    """Image values, and class indices where both files have data (else `no_class`)."""
    values = pair.image.read(local)
    # Band names are known here, so a fourth band that GDAL marks alpha is data. NaN never is.
    has_image = pair.image.read_valid(local, trust_alpha=False)
    if np.issubdtype(values.dtype, np.floating):
        has_image &= ~np.isnan(values).any(axis=0)
    codes, has_label = pair.labels.read_codes(local)
    return values, np.where(has_image & has_label, pair.labels.legend.encode(codes), no_class).astype(np.uint8)
