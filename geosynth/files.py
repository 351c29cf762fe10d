"""Outputs: checks whether they can be written; writing them as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geosynth.errors import DataError, GeosynthError, OutputError
from geosynth.inputs import band_files, check_input

UNFINISHED = ".unfinished"  # ends the hidden name of what exists of an output so far
_FULL = 1 << 16  # bytes; a disk with less space counts as full


def output_path(out: str | Path) -> Path:
    """The path of an output.

    Raises:
        SettingsError: if it is not a name.
    """
    check_input(out, "an output", "out")
    return Path(out)


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
        above = (folder for folder in path.absolute().parents if folder.exists() or folder.is_symlink())
        nearest = next(above, path)  # / has no parent
        (path.parent / f".{path.name}{UNFINISHED}").exists()  # the longest name beside it
        str(path).encode()
    except OSError as error:  # a name that is too long, a folder without permission
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise OutputError(f"{str(path)!r}: cannot be written: its name is not UTF-8") from error
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{path}: is a pipe or a device, whose place an output would take; choose another name")
    if exists and not overwrite:
        raise OutputError(f"{path}: already exists; choose another name or use --overwrite")
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: {nearest} is not a folder that may be written to")


def refuse_folder(path: Path) -> None:
    """Refuse a folder where a file is to come, which would take the place of all that is in it.

    Raises:
        OutputError: one line.
    """
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written: a folder has this name; choose another name")


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
        said = getattr(error, "strerror", None) or getattr(error.__context__, "strerror", None)
        reason = said or _full(path) or str(error.__cause__ or error).strip().split("\n")[0]
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


def write_whole(path: Path, content: str | bytes, *, folder: Path | None = None) -> None:
    """Write a file as `replacing` does, but never in place of a folder.

    Raises:
        OutputError: if it cannot be written.
    """
    refuse_folder(path)
    with replacing(path, folder=folder) as partial:
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


def delete_sidecars(path: Path, kept: Collection[str] = ()) -> None:
    """Remove side files of a replaced or removed raster, which GDAL would believe, except those named in `kept`."""
    for suffix in (".aux.xml", ".ovr", ".msk"):
        if (sidecar := Path(f"{path}{suffix}")).name not in kept:
            delete(sidecar)
