"""Kills at chosen moments, as far as a test in one process can act them out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from geosynth import unfinished


class Killed(BaseException):
    """Nothing runs after it, but for what tests do."""


@contextlib.contextmanager
def killed(patch: pytest.MonkeyPatch, outputs: int) -> Iterator[None]:
    """A kill when so many outputs have taken their places; after the last one, before the hidden folder goes."""
    replace, left = unfinished.replace, iter(range(outputs))

    def until(new: Path, path: Path) -> None:
        if next(left, None) is None:
            raise Killed
        replace(new, path)

    def never(*_: object) -> None:
        raise Killed

    with patch.context() as patched, pytest.raises(Killed):
        patched.setattr(unfinished, "replace", until)
        patched.setattr(unfinished.UnfinishedWork, "_keep", lambda *_: None)
        patched.setattr(unfinished.UnfinishedWork, "_remove", never)
        yield
