"""Painting by the workers of a cluster in this process: what travels to them, what they do with it, what comes back."""

from __future__ import annotations

import contextlib
import gc
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dask.base import tokenize
from distributed import Client, KilledWorker, LocalCluster

import geosynth
from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError, ClusterError
from geosynth.grid import Window
from geosynth.mosaic import inputs, portable
from geosynth.mosaic.blend import BlendPainter as Blend
from geosynth.mosaic.painter import LabelledWindow, Painter, paint_plan
from geosynth.mosaic.pipeline import read_around
from geosynth.mosaic.portable import PortablePainter, paint_on_cluster, settle_precision
from geosynth.mosaic.style import style_digest
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.raster_file import open_raster
from geosynth.raster.unfinished_image import UnfinishedImage
from rasters import draw_labels

Write = Callable[..., Path]
SETTINGS = GenerateSettings(precision="fp32", seed=3)


@pytest.fixture
def client() -> Iterator[Client]:
    """Of one worker, whose tasks run in a thread of this process."""
    portable._loaded.cache_clear()
    threads = torch.get_num_threads()
    options = {"processes": False, "dashboard_address": None}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **options) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        torch.set_num_threads(1)  # as in the worker, whose bytes are compared with those of the test's thread
        yield client
    torch.set_num_threads(threads)
    portable._loaded.cache_clear()


