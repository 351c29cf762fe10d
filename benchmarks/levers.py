"""What each lever of the fast generator gives: the plain network made fast one step at a time.

Each rung keeps all levers of the rungs before it and computes the same image. `benchmarks/generator.py` times them.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.models.generator import SpadeGenerator
from geosynth.models.memory import keep_freed_memory
from geosynth.models.modulation import SpadeModulation
from plain_spade import PlainGenerator, PlainSpade

Network = Callable[[Tensor, Tensor], Tensor]


class FusedSpade(nn.Module):
    """A plain SPADE layer with gamma and beta in one convolution; if `folded`, the batch norm is inside its weights."""

    def __init__(self, plain: PlainSpade, *, folded: bool) -> None:
        super().__init__()
        self.norm, self.shared, self.folded = plain.norm, plain.shared, folded
        self.fused = nn.Conv2d(plain.gamma.in_channels, 2 * plain.gamma.out_channels, 3, padding=1)
        scale_weight, scale_bias = plain.gamma.weight, plain.gamma.bias + 1
        shift_weight, shift_bias = plain.beta.weight, plain.beta.bias
        if folded:
            inverse = torch.rsqrt(self.norm.running_var + self.norm.eps)
            scale_weight, scale_bias = scale_weight * inverse.view(-1, 1, 1, 1), scale_bias * inverse
            shift_weight = shift_weight - self.norm.running_mean.view(-1, 1, 1, 1) * scale_weight
            shift_bias = shift_bias - self.norm.running_mean * scale_bias
        self.fused.weight.data = torch.cat([scale_weight, shift_weight])
        self.fused.bias.data = torch.cat([scale_bias, shift_bias])

    def forward(self, features: Tensor, one_hot: Tensor) -> Tensor:
        labels = F.interpolate(one_hot, size=features.shape[2:], mode="nearest")
        scale, shift = self.fused(F.relu(self.shared(labels))).chunk(2, dim=1)
        return torch.addcmul(shift, features if self.folded else self.norm(features), scale)


def ladder(plain: PlainGenerator, ours: SpadeGenerator) -> dict[str, tuple[Network, bool]]:
    """Name to network and whether it runs with `kept_memory`, slowest first; `ours` is in channels_last."""
    dense = copy.deepcopy(ours)
    for module in dense.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"
    contiguous = copy.deepcopy(dense).to(memory_format=torch.contiguous_format)
    return {
        "plain": (plain, False),
        "+ fused gamma and beta": (_fused(plain, folded=False), False),
        "+ folded norm": (_fused(plain, folded=True), False),
        "+ one resize a level": (contiguous, False),
        "+ channels_last": (dense, False),
        "+ pattern table": (ours, False),
        "+ kept memory": (ours, True),
    }


def _fused(plain: PlainGenerator, *, folded: bool) -> PlainGenerator:
    fused = copy.deepcopy(plain)
    for block in fused.blocks.values():
        for name, layer in list(block.named_children()):
            if isinstance(layer, PlainSpade):
                setattr(block, name, FusedSpade(layer, folded=folded))
    return fused.requires_grad_(False)


def use_memory(*, kept: bool) -> None:
    """As glibc comes (after it has adapted to large blocks), or as geosynth sets it."""
    if kept:
        keep_freed_memory()
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    for parameter, value in ((-4, 65536), (-3, 32 << 20), (-1, 64 << 20)):  # M_MMAP_MAX, _THRESHOLD, M_TRIM_THRESHOLD
        mallopt(parameter, value)
