"""What a name stands for: files, files of bands, a URL, a Zarr group on the disk or (through fsspec) behind a URL."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from geosynth.errors import RasterError, one_line
from geosynth.inputs import BRACES, band_files
from geosynth.raster.read import RASTER_SUFFIXES

_is_file = os.path.isfile  # False for a name that is too long, where a Path raises


def files_named(name: str | Path, *, deep: bool = False) -> list[str]:
    """The files that a name stands for, sorted by name.

    Args:
        name: a folder stands for its files with one of `RASTER_SUFFIXES`; a glob for the files and Zarr groups that it
            matches, or, if it matches only other folders, for their files; a glob of files of bands (see `band_files`)
            for the images that it matches outside the braces; any other name for itself.
        deep: include files in subfolders.
    """
    path, is_glob = Path(name), glob.has_magic(str(name)) and not is_remote(name)
    if of_bands := band_files(name):
        return _images_named(str(name), of_bands.values()) if is_glob else [str(name)]
    if path.is_dir() and not is_zarr(path):
        inside = path.rglob("*") if deep else path.iterdir()
        return sorted(str(file) for file in inside if file.suffix.lower() in RASTER_SUFFIXES)
    if is_glob and not path.exists():
        matches = glob.glob(str(name), recursive=True)
        files = [match for match in matches if Path(match).is_file() or is_zarr(match)]
        return sorted(files or [file for folder in matches for file in files_named(folder, deep=deep)])
    return [str(name)]  # a Path would merge the two slashes of a URL


def _images_named(name: str, patterns: Iterable[str]) -> list[str]:
    """The images that a glob of files of bands stands for, sorted: those with a file for at least one band.

    Args:
        name: as in "*/{red=B04,nir=B08}.tif".
        patterns: globs of the files of each band.
    """
    before, _, after = BRACES.split(name)
    braces, rest = name[len(before) : len(name) - len(after)], fnmatch.translate(after.replace("**/", "*"))
    images: dict[str, str] = {}  # image by file
    for pattern in sorted(patterns, key=len, reverse=True):  # B10 before B1, which it contains
        part = pattern[len(before) : len(pattern) - len(after)]
        for file in filter(_is_file, glob.glob(pattern, recursive=True)):
            place = re.fullmatch(f"(?s:(.*)){re.escape(part)}{rest}", file)
            assert place is not None
            images.setdefault(file, f"{place[1]}{braces}{file[place.end(1) + len(part) :]}")
    return sorted(set(images.values()))


def image_name(path: str | Path) -> str:
    """The name of an image's file; for files of bands, their name without the braces.

    If nothing is left, as in `S2A_32TQM/{red=B04,nir=B08}.tif`, the name of their folder.
    """
    if not band_files(path):
        return Path(path).name
    left = Path(re.sub(f"[_.-]?{BRACES.pattern}", "", str(path)))
    return f"{left.parent.name}{left.name}" if left.name.startswith(".") else left.name.lstrip("_-")


def open_group(path: str | Path) -> Any:
    """A Zarr group of version 2 or 3, opened for reading.

    Raises:
        RasterError: if there is none, or if the package that reads this kind of URL is not installed.
    """
    import zarr  # takes a while

    try:
        return zarr.open_group(str(path), mode="r")
    except ImportError as error:
        raise missing_package(path, error) from error
    except Exception as error:  # of zarr, json and, through fsspec, network libraries
        raise RasterError(f"{path}: not a Zarr group: {one_line(error)}") from error


def find_group(path: str | Path) -> Any | None:
    """The Zarr group, of version 2 or 3, at a file name or URL; None if there is something else, or nothing.

    A URL that ends like a raster file is not examined.

    Raises:
        RasterError: if a group, or what has the name of one, cannot be opened.
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
    """The error for when fsspec lacks the package that reads a kind of URL."""
    return RasterError(f"{path}: {one_line(error)}; pip install geosynth-toolkit[remote]")


def is_remote(path: str | Path) -> bool:
    """Whether a name is a URL or one of GDAL's own file systems, not a file."""
    return "://" in str(path) or str(path).startswith("/vsi")


def absolute(path: str) -> str:
    """A file's name for processes that may run in another folder; remote names are the same everywhere."""
    return path if is_remote(path) else str(Path(path).absolute())


def is_zarr(path: str | Path) -> bool:
    """Whether there is a Zarr group, of any version, in a folder `path`."""
    return any(_is_file(f"{path}/{name}") for name in ("zarr.json", ".zgroup", ".zmetadata"))
