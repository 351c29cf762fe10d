"""Spectral norm folded into the weights: what is stored, averaged and painted with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_POWER_ITERATIONS = 15  # as many as PyTorch runs on new weights


@torch.no_grad()
def folded_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by name, parametrised ones (spectral norm) by their effective value.

    The names are those of the same module built without parametrisations.
    """
    values: dict[str, Tensor] = {}
    for owner, layer in _layers(module):
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


@torch.no_grad()
def load_folded(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """The inverse of `folded_state`: give a module with or without spectral norms the weights of one without.

    Raises:
        KeyError: if a weight is missing.
        RuntimeError: if one has another shape.
    """
    for owner, layer in _layers(module):
        for name, value in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            value.copy_(state[owner + name])
        if parametrize.is_parametrized(layer):
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            for name in layer.parametrizations:
                setattr(layer, name, state[owner + name])
                for _ in range(_POWER_ITERATIONS):
                    getattr(layer, name)  # in training mode each reading refines the norm's vectors


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules but those of the parametrisations, each after what stands before the names of its tensors."""
    for prefix, layer in module.named_modules():
        if ".parametrizations" not in f".{prefix}":
            yield f"{prefix}." if prefix else "", layer
