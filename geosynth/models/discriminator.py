"""Multi-scale patch discriminator (pix2pixHD, as used by Park et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from geosynth.config import DiscriminatorSettings

# Per scale: features of the four layers, then the prediction.
Outputs = list[list[Tensor]]


class MultiscaleDiscriminator(nn.Module):
    """The same patch discriminator at full, half, ... resolution."""

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(settings) for _ in range(settings.num_scales))

    def forward(self, one_hot: Tensor, image: Tensor) -> Outputs:
        """(B, num_classes, H, W) labels and (B, num_bands, H, W) images; real and fake go in as one batch."""
        outputs = []
        values = torch.cat([one_hot, image], dim=1)
        for index, scale in enumerate(self.scales):
            if index:
                values = F.avg_pool2d(values, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(scale(values))
        return outputs


class PatchDiscriminator(nn.Module):
    """4x4 convolutions: width s2 -> 2 width s2 -> 4 width s2 -> 8 width s1 -> 1; norms on the middle three."""

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        width = settings.base_width
        self.first = nn.Conv2d(settings.num_classes + settings.num_bands, width, 4, stride=2, padding=2)
        self.middle = nn.ModuleList(
            parametrizations.spectral_norm(nn.Conv2d(inputs, 2 * inputs, 4, stride=stride, padding=2, bias=False))
            for inputs, stride in ((width, 2), (2 * width, 2), (4 * width, 1))
        )
        self.last = nn.Conv2d(8 * width, 1, 4, padding=2)
        for layer in (self.first, self.last):
            nn.init.xavier_normal_(layer.weight, gain=0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, values: Tensor) -> list[Tensor]:
        """Features of the four layers, then the prediction."""
        features = [F.leaky_relu(self.first(values), 0.2)]
        for conv in self.middle:
            features.append(F.leaky_relu(F.instance_norm(conv(features[-1])), 0.2))
        return [*features, self.last(features[-1])]
