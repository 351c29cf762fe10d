"""Failures to write, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geosynth import outputs
from geosynth.models.memory import plain_memory_error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """`geosynth.outputs.writing` for torch, whose writer raises `RuntimeError`, also when memory runs out.

    Raises:
        OutputError: as there.
        MemoryError: if memory ran out.
    """
    with outputs.writing(path, RuntimeError), plain_memory_error():
        yield
