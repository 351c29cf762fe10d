"""export_tiles: the tiles of a fold as GeoTIFF pairs, for tools that want files."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import shapely
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from geosynth.errors import DataError, OutputError
from geosynth.grid import Window
from geosynth.grid.vector import to_coordinates, write_table
from geosynth.outputs import check_output, writing
from geosynth.raster.class_table import label_profile
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tile_view import TileView

Progress = Callable[[int, int], None]

_MANIFEST = "export.json"
_INDEX = "index.parquet"
_GROUP = 64  # tiles of one row that are read as one strip
_COLOURS = {name: getattr(ColorInterp, name) for name in ("red", "green", "blue", "nir") if hasattr(ColorInterp, name)}


def export_tiles(
    views: Sequence[TileView],
    out: str | Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Write each tile as `image/NAME.tif` and `labels/NAME.tif`, and a table `index.parquet` of all.

    Images keep values, dtype and band names; labels keep the legend's codes, with its colours and nodata. Where a tile
    has pixels without data (only if the views allow it) the image has a mask. Run again after an interruption, it goes
    on with the tiles that are missing; the index is written last, so a folder that has one is whole.

    Args:
        views: tiles of one fold, of each source.
        out: folder; it need not exist.
        overwrite: replace an earlier export of other tiles. Other folders are never replaced.
        threads: None: as many as there are processors.
        progress: told tiles done and tiles in all.

    Returns:
        The folder.

    Raises:
        DataError: if there is no tile, or two have one name.
        OutputError: if the folder holds something else, or cannot be written.
        RasterError: if the source cannot be read.
    """
    out = Path(out)
    total = sum(map(len, views))
    if not total:
        raise DataError(f"{views[0].source.path}: no tile of {views[0].size} px lies wholly in fold {views[0].fold}")
    names = [[view.name(index) for index in range(len(view))] for view in views]
    if len(set(itertools.chain.from_iterable(names))) < total:
        raise DataError(f"{views[0].source.path}: two scenes have one name, so tiles would overwrite each other")
    _start(out, views, overwrite)
    done, lock = itertools.count(1), threading.Lock()

    def write(view: TileView, start: int, stop: int, group: list[str]) -> None:
        for _ in _write_group(view, start, stop, group, out):
            with lock:
                progress(next(done), total)

    jobs = (
        (view, start, stop, of_view[start:stop])
        for view, of_view in zip(views, names, strict=True)
        for start, stop in _rows(view)
    )
    _run(write, jobs, threads)
    _write_index(views, names, out)
    return out


