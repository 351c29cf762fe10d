"""Inputs: names of files, of files of bands and of remote data; plain values in JSON and YAML files, and digests."""

from __future__ import annotations

import functools
import glob
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from geosynth.errors import DataError, GeosynthError, SettingsError, one_line

exists, is_file = os.path.exists, os.path.isfile  # False for a name that is too long, where a Path raises

BRACES = re.compile(r"\{([^{}]*[,=][^{}]*)\}")
"""The braces in the name of an image in files of one band each, as in {red=B04,nir=B08}."""


def check_input(given: object, what: str, setting: str | None = None) -> None:
    """Refuse what is not the name of a file or a URL, such as an array, before it is taken for one.

    Args:
        given: what a caller gave.
        what: what is needed, as in "a raster".
        setting: the name of the argument, if it is known.

    Raises:
        SettingsError: one line.
    """
    if not isinstance(given, str | Path):
        raise SettingsError(f"{what} is needed by its file name or URL, not {kind_of(given)}", setting=setting)


def kind_of(given: object) -> str:
    """What is not a name, by its class, and what to do with it, for error messages."""
    of_package, kind = type(given).__module__.partition(".")[0], type(given).__name__
    if of_package == "rasterio" and hasattr(given, "name"):
        return f"{kind}; pass its name, {given.name!r}"
    if of_package == "xarray" and kind == "DataArray":
        return f"{kind}; write it first, as with .rio.to_raster('NAME.tif')"
    if of_package == "xarray" and kind == "Dataset":
        return f"{kind}; choose one of its variables"
    if getattr(given, "ndim", 0):
        return f"{kind}, which has no grid; an xarray.DataArray with coordinates and .rio.crs has one"
    return kind


def as_list(given: Any) -> list[Any]:
    """One input or several as a list, which is empty for None; what is no input is refused where it is opened."""
    if given is None:
        return []
    is_one = isinstance(given, str | bytes | Mapping) or hasattr(given, "__array__") or not isinstance(given, Iterable)
    return [given] if is_one else list(given)


def band_files(name: str | Path) -> dict[str, str]:
    """The file of each band, by the band's name, of an image whose name has braces; empty for any other name.

    With `T1_{red=B04,nir=B08}.tif`, red is in `T1_B04.tif`; with `T1_{B04,B08}.tif`, that band is called B04.

    Raises:
        DataError: if the braces do not name files of different bands.
    """
    text = str(name)
    braces = BRACES.search(text)
    if braces is None or exists(text):
        return {}
    before, after = text[: braces.start()], text[braces.end() :]
    pairs = [[part.strip() for part in entry.rpartition("=")] for entry in braces[1].split(",")]
    found = {band or part: f"{before}{part}{after}" for band, _, part in pairs}
    differ = len(found) == len(set(found.values())) == len(pairs) and BRACES.search(after) is None
    if not differ or any(not part or glob.has_magic(part) for *_, part in pairs):
        raise DataError(
            f"{text}: names no file for each band; name them in one pair of braces, as in {{red=B04,nir=B08}}"
        )
    return found


def name_of_band_files(files: Mapping[str, str]) -> str:
    """The inverse of `band_files`: one name with braces for the files of bands, by the bands' names.

    Raises:
        DataError: if the names differ in more than one place, which braces cannot express.
    """
    words = [re.split("([^a-zA-Z0-9])", name) for name in files.values()]  # so that B04 and B08 differ, not 4 and 8
    start = _num_common(words)
    end = _num_common([one[start:][::-1] for one in words])
    differing = ("".join(one[start : len(one) - end]) for one in words)
    inside = ",".join(f"{band}={part}" for band, part in zip(files, differing, strict=True))
    text = f"{''.join(words[0][:start])}{{{inside}}}{''.join(words[0][len(words[0]) - end :])}"
    is_inverse = False
    with suppress(DataError):  # about a name that nobody wrote
        is_inverse = band_files(text) == dict(files)
    if not is_inverse:
        raise DataError(
            f"{', '.join(files.values())}: names of files of one image must differ in one part, as B04.tif and B08.tif"
        )
    return text


def _num_common(words: Sequence[Sequence[str]]) -> int:
    """The number of words that all have in common at the start."""
    return sum(1 for _ in itertools.takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False)))


def read_values(path: Path, error: type[GeosynthError] = DataError) -> Any:
    """The plain values in a JSON file (.json, .geojson), else in a YAML file, where no mapping may repeat a key.

    Raises:
        GeosynthError: `error`, if it cannot be read; one line.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's loader, but it refuses repeated keys, of which PyYAML silently takes the last."""

        def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            known: dict[tuple[str, str], yaml.Node] = {}
            for key, _ in node.value:  # checked here, before `<<` is merged, whose keys may be repeated
                if isinstance(key, yaml.ScalarNode) and known.setdefault((key.tag, key.value), key) is not key:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"{key.value!r} is given twice, the second time in line {line}; give it once")
            return node

    kind = "JSON" if path.suffix.lower() in (".json", ".geojson") else "YAML"
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if kind == "JSON" else yaml.load(text, Loader)  # noqa: S506 - it is a safe one
    except RecursionError as cause:
        raise error(f"{path}: cannot be read as {kind}: it is nested too deep") from cause
    except (OSError, ValueError, yaml.YAMLError) as cause:  # ValueError: bytes that are not text, impossible dates
        reason = getattr(cause, "strerror", None) or one_line(cause)
        raise error(f"{path}: cannot be read as {kind}: {reason}") from cause


def sha256_of(*paths: str | Path) -> str:
    """SHA-256 of a file; of several, as if they were one.

    Raises:
        OSError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            hashlib.file_digest(file, lambda: digest)  # continues the digest of the previous files
    return digest.hexdigest()


def sha256_once(*paths: Path) -> str:
    """As `sha256_of`, but files are read again only if one of them has changed."""
    return _sha256_at(*((path, path.stat().st_mtime_ns) for path in paths))


@functools.lru_cache
def _sha256_at(*files: tuple[Path, int]) -> str:
    return sha256_of(*(path for path, _ in files))


def is_remote(path: str | Path) -> bool:
    """Whether a name is a URL or one of GDAL's own file systems, not a file."""
    return "://" in str(path) or str(path).startswith("/vsi")


def remote_allowed() -> bool:
    """Whether files may refer to addresses in a network: `--remote`, or the environment variable GEOSYNTH_REMOTE."""
    return bool(os.environ.get("GEOSYNTH_REMOTE"))


def absolute(path: str) -> str:
    """A file's name for processes that may run in another folder; remote names are the same everywhere."""
    return path if is_remote(path) else str(Path(path).absolute())
