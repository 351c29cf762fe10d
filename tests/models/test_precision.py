"""Number formats: what is asked for, else what the hardware is fast at."""

import pytest
import torch

from geosynth.models.device import uses_bfloat16


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_what_is_asked_for_is_taken(device):
    assert uses_bfloat16("bf16", device) is True
    assert uses_bfloat16("fp32", device) is False


@pytest.mark.parametrize("supported", [True, False])
def test_auto_asks_the_hardware(supported, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: not supported)
    assert uses_bfloat16("auto", "cpu") is supported
    assert uses_bfloat16("auto", "cuda:0") is not supported


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert uses_bfloat16("auto", "cpu") is False
