"""view: rasters of one area as one HTML page with pan, zoom and a slider between any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError, GridError, SettingsError
from geosynth.files import output_path, refuse_folder, refuse_inputs
from geosynth.grid.alignment import north_up, same_area
from geosynth.grid.crs import crs_name
from geosynth.inputs import as_list
from geosynth.legend import Legend, rgb_of, told_apart
from geosynth.page import png_address, render_page
from geosynth.raster.class_table import ClassTable
from geosynth.raster.images import open_image
from geosynth.raster.mark import mark_of
from geosynth.raster.preview import shown_images, shown_shape, turned_north
from geosynth.raster.read import ImageRaster, bounded_cache
from geosynth.unfinished import UnfinishedWork, making


def view(
    rasters: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    legend: str | Path | Legend | None = None,
    size: int = 1024,
    overwrite: bool = False,
) -> Path:
    """Write a self-contained HTML page that shows images and labels of one area over each other.

    Args:
        rasters: at most eight files or Zarr stores of the same area; pixel sizes may differ. Images are shown in red,
            green and blue, those of the same type and scale with the same stretch; a single band of integers with a
            class table is shown in the colours of its classes. All are shown with north up, if they are not rotated.
        out: the page, a name that ends in .html.
        legend: of labels without a class table, or with one that has names only.
        size: largest length in pixels of the longer side as shown; large rasters are read from their overviews.
        overwrite: replace an existing page.

    Returns:
        the path of the page.

    Raises:
        DataError: if a raster has complex numbers.
        SettingsError: if a number is out of range, or there is a legend but no labels.
        GridError: if the rasters do not show the same area.
        GeosynthError: if a raster cannot be read, or the page cannot be written.
    """
    out, rasters = output_path(out), as_list(rasters)
    if out.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"{out}: the page is HTML; choose a name that ends in .html")
    if not 1 <= len(rasters) <= 8:
        raise SettingsError(f"view: from one to eight rasters, not {len(rasters)}")
    if size < 1:
        raise SettingsError(f"a positive number of pixels is needed, got {size}", setting="size")
    UnfinishedWork(out).check(overwrite=overwrite)
    refuse_folder(out)
    refuse_inputs(out, rasters)
    read_by = None if legend is None else Legend.load(legend)
    opened = _opened(rasters)
    if read_by is not None and not any(map(_may_be_labels, opened)):
        raise SettingsError("none of the rasters is labels, a single band of integers", setting="legend")
    with bounded_cache():
        page = _page(opened, [_told_apart(_classes(raster, read_by)) for raster in opened], size)
    with making(out) as made:
        made.write_text(page, encoding="utf-8")
    return out


def _opened(rasters: Sequence[str | Path]) -> list[ImageRaster]:
    """The rasters, after checking that they can be shown over each other."""
    first, *others = opened = [open_image(path) for path in rasters]
    for raster in opened:
        if raster.dtype.kind == "c":
            raise DataError(f"{raster.path}: holds {raster.dtype} values; only rasters of real numbers are shown")
    for other in others:
        if not same_area(north_up(first.geobox), north_up(other.geobox)):
            raise GridError(
                f"{other.path}: does not show the area of {first.path}; bring it there"
                f" (rio warp FILE NEW --like {first.path})"
            )
    return opened


def _page(rasters: Sequence[ImageRaster], tables: Sequence[ClassTable], size: int) -> str:
    """The page; rasters with a table of classes are labels."""
    first = rasters[0]
    height, width = first.geobox.shape
    shown = shown_shape(first, size)
    images = iter(shown_images([raster for raster, table in zip(rasters, tables, strict=True) if not table], shown))
    layers = [
        {
            "name": Path(raster.path).name,
            "synthetic": bool(mark_of(raster.tags)),
            "png": png_address(_labels(raster, shown, table) if table else next(images)),
        }
        for raster, table in zip(rasters, tables, strict=True)
    ]
    classes = {name: colour for table in tables for name, colour in table.values() if name}
    return render_page(
        "view",
        layers=layers,
        crs=crs_name(first.geobox.crs),
        height=height,
        width=width,
        shown=shown,
        classes=classes.items(),
    )


def _classes(raster: ImageRaster, legend: Legend | None) -> ClassTable:
    """Names and colours by code, if the raster has no colours from the legend; empty for an image."""
    table = raster.class_table if _may_be_labels(raster) else {}
    if legend is None or not _may_be_labels(raster) or any(colour for _, colour in table.values()):
        return table
    own: ClassTable = {code: (entry.name, entry.colour) for entry in legend.classes for code in entry.codes}
    return {code: (table[code][0], own.get(code, (None, None))[1]) for code in table} or own


def _told_apart(table: ClassTable) -> ClassTable:
    """The table with colours for all classes that have names."""
    named = list(dict.fromkeys((name, colour) for name, colour in table.values() if name))
    shown = dict(zip(named, told_apart([colour for _, colour in named]), strict=True))
    return {code: (name, shown[name, colour] if name else colour) for code, (name, colour) in table.items()}


def _may_be_labels(raster: ImageRaster) -> bool:
    return raster.count == 1 and raster.dtype.kind in "ui"


def _labels(raster: ImageRaster, shape: tuple[int, int], table: ClassTable) -> npt.NDArray[np.uint8]:
    """Labels in the colours of the classes, (height, width, 4); transparent where a class has none."""
    codes, valid = raster.read_reduced(shape, "mode")
    picture = np.zeros((*shape, 4), np.uint8)
    for code in np.unique(codes[0][valid]):
        _, colour = table.get(int(code), (None, None))
        if colour:
            picture[valid & (codes[0] == code)] = (*rgb_of(colour), 255)
    return turned_north(picture, raster.geobox)
