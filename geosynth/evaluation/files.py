"""Where a report lands: all of its files, or none."""

from __future__ import annotations

import shutil
from pathlib import Path

from geosynth.errors import OutputError
from geosynth.outputs import check_output, writing

CACHE = "cache"  # in the folder: what another run may use again


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse before the work what would fail after it. A folder that holds only a cache is as good as none.

    Raises:
        OutputError: one line.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the report needs a folder")
    only_cache = folder.is_dir() and all(path.name == CACHE for path in folder.iterdir())
    check_output(folder, overwrite=overwrite or only_cache)


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Under a temporary name first. Other files in an existing folder stay.

    Raises:
        OutputError: if they cannot be written.
    """
    place = folder.resolve()
    partial = place.with_name(place.name + ".partial")
    try:
        with writing(folder):
            partial.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (partial / name).write_text(text, encoding="utf-8")
            if place.exists():
                for name in files:
                    (partial / name).replace(place / name)
            else:
                partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
