"""What goes into a generator: checked, and brought to a size that it can paint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geosynth.config import GeneratorSettings
from geosynth.errors import DataError, SettingsError


def check_inputs(settings: GeneratorSettings, labels: Tensor, latent: Tensor | None, noise: Sequence[Tensor]) -> None:
    """Refuse what the generator of these settings cannot paint; arguments as `SpadeGenerator.forward` takes them.

    Raises:
        DataError: if the labels are no class indices, or larger than the linear start paints.
        SettingsError: if the latent or the noise is not what the generator takes.
    """
    _check_labels(settings, labels)
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


def _check_labels(settings: GeneratorSettings, labels: Tensor) -> None:
    if labels.ndim != 3 or not labels.numel() or labels.is_floating_point():
        raise DataError(f"labels {tuple(labels.shape)} of {labels.dtype}: (B, H, W) integers are needed")
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high > settings.num_classes:
        raise DataError(
            f"labels hold {low}..{high}: class indices are 0..{settings.num_classes - 1},"
            f" and {settings.num_classes} where there is no class"
        )


def pad_labels(settings: GeneratorSettings, labels: Tensor) -> Tensor:
    """(B, H, W) to the size that is painted, `settings.padded_size`, by repeating the last row and column."""
    for dim, size in enumerate(settings.padded_size(*labels.shape[1:]), start=1):
        missing = size - labels.shape[dim]
        if missing:
            labels = torch.cat([labels, labels.narrow(dim, -1, 1).repeat_interleave(missing, dim)], dim)
    return labels
