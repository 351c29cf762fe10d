"""Spectral norm (Miyato et al. 2018), and folding it into weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

Layer = TypeVar("Layer", bound=nn.Module)

_POWER_ITERATIONS = 15  # as many as PyTorch runs on new weights


def with_spectral_norm(layer: Layer) -> Layer:
    """The layer, with its weight kept at spectral norm one."""
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.get_parameter("weight")))
    return layer


class SpectralNorm(_SpectralNorm):
    """Torch's spectral norm, with its names and numbers, but in float32 even under autocast; or `made`, if set."""

    _u: Tensor
    _v: Tensor
    made: Tensor | None = None
    """If set, the weight that layers read, see `products.ProductWeights`."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight divided by its norm; in training after a power iteration."""
        if self.made is not None:
            return self.made
        # Tensors without values do not support autocast.
        exact = contextlib.nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False)
        with exact:
            u, v = self._u, self._v
            if self.training:
                self._power_method(weight.detach().flatten(1), self.n_power_iterations)
                u, v = u.clone(), v.clone()  # the next iteration may come before the backward pass
            return weight / torch.dot(u, torch.mv(matrix_of(weight), in_columns(v, weight).flatten()))


def _is_channels_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def matrix_of(weight: Tensor) -> Tensor:
    """A view of a weight as (outputs, others), the others in the order of memory."""
    return (weight.permute(0, 2, 3, 1) if _is_channels_last(weight) else weight).flatten(1)


def in_columns(v: Tensor, weight: Tensor) -> Tensor:
    """A view of a vector with an entry for each of the others, in the order of `matrix_of`'s columns."""
    shaped = v.view(weight.shape[1:])
    return shaped.permute(1, 2, 0) if _is_channels_last(weight) else shaped


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
    """All modules except those of the parametrisations, each with the prefix of its tensors' names."""
    for prefix, layer in module.named_modules():
        if ".parametrizations" not in f".{prefix}":
            yield f"{prefix}." if prefix else "", layer
