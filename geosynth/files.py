"""What tells one file from another."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geosynth.errors import GeosynthError, OutputError

# --- What every verb asks of its output's place before it starts to work, and says when writing fails after all.


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists, or whose place cannot be written. Makes nothing.

    Args:
        path: of the file or folder to come; its folder need not exist yet.
        overwrite: let an existing one pass.

    Raises:
        OutputError: one line.
    """
    try:
        exists = path.exists() or path.is_symlink()
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:  # a name too long, a folder that may not be searched
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    if exists and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or say --overwrite")
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: {nearest} is not a folder that may be written to")


@contextmanager
def writing(path: Path, *also: type[Exception]) -> Iterator[None]:
    """Names the file or folder that could not be written.

    Args:
        path: of the output.
        also: errors that the writing library raises beside `OSError`.

    Raises:
        OutputError: instead of those; one line.
    """
    failures: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except GeosynthError:  # some are OSErrors, and say it already
        raise
    except failures as error:
        reason = getattr(error, "strerror", None) or str(error.__cause__ or error).strip().split("\n")[0]
        raise OutputError(f"{path}: cannot be written: {reason}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it; its folder is made if need be.

    Raises:
        OutputError: if it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # two processes may write one file at a time
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
            partial.replace(path)
    finally:
        with suppress(OSError):  # its folder may be the very thing that cannot be made
            partial.unlink()


def sha256_of(*paths: str | Path) -> str:
    """sha256 of a file; of several, as if they were one.

    Raises:
        OSError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            hashlib.file_digest(file, lambda: digest)  # goes on with the digest of the files before
    return digest.hexdigest()
