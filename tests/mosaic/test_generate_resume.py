"""An interrupted image goes on where it stopped and ends in the same bytes; nothing half-made takes the final name."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from disks import disk
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import OutputError
from geosynth.legend import Legend
from geosynth.mosaic.image import paint_image, painter_for
from geosynth.mosaic.pipeline import paint_blocks
from geosynth.mosaic.provenance import painting_job
from geosynth.raster.label_files import open_labels
from geosynth.raster.labels import LabelRaster
from geosynth.raster.unfinished_image import UnfinishedImage
from geosynth.unfinished import UnfinishedWork
from kills import killed
from rasters import draw_labels

Write = Callable[..., Path]
SETTINGS = GenerateSettings(block_size=128)


@pytest.fixture
def labels(write_raster: Write) -> Path:
    codes = draw_labels(330, 410)
    codes[:100, :90] = 15
    return write_raster(codes, nodata=15)


def paint(labels: Path, out: Path, model: GeneratorModel, settings: GenerateSettings, **options: Any) -> Path:
    return paint_image(open_labels(labels), out, model, settings, **options)


def folder_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished")


def blocks_of(out: Path) -> set[str]:
    """Names of the finished ones."""
    return UnfinishedWork(out).done()


def num_partial(out: Path) -> int:
    """Files of the image to come; 0 also where the folder goes meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return sum(".partial" in path.name for path in folder_of(out).iterdir())
    return 0


