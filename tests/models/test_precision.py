"""Number formats: what is asked for, else what the hardware is fast at."""

import pytest
import torch

from geosynth.config import GeneratorSettings
from geosynth.models.device import uses_bfloat16
from geosynth.models.generator import SpadeGenerator


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_what_is_asked_for_is_taken(device):
    assert uses_bfloat16("bf16", device) is True
    assert uses_bfloat16("fp32", device) is False


@pytest.mark.parametrize("supported", [True, False])
def test_auto_asks_the_hardware(supported, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert uses_bfloat16("auto", "cpu") is supported


def test_auto_asks_the_gpu_that_is_meant(monkeypatch):
    """Of an A100 and a T4, whichever is the current one."""
    capabilities = {"cuda": (8, 0), "cuda:0": (8, 0), "cuda:1": (7, 5)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[str(device)])
    assert [uses_bfloat16("auto", device) for device in ("auto", "cuda:0", "cuda:1")] == [True, True, False]
    monkeypatch.setattr(torch.version, "hip", "6.4")  # AMD's GPUs all have it
    assert uses_bfloat16("auto", "cuda:1") is True
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert uses_bfloat16("auto", "cuda:1") is False


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert uses_bfloat16("auto", "cpu") is False


def test_a_generator_for_painting_leaves_the_one_it_is_of_alone():
    settings = {"num_classes": 3, "num_bands": 2, "base_width": 2, "depth": "less", "latent_size": 0}
    generator = SpadeGenerator(GeneratorSettings(**settings, style_lengths=(24,) * 3))
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    painting = generator.for_painting(torch.bfloat16)
    assert generator.training
    assert not painting.training
    assert all(value.requires_grad for value in generator.parameters())
    assert not any(value.requires_grad for value in painting.parameters())
    for name, value in generator.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    weights, theirs = dict(painting.named_parameters()), dict(generator.named_parameters())
    assert weights["start.weight"].dtype == torch.bfloat16
    shared = "blocks.head_0.norm_0.modulation.gamma_beta.weight"
    assert weights[shared].data_ptr() == theirs[shared].data_ptr()
