"""The SPADE generator (Park et al. 2019), with a shift-equivariant start and noise in space as the default.

Blocks, widths and the places of spectral norm follow the paper's generator ("normal", "more", "most"). What differs by
default: the start is a convolution over labels, latent field and noise instead of Linear(z); each block adds one noise
map with a strength learned per class and channel; convolutions pad by replication. `GeneratorSettings.reference` gives
the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from geosynth.config import GeneratorSettings, StageSpec
from geosynth.errors import SettingsError
from geosynth.models.modulation import SpadeNorm
from geosynth.models.patterns import LabelPatterns, LabelPyramid

_INITIAL_NOISE = 0.1


class SpadeGenerator(nn.Module):
    """Labels, latent and noise in, image out.

    Args:
        settings: what to build.
        spectral_norm: keep the block convolutions at spectral norm one; for training. Trained weights are stored with
            the norm folded in and load into a generator without it.
    """

    def __init__(self, settings: GeneratorSettings, *, spectral_norm: bool = False) -> None:
        super().__init__()
        self.settings = settings
        stages = settings.stages
        if settings.start == "linear":
            assert settings.crop_size is not None
            cells = settings.crop_size // settings.stride
            self.start: nn.Module = nn.Linear(settings.latent_size, stages[0].in_channels * cells * cells)
        else:
            inputs = settings.num_classes + settings.latent_size + settings.noise_channels
            self.start = nn.Conv2d(inputs, stages[0].in_channels, 3, padding=1, padding_mode=settings.padding)
        self.blocks = nn.ModuleDict({stage.name: SpadeBlock(settings, stage, spectral_norm) for stage in stages})
        self.to_image = nn.Conv2d(
            stages[-1].out_channels, settings.num_bands, 3, padding=1, padding_mode=settings.padding
        )
        _initialise(self)

    def forward(self, labels: Tensor, latent: Tensor | None = None, noise: Sequence[Tensor] = ()) -> Tensor:
        """Paint a batch of label maps.

        Args:
            labels: (B, H, W) integer class indices; `num_classes` for "no class". H and W are multiples of the stride.
            latent: (B, latent_size), or (B, latent_size, H / stride, W / stride) for a style that varies; None if
                the generator has none.
            noise: as `geosynth.models.field.random_noise` gives it.

        Returns:
            (B, num_bands, H, W) in [-1, 1].

        Raises:
            SettingsError: if a size does not fit the generator.
        """
        settings = self.settings
        height, width = labels.shape[1:]
        if height % settings.stride or width % settings.stride:
            raise SettingsError(f"window of {height} x {width} px: sides must be multiples of {settings.stride}")
        pyramid = LabelPyramid(labels, settings.num_classes, settings.padding)
        features = self._start(pyramid.at(settings.stride), latent, noise)
        stride = settings.stride
        for index, stage in enumerate(settings.stages):
            if stage.stride < stride:
                features = F.interpolate(features, scale_factor=stride // stage.stride, mode="nearest")
                stride = stage.stride
            block_noise = noise[index + 1] if settings.stage_noise else None
            features = self.blocks[stage.name](features, pyramid.at(stride), block_noise)
        return torch.tanh(self.to_image(F.leaky_relu(features, 0.2)))

    def _start(self, patterns: LabelPatterns, latent: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        batch, height, width = patterns.labels.shape
        if self.settings.start == "linear":
            cells = (self.settings.crop_size or 0) // self.settings.stride
            if (height, width) != (cells, cells):
                raise SettingsError(f"the linear start paints windows of {self.settings.crop_size} px only")
            return self.start(latent).view(batch, -1, height, width)  # type: ignore[no-any-return]
        inputs = [patterns.one_hot]
        if latent is not None:
            field = latent if latent.ndim == 4 else latent[:, :, None, None].expand(-1, -1, height, width)
            inputs.append(field)
        if self.settings.noise_channels:
            inputs.append(noise[0])
        return self.start(torch.cat(inputs, dim=1))  # type: ignore[no-any-return]


class SpadeBlock(nn.Module):
    """Residual block: dx = conv_1(lrelu(norm_1(conv_0(lrelu(norm_0 x)) + noise))).

    The shortcut is learned, conv_s(norm_s x), if the widths differ; else it is x.
    """

    def __init__(self, settings: GeneratorSettings, stage: StageSpec, spectral_norm: bool) -> None:
        super().__init__()
        inputs, outputs = stage.in_channels, stage.out_channels
        middle = min(inputs, outputs)

        def norm(channels: int) -> SpadeNorm:
            return SpadeNorm(channels, settings.num_classes, settings.hidden_channels, settings.padding)

        def conv(in_channels: int, out_channels: int, size: int) -> nn.Conv2d:
            layer = nn.Conv2d(
                in_channels,
                out_channels,
                size,
                padding=size // 2,
                padding_mode=settings.padding if size > 1 else "zeros",
                bias=size > 1,
            )
            if spectral_norm:
                parametrizations.spectral_norm(layer)  # in place
            return layer

        self.norm_0, self.conv_0 = norm(inputs), conv(inputs, middle, 3)
        self.norm_1, self.conv_1 = norm(middle), conv(middle, outputs, 3)
        self.learned_shortcut = inputs != outputs
        if self.learned_shortcut:
            self.norm_s, self.conv_s = norm(inputs), conv(inputs, outputs, 1)
        if settings.stage_noise:
            # The last row is for pixels without a class.
            self.noise_strength = nn.Parameter(torch.full((settings.num_classes + 1, middle), _INITIAL_NOISE))

    def forward(self, features: Tensor, patterns: LabelPatterns, noise: Tensor | None) -> Tensor:
        """(B, in, h, w) to (B, out, h, w); noise is (B, 1, h, w)."""
        shortcut = self.conv_s(self.norm_s(features, patterns)) if self.learned_shortcut else features
        hidden = self.conv_0(F.leaky_relu(self.norm_0(features, patterns), 0.2))
        if noise is not None:
            hidden = hidden + self._noise(noise, patterns).to(hidden.dtype)
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(hidden, patterns), 0.2))  # type: ignore[no-any-return]

    def _noise(self, noise: Tensor, patterns: LabelPatterns) -> Tensor:
        batch, _, height, width = noise.shape
        pixels = (patterns.pixel_classes * noise.reshape(-1, 1)) @ self.noise_strength
        return pixels.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _initialise(generator: SpadeGenerator) -> None:
    """Xavier with gain 0.02 on plain layers, as the paper means it; spectral-norm layers keep PyTorch's default.

    The convolutional start keeps the default too: its output is not normalised before the first shortcut.
    """
    modulations = [
        layer for module in generator.modules() if isinstance(module, SpadeNorm) for layer in module.modules()
    ]
    plain = [layer for layer in modulations if isinstance(layer, nn.Conv2d)] + [generator.to_image]
    for layer in plain:
        nn.init.xavier_normal_(layer.weight, gain=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
