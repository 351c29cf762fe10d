"""What a GPU replays for a cell, noise and looks included: the same operations for any labels, none that is waited for.

It is told without a GPU, see `operations.py` beside the tests of the networks.
"""

import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "models"))
from label_maps import label_map, randomise
from operations import Record, fake_gpu, launch_nothing

from geosynth.checkpoint import GeneratorModel, ModelCard
from geosynth.config import BandSettings, GenerateSettings, GeneratorSettings
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.models import generator
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks import codes
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import style_size
from geosynth.models.modulation import SpadeModulation
from geosynth.mosaic import painter as painter_module
from geosynth.mosaic.blend import BlendPainter
from geosynth.mosaic.painter import CELL, LabelledWindow, Painter

SMALL = {"num_classes": 6, "num_bands": 4, "base_width": 4, "max_multiple": 2, "hidden_channels": 4, "depth": "less"}
TOLD = {"latent_size": 0, "style_lengths": (24,) * 6}
LINEAR = {"start": "linear", "crop_size": 64, "padding": "zeros", "noise_channels": 0, "stage_noise": False}
# Settings of the generator, those of the painter, pixels over which the style drifts, and whether it is fixed.
CASES = {
    "a look, drawn": (TOLD, Painter, 2048, False),
    "a look, the same everywhere": (TOLD, Painter, 0, False),
    "a look of regions": ({**TOLD, "style_regions": (4, 1)}, Painter, 2048, False),
    "a look with edges": (TOLD, Painter, 2048, False),
    "a look that changes gradually": ({**TOLD, "style_gradual": (0,)}, Painter, 2048, False),
    "styles, drawn": ({"latent_size": 3}, Painter, 2048, False),
    "a style, fixed": ({"latent_size": 3}, Painter, 2048, True),
    "neither": ({"latent_size": 0}, Painter, 2048, False),
    "blended windows": ({"latent_size": 3, **LINEAR}, BlendPainter, 2048, False),
}


def a_look(edges=False):
    size = style_size(4)
    look = Look(torch.zeros(6, size), torch.randn(3, 6, 2, size), torch.ones(6))
    return replace(look, around=torch.rand(3, 6, 2), edge_effect=torch.randn(6, 2, size)) if edges else look


def painter_of(case, precision):
    changes, kind, length, fixed = CASES[case]
    settings = GeneratorSettings(**{**SMALL, **changes})
    network = SpadeGenerator(settings).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    randomise(network)
    bands = BandSettings(names=("red", "green", "blue", "nir"))
    card = ModelCard(settings=settings, legend=CHESAPEAKE, bands=bands, gsd=1.0)
    model = GeneratorModel(
        network, card, Path("model"), looks={"here": a_look("edges" in case)} if settings.style_lengths else {}
    )
    return kind(model, GenerateSettings(precision=precision, overlap=32), length, torch.ones(3) if fixed else None)


