"""Label files: opening what a user passes as labels, finding the legend that reads it, writing label rasters."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from geosynth.errors import LegendError, OutputError, RasterError, first_of
from geosynth.files import refuse_folder, refuse_inputs
from geosynth.grid import Window
from geosynth.legend import ClassIndices, Legend, plain
from geosynth.raster.class_table import (
    ClassTable,
    legend_of_table,
    read_class_table,
    write_attribute_table,
)
from geosynth.raster.cog import CogWriter
from geosynth.raster.colours import ColourLabels, colours_as_codes
from geosynth.raster.mosaic import TileInMosaic, TileMosaic
from geosynth.raster.read import RASTER_SUFFIXES, Mask, Raster, RasterFile, open_raster
from geosynth.raster.remote import files_named, find_group, is_zarr
from geosynth.raster.warp import unwarped
from geosynth.unfinished import UnfinishedWork, check_place
from geosynth.version import __version__

_LOG = logging.getLogger(__name__)

FROM_RASTER = "from-raster"


def open_labels(labels: str | Path | Sequence[str | Path]) -> Raster:
    """Labels as one raster.

    Args:
        labels: a file that GDAL reads, a Zarr store, or the URL of either; or a folder, glob or list of tiles, which
            are joined to a `TileMosaic`.

    Raises:
        RasterError, DataError, GridError: one line that names the file at fault.
    """
    tiles = [open_label_file(file) for file in label_files(labels)]
    if isinstance(tiles[0], ColourLabels):
        tiles[0].check_is_mask()
    if len(tiles) == 1:
        return tiles[0]
    mosaic = TileMosaic(tiles, str(labels) if isinstance(labels, str | Path) else first_of(labels, 1))
    differing = mosaic.count_disagreements()
    if differing:
        _LOG.warning(
            "%s: tiles overlap and differ in %d px; there the tile whose name sorts last is used",
            mosaic.path,
            differing,
        )
    return mosaic


def open_label_file(path: str | Path) -> Raster:
    """The labels in one file or Zarr store: codes, or colours as codes.

    Raises:
        RasterError, DataError, GridError: one line.
    """
    if find_group(path) is None:
        return colours_as_codes(open_raster(path))
    from geosynth.raster.zarr import ZarrRaster  # takes a second to import

    return colours_as_codes(ZarrRaster(path))


def label_files(labels: str | Path | Sequence[str | Path]) -> list[str]:
    """The files that a name stands for, sorted by name: itself, or the files in a folder or of a glob.

    Raises:
        RasterError: if there are none.
    """
    if not isinstance(labels, str | Path):
        if not labels:
            raise RasterError("an empty list of files", setting="labels")
        return sorted(map(str, labels))
    found = files_named(labels)
    if not found:
        what = "is a folder without rasters" if Path(labels).is_dir() else "no file has such a name"
        if stores := [str(child) for child in sorted(Path(labels).glob("*")) if is_zarr(child)]:
            raise RasterError(f"{labels}: is a folder of stores; choose one: {first_of(stores, 5)}")
        raise RasterError(f"{labels}: {what}; label tiles end in {', '.join(RASTER_SUFFIXES)}")
    return found


def raster_files(raster: Raster) -> list[str]:
    """The files that labels are read from, including the sources of a VRT."""
    raster = unwarped(raster)
    if isinstance(raster, TileInMosaic):
        raster = raster.mosaic
    if isinstance(raster, TileMosaic):
        return [file for tile in raster.tiles for file in raster_files(tile)]
    return [raster.path, *getattr(raster, "files", ())]


def choose_legend(raster: Raster, legend: str | Path | Legend | None, target: Legend) -> Legend:
    """The legend of a label raster, with its classes in the order of the model's legend.

    If no legend is given, codes mean what they mean to the model, unless the raster has the model's class names for
    other codes: then its own class table decides, with a warning. Colours mean what they mean to the model.

    Args:
        raster: the labels.
        legend: a legend, its built-in name or file; "from-raster" for the raster's own class table.
        target: the model's legend.

    Raises:
        LegendError: if there is no such legend, or if its classes are not the model's.
    """
    if legend is not None and legend != FROM_RASTER:
        return Legend.load(legend).translation_to(target)
    if holds_colours(raster):
        return target
    table = class_table_of(raster)
    if legend == FROM_RASTER:
        if not table:
            raise LegendError(f"{raster.path}: has no class table (names or colours of its codes); give a legend file")
        return legend_of_table(table, target, raster.path)
    of_target = {plain(entry.name): entry.codes for entry in target.classes}
    names = {code: name for code, (name, _) in table.items() if name}
    known = {code: of_target[plain(name)] for code, name in names.items() if plain(name) in of_target}
    if any(code not in expected for code, expected in known.items()):
        own = legend_of_table(table, target, raster.path)
        told = first_of(f"{code} {names[code]}" for code in known)
        _LOG.warning(
            "%s: its class table has other codes than legend %r and is used: %s", raster.path, target.name, told
        )
        return own
    for entry in target.classes:
        name = names.get(entry.code)
        if name is not None and plain(name) != plain(entry.name):
            _LOG.warning(
                "%s: calls code %d %r; it is taken for %r, as in legend %r (--legend decides otherwise)",
                raster.path,
                entry.code,
                name,
                entry.name,
                target.name,
            )
    return target


def class_table_of(raster: Raster) -> ClassTable:
    """The class table of a raster, or of the first of many tiles; empty if there is none."""
    first = _first(raster)
    if isinstance(first, RasterFile):
        return read_class_table(first)
    told: ClassTable = getattr(first, "class_table", {})
    return told


def holds_colours(raster: Raster) -> bool:
    """Whether a raster's codes are colours."""
    return bool(getattr(_first(raster), "holds_colours", False))


