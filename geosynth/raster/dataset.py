"""Opening rasters with GDAL: only known formats, and no network access that nobody asked for.

GDAL goes by the content of a file, not by its name: a `.tif` may describe a web service, a VRT may consist of URLs, an
overview may be anywhere. So local files are opened by a list of drivers, and what they refer to is checked first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from geosynth.errors import RasterError
from geosynth.inputs import band_files, exists, is_file, remote_allowed
from geosynth.raster.band_files import BandFiles
from geosynth.raster.drivers import (
    LOCAL_SCHEMES,
    SUBDATASETS,
    check_reference,
    drivers,
    open_as,
    overviews_of,
    reaches_network,
)

_VRT = b"<VRTDataset"
_HEAD = 1 << 16  # bytes at the start of a file in which a VRT is recognised; GDAL uses fewer
# Elements of VRTs and of side files: those that contain mere text, whatever it is, and those that name files.
_TEXTS = {"srs", "gcplist", "description", "categorynames", "gdalrasterattributetable", "colortable", "unittype"}
_FILES = {"sourcefilename", "sourcedataset"}
_DOMAINS = {"overviews", "proxyoverviewrequest", "geolocation"}
_SIDES = (".ovr", ".OVR", ".msk", ".MSK")  # rasters, appended to the whole name
_MORE_SIDES = (
    ".aux.xml",
    ".AUX.XML",
    ".aux",
    ".wld",
    ".tab",
    ".prj",
    ".rpb",
    ".RPB",
    ".imd",
    ".IMD",
    ".hdr",
    "_RPC.TXT",
)
_NO_FILE = "is a pipe or a device and cannot be read as a raster"  # GDAL would wait for a pipe


def open_dataset(path: str) -> Any:
    """Open a raster by file name or URL, a local one after all that it refers to has been checked; or `BandFiles`.

    Raises:
        DataError, GridError: if files of bands do not fit together.
        RasterError: if it is missing, if its format is not among `drivers`, or if it is a local file that would read
            from a network although neither --remote nor the environment variable GEOSYNTH_REMOTE allows it.
    """
    if files := band_files(path):
        return BandFiles({band: open_dataset(file) for band, file in files.items()})
    name = _plain(path)
    if name.startswith(("/vsi", *SUBDATASETS)) or reaches_network(name):
        return open_as(name, path, drivers())
    _check_is_file(Path(name), path)
    if remote_allowed():
        return open_as(name, path, drivers())
    if _is_vrt(Path(name)):  # opening it may open its sources
        _check_parts(Path(name), path)
        return open_as(name, path, drivers())
    dataset = open_as(name, path, _no_vrt())
    _check_parts(Path(name), path, dataset)
    return dataset


def open_again(path: str, driver: str) -> Any:
    """Open what `open_dataset` has opened by this driver once more, for another thread or process."""
    if files := band_files(path):
        return BandFiles({band: open_again(file, driver) for band, file in files.items()})
    return open_as(_plain(path), path, driver.split(","))


def _plain(path: str) -> str:
    """The name for GDAL: local URLs become file names."""
    scheme, mark, rest = path.partition("://")
    if not mark or scheme not in LOCAL_SCHEMES:
        return path
    return unquote(rest) if scheme == "file" else f"/vsi{scheme}/{rest.replace('!', '/')}"


def _no_vrt() -> list[str]:
    return [driver for driver in drivers() if driver != "VRT"]


def _check_parts(root: Path, path: str, dataset: Any = None) -> None:
    """Check a local file and all that it consists of: sources of VRTs, overviews and masks beside them.

    Args:
        root: the file; its side files were checked before it was opened.
        path: its name in messages.
        dataset: the open file, unless it is a VRT.
    """
    left, seen = [root], set[str]()
    while left:
        file = left.pop()
        if os.path.realpath(file) in seen:
            continue
        seen.add(os.path.realpath(file))
        if file is not root:
            _check_sides(file, path)
        for part in _parts(file, path, dataset if file is root else None):
            check_reference(part, path)
            places = {place for place in (file.parent / part, Path(part)) if exists(place)}
            if other := [place for place in places if not place.is_file() and not place.is_dir()]:
                raise RasterError(f"{path}: is made of {other[0]}, which {_NO_FILE}")
            left += filter(is_file, places)
        left += [side for suffix in _SIDES if is_file(side := Path(f"{file}{suffix}"))]


def _parts(file: Path, path: str, dataset: Any) -> Iterator[str]:
    """Names of the files that a file consists of, and texts in it that look like URLs."""
    if _is_vrt(file):
        for text in (file, Path(f"{file}.aux.xml")):
            if is_file(text):
                yield from _names_in(text.read_text(errors="replace"), path)
    elif overviews := overviews_of(dataset or open_as(str(file), f"{path}: its part {file}", _no_vrt())):
        yield overviews


def _is_vrt(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as error:
        raise RasterError(f"{file}: cannot be read: {error.strerror}") from error
    return _VRT in head[:1024] or (head.lstrip()[:1] in (b"<", b"\xef") and _VRT in head)


def _names_in(text: str, path: str) -> Iterator[str]:
    """Names of files, and texts that look like URLs, in the XML of a VRT or side file; like GDAL it ignores case."""
    try:
        left: list[Element] = [defusedxml.ElementTree.fromstring(text, forbid_dtd=True)]
    except (ParseError, DefusedXmlException) as error:
        raise RasterError(f"{path}: its XML cannot be read: {error}") from error
    while left:
        element = left.pop()
        tag = element.tag.rpartition("}")[2].lower()
        attributes = {key.lower(): value for key, value in element.attrib.items()}
        if tag in _TEXTS or (tag == "metadata" and attributes.get("domain", "").lower() not in _DOMAINS):
            continue
        left += element
        names_file = tag in _FILES or any(
            "file" in attributes.get(key, "").lower()  # "OVERVIEW_FILE", "gain_dataset_filename_1"
            for key in ("key", "name")
        )
        for value in (element.text or "", element.tail or "", *attributes.values()):
            if reaches_network(value):
                yield value.strip()
        if names_file and (element.text or "").strip():
            inner = str(element.text).strip()
            if inner.startswith("<VRTDataset"):
                yield from _names_in(inner, path)
            else:
                yield inner


def _check_sides(file: Path, path: str) -> None:
    """Refuse pipes among a file's side files, for which GDAL would wait."""
    world = file.suffix[:2] + file.suffix[-1:] + "w", file.suffix + "w"
    names = [f"{file}{suffix}" for suffix in _SIDES + _MORE_SIDES]
    names += [f"{file.with_suffix('')}{suffix}" for suffix in _MORE_SIDES + world]
    for side in map(Path, names):
        if exists(side) and not side.is_file() and not side.is_dir():
            raise RasterError(f"{path}: {side} beside it {_NO_FILE}")


def _check_is_file(file: Path, path: str) -> None:
    try:
        if not file.exists():
            raise RasterError(f"{path}: no such file")
        if file.is_dir():
            if file.suffix.lower() == ".zarr":
                raise RasterError(
                    f"{path}: is a folder, but no Zarr store: there is no zarr.json, or .zgroup, in it; copy the"
                    " whole store again, or name one inside"
                )
            raise RasterError(f"{path}: is a folder; give a file in it, or join all (rio merge {path}/*.tif NEW)")
        if not file.is_file():
            raise RasterError(f"{path}: {_NO_FILE}")
        _check_sides(file, path)
    except (OSError, ValueError) as error:
        if isinstance(error, RasterError):
            raise
        raise RasterError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
