"""GDAL: the formats that are opened, opening a single file by them, GDAL's errors in one line, names in a network."""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, DriverRegistrationError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geosynth.errors import RasterError, one_line
from geosynth.grid.vector_files import VECTOR_SUFFIXES
from geosynth.inputs import is_file, remote_allowed

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
LOCAL_SCHEMES = {"file", "zip", "tar", "gzip"}
SUBDATASETS = ("NETCDF:", "HDF5:", "GTIFF_DIR:")  # prefixes for a part of a local file


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


def reaches_network(name: str) -> bool:
    """Whether GDAL would read from a network under this name: a URL, or one of its network file systems."""
    schemes = {part for scheme in _SCHEME.findall(name) for part in scheme.lower().split("+")}
    return bool(schemes - LOCAL_SCHEMES or _NETWORK.search(name))


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


def open_as(name: str, path: str, allowed: list[str]) -> Any:
    """Open a raster by the name that GDAL has for it; of what it refers to, only overviews of archives are checked.

    Args:
        name: for GDAL.
        path: its name in messages.
        allowed: names of formats.

    Raises:
        RasterError: if it cannot be opened, or has another format.
    """
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
                check_reference(overviews_of(dataset), path)
            return dataset


def overviews_of(dataset: Any) -> str:
    """The file in which a dataset says that its overviews are, or an empty text."""
    with one_error(dataset.name):
        return str(dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", ""))


def check_reference(name: str, path: str) -> None:
    """Refuse a part of a local file that is reached through a network, or is not a regular file.

    Raises:
        RasterError: one line.
    """
    if reaches_network(name):
        raise RasterError(f"{path}: would read from the network ({name[:200]}); use --remote if that is intended")
    if name.startswith("<") or (re.match(r"\w+:", name) and not name.startswith(SUBDATASETS) and not is_file(name)):
        raise RasterError(
            f"{path}: refers to something that is no file ({name[:200]}); use --remote if that is intended"
        )
