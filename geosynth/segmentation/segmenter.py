"""Segmenter: a trained segmenter, ready to predict; saving and loading it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config import SegmentSettings
from geosynth.config.verbs import ENCODER_STRIDE
from geosynth.download import model_file
from geosynth.errors import CheckpointError, DataError, SettingsError, counted, one_line
from geosynth.files import write_whole
from geosynth.header import Card
from geosynth.inputs import sha256_of
from geosynth.legend import ClassIndices
from geosynth.models.device import choose_device, plain_device_error, plain_memory_error, uses_bfloat16, without_weights
from geosynth.models.process_settings import full_float32
from geosynth.models.state import fill
from geosynth.raster.read import Array
from geosynth.segmentation.scores import Confusion, Scores
from geosynth.segmentation.unet import WRONG_SIZE, build_unet

_BATCH = 8
_AT_ONCE = 1 << 20  # pixels that the network sees at once, which bounds its memory


class SegmenterCard(Card):
    """The card of a segmenter's file: its metadata, without weights."""

    entry = "geosynth_segmenter"
    kind = "segmenter"
    maker = "geosynth segment"

    settings: SegmentSettings
    """The settings of the network and of its training."""
    scores: Scores | None = None
    """Results of its test; None if it was not tested."""


class Segmenter:
    """A trained segmenter.

    Args:
        network: the U-Net, in evaluation mode.
        card: metadata of its file.
        path: of the file.
    """

    def __init__(self, network: nn.Module, card: SegmenterCard, path: Path) -> None:
        self.network, self.card, self.path = network, card, path

    def __repr__(self) -> str:
        names, classes = ", ".join(self.card.bands.names), len(self.card.legend.names)
        return f"Segmenter({str(self.path)!r}, {self.card.settings.encoder}, {classes} classes, bands: {names})"

    @property
    def device(self) -> torch.device:
        """The device that it predicts on."""
        return next(self.network.parameters()).device

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256_of(self.path)

    def predict(self, image: Array) -> ClassIndices:
        """The most likely class of each pixel.

        Args:
            image: (B, bands, height, width) in raster values; any size.

        Returns:
            (B, height, width) class indices.

        Raises:
            DataError: if the number of bands is not the segmenter's, or its encoder takes only images of another size.
        """
        step = max(1, _AT_ONCE // (image.shape[-1] * image.shape[-2]))
        starts = range(0, len(image), step)
        parts = [self._logits(image[start : start + step]).argmax(1).to(torch.uint8) for start in starts]
        best: ClassIndices = torch.cat(parts).cpu().numpy()
        return best

    def agreement(self, image: Array, labels: ClassIndices) -> npt.NDArray[np.float32]:
        """The probability, 0 to 1, that it gives the labelled class of each pixel; 1 where there is no class.

        Args:
            image: as for `predict`.
            labels: (B, height, width) class indices; `num_classes` where there is no class.

        Returns:
            (B, height, width) float32.

        Raises:
            DataError: if the number of bands is not the segmenter's, or its encoder takes only images of another size.
        """
        shares = F.pad(self._logits(image).float().softmax(1), (0, 0, 0, 0, 0, 1), value=1.0)
        classes = torch.from_numpy(labels).long().unsqueeze(1).to(shares.device)
        found: npt.NDArray[np.float32] = shares.gather(1, classes).squeeze(1).cpu().numpy()
        return found

    def _logits(self, image: Array) -> Tensor:
        names = self.card.bands.names
        if image.ndim != 4 or image.shape[1] != len(names):
            raise DataError(
                f"images of shape {image.shape} do not fit a segmenter of {counted(len(names), 'band')}"
                f" ({', '.join(names)})"
            )
        height, width = image.shape[-2:]
        pixels = torch.from_numpy(image.astype(np.float32)).to(self.device)
        scaled = self.card.bands.to_network(pixels).nan_to_num(0)
        padded = F.pad(scaled, (0, -width % ENCODER_STRIDE, 0, -height % ENCODER_STRIDE), mode="replicate")
        bfloat16 = uses_bfloat16(self.card.settings.precision, str(self.device))
        exact = nullcontext() if bfloat16 else full_float32()
        with exact, torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            try:
                with plain_memory_error():
                    logits: Tensor = self.network(padded.contiguous(memory_format=torch.channels_last))
            except WRONG_SIZE as error:
                raise DataError(
                    f"{self.path}: its encoder, {self.card.settings.encoder}, takes no images of {padded.shape[-2]} x"
                    f" {padded.shape[-1]} px ({one_line(error)})"
                ) from error
        return logits[..., :height, :width]

    def scores(self, pairs: Iterable[tuple[Array, Array]]) -> Confusion:
        """Predict images and compare the classes with their labels.

        Args:
            pairs: images (bands, height, width) in raster values and labels (height, width), class indices of the
                segmenter's legend, `num_classes` where there is no class; all of the same size.

        Raises:
            DataError: if the number of bands is not the segmenter's, or its encoder takes only images of another size.
        """
        found, rest = Confusion(self.card.legend.num_classes), iter(pairs)
        while batch := list(islice(rest, _BATCH)):
            images, labels = map(np.stack, zip(*batch, strict=True))
            found.add(labels, self.predict(images))
        return found


def save_segmenter(path: Path, network: nn.Module, card: SegmenterCard) -> None:
    """Write a segmenter's file, with 16-bit weights, under a temporary name until it is complete.

    Raises:
        OutputError: if it cannot be written.
    """
    write_whole(path, card.to_bytes(_to_save(network)))


def as_saved(network: nn.Module, card: SegmenterCard, path: Path, device: str) -> Segmenter:
    """What `load_segmenter` would return for a file that is not written yet: with rounded weights."""
    return _segmenter(_to_save(network), card, path, device)


def _to_save(network: nn.Module) -> dict[str, Tensor]:
    running = {name for name, _ in network.named_buffers()}
    return {
        name: (value if name in running else value.half()).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }


def load_segmenter(model: str | Path, device: str = "cpu") -> Segmenter:
    """Load a segmenter made by `segment`, in float32 and evaluation mode.

    Args:
        model: the file, `model.safetensors` in the folder of `segment`; that folder; or an address (https://, hf://).
        device: "cpu", "cuda", "cuda:1", ..., or "auto": the GPU if there is one, else the CPU.

    Raises:
        CheckpointError: if the file is missing, not a segmenter, or damaged, or if the device cannot be used.
        SettingsError: if `model` is not a name.
    """
    path = model_file(model)
    card = SegmenterCard.read(path)
    SegmenterCard.verify(path)
    return _segmenter(load_file(path), card, path, device)


def _segmenter(tensors: dict[str, Tensor], card: SegmenterCard, path: Path, device: str) -> Segmenter:
    """A segmenter from the content of a file; errors as from `load_segmenter`."""
    try:
        with without_weights():
            network = build_unet(card.settings.encoder, len(card.bands.names), card.legend.num_classes)
    except SettingsError as error:
        raise CheckpointError(f"{path}: {error}") from error
    fill(network, tensors, f"{path}: its weights do not fit its settings")
    with plain_device_error(device), plain_memory_error():
        network = network.to(choose_device(device)).to(memory_format=torch.channels_last)
    return Segmenter(network.eval().requires_grad_(False), card, path)
