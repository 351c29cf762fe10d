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

from geosynth.models.affine import (
    LayerNoise,
    PixelRows,
    add_noise,
    affine_by_pixel,
    affine_by_row,
    apply_looks,
    painted_by_row,
)
from geosynth.models.device import has_kernels, product_type
from geosynth.models.norm import BatchNorm
from geosynth.models.patterns import LabelPatterns, Padding, repeat_edges
from geosynth.models.trials import kernel_trials
from geosynth.models.weight_cache import WeightCache
from geosynth.models.zoom import Zoom, upsampled

Form = Literal["auto", "table", "dense", "kernel"]

_COARSE = 16  # pixels per cell, from which on most pixels have a pattern of their own
_COARSE_ON_GPU = 8  # likewise on a GPU, where products are cheap and a table has more slots than patterns
_TABLE_VALUES = 1 << 25  # largest size of a table


class SpadeModulation(nn.Module):
    """gamma and beta of one SPADE layer.

    Args:
        channels: of the features to modulate.
        num_classes: of the labels.
        hidden_channels: of the hidden layer.
        padding: of both convolutions, outside the map.
    """

    def __init__(self, channels: int, num_classes: int, hidden_channels: int, padding: Padding) -> None:
        super().__init__()
        self.channels = channels
        self.padding: Padding = padding
        self.shared = nn.Conv2d(num_classes, hidden_channels, 3)
        # gamma and beta in one convolution: the first `channels` outputs are gamma.
        self.gamma_beta = nn.Conv2d(hidden_channels, 2 * channels, 3)
        self.form: Form = "auto"
        self._cache = WeightCache[tuple[Tensor, ...]]()

    def form_for(self, patterns: LabelPatterns) -> Form:
        """The form to use: table, dense, or the table of a kernel.

        The table is faster if patterns repeat; at the coarsest resolutions nearly every pixel has its own. In
        evaluation mode the level decides, not the labels, because the forms round differently, and a pixel must not
        depend on what else is in its window. On a GPU, the host would have to wait to know how large the table is, so
        the kernel's table has a fixed size.
        """
        if self.form != "auto":
            return self.form
        device = patterns.labels.device
        if device.type != "cpu":
            painting = not self.training and not torch.is_grad_enabled() and patterns.stride < _COARSE_ON_GPU
            return "kernel" if painting and has_kernels(device) and patterns.codes_fit else "dense"
        if self.training:
            return "table" if 4 * patterns.num_patterns < patterns.num_pixels else "dense"
        return "table" if patterns.stride < _COARSE else "dense"

    def rows(self, patterns: LabelPatterns, norm: nn.BatchNorm2d | None = None) -> Tensor:
        """Scale and shift of each class's interior, then of each border pixel, (R, 2 * channels).

        They are float32, or, if no gradient is needed, in the type of products (16 bits under autocast), in which they
        will be used.

        Args:
            patterns: of the labels.
            norm: as in `maps`.
        """
        weight, bias = self._prepared(norm, "table")
        # Hidden activation of each distinct pattern, (P + 1 or more, hidden); row P, zeros, is the outside of the map.
        hidden = self._hidden(patterns.pattern_classes)
        hidden = F.pad(hidden[: patterns.num_patterns], (0, 0, 0, len(hidden) - patterns.num_patterns))
        num_rows = len(hidden) * 9  # what each pattern contributes from each of the nine positions

        def summed(weight: Tensor, bias: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                table = (hidden.to(weight.dtype) @ weight.flatten(1)).view(num_rows, -1).float()
                return F.embedding_bag(patterns.places[:, :9], table, mode="sum") + bias
            # The bias is also summed, in two parts that fit 16 bits: the sum is computed in float32 and rounded once.
            table = weight.new_empty(num_rows + 2, len(bias))
            torch.mm(hidden.to(weight.dtype), weight.flatten(1), out=table[:num_rows].view(len(hidden), -1))
            table[num_rows] = bias
            table[num_rows + 1] = bias - table[num_rows]
            return F.embedding_bag(patterns.places, table, mode="sum")

        # All channels at once, unless labels are like noise, as the table must not become larger than the features.
        most = max(16, _TABLE_VALUES // num_rows)
        weights = torch.split(weight.view(len(weight), 9, -1), most, dim=2)
        parts = [summed(*part) for part in zip(weights, torch.split(bias, most), strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def maps(self, patterns: LabelPatterns, norm: nn.BatchNorm2d | None = None, edge_shows: bool = True) -> Tensor:
        """(B, 2 * channels, h, w): scale, then shift, such that y = x * scale + shift.

        Without `norm`, x is normalised and scale = 1 + gamma, shift = beta. With a norm, x is not: the norm, by its
        running statistics, is folded into the weights.
        """
        weight, bias, shared_bias = self._prepared(norm, "dense")
        repeats = edge_shows and self.padding == "replicate"

        def convolved(values: Tensor, kernel: Tensor, offset: Tensor) -> Tensor:
            if repeats:
                return F.conv2d(repeat_edges(values), kernel, offset)
            return F.conv2d(values, kernel, offset, padding=1)

        one_hot = patterns.one_hot(product_type(self.shared.weight))
        hidden = F.relu(convolved(one_hot, self.shared.weight, shared_bias), inplace=True)
        return convolved(hidden, weight, bias)

    def by_kernel(
        self,
        features: Tensor,
        patterns: LabelPatterns,
        norm: nn.BatchNorm2d,
        slope: float,
        noise: LayerNoise | None,
        looks: PixelRows | None,
        zoom: Zoom | None,
    ) -> Tensor:
        """Looks, noise, modulation and leaky ReLU of features; see `modulation_kernels.modulate`."""
        from geosynth.models.modulation_kernels import modulate
        from geosynth.models.pattern_kernels import hidden_rows

        assert self.shared.bias is not None
        weight, rows, taps = self._prepared(norm, "kernel")
        with torch.autocast(features.device.type, enabled=False):
            bias, hashed = self.shared.bias, patterns.hashed
            table = hidden_rows(hashed, taps, bias) @ weight
            return modulate(features, hashed, table, rows, taps, bias, weight, slope, noise, looks, zoom)

    @property
    def _taps(self) -> Tensor:
        """(9 * num_classes, hidden): the weights of the hidden layer as a matrix."""
        return self.shared.weight.permute(2, 3, 1, 0).flatten(0, 2)

    def _hidden(self, classes: Tensor) -> Tensor:
        """(n, hidden): the hidden layer of (n, 9 * num_classes) one-hot patterns."""
        assert self.shared.bias is not None
        taps = self._taps
        return F.relu(classes.to(taps.dtype) @ taps + self.shared.bias)

    def _prepared(self, norm: nn.BatchNorm2d | None, form: Form) -> tuple[Tensor, ...]:
        """The result of `_laid_out`, computed once as long as the weights do not change.

        Each form and type has its own, as a recorded graph reads them from their place in memory.
        """
        sources = [*self.gamma_beta.parameters(), *self.shared.parameters(), *(norm.buffers() if norm else ())]
        return self._cache.get((form, product_type(self.shared.weight)), sources, lambda: self._laid_out(norm, form))

    def _laid_out(self, norm: nn.BatchNorm2d | None, form: Form) -> tuple[Tensor, ...]:
        """The weights of both convolutions as a form takes them, `_folded`, in the type of products.

        Args:
            norm: to fold in.
            form: "dense": weight and bias of the second convolution, and the bias of the first; "table": that weight as
                (hidden, 9 * 2 * channels), and the float32 bias; "kernel": that weight, and `rows` and `taps` of
                `modulation_kernels.modulate`.
        """
        weight, bias = self._folded(norm)
        dtype = product_type(self.shared.weight)
        if form == "dense":
            assert self.shared.bias is not None
            return weight.to(dtype), bias.to(dtype), self.shared.bias.to(dtype)
        weight = weight.permute(1, 2, 3, 0).flatten(1).to(dtype)
        if form == "table":
            return weight, bias
        # Contiguous, for the kernel: for a weight in channels_last the taps are a view.
        return weight.contiguous(), self._interiors(weight, bias), self._taps.to(dtype).contiguous()

    def _folded(self, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of `gamma_beta` with the "1 +" and, if given, the batch norm inside.

        (x - m) / s * (1 + gamma) + beta  =  x * (1 + gamma) / s  +  beta - m * (1 + gamma) / s
        """
        weight, bias = self.gamma_beta.weight, self.gamma_beta.bias
        assert bias is not None
        bias = torch.cat([bias[: self.channels] + 1, bias[self.channels :]])
        if norm is not None:
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None
            assert variance is not None
            inverse = torch.rsqrt(variance + norm.eps)
            gamma_weight, gamma_bias = weight[: self.channels], bias[: self.channels]
            gamma_weight, gamma_bias = gamma_weight * inverse.view(-1, 1, 1, 1), gamma_bias * inverse
            beta_weight = weight[self.channels :] - mean.view(-1, 1, 1, 1) * gamma_weight
            weight = torch.cat([gamma_weight, beta_weight])
            bias = torch.cat([gamma_bias, bias[self.channels :] - mean * gamma_bias])
        return weight, bias

    def _interiors(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Scale and shift where there is one class all around, then the bias, (num_classes + 2, 2 * channels) float32.

        Args:
            weight: (hidden, 9 * 2 * channels).
            bias: (2 * channels,).
        """
        num_classes = self.shared.in_channels
        one_class = torch.eye(num_classes + 1, num_classes, device=weight.device).repeat(1, 9)
        hidden = self._hidden(one_class).to(weight.dtype).float()
        rows = hidden @ weight.float().view(len(weight), 9, -1).sum(1) + bias
        return torch.cat([rows, bias.unsqueeze(0)])


class SpadeNorm(nn.Module):
    """Parameter-free batch norm followed by SPADE modulation and, if asked for, a leaky ReLU."""

    def __init__(self, channels: int, num_classes: int, hidden_channels: int, padding: Padding) -> None:
        super().__init__()
        self.norm = BatchNorm(channels)
        self.modulation = SpadeModulation(channels, num_classes, hidden_channels, padding)

    def forward(
        self,
        features: Tensor,
        patterns: LabelPatterns,
        slope: float = 1.0,
        edge_shows: bool = True,
        noise: LayerNoise | None = None,
        looks: PixelRows | None = None,
        zoom: Zoom | None = None,
    ) -> Tensor:
        """Normalise, modulate and activate.

        Args:
            features: (B, channels, h, w); may be overwritten if there are looks or noise.
            patterns: of the labels.
            slope: of the leaky ReLU, 1 for none.
            edge_shows: if False, values within two cells of the edge may be wrong.
            noise: (B, 1, h, w), with its strength; added to the features first.
            looks: applied to the features before that, see `apply_looks`.
            zoom: if the features are of the previous level.

        Returns:
            (B, channels, h, w).
        """
        if self.takes_kernel(features, patterns, noise, looks):
            return self.modulation.by_kernel(features, patterns, self.norm, slope, noise, looks, zoom)
        if self.takes_table(patterns):
            rows, source = self.modulation.rows(patterns, self.norm), zoom and zoom.source(patterns, features)
            return painted_by_row(features, rows, patterns, slope, source, noise, looks)
        form = self.modulation.form_for(patterns)
        form = "dense" if form == "kernel" else form
        features = features if zoom is None else upsampled(features, zoom)
        return self._plain(form, features, patterns, slope, edge_shows, noise, looks)

    def _plain(
        self,
        form: Form,
        features: Tensor,
        patterns: LabelPatterns,
        slope: float,
        edge_shows: bool,
        noise: LayerNoise | None,
        looks: PixelRows | None,
    ) -> Tensor:
        """`forward` by "table" or "dense"."""
        if looks is not None:
            features = apply_looks(features, looks)
        if noise is not None:
            features = add_noise(features, noise, patterns)
        fold = None if self.training else self.norm
        if fold is None:
            features = self.norm(features)
        if form == "table":
            return affine_by_row(features, self.modulation.rows(patterns, fold), patterns, slope)
        return affine_by_pixel(features, self.modulation.maps(patterns, fold, edge_shows), slope)

    def takes_table(self, patterns: LabelPatterns) -> bool:
        """Whether `forward` paints by table, on a processor."""
        plain = not self.training and not torch.is_grad_enabled() and patterns.labels.device.type == "cpu"
        return plain and self.modulation.form_for(patterns) == "table"

    def takes_kernel(
        self,
        features: Tensor,
        patterns: LabelPatterns,
        noise: LayerNoise | None = None,
        looks: PixelRows | None = None,
    ) -> bool:
        """Whether `forward` uses the kernel: if it applies, and gives the same as the dense form."""
        return self.modulation.form_for(patterns) == "kernel" and self._kernel_works(features, noise, looks)

    def _kernel_works(self, features: Tensor, noise: LayerNoise | None, looks: PixelRows | None) -> bool:
        """See `KernelTrials`."""
        modulation, device, dtype = self.modulation, features.device, features.dtype
        hidden, num_classes = modulation.shared.weight.shape[:2]
        products = product_type(modulation.shared.weight)

        def small(form: Form) -> Tensor:
            """Patches of all classes, some of them large enough to have an interior."""
            row = torch.arange(32, device=device).view(2, 16, 1)
            labels = (row // 8 * 3 + torch.arange(16, device=device) // 6) % (num_classes + 1)
            waves = torch.arange(2 * 9 * 9 * modulation.channels, device=device).sin()
            values, zoom = waves.view(2, 9, 9, -1).permute(0, 3, 1, 2).to(dtype), Zoom(2, 1)
            drawn = None if noise is None else LayerNoise(upsampled(values[:, :1], zoom), noise.strength)
            patterns = LabelPatterns(labels, num_classes, modulation.padding)
            look = None
            if looks is not None:
                rows = None if looks.rows is None else labels
                number = labels.numel() if rows is None else num_classes + 1
                look = PixelRows(torch.linspace(-1, 1, number, device=device).to(looks.table.dtype).unsqueeze(1), rows)
                look = look._replace(table=look.table.repeat(1, 2 * modulation.channels))
            if form == "kernel":
                return modulation.by_kernel(values, patterns, self.norm, 0.2, drawn, look, zoom)
            return self._plain(form, upsampled(values, zoom), patterns, 0.2, True, drawn, look)

        sizes = (modulation.channels, hidden, num_classes, modulation.padding)
        kind = None if looks is None else (looks.table.dtype, looks.rows is None)
        key = (device, dtype, products, *sizes, noise is None, kind)
        exact = dtype == products == torch.float32
        return kernel_trials.passed(key, lambda: small("kernel"), lambda: small("dense"), 1e-3 if exact else 0.05)