class Painted:
    """An executor that counts blocks, and stops after some."""

    def __init__(self, stop_after: int | None = None, error: BaseException | None = None) -> None:
        self.indices: list[int] = []
        self.stop_after = stop_after
        self.error = error or KeyboardInterrupt()

    def __call__(self, *arguments: Any) -> Iterator[int]:
        for index in paint_blocks(*arguments):
            self.indices.append(index)
            if len(self.indices) == self.stop_after:
                raise self.error
            yield index


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), OutputError("disk full"), MemoryError()])
def test_the_next_run_paints_only_what_is_missing(
    error: BaseException, labels: Path, tmp_path: Path, tiny_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    whole = paint(labels, tmp_path / "whole.tif", tiny_model, SETTINGS)
    out, first, second = tmp_path / "image.tif", Painted(5, error), Painted()
    with pytest.raises(type(error)):
        paint(labels, out, tiny_model, SETTINGS, executor=first)
    assert not out.exists()
    kept = len(blocks_of(out))
    assert kept > 0
    assert f"stopped; {kept} of " in caplog.text
    assert "the same command goes on from there" in caplog.text
    caplog.clear()

    told: list[tuple[int, int]] = []
    tell = {"progress": lambda stage, *parts: told.append(parts) if stage == "writing" else None}
    paint(labels, out, tiny_model, SETTINGS, executor=second, **tell)
    assert told == [(done, kept) for done in range(1, kept + 1)]
    assert caplog.text == ""
    assert len(second.indices) == len(set(first.indices) | set(second.indices)) - kept
    assert out.read_bytes() == whole.read_bytes()
    assert not folder_of(out).exists()


def test_the_order_of_blocks_does_not_show(labels: Path, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    def shuffled(painter: Any, source: Any, image: Any, todo: Iterable[int]) -> Iterator[int]:
        order = list(todo)
        random.Random(0).shuffle(order)
        yield from paint_blocks(painter, source, image, order)

    first = paint(labels, tmp_path / "a.tif", tiny_model, SETTINGS)
    second = paint(labels, tmp_path / "b.tif", tiny_model, SETTINGS, executor=shuffled)
    assert first.read_bytes() == second.read_bytes()


def test_blocks_that_a_disk_shows_late_are_written(
    labels: Path, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another machine has made them, and this one remembers for a while what it has seen in the folder."""
    first = paint(labels, tmp_path / "a.tif", tiny_model, SETTINGS)
    late, has_block = itertools.cycle([True, False, False]), UnfinishedImage.has_block

    def seen(image: UnfinishedImage, index: int) -> bool:
        return has_block(image, index) and next(late)

    monkeypatch.setattr(UnfinishedImage, "has_block", seen)
    second = paint(labels, tmp_path / "b.tif", tiny_model, SETTINGS)
    assert first.read_bytes() == second.read_bytes()


def other_seed(labels: Path, model: GeneratorModel, write: Write) -> tuple[Path, GenerateSettings, str]:
    return labels, SETTINGS.model_copy(update={"seed": 1}), "seed"


def other_precision(labels: Path, model: GeneratorModel, write: Write) -> tuple[Path, GenerateSettings, str]:
    return labels, SETTINGS.model_copy(update={"precision": "fp32"}), "precision"


def other_labels(labels: Path, model: GeneratorModel, write: Write) -> tuple[Path, GenerateSettings, str]:
    codes = draw_labels(330, 410)
    codes[:100, :90] = 15
    codes[329, 409] = codes[329, 409] % 5 + 1
    return write(codes, labels.name, nodata=15), SETTINGS, "labels"


def other_blocks(labels: Path, model: GeneratorModel, write: Write) -> tuple[Path, GenerateSettings, str]:
    return labels, SETTINGS.model_copy(update={"block_size": 256}), "block_size"


@pytest.mark.parametrize(
    "change", [other_seed, other_precision, other_labels, other_blocks], ids=lambda change: change.__name__
)
def test_what_was_painted_for_another_job_is_thrown_away_and_that_is_said(
    change: Any,
    labels: Path,
    write_raster: Write,
    tmp_path: Path,
    tiny_model: GeneratorModel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "image.tif"
    settings = SETTINGS.model_copy(update={"precision": "bf16"})
    with pytest.raises(KeyboardInterrupt):
        paint(labels, out, tiny_model, settings, executor=Painted(5))
    caplog.clear()
    changed_labels, settings, name = change(labels, tiny_model, write_raster)
    settings = settings if name == "precision" else settings.model_copy(update={"precision": "bf16"})
    painted = Painted()
    paint(changed_labels, out, tiny_model, settings, executor=painted)
    assert [line for line in caplog.messages if f"other {name} is discarded; starting again" in line]
    fresh = paint(changed_labels, tmp_path / "fresh.tif", tiny_model, settings)
    assert out.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed"),
        ({"block_size": 256}, "block_size"),
        ({"mosaic": "blend"}, "mosaic"),
        ({"style_length": 7}, "style_length"),
        ({"precision": "bf16"}, "precision"),
        ({"look": "bright"}, "style"),
        ({"look": "dim"}, None),  # the model's default
        ({"precision": "fp32", "style_length": 256}, None),  # as they are by themselves
        ({"compress": "lzw", "unknown": "nodata", "preview": True, "stac": True}, None),
        ({"resample": "mode"}, None),  # the labels are others then
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_job_is_told_by_what_decides_its_bytes(
    change: dict[str, Any], told: str | None, labels: Path, told_model: GeneratorModel
) -> None:
    source = LabelRaster(labels, told_model.card.legend)
    survey = source.survey()

    def job(**changes: Any) -> dict[str, Any]:
        settings = GenerateSettings.changed(SETTINGS, {"precision": "fp32", **changes})
        painter = painter_for(source.geobox, told_model, settings)
        return painting_job(painter, source, survey, settings.block_size)

    before, after = job(), job(**change)
    assert json.loads(json.dumps(after)) == after, "as it is kept"
    assert {name for name in before | after if before.get(name) != after.get(name)} == ({told} if told else set())


def test_a_job_is_of_its_labels_legend_and_version(
    labels: Path, write_raster: Write, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job(
        raster: Path, legend: Legend = tiny_model.card.legend, model: GeneratorModel = tiny_model
    ) -> dict[str, Any]:
        source = LabelRaster(raster, legend)
        painter = painter_for(source.geobox, model, SETTINGS)
        return painting_job(painter, source, source.survey(), SETTINGS.block_size)

    def differing(one: dict[str, Any]) -> set[str]:
        return {name for name in before | one if before.get(name) != one.get(name)}

    before = job(labels)
    other = GeneratorModel(tiny_model.generator, tiny_model.card, labels)
    assert differing(job(labels, model=other)) == {"model"}
    codes = draw_labels(330, 410)
    assert differing(job(write_raster(codes, "other.tif", nodata=15))) == {"labels"}
    classes = [{"code": entry.code, "name": entry.name} for entry in tiny_model.card.legend.classes]
    classes[0]["also"] = [77]
    more = Legend.from_values({"name": "chesapeake", "classes": classes}).translation_to(tiny_model.card.legend)
    assert differing(job(labels, more)) == {"legend"}
    monkeypatch.setattr("geosynth.mosaic.provenance.__version__", "0.0.0")
    assert differing(job(labels)) == {"version"}


def test_compression_may_change_between_runs(labels: Path, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    out, second = tmp_path / "image.tif", Painted()
    with pytest.raises(KeyboardInterrupt):
        paint(labels, out, tiny_model, SETTINGS, executor=Painted(5))
    settings = SETTINGS.model_copy(update={"compress": "zstd"})
    paint(labels, out, tiny_model, settings, executor=second)
    fresh = paint(labels, tmp_path / "fresh.tif", tiny_model, settings)
    assert out.read_bytes() == fresh.read_bytes()
    assert len(second.indices) < 12


def test_a_full_disk_while_writing_the_image_keeps_the_blocks(
    labels: Path, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, second = tmp_path / "image.tif", Painted()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OutputError, match=r"image\.tif: cannot be written: No space"):
        patched.setattr("geosynth.raster.cog.CogWriter._finish", fail)
        paint(labels, out, tiny_model, SETTINGS)
    assert not out.exists()
    paint(labels, out, tiny_model, SETTINGS, executor=second)
    assert all(index not in second.indices for index in range(2, 4)), "finished blocks are not painted again"
    assert out.exists()


class Worker:
    """A process that starts one generate after another, each in a process of its own, that can be killed."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("paint_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)

    def run(
        self, labels: Path, out: Path, model: Path, reached: Callable[[], bool] | None = None, last: int = 1000
    ) -> int:
        """One generate, killed as soon as it got so far, with `last` blocks at the latest; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{labels} {out} {model} {last}\n")
        self.process.stdin.flush()
        number = int(self._said.get(timeout=300))
        if reached is not None:
            while not reached() and self._said.empty():
                time.sleep(0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return int(self._said.get(timeout=300))


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    with worker.process:
        yield worker
        worker.process.kill()


@pytest.mark.slow
def test_killed_at_random_points_many_times(
    labels: Path, tmp_path: Path, tiny_model: GeneratorModel, worker: Worker
) -> None:
    """kill -9 while checking, painting, writing blocks and finishing; never anything but the whole image."""
    rng = np.random.default_rng(0)
    whole, model, out = tmp_path / "whole.tif", tiny_model.path, tmp_path / "image.tif"
    assert worker.run(labels, whole, model) == 0

    def reaches(blocks: int, files: int) -> Callable[[], bool]:
        """So many more blocks are finished, so many files of the image to come are there; and a moment passes."""
        goal = len(blocks_of(out)) + blocks

        def reached() -> bool:
            if len(blocks_of(out)) < goal or num_partial(out) < files:
                return False
            time.sleep(rng.uniform(0, 0.02))
            return True

        return reached

    kept = []
    for blocks, files in [(0, 0), (1, 0), (0, 0), (2, 0), (1, 0), (1, 0), (0, 1), (0, 2), (0, 1), (0, 2), (0, 0)]:
        # The first kills meet it while it paints, however busy the machine is.
        last = len(blocks_of(out)) + blocks + 2 if len(kept) < 3 else 1000
        code = worker.run(labels, out, model, reaches(blocks, files), last)
        assert not out.exists() or out.read_bytes() == whole.read_bytes(), f"after kill {len(kept)}"
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kept.append(len(blocks_of(out)))
    assert len(kept) >= 3
    assert len(set(kept)) > 1, "no run got further than the one before"
    assert worker.run(labels, out, model) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "labels.tif", "whole.tif"]
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.stderr is not None
    assert "discarded" not in worker.process.stderr.read()


def contents(folder: Path) -> dict[str, bytes]:
    """Of the outputs; times are left out of the item."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    if "image.json" in found:
        item = json.loads(found["image.json"])
        item["properties"].pop("datetime")
        found["image.json"] = json.dumps(item).encode()
    return found


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("outputs", range(4))
def test_a_kill_among_the_outputs_is_made_up_for(
    outputs: int,
    overwrite: bool,
    labels: Path,
    tmp_path: Path,
    tiny_model: GeneratorModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = SETTINGS.model_copy(update={"preview": True, "stac": True})
    whole, broken = tmp_path / "whole" / "image.tif", tmp_path / "broken" / "image.tif"
    if overwrite:
        paint(labels, broken, tiny_model, settings.model_copy(update={"seed": 1}))
        broken.with_name("image.tif.aux.xml").write_text("<PAMDataset/>")
    paint(labels, whole, tiny_model, settings)
    with killed(monkeypatch, outputs):
        paint(labels, broken, tiny_model, settings, overwrite=overwrite)
    again = Painted()
    paint(labels, broken, tiny_model, settings, overwrite=overwrite, executor=again)
    assert contents(broken.parent) == contents(whole.parent)
    assert len(again.indices) <= 1, "at most the one without data"


def test_after_such_a_kill_another_image_is_refused_and_the_first_one_whole(
    labels: Path, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"preview": True, "stac": True})
    whole, broken = tmp_path / "whole" / "image.tif", tmp_path / "broken" / "image.tif"
    paint(labels, whole, tiny_model, settings)
    with killed(monkeypatch, 1):
        paint(labels, broken, tiny_model, settings)
    with pytest.raises(OutputError, match=r"image\.tif: already exists"):
        paint(labels, broken, tiny_model, settings.model_copy(update={"seed": 1}))
    assert contents(broken.parent) == contents(whole.parent)


FULL = {"image.png": (Image.Image, "save"), "image.json": (Path, "write_bytes")}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_after_the_image_leaves_no_image_and_keeps_the_blocks(
    name: str, labels: Path, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"preview": True, "stac": True})
    whole, broken, again = tmp_path / "whole" / "image.tif", tmp_path / "broken" / "image.tif", Painted()
    paint(labels, whole, tiny_model, settings)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    said = f"^{re.escape(str(broken.with_name(name)))}: cannot be written: No space left on device$"
    with monkeypatch.context() as patched, pytest.raises(OutputError, match=said):
        patched.setattr(*FULL[name], fail)
        paint(labels, broken, tiny_model, settings)
    assert [path.name for path in broken.parent.iterdir()] == [".image.tif.unfinished"]
    paint(labels, broken, tiny_model, settings, executor=again)
    assert len(again.indices) <= 1
    assert contents(broken.parent) == contents(whole.parent)


@pytest.mark.parametrize("kilobytes", [150, 800, 1100, 1250])
def test_a_full_disk_leaves_nothing_under_a_name_and_the_next_run_goes_on(
    kilobytes: int, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels, place = write_raster(draw_labels(160, 160)), tmp_path / "disk"
    settings, whole = SETTINGS.model_copy(update={"preview": True, "stac": True}), tmp_path / "whole" / "image.tif"
    with disk(place, f"size={kilobytes}k") as change:
        with pytest.raises(OutputError, match=r"/image\.\w+: cannot be written: No space left on device$"):
            paint(labels, place / "image.tif", tiny_model, settings)
        assert {path.name for path in place.iterdir()} <= {".image.tif.unfinished"}
        change("size=20m")
        paint(labels, place / "image.tif", tiny_model, settings)
        paint(labels, whole, tiny_model, settings)
        assert contents(place) == contents(whole.parent)
