"""Which vector files may be read, by name and content."""

from __future__ import annotations

from pathlib import Path

from geosynth.errors import DataError

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


def check_can_be_read(path: Path) -> None:
    """Refuse a file that is not a vector file of a known format, by name and content, before any driver opens it.

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
