"""Discriminators on features of a frozen network: projected GANs (Sauer et al. 2021), conditioned on labels.

Features learned on ImageNet distinguish real from painted images after few examples, so that little data, or a short
training, teaches textures for which a discriminator with random weights would need long. The network's maps at four
scales are mixed by fixed random projections, across channels and from coarse to fine, so that the generator cannot
optimise single channels; small heads, which are trained, judge each of them together with the labels at that scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.models.losses import hinge_discriminator, hinge_generator
from geosynth.models.patterns import one_hot_classes
from geosynth.models.spectral import with_spectral_norm

_CHANNELS = (24, 40, 112, 1280)  # of EfficientNet-Lite0 at 1/4, 1/8, 1/16 and 1/32 of the size
_MIXED = (32, 64, 96, 128)
_WIDTH = 128  # of the heads
_SEED = 7  # of the projections


class ProjectedAdversary(nn.Module):
    """Heads on mixed features, with hinge losses.

    Args:
        num_classes: of the labels.
        num_pictures: number of pictures in which the frozen network sees an image; each has its own heads.
    """

    def __init__(self, num_classes: int, num_pictures: int) -> None:
        super().__init__()
        self.num_classes, self.num_pictures = num_classes, num_pictures
        rng = torch.Generator().manual_seed(_SEED)
        self.across = nn.ModuleList(
            _fixed(inputs, outputs, 1, rng) for inputs, outputs in zip(_CHANNELS, _MIXED, strict=True)
        )
        self.down = nn.ModuleList(_fixed(_MIXED[level + 1], _MIXED[level], 3, rng) for level in range(3))
        self.heads = nn.ModuleList(
            _head(width + num_classes, 3 - level) for _ in range(num_pictures) for level, width in enumerate(_MIXED)
        )

    def judge(
        self, labels: Tensor, fake: Sequence[Tensor], real: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs of each head, float32, for fakes and for real images.

        Args:
            labels: (B, H, W) class indices; `num_classes` for "no class".
            fake: the four maps of EfficientNet-Lite0, (pictures * B, C, h, w), picture by picture.
            real: likewise.
        """
        one_hot = one_hot_classes(labels, self.num_classes, torch.float32)
        said: tuple[list[Tensor], list[Tensor]] = ([], [])
        for level, (of_fake, of_real) in enumerate(zip(self._mixed(fake), self._mixed(real), strict=True)):
            scale = of_real.detach().float().std().clamp(min=1e-6).to(of_real.dtype)
            seen = F.interpolate(one_hot, size=of_real.shape[2:], mode="area").to(of_real.dtype)
            for values, outputs in zip((of_fake, of_real), said, strict=True):
                for picture, part in enumerate((values / scale).chunk(self.num_pictures)):
                    head = self.heads[picture * len(_MIXED) + level]
                    outputs.append(head(torch.cat([part, seen], 1)).float())
        return said

    def _mixed(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mix maps across channels, then from coarse to fine."""
        mixed = [layer(values) for layer, values in zip(self.across, maps, strict=True)]
        for level in (2, 1, 0):
            finer = self.down[level](mixed[level + 1])
            mixed[level] = mixed[level] + F.interpolate(finer, size=mixed[level].shape[2:], mode="bilinear")
        return mixed

    def losses(self, labels: Tensor, fake: Sequence[Tensor], real: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The losses of generator and discriminator; arguments as for `judge`."""
        of_fake, of_real = ([[values] for values in outputs] for outputs in self.judge(labels, fake, real))
        return hinge_generator(of_fake), hinge_discriminator(of_fake, of_real)


def _fixed(inputs: int, outputs: int, size: int, rng: torch.Generator) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False).requires_grad_(False)
    layer.weight.data = torch.randn(layer.weight.shape, generator=rng) / math.sqrt(inputs * size**2)
    return layer


def _head(inputs: int, halvings: int) -> nn.Sequential:
    """A head: down to the coarsest map, as in Sauer et al., then two layers."""
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [nn.Conv2d(inputs, _WIDTH, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        inputs = _WIDTH
    layers += [nn.Conv2d(inputs, _WIDTH, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(_WIDTH, 1, 1)]
    return nn.Sequential(*(with_spectral_norm(layer) if isinstance(layer, nn.Conv2d) else layer for layer in layers))
