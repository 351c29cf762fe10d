"""Noise and style as functions of (seed, absolute pixel position): a pixel does not depend on how a raster is cut.

Numbers come from a counter-based hash (the 64-bit finaliser of MurmurHash3 / SplitMix64), not from a random stream: any
window can be computed alone, in any order, on any worker, and neighbouring rasters on one pixel grid agree.

Positions are absolute: (row, column) of a pixel counted from the origin of its coordinate reference system.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from geosynth.config import GeneratorSettings
from geosynth.models.device import has_kernels
from geosynth.models.looks import STYLE_CELL, Look
from geosynth.models.trials import kernel_trials

Position = int | Tensor

_MASK32 = (1 << 32) - 1
_STYLE_STREAM = 1 << 20  # apart from the streams of noise, which count stages
_LOOK_STREAM = 1 << 21


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
    row: Position,
    column: Position,
    height: int,
    width: int,
    device: str = "cpu",
    margin: int = 0,
    silent: Collection[int] = (),
) -> list[Tensor | None]:
    """Noise of windows, (B, channels, height / stride, width / stride) per entry as in `random_noise`.

    Args:
        settings: of the generator.
        seed: of the image.
        row: of the window's absolute origin, a multiple of the generator's stride; (B,) int64 for several windows.
        column: likewise.
        height: of the window, pixels, likewise a multiple.
        width: likewise.
        device: where the maps are made, and where `row` and `column` are if they are tensors.
        margin: inside the window; of it each map holds what its level knows (`SpadeGenerator.forward`).
        silent: maps that are not wanted; None stands in their places.
    """
    maps: list[Tensor | None] = []
    for stream, (channels, stride) in enumerate(_noise_layout(settings)):
        dropped = margin - min(margin, settings.margins[stride])
        size = (height - 2 * dropped) // stride, (width - 2 * dropped) // stride
        place = (row + dropped) // stride, (column + dropped) // stride
        maps.append(None if stream in silent else _normal(seed, stream, channels, place, size, device))
    return maps


def style_field(
    settings: GeneratorSettings,
    seed: int,
    row: Position,
    column: Position,
    height: int,
    width: int,
    style_length: int,
    device: str = "cpu",
) -> Tensor:
    """The latent z of windows, (B, latent_size, height / stride, width / stride), each value standard normal.

    Independent normal vectors stand on a lattice of `style_length` pixels; in between they are blended with smooth
    weights whose squares sum to one, so that the variance is one everywhere. A `style_length` of 0 gives one z.
    Arguments as for `position_noise`.
    """
    stride, batch = settings.stride, len(row) if isinstance(row, Tensor) else 1
    cells_down, cells_across = height // stride, width // stride
    if style_length == 0:
        z = _normal(seed, _STYLE_STREAM, settings.latent_size, (0, 0), (1, 1), device)
        return z.expand(batch, -1, cells_down, cells_across)
    first_row, row_weights = _lattice(row, cells_down, stride, style_length, device)
    first_column, column_weights = _lattice(column, cells_across, stride, style_length, device)
    size = row_weights.shape[-1], column_weights.shape[-1]
    nodes = _normal(seed, _STYLE_STREAM, settings.latent_size, (first_row, first_column), size, device)
    # In float64, because the last bit of float32 sums would depend on the number of threads.
    parts = (values.double() for values in (nodes, row_weights, column_weights))
    return torch.einsum("bzrc,bhr,bwc->bzhw", *parts).float()


def look_field(
    settings: GeneratorSettings,
    look: Look,
    seed: int,
    row: Position,
    column: Position,
    height: int,
    width: int,
    style_length: int,
) -> Tensor:
    """The style of each class in windows, (B, num_classes, style_size, height / 8, width / 8), drawn from a look.

    What differs from place to place drifts over `style_length` pixels (0: the same everywhere); what differs from
    object to object drifts over the class's own length, `settings.style_lengths`, on the lattices of `style_field`.
    """
    device = str(look.mean.device)
    num_classes, size = look.mean.shape

    def drawn(stream: int, mixing: Tensor, length: int) -> Tensor:
        """(B, len(mixing), h, w): normal numbers, mixed where they stand (few nodes), then blended."""
        mixing = mixing.double()
        if not length:
            one = _normal(seed, stream, mixing.shape[1], (0, 0), (1, 1), device)
            return (mixing @ one[0].double().flatten(1)).view(1, -1, 1, 1)
        first_row, row_weights = _lattice(row, height // STYLE_CELL, STYLE_CELL, length, device)
        first_column, column_weights = _lattice(column, width // STYLE_CELL, STYLE_CELL, length, device)
        shape = row_weights.shape[-1], column_weights.shape[-1]
        nodes = _normal(seed, stream, mixing.shape[1], (first_row, first_column), shape, device).double()
        mixed = (mixing @ nodes.flatten(2)).view(len(nodes), -1, *shape)
        return row_weights.double().unsqueeze(1) @ mixed @ column_weights.double().transpose(1, 2).unsqueeze(1)

    places = drawn(_LOOK_STREAM, look.broad, style_length)
    places = places.view(len(places), num_classes, size, *places.shape[2:])
    objects = [
        drawn(_LOOK_STREAM + 1 + index, local, length)
        for index, (local, length) in enumerate(zip(look.local, settings.style_lengths, strict=True))
    ]
    return (look.mean.double()[..., None, None] + places + torch.stack(objects, 1)).float()


def _noise_layout(settings: GeneratorSettings) -> list[tuple[int, int]]:
    """(channels, stride) of the start's noise and of each stage's."""
    stages = [(1, stage.stride) for stage in settings.stages] if settings.stage_noise else []
    return [(settings.noise_channels, settings.stride), *stages]


def _lattice(start: Position, count: int, stride: int, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Nodes along one axis and the weight of each at each of `count` cells.

    Returns:
        (B,) the first node, and (B, count, nodes): as many nodes as such a window may meet anywhere.
    """
    # float64 until the fraction is known: positions reach 10^7 pixels.
    steps = torch.arange(count, dtype=torch.float64, device=device) * stride
    position = (steps + _column(start, device) + stride / 2) / length
    below = position.floor()
    angle = (position - below) * (math.pi / 2)
    below = below.long()
    first = below[:, :1]
    num_nodes = (count - 1) * stride // length + 3
    weights = torch.zeros(*below.shape, num_nodes, dtype=torch.float64, device=device)
    index = (below - first).unsqueeze(-1)
    weights.scatter_(-1, index, angle.cos().unsqueeze(-1))
    weights.scatter_(-1, index + 1, angle.sin().unsqueeze(-1))
    return first.squeeze(1), weights.float()