def _start(out: Path, views: Sequence[TileView], overwrite: bool) -> None:
    """Make the folder, or find there what an earlier run with the same settings left."""
    manifest = out / _MANIFEST
    wanted = json.dumps([_settings(view) for view in views], indent=1)
    check_output(out, overwrite=True)
    with writing(out):
        if manifest.is_file():
            if manifest.read_text(encoding="utf-8") == wanted:
                return
            if not overwrite:
                raise OutputError(f"{out}: holds tiles of other data or settings; choose another name or --overwrite")
            (out / _INDEX).unlink(missing_ok=True)
            for folder in ("image", "labels"):
                shutil.rmtree(out / folder, ignore_errors=True)
        elif out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out}: is a folder that holds something else; choose another name")
        for folder in ("image", "labels"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        manifest.write_text(wanted, encoding="utf-8")


def _settings(view: TileView) -> dict[str, Any]:
    """What decides the tiles and their pixels."""
    source = view.source
    scenes = [(scene.name, str(scene.window), scene.image_sha256, scene.labels_sha256) for scene in source.scenes]
    return {
        "source": source.path,
        "data": hashlib.sha256(json.dumps([source.split.to_values(), scenes]).encode()).hexdigest(),
        "legend": source.legend.model_dump(mode="json"),
        "bands": list(source.band_names),
        "fold": view.fold,
        "size": view.size,
        "stride": view.stride,
        "edge": view.edge,
        "max_nodata": view.max_nodata,
    }


def _rows(view: TileView) -> Iterator[tuple[int, int]]:
    """Runs of tiles of one scene and one row, no longer than a group: what is read as one strip."""
    if not len(view):
        return
    key = np.column_stack([view.scene_index, view.windows[:, 0]])
    edges = [0, *(np.flatnonzero((np.diff(key, axis=0) != 0).any(axis=1)) + 1).tolist(), len(view)]
    for start, stop in itertools.pairwise(edges):
        for first in range(start, stop, _GROUP):
            yield first, min(first + _GROUP, stop)


def _run(write: Callable[..., None], jobs: Iterable[tuple[Any, ...]], threads: int | None) -> None:
    """A few jobs ahead of the threads, so that an error or Ctrl-C ends the export soon."""
    pool = ThreadPoolExecutor(threads)
    try:
        running = set()
        for job in jobs:
            running.add(pool.submit(write, *job))
            if len(running) >= 32:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    future.result()
        for future in running:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_group(view: TileView, start: int, stop: int, names: list[str], out: Path) -> Iterator[None]:
    """Write tiles `start` to `stop`, which lie in one row; yields once a tile."""
    source, windows = view.source, view[start:stop]
    files = [(out / "image" / f"{name}.tif", out / "labels" / f"{name}.tif") for name in names]
    missing = [i for i, pair in enumerate(files) if not all(file.exists() for file in pair)]
    yield from (None for _ in range(len(files) - len(missing)))
    if not missing:
        return
    first, last = windows[missing[0]], windows[missing[-1]]
    strip = Window(first.row, first.column, first.height, last.right - first.column)
    image, labels = source.read_image(strip), source.read_labels(strip)
    for index in missing:
        window = windows[index]
        columns = slice(window.column - strip.column, window.right - strip.column)
        transform = source.geobox.affine * Affine.translation(window.column, window.row)
        _write_image(files[index][0], source, image[..., columns], labels[:, columns], transform)
        _write_labels(files[index][1], source, labels[:, columns], transform)
        yield


def _write_image(
    path: Path, source: PatchSource, pixels: npt.NDArray[Any], labels: npt.NDArray[np.uint8], transform: Affine
) -> None:
    bands = source.band_names
    profile = {
        "count": len(bands),
        "dtype": pixels.dtype,
        "photometric": "rgb" if bands[:3] == ("red", "green", "blue") else "minisblack",
        "predictor": 3 if pixels.dtype.kind == "f" else 2,
        # Without this GDAL takes the band after blue for transparency.
        **({"alpha": "no"} if len(bands) > 1 else {}),
    }
    with _new_tile(path, source, labels.shape, transform, profile) as dataset:
        dataset.colorinterp = [_COLOURS.get(name, ColorInterp.undefined) for name in bands]
        dataset.descriptions = bands
        dataset.write(pixels)
        valid = labels < source.legend.num_classes
        if not valid.all():
            dataset.write_mask(valid)


def _write_labels(path: Path, source: PatchSource, labels: npt.NDArray[np.uint8], transform: Affine) -> None:
    legend = source.legend
    profile = label_profile(legend, legend.nodata_code)
    with _new_tile(path, source, labels.shape, transform, profile) as dataset:
        if profile["dtype"] in ("uint8", "uint16"):  # TIFF has no other colour tables
            dataset.write_colormap(1, {entry.code: (*entry.rgb, 255) for entry in legend.classes})
        dataset.write(legend.decode(labels, legend.nodata_code).astype(profile["dtype"]), 1)


@contextlib.contextmanager
def _new_tile(
    path: Path, source: PatchSource, shape: tuple[int, ...], transform: Affine, profile: dict[str, Any]
) -> Iterator[Any]:
    """A GeoTIFF that appears under its name when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    height, width = shape
    common = {"driver": "GTiff", "height": height, "width": width, "compress": "deflate", "blockysize": height}
    crs = source.geobox.crs.to_wkt() if source.geobox.crs else None
    try:
        with writing(path, RasterioError), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with rasterio.open(partial, "w", crs=crs, transform=transform, **{**common, **profile}) as dataset:
                yield dataset
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_index(views: Sequence[TileView], names: list[list[str]], out: Path) -> None:
    tables = []
    for view, of_view in zip(views, names, strict=True):
        row, column, height, width = view.windows.T
        boxes = shapely.box(column, row, column + width, row + height)
        values = {
            "name": of_view,
            "fold": view.fold,
            "scene": [view.scene_of(index).name for index in range(len(view))],
            "row": row,
            "column": column,
            "image": [f"image/{name}.tif" for name in of_view],
            "labels": [f"labels/{name}.tif" for name in of_view],
        }
        geobox = view.source.geobox
        crs = geobox.crs.to_wkt() if geobox.crs else None
        tables.append(gpd.GeoDataFrame(values, geometry=[to_coordinates(box, geobox) for box in boxes], crs=crs))
    first = tables[0]
    moved = [table.to_crs(first.crs) if first.crs and table.crs else table for table in tables]
    write_table(pd.concat(moved, ignore_index=True), out / _INDEX)
