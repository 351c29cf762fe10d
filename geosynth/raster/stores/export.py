"""export_tiles: the tiles of a fold as GeoTIFF pairs in a folder, for programs that cannot read stores."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from geosynth.errors import DataError, OutputError, SettingsError
from geosynth.files import check_output, delete, output_path, refuse_foreign, refuse_inputs, writing
from geosynth.grid import Window, crop
from geosynth.grid.areas import boxes_of
from geosynth.grid.crs import crs_wkt
from geosynth.grid.vector import to_coordinates, write_table
from geosynth.inputs import as_list
from geosynth.legend import ClassIndices
from geosynth.progress import Progress, silent
from geosynth.raster.bands import colour_interpretation, photometric
from geosynth.raster.cog import writing_environment
from geosynth.raster.drivers import GDAL_ERRORS, check_can_write
from geosynth.raster.mark import mark_of, write_mark
from geosynth.raster.quantities import write_quantities
from geosynth.raster.read import Array, Mask
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tiles import TileView
from geosynth.raster.written import WrittenPixels
from geosynth.unfinished import UnfinishedWork

_MANIFEST = "export.json"
_INDEX = "index.parquet"
_GROUP = 64  # tiles of one row that are read together


def export_tiles(
    views: TileView | Sequence[TileView],
    out: str | Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Write each tile as `image/NAME.tif` and `labels/NAME.tif`, and a table of all tiles, `index.parquet`.

    Images keep values, quantities, dtype and band names; labels keep the legend's codes, with its colours and nodata.
    If a tile has pixels without data (which the views must allow), its image has a mask. The folder appears when it is
    complete; after an interruption the same call continues, see `UnfinishedWork`.

    Args:
        views: tiles of one fold; for several sources, a view of each.
        out: folder; it need not exist.
        overwrite: replace an earlier export of other tiles. Other folders are never replaced.
        threads: number of threads; None for the number of processors.
        progress: called with the number of finished tiles and of all tiles.

    Returns:
        `out`.

    Raises:
        DataError: if there is no tile, or if two tiles have the same name.
        OutputError: if the folder has other contents, or cannot be written.
        RasterError: if the source cannot be read.
    """
    out, views = output_path(out), [views] if isinstance(views, TileView) else as_list(views)
    if not views or not all(isinstance(view, TileView) for view in views):
        raise SettingsError("one or several TileView are needed; view_tiles makes them", setting="views")
    check_can_write()
    total = sum(map(len, views))
    if not total:
        raise DataError(f"{views[0].source.path}: no tile of {views[0].size} px lies wholly in fold {views[0].fold}")
    names = [[view.name(index) for index in range(len(view))] for view in views]
    if len(set(itertools.chain.from_iterable(names))) < total:
        raise DataError(f"{views[0].source.path}: two scenes have one name, so tiles would overwrite each other")
    refuse_inputs(out, [view.source.path for view in views])
    settings = [_settings(view) for view in views]
    if any(out.resolve().is_relative_to(Path(view.source.path).resolve()) for view in views):
        raise OutputError(f"{out}: is also an input and would be lost; choose another name")
    work = UnfinishedWork(out)
    if _is_there(work, settings, overwrite):
        return out
    rows = {_part(*row): row for number, view in enumerate(views) for row in _rows(number, view)}
    job = {name: [values[name] for values in settings] for name in settings[0]}
    with writing(out, *GDAL_ERRORS), work.open(job, len(rows)):
        for folder in ("image", "labels"):
            (work.result / folder).mkdir(parents=True, exist_ok=True)
        for leftover in work.result.glob(".*.partial*"):  # left by a kill while the index was written
            delete(leftover)
        export = _Export(tuple(views), names, work.result)
        work.do_parts(
            _Export.write_row, export, rows, threads=threads, progress=progress, size=lambda row: row[2] - row[1]
        )
        _write_index(views, names, work.result)
        (work.result / _MANIFEST).write_text(json.dumps(settings, indent=1), encoding="utf-8")
        work.finish()
    return out


def _is_there(work: UnfinishedWork, settings: list[dict[str, Any]], overwrite: bool) -> bool:
    """Whether the same export is finished already; refuses to replace another one unasked, or any other folder."""
    out = work.out
    work.check(overwrite=True)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    check_output(out / _MANIFEST, overwrite=True)
    refuse_foreign(out, _MANIFEST)
    with writing(out):
        is_same = (out / _MANIFEST).read_text(encoding="utf-8") == json.dumps(settings, indent=1)
    if not is_same and not overwrite:
        raise OutputError(f"{out}: holds tiles of other data or settings; choose another name or --overwrite")
    return is_same and (out / _INDEX).is_file()


def _settings(view: TileView) -> dict[str, Any]:
    """Everything that the tiles and their pixels depend on."""
    return {
        "source": view.source.path,
        "data": view.source.digest(view.fold),
        "legend": view.source.legend.model_dump(mode="json"),
        "bands": list(view.source.band_names),
        "fold": view.fold,
        "size": view.size,
        "stride": view.stride,
        "edge": view.edge,
        "max_nodata": view.max_nodata,
    }


