"""Noise and style as functions of (seed, absolute pixel position): a pixel does not depend on how a raster is cut.

Numbers come from a counter-based hash (the 64-bit finaliser of MurmurHash3 / SplitMix64), not from a random stream: any
window can be computed alone, in any order, on any worker, and neighbouring rasters on one pixel grid agree.

Positions are absolute: (row, column) of a pixel counted from the origin of its coordinate reference system.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geosynth.config import GeneratorSettings

_MASK32 = (1 << 32) - 1
_STYLE_STREAM = 1 << 20  # apart from the streams of noise, which count stages


def random_noise(
    settings: GeneratorSettings, batch: int, height: int, width: int, rng: torch.Generator
) -> list[Tensor]:
    """Noise for training, with the statistics of `position_noise`: independent standard normal numbers.

    Returns:
        the start's noise, then one map a stage: (B, channels, height / stride, width / stride) each, for the padded
        window where the generator pads.
    """
    height, width = settings.padded_size(height, width)
    return [
        torch.randn((batch, channels, height // stride, width // stride), generator=rng, device=rng.device)
        for channels, stride in _noise_layout(settings)
    ]


def position_noise(
    settings: GeneratorSettings,
    seed: int,
    row: int,
    column: int,
    height: int,
    width: int,
    device: str = "cpu",
    margin: int = 0,
) -> list[Tensor]:
    """Noise of one window, (1, channels, height / stride, width / stride) per entry as in `random_noise`.

    (row, column) is the window's absolute origin, a multiple of the generator's stride. Of a margin inside the window,
    each map holds what its level knows of it (`SpadeGenerator.forward`).
    """
    maps = []
    for stream, (channels, stride) in enumerate(_noise_layout(settings)):
        dropped = margin - min(margin, settings.margins[stride])
        rows = _axis((row + dropped) // stride, (height - 2 * dropped) // stride, device)
        columns = _axis((column + dropped) // stride, (width - 2 * dropped) // stride, device)
        maps.append(_normal(seed, stream, channels, rows, columns))
    return maps


def style_field(
    settings: GeneratorSettings,
    seed: int,
    row: int,
    column: int,
    height: int,
    width: int,
    style_length: int,
    device: str = "cpu",
) -> Tensor:
    """The latent z of one window, (1, latent_size, height / stride, width / stride), each value standard normal.

    Independent normal vectors stand on a lattice of `style_length` pixels; in between they are blended with smooth
    weights whose squares sum to one, so that the variance is one everywhere. A `style_length` of 0 gives one z.
    """
    stride = settings.stride
    cells_down, cells_across = height // stride, width // stride
    if style_length == 0:
        one = _axis(0, 1, device)
        z = _normal(seed, _STYLE_STREAM, settings.latent_size, one, one)
        return z.expand(-1, -1, cells_down, cells_across)
    rows, row_weights = _lattice(row, cells_down, stride, style_length, device)
    columns, column_weights = _lattice(column, cells_across, stride, style_length, device)
    nodes = _normal(seed, _STYLE_STREAM, settings.latent_size, rows, columns)
    # In float64, because the last bit of float32 sums would depend on the number of threads.
    parts = (values.double() for values in (nodes, row_weights, column_weights))
    return torch.einsum("bzrc,hr,wc->bzhw", *parts).float()


def _noise_layout(settings: GeneratorSettings) -> list[tuple[int, int]]:
    """(channels, stride) of the start's noise and of each stage's."""
    stages = [(1, stage.stride) for stage in settings.stages] if settings.stage_noise else []
    return [(settings.noise_channels, settings.stride), *stages]


def _lattice(start: int, count: int, stride: int, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Lattice nodes along one axis and the weight of each at each of `count` cells: (nodes,), (count, nodes)."""
    # float64 until the fraction is known: positions reach 10^7 pixels.
    position = (torch.arange(count, dtype=torch.float64, device=device) * stride + start + stride / 2) / length
    below = position.floor()
    angle = (position - below) * (math.pi / 2)
    first = int(below[0])
    nodes = _axis(first, int(below[-1]) - first + 2, device)
    weights = torch.zeros(count, len(nodes), dtype=torch.float64, device=device)
    index = (below.long() - first).unsqueeze(1)
    weights.scatter_(1, index, angle.cos().unsqueeze(1))
    weights.scatter_(1, index + 1, angle.sin().unsqueeze(1))
    return nodes, weights.float()


def _axis(start: int, count: int, device: str) -> Tensor:
    return torch.arange(start, start + count, dtype=torch.int64, device=device)


def _normal(seed: int, stream: int, channels: int, rows: Tensor, columns: Tensor) -> Tensor:
    """(1, channels, len(rows), len(columns)) standard normal float32, by Box and Muller's transform of hashes.

    Columns, which follow one another, share a hash in pairs: one gets the cosine's number, the other the sine's.
    """
    channel = torch.arange(channels, dtype=torch.int64, device=rows.device)
    key = _hash(_hash(torch.full_like(channel, seed)) + (stream << 32) + channel)
    lines = _hash(key.view(-1, 1, 1) ^ _hash(rows).view(1, -1, 1))
    first = int(columns[0]) // 2
    pairs = _axis(first, int(columns[-1]) // 2 + 1 - first, str(rows.device))
    bits = _hash_(lines + _GOLDEN * pairs)
    # 24 bits each: what float32 holds exactly. The radius needs a number above 0.
    radius = (bits & _MASK32).bitwise_right_shift_(8).add_(1).float().mul_(2**-24).log_().mul_(-2).sqrt_()
    angle = bits.bitwise_right_shift_(40).bitwise_and_(0xFFFFFF).float().mul_(2 * math.pi * 2**-24)
    both = torch.stack([radius * angle.cos(), radius.mul_(angle.sin_())], dim=-1).flatten(-2)
    skipped = int(columns[0]) - 2 * first
    return both[..., skipped : skipped + len(columns)].contiguous().unsqueeze(0)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _hash(values: Tensor) -> Tensor:
    """SplitMix64's output function on int64 (which wraps like uint64; shifts are masked to be logical)."""
    return _hash_(values.clone())


def _hash_(values: Tensor) -> Tensor:
    """`_hash` in place: maps of a whole window cost more to allocate than to compute."""
    values.add_(_GOLDEN)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        values.bitwise_xor_((values >> shift).bitwise_and_((1 << 64 - shift) - 1)).mul_(factor)
    return values.bitwise_xor_((values >> 31).bitwise_and_((1 << 33) - 1))
