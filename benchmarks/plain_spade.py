"""The SPADE generator of Park et al. 2019 written plainly: dense modulation, one convolution after the other.

The peer of `benchmarks/generator.py` and the oracle of the tests. It shares no code with geosynth; `copy_weights` takes
the weights of a geosynth generator of `GeneratorSettings.reference`, by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Output channels of the blocks in multiples of the base width, and before which blocks features are doubled.
_BLOCKS = {"head_0": 16, "G_middle_0": 16, "G_middle_1": 16, "up_0": 8, "up_1": 4, "up_2": 2, "up_3": 1}
_DOUBLED = {
    "normal": ("G_middle_0", "up_0", "up_1", "up_2", "up_3"),
    "more": ("G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"),
    "most": ("G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3", "up_4"),
}


class PlainSpade(nn.Module):
    """SPADE layer: batch norm, then gamma and beta from the one-hot labels at the size of the features."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 128, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Conv2d(num_classes, hidden, 3, padding=1, padding_mode=padding_mode)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1, padding_mode=padding_mode)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1, padding_mode=padding_mode)

    def forward(self, features: Tensor, one_hot: Tensor) -> Tensor:
        hidden = F.relu(self.shared(F.interpolate(one_hot, size=features.shape[2:], mode="nearest")))
        return self.norm(features) * (1 + self.gamma(hidden)) + self.beta(hidden)


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
        shortcut = self.conv_s(self.norm_s(features, one_hot)) if self.learned else features
        hidden = self.conv_0(F.leaky_relu(self.norm_0(features, one_hot), 0.2))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(hidden, one_hot), 0.2))


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
