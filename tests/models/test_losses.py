"""Losses against their formulas written out by hand."""

import math

import numpy as np
import pytest
import torch

from geosynth.models.losses import (
    block_mean_distance,
    diversity,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    kl_divergence,
)


@pytest.fixture
def outputs():
    """Two scales of two feature maps and a prediction each, for three fakes and three reals."""
    rng = torch.Generator().manual_seed(0)
    shapes = [[(6, 4, 9, 9), (6, 8, 5, 5), (6, 1, 6, 6)], [(6, 4, 5, 5), (6, 8, 3, 3), (6, 1, 4, 4)]]
    return [[torch.randn(shape, generator=rng) * 2 for shape in scale] for scale in shapes]


def halves(outputs):
    """The fakes' outputs and the reals'."""
    return ([[value.chunk(2)[half] for value in scale] for scale in outputs] for half in (0, 1))


def test_hinge(outputs):
    fake, real = halves(outputs)
    scores = [(scale[-1][:3].numpy(), scale[-1][3:].numpy()) for scale in outputs]
    for_discriminator = [
        np.mean([max(0, 1 + score) for score in fakes.flat]) + np.mean([max(0, 1 - score) for score in reals.flat])
        for fakes, reals in scores
    ]
    assert float(hinge_discriminator(fake, real)) == pytest.approx(sum(for_discriminator) / 2, rel=1e-5)
    assert float(hinge_generator(fake)) == pytest.approx(-sum(fakes.mean() for fakes, _ in scores) / 2, rel=1e-5)


def test_feature_matching(outputs):
    expected = (
        sum(np.abs(value[:3] - value[3:]).mean() for scale in outputs for value in map(np.asarray, scale[:-1])) / 2
    )
    for scale in outputs:
        for value in scale:
            value.requires_grad_()
    loss = feature_matching(*halves(outputs))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    for scale in outputs:
        assert scale[-1].grad is None  # the prediction is no feature
        for value in scale[:-1]:
            assert value.grad[:3].abs().min() > 0
            assert not value.grad[3:].any()  # the real side is a target


def test_kl_divergence_is_the_integral_it_stands_for():
    mean, log_variance = torch.tensor([[0.3, -1.0], [0.0, 2.0]]), torch.tensor([[0.5, -1.2], [0.0, 0.4]])

    def integral(mu, variance):
        x = np.linspace(-30, 30, 600_001)
        density = np.exp(-((x - mu) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        log_ratio = -((x - mu) ** 2) / (2 * variance) - 0.5 * math.log(variance) + x**2 / 2
        return float((density * log_ratio).sum() * (x[1] - x[0]))

    pairs = zip(mean.flatten().tolist(), log_variance.flatten().tolist(), strict=True)
    expected = sum(integral(mu, math.exp(log)) for mu, log in pairs) / 2  # summed over dimensions, mean over the batch
    assert float(kl_divergence(mean, log_variance)) == pytest.approx(expected, rel=1e-4)


def test_block_mean_distance():
    rng = np.random.default_rng(0)
    fake, real = rng.normal(size=(2, 2, 3, 16, 24)).astype("float32")
    means = [value.reshape(2, 3, 2, 8, 3, 8).mean((3, 5)) for value in (fake, real)]
    loss = block_mean_distance(torch.from_numpy(fake), torch.from_numpy(real))
    assert float(loss) == pytest.approx(np.abs(means[0] - means[1]).mean(), rel=1e-5)
    # Texture is free: shuffled pixels inside a block change nothing.
    shuffled = fake.copy()
    shuffled[..., :8, :8] = fake[..., :8, :8][..., ::-1, ::-1]
    assert float(block_mean_distance(torch.from_numpy(shuffled), torch.from_numpy(fake))) < 1e-6


@pytest.mark.parametrize("limit", [0.3, 1.0, 100.0])
def test_diversity_clamps_each_sample(limit):
    """A sample beyond the limit does not pay for one below it, and gets no gradient."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 3, 5, 6)).astype("float32")
    second[1] = first[1] + 0.01  # hardly differs
    z_first, z_second = rng.normal(size=(2, 4, 7)).astype("float32")
    ratios = [np.abs(first[i] - second[i]).mean() / (np.abs(z_first[i] - z_second[i]).mean() + 1e-5) for i in range(4)]
    images = [torch.from_numpy(values).requires_grad_() for values in (first, second)]
    value = diversity([images[0]], [images[1]], torch.from_numpy(z_first), torch.from_numpy(z_second), limit)
    assert float(value.detach()) == pytest.approx(np.mean([min(ratio, limit) for ratio in ratios]), rel=1e-5)
    value.backward()
    for image in images:  # both are learned from
        assert [bool(gradient.any()) for gradient in image.grad] == [ratio < limit for ratio in ratios]


def test_diversity_of_equal_latents_is_finite_and_fields_count_as_vectors():
    image, z = torch.rand(2, 3, 4, 4), torch.rand(2, 5)
    assert float(diversity([image], [image], z, z, 10.0)) == 0
    field = z[:, :, None, None].expand(-1, -1, 2, 3)
    other = torch.rand(2, 3, 4, 4)
    assert float(diversity([image], [other], field, field + 1, 10.0)) == pytest.approx(
        float(diversity([image], [other], z, z + 1, 10.0)), rel=1e-5
    )
