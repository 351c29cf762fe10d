"""Folded weights: those that a forward pass uses, without a power iteration."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

from geosynth.config import EncoderSettings
from geosynth.models.encoder import StyleEncoder
from geosynth.models.spectral import folded_parameters, folded_state, load_folded


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


def test_folding_does_not_change_the_network():
    layer = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    folded = folded_parameters(layer)
    assert layer.training
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
    assert folded.keys() == {"weight", "bias"}


def test_buffers_of_other_layers_are_kept():
    network = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(2, 2, 1)), nn.BatchNorm2d(2, affine=False))
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
