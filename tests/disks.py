"""Small disks of their own, to fill or to lock."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(folder: Path, *options: str) -> Iterator[Callable[..., None]]:
    """A disk of its own at a folder; the value mounts it again otherwise. Skips the test where that is not allowed."""

    def mount(*options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True, capture_output=True
        )

    folder.mkdir()
    try:
        mount(*options)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    try:
        yield lambda *options: mount("remount", *options)
    finally:
        subprocess.run(["umount", folder], check=True)
