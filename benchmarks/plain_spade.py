"""A plain implementation of SPADE (Park et al. 2019): dense modulation, one convolution after the other, a plain step.

It is the peer in `benchmarks/generator.py` and `benchmarks/training.py`, and the oracle of the tests. It shares no code
with geosynth; `copy_weights` copies the weights of a geosynth generator of `GeneratorSettings.reference`, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Padding = Literal["zeros", "reflect", "replicate", "circular"]

# Output channels of the blocks in multiples of the base width, and before which blocks features are doubled.
_BLOCKS = {"head_0": 16, "G_middle_0": 16, "G_middle_1": 16, "up_0": 8, "up_1": 4, "up_2": 2, "up_3": 1}
_DOUBLED = {
    "normal": ("G_middle_0", "up_0", "up_1", "up_2", "up_3"),
    "more": ("G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"),
    "most": ("G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3", "up_4"),
}


class PlainSpade(nn.Module):
    """SPADE layer: batch norm, then gamma and beta from the one-hot labels at the size of the features."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 128, padding_mode: Padding = "zeros") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Conv2d(num_classes, hidden, 3, padding=1, padding_mode=padding_mode)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1, padding_mode=padding_mode)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1, padding_mode=padding_mode)

    def forward(self, features: Tensor, one_hot: Tensor) -> Tensor:
        hidden = F.relu(self.shared(F.interpolate(one_hot, size=features.shape[2:], mode="nearest")))
        modulated: Tensor = self.norm(features) * (1 + self.gamma(hidden)) + self.beta(hidden)
        return modulated


class PlainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, num_classes: int, hidden: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.norm_0 = PlainSpade(inputs, num_classes, hidden)
        self.conv_0 = nn.Conv2d(inputs, middle, 3, padding=1)
        self.norm_1 = PlainSpade(middle, num_classes, hidden)
        self.conv_1 = nn.Conv2d(middle, outputs, 3, padding=1)
        self.learned = inputs != outputs
        if self.learned:
            self.norm_s = PlainSpade(inputs, num_classes, hidden)
            self.conv_s = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Tensor, one_hot: Tensor) -> Tensor:
        shortcut: Tensor = self.conv_s(self.norm_s(features, one_hot)) if self.learned else features
        hidden: Tensor = self.conv_0(F.leaky_relu(self.norm_0(features, one_hot), 0.2))
        hidden = self.conv_1(F.leaky_relu(self.norm_1(hidden, one_hot), 0.2))
        return shortcut + hidden


class PlainGenerator(nn.Module):
    """With the VAE: the start is Linear(z). Labels (B, H, W), z (B, latent_size) in; (B, num_bands, H, W) out."""

    def __init__(
        self,
        num_classes: int,
        num_bands: int,
        *,
        base_width: int = 64,
        hidden: int = 128,
        latent_size: int = 256,
        crop_size: int = 256,
        depth: str = "normal",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.doubled = _DOUBLED[depth]
        self.cells = crop_size // 2 ** len(self.doubled)
        channels = 16 * base_width
        self.fc = nn.Linear(latent_size, channels * self.cells**2)
        widths = {name: multiple * base_width for name, multiple in _BLOCKS.items()}
        if depth == "most":
            widths["up_4"] = base_width // 2
        self.blocks = nn.ModuleDict()
        for name, width in widths.items():
            self.blocks[name] = PlainBlock(channels, width, num_classes, hidden)
            channels = width
        self.conv_img = nn.Conv2d(channels, num_bands, 3, padding=1)

    def forward(self, labels: Tensor, z: Tensor) -> Tensor:
        one_hot = F.one_hot(labels, self.num_classes + 1)[..., :-1].permute(0, 3, 1, 2).float().contiguous()
        features = self.fc(z).view(len(z), -1, self.cells, self.cells)
        for name, block in self.blocks.items():
            if name in self.doubled:
                features = F.interpolate(features, scale_factor=2, mode="nearest")
            features = block(features, one_hot)
        return torch.tanh(self.conv_img(F.leaky_relu(features, 0.2)))


def copy_weights(plain: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill `plain` with the weights of the geosynth module of the same kind, given as its state_dict."""
    values: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".gamma_beta." in f".{name}":  # one convolution there: gamma's channels, then beta's
            for kind, part in zip(("gamma", "beta"), value.chunk(2), strict=True):
                values[name.replace("modulation.gamma_beta", kind)] = part
        elif name.startswith("start."):
            values[name.replace("start", "fc")] = value
        elif name.startswith("to_image."):
            values[name.replace("to_image", "conv_img")] = value
        else:
            values[name.replace("modulation.", "")] = value
    plain.load_state_dict({name: value.clone() for name, value in values.items()})


class PlainEncoder(nn.Module):
    """The VAE's: an image in, mean and log variance of z out; for 256 px (six convolutions) or 128 px (five)."""

    def __init__(self, num_bands: int, *, base_width: int = 64, latent_size: int = 256, num_layers: int = 6) -> None:
        super().__init__()
        widths = [num_bands, *(base_width * multiple for multiple in (1, 2, 4, 8, 8, 8)[:num_layers])]
        self.convs = nn.ModuleList(
            spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False))
            for inputs, outputs in pairwise(widths)
        )
        self.mean = nn.Linear(widths[-1] * 16, latent_size)
        self.log_variance = nn.Linear(widths[-1] * 16, latent_size)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = F.instance_norm(self.convs[0](image))
        for conv in self.convs[1:]:
            features = F.instance_norm(conv(F.leaky_relu(features, 0.2)))
        flat = F.leaky_relu(features, 0.2).flatten(1)
        return self.mean(flat), self.log_variance(flat)


