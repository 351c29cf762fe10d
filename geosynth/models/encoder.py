"""The VAE encoder: an image in, the distribution of its style z out (Park et al. 2019, image encoder)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from geosynth.config import EncoderSettings

_CELLS = 4  # side of the last feature map, which the linear heads read


class StyleEncoder(nn.Module):
    """Six 3x3 stride-2 convolutions with spectral and instance norm, then two linear heads.

    The reference resizes images to 256 px, which gives 4 x 4 cells at the end. Here images of other sizes are pooled
    to 4 x 4 cells instead: the same network at 256 px, and no resampling at other sizes.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        width = settings.base_width
        widths = [settings.num_bands, *(width * multiple for multiple in (1, 2, 4, 8, 8, 8))]
        self.convs = nn.ModuleList(
            parametrizations.spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False))
            for inputs, outputs in pairwise(widths)
        )
        features = widths[-1] * _CELLS * _CELLS
        self.mean = nn.Linear(features, settings.latent_size)
        self.log_variance = nn.Linear(features, settings.latent_size)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, num_bands, H, W) in [-1, 1], sides >= 64 px, to mean and log variance of z, each (B, latent_size)."""
        features = image
        for index, conv in enumerate(self.convs):
            features = F.leaky_relu(features, 0.2) if index else features
            features = conv(features)
            if features.shape[-1] * features.shape[-2] > 1:  # one value cannot be normalised
                features = F.instance_norm(features)
        cells = F.adaptive_avg_pool2d(F.leaky_relu(features, 0.2), _CELLS).flatten(1)
        return self.mean(cells), self.log_variance(cells)


def sample_latent(mean: Tensor, log_variance: Tensor, rng: torch.Generator) -> Tensor:
    """Z = mean + deviation * N(0, I), the reparameterisation of Kingma and Welling 2014."""
    normal = torch.randn(mean.shape, generator=rng, device=rng.device)
    return mean + normal.to(mean.device) * torch.exp(0.5 * log_variance)
