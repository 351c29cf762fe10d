"""Short of something: room on the disk, a folder, memory, open files. One line, and the next run goes on."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verbs import TRIALS, VERBS, Running, content, differing, run, the_error

from disks import disk

FEW = ("ingest", "generate")  # in the plain test suite
SOME = list(VERBS if TRIALS else FEW)
Unbroken = Callable[[str], dict[str, Any]]


def size_of(made: dict[str, Any]) -> int:
    return sum(len(value) for value in made.values() if isinstance(value, bytes))


@pytest.mark.parametrize("share", [0.3, 0.7] if TRIALS else [0.7])
@pytest.mark.parametrize("verb", SOME)
def test_a_full_disk(verb: str, share: float, inputs: Path, tmp_path: Path, unbroken: Unbroken) -> None:
    """Room for a share of what the verb makes: less than it needs at any time."""
    whole, arguments = unbroken(verb), VERBS[verb].arguments(inputs)
    place = tmp_path / "disk"
    with disk(place, f"size={int(share * size_of(whole))}") as change:
        ended = run(arguments, place)
        if ended.code:
            assert "No space left on device" in the_error(ended)
            assert verb == "study" or not (place / VERBS[verb].last).exists()  # which writes a report of what failed
            change("size=200m")
            ended = run(arguments, place)
        assert ended.code == 0, ended
        assert differing(content(place), whole) == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_cannot_be_written(verb: str, inputs: Path, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with disk(place, "size=1m,ro"):
        assert "cannot be written" in the_error(run(VERBS[verb].arguments(inputs), place))


@pytest.mark.skipif(not TRIALS, reason="`make reliability` does it")
@pytest.mark.parametrize("verb", SOME)
def test_a_folder_that_vanishes(verb: str, inputs: Path, tmp_path: Path) -> None:
    """With all that is unfinished in it, as soon as there is something; some verbs can make it anew."""
    place = tmp_path / "there"
    place.mkdir()
    running = Running(VERBS[verb].arguments(inputs), place)
    while not any(place.rglob("*")) and running.end(after=0.01) is None:
        pass
    shutil.rmtree(place, ignore_errors=True)
    ended = running.end()
    assert ended is not None
    assert ended.code == 0 or the_error(ended)


MEMORY = [20, 60, 100, 150, 300]  # MB more than the process has when it begins


@pytest.mark.parametrize("megabytes", MEMORY if TRIALS else [60])
@pytest.mark.parametrize("verb", SOME)
def test_too_little_memory(verb: str, megabytes: int, inputs: Path, tmp_path: Path) -> None:
    ended = run(VERBS[verb].arguments(inputs), tmp_path, limits={"DATA": megabytes << 20})
    if ended.code:
        assert verb == "study" or "memory" in the_error(ended)
        assert verb == "study" or not (tmp_path / VERBS[verb].last).exists()


@pytest.mark.parametrize("files", [2, 4, 8, 16] if TRIALS else [4])
@pytest.mark.parametrize("verb", SOME)
def test_too_few_open_files(verb: str, files: int, inputs: Path, tmp_path: Path) -> None:
    ended = run(VERBS[verb].arguments(inputs), tmp_path, limits={"NOFILE": files})
    if ended.code:
        assert verb == "study" or "open files" in the_error(ended)
        assert verb == "study" or not (tmp_path / VERBS[verb].last).exists()


OF_RASTERS = ("rasterize", "ingest", "tiles", "generate", "classify")


@pytest.mark.parametrize("verb", OF_RASTERS if TRIALS else ("rasterize", "tiles", "generate"))
def test_without_the_database_of_coordinate_systems(verb: str, inputs: Path, tmp_path: Path) -> None:
    """Images lost the code of their CRS, and other work ended with an error that nobody expected."""
    place = tmp_path / "there"
    place.mkdir()
    error = the_error(run(VERBS[verb].arguments(inputs), place, before=functools.partial(_look_in, str(tmp_path))))
    assert error.startswith(f"error: PROJ_DATA={tmp_path}: holds no database of coordinate systems for GDAL; unset")
    assert not list(place.iterdir())


def test_without_the_driver_of_files_that_are_written(inputs: Path, tmp_path: Path) -> None:
    error = the_error(run(VERBS["rasterize"].arguments(inputs), tmp_path, before=_skip_cog))
    assert error == "error: GDAL has no driver COG, by which files are written; unset GDAL_SKIP"
    assert not list(tmp_path.iterdir())


def _skip_cog() -> None:
    os.environ["GDAL_SKIP"] = "COG"


def _look_in(folder: str) -> None:
    os.environ["PROJ_DATA"] = folder