@dataclass
class Work:
    """An image to paint of labels with blocks that are empty."""

    source: LabelRaster
    image: UnfinishedImage
    painter: Painter

    def block(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """What this process paints of it: (bands, height, width), and where there is data."""
        labels = read_around(self.painter, self.source, self.image.plan[index], self.image.plan.origin)
        everywhere = labels._replace(valid=np.ones_like(labels.valid))
        return self.painter.paint(everywhere) * labels.valid, labels.valid


@pytest.fixture
def work(write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> Work:
    codes = draw_labels(300, 400)
    codes[:, 90:350] = 15
    raster = open_raster(write_raster(codes, nodata=15))
    source = LabelRaster(raster, choose_legend(raster, None, tiny_model.card.legend))
    image = UnfinishedImage(tmp_path / "image.tif", paint_plan(source.geobox, 128), 4, "uint8")
    return Work(source, image, Painter(tiny_model, SETTINGS, 40))


@pytest.mark.parametrize("seen", [True, False])
def test_blocks_are_those_of_one_process_largest_first(
    seen: bool, work: Work, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the worker sees the folder of the image, and writes there, or not."""
    plan, image, written = work.image.plan, work.image, []
    write, touch = UnfinishedImage.write_block, Path.touch

    def counted(self: UnfinishedImage, index: int, *arrays: np.ndarray) -> None:
        written.append((index, self is image))
        assert len(list(image.folder.glob("*.partial"))) == seen
        write(self, index, *arrays)

    monkeypatch.setattr(UnfinishedImage, "write_block", counted)
    if not seen:
        monkeypatch.setattr(Path, "touch", lambda path: path.name == "lock" and touch(path))
    todo = [index for index in range(len(plan)) if index != 1]
    full = {index for index in todo if work.block(index)[1].any()}
    assert 0 < len(full) < len(todo)
    with image.open({}, total=len(plan)):
        order = list(paint_on_cluster(client, work.painter, work.source, image, todo))
        assert sorted(order) == todo
        areas = [plan[index].height * plan[index].width for index in order]
        assert areas == sorted(areas, reverse=True)
        assert len(set(areas)) > 2
        assert sorted(written) == sorted((index, not seen) for index in full)
        assert image.finished_blocks() == full
        assert not list(image.folder.glob("*.partial"))
        for index in full:
            for kept, expected in zip(image.read_block(index), work.block(index), strict=True):
                np.testing.assert_array_equal(kept, expected)
    assert portable._loaded.cache_info().misses == 1, "the model was loaded from its file, once"


def test_a_call_with_a_client_gives_the_image_of_one_process(
    client: Client, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_raster(draw_labels(60, 70))
    expected = geosynth.generate(labels, tmp_path / "expected.tif", tiny_model, SETTINGS)
    settings = SETTINGS.model_copy(update={"precision": "auto", "device": "cpu"})
    monkeypatch.setattr(portable, "settle_precision", lambda settings, client: SETTINGS)
    devices, load = [], inputs.load_generator
    monkeypatch.setattr(inputs, "load_generator", lambda path, device: devices.append(device) or load(path, device))
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model.path, settings, client=client)
    assert image.read_bytes() == expected.read_bytes()
    assert devices == ["cpu"], "here the model is only looked at, whatever device the workers have"


def test_an_error_of_a_worker_is_told_here_and_the_mark_goes(
    work: Work, client: Client, told_model: GeneratorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: object) -> None:
        raise KilledWorker("task", SimpleNamespace(address="inproc"), 3)  # type: ignore[arg-type]

    path = Path(shutil.copy(work.painter.model.path, tmp_path / "copy.safetensors"))
    other = Painter(load_generator(path), SETTINGS, 40)
    assert other.model.sha256
    shutil.copy(told_model.path, path)
    with work.image.open({}, total=len(work.image.plan)):
        with pytest.raises(CheckpointError, match=r"copy.safetensors: on this worker another file"):
            list(paint_on_cluster(client, other, work.source, work.image, [0, 1]))
        monkeypatch.setattr(Painter, "paint", lost)
        with pytest.raises(ClusterError, match=r"image.tif: workers died repeatedly"):
            list(paint_on_cluster(client, work.painter, work.source, work.image, [0, 1]))
        assert not list(work.image.folder.glob("*.partial"))


def test_a_painter_that_travelled_is_the_same(told_model: GeneratorModel, tiny_model: GeneratorModel) -> None:
    look, latent = told_model.look("bright"), torch.tensor([1.0, -2.0, 0.5, 0.0])
    for kind, model, style in ((Painter, told_model, look), (Painter, tiny_model, latent), (Blend, tiny_model, None)):
        one = PortablePainter(kind(model, SETTINGS, 40, style))
        other = pickle.loads(pickle.dumps(one))
        assert type(other.painter) is kind
        assert other.painter.model.sha256 == model.sha256
        assert (other.painter.settings, other.painter.style_length) == (SETTINGS, 40)
        assert style_digest(other.painter.style) == style_digest(style)
        assert tokenize(other) == tokenize(one) != tokenize(PortablePainter(kind(model, SETTINGS, 41, style)))
        assert one.painter.context(Window(10, 13, 20, 30)) == other.painter.context(Window(10, 13, 20, 30))


def test_memory_is_kept_from_the_first_window_on_until_the_painter_goes(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextlib.contextmanager
    def keep() -> Iterator[None]:
        told.append("kept")
        yield
        told.append("given back")

    monkeypatch.setattr(portable, "keep_freed_memory", keep)
    portable_one, window = PortablePainter(work.painter), Window(0, 0, 8, 8)
    context = work.painter.context(window)
    indices = np.zeros((context.height, context.width), np.uint8)
    assert not told
    for _ in range(2):
        portable_one.paint(LabelledWindow(window, context, indices, np.ones((8, 8), bool)))
        assert told == ["kept"]
    del portable_one
    gc.collect()
    assert told == ["kept", "given back"]


@pytest.mark.parametrize("choices", [(True, True), (True, False), (False, False)])
def test_bfloat16_is_for_workers_that_all_choose_it(choices: tuple[bool, ...]) -> None:
    asked = []

    def run(*call: object) -> dict[str, bool]:
        asked.append(call)
        return dict(zip("ab", choices, strict=True))

    settings = GenerateSettings(precision="auto", device="cpu", seed=5)
    settled = settle_precision(settings, SimpleNamespace(run=run))  # type: ignore[arg-type]
    assert asked == [(portable.uses_bfloat16, "auto", "cpu")]
    assert settled == GenerateSettings(precision="bf16" if all(choices) else "fp32", device="cpu", seed=5)
