"""The running average of a generator's weights, which goes into the model file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from geosynth.models.generator import SpadeGenerator
from geosynth.models.spectral import folded_parameters


@torch.no_grad()
def update_average(average: nn.Module, source: nn.Module, decay: float | Tensor) -> None:
    """Set average to decay * average + (1 - decay) * source, with the source's spectral norms folded in."""
    folded = folded_parameters(source)
    names, values = zip(*average.named_parameters(), strict=True)
    share = torch.as_tensor(decay)
    torch._foreach_mul_(values, share)
    torch._foreach_add_(values, torch._foreach_mul([folded[name] for name in names], 1 - share))


@torch.no_grad()
def estimate_norms(generator: SpadeGenerator, batches: Iterable[tuple[Tensor, dict[str, Any]]]) -> None:
    """Set the batch norms' statistics to the mean over batches, each of labels and the generator's other arguments.

    Averaged weights never ran in training mode, so their statistics must be measured (as in Schoenfeld et al. 2021).
    """
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    generator.train()
    for labels, inputs in batches:
        generator(labels, **inputs)
    generator.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
