"""Spectral norm (Miyato et al. 2018): in few operations; and folded into the weights that are stored and used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

Layer = TypeVar("Layer", bound=nn.Module)

_POWER_ITERATIONS = 15  # as many as PyTorch runs on new weights


def with_spectral_norm(layer: Layer) -> Layer:
    """The layer, its weight kept at spectral norm one."""
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.get_parameter("weight")))
    return layer


class SpectralNorm(_SpectralNorm):
    """Torch's, with its names and numbers, in fewer operations; in float32 under autocast, too."""

    _u: Tensor
    _v: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its norm; in training after a power iteration."""
        # Tensors without values know no autocast.
        exact = contextlib.nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False)
        with exact:
            u, v = self._u, self._v
            if self.training:
                self._power_method(weight.detach().flatten(1), self.n_power_iterations)
                u, v = u.clone(), v.clone()  # the next iteration may come before the backward pass
            result: Tensor = _OverNorm.apply(weight, u, v)
            return result


class _OverNorm(torch.autograd.Function):
    """W / (u W v), where u and v are constants."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        norm = torch.dot(u, torch.mv(_matrix(weight), _in_columns(v, weight).flatten()))
        ctx.save_for_backward(weight, u, v, norm)
        return weight / norm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, u, v, norm = ctx.saved_tensors
        along = (u * ((gradient * weight).sum() / norm)).view(-1, *[1] * (weight.ndim - 1))
        return torch.addcmul(gradient, along, v.view(weight.shape[1:]), value=-1) / norm, None, None


@torch.no_grad()
def refine_norms(network: nn.Module) -> None:
    """A power iteration of all spectral norms at once, which then stay as they are until `train` is said."""
    norms = [layer for layer in network.modules() if isinstance(layer, SpectralNorm)]
    weights = [chain.original for chain in network.modules() if isinstance(chain, parametrize.ParametrizationList)]
    if not norms:
        return
    matrices = [_matrix(weight) for weight in weights]
    columns = [_in_columns(norm._v, weight) for norm, weight in zip(norms, weights, strict=True)]
    u = _unit_products(matrices, [column.flatten() for column in columns])
    v = _unit_products([matrix.T for matrix in matrices], u)
    torch._foreach_copy_([norm._u for norm in norms], u)
    torch._foreach_copy_(columns, [values.view(column.shape) for values, column in zip(v, columns, strict=True)])
    for norm in norms:
        norm.eval()


def _unit_products(matrices: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """Each matrix times its vector, at length one."""
    padded = vectors[0].new_zeros(len(matrices), max(map(len, matrices)))
    products = [row[: len(matrix)] for row, matrix in zip(padded, matrices, strict=True)]
    for product, matrix, vector in zip(products, matrices, vectors, strict=True):
        torch.mv(matrix, vector, out=product)
    padded = F.normalize(padded, dim=1, eps=1e-12)
    return [row[: len(matrix)] for row, matrix in zip(padded, matrices, strict=True)]


def _is_channels_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _matrix(weight: Tensor) -> Tensor:
    """(outputs, others), a view: the others in the order in which they lie in memory."""
    return (weight.permute(0, 2, 3, 1) if _is_channels_last(weight) else weight).flatten(1)


def _in_columns(v: Tensor, weight: Tensor) -> Tensor:
    """A view of a vector, which has an entry for each of the others, in the order of `_matrix`'s columns."""
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
    """All modules but those of the parametrisations, each after what stands before the names of its tensors."""
    for prefix, layer in module.named_modules():
        if ".parametrizations" not in f".{prefix}":
            yield f"{prefix}." if prefix else "", layer