def kept_tags(raster: Raster) -> dict[str, str]:
    """Tags that a new raster on the grid of another one keeps: whether values stand for areas or points."""
    first = _first(raster)
    first = first.source if isinstance(first, ColourLabels) else first
    meaning = first.tags.get("AREA_OR_POINT") if isinstance(first, RasterFile) else None
    return {"AREA_OR_POINT": meaning} if meaning == "Point" else {}


def _first(raster: Raster) -> Raster:
    """The file or array behind a raster; of many tiles, the first."""
    raster = unwarped(raster)
    if isinstance(raster, TileMosaic):
        return raster.tiles[0]
    return raster.tile if isinstance(raster, TileInMosaic) else raster


def check_label_output(out: Path, inputs: Sequence[object], *, overwrite: bool) -> None:
    """Refuse, before any work, a label raster that `label_writer` could not write, or that is an input.

    Raises:
        OutputError: one line.
    """
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out}: the label raster is a GeoTIFF; choose a name that ends in .tif")
    check_place(out, overwrite=overwrite)
    for path in (out, Path(f"{out}.aux.xml")):
        refuse_folder(path)
        refuse_inputs(path, inputs)


@contextmanager
def label_writer(
    work: UnfinishedWork, geobox: GeoBox, legend: Legend, tags: Mapping[str, str]
) -> Iterator[Callable[[Window, ClassIndices, Mask], None]]:
    """Write a Cloud Optimized GeoTIFF of class codes, with colours, names and attribute table; it appears complete.

    Args:
        work: the unfinished work of the file, open; names and attribute table go into `out`.aux.xml.
        geobox: the grid of the file.
        legend: of its codes; pixels without a class get its `nodata_code`.
        tags: of the default domain, besides version and classes.

    Yields:
        a function that writes a window: its arguments are the window, the class indices, and where there is a class,
        the latter two (height, width).

    Raises:
        OutputError: if it cannot be written.
    """
    nodata = legend.nodata_code
    dtype = legend.code_dtype.name
    colours = {entry.code: (*entry.rgb, 255) for entry in legend.classes} | {nodata: (0, 0, 0, 0)}
    classes = json.dumps(dict(zip(legend.names, legend.codes, strict=True)))
    writer = CogWriter(
        work.result,
        geobox,
        ("class",),
        dtype=dtype,
        masked=False,
        nodata=nodata,
        colours=colours if dtype == "uint8" else None,
        tags={"GEOSYNTH_VERSION": __version__, **tags, "GEOSYNTH_CLASSES": classes},
        overviews="mode",
        folder=work.folder,
    )

    def write(window: Window, indices: ClassIndices, valid: Mask) -> None:
        writer.write(window, legend.decode(indices)[np.newaxis], valid)

    with writer:
        yield write
    write_attribute_table(work.result.with_name(work.out.name), legend)
    work.finish(f"{work.out.name}.aux.xml")
