"""An interrupted ingest goes on where it was, and ends as one that never was."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forked import start
from geosynth.errors import OutputError, RasterError
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.store import Store
from geosynth.unfinished import UnfinishedWork
from rasters import north_up, random_codes, random_image, write_raster

RGBN = ("red", "green", "blue", "nir")
SIDE = 64
STEP = 2048  # one shard a scene
NUM_SCENES = 12


def add(folder: Path, number: int, seed: int | None = None) -> None:
    seed = number if seed is None else seed
    write_raster(folder / "images" / f"{number}.tif", random_image(seed, SIDE, SIDE), north_up(STEP * number, 0))
    write_raster(folder / "labels" / f"{number}.tif", random_codes(seed, SIDE, SIDE), north_up(STEP * number, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(NUM_SCENES):
        add(tmp_path, number)
    return tmp_path


def run(folder: Path, out: str = "store", progress=lambda done, total: None, **options) -> Store:
    (store,) = ingest(folder / "images", folder / "labels", folder / out, bands=RGBN, progress=progress, **options)
    return store


def interrupt_at(part: int):
    def progress(done: int, total: int) -> None:
        if done == part:
            raise KeyboardInterrupt

    return progress


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store; where its sources lie is the same in all tests."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def shards(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each shard of the labels: both change when it is written again."""
    found = [path for path in (store / "labels" / "c").rglob("*") if path.is_file() and path.suffix != ".partial"]
    return {str(path.relative_to(store)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def run_with_the_end_put_off(folder: Path, waits: Path) -> None:
    """Does not end; makes a file when all shards are there."""

    def tell(done: int, total: int) -> None:
        if done == total:
            waits.touch()
            time.sleep(600)

    run(folder, progress=tell)


def test_a_killed_ingest_goes_on(folder: Path) -> None:
    """kill -9, again and again, at times that differ; what is noted as finished is never done twice."""
    work, waits = UnfinishedWork(folder / "store"), folder / "waits"
    kills = redone = 0
    while not work.out.exists():
        before, done = shards(work.result), work.done()
        # The first kills meet it before its end, however busy the machine is.
        process = start(run_with_the_end_put_off, folder, waits) if kills < 4 else start(run, folder)
        while process.is_alive() and len(work.done()) < len(done) + 2 + kills % 3 and not waits.exists():
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        waits.unlink(missing_ok=True)
        assert done <= work.done() or work.out.exists()
        after = shards(work.out if work.out.exists() else work.result)
        # Shard n holds scene n, in column n of the shards; nothing lies between them.
        known = {part.removeprefix("shard-0-") for part in done if part.startswith("shard")}
        assert all(after[name] == before[name] for name in before if name.rsplit("/", 1)[1] in known)
        redone += sum(after.get(name, place) != place for name, place in before.items())
        kills += process.exitcode != 0
    assert kills >= 4
    assert redone <= kills * 2 * (os.cpu_count() or 1)  # at most what was at work or just made, each time
    work.check(overwrite=True)  # as any run does; the last kill may have met it tidying up
    assert not work.folder.exists()
    run(folder, "unbroken")
    assert contents(work.out) == contents(folder / "unbroken")


@pytest.mark.parametrize("part", [1, NUM_SCENES, NUM_SCENES + 1, 2 * NUM_SCENES - 1, 2 * NUM_SCENES])
def test_an_interrupt_in_any_phase(folder: Path, part: int, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, progress=interrupt_at(part))
    assert "the same command goes on" in caplog.text
    seen: list[int] = []
    run(folder, progress=lambda done, total: seen.append(done))
    assert seen[0] >= part
    assert seen[-1] == 2 * NUM_SCENES
    assert {path.name for path in folder.iterdir()} == {"images", "labels", "store"}
    run(folder, "unbroken")
    assert contents(folder / "store") == contents(folder / "unbroken")


def test_changes_start_anew_and_say_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def again(**options) -> str:
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            run(folder, progress=interrupt_at(3), **options)
        return caplog.text

    assert "starting again" not in again()
    assert "unfinished work with other arguments (shares) is discarded" in again(shares=(0.5, 0.2, 0.3))
    assert "unfinished work with other arguments (shares) is discarded" in again()
    assert "going on" in again()
    add(folder, 5, seed=77)
    assert "other source files" in again()
    assert "5.tif" in caplog.text
    (folder / "labels" / "5.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")  # a side file GDAL reads too
    assert "other source files" in again()
    caplog.clear()
    store = run(folder)
    assert "going on" in caplog.text
    window = next(scene.window for scene in store.scenes if scene.name == "5.tif")
    np.testing.assert_array_equal(store.read_image(window), random_image(77, SIDE, SIDE))


def test_another_grid_under_the_same_name_starts_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"like": folder / "like.tif", "resample_images": "nearest", "resample_labels": "nearest"}
    like = random_image(0, 8, 8)
    write_raster(folder / "like.tif", like, north_up(0, 0))
    with pytest.raises(KeyboardInterrupt):
        run(folder, progress=interrupt_at(NUM_SCENES + 3), **options)
    write_raster(folder / "like.tif", like, north_up(0.5, 0.5))
    store = run(folder, **options)
    assert "unfinished work with other grids is discarded" in caplog.text
    assert store.geobox == run(folder, "unbroken", **options).geobox
    assert contents(folder / "store") == contents(folder / "unbroken")


def test_a_damaged_image_can_be_mended(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "images" / "3.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RasterError, match=r"images/3\.tif: cannot read"):
        run(folder)
    path.write_bytes(whole)
    store = run(folder)
    assert "starting again" in caplog.text
    window = next(scene.window for scene in store.scenes if scene.name == "3.tif")
    np.testing.assert_array_equal(store.read_image(window), random_image(3, SIDE, SIDE))


def test_two_at_once_are_told_apart(folder: Path) -> None:
    def meanwhile(done: int, total: int) -> None:
        if done == 2:
            with pytest.raises(OutputError, match="another process or thread is writing it"):
                run(folder)

    assert len(run(folder, progress=meanwhile).scenes) == NUM_SCENES


def test_what_is_not_unfinished_work_is_left_alone(folder: Path) -> None:
    (folder / ".store.unfinished").mkdir()
    (folder / ".store.unfinished" / "precious").touch()
    with pytest.raises(OutputError, match="in the way"):
        run(folder)
    assert (folder / ".store.unfinished" / "precious").exists()


def test_a_kill_after_the_last_step_leaves_no_puzzle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedWork, "_remove", lambda self: None)  # as if killed just before
        run(folder)
    assert (folder / ".store.unfinished").exists()
    with pytest.raises(OutputError, match="already exists"):
        run(folder)
    assert not (folder / ".store.unfinished").exists()


def test_a_torn_record_is_told_and_made_again(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, progress=interrupt_at(NUM_SCENES + 4))
    torn = max((folder / ".store.unfinished" / "parts").glob("shard-*"))
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(OutputError, match="is damaged; run again to replace it"):
        run(folder)
    run(folder)
    run(folder, "unbroken")
    assert contents(folder / "store") == contents(folder / "unbroken")


def test_nothing_is_logged_when_nothing_was_interrupted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="geosynth"):
        run(folder)
    assert not caplog.records