def _part(number: int, first: int, stop: int) -> str:
    return f"{number}-{first}-{stop}"


def _rows(number: int, view: TileView) -> Iterator[tuple[int, int, int]]:
    """Runs of tiles in one row of a scene, at most a group each: (number of the view, first tile, end of tiles)."""
    if not len(view):
        return
    key = np.column_stack([view.scene_index, view.windows[:, 0]])
    edges = [0, *(np.flatnonzero((np.diff(key, axis=0) != 0).any(axis=1)) + 1).tolist(), len(view)]
    for start, stop in itertools.pairwise(edges):
        for first in range(start, stop, _GROUP):
            yield number, first, min(first + _GROUP, stop)


@dataclass(frozen=True)
class _Export:
    views: tuple[TileView, ...]
    names: Sequence[Sequence[str]]
    folder: Path

    def write_row(self, row: tuple[int, int, int]) -> None:
        """Write the tiles of a run, which are cut from one read."""
        number, first, stop = row
        source, windows = self.views[number].source, self.views[number][first:stop]
        strip = Window(windows[0].row, windows[0].column, windows[0].height, windows[-1].right - windows[0].column)
        image, labels = source.read(strip)
        for window, name in zip(windows, self.names[number][first:stop], strict=True):
            columns = slice(window.column - strip.column, window.right - strip.column)
            place = crop(source.geobox, window)
            _write_image(self.folder / "image" / f"{name}.tif", source, image[..., columns], labels[:, columns], place)
            _write_labels(self.folder / "labels" / f"{name}.tif", source, labels[:, columns], place)


def _write_image(path: Path, source: PatchSource, pixels: Array, labels: ClassIndices, place: GeoBox) -> None:
    bands = source.band_names
    profile = {
        "count": len(bands),
        "dtype": pixels.dtype,
        "predictor": 3 if pixels.dtype.kind == "f" else 2,
        "photometric": photometric(bands),
    }
    valid = labels < source.legend.num_classes
    with _new_tile(path, place, profile, pixels, None if valid.all() else valid) as dataset:
        dataset.colorinterp = colour_interpretation(bands)
        dataset.descriptions = bands
        write_quantities(dataset, source.quantities)
        if mark_of(source.synthetic):
            write_mark(dataset)


def _write_labels(path: Path, source: PatchSource, labels: ClassIndices, place: GeoBox) -> None:
    legend, codes = source.legend, source.legend.decode(labels)
    profile = {"count": 1, "dtype": codes.dtype, "nodata": legend.nodata_code}
    with _new_tile(path, place, profile, codes[np.newaxis]) as dataset:
        if codes.dtype in (np.uint8, np.uint16):  # TIFF has colour tables for no other types
            dataset.write_colormap(1, {entry.code: (*entry.rgb, 255) for entry in legend.classes})


@contextlib.contextmanager
def _new_tile(
    path: Path,
    place: GeoBox,
    profile: dict[str, Any],
    pixels: Array,
    valid: Mask | None = None,
) -> Iterator[Any]:
    """A GeoTIFF that can be described in the context, before its pixels (bands, height, width) are written.

    GDAL makes it in memory, because on a full disk it does not report errors, and libtiff prints lines of its own.
    """
    height, width = place.shape
    common = {"driver": "GTiff", "height": height, "width": width, "compress": "deflate", "blockysize": height}
    with (
        writing_environment(),
        MemoryFile(ext=".tif") as file,
    ):
        with file.open(crs=crs_wkt(place.crs), transform=place.affine, **{**common, **profile}) as dataset:
            yield dataset
            dataset.write(pixels)
            if valid is not None:
                dataset.write_mask(valid)
        written = WrittenPixels()
        written.add(Window(0, 0, height, width), pixels, valid)
        written.check(file.name)
        path.write_bytes(file.getbuffer())


def _write_index(views: Sequence[TileView], names: list[list[str]], out: Path) -> None:
    tables = []
    for view, of_view in zip(views, names, strict=True):
        values = {
            "name": of_view,
            "fold": view.fold,
            "scene": [view.scene_of(index).name for index in range(len(view))],
            "row": view.windows[:, 0],
            "column": view.windows[:, 1],
            "image": [f"image/{name}.tif" for name in of_view],
            "labels": [f"labels/{name}.tif" for name in of_view],
        }
        geobox = view.source.geobox
        places = to_coordinates(boxes_of(view.windows), geobox)
        tables.append(gpd.GeoDataFrame(values, geometry=places, crs=crs_wkt(geobox.crs)))
    first = tables[0]
    moved = [table.to_crs(first.crs) if first.crs and table.crs else table for table in tables]
    write_table(pd.concat(moved, ignore_index=True), out / _INDEX)
