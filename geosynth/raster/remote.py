"""What a name stands for: a file, a URL, a Zarr group on the disk or behind a URL (through fsspec)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import zarr

from geosynth.errors import RasterError
from geosynth.raster.read import RASTER_SUFFIXES


def open_group(path: str | Path) -> Any:
    """A Zarr group for reading, of version 2 or 3.

    Raises:
        RasterError: if there is none, or what reads that kind of URL is not installed.
    """
    try:
        return zarr.open_group(str(path), mode="r")
    except ImportError as error:
        raise missing_package(path, error) from error
    except Exception as error:  # zarr's, json's, and through fsspec the network's own
        raise RasterError(f"{path}: not a Zarr group: {_one_line(error)}") from error


def find_group(path: str | Path) -> Any | None:
    """The Zarr group, of version 2 or 3, at a file name or URL; None where there is something else, or nothing.

    Behind a URL that ends like a raster file nobody looks for one.

    Raises:
        RasterError: if a group cannot be opened, or what its name says to be one.
    """
    if not is_remote(path):
        return open_group(path) if is_zarr(path) else None
    suffix = PurePosixPath(urlsplit(str(path)).path).suffix.lower()
    if str(path).startswith("/vsi") or suffix in RASTER_SUFFIXES:
        return None
    try:
        return open_group(path)
    except RasterError:
        if suffix == ".zarr":
            raise
        return None


def missing_package(path: str | Path, error: ImportError) -> RasterError:
    """What to say when fsspec lacks the package that reads a kind of URL."""
    return RasterError(f"{path}: {_one_line(error)}; pip install geosynth-toolkit[remote]")


def is_remote(path: str | Path) -> bool:
    """Whether a name is a URL or one of GDAL's own file systems, not a file."""
    return "://" in str(path) or str(path).startswith("/vsi")


def is_zarr(path: str | Path) -> bool:
    """Whether there is a Zarr group, of any version, in a folder `path`."""
    return any((Path(path) / name).is_file() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
