"""Spectral norm folded into the weights: what is stored, averaged and painted with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


@torch.no_grad()
def folded_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by name, parametrised ones (spectral norm) by their effective value.

    The names are those of the same module built without parametrisations.
    """
    values: dict[str, Tensor] = {}
    for prefix, layer in module.named_modules():
        if ".parametrizations" in f".{prefix}":
            continue
        owner = f"{prefix}." if prefix else ""
        values |= {owner + name: value for name, value in layer.named_parameters(recurse=False)}
        if parametrize.is_parametrized(layer):
            was_training = layer.training
            layer.eval()  # in training mode reading the weight would run a power iteration
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            values |= {owner + name: getattr(layer, name) for name in layer.parametrizations}
            layer.train(was_training)
    return values


def folded_state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters as `folded_parameters` gives them, and buffers without those of the parametrisations."""
    buffers = {name: value for name, value in module.named_buffers() if ".parametrizations." not in f".{name}"}
    return folded_parameters(module), buffers
