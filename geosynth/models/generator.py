"""The SPADE generator (Park et al. 2019), with a shift-equivariant start and noise in space as the default.

Blocks, widths and the places of spectral norm follow the paper's generator ("normal", "more", "most"). Differences by
default: the start is a convolution over labels, latent field and noise instead of Linear(z); each block adds one noise
map with a strength learned per class and channel; convolutions pad by replication. `GeneratorSettings.reference` are
the paper's settings.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config import GeneratorSettings, StageSpec
from geosynth.errors import DataError, SettingsError
from geosynth.models.affine import LayerNoise, PixelRows
from geosynth.models.device import product_type
from geosynth.models.looks.codes import StyleCodes, StyleModulation, code_places, pixel_codes
from geosynth.models.looks.styles import STYLE_CELL, style_size
from geosynth.models.modulation import SpadeNorm
from geosynth.models.patterns import LabelPatterns, LabelPyramid, at_level, repeat_edges
from geosynth.models.spectral import with_spectral_norm
from geosynth.models.zoom import Zoom, cropped, upsampled

# --- Inputs of a generator: checking them, and padding them to a size that it can paint.


def check_inputs(
    settings: GeneratorSettings,
    labels: Tensor,
    latent: Tensor | None,
    noise: Sequence[Tensor | None],
    styles: Tensor | None = None,
) -> None:
    """Refuse inputs that a generator with these settings cannot paint; arguments as for `SpadeGenerator.forward`.

    Raises:
        DataError: if labels are not class indices, or are larger than the linear start can paint.
        SettingsError: if the latent, the noise or the styles are not what the generator takes.
    """
    if labels.device.type == "cpu":  # elsewhere the host would have to wait
        check_labels(settings, labels)
    padded = settings.padded_size(*labels.shape[1:])
    if settings.start == "linear" and max(padded) != settings.crop_size:
        raise DataError(
            f"labels of {labels.shape[1]} x {labels.shape[2]} px: the linear start paints windows of up to"
            f" {settings.crop_size} px"
        )
    one = (len(labels), settings.latent_size)
    field = (*one, padded[0] // settings.stride, padded[1] // settings.stride)
    shape = None if latent is None else tuple(latent.shape)
    wanted_shapes = (one,) if settings.start == "linear" else (one, field)
    if shape not in (wanted_shapes if settings.latent_size else (None,)):
        wanted = " or ".join(map(str, wanted_shapes)) if settings.latent_size else "none"
        raise SettingsError(f"latent {shape}: for these labels the generator takes {wanted}")
    num_maps = 1 + len(settings.stages) if settings.stage_noise else int(settings.noise_channels > 0)
    if len(noise) < num_maps:
        raise SettingsError(f"{len(noise)} noise maps: the generator takes {num_maps}, as random_noise gives them")
    cells = (
        len(labels),
        settings.num_classes,
        style_size(settings.num_bands),
        *(side // STYLE_CELL for side in padded),
    )
    found = None if styles is None else tuple(styles.shape)
    if found != (cells if settings.style_lengths else None):
        raise SettingsError(
            f"styles {found}: for these labels the generator takes {cells if settings.style_lengths else 'none'}"
        )


def check_labels(settings: GeneratorSettings, labels: Tensor) -> None:
    """Refuse labels, (B, H, W), that are not class indices.

    Raises:
        DataError: if a value is not a class index.
    """
    if labels.ndim != 3 or not labels.numel() or labels.is_floating_point():
        raise DataError(f"labels {tuple(labels.shape)} of {labels.dtype}: (B, H, W) integers are needed")
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high > settings.num_classes:
        raise DataError(
            f"labels hold {low}..{high}: class indices are 0..{settings.num_classes - 1},"
            f" and {settings.num_classes} where there is no class"
        )


def pad_labels(settings: GeneratorSettings, labels: Tensor) -> Tensor:
    """Labels (B, H, W), padded to the painted size, `settings.padded_size`, by repeating the last row and column."""
    for dim, size in enumerate(settings.padded_size(*labels.shape[1:]), start=1):
        missing = size - labels.shape[dim]
        if missing:
            labels = torch.cat([labels, labels.narrow(dim, -1, 1).repeat_interleave(missing, dim)], dim)
    return labels


_INITIAL_NOISE = 0.1
_SLOPE = 0.2  # of all leaky ReLUs


class SpadeGenerator(nn.Module):
    """The generator, from labels, latent, noise and styles to an image.

    Args:
        settings: what to build.
        spectral_norm: keep the block convolutions at spectral norm one; for training. Trained weights are stored with
            the norm folded in, to be loaded into a generator without it.
    """

    def __init__(self, settings: GeneratorSettings, *, spectral_norm: bool = False) -> None:
        super().__init__()
        self.settings = settings
        stages = settings.stages
        if settings.start == "linear":
            assert settings.crop_size is not None
            cells = settings.crop_size // settings.stride
            self.start: nn.Linear | nn.Conv2d = nn.Linear(settings.latent_size, stages[0].in_channels * cells * cells)
        else:
            inputs = settings.num_classes + settings.latent_size + settings.noise_channels
            if settings.style_lengths:
                inputs += settings.style_width
                self.style_codes = StyleCodes(settings.num_classes, settings.num_bands, settings.style_width)
            self.start = nn.Conv2d(inputs, stages[0].in_channels, 3, padding=1, padding_mode=settings.padding)
        self.blocks = nn.ModuleDict({stage.name: SpadeBlock(settings, stage, spectral_norm) for stage in stages})
        self.to_image = nn.Conv2d(
            stages[-1].out_channels, settings.num_bands, 3, padding=1, padding_mode=settings.padding
        )
        _initialise(self)

    def forward(
        self,
        labels: Tensor,
        latent: Tensor | None = None,
        noise: Sequence[Tensor | None] = (),
        margin: int = 0,
        styles: Tensor | None = None,
    ) -> Tensor:
        """Paint a batch of label maps.

        Args:
            labels: (B, H, W) integer class indices; `num_classes` for "no class". On a CPU their range is checked. Maps
                whose size is not a multiple of the stride are padded to `settings.padded_size`, by repeating the last
                row and column, and the image is cropped.
            latent: (B, latent_size), or (B, latent_size, H / stride, W / stride) (padded sides) for a style that
                varies; None if the generator has none.
            noise: as from `geosynth.models.field.random_noise`; with a margin, as from `position_noise`. None for a map
                that is not used (`silent_maps`).
            margin: pixels, a multiple of the stride, by which labels and latent extend beyond the painted window on
                each side. Each level drops the part that it does not need, so that a wide margin costs little.
            styles: (B, num_classes, style_size, H / 8, W / 8) looks of the classes (`geosynth.models.looks`), for a
                generator conditioned on looks; else None.

        Returns:
            (B, num_bands, H - 2 margin, W - 2 margin) in [-1, 1].

        Raises:
            DataError: if labels are not class indices, or are larger than the linear start can paint.
            SettingsError: if latent, noise or styles are not of the form that the generator needs.
        """
        settings = self.settings
        check_inputs(settings, labels, latent, noise, styles)
        height, width = labels.shape[1:]
        pyramid = LabelPyramid(pad_labels(settings, labels), settings.num_classes, settings.padding)
        stride, known = settings.stride, margin
        codes = places = own = None
        if settings.style_lengths:
            codes, places = self.style_codes(styles), code_places(pyramid.labels, settings.num_classes)
            own = pixel_codes(codes, at_level(places, stride), stride)
        edge_shows = margin < settings.halo  # else padding does not affect the window, and the cheapest is enough
        features = self._start(pyramid.at(stride), latent, noise, edge_shows, own)
        for index, stage in enumerate(settings.stages):
            zoom = None
            if stage.stride < stride:
                needed = min(known, settings.margins[stage.stride])
                zoom = Zoom(stride // stage.stride, (known - needed) // stage.stride)
                stride, known = stage.stride, needed
                if codes is not None and places is not None:
                    own = pixel_codes(codes, at_level(places, stride, margin - known), stride)
            block_noise = noise[index + 1] if settings.stage_noise else None
            patterns = pyramid.at(stride, margin - known)
            features = self.blocks[stage.name](features, patterns, block_noise, edge_shows, own, zoom)
        features = F.leaky_relu(features, _SLOPE, inplace=not torch.is_grad_enabled())
        image = torch.tanh(_convolve(self.to_image, features, edge_shows))
        image = cropped(image, known)
        return image[..., : height - 2 * margin, : width - 2 * margin]

    def _start(
        self,
        patterns: LabelPatterns,
        latent: Tensor | None,
        noise: Sequence[Tensor | None],
        edge_shows: bool,
        looks: PixelRows | None,
    ) -> Tensor:
        batch, height, width = patterns.labels.shape
        dtype = product_type(self.start.weight)
        if self.settings.start == "linear":
            assert latent is not None
            values: Tensor = self.start(latent.to(dtype))
            return values.view(batch, -1, height, width)
        inputs = [patterns.one_hot(dtype)]
        if latent is not None:
            field = latent if latent.ndim == 4 else latent[:, :, None, None].expand(-1, -1, height, width)
            inputs.append(field.to(dtype))
        if self.settings.noise_channels:
            assert noise[0] is not None
            inputs.append(noise[0].to(dtype))
        if looks is not None:
            inputs.append(looks.table.view(batch, height, width, -1).permute(0, 3, 1, 2).to(dtype))
        return _convolve(self.start, torch.cat(inputs, dim=1), edge_shows)

    def silent_maps(self) -> frozenset[int]:
        """Positions in `noise` of the maps whose strengths are zero everywhere, so that they have no effect."""
        if not self.settings.stage_noise:
            return frozenset()
        blocks = enumerate(self.blocks.values(), start=1)
        return frozenset(index for index, block in blocks if not block.get_parameter("noise_strength").any())

    @torch.inference_mode(False)  # weights that are kept folded must count their changes
    def for_painting(self, dtype: torch.dtype) -> SpadeGenerator:
        """The same generator in evaluation mode, with products computed in `dtype`; this one is not changed.

        Weights that are multiplied with features are stored in that type; under autocast they would be converted again
        in each call, as it keeps only those that need a gradient. The other weights are shared, not copied.
        """
        shared = {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in self.parameters()}
        painting = copy.deepcopy(self, shared).eval()
        for name, module in painting.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and not name.endswith("gamma_beta"):  # those are folded first
                module.weight.data = module.weight.data.to(dtype)
                if module.bias is not None and not name.endswith("shared"):  # those are added in float32
                    module.bias.data = module.bias.data.to(dtype)
        for name, value in painting.named_parameters():
            if name.endswith((".noise_strength", ".classes")):
                value.data = value.data.to(dtype)
        return painting


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
                with_spectral_norm(layer)
            return layer

        self.norm_0, self.conv_0 = norm(inputs), conv(inputs, middle, 3)
        self.norm_1, self.conv_1 = norm(middle), conv(middle, outputs, 3)
        self.learned_shortcut = inputs != outputs
        if self.learned_shortcut:
            self.norm_s, self.conv_s = norm(inputs), conv(inputs, outputs, 1)
        if settings.stage_noise:
            # The last row is for pixels without a class.
            self.noise_strength = nn.Parameter(torch.full((settings.num_classes + 1, middle), _INITIAL_NOISE))
        if settings.style_lengths:
            self.style = StyleModulation(middle, settings.style_width)

    def forward(
        self,
        features: Tensor,
        patterns: LabelPatterns,
        noise: Tensor | None,
        edge_shows: bool = True,
        looks: PixelRows | None = None,
        zoom: Zoom | None = None,
    ) -> Tensor:
        """From (B, in, h, w) to (B, out, h, w). Values at the edge are right only if `edge_shows`.

        Noise is (B, 1, h, w). With a `zoom`, features are of the previous level.
        """
        zooms = self.norm_0.takes_table(patterns) or self.norm_0.takes_kernel(features, patterns)
        if zoom is not None and not (self.learned_shortcut and zooms):
            features, zoom = upsampled(features, zoom), None
        shortcut = features
        if self.learned_shortcut:
            shortcut = self.conv_s(self.norm_s(features, patterns, edge_shows=edge_shows, zoom=zoom))
        hidden = self.norm_0(features, patterns, _SLOPE, edge_shows, zoom=zoom)
        hidden = _convolve(self.conv_0, hidden, edge_shows)
        own_noise = None if noise is None else LayerNoise(noise, self.noise_strength)
        own_look = None if looks is None else self.style(looks)
        hidden = self.norm_1(hidden, patterns, _SLOPE, edge_shows, own_noise, own_look)
        result = _convolve(self.conv_1, hidden, edge_shows)
        return shortcut + result if torch.is_grad_enabled() else result.add_(shortcut)


def _convolve(layer: nn.Module, values: Tensor, edge_shows: bool) -> Tensor:
    """Apply a 3x3 layer, with its own padding or, if the edge does not show, with zeros, which needs no copy."""
    assert isinstance(layer, nn.Conv2d)
    if edge_shows and layer.padding_mode == "replicate":
        return F.conv2d(repeat_edges(values), layer.weight, layer.bias)
    return F.conv2d(values, layer.weight, layer.bias, padding=1)


def _initialise(generator: SpadeGenerator) -> None:
    """Xavier with gain 0.02 for plain layers, as intended in the paper; spectral-norm layers keep PyTorch's default.

    The convolutional start keeps the default, too, as its output is not normalised before the first shortcut. gamma and
    beta are one layer here, whose weights begin 0.71 to 1 times as large as those of two layers would.
    """
    modulations = [
        layer for module in generator.modules() if isinstance(module, SpadeNorm) for layer in module.modules()
    ]
    plain = [layer for layer in modulations if isinstance(layer, nn.Conv2d)] + [generator.to_image]
    for layer in plain:
        nn.init.xavier_normal_(layer.weight, gain=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
