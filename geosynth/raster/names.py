"""The files that the name of a folder, a glob or an image in files of bands stands for."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable
from pathlib import Path

from geosynth.inputs import BRACES, band_files, check_input, is_file, is_remote
from geosynth.raster.drivers import RASTER_SUFFIXES
from geosynth.raster.zarr_group import is_zarr


def files_named(name: str | Path, *, deep: bool = False) -> list[str]:
    """The files that a name stands for, sorted by name.

    Args:
        name: a folder stands for its files with one of `RASTER_SUFFIXES`; a glob for the files and Zarr groups that it
            matches, or, if it matches only other folders, for their files; a glob of files of bands (see `band_files`)
            for the images that it matches outside the braces; any other name for itself.
        deep: include files in subfolders.
    """
    check_input(name, "a file, folder or glob")
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
        for file in filter(is_file, glob.glob(pattern, recursive=True)):
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
