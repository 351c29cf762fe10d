"""Spatially-adaptive denormalisation (SPADE, Park et al. 2019, equation 1), by pattern table or densely.

    y = norm(x) * (1 + gamma(labels)) + beta(labels)

gamma and beta come from the one-hot labels through Conv3x3 - ReLU - Conv3x3. Both ways below give the same numbers (up
to the order of float additions) and the same gradients; `SpadeModulation` takes the one that costs less.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.models.patterns import LabelPatterns, Padding

Form = Literal["auto", "table", "dense"]


class SpadeModulation(nn.Module):
    """gamma and beta of one SPADE layer.

    Args:
        channels: of the features to modulate.
        num_classes: of the labels.
        hidden_channels: of the hidden layer.
        padding: what both convolutions see outside the map.
    """

    def __init__(self, channels: int, num_classes: int, hidden_channels: int, padding: Padding) -> None:
        super().__init__()
        self.channels = channels
        self.padding: Padding = padding
        self.shared = nn.Conv2d(num_classes, hidden_channels, 3)
        # gamma and beta in one convolution: the first `channels` outputs are gamma.
        self.gamma_beta = nn.Conv2d(hidden_channels, 2 * channels, 3)
        self.form: Form = "auto"

    def forward(self, patterns: LabelPatterns, fold: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift, each (B, channels, h, w), such that y = x * scale + shift.

        Without `fold`, x is normalised and scale = 1 + gamma, shift = beta. With `fold` = (mean, deviation) of a
        batch norm whose statistics are fixed, x is not: the norm is folded into the weights.
        """
        weight, bias = self._folded(fold)
        if self._uses_table(patterns):
            return self._by_table(patterns, weight, bias)
        return self._densely(patterns, weight, bias)

    def _folded(self, fold: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of `gamma_beta` with the "1 +" and, if given, the batch norm inside.

        (x - m) / s * (1 + gamma) + beta  =  x * (1 + gamma) / s  +  beta - m * (1 + gamma) / s
        """
        weight, bias = self.gamma_beta.weight, self.gamma_beta.bias
        assert bias is not None
        gamma_weight, beta_weight = weight.chunk(2)
        gamma_bias, beta_bias = bias.chunk(2)
        gamma_bias = gamma_bias + 1
        if fold is not None:
            mean, deviation = fold
            gamma_weight, gamma_bias = gamma_weight / deviation.view(-1, 1, 1, 1), gamma_bias / deviation
            beta_weight = beta_weight - mean.view(-1, 1, 1, 1) * gamma_weight
            beta_bias = beta_bias - mean * gamma_bias
        return torch.cat([gamma_weight, beta_weight]), torch.cat([gamma_bias, beta_bias])

    def _uses_table(self, patterns: LabelPatterns) -> bool:
        """The table wins where patterns repeat; at the coarsest resolutions nearly every pixel has its own."""
        if self.form != "auto":
            return self.form == "table"
        return 4 * patterns.num_patterns < patterns.num_pixels

    def _densely(self, patterns: LabelPatterns, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(F.conv2d(self._pad(patterns.one_hot), self.shared.weight, self.shared.bias))
        scale, shift = F.conv2d(self._pad(hidden), weight, bias).chunk(2, dim=1)
        return scale, shift

    def _pad(self, values: Tensor) -> Tensor:
        return F.pad(values, (1, 1, 1, 1), mode="replicate" if self.padding == "replicate" else "constant")

    def _by_table(self, patterns: LabelPatterns, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        width = 2 * self.channels
        # Hidden activation of each distinct pattern, (P + 1, hidden); the last row, zeros, is the outside of the map.
        taps = self.shared.weight.permute(2, 3, 1, 0).flatten(0, 2)
        assert self.shared.bias is not None
        hidden = F.relu(patterns.pattern_classes @ taps + self.shared.bias)
        hidden = F.pad(hidden, (0, 0, 0, 1))
        # What each pattern contributes from each of the nine positions, (P + 1, 9, width).
        table = (hidden @ weight.permute(1, 2, 3, 0).flatten(1)).view(-1, 9, width).float()
        interior = table[patterns.uniform].sum(1) + bias
        offsets = torch.arange(9, device=table.device)
        border = F.embedding_bag(patterns.border_taps * 9 + offsets, table.flatten(0, 1), mode="sum") + bias
        return self._spread(patterns, interior, border, 0), self._spread(patterns, interior, border, self.channels)

    def _spread(self, patterns: LabelPatterns, interior: Tensor, border: Tensor, start: int) -> Tensor:
        """(B, channels, h, w) in channels_last from the rows of classes and of border pixels."""
        columns = slice(start, start + self.channels)
        # A product with one-hot rows rather than a gather: its gradient is a product too, not a scatter.
        pixels = patterns.interior_classes @ interior[:, columns]
        pixels = pixels.index_copy(0, patterns.border, border[:, columns].to(pixels.dtype))
        batch, height, width = patterns.labels.shape
        return pixels.view(batch, height, width, self.channels).permute(0, 3, 1, 2)


class SpadeNorm(nn.Module):
    """Parameter-free batch norm followed by SPADE modulation."""

    def __init__(self, channels: int, num_classes: int, hidden_channels: int, padding: Padding) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.modulation = SpadeModulation(channels, num_classes, hidden_channels, padding)

    def forward(self, features: Tensor, patterns: LabelPatterns) -> Tensor:
        """(B, channels, h, w) to the same shape."""
        if self.training:
            scale, shift = self.modulation(patterns)
            return torch.addcmul(shift, self.norm(features), scale)
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale, shift = self.modulation(patterns, (mean, torch.sqrt(variance + self.norm.eps)))
        return torch.addcmul(shift, features, scale)
