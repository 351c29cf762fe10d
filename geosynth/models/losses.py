"""Losses of SPADE's training (Park et al. 2019, section 3 and appendix; Lim and Ye 2017 for the hinge), and DSGAN's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_EPSILON = 1e-5
_BLOCK = 8  # pixels

# Per scale: features of the layers, then the prediction.
Outputs = list[list[Tensor]]


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


def block_mean_distance(fake: Tensor, real: Tensor) -> Tensor:
    """L1 distance between means over blocks of 8 x 8 pixels: it fixes colours but leaves texture free."""
    return F.l1_loss(F.avg_pool2d(fake, _BLOCK), F.avg_pool2d(real, _BLOCK))


def diversity(
    first: Sequence[Tensor], second: Sequence[Tensor], latent_first: Tensor, latent_second: Tensor, limit: float
) -> Tensor:
    """E[min(|G(x, z1) - G(x, z2)| / |z1 - z2|, limit)], to be maximised (Yang et al. 2019, equation 2).

    Both norms are means of absolute differences per sample, and the limit applies per sample, so that pairs that
    already differ enough have no effect. Gradients flow through both images.

    Args:
        first: what is compared, for z1: the image (B, ...), or features of a discriminator; the distance is the mean
            over the list's entries.
        second: the same for z2 and the same labels.
        latent_first: z1 ~ N(0, I), (B, ...).
        latent_second: z2, likewise.
        limit: the paper's tau.
    """
    distances = [(one - other).abs().flatten(1).mean(1) for one, other in zip(first, second, strict=True)]
    distance = torch.stack(distances).mean(0)
    latent_distance = (latent_first - latent_second).abs().flatten(1).mean(1)
    return (distance / (latent_distance + _EPSILON)).clamp(max=limit).mean()
