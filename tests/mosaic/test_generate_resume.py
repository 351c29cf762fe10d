"""An interrupted image goes on where it stopped and ends in the same bytes; nothing half-made takes the final name."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import OutputError
from geosynth.mosaic.generate import generate_file
from geosynth.mosaic.pipeline import paint_blocks
from geosynth.raster.unfinished import Scratch
from rasters import draw_labels

Write = Callable[..., Path]
SETTINGS = GenerateSettings(block_size=128)


@pytest.fixture
def labels(write_raster: Write) -> Path:
    codes = draw_labels(330, 410)
    codes[:100, :90] = 15
    return write_raster(codes, nodata=15)


def folder_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.scratch")


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
    whole = generate_file(labels, tmp_path / "whole.tif", tiny_model, SETTINGS)
    out, first, second = tmp_path / "image.tif", Painted(5, error), Painted()
    with pytest.raises(type(error)):
        generate_file(labels, out, tiny_model, SETTINGS, executor=first)
    assert not out.exists()
    kept = len(list(folder_of(out).glob("*.npz")))
    assert kept > 0
    assert f"stopped; {kept} of " in caplog.text
    assert "the same command goes on from there" in caplog.text
    caplog.clear()

    generate_file(labels, out, tiny_model, SETTINGS, executor=second)
    assert caplog.text == ""
    assert len(second.indices) == len(set(first.indices) | set(second.indices)) - kept
    assert out.read_bytes() == whole.read_bytes()
    assert not folder_of(out).exists()


def test_the_order_of_blocks_does_not_show(labels: Path, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    def shuffled(painter: Any, source: Any, plan: Any, todo: Iterable[int], scratch: Scratch) -> Iterator[int]:
        order = list(todo)
        random.Random(0).shuffle(order)
        yield from paint_blocks(painter, source, plan, order, scratch)

    first = generate_file(labels, tmp_path / "a.tif", tiny_model, SETTINGS)
    second = generate_file(labels, tmp_path / "b.tif", tiny_model, SETTINGS, executor=shuffled)
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


@pytest.mark.parametrize("change", [other_seed, other_precision, other_labels], ids=lambda change: change.__name__)
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
        generate_file(labels, out, tiny_model, settings, executor=Painted(5))
    caplog.clear()
    changed_labels, settings, name = change(labels, tiny_model, write_raster)
    settings = settings if name == "precision" else settings.model_copy(update={"precision": "bf16"})
    painted = Painted()
    generate_file(changed_labels, out, tiny_model, settings, executor=painted)
    assert [line for line in caplog.messages if f"other {name} is thrown away; starting afresh" in line]
    fresh = generate_file(changed_labels, tmp_path / "fresh.tif", tiny_model, settings)
    assert out.read_bytes() == fresh.read_bytes()


def test_compression_may_change_between_runs(labels: Path, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    out, second = tmp_path / "image.tif", Painted()
    with pytest.raises(KeyboardInterrupt):
        generate_file(labels, out, tiny_model, SETTINGS, executor=Painted(5))
    settings = SETTINGS.model_copy(update={"compress": "zstd"})
    generate_file(labels, out, tiny_model, settings, executor=second)
    fresh = generate_file(labels, tmp_path / "fresh.tif", tiny_model, settings)
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
        generate_file(labels, out, tiny_model, SETTINGS)
    assert not out.exists()
    generate_file(labels, out, tiny_model, SETTINGS, executor=second)
    assert all(index not in second.indices for index in range(2, 4)), "finished blocks are not painted again"
    assert out.exists()


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("paint_worker.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.terminate()


def run(worker: subprocess.Popen[str], labels: Path, out: Path, model: Path, seconds: float | None = None) -> int:
    """One generate in a process of its own, killed after some seconds; its exit code."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{labels} {out} {model}\n")
    worker.stdin.flush()
    process = int(worker.stdout.readline())
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return int(worker.stdout.readline())


@pytest.mark.slow
def test_killed_at_random_points_many_times(
    labels: Path, tmp_path: Path, tiny_model: GeneratorModel, worker: subprocess.Popen[str]
) -> None:
    """kill -9 while checking, painting, writing blocks and finishing; never anything but the whole image."""
    rng = np.random.default_rng(0)
    whole, model = tmp_path / "whole.tif", tiny_model.path
    assert run(worker, labels, whole, model) == 0
    began = time.monotonic()
    assert run(worker, labels, whole, model) == 0
    duration = time.monotonic() - began

    out, kills, kept = tmp_path / "image.tif", 0, set()
    for attempt in range(200):
        code = run(worker, labels, out, model, float(rng.uniform(0.2, 0.9)) * duration)
        assert not out.exists() or out.read_bytes() == whole.read_bytes(), f"after kill {attempt}"
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        kept.add(len(list(folder_of(out).glob("*.npz"))))
    assert kills >= 3
    assert len(kept) > 1, "no run got further than the one before"
    assert run(worker, labels, out, model) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "labels.tif", "whole.tif"]
    worker.terminate()
    assert worker.stderr is not None
    assert "thrown away" not in worker.stderr.read()
