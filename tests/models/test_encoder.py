"""The style encoder at the reference's size and at others; the reparameterised sample."""

import math

import pytest
import torch
from torch.nn import functional as F

from geosynth.config import EncoderSettings
from geosynth.errors import DataError
from geosynth.models.encoder import StyleEncoder, reparameterised


def build():
    torch.manual_seed(0)
    return StyleEncoder(EncoderSettings(num_bands=3, base_width=4, latent_size=5)).eval().requires_grad_(False)


def image(height, width, batch=2):
    return torch.randn((batch, 3, height, width), generator=torch.Generator().manual_seed(1))


def test_channels_are_the_papers():
    assert [conv.weight.shape[:2] for conv in build().convs] == [(4, 3), (8, 4), (16, 8), (32, 16), (32, 32), (32, 32)]


def test_at_256_px_nothing_is_pooled():
    """There the network is the paper's: six strided convolutions leave 4 x 4 cells for the linear heads."""
    encoder, values = build(), image(256, 256)
    features = values
    for index, conv in enumerate(encoder.convs):
        features = features if index == 0 else F.leaky_relu(features, 0.2)
        features = F.conv2d(features, conv.weight, stride=2, padding=1)
        mean, variance = features.mean((2, 3), keepdim=True), features.var((2, 3), keepdim=True, unbiased=False)
        features = (features - mean) / torch.sqrt(variance + 1e-5)
    assert features.shape[2:] == (4, 4)
    cells = F.leaky_relu(features, 0.2).flatten(1)
    for found, head in zip(encoder(values), (encoder.mean, encoder.log_variance), strict=True):
        torch.testing.assert_close(found, head(cells), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (96, 160), (300, 257), (32, 32)])
def test_other_sizes_work(size):
    mean, log_variance = build()(image(*size))
    assert mean.shape == log_variance.shape == (2, 5)
    assert torch.isfinite(torch.cat([mean, log_variance])).all()
    assert not torch.allclose(mean[0], mean[1])


def test_with_five_layers_nothing_is_pooled_at_128_px():
    """The reference leaves out the sixth convolution for crops below 256 px: 4 x 4 cells are left again."""
    encoder = StyleEncoder(EncoderSettings(num_bands=3, base_width=4, num_layers=5)).requires_grad_(False)
    assert [conv.weight.shape[:2] for conv in encoder.convs] == [(4, 3), (8, 4), (16, 8), (32, 16), (32, 32)]
    features = image(128, 128)
    for index, conv in enumerate(encoder.convs):
        features = F.instance_norm(conv(F.leaky_relu(features, 0.2) if index else features))
    assert features.shape[2:] == (4, 4)
    torch.testing.assert_close(encoder(image(128, 128))[0], encoder.mean(F.leaky_relu(features, 0.2).flatten(1)))


def test_published_size():
    """Convolutions 3 -> 64 -> 128 -> 256 -> 512 -> 512 -> 512 without bias, two heads of 8,192 x 256."""
    with torch.device("meta"):
        encoder = StyleEncoder(EncoderSettings(num_bands=3, latent_size=256))
    convolutions = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512 + 512 * 512)
    assert sum(value.numel() for value in encoder.parameters()) == convolutions + 2 * (8192 * 256 + 256)


@pytest.mark.parametrize("bands", [1, 4])
def test_other_bands_are_refused_in_one_line(bands):
    with pytest.raises(DataError, match=f"image of {bands} bands: the style encoder reads 3"):
        build()(torch.zeros(1, bands, 64, 64))


def test_spectral_norm_is_one_in_training():
    encoder = StyleEncoder(EncoderSettings(num_bands=3, base_width=4), spectral_norm=True)
    with torch.no_grad():
        for _ in range(30):
            encoder(image(64, 64))
    for conv in encoder.convs:
        assert float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)


def test_a_latent_has_the_mean_and_variance_it_is_given():
    count = 200_000
    mean, log_variance = torch.tensor([[1.5, -2.0]]), torch.tensor([[0.0, math.log(0.25)]])
    normal = torch.randn((count, 2), generator=torch.Generator().manual_seed(0))
    sample = reparameterised(mean.expand(count, -1), log_variance.expand(count, -1), normal)
    bound = 5 / math.sqrt(count)
    assert ((sample.mean(0) - mean[0]).abs() / (0.5 * log_variance[0]).exp()).max() < bound
    assert (sample.var(0) / log_variance[0].exp() - 1).abs().max() < bound * math.sqrt(2)


def test_a_latent_lets_gradients_through():
    mean, log_variance = torch.zeros(3, 2, requires_grad=True), torch.zeros(3, 2, requires_grad=True)
    sample = reparameterised(mean, log_variance, torch.randn((3, 2), generator=torch.Generator().manual_seed(0)))
    sample.sum().backward()
    assert torch.equal(mean.grad, torch.ones(3, 2))
    torch.testing.assert_close(log_variance.grad, sample.detach() / 2)
