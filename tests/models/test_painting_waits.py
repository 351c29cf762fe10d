"""A GPU is never waited for: the same operations whatever the labels, few of them, and features in 16 bits."""

import pytest
import torch
from label_maps import label_map, randomise
from operations import Record, fake_gpu

from geosynth.config import GeneratorSettings
from geosynth.models import device
from geosynth.models import generator as generator_module
from geosynth.models.field import look_field, position_noise, style_field
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks import Look, PixelCodes, style_size
from geosynth.models.modulation import SpadeModulation

BASE = {"num_classes": 6, "num_bands": 4}
TOLD = {**BASE, "latent_size": 0, "style_lengths": (24,) * 6}


@pytest.fixture(autouse=True)
def _without_kernels(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    device.has_kernels.cache_clear()
    yield
    device.has_kernels.cache_clear()


def look_of(settings, height, width, batch=1):
    """Styles drawn from a look, for a generator that is told them."""
    if not settings.style_lengths:
        return None
    size, classes = style_size(settings.num_bands), settings.num_classes
    look = Look(torch.zeros(classes, size), torch.ones(3, classes, 2, size), torch.ones(classes))
    row, column = torch.zeros((2, batch), dtype=torch.int64)
    return look_field(settings, look, 1, row, column, height, width, 2048)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    "settings",
    [
        GeneratorSettings.reference(6, 4),
        GeneratorSettings(**BASE),
        GeneratorSettings(**BASE, depth="less"),
        GeneratorSettings(**TOLD, depth="less"),
    ],
    ids=["reference", "base", "less", "told"],
)
def test_painting_is_few_operations_in_16_bits(settings):
    with torch.device("meta"):
        generator = SpadeGenerator(settings).to(memory_format=torch.channels_last)
    generator = generator.for_painting(torch.bfloat16)
    size, margin = (256, 0) if settings.start == "linear" else (512 + 2 * settings.halo, settings.halo)
    with fake_gpu(generator), torch.inference_mode():
        labels, noise, latent = torch.zeros((4, size, size), dtype=torch.uint8), [], torch.zeros((4, 256))
        styles = look_of(settings, size, size, 4)
        if settings.start != "linear":
            row, column = torch.zeros((2, 4), dtype=torch.int64)
            noise = position_noise(settings, 1, row, column, size, size, "cuda", margin)
            latent = None if styles is not None else style_field(settings, 1, row, column, size, size, 2048, "cuda")
        generator(labels, latent, noise, margin, styles)  # folds weights, which are kept
        generator.zero_grad()
        with Record() as record:
            image = generator(labels, latent, noise, margin, styles)
    assert image.shape == (4, 4, size - 2 * margin, size - 2 * margin)
    assert not record.waits
    assert len(record.launches) <= (150 if styles is None else 190)  # being told is six a block, and a look-up a level
    features = [result for each in record.launches for result in each.results if len(result[0]) == 4]
    assert len(features) > 80
    assert {dtype for _, dtype, _ in features} <= {torch.bfloat16, torch.bool}


def test_noise_and_style_wait_for_nothing():
    settings = GeneratorSettings(**BASE)
    with fake_gpu(), Record() as record:
        row, column = torch.zeros((2, 3), dtype=torch.int64)
        maps = position_noise(settings, 1, row, column, 576, 576, "cuda", 32, silent={2})
        style = style_field(settings, 1, row, column, 576, 576, 2048, "cuda")
        look_of(GeneratorSettings(**TOLD), 576, 576, 3)
    assert not record.waits
    assert [index for index, values in enumerate(maps) if values is None] == [2]
    assert style.shape == (3, 64, 18, 18)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_same_operations_for_any_labels(training, told, monkeypatch):
    """With values, on a processor, in the form that a GPU takes."""
    monkeypatch.setattr(generator_module, "check_labels", lambda *arguments: None)  # on a GPU it is left to the caller
    monkeypatch.setattr(PixelCodes, "counts", staticmethod(lambda places: False))
    small = {"base_width": 2, "max_multiple": 2, "hidden_channels": 4, "depth": "less"}
    settings = GeneratorSettings(**small, **(TOLD if told else {**BASE, "latent_size": 3}))
    generator = SpadeGenerator(settings, spectral_norm=training).train(training)
    randomise(generator)
    for module in generator.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"
    noise, styles = position_noise(settings, 0, 0, 0, 64, 64), look_of(settings, 64, 64)
    records = []
    for labels in (torch.zeros((1, 64, 64), dtype=torch.long), label_map("noise", (1, 64, 64), 6, holes=True)):
        generator.zero_grad()
        with Record() as record:
            image = generator(labels, None if told else torch.ones(1, 3), noise, styles=styles)
            if training:
                image.sum().backward()
        assert not record.waits
        records.append(record.operations)
    assert records[0] == records[1]
