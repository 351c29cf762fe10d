"""The VAE encoder: from an image to the distribution of its style z (Park et al. 2019, image encoder)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config import EncoderSettings
from geosynth.errors import DataError
from geosynth.models.spectral import with_spectral_norm

_CELLS = 4  # side of the last feature map, which the linear heads read


class StyleEncoder(nn.Module):
    """3x3 stride-2 convolutions with spectral and instance norm, then two linear heads.

    The reference has six convolutions for crops of 256 px and more, else five, and resizes images so that 4 x 4 cells
    remain. Here features of images of other sizes are pooled to 4 x 4 cells: the network is the same at 256 px (or 128
    px with five convolutions), and images of other sizes are not resampled.

    Args:
        settings: what to build.
        spectral_norm: keep the convolutions at spectral norm one; for training. In model files it is folded in.
    """

    def __init__(self, settings: EncoderSettings, *, spectral_norm: bool = False) -> None:
        super().__init__()
        self.settings = settings
        multiples = (1, 2, 4, 8, 8, 8)[: settings.num_layers]
        widths = [settings.num_bands, *(settings.base_width * multiple for multiple in multiples)]
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False) for inputs, outputs in pairwise(widths)
        )
        if spectral_norm:
            for conv in self.convs:
                with_spectral_norm(conv)
        features = widths[-1] * _CELLS * _CELLS
        self.mean = nn.Linear(features, settings.latent_size)
        self.log_variance = nn.Linear(features, settings.latent_size)
        for head in (self.mean, self.log_variance):
            nn.init.xavier_normal_(head.weight, gain=0.02)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """From images (B, num_bands, H, W) in [-1, 1] to mean and log variance of z, each (B, latent_size).

        Raises:
            DataError: if the number of bands is wrong.
        """
        if image.shape[1] != self.settings.num_bands:
            raise DataError(f"image of {image.shape[1]} bands: the style encoder reads {self.settings.num_bands}")
        features = image
        for index, conv in enumerate(self.convs):
            features = F.leaky_relu(features, 0.2) if index else features
            features = conv(features)
            if features.shape[-1] * features.shape[-2] > 1:  # one value cannot be normalised
                features = F.instance_norm(features)
        cells = F.adaptive_avg_pool2d(F.leaky_relu(features, 0.2), _CELLS).flatten(1)
        return self.mean(cells), self.log_variance(cells)


def reparameterised(mean: Tensor, log_variance: Tensor, normal: Tensor) -> Tensor:
    """Z = mean + deviation * N(0, I), the reparameterisation of Kingma and Welling 2014.

    Args:
        mean: (B, latent_size).
        log_variance: (B, latent_size).
        normal: (B, latent_size) or, for a style field, (B, latent_size, h, w): standard normal.
    """
    mean, deviation = (
        values.view(*values.shape, *[1] * (normal.ndim - 2)) for values in (mean, torch.exp(0.5 * log_variance))
    )
    return mean + normal * deviation
