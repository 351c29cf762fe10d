"""Failures to write, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geosynth.errors import OutputError
from geosynth.models.memory import plain_memory_error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Names the file or folder that could not be written.

    Raises:
        OutputError: instead of `OSError`, and of the `RuntimeError` that torch's writer raises.
    """
    try:
        with plain_memory_error():
            yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
        raise OutputError(f"{path}: cannot be written: {reason}") from error
