"""Zarr groups, on the disk or (through fsspec) behind a URL: opening them, and telling what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from geosynth.errors import RasterError, one_line
from geosynth.inputs import check_input, is_file, is_remote
from geosynth.raster.drivers import RASTER_SUFFIXES


def find_group(path: str | Path) -> Any | None:
    """The Zarr group, of version 2 or 3, at a file name or URL; None if there is something else, or nothing.

    A URL that ends like a raster file is not examined.

    Raises:
        RasterError: if a group, or what has the name of one, cannot be opened.
    """
    check_input(path, "a raster")
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


def open_group(path: str | Path) -> Any:
    """A Zarr group of version 2 or 3, opened for reading.

    Raises:
        RasterError: if there is none, or if the package that reads this kind of URL is not installed.
    """
    check_input(path, "a Zarr store")
    import zarr  # takes a while

    try:
        return zarr.open_group(str(path), mode="r")
    except ImportError as error:
        raise missing_package(path, error) from error
    except Exception as error:  # of zarr, json and, through fsspec, network libraries
        raise RasterError(f"{path}: not a Zarr group: {one_line(error)}") from error


def is_zarr(path: str | Path) -> bool:
    """Whether there is a Zarr group, of any version, in a folder `path`."""
    return any(is_file(f"{path}/{name}") for name in ("zarr.json", ".zgroup", ".zmetadata"))


def files_in(path: str) -> tuple[str, ...]:
    """All files of a Zarr group, sorted; none if it is behind a URL."""
    return tuple(sorted(str(file) for file in Path(path).rglob("*") if file.is_file()))


def missing_package(path: str | Path, error: ImportError) -> RasterError:
    """The error for when fsspec lacks the package that reads a kind of URL."""
    return RasterError(f"{path}: {one_line(error)}; pip install geosynth-toolkit[remote]")


def is_of_scenes(attributes: Mapping[str, Any]) -> bool:
    """Whether a group with these attributes is a store of scenes, or a group of several stores."""
    return not {"geosynth", "geosynth_stores"}.isdisjoint(attributes)


def is_image(group: Any) -> bool:
    """Whether a Zarr group is an image, and not a store of training data."""
    return "geosynth" not in group.attrs and "image" in group
