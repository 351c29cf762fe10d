"""Label files: opening what a user passes as labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from geosynth.errors import RasterError, first_of
from geosynth.inputs import check_input
from geosynth.raster.coded_labels import ColourLabels, labels_as_codes
from geosynth.raster.drivers import RASTER_SUFFIXES
from geosynth.raster.mosaic import TileMosaic
from geosynth.raster.names import files_named
from geosynth.raster.raster_file import open_raster
from geosynth.raster.read import Raster
from geosynth.raster.zarr_group import find_group, is_of_scenes, is_zarr

_LOG = logging.getLogger(__name__)


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
    """The labels in one file or Zarr store as codes, see `labels_as_codes`.

    Raises:
        RasterError, DataError, GridError: one line.
    """
    group = find_group(path)
    if group is None:
        return labels_as_codes(open_raster(path))
    if is_of_scenes(group.attrs):
        from geosynth.raster.stores.source import SourceCodes  # with the next one, takes a second to import
        from geosynth.raster.stores.store import Store

        return SourceCodes(Store(path))  # refuses a group of stores
    from geosynth.raster.zarr import ZarrRaster  # takes a second to import

    return labels_as_codes(ZarrRaster(path))


def label_files(labels: str | Path | Sequence[str | Path]) -> list[str]:
    """The files that a name stands for, sorted by name: itself, or the files in a folder or of a glob.

    Raises:
        RasterError: if there are none.
    """
    if isinstance(labels, Sequence) and not isinstance(labels, str):
        if not labels:
            raise RasterError("an empty list of files", setting="labels")
        for name in labels:
            check_input(name, "a file of labels", "labels")
        return sorted(map(str, labels))
    found = files_named(labels)
    if not found:
        what = "is a folder without rasters" if Path(labels).is_dir() else "no file has such a name"
        if stores := [str(child) for child in sorted(Path(labels).glob("*")) if is_zarr(child)]:
            raise RasterError(f"{labels}: is a folder of stores; choose one: {first_of(stores, 5)}")
        raise RasterError(f"{labels}: {what}; label tiles end in {', '.join(RASTER_SUFFIXES)}")
    return found


def kept_tags(raster: Raster) -> dict[str, str]:
    """Tags that a new raster on the grid of another one keeps: whether values stand for areas or points."""
    return {"AREA_OR_POINT": "Point"} if raster.tags.get("AREA_OR_POINT") == "Point" else {}
