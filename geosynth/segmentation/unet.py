"""The network of a segmenter: the U-Net of segmentation_models_pytorch, and initial weights of its encoder."""

from __future__ import annotations

import logging
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from geosynth.errors import CheckpointError, SettingsError, one_line
from geosynth.models.device import plain_memory_error
from geosynth.models.state import read_state

WRONG_SIZE = (AssertionError, RuntimeError, ValueError)
"""Errors of encoders for images of an unsuitable size; timm's encoders have no specific one."""


def build_unet(encoder: str, num_bands: int, num_classes: int) -> nn.Module:
    """A U-Net with random weights, from (B, num_bands, H, W) to logits (B, num_classes, H, W).

    Args:
        encoder: its name in segmentation_models_pytorch; with the prefix "tu-", its name in timm.
        num_bands: of the images.
        num_classes: of the labels.

    Raises:
        SettingsError: if there is no such encoder.
    """
    try:
        with plain_memory_error():
            network: nn.Module = smp.Unet(encoder, encoder_weights=None, in_channels=num_bands, classes=num_classes)
    except (KeyError, ValueError, RuntimeError) as error:  # smp's, and timm's
        what = f"segmentation_models_pytorch has no {encoder!r} for {num_bands} bands"
        raise SettingsError(what, setting="encoder") from error
    return network


def check_takes(unet: nn.Module, encoder: str, num_bands: int, size: int) -> None:
    """Refuse an encoder that takes only images of another size.

    Args:
        unet: with that encoder, on the CPU.
        encoder: its name.
        num_bands: of the images.
        size: side of the images, in pixels.

    Raises:
        SettingsError: if it does not take this size.
        MemoryError: if one image does not fit in memory.
    """
    try:
        with torch.no_grad(), plain_memory_error():
            unet.eval()(torch.zeros(1, num_bands, size, size))
    except WRONG_SIZE as error:
        what = f"{encoder!r} takes no images of {size} px ({one_line(error)})"
        raise SettingsError(what, setting="encoder") from error
    finally:
        unet.train()


def load_encoder_weights(unet: nn.Module, encoder: str, weights: str) -> str:
    """Replace the random weights of a U-Net's encoder. Does nothing for "none".

    If the first convolution was made for three bands, a fourth and further bands get the mean of its weights; with
    fewer than three bands, all do. It is scaled so that its output for a grey image is unchanged.

    Args:
        unet: of segmentation_models_pytorch.
        encoder: its name there.
        weights: "none", "imagenet" (downloaded through segmentation_models_pytorch), or a local .pth or .safetensors.

    Returns:
        a text for the report: "scratch", "imagenet", or the file's name.

    Raises:
        CheckpointError: if they are not available, or belong to another network.
    """
    if weights == "none":
        return "scratch"
    state = _downloaded(encoder) if weights == "imagenet" else read_state(weights)
    own: nn.Module = unet.encoder  # type: ignore[assignment]
    expected = own.state_dict()
    state = {name: value for name, value in state.items() if name in expected}  # without a classifier's head
    for name, value in state.items():
        if value.ndim == 4 and value.shape[1] == 3 != expected[name].shape[1]:
            state[name] = _spread(value, expected[name].shape[1])
    try:
        own.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{weights}: not the weights of a {encoder} encoder") from error
    return weights if weights == "imagenet" else Path(weights).name


def _spread(kernels: Tensor, bands: int) -> Tensor:
    """Kernels (out, 3, height, width) for other numbers of bands, (out, bands, height, width)."""
    mean = kernels.mean(1, keepdim=True)
    parts = [kernels, mean.expand(-1, bands - 3, -1, -1)] if bands > 3 else [mean.expand(-1, bands, -1, -1)]
    return torch.cat(parts, dim=1) * (3 / bands)


def _downloaded(encoder: str) -> dict[str, Tensor]:
    hub = logging.getLogger("huggingface_hub")  # which reports each attempt
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        state: dict[str, Tensor] = smp.encoders.get_encoder(encoder, in_channels=3, weights="imagenet").state_dict()
    except Exception as error:  # network libraries, the hub and timm each raise their own
        raise CheckpointError(
            f"ImageNet weights of {encoder} cannot be downloaded ({type(error).__name__}); give a local file, or train"
            " from scratch with weights=none"
        ) from error
    finally:
        hub.setLevel(level)
    return state
