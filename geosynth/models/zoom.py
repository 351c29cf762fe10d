"""From a level of a network to the next finer one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.models.patterns import LabelPatterns


class Zoom(NamedTuple):
    """The step from a level of the network to the next finer one."""

    factor: int
    """Cells of the finer level per cell of the coarser one, along each axis."""
    dropped: int
    """Number of finer cells that are dropped on each side."""

    def source(self, patterns: LabelPatterns, features: Tensor) -> Tensor:
        """For each pixel of the finer level, whose labels are given, its pixel in the features, (B * h * w,)."""
        (batch, height, width), (down, across) = patterns.labels.shape, features.shape[2:]
        rows, columns = (torch.arange(self.dropped, self.dropped + side) // self.factor for side in (height, width))
        first = torch.arange(batch).view(-1, 1, 1) * (down * across)
        return (first + rows.view(-1, 1) * across + columns).flatten()


def cropped(values: Tensor, cells: int) -> Tensor:
    """(..., h, w) without `cells` rows and columns on each side."""
    return values[..., cells : values.shape[-2] - cells, cells : values.shape[-1] - cells]


def upsampled(features: Tensor, zoom: Zoom) -> Tensor:
    """Features at the finer level, (B, C, h, w), with repeated values; channels_last, as several layers read them."""
    factor, (whole, rest) = zoom.factor, divmod(zoom.dropped, zoom.factor)
    if torch.is_grad_enabled() or rest:
        with torch.autocast(features.device.type, enabled=False):  # on CUDA the result would be float32
            result = F.interpolate(features, scale_factor=factor, mode="nearest")
        return cropped(result, zoom.dropped).contiguous(memory_format=torch.channels_last)
    features = cropped(features, whole)  # so that dropped values are not written first
    batch, channels, height, width = features.shape
    pixels = features.new_empty((batch, height, factor, width, factor, channels))
    pixels.copy_(features.permute(0, 2, 3, 1)[:, :, None, :, None])
    return pixels.view(batch, height * factor, width * factor, channels).permute(0, 3, 1, 2)
