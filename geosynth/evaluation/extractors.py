"""Feature extractors: networks trained on ImageNet or without labels, with their preprocessing; and wavelet packets."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from geosynth.errors import CheckpointError, DataError, SettingsError, one_line
from geosynth.estimate import Floats
from geosynth.inputs import sha256_of

if TYPE_CHECKING:  # torch is imported only if a network is needed, as an evaluation may have none
    import torch
    from torch import Tensor, nn

    from geosynth.models.perceptual import Lite

ExtractorName = Literal["inception", "efficientnet-lite0", "efficientnet-lite2", "dinov2", "wavelets"]

_EMBEDDED_AT_ONCE = 16
_MIN_SIDE = 32  # px; networks halve an image five times
_LITE_SIDES = {"efficientnet-lite0": 224, "efficientnet-lite2": 260}  # px: the sizes of their training images
_DINO_SIDE = 224  # px: 16 patches of 14
_DINO_WIDTHS = {384: "small", 768: "base", 1024: "large", 1536: "giant"}
_PACKETS = 3  # levels of the wavelet packets: 64 bands of frequencies
_PREPROCESSING = 1  # to be raised if the preprocessing changes, so that cached features are not mixed


@dataclass(frozen=True)
class Extractor:
    """A network with its preprocessing."""

    name: str
    """Name of the feature space in reports: "inception-v3-compat", "efficientnet-lite0", ...

    Only the distance in the first is the FID of the literature.
    """
    num_features: int
    digest: str
    """SHA-256 of the weights and the version of the preprocessing: equal digests mean equal features."""
    _network: Callable[[Tensor], Tensor]
    _device: torch.device
    num_bands: int = 3

    def embed(self, rgb: npt.NDArray[np.uint8]) -> Floats:
        """Features (n, d) of images (n, num_bands, height, width), at least 32 px high and wide, 16 at a time.

        Raises:
            DataError: if the images have another shape or dtype.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[1] != self.num_bands or min(rgb.shape[2:]) < _MIN_SIDE:
            raise DataError(
                f"{self.name} features need uint8 images (n, {self.num_bands}, height, width) of"
                f" {_MIN_SIDE} px or more, got {rgb.dtype} {rgb.shape}"
            )
        import torch

        from geosynth.models.process_settings import full_float32

        features = np.empty((len(rgb), self.num_features))
        with full_float32(), torch.inference_mode():  # features of a GPU and of a CPU are cached under the same digest
            for start in range(0, len(rgb), _EMBEDDED_AT_ONCE):
                batch = torch.from_numpy(np.ascontiguousarray(rgb[start : start + _EMBEDDED_AT_ONCE])).to(self._device)
                features[start : start + _EMBEDDED_AT_ONCE] = self._network(batch).double().cpu().numpy()
        return features


def load_extractor(
    name: ExtractorName,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    num_bands: int = 3,
    download: bool = False,
) -> Extractor:
    """A feature extractor, ready to use.

    "inception" is the InceptionV3 of Heusel et al. 2017 as ported by torch-fidelity (2048 features, "bilinear" resizing
    of TensorFlow 1 to 299 px), which gives the features of published FIDs. "efficientnet-lite0" (Tan and Le 2019; 1280
    features, the mean of its last map; bicubic resizing with antialias to 224 px) is installed with geosynth and needs
    no download. "efficientnet-lite2" is a larger version (1280 features, 260 px), from the package of that name.
    "dinov2" is a vision transformer trained without labels (Oquab et al. 2023; its class token, 224 px), whose
    distances agree best with human judgement (Stein et al. 2023). "wavelets" needs no network: its features are the
    logarithms of the power of Haar wavelet packets of each band, after the Frechet wavelet distance (Veeramacheneni et
    al. 2023).

    Args:
        name: of the extractor.
        weights: a file of weights: for "dinov2", which has no default, Meta's `dinov2_vits14_pretrain.pth` (or b, l, g)
            or timm's `model.safetensors` of such a network; for "inception" torch-fidelity's
            `weights-inception-2015-12-05-6726825d.pth`. None for the file in PyTorch's cache, where torch-fidelity also
            keeps it, or for the installed weights.
        device: of the network.
        num_bands: of the images, for "wavelets"; networks see three.
        download: fetch the weights of "inception" (91 MB) if they are not in the cache.

    Raises:
        CheckpointError: if the weights are not available or belong to another network, or the device cannot be used.
        SettingsError: if there is no such extractor.
    """
    import torch

    from geosynth.models.device import choose_device, plain_device_error

    with plain_device_error(str(device)):
        place = torch.empty(0, device=choose_device(str(device))).device
    if name in ("efficientnet-lite0", "efficientnet-lite2"):
        return _lite(name, weights, place)
    if name == "wavelets":
        size = num_bands * 4**_PACKETS
        return Extractor(name, size, f"{_PREPROCESSING} packets {_PACKETS}", packet_powers, place, num_bands)
    if name == "dinov2":
        if weights is None:
            raise CheckpointError("dinov2 needs a file of its weights: dinov2=dinov2_vits14_pretrain.pth")
        return _dino(Path(weights), place)
    if name == "inception":
        return _inception(_inception_weights(download) if weights is None else Path(weights), place)
    raise SettingsError(f"no feature extractor {name!r}; there are {', '.join(get_args(ExtractorName))}")


