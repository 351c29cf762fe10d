"""A GPU is never waited for: the same operations whatever the labels, few of them, and features in 16 bits."""

import re

import pytest
import torch
from label_maps import label_map, randomise
from operations import Record, fake_gpu, launch_nothing

from geosynth.config import GeneratorSettings
from geosynth.models import generator as generator_module
from geosynth.models.field import latent_field, position_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks import codes
from geosynth.models.looks.field import look_field
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import style_size
from geosynth.models.modulation import SpadeModulation
from geosynth.models.windows import Windows

BASE = {"num_classes": 6, "num_bands": 4}
TOLD = {**BASE, "latent_size": 0, "style_lengths": (24,) * 6}


@pytest.fixture
def record():
    return Record()


@pytest.fixture(params=["dense", "kernels"])
def form(request, monkeypatch, record):
    """Without Triton, or with kernels that are launched and compute nothing."""
    launch_nothing(monkeypatch, record, kernels=request.param == "kernels")
    return request.param


def look_of(settings, height, width, batch=1):
    """Styles drawn from a look, for a generator that is told them."""
    if not settings.style_lengths:
        return None
    size, classes = style_size(settings.num_bands), settings.num_classes
    look = Look(torch.zeros(classes, size), torch.ones(3, classes, 2, size), torch.ones(classes))
    row, column = torch.zeros((2, batch), dtype=torch.int64)
    return look_field(settings, look, 1, Windows(row, column, height, width), 2048)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    "settings",
    [
        GeneratorSettings.reference(6, 4),
        GeneratorSettings(**BASE),
        GeneratorSettings(**BASE, depth="less"),
        GeneratorSettings(**TOLD, depth="less"),
        GeneratorSettings(**TOLD),
    ],
    ids=["reference", "base", "less", "told", "told base"],
)
def test_painting_is_few_operations_in_16_bits(settings, form, record):
    """Copies count, and each kernel; the products of a painting are in bfloat16."""
    with torch.device("meta"):
        generator = SpadeGenerator(settings).to(memory_format=torch.channels_last)
    generator = generator.for_painting(torch.bfloat16)
    size, margin = (256, 0) if settings.start == "linear" else (512 + 2 * settings.halo, settings.halo)
    with fake_gpu(generator), torch.inference_mode():
        labels, noise, latent = torch.zeros((4, size, size), dtype=torch.uint8), [], torch.zeros((4, 256))
        styles = look_of(settings, size, size, 4)
        if settings.start != "linear":
            windows = Windows(*torch.zeros((2, 4), dtype=torch.int64), size, size)
            noise = position_noise(settings, 1, windows, margin, (), torch.bfloat16)
            latent = None if styles is not None else latent_field(settings, 1, windows, 2048)
        generator(labels, latent, noise, margin, styles)  # folds weights, which are kept
        record.operations.clear()
        with record:
            image = generator(labels, latent, noise, margin, styles)
    assert image.shape == (4, 4, size - 2 * margin, size - 2 * margin)
    assert not record.waits
    # Without kernels being told is a look-up and two steps a block.
    assert len(record.launches) <= (190 if form == "dense" and styles is not None else 150)
    features = [result for each in record.launches for result in each.results if len(result[0]) == 4]
    assert len(features) > 60
    assert {dtype for _, dtype, _ in features} <= {torch.bfloat16, torch.bool}


class Driver:
    """Of a GPU that there is not, as Triton asks for it."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return 99  # Triton keeps what it compiled for each device

    def get_current_stream(self, device):
        return 0


class Pointer:
    """Where a tensor would lie."""

    def __init__(self, tensor):
        self.dtype, self.place = tensor.dtype, tensor.storage_offset() * tensor.element_size()

    def data_ptr(self):
        return self.place


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    ("changes", "dtype", "capability"),
    [
        ({**TOLD, "base_width": 24, "style_gradual": (0,)}, torch.bfloat16, 90),
        ({**BASE, "padding": "zeros"}, torch.float32, 80),
        (BASE, torch.float32, 75),  # which has no bfloat16
        ({**TOLD, "style_lengths": (24, 24, 400, 16, 24, 96)}, torch.bfloat16, 100),
    ],
    ids=["told, H100", "zeros, A100", "T4", "told of several lengths, B200"],
)
def test_kernels_compile_for_a_gpu(changes, dtype, capability, monkeypatch, record):
    """As they are launched, to machine code, which asks for no GPU; the interpreter takes more than the compiler."""
    pytest.importorskip("triton")
    from triton.runtime.driver import driver

    from geosynth.models import field_kernels, modulation_kernels, pattern_kernels

    launch_nothing(monkeypatch, record, kernels=True)
    settings = GeneratorSettings(**changes, depth="less")
    with torch.device("meta"):
        generator = SpadeGenerator(settings).to(memory_format=torch.channels_last)
    generator = generator.for_painting(dtype)
    with fake_gpu(generator), torch.inference_mode():
        noise = position_noise(settings, 2**40, Windows.at(0, 0, 64, 64, "cuda"), 0, (), dtype)
        latent = torch.zeros(1, settings.latent_size) if settings.latent_size else None
        generator(torch.zeros((1, 64, 64), dtype=torch.uint8), latent, noise, 0, look_of(settings, 64, 64))
    monkeypatch.undo()
    monkeypatch.setattr(driver, "_active", Driver(capability))
    expected = 4 + 2 * bool(settings.style_lengths) + bool(settings.style_gradual)
    assert len({launch.name for launch in record.kernels.values()}) == expected
    modulations = [launch.constants for launch in record.kernels.values() if launch.name == "_modulate"]
    assert {constants["NOISE"] for constants in modulations} == {True, False}
    whole = {**vars(modulation_kernels), **vars(pattern_kernels), **vars(field_kernels)}
    for name, arguments, constants in record.kernels.values():
        launched = [Pointer(value) if isinstance(value, torch.Tensor) else value for value in arguments]
        compiled = whole[name].warmup(*launched, grid=(1,), **constants).asm
        assert compiled["cubin"]
        if name == "_modulate":  # features are moved 16 bytes at a time, also where there are 24
            assert re.search(r"st\.global(\.\w+)*\.v4\.b32", compiled["ptx"])
            assert "st.global.b" not in compiled["ptx"]


def test_noise_and_style_wait_for_nothing(form, record):
    settings = GeneratorSettings(**BASE)
    with fake_gpu(), record:
        windows = Windows(*torch.zeros((2, 3), dtype=torch.int64), 576, 576)
        maps = position_noise(settings, 1, windows, 32, silent={2})
        style = latent_field(settings, 1, windows, 2048)
        look_of(GeneratorSettings(**TOLD), 576, 576, 3)
    assert not record.waits
    assert [index for index, values in enumerate(maps) if values is None] == [2]
    assert style.shape == (3, 64, 18, 18)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_same_operations_for_any_labels(training, told, monkeypatch):
    """With values, on a processor, in the form that a GPU takes."""
    monkeypatch.setattr(generator_module, "check_labels", lambda *arguments: None)  # on a GPU it is left to the caller
    monkeypatch.setattr(codes, "_can_count", lambda places: False)
    small = {"base_width": 2, "max_multiple": 2, "hidden_channels": 4, "depth": "less"}
    settings = GeneratorSettings(**small, **(TOLD if told else {**BASE, "latent_size": 3}))
    generator = SpadeGenerator(settings, spectral_norm=training).train(training)
    randomise(generator)
    for module in generator.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"
    noise, styles = position_noise(settings, 0, Windows.at(0, 0, 64, 64)), look_of(settings, 64, 64)
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
