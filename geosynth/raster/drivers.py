"""Opening files with GDAL: only formats of raster files, and no network access that nobody asked for.

GDAL goes by the content of a file, not by its name: a `.tif` may describe a web service, a VRT may consist of URLs, an
overview may be anywhere. So local files are opened by a list of drivers, and what they refer to is checked first.
"""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import rasterio
from defusedxml import DefusedXmlException
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, DriverRegistrationError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geosynth.errors import RasterError, one_line
from geosynth.grid.vector_files import VECTOR_SUFFIXES
from geosynth.inputs import band_files, exists, is_file, remote_allowed
from geosynth.raster.band_files import BandFiles

# The second is raised when files are copied, the last for texts that are not UTF-8.
GDAL_ERRORS: tuple[type[Exception], ...] = (
    RasterioError,
    CPLE_BaseError,
    CRSError,
    DriverRegistrationError,
    UnicodeError,
)
DRIVERS = (
    *("GTiff", "VRT", "HFA", "JP2OpenJPEG", "JP2ECW", "JP2KAK", "JP2MrSID", "ECW", "MrSID", "JPEG", "PNG", "WEBP"),
    *("BMP", "GIF", "ENVI", "EHdr", "AIG", "AAIGrid", "NITF", "netCDF", "HDF5", "HDF5Image", "GRIB", "KEA", "RST"),
    *("SAGA", "DTED", "SRTMHGT", "USGSDEM"),
)
"""GDAL's names of the formats that are opened unless the environment variable GEOSYNTH_DRIVERS lists others."""

# Endings of the files in a folder that are taken for rasters. JPEG and PNG files may as well be previews.
RASTER_SUFFIXES = (".img", ".jp2", ".tif", ".tiff", ".vrt")

_NETWORK = re.compile(r"(https?|ftp):|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)", re.IGNORECASE)
_SCHEME = re.compile(r"([\w.+-]+)://")
_LOCAL_SCHEMES = {"file", "zip", "tar", "gzip"}
_VRT = b"<VRTDataset"
_HEAD = 1 << 16  # bytes at the start of a file in which a VRT is recognised; GDAL uses fewer
# Elements of VRTs and of side files: those that contain mere text, whatever it is, and those that name files.
_TEXTS = {"srs", "gcplist", "description", "categorynames", "gdalrasterattributetable", "colortable", "unittype"}
_FILES = {"sourcefilename", "sourcedataset"}
_DOMAINS = {"overviews", "proxyoverviewrequest", "geolocation"}
_SUBDATASETS = ("NETCDF:", "HDF5:", "GTIFF_DIR:")  # prefixes for a part of a local file


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


def drivers() -> list[str]:
    """GDAL's names of the formats that are opened."""
    told = os.environ.get("GEOSYNTH_DRIVERS", "")
    return [name.strip() for name in told.split(",") if name.strip()] or list(DRIVERS)


def describe_gdal() -> dict[str, Any]:
    """GDAL's version and the formats that are opened, as plain values."""
    with rasterio.Env() as environment:
        there = [name for name in drivers() if name in environment.drivers()]
    return {"version": rasterio.__gdal_version__, "formats that are opened": there}


@functools.cache  # an error is not kept
def check_can_write() -> None:
    """Refuse to write with a GDAL that the user's environment keeps from doing so.

    It may skip the drivers; or name a database of coordinate systems, usually of another installation, that GDAL cannot
    use: then all that it reads and writes would lose its codes.

    Raises:
        RasterError: one line.
    """
    try:
        with rasterio.Env() as environment:  # or GDAL would print a line of its own
            if absent := [name for name in ("GTiff", "COG") if name not in environment.drivers()]:
                remedy = "unset GDAL_SKIP" if "GDAL_SKIP" in os.environ else "install rasterio again"
                raise RasterError(f"GDAL has no driver {absent[0]}, by which files are written; {remedy}")
            CRS.from_epsg(4326)
    except CRSError as error:
        named = ", ".join(f"{name}={os.environ[name]}" for name in ("PROJ_DATA", "PROJ_LIB") if name in os.environ)
        raise RasterError(
            f"{named or 'PROJ'}: holds no database of coordinate systems for GDAL; unset PROJ_DATA and PROJ_LIB, or"
            f" install rasterio again ({one_line(error)})"
        ) from error


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
    if name.startswith(("/vsi", *_SUBDATASETS)) or reaches_network(name):
        return _opened(name, path, drivers())
    _check_is_file(Path(name), path)
    if remote_allowed():
        return _opened(name, path, drivers())
    if _is_vrt(Path(name)):  # opening it may open its sources
        _check_parts(Path(name), path)
        return _opened(name, path, drivers())
    dataset = _opened(name, path, _no_vrt())
    _check_parts(Path(name), path, dataset)
    return dataset


