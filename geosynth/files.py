"""Outputs: checking that they can be written, replacing them in one step; and what distinguishes files."""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from geosynth.errors import DataError, GeosynthError, OutputError, one_line

_FULL = 1 << 16  # bytes; a disk with less space counts as full
_exists = os.path.exists  # False for a name that is too long, where a Path raises

BRACES = re.compile(r"\{([^{}]*[,=][^{}]*)\}")
"""The braces in the name of an image in files of one band each, as in {red=B04,nir=B08}."""


def band_files(name: str | Path) -> dict[str, str]:
    """The file of each band, by the band's name, of an image whose name has braces; empty for any other name.

    With `T1_{red=B04,nir=B08}.tif`, red is in `T1_B04.tif`; with `T1_{B04,B08}.tif`, that band is called B04.

    Raises:
        DataError: if the braces do not name files of different bands.
    """
    text = str(name)
    braces = BRACES.search(text)
    if braces is None or _exists(text):
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
    if band_files(text) != dict(files):
        raise DataError(
            f"{', '.join(files.values())}: names of files of one image must differ in one part, as B04.tif and B08.tif"
        )
    return text


def _num_common(words: Sequence[Sequence[str]]) -> int:
    """The number of words that all have in common at the start."""
    return sum(1 for _ in itertools.takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False)))


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists, or that cannot be written at its place. Creates nothing.

    Args:
        path: of the future file or folder; its parent folder need not exist yet.
        overwrite: accept an existing output.

    Raises:
        OutputError: one line.
    """
    try:
        exists = path.exists() or path.is_symlink()
        nearest = next((folder for folder in path.absolute().parents if folder.exists()), path)  # / has no parent
        str(path).encode()
    except OSError as error:  # a name that is too long, a folder without permission
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise OutputError(f"{str(path)!r}: cannot be written: its name is not UTF-8") from error
    if exists and not overwrite:
        raise OutputError(f"{path}: already exists; choose another name or use --overwrite")
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: {nearest} is not a folder that may be written to")


def check_can_be_file(path: Path) -> None:
    """Refuse, before work that ends in one `write_whole`, a place in which no file can be made; makes one to see.

    Work that keeps its parts beside the output sees it by these.

    Raises:
        OutputError: one line.
    """
    _refuse_folder(path)
    with parents_of(path), writing(path):
        trial = path.parent / partial_name(path)
        try:
            trial.touch()
        finally:
            delete(trial)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written: a folder has this name")


def refuse_foreign(folder: Path, mark: str) -> None:
    """Refuse a folder that already exists and was not made by geosynth.

    Args:
        folder: of the output; accepted if it does not exist or is empty.
        mark: name of a file that each such output has.

    Raises:
        OutputError: one line.
    """
    if folder.exists() and not (folder / mark).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(f"{folder}: is a folder that holds something else; choose another name")


def refuse_inputs(path: Path, inputs: Iterable[object], *, replaced: bool = True) -> None:
    """Refuse an output that is also an input, or a folder that contains one.

    Args:
        path: of the output.
        inputs: those that are not paths, or do not exist, are accepted.
        replaced: whether an output folder is replaced as a whole. If files are only added to it, it may contain inputs.

    Raises:
        OutputError: one line.
    """
    if not path.exists():
        return
    named = [source for source in inputs if isinstance(source, str | Path)]
    for source in [file for name in named for file in band_files(name).values() or [name]]:
        if not Path(source).exists():
            continue
        if path.samefile(source):
            raise OutputError(f"{path}: is also an input and would be lost; choose another name")
        if replaced and Path(source).resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{path}: holds {source}, an input that would be lost; choose another name")


def check_name(name: str, where: str) -> None:
    """Refuse the name of an item if a file of that name would be outside its folder.

    Raises:
        DataError: one line.
    """
    if name in (".", "..") or any(part in name for part in ("/", "\\", "\0")):
        raise DataError(f"{where}: the name {name!r} cannot be a file name; remove slashes and dots")


@contextmanager
def writing(path: Path, *also: type[Exception]) -> Iterator[None]:
    """A context for writing, whose error names the file or folder that could not be written.

    Args:
        path: of the output.
        also: errors that the writing library raises besides `OSError`.

    Raises:
        OutputError: instead of those; one line.
    """
    failures: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except GeosynthError:  # may be OSErrors, but are clear already
        raise
    except failures as error:
        told = getattr(error, "strerror", None) or getattr(error.__context__, "strerror", None)
        reason = told or _full(path) or str(error.__cause__ or error).strip().split("\n")[0]
        raise OutputError(f"{path}: cannot be written: {reason}") from error


def _full(path: Path) -> str | None:
    """A message if the disk of an output is full, which libraries do not say; else None."""
    with suppress(OSError):
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if shutil.disk_usage(nearest).free < _FULL:
            return os.strerror(errno.ENOSPC)
    return None


@contextmanager
def replacing(path: Path, *also: type[Exception], folder: Path | None = None) -> Iterator[Path]:
    """A temporary name for a new file or folder, which takes the place of `path` at the end of the context.

    Anything at `path` is lost only then; after an error it is unchanged, and nothing is left behind.

    Args:
        path: of the output; its folder is created if needed.
        also: as for `writing`.
        folder: for the temporary name, on the same disk; None for the folder of the output.

    Yields:
        the name, with the suffix of `path`.

    Raises:
        OutputError: if it cannot be written.
    """
    with parents_of(path):
        partial = (folder or path.parent) / partial_name(path)
        try:
            with writing(path, *also):
                yield partial
                replace(partial, path)
        finally:
            delete(partial)


def partial_name(path: Path, suffix: str | None = None) -> str:
    """A hidden name for what becomes `path`, different at each call, with the suffix of `path` unless one is given.

    Leftovers of a kill under such names match `.*.partial*`.
    """
    stem = os.fsencode(path.stem)[:100].decode(errors="ignore")  # names may have 255 bytes
    return f".{stem}.{uuid.uuid4().hex}.partial{path.suffix if suffix is None else suffix}"


@contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """Create the parent folders of an output; new ones are removed again if it is not made."""
    new = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        if not (path.exists() or path.is_symlink()):
            for folder in new:
                with suppress(OSError):
                    folder.rmdir()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as `replacing` does, but never in place of a folder.

    Raises:
        OutputError: if it cannot be written.
    """
    _refuse_folder(path)
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def replace(new: Path, path: Path) -> None:
    """Give a finished file or folder its name; an old output of that name is lost only then.

    A file replaces a file in one step. An old folder is first moved to `.NAME.replaced`; if the new one then cannot
    take its place, the old one gets its name back.

    Raises:
        OSError: if it cannot be moved.
    """
    old = aside(path)
    if not (new.is_dir() or path.is_dir()):
        new.replace(path)
        return
    try:
        if path.exists() or path.is_symlink():
            delete(old)
            path.rename(old)
        new.rename(path)
    except BaseException:
        restore(path)
        raise
    delete(old)


def restore(path: Path) -> None:
    """Give a folder its name back if a `replace` moved it aside and was killed.

    Raises:
        OSError: if it cannot be moved.
    """
    if aside(path).exists() and not path.exists():
        aside(path).rename(path)


def aside(path: Path) -> Path:
    """The path of a folder while another one takes its place."""
    return path.with_name(f".{path.name}.replaced")


def delete(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


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


def delete_sidecars(path: Path, kept: Collection[str] = ()) -> None:
    """Remove side files of a replaced or removed raster, which GDAL would believe, except those named in `kept`."""
    for suffix in (".aux.xml", ".ovr", ".msk"):
        if (sidecar := Path(f"{path}{suffix}")).name not in kept:
            delete(sidecar)


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
