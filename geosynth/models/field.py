"""Noise and latent of windows as functions of (seed, absolute position), see `hashing`."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from geosynth.config import GeneratorSettings
from geosynth.models.hashing import normal_numbers
from geosynth.models.windows import Windows, middles_of_cells

_LATENT_STREAM = 1 << 20  # different from the streams of noise, which are numbers of stages


def random_noise(
    settings: GeneratorSettings, batch: int, height: int, width: int, rng: torch.Generator
) -> list[Tensor]:
    """Noise for training, with the statistics of `position_noise`: independent standard normal numbers.

    Returns:
        the start's noise, then one map per stage, each (B, channels, height / stride, width / stride), for the padded
        window if the generator pads.
    """
    height, width = settings.padded_size(height, width)
    return [
        torch.randn((batch, channels, height // stride, width // stride), generator=rng, device=rng.device)
        for channels, stride in _noise_layout(settings)
    ]


def position_noise(
    settings: GeneratorSettings,
    seed: int,
    windows: Windows,
    margin: int = 0,
    silent: Collection[int] = (),
    dtype: torch.dtype = torch.float32,
) -> list[Tensor | None]:
    """Noise of windows, (B, channels, height / stride, width / stride) per entry as in `random_noise`.

    Args:
        settings: of the generator.
        seed: of the image.
        windows: whose places and sides are multiples of the generator's stride.
        margin: inside the windows; each map has the part of it that its level uses (`SpadeGenerator.forward`).
        silent: maps that are not needed; they are None in the result.
        dtype: of the maps.
    """
    maps: list[Tensor | None] = []
    levels: dict[int, Windows] = {}  # which several maps share
    for stream, (channels, stride) in enumerate(_noise_layout(settings)):
        if stream in silent:
            maps.append(None)
            continue
        if stride not in levels:
            dropped = margin - min(margin, settings.margins[stride])
            levels[stride] = windows.buffer(-dropped).in_cells(stride)
        maps.append(normal_numbers(seed, stream, channels, levels[stride], dtype))
    return maps


def latent_field(settings: GeneratorSettings, seed: int, windows: Windows, style_length: int) -> Tensor:
    """The latent z of windows, (B, latent_size, height / stride, width / stride), each value standard normal.

    There are independent normal vectors on a lattice of `style_length` pixels; in between they are blended with smooth
    weights whose squares sum to one, so that the variance is one everywhere. A `style_length` of 0 gives a single z.
    Other arguments as for `position_noise`.
    """
    stride, size = settings.stride, settings.latent_size
    cells_down, cells_across = windows.height // stride, windows.width // stride
    if style_length == 0:
        z = normal_numbers(seed, _LATENT_STREAM, size, Windows.at(0, 0, 1, 1, windows.row.device))
        return z.expand(len(windows.row), -1, cells_down, cells_across)
    first_row, row_weights = _lattice(windows.row, cells_down, stride, style_length)
    first_column, column_weights = _lattice(windows.column, cells_across, stride, style_length)
    nodes = Windows(first_row, first_column, row_weights.shape[-1], column_weights.shape[-1])
    # In float64, because the last bit of float32 sums would depend on the number of threads.
    numbers = normal_numbers(seed, _LATENT_STREAM, size, nodes)
    parts = (values.double() for values in (numbers, row_weights, column_weights))
    return torch.einsum("bzrc,bhr,bwc->bzhw", *parts).float()


def _noise_layout(settings: GeneratorSettings) -> list[tuple[int, int]]:
    """(channels, stride) of the start's noise and of each stage's."""
    stages = [(1, stage.stride) for stage in settings.stages] if settings.stage_noise else []
    return [(settings.noise_channels, settings.stride), *stages]


def _lattice(start: Tensor, count: int, stride: int, length: int) -> tuple[Tensor, Tensor]:
    """Nodes along one axis and the weight of each at each of `count` cells.

    Returns:
        the first node (B,), and weights (B, count, nodes), with the largest number of nodes that a window may overlap.
    """
    position = middles_of_cells(start, count, stride) / length
    below = position.floor()
    angle = (position - below) * (math.pi / 2)
    below = below.long()
    first = below[:, :1]
    num_nodes = (count - 1) * stride // length + 3
    weights = torch.zeros(*below.shape, num_nodes, dtype=torch.float64, device=start.device)
    index = (below - first).unsqueeze(-1)
    weights.scatter_(-1, index, angle.cos().unsqueeze(-1))
    weights.scatter_(-1, index + 1, angle.sin().unsqueeze(-1))
    return first.squeeze(1), weights.float()