def _column(value: Position, device: str) -> Tensor:
    """(B, 1) int64, without a read from the device or a blocking copy to it."""
    if isinstance(value, Tensor):
        return value.view(-1, 1)
    return torch.full((1, 1), value, dtype=torch.int64, device=device)


def _normal(
    seed: int, stream: int, channels: int, place: tuple[Position, Position], size: tuple[int, int], device: str
) -> Tensor:
    """(B, channels, *size) standard normal float32 at a (row, column), by Box and Muller's transform of hashes.

    Columns, which follow one another, share a hash in pairs: one gets the cosine's number, the other the sine's.
    """
    if has_kernels(device):
        small = ((1 << 40) + 3, _STYLE_STREAM, 3, (-7, 160_001), (16, 16), device)
        if kernel_trials.passed(("noise", device), lambda: _normal_by_kernel(*small), lambda: _plain_normal(*small)):
            return _normal_by_kernel(seed, stream, channels, place, size, device)
    return _plain_normal(seed, stream, channels, place, size, device)


def _normal_by_kernel(
    seed: int, stream: int, channels: int, place: tuple[Position, Position], size: tuple[int, int], device: str
) -> Tensor:
    from geosynth.models.kernels import normal_numbers

    rows, columns = (_column(value, device).view(-1) for value in place)
    return normal_numbers(seed, stream, channels, (rows, columns), size)


def _plain_normal(
    seed: int, stream: int, channels: int, place: tuple[Position, Position], size: tuple[int, int], device: str
) -> Tensor:
    (row, column), (height, width) = place, size
    channel = torch.arange(channels, dtype=torch.int64, device=device)
    key = _hash(_hash(torch.full_like(channel, seed)) + (stream << 32) + channel)
    rows = _column(row, device) + torch.arange(height, device=device)
    lines = _hash(key.view(-1, 1, 1) ^ _hash(rows).view(-1, 1, height, 1))
    pairs = _column(column // 2, device) + torch.arange(width // 2 + 1, device=device)
    bits = _hash_(lines + _GOLDEN * pairs.view(-1, 1, 1, width // 2 + 1))
    # 24 bits each: what float32 holds exactly. The radius needs a number above 0.
    radius = (bits & _MASK32).bitwise_right_shift_(8).add_(1).float().mul_(2**-24).log_().mul_(-2).sqrt_()
    angle = bits.bitwise_right_shift_(40).bitwise_and_(0xFFFFFF).float().mul_(2 * math.pi * 2**-24)
    both = torch.stack([radius * angle.cos(), radius.mul_(angle.sin_())], dim=-1).flatten(-2)
    skipped = column % 2
    if isinstance(skipped, int):
        return both[..., skipped : skipped + width].contiguous()
    index = skipped.view(-1, 1, 1, 1) + torch.arange(width, device=device)
    return both.gather(-1, index.expand(*both.shape[:-1], width))


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
