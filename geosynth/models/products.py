"""The weights of a training step's products: divided by spectral norms and in the type of products, all at once.

If each layer does that itself, a step divides, rounds and, in the backward pass, widens each weight separately, each
time that a layer reads it, which is a third of all operations that a GPU starts in a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from geosynth.models.spectral import SpectralNorm, in_columns, matrix_of

_EPS = 1e-12  # smallest length, as in torch's spectral norm


class ProductWeights:
    """Weights and biases of the convolutions and linear layers of some networks, computed once for all layers.

    Args:
        networks: their stored weights remain float32.
        learning: groups of stored weights, the only ones that get gradients. Each group has its own backward pass.
        dtype: of products; if float32, only weights with a spectral norm are computed.
    """

    def __init__(self, networks: Sequence[nn.Module], learning: Sequence[Sequence[Tensor]], dtype: torch.dtype) -> None:
        weights = [weight for network in networks for weight in _weights(network)]
        weights = [each for each in weights if each.norm is not None or dtype != torch.float32]
        weights.sort(key=lambda each: each.norm is None)
        groups = [{id(value) for value in group} for group in learning]
        groups.append({id(each.stored) for each in weights}.difference(*groups))
        self.dtype = dtype
        self._groups = [[each for each in weights if id(each.stored) in group] for group in groups]
        self._norms: list[_Norms | None] = []

    @torch.no_grad()
    def refine(self) -> None:
        """Run one power iteration of all spectral norms."""
        self._norms = [_refined([each for each in group if each.norm is not None]) for group in self._groups]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which layers read the computed weights, with the norms as last refined."""
        with ExitStack() as shown:
            for group, norms in zip(self._groups, self._norms, strict=True):
                with torch.set_grad_enabled(group is not self._groups[-1]):
                    made = _Made.apply(self.dtype, norms, *(each.stored for each in group)) if group else ()
                for each, value in zip(group, made, strict=True):
                    shown.callback(each.show, None)
                    each.show(value)
            yield


class _Weight(NamedTuple):
    layer: nn.Module
    name: str
    stored: Tensor
    norm: SpectralNorm | None

    def show(self, value: Tensor | None) -> None:
        """Let the layer read this value; None for its own again."""
        if self.norm is not None:
            self.norm.made = value
        elif value is not None:
            vars(self.layer)[self.name] = value  # is found before parameters are
        else:
            vars(self.layer).pop(self.name, None)


def _weights(network: nn.Module) -> Iterator[_Weight]:
    for layer_name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if parametrize.is_parametrized(layer, "weight"):
            chain = layer.get_submodule("parametrizations.weight")
            norm = chain.get_submodule("0")
            assert isinstance(norm, SpectralNorm)
            yield _Weight(layer, "weight", chain.get_parameter("original"), norm)
        for name, value in layer.named_parameters(recurse=False):
            if not f"{layer_name}.{name}".endswith("gamma_beta.bias"):  # to which 1 is added before it is rounded
                yield _Weight(layer, name, value, None)


class _Norms(NamedTuple):
    """Spectral norms of n weights, with their singular vectors, after a power iteration."""

    left: Tensor
    """(n, most outputs): u, then zeros."""
    right: list[Tensor]
    """v, in the order of `matrix_of`'s columns."""
    values: Tensor
    """(n,) the norms."""


def _refined(weights: Sequence[_Weight]) -> _Norms | None:
    if not weights:
        return None
    norms = [each.norm for each in weights if each.norm is not None]
    matrices = [matrix_of(each.stored) for each in weights]
    columns = [in_columns(norm._v, each.stored) for norm, each in zip(norms, weights, strict=True)]
    left, _ = _unit_products(matrices, [column.flatten() for column in columns])
    u = _rows(left, [len(matrix) for matrix in matrices])
    across, values = _unit_products([matrix.T for matrix in matrices], u)
    v = _rows(across, [matrix.shape[1] for matrix in matrices])
    torch._foreach_copy_([norm._u for norm in norms], u)
    torch._foreach_copy_(columns, [value.view(column.shape) for value, column in zip(v, columns, strict=True)])
    return _Norms(left, v, values)


def _unit_products(matrices: Sequence[Tensor], vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Each matrix times its vector, at length one, as rows that end in zeros; and the lengths that they had."""
    products = vectors[0].new_zeros(len(matrices), max(map(len, matrices)))
    for product, matrix, vector in zip(products, matrices, vectors, strict=True):
        torch.mv(matrix, vector, out=product[: len(matrix)])
    lengths = torch.linalg.vector_norm(products, dim=1).clamp_min_(_EPS)
    return products.div_(lengths.unsqueeze(1)), lengths


def _rows(padded: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    return [row[:size] for row, size in zip(padded.unbind(), sizes, strict=True)]


class _Made(torch.autograd.Function):
    """W / norm of the weights that have one (u W v, where u and v are constants), W of the others; rounded."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, norms: _Norms | None, *weights: Tensor) -> tuple[Tensor, ...]:
        made = [torch.empty_like(weight, dtype=dtype) for weight in weights]
        values = () if norms is None else norms.values.unbind()
        for weight, norm, result in zip(weights, values, made, strict=False):
            torch.div(weight, norm, out=result)
        if plain := made[len(values) :]:
            torch._foreach_copy_(plain, weights[len(values) :])
        ctx.save_for_backward(*weights)
        ctx.norms = norms
        ctx.set_materialize_grads(False)
        return tuple(made)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, norms = ctx.saved_tensors, ctx.norms
        values = () if norms is None else norms.values.unbind()
        results: list[Tensor | None] = [None] * len(weights)
        dots, plain = [weights[0].new_zeros(())] * len(values), []
        for index, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
            if gradient is None:
                continue
            results[index] = result = torch.empty_like(weight)
            if index < len(values):
                torch.div(gradient, values[index], out=result)
                dots[index] = torch.dot(matrix_of(result).flatten(), matrix_of(weight).flatten())
            else:
                plain.append((result, gradient))
        if plain:
            torch._foreach_copy_([result for result, _ in plain], [gradient for _, gradient in plain])
        if norms is not None:
            along = norms.left * (torch.stack(dots) / norms.values).unsqueeze(1)
            for normed, row, column in zip(results, along.unbind(), norms.right, strict=False):
                if normed is not None:
                    matrix_of(normed).addr_(row[: len(normed)], column, alpha=-1)
        return None, None, *results