def _lite(name: Lite, weights: str | Path | None, device: torch.device) -> Extractor:
    from torch.nn import functional as F

    from geosynth.models.perceptual import EfficientNetLiteFeatures, lite_weights

    path = Path(weights or lite_weights(name))
    network, side = _frozen(EfficientNetLiteFeatures(path, name), device), _LITE_SIDES[name]

    def features(rgb: Tensor) -> Tensor:
        resized = F.interpolate(rgb.float(), (side, side), mode="bicubic", antialias=True)
        last: Tensor = network(resized.clamp(0, 255) / 127.5 - 1)[-1]
        return last.mean((2, 3))

    return Extractor(name, 1280, _digest(path), features, device)


def _dino(path: Path, device: torch.device) -> Extractor:
    import timm
    import torch
    from torch.nn import functional as F

    from geosynth.models.device import without_weights
    from geosynth.models.perceptual import IMAGENET_DEVIATION, IMAGENET_MEAN
    from geosynth.models.state import fill, read_state

    state = read_state(path)
    state.pop("mask_token", None)  # used only in its training
    width = state["cls_token"].shape[-1] if "cls_token" in state else 0
    kind = _DINO_WIDTHS.get(width)
    registers = "_reg4" if "reg_token" in state else ""
    if kind is None or "pos_embed" not in state or "register_tokens" in state:
        raise CheckpointError(f"{path}: not the weights of a DINOv2 vision transformer")
    with without_weights():
        network = timm.create_model(f"vit_{kind}_patch14{registers}_dinov2", num_classes=0, dynamic_img_size=True)
    fill(network, state, f"{path}: not the weights of a DINOv2 vision transformer")
    network = _frozen(network, device)
    mean, deviation = (
        torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )

    def features(rgb: Tensor) -> Tensor:
        resized = F.interpolate(rgb.float(), (_DINO_SIDE, _DINO_SIDE), mode="bicubic", antialias=True)
        token: Tensor = network.forward_features((resized.clamp(0, 255) - mean) / deviation)[:, 0]
        return token

    return Extractor("dinov2", width, _digest(path), features, device)


def packet_powers(images: Tensor) -> Tensor:
    """From images (n, bands, H, W) in DN to (n, bands * 64): log2(1 + mean power) / 16 of each Haar packet."""
    import torch
    from torch.nn import functional as F

    values = images.double()
    for _ in range(_PACKETS):
        # Sums and differences of neighbours, both ways, as new channels.
        corners = F.pixel_unshuffle(values[..., : values.shape[2] // 2 * 2, : values.shape[3] // 2 * 2], 2)
        one, right, below, across = (corners[:, place::4] for place in range(4))
        signs = ((1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, 1))
        packets = [(one + a * right + b * below + c * across) / 2 for a, b, c in signs]
        values = torch.stack(packets, 2).flatten(1, 2)
    return (1 + values.square().mean((2, 3))).log2() / 16


def _inception(path: Path, device: torch.device) -> Extractor:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from geosynth.models.state import last_line, read_state

    # torch-fidelity would unpickle anything in the file, so it gets only the tensors, serialised here.
    tensors = io.BytesIO()
    torch.save(read_state(path), tensors)
    tensors.seek(0)
    name = "inception-v3-compat"
    try:
        network = FeatureExtractorInceptionV3(name, ["2048"], feature_extractor_weights_path=tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not torch-fidelity's weights of InceptionV3: {last_line(error)}") from error
    network = _frozen(network, device)
    return Extractor(name, 2048, _digest(path), lambda rgb: network(rgb)[0], device)


def _inception_weights(download: bool) -> Path:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if cached.is_file():
        return cached
    if not download:
        raise CheckpointError(
            f"FID needs the weights of InceptionV3, which are not in {cached.parent}: give the path of"
            f" {cached.name} ({URL_INCEPTION_V3}), allow the download, or take efficientnet-lite0, which needs none"
        )
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            URL_INCEPTION_V3, str(cached), hash_prefix=cached.stem.rsplit("-", 1)[1], progress=False
        )
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights of InceptionV3 could not be fetched from {URL_INCEPTION_V3}"
            f" ({one_line(error)}); give their path, or take efficientnet-lite0, which needs no download"
        ) from error
    return cached


def _frozen(network: nn.Module, device: torch.device) -> Any:
    return network.eval().requires_grad_(False).to(device)


def _digest(weights: Path) -> str:
    return hashlib.sha256(f"{_PREPROCESSING} {sha256_of(weights)}".encode()).hexdigest()
