"""UnfinishedImage: finished blocks are read back as they were written; damaged and half-written ones never count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geosynth.errors import OutputError
from geosynth.grid import BlockPlan, Window
from geosynth.raster.unfinished_image import UnfinishedImage

PLAN = BlockPlan(50, 70, (-7, 1003), 32)
JOB = {"seed": 1}


def image_in(folder: Path, dtype: str = "uint8", bands: int = 2) -> UnfinishedImage:
    return UnfinishedImage(folder / "new" / "image.tif", PLAN, bands, dtype)


def block(index: int, dtype: str = "uint8", bands: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(index)
    shape = (PLAN[index].height, PLAN[index].width)
    return (rng.random((bands, *shape)) * 200).astype(dtype), rng.random(shape) < 0.8


def interrupted(image: UnfinishedImage, indices: range) -> None:
    """A run that finishes these blocks and then stops."""
    with pytest.raises(KeyboardInterrupt), image.open(JOB, total=len(PLAN)):
        for index in indices:
            image.write_block(index, *block(index))
        raise KeyboardInterrupt


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_blocks_are_read_back_one_by_one_and_across(dtype: str, tmp_path: Path) -> None:
    image = image_in(tmp_path, dtype)
    whole, valid = np.zeros((2, 50, 70), dtype), np.zeros((50, 70), bool)
    with image.open(JOB):
        for index in reversed(range(1, len(PLAN))):  # block 0 has no data
            pixels, has_data = block(index, dtype)
            image.write_block(index, pixels, has_data)
            whole[:, *PLAN[index].slices] = np.where(has_data, pixels, 0)
            valid[PLAN[index].slices] = has_data
        for window in (Window(0, 0, 50, 70), Window(10, 20, 33, 40), *PLAN):
            found, found_valid = image.read(window)
            np.testing.assert_array_equal(found, whole[:, *window.slices])
            np.testing.assert_array_equal(found_valid, valid[window.slices])
            assert found.dtype == dtype
        np.testing.assert_array_equal(image.read_block(3)[0], whole[:, *PLAN[3].slices])


def test_blocks_survive_an_interruption(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = image_in(tmp_path)
    interrupted(image, range(3))
    assert f"image.tif: stopped; 3 of {len(PLAN)} blocks are kept in" in caplog.text
    with image.open(JOB):
        assert image.finished_blocks() == {0, 1, 2}
        np.testing.assert_array_equal(image.read_block(1)[1], block(1)[1])
    assert not image.folder.exists()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: data[:200] + b"\0\1\2" + data[203:], lambda data: b""]
)
def test_a_damaged_block_is_refused_and_made_anew(damage: Any, tmp_path: Path) -> None:
    image = image_in(tmp_path)
    interrupted(image, range(2))
    file = image.path_of("1")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(OutputError, match=r"image\.tif.*block 1 is damaged; run again"), image.open(JOB):
        image.read_block(1)
    assert image.finished_blocks() == {0}


def test_a_full_disk_is_one_line_and_counts_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_in(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with image.open(JOB):
        image.write_block(0, *block(0))
        monkeypatch.setattr("geosynth.unfinished.os.fsync", fail)
        with pytest.raises(OutputError, match=r"image\.tif: cannot be written: No space left on device"):
            image.write_block(1, *block(1))
        assert image.finished_blocks() == {0}
        assert not list(image.folder.rglob("*.partial"))
