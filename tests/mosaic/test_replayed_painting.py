"""An image whose cells are replayed, several at a time, as on a GPU, has the bytes of others; told on a processor."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "models"))
from graphs import replay_on_cpu, take_forms_of_a_gpu

from geosynth.config import GenerateSettings
from geosynth.mosaic import painter as painter_module
from geosynth.mosaic.generate import generate
from geosynth.mosaic.painter import Painter
from rasters import draw_labels


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    take_forms_of_a_gpu(monkeypatch)


@pytest.fixture
def graphs(monkeypatch):
    """From now on painters do all that they do for a GPU, but for leaving this processor."""

    class GpuPainter(Painter):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.on_cpu, self.helpers = False, painter_module._GPU_HELPERS

    monkeypatch.setattr("geosynth.mosaic.blend.Painter", GpuPainter)
    monkeypatch.setattr(painter_module, "check_labels", lambda *arguments: None)
    monkeypatch.setattr(torch.cuda, "device", lambda name: nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda: None, synchronize=lambda: None))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda values: values)
    return replay_on_cpu(monkeypatch, painter_module)


@pytest.mark.parametrize(
    ("model", "precision"), [("tiny_model", "fp32"), ("told_model", "fp32"), ("told_model", "bf16")]
)
def test_a_replayed_image_is_the_one_that_is_not(write_raster, tmp_path, model, precision, request):
    labels, model = write_raster(draw_labels(700, 1900), nodata=15), request.getfixturevalue(model)
    settings = GenerateSettings(precision=precision, block_size=1024)
    expected = generate(labels, tmp_path / "as_it_is.tif", model, settings)
    graphs = request.getfixturevalue("graphs")
    found = generate(labels, tmp_path / "replayed.tif", model, settings)
    assert graphs
    assert all(graph.replays for graph in graphs)
    assert found.read_bytes() == expected.read_bytes()