class PlainDiscriminator(nn.Module):
    """Two scales of pix2pixHD's patch discriminator; fake and real go through as one batch."""

    def __init__(self, num_classes: int, num_bands: int, *, base_width: int = 64, num_scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        for _ in range(num_scales):
            widths = [base_width, 2 * base_width, 4 * base_width, 8 * base_width]
            layers: list[nn.Module] = [nn.Conv2d(num_classes + num_bands, base_width, 4, stride=2, padding=2)]
            for inputs, outputs, stride in zip(widths[:-1], widths[1:], (2, 2, 1), strict=True):
                layers.append(spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=stride, padding=2, bias=False)))
            layers.append(nn.Conv2d(widths[-1], 1, 4, padding=2))
            self.scales.append(nn.ModuleList(layers))

    def forward(self, values: Tensor) -> list[list[Tensor]]:
        outputs = []
        for layers in self.scales:
            first, *middle, last = layers.children()
            features = [F.leaky_relu(first(values), 0.2)]
            for layer in middle:
                features.append(F.leaky_relu(F.instance_norm(layer(features[-1])), 0.2))
            outputs.append([*features, last(features[-1])])
            values = F.avg_pool2d(values, 3, stride=2, padding=1, count_include_pad=False)
        return outputs


class PlainTrainer:
    """A training step as the reference takes it: one fake for the generator's update, another for the discriminator's.

    Hinge loss, feature matching (weight 10), KL (weight 0.05); Adam (0, 0.9) at 1e-4 and 4e-4. With `one_fake` the
    discriminator learns from the generator's fake instead. The networks must be on their device already.
    """

    def __init__(
        self,
        generator: PlainGenerator,
        encoder: PlainEncoder,
        discriminator: PlainDiscriminator,
        *,
        one_fake: bool = False,
        dtype: torch.dtype = torch.float32,
        capturable: bool = False,
    ) -> None:
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.one_fake, self.dtype = one_fake, dtype
        self.device_type = next(generator.parameters()).device.type
        painting = [*generator.parameters(), *encoder.parameters()]
        self.painting = torch.optim.Adam(painting, 1e-4, betas=(0.0, 0.9), capturable=capturable)
        self.judging = torch.optim.Adam(discriminator.parameters(), 4e-4, betas=(0.0, 0.9), capturable=capturable)

    def step(self, image: Tensor, labels: Tensor, normal: Tensor) -> dict[str, float]:
        """Update all three; `normal` (B, latent_size) is what the encoder's sampling draws."""
        names = ("gan", "features", "kl", "discriminator")
        return dict(zip(names, self.update(image, labels, normal).tolist(), strict=True))

    def update(self, image: Tensor, labels: Tensor, normal: Tensor) -> Tensor:
        """As `step`, the losses as one tensor."""
        one_hot = F.one_hot(labels, self.generator.num_classes + 1)[..., :-1].permute(0, 3, 1, 2).float()
        self.painting.zero_grad()
        fake, mean, log_variance = self._paint(image, labels, normal)
        fake_out, real_out = self._judge(one_hot, fake, image)
        losses = {
            "gan": -_sum(scale[-1].mean() for scale in fake_out) / len(fake_out),
            "features": _sum(
                10 / len(fake_out) * F.l1_loss(one, other.detach())
                for fakes, reals in zip(fake_out, real_out, strict=True)
                for one, other in zip(fakes[:-1], reals[:-1], strict=True)
            ),
            "kl": -0.05 * 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean(),
        }
        _sum(losses.values()).backward()  # type: ignore[no-untyped-call]
        self.painting.step()

        self.judging.zero_grad()
        with torch.no_grad():
            if not self.one_fake:
                fake = self._paint(image, labels, normal)[0]
        fake_out, real_out = self._judge(one_hot, fake.detach(), image)
        losses["discriminator"] = _sum(
            F.relu(1 + fakes[-1]).mean() + F.relu(1 - reals[-1]).mean()
            for fakes, reals in zip(fake_out, real_out, strict=True)
        ) / len(fake_out)
        losses["discriminator"].backward()  # type: ignore[no-untyped-call]
        self.judging.step()
        return torch.stack([value.detach() for value in losses.values()])

    def _paint(self, image: Tensor, labels: Tensor, normal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with self._autocast():
            mean, log_variance = (values.float() for values in self.encoder(image))
            z = mean + normal * torch.exp(0.5 * log_variance)
            return self.generator(labels, z).float(), mean, log_variance

    def _judge(self, one_hot: Tensor, fake: Tensor, real: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        both = torch.cat([torch.cat([one_hot, fake], 1), torch.cat([one_hot, real], 1)])
        with self._autocast():
            outputs = self.discriminator(both)
        halves = [[value.float().chunk(2) for value in scale] for scale in outputs]
        return [[half[0] for half in scale] for scale in halves], [[half[1] for half in scale] for scale in halves]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)


def _sum(values: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, values)


def add_spectral_norm(generator: PlainGenerator) -> None:
    """Put spectral norm on the blocks' convolutions, as in training."""
    for block in generator.blocks.values():
        for name in ("conv_0", "conv_1", "conv_s"):
            if hasattr(block, name):
                spectral_norm(getattr(block, name))
