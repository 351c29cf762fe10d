"""Label maps and weights for the tests of the networks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("uniform", "noise", "patches", "lines")


def label_map(
    kind: str, shape: tuple[int, int, int], num_classes: int, *, holes: bool = False, seed: int = 0
) -> Tensor:
    """(B, H, W) int64: one class; noise; smooth patches as land cover has; patches crossed by thin lines.

    With `holes` some pixels have no class (index `num_classes`).
    """
    rng = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    if kind == "uniform":
        labels = torch.full(shape, num_classes - 1)
    elif kind == "noise":
        labels = torch.randint(num_classes, shape, generator=rng)
    else:
        fields = torch.randn((batch, num_classes, height // 8 + 2, width // 8 + 2), generator=rng)
        labels = F.interpolate(fields, size=(height, width), mode="bicubic").argmax(1)
        if kind == "lines":
            labels[:, height // 3] = 0
            labels[:, :, width // 2] = num_classes - 1
    if holes:
        labels[torch.rand(shape, generator=rng) < 0.02] = num_classes
        labels[:, : height // 4, : width // 4] = num_classes
    return labels


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights and running statistics that let everything matter (the initial ones make gamma and beta tiny)."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if name.endswith("noise_strength"):
            value.copy_(torch.rand(value.shape, generator=rng))
        elif value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=rng) / value[0].numel() ** 0.5)
        else:
            value.copy_(torch.randn(value.shape, generator=rng) * 0.2)
    for name, value in module.named_buffers():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=rng) * 0.2)
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)


def assert_within(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Largest absolute difference, relative to the largest expected value if that is above one."""
    assert actual.shape == expected.shape
    scale = max(1.0, float(expected.detach().abs().max()))
    assert float((actual - expected).detach().abs().max()) <= tolerance * scale


def load_plain_spade() -> ModuleType:
    """benchmarks/plain_spade.py: the dense generator that shares no code with geosynth."""
    path = Path(__file__).parents[2] / "benchmarks" / "plain_spade.py"
    spec = importlib.util.spec_from_file_location("plain_spade", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plain_spade"] = module
    spec.loader.exec_module(module)
    return module
