"""Spectral norm as torch has it; and folded weights: those that a forward pass uses, without a power iteration."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from geosynth.config import EncoderSettings
from geosynth.models.encoder import StyleEncoder
from geosynth.models.spectral import folded_parameters, folded_state, load_folded, with_spectral_norm


def test_folded_state_fills_the_same_network_without_norms():
    settings = EncoderSettings(num_bands=3, base_width=4, latent_size=5)
    torch.manual_seed(0)
    normed, plain = StyleEncoder(settings, spectral_norm=True), StyleEncoder(settings)
    normed(torch.randn(1, 3, 64, 64))  # a power iteration, so that the norm is not the initial one
    weights, buffers = folded_state(normed)
    plain.load_state_dict(weights | buffers)
    image = torch.randn(2, 3, 128, 128)
    for found, expected in zip(plain.eval()(image), normed.eval()(image), strict=True):
        assert torch.equal(found, expected)


LAYERS = {
    "3x3": lambda: nn.Conv2d(3, 5, 3),
    "1x1": lambda: nn.Conv2d(4, 3, 1),
    "4x4": lambda: nn.Conv2d(5, 2, 4),
    "linear": lambda: nn.Linear(6, 4),
}


def learn(layer, steps):
    """Weights, gradients and states of some steps of a layer."""
    seen = []
    for step in range(steps):
        layer.zero_grad()
        weight = layer.weight
        a_loss(weight, step).backward()
        original = layer.parametrizations.weight.original
        seen += [weight.detach(), original.grad.clone(), *(value.clone() for value in layer.state_dict().values())]
        with torch.no_grad():
            original.sub_(original.grad, alpha=0.05)
    return seen


def a_loss(weight, step):
    return weight.mul(torch.linspace(-1, 2, weight.numel()).view(weight.shape).sin()).sum().mul(1 + step)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_spectral_norm_is_that_of_torch(kind, memory_format):
    """Values, gradients, vectors and the names of what is stored, over some steps."""
    torch.manual_seed(0)
    theirs, ours = parametrizations.spectral_norm(LAYERS[kind]()), with_spectral_norm(LAYERS[kind]())
    ours.load_state_dict(theirs.state_dict())
    ours.to(memory_format=memory_format)
    for found, expected in zip(learn(ours, 4), learn(theirs, 4), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_two_passes_before_a_backward_pass():
    """As with losses of real and painted images that are added up."""
    layer = with_spectral_norm(nn.Conv2d(3, 4, 3))
    image = torch.randn(1, 3, 8, 8)
    (layer(image).square().sum() + layer(image + 1).square().sum()).backward()
    assert layer.parametrizations.weight.original.grad.abs().sum() > 0


def test_folding_does_not_change_the_network():
    layer = with_spectral_norm(nn.Conv2d(3, 4, 3))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    folded = folded_parameters(layer)
    assert layer.training
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
    assert folded.keys() == {"weight", "bias"}


def test_buffers_of_other_layers_are_kept():
    network = nn.Sequential(with_spectral_norm(nn.Conv2d(2, 2, 1)), nn.BatchNorm2d(2, affine=False))
    parameters, buffers = folded_state(network)
    assert parameters.keys() == {"0.weight", "0.bias"}
    assert buffers.keys() == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_loading_is_the_inverse_of_folding():
    settings = EncoderSettings(num_bands=3, base_width=4, latent_size=5)
    torch.manual_seed(0)
    trained, other = (StyleEncoder(settings, spectral_norm=True) for _ in range(2))
    weights, buffers = folded_state(trained)
    load_folded(other, weights | buffers)
    image = torch.randn(2, 3, 128, 128)
    for found, expected in zip(other.eval()(image), trained.eval()(image), strict=True):
        assert torch.allclose(found, expected, rtol=1e-2, atol=1e-4)  # both norms are estimates
