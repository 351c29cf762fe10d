"""One way to open what a user calls labels: a file, a Zarr store, a folder or a glob of tiles."""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from pathlib import Path

from geosynth.errors import RasterError
from geosynth.raster.label_zarr import ZarrLabels
from geosynth.raster.like import RasterLike
from geosynth.raster.read import RASTER_SUFFIXES, open_raster
from geosynth.raster.tiles import TileMosaic

_LOG = logging.getLogger(__name__)


def open_labels(labels: str | Path | Sequence[str | Path]) -> RasterLike:
    """Labels as one raster.

    Args:
        labels: a file that GDAL reads, or its URL; a Zarr store; a folder or glob of tiles, or a list of them, which
            are joined to a `TileMosaic`.

    Raises:
        RasterError, DataError, GridError: one line that names the file at fault.
    """
    if isinstance(labels, str | Path) and is_zarr(labels):
        return ZarrLabels(labels)
    files = label_files(labels)
    if len(files) == 1:
        return open_raster(files[0])
    mosaic = TileMosaic(files, _name(labels))
    differing = mosaic.count_disagreements()
    if differing:
        _LOG.warning(
            "%s: tiles overlap and differ in %d px; there the tile whose name sorts later is taken",
            mosaic.path,
            differing,
        )
    return mosaic


def label_files(labels: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The files that a name stands for, in the order of their names: itself, or what a folder or glob holds.

    Raises:
        RasterError: if there are none.
    """
    if not isinstance(labels, str | Path):
        if not labels:
            raise RasterError("labels: an empty list of files")
        return sorted(labels, key=str)
    path = Path(labels)
    if "://" in str(labels) or path.is_file() or is_zarr(labels):
        return [labels]
    found: list[str | Path] = []
    if path.is_dir():
        found += sorted(file for file in path.iterdir() if file.suffix.lower() in RASTER_SUFFIXES)
    elif glob.has_magic(str(labels)):
        found += sorted(Path(name) for name in glob.glob(str(labels), recursive=True) if Path(name).is_file())
    else:
        return [labels]  # whoever opens it says what is wrong
    if not found:
        what = "is a folder without rasters" if path.is_dir() else "no file has such a name"
        raise RasterError(f"{labels}: {what}; label tiles end in {', '.join(RASTER_SUFFIXES)}")
    return found


def is_zarr(path: str | Path) -> bool:
    """Whether there is a Zarr group, of any version, in a folder `path`."""
    return any((Path(path) / name).is_file() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _name(labels: str | Path | Sequence[str | Path]) -> str:
    if isinstance(labels, str | Path):
        return str(labels)
    return f"{labels[0]} and {len(labels) - 1} more"
