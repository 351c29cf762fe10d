"""Losses of SPADE's training (Park et al. 2019, section 3 and appendix; Lim and Ye 2017 for the hinge)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.models.discriminator import Outputs


def split_outputs(outputs: Outputs) -> tuple[Outputs, Outputs]:
    """Halve the outputs of a batch of fakes followed by as many reals."""
    fake = [[value.chunk(2)[0] for value in scale] for scale in outputs]
    real = [[value.chunk(2)[1] for value in scale] for scale in outputs]
    return fake, real


def hinge_discriminator(fake: Outputs, real: Outputs) -> Tensor:
    """E[max(0, 1 + D(fake))] + E[max(0, 1 - D(real))], mean over scales."""
    losses = [
        F.relu(1 + fake_scale[-1]).mean() + F.relu(1 - real_scale[-1]).mean()
        for fake_scale, real_scale in zip(fake, real, strict=True)
    ]
    return torch.stack(losses).mean()


def hinge_generator(fake: Outputs) -> Tensor:
    """-E[D(fake)], mean over scales."""
    return -torch.stack([scale[-1].mean() for scale in fake]).mean()


def feature_matching(fake: Outputs, real: Outputs) -> Tensor:
    """L1 distance between discriminator features of fake and real, summed over layers, mean over scales."""
    losses = [
        F.l1_loss(fake_value, real_value.detach())
        for fake_scale, real_scale in zip(fake, real, strict=True)
        for fake_value, real_value in zip(fake_scale[:-1], real_scale[:-1], strict=True)
    ]
    return torch.stack(losses).sum() / len(fake)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)), summed over dimensions, averaged over the batch."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()


def block_mean_distance(fake: Tensor, real: Tensor, size: int = 8) -> Tensor:
    """L1 distance between means over size x size blocks: colour where it belongs, texture left free."""
    return F.l1_loss(F.avg_pool2d(fake, size), F.avg_pool2d(real, size))
