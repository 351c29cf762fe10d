"""Weights made at once are those that each layer makes of its own, with their gradients, and only while shown."""

import copy

import pytest
import torch
from test_spectral import LAYERS
from torch import nn
from torch.nn.utils import parametrizations

from geosynth.models.products import ProductWeights
from geosynth.models.spectral import with_spectral_norm

FORMATS = [torch.contiguous_format, torch.channels_last]


def network(norm, memory_format=torch.contiguous_format):
    """Layers with and without spectral norms, and one that no loss reads."""
    torch.manual_seed(0)
    layers = [norm(make()) for make in LAYERS.values()]
    layers += [make() for make in LAYERS.values()]
    return nn.Sequential(*layers, norm(nn.Conv2d(2, 2, 1))).to(memory_format=memory_format)


def a_loss(layers, step):
    """Of all but the last; linear in the weights, so that gradients do not depend on how these are rounded."""
    loss = torch.zeros(())
    for layer in layers[:-1]:
        for value in (layer.weight, layer.bias):
            wave = torch.linspace(-1, 2, value.numel()).view(value.shape).sin()
            loss = loss + (value.float() * wave).sum() * (step + 1)
    return loss


def learn(layers, dtype=None):
    """States and gradients of some steps; made at once in a type, or layer by layer."""
    made = ProductWeights([layers], [list(layers.parameters())], dtype) if dtype else None
    seen = []
    for step in range(3):
        layers.zero_grad()
        if made is None:
            with parametrizations.parametrize.cached():
                a_loss(layers, step).backward()
                assert layers[-1].weight is not None  # its norm is refined, too
        else:
            made.refine()
            with made.in_place():
                loss = a_loss(layers, step)
            loss.backward()
        seen.append({name: value.clone() for name, value in layers.state_dict().items()})
        seen.append({name: value.grad.clone() for name, value in layers.named_parameters() if value.grad is not None})
        with torch.no_grad():
            for value in layers.parameters():
                if value.grad is not None:
                    value.sub_(value.grad, alpha=0.05)
    return seen


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_made_at_once_learn_as_those_of_torch(dtype, memory_format):
    """Over some steps; a weight that nobody reads has no gradient."""
    theirs = network(parametrizations.spectral_norm)
    ours = network(with_spectral_norm, memory_format)
    ours.load_state_dict(theirs.state_dict())
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.03}
    for found, expected in zip(learn(ours, dtype), learn(theirs), strict=True):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, **close)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_what_is_made_is_the_rounded_weight(memory_format):
    layers = network(with_spectral_norm, memory_format)
    alone = copy.deepcopy(layers)
    made = ProductWeights([layers], [list(layers.parameters())], torch.bfloat16)
    made.refine()
    with made.in_place():
        shown = [(layer.weight, layer.bias) for layer in layers]
        assert all(layer.weight is weight for layer, (weight, _) in zip(layers, shown, strict=True))
    for layer, (weight, bias) in zip(alone, shown, strict=True):
        torch.testing.assert_close(weight, layer.weight.bfloat16(), rtol=0.01, atol=0)
        assert torch.equal(bias, layer.bias.bfloat16())


def test_layers_have_their_own_weights_again_even_after_an_error():
    layers = network(with_spectral_norm)
    made = ProductWeights([layers], [list(layers.parameters())], torch.bfloat16)
    made.refine()
    stored = {name: id(value) for name, value in layers.named_parameters()}
    with pytest.raises(RuntimeError, match="here"), made.in_place():
        assert {name: id(value) for name, value in layers.named_parameters()} == stored
        raise RuntimeError("here")
    for layer in layers:
        assert layer.weight.dtype == layer.bias.dtype == torch.float32
        assert "weight" not in vars(layer)


def test_gradients_reach_the_weights_that_learn_only():
    """Each group in a backward pass of its own, from one loss of both; the others are made, too."""
    first, second, fixed = layers = [
        nn.Sequential(with_spectral_norm(nn.Conv2d(2, 2, 1)), nn.Conv2d(2, 2, 1)) for _ in range(3)
    ]
    groups = [list(first.parameters()), list(second.parameters())]
    made = ProductWeights(layers, groups, torch.bfloat16)
    made.refine()
    with made.in_place(), torch.autocast("cpu", torch.bfloat16):
        loss = fixed(second(first(torch.ones(1, 2, 4, 4)))).float().square().sum()
        assert fixed[1].weight.dtype == torch.bfloat16
    loss.backward(inputs=groups[0], retain_graph=True)
    assert all(value.grad is not None for value in first.parameters())
    assert all(value.grad is None for value in second.parameters())
    loss.backward(inputs=groups[1])
    assert all(value.grad is not None for value in second.parameters())
    assert all(value.grad is None for value in fixed.parameters())
