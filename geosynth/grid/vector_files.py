"""Which vector files may be read, by name and content."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any

from geosynth.errors import DataError
from geosynth.inputs import remote_allowed

PARQUET = (".parquet", ".geoparquet")
# First bytes of files that may be read. GDAL chooses drivers by content too, and other drivers may follow addresses in
# a file to other files or into the network.
_BEGINNINGS = {
    **dict.fromkeys(PARQUET, b"PAR1"),
    **dict.fromkeys((".geojson", ".json"), b"{"),
    ".gpkg": b"SQLite format 3\0",
    ".fgb": b"fgb",
    ".shp": b"\0\0\x27\x0a",
}
VECTOR_SUFFIXES = tuple(_BEGINNINGS)
# The key of a CRS in GeoJSON, before an object. Within a string, there would be a backslash before its last character.
_CRS_KEY = re.compile(rb'"(?:c|\\u00[46]3)(?:r|\\u00[57]2)(?:s|\\u00[57]3)"\s*:\s*(?=\{)', re.IGNORECASE)
_CRS_SIZE = 1 << 20  # bytes; more than the description of a CRS takes


def check_can_be_read(path: Path) -> None:
    """Refuse a file that is not a vector file of a known format, by name and content, before any driver opens it.

    GeoJSON whose CRS is an address, which GDAL would fetch, is refused too.

    Raises:
        DataError: one line.
    """
    beginning = _BEGINNINGS.get(path.suffix.lower())
    if beginning is None:
        raise DataError(f"{path}: is not a vector file that can be read; these end in {', '.join(VECTOR_SUFFIXES)}")
    try:
        with path.open("rb") as file:
            found = file.read(256)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: cannot be read as a vector file: {reason}") from error
    if not found.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n" if beginning == b"{" else b"").startswith(beginning):
        raise DataError(f"{path}: cannot be read as a vector file: its content is not what its name says")
    if beginning == b"{" and not remote_allowed():
        _check_crs(path)


def _check_crs(path: Path) -> None:
    """Refuse a GeoJSON file that names its CRS by an address, as its first specification (2008) allowed."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for found in _CRS_KEY.finditer(text):
            described = text[found.end() : found.end() + _CRS_SIZE].decode(errors="replace")
            try:
                json.JSONDecoder(object_pairs_hook=_refuse_addresses).raw_decode(described)
            except (ValueError, RecursionError) as error:
                reason = error if isinstance(error, DataError) else "its CRS is damaged"
                raise DataError(f"{path}: {reason}") from error


def _refuse_addresses(pairs: list[tuple[str, Any]]) -> None:
    """Part of reading a CRS in GeoJSON: refuses the types "link" and "url". Like GDAL, it ignores case."""
    for name, value in pairs:
        if name.casefold() == "type" and str(value).casefold().startswith(("link", "url")):
            raise DataError("its CRS is read from the network; use --remote if that is intended")
