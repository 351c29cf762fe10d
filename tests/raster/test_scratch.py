"""Scratch: finished blocks survive, unfinished and foreign ones never count."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geosynth.errors import OutputError
from geosynth.grid import BlockPlan, Window
from geosynth.raster.unfinished import Scratch

PLAN = BlockPlan(50, 70, (-7, 1003), 32)
JOB = {"seed": 1, "model": "abc", "list": (1, 2)}


def scratch_for(folder: Path, dtype: str = "uint8", bands: int = 2) -> Scratch:
    return Scratch(folder / "new" / "image.tif", PLAN, bands, dtype)


def block(index: int, dtype: str = "uint8", bands: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(index)
    shape = (PLAN[index].height, PLAN[index].width)
    return (rng.random((bands, *shape)) * 200).astype(dtype), rng.random(shape) < 0.8


def interrupted(scratch: Scratch, job: dict[str, Any], indices: range) -> list[str]:
    """A run that finishes these blocks and then stops."""
    changed: list[str] = []
    with pytest.raises(KeyboardInterrupt), scratch.open(job) as differing:
        changed = differing
        for index in indices:
            scratch.write(index, *block(index))
        raise KeyboardInterrupt
    return changed


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_blocks_are_read_back_one_by_one_and_across(dtype: str, tmp_path: Path) -> None:
    scratch = scratch_for(tmp_path, dtype)
    whole, valid = np.zeros((2, 50, 70), dtype), np.zeros((50, 70), bool)
    with scratch.open(JOB):
        for index in reversed(range(1, len(PLAN))):  # block 0 has no data
            pixels, has_data = block(index, dtype)
            scratch.write(index, pixels, has_data)
            whole[:, *PLAN[index].slices] = np.where(has_data, pixels, 0)
            valid[PLAN[index].slices] = has_data
        for window in (Window(0, 0, 50, 70), Window(10, 20, 33, 40), *PLAN):
            found, found_valid = scratch.read(window)
            np.testing.assert_array_equal(found, whole[:, *window.slices])
            np.testing.assert_array_equal(found_valid, valid[window.slices])
            assert found.dtype == dtype
        np.testing.assert_array_equal(scratch.load(3)[0], whole[:, *PLAN[3].slices])


def test_after_an_interruption_the_same_job_finds_its_blocks(tmp_path: Path) -> None:
    scratch = scratch_for(tmp_path)
    interrupted(scratch, JOB, range(3))
    (scratch.folder / "0123.partial").write_bytes(b"half a block")
    with scratch.open(dict(JOB)) as changed:
        assert changed == []
        assert scratch.done() == {0, 1, 2}
        assert not list(scratch.folder.glob("*.partial"))
        np.testing.assert_array_equal(scratch.load(1)[1], block(1)[1])
    assert not scratch.folder.exists()


@pytest.mark.parametrize(
    ("job", "expected"), [(JOB | {"seed": 2}, ["seed"]), ({"seed": 1, "model": "abc"}, ["list"])], ids=str
)
def test_blocks_of_another_job_are_thrown_away_by_name(
    job: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    scratch = scratch_for(tmp_path)
    interrupted(scratch, JOB, range(2))
    with scratch.open(job) as changed:
        assert changed == expected
        assert scratch.done() == set()


def test_a_folder_with_a_damaged_description_is_not_trusted(tmp_path: Path) -> None:
    scratch = scratch_for(tmp_path)
    interrupted(scratch, JOB, range(2))
    (scratch.folder / "job.json").write_text('{"seed": 1,')
    with scratch.open(JOB) as changed:
        assert changed == sorted(JOB)
        assert scratch.done() == set()


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:200] + b"\0\1\2" + data[203:]])
def test_a_damaged_block_is_refused_and_painted_anew(damage: Any, tmp_path: Path) -> None:
    scratch = scratch_for(tmp_path)
    interrupted(scratch, JOB, range(2))
    file = next(scratch.folder.glob("*1.npz"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(OutputError, match=r"image\.tif.*block 1 is damaged; run again"), scratch.open(JOB):
        scratch.load(1)
    assert scratch.done() == {0}


def test_an_error_before_the_first_block_leaves_nothing(tmp_path: Path) -> None:
    interrupted(scratch_for(tmp_path), JOB, range(0))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_counts_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = scratch_for(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with scratch.open(JOB):
        scratch.write(0, *block(0))
        monkeypatch.setattr("geosynth.raster.unfinished.os.fsync", fail)
        with pytest.raises(OutputError, match=r"image\.tif: cannot be written: No space left on device"):
            scratch.write(1, *block(1))
        assert scratch.done() == {0}
        assert not list(scratch.folder.glob("*.partial"))


def _hold(path: Path, ready: Any) -> None:
    with scratch_for(path).open(JOB):
        ready.set()
        time.sleep(600)  # not an event: setting one hangs where a killed process waited for it


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_two_processes_do_not_write_one_image(other_process: Any, tmp_path: Path) -> None:
    scratch = scratch_for(tmp_path)
    with pytest.raises(OutputError, match="another process is writing it"), scratch.open(JOB):
        pass
    assert scratch.folder.exists(), "the other one's work stays"
    other_process.kill()
    other_process.join()
    with scratch.open(JOB):  # a killed process holds nothing
        pass