@pytest.mark.parametrize("case", CASES)
def test_a_cell_is_the_same_operations_for_any_labels_and_places(case, monkeypatch):
    """With values, on a processor, in the form that a GPU takes."""
    monkeypatch.setattr(generator, "check_labels", lambda *arguments: None)  # on a GPU before the labels are uploaded
    monkeypatch.setattr(codes, "_can_count", lambda places: False)
    painter = painter_of(case, "fp32")
    for module in painter.generator.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"
    side = 64 if painter.mode == "blend" else 64 + 2 * painter.margin
    ways = torch.zeros((2, len(painter.network.style_regions), 2, side // 8, side // 8), dtype=torch.int8)
    shares = torch.rand((2, 6 if painter.network.style_lengths else 0, side // 8, side // 8))
    cells = [
        (torch.zeros((2, side, side), dtype=torch.uint8), torch.tensor([(0, 0), (0, 512)]), ways, shares),
        (
            label_map("noise", (2, side, side), 6, holes=True).byte(),
            torch.tensor([(-1024, 7680), (51200, -512)]),
            ways + 1,
            shares.flip(0),
        ),
    ]
    with torch.inference_mode():
        painter._network_pass(*cells[0])  # folds weights, which are kept
    records, images = [], []
    for inputs in cells:
        with torch.inference_mode(), Record() as record:
            images.append(painter._network_pass(*inputs)[0])
        assert not record.waits
        records.append(record.operations)
    assert records[0] == records[1]
    assert images[0].shape == (2, 4, 64, 64)
    assert not torch.equal(*images)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_cell_on_a_gpu_waits_for_nothing(case, kernels, monkeypatch):
    """Its tensors have no values, so that nothing can ask for one; kernels are launched and compute nothing."""
    record = Record()
    launch_nothing(monkeypatch, record, kernels=kernels)
    monkeypatch.setattr(painter_module, "Replay", lambda function, device: function)
    painter = painter_of(case, "bf16")
    painter.device = "cuda"
    with fake_gpu(painter.generator), torch.inference_mode():
        if isinstance(painter.style, Look):
            painter.style = Look(
                **{name: torch.empty(values.shape) for name, values in painter.style.tensors().items()}
            )
        elif painter.style is not None:
            painter.style = torch.empty(3)
        side = 64 if painter.mode == "blend" else CELL + 2 * painter.margin
        ways = torch.zeros((4, len(painter.network.style_regions), 2, side // 8, side // 8), dtype=torch.int8)
        shares = torch.zeros((4, 6 if painter.network.style_lengths else 0, side // 8, side // 8))
        labels, places = torch.zeros((4, side, side), dtype=torch.uint8), torch.zeros((4, 2), dtype=torch.int64)
        inputs = labels, places, ways, shares
        painter._network_pass(*inputs)
        record.operations.clear()
        with record:
            (image,) = painter._network_pass(*inputs)
    assert image.shape == (4, 4, *[side - 2 * painter.margin] * 2)
    assert image.dtype == (torch.float32 if painter.mode == "blend" else torch.uint8)
    assert not record.waits
    if kernels:  # a network's 150, and what draws noise, styles or looks on the device
        assert len(record.launches) <= 200


def test_cells_of_a_gpu_go_together(monkeypatch):
    """What is left of a block is one launch, not one for each cell."""
    painter = painter_of("neither", "fp32")
    painter.on_cpu = False
    sizes = []

    def run(cells):
        sizes.append(len(cells))
        places = [cell.window.row + cell.window.column for cell in cells]
        return torch.stack([torch.full((4, CELL, CELL), place, dtype=torch.int16) for place in places])

    monkeypatch.setattr(torch.cuda, "device", lambda name: nullcontext())
    monkeypatch.setattr(painter, "run", run)
    monkeypatch.setattr(painter, "_mark", lambda: lambda: None)
    monkeypatch.setattr(painter, "blank", lambda window: np.zeros((4, window.height, window.width), np.int16))
    window = Window(0, 0, 2 * CELL, 3 * CELL)
    context = painter.context(window)
    indices = np.zeros((context.height, context.width), np.uint8)
    pixels = painter.paint(LabelledWindow(window, context, indices, np.ones((2 * CELL, 3 * CELL), bool)))
    assert sizes == [4, 2]
    assert pixels[0, ::CELL, ::CELL].tolist() == [[0, 512, 1024], [512, 1024, 1536]]


def test_while_a_gpu_paints_it_is_the_current_one(monkeypatch):
    """Or kernels and the event that is waited for would be those of the first one."""

    @contextmanager
    def device(name):
        before, current[0] = current[0], name
        yield
        current[0] = before

    def event():
        return SimpleNamespace(record=lambda: seen.append(("event", *current)), synchronize=lambda: None)

    current, seen = ["cuda:0"], []
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "Event", event)
    painter = painter_of("neither", "fp32")
    painter.device, painter.on_cpu = "cuda:1", False
    monkeypatch.setattr(painter, "_begun", lambda *arguments: seen.append(("work", *current)) or (lambda: "pixels"))
    assert painter.begin([], Window(0, 0, 8, 8))() == "pixels"
    assert seen == [("work", "cuda:1"), ("event", "cuda:1")]
    assert current == ["cuda:0"]
