"""The gain of each lever of the fast generator: the plain network, made faster one step at a time.

Each rung has all levers of the previous rungs and computes the same image. `benchmarks/generator.py` times them. Also
here: how a call is timed, and what figures depend on, for both benchmarks.
"""

from __future__ import annotations

import copy
import ctypes
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.models.generator import SpadeGenerator
from geosynth.models.modulation import Form, SpadeModulation
from plain_spade import PlainGenerator, PlainSpade

Network = Callable[[Tensor, Tensor], Tensor]

# By device. The memory setting belongs to glibc and is for tensors on the CPU.
LAST_RUNG = {"cpu": "+ kept memory", "cuda": "+ kernel"}
WARM_UPS = {"cpu": 1, "cuda": 5}  # a training step is recorded in its fourth


class FusedSpade(nn.Module):
    """A plain SPADE layer with gamma and beta in one convolution; if `folded`, the batch norm is inside its weights."""

    def __init__(self, plain: PlainSpade, *, folded: bool) -> None:
        super().__init__()
        self.norm, self.shared, self.folded = plain.norm, plain.shared, folded
        device = plain.gamma.weight.device
        self.fused = nn.Conv2d(plain.gamma.in_channels, 2 * plain.gamma.out_channels, 3, padding=1, device=device)
        values = plain.state_dict()
        scale_weight, scale_bias = values["gamma.weight"], values["gamma.bias"] + 1
        shift_weight, shift_bias = values["beta.weight"], values["beta.bias"]
        if folded:
            mean, inverse = values["norm.running_mean"], torch.rsqrt(values["norm.running_var"] + self.norm.eps)
            scale_weight, scale_bias = scale_weight * inverse.view(-1, 1, 1, 1), scale_bias * inverse
            shift_weight = shift_weight - mean.view(-1, 1, 1, 1) * scale_weight
            shift_bias = shift_bias - mean * scale_bias
        bias = torch.cat([scale_bias, shift_bias])
        self.fused.load_state_dict({"weight": torch.cat([scale_weight, shift_weight]), "bias": bias})

    def forward(self, features: Tensor, one_hot: Tensor) -> Tensor:
        labels = F.interpolate(one_hot, size=features.shape[2:], mode="nearest")
        scale, shift = self.fused(F.relu(self.shared(labels))).chunk(2, dim=1)
        return torch.addcmul(shift, features if self.folded else self.norm(features), scale)


def ladder(plain: PlainGenerator, ours: SpadeGenerator, device: str) -> dict[str, tuple[Network, bool]]:
    """By name, each network and whether it runs with kept memory, slowest first.

    Args:
        plain: on the device.
        ours: likewise, in channels_last.
        device: "cpu" or "cuda".
    """
    dense = copy.deepcopy(ours)
    set_form(dense, "dense")
    contiguous = copy.deepcopy(dense).to(memory_format=torch.contiguous_format)
    return {
        "plain": (plain, False),
        "+ fused gamma and beta": (_fused(plain, folded=False), False),
        "+ folded norm": (_fused(plain, folded=True), False),
        "+ one resize a level": (contiguous, False),
        "+ channels_last": (dense, False),
        "+ pattern table" if device == "cpu" else "+ kernel": (ours, False),
        **({"+ kept memory": (ours, True)} if device == "cpu" else {}),
    }


def set_form(network: nn.Module, form: Form) -> None:
    """Set the form of all modulations."""
    for module in network.modules():
        if isinstance(module, SpadeModulation):
            module.form = form


def _fused(plain: PlainGenerator, *, folded: bool) -> PlainGenerator:
    fused = copy.deepcopy(plain)
    for block in fused.blocks.values():
        for name, layer in list(block.named_children()):
            if isinstance(layer, PlainSpade):
                setattr(block, name, FusedSpade(layer, folded=folded))
    return fused.requires_grad_(False)


def seconds_of(call: Callable[[], object], device: str, *, kept: bool) -> float:
    """Seconds until a call and all its work on the device are done.

    Args:
        call: to time.
        device: "cpu" or "cuda".
        kept: see `use_memory`; of no meaning on CUDA.
    """
    if device == "cpu":
        use_memory(kept=kept)
    before = _clock(device)
    call()
    return _clock(device) - before


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def machine_facts(device: str) -> dict[str, int | str]:
    """What figures depend on besides the code: threads, torch, kind of CPU, GPU ("device")."""
    machine = platform.machine()
    name = torch.cuda.get_device_name() if device == "cuda" else machine
    return {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": machine, "device": name}


def use_memory(*, kept: bool) -> None:
    """Set the allocator: glibc's default (after adapting to large blocks), or as geosynth sets it while it works."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    # M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    values = {-4: 0, -1: 2**31 - 1} if kept else {-4: 65536, -3: 32 << 20, -1: 64 << 20}
    for parameter, value in values.items():
        mallopt(parameter, value)
