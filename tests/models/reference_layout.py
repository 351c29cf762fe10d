"""The networks of the SPADE paper as its authors' checkpoints name them; written plainly, shares no code with geosynth.

Dense modulation, old-style spectral norm, one module after the other.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DOUBLED = {"normal": 5, "more": 6, "most": 7}


def spectral(layer: nn.Conv2d) -> nn.Conv2d:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and what the checkpoints were made with
        return nn.utils.spectral_norm(layer)


class Spade(nn.Module):
    def __init__(self, channels: int, num_labels: int, hidden: int) -> None:
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(num_labels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        activation = self.mlp_shared(F.interpolate(label, size=x.shape[2:], mode="nearest"))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(activation)) + self.mlp_beta(activation)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, num_labels: int, hidden: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.conv_0 = spectral(nn.Conv2d(inputs, middle, 3, padding=1))
        self.conv_1 = spectral(nn.Conv2d(middle, outputs, 3, padding=1))
        self.norm_0, self.norm_1 = Spade(inputs, num_labels, hidden), Spade(middle, num_labels, hidden)
        self.learned = inputs != outputs
        if self.learned:
            self.conv_s = spectral(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.norm_s = Spade(inputs, num_labels, hidden)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x, label)) if self.learned else x
        dx = self.conv_0(F.leaky_relu(self.norm_0(x, label), 0.2))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(dx, label), 0.2))


class Generator(nn.Module):
    """With `latent` the start is Linear(z), else a convolution over the labels."""

    def __init__(
        self, num_labels: int, bands: int, ngf: int, hidden: int, depth: str, crop: int, latent: int | None
    ) -> None:
        super().__init__()
        self.depth, self.latent = depth, latent
        self.cells = crop // 2 ** DOUBLED[depth]
        if latent:
            self.fc: nn.Module = nn.Linear(latent, 16 * ngf * self.cells**2)
        else:
            self.fc = nn.Conv2d(num_labels, 16 * ngf, 3, padding=1)
        widths = {"head_0": 16, "G_middle_0": 16, "G_middle_1": 16, "up_0": 8, "up_1": 4, "up_2": 2, "up_3": 1}
        if depth == "most":
            widths["up_4"] = 0.5
        inputs = 16 * ngf
        for name, width in widths.items():
            outputs = int(width * ngf)
            setattr(self, name, Block(inputs, outputs, num_labels, hidden))
            inputs = outputs
        self.conv_img = nn.Conv2d(inputs, bands, 3, padding=1)

    def forward(self, label: Tensor, z: Tensor | None = None) -> Tensor:
        """label: (B, num_labels, H, W) one-hot."""
        if self.latent:
            x = self.fc(z).view(len(label), -1, self.cells, self.cells)
        else:
            x = self.fc(F.interpolate(label, size=(self.cells, self.cells), mode="nearest"))
        x = self.head_0(x, label)
        x = self.G_middle_0(F.interpolate(x, scale_factor=2), label)
        if self.depth != "normal":
            x = F.interpolate(x, scale_factor=2)
        x = self.G_middle_1(x, label)
        for name in ("up_0", "up_1", "up_2", "up_3", "up_4")[: 5 if self.depth == "most" else 4]:
            x = getattr(self, name)(F.interpolate(x, scale_factor=2), label)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


class Encoder(nn.Module):
    def __init__(self, bands: int, width: int, latent: int, layers: int) -> None:
        super().__init__()
        widths = [bands, width, 2 * width, 4 * width, 8 * width, 8 * width, 8 * width]
        self.layers = layers
        for index in range(layers):
            conv = spectral(nn.Conv2d(widths[index], widths[index + 1], 3, stride=2, padding=1, bias=False))
            setattr(self, f"layer{index + 1}", nn.Sequential(conv, nn.InstanceNorm2d(widths[index + 1])))
        self.fc_mu = nn.Linear(8 * width * 16, latent)
        self.fc_var = nn.Linear(8 * width * 16, latent)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer1(image)
        for index in range(2, self.layers + 1):
            x = getattr(self, f"layer{index}")(F.leaky_relu(x, 0.2))
        x = F.leaky_relu(x, 0.2).flatten(1)
        return self.fc_mu(x), self.fc_var(x)


@torch.no_grad()
def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """With weights and statistics that let everything matter, and singular vectors not quite converged."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.ndim > 1:
            spread = 0.3 if name == "conv_img.weight" else 1.0  # tanh shall not saturate
            value.copy_(spread * torch.randn(value.shape, generator=rng) / value[0].numel() ** 0.5)
        else:
            value.copy_(0.2 * torch.randn(value.shape, generator=rng))
    for layer in network.modules():
        if hasattr(layer, "weight_orig"):
            matrix = layer.weight_orig.flatten(1)
            for _ in range(3):
                layer.weight_v.copy_(F.normalize(layer.weight_u @ matrix, dim=0))
                layer.weight_u.copy_(F.normalize(matrix @ layer.weight_v, dim=0))
    return network.eval().requires_grad_(False)