def open_again(path: str, driver: str) -> Any:
    """Open what `open_dataset` has opened by this driver once more, for another thread or process."""
    if files := band_files(path):
        return BandFiles({band: open_again(file, driver) for band, file in files.items()})
    return _opened(_plain(path), path, driver.split(","))


def reaches_network(name: str) -> bool:
    """Whether GDAL would read from a network under this name: a URL, or one of its network file systems."""
    schemes = {part for scheme in _SCHEME.findall(name) for part in scheme.lower().split("+")}
    return bool(schemes - _LOCAL_SCHEMES or _NETWORK.search(name))


@contextmanager
def one_error(path: str) -> Iterator[None]:
    """Raise whatever GDAL raises as a RasterError with one line."""
    try:
        yield
    except GDAL_ERRORS as error:
        told = one_line(error)
        if "not recognized as being in a supported" in told:
            told = "its format is not one that is opened; GEOSYNTH_DRIVERS=GTiff,... names others"
            if Path(path).suffix.lower() in VECTOR_SUFFIXES:
                told = (
                    "it is a vector file; geosynth rasterize makes a label raster of one, generate takes its --column"
                )
            if Path(path).suffix.lower() == ".zip":
                told = "it is an archive: zip://FILE!NAME opens a raster in it; unpack a Zarr store"
            if is_file(path) and not Path(path).stat().st_size:
                told = "the file is empty: it has no bytes"
        raise RasterError(f"{path}: cannot be opened as a raster: {told[:500]}") from error


def _plain(path: str) -> str:
    """The name for GDAL: local URLs become file names."""
    scheme, mark, rest = path.partition("://")
    if not mark or scheme not in _LOCAL_SCHEMES:
        return path
    return unquote(rest) if scheme == "file" else f"/vsi{scheme}/{rest.replace('!', '/')}"


def _opened(name: str, path: str, allowed: list[str]) -> Any:
    with warnings.catch_warnings(), one_error(path):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # callers that need a georeference say so
        if reaches_network(name):  # with rasterio's names and credentials; the answer is checked afterwards
            dataset: Any = rasterio.open(name)
            if dataset.driver not in allowed:
                raise RasterError(f"{path}: is {dataset.driver}, a format that is not opened")
            return dataset
        is_closed = name.startswith("/vsi") and not remote_allowed()
        if is_closed:  # an archive cannot be checked, so formats that name other files are not opened in it
            allowed = [driver for driver in allowed if driver != "VRT"]
        with rasterio.Env(**({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if is_closed else {})):
            dataset = DatasetReader(name, driver=allowed)
            if is_closed:
                _check_name(_overviews(dataset), path)
            return dataset


def _no_vrt() -> list[str]:
    return [driver for driver in drivers() if driver != "VRT"]


def _overviews(dataset: Any) -> str:
    """The file in which a dataset says that its overviews are, or an empty text."""
    with one_error(dataset.name):
        return str(dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", ""))


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
            _check_name(part, path)
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
    elif overviews := _overviews(dataset or _opened(str(file), f"{path}: its part {file}", _no_vrt())):
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


def _check_name(name: str, path: str) -> None:
    """Refuse a part of a local file that is reached through a network, or is not a regular file."""
    if reaches_network(name):
        raise RasterError(f"{path}: would read from the network ({name[:200]}); use --remote if that is intended")
    if name.startswith("<") or (re.match(r"\w+:", name) and not name.startswith(_SUBDATASETS) and not is_file(name)):
        raise RasterError(
            f"{path}: refers to something that is no file ({name[:200]}); use --remote if that is intended"
        )


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
