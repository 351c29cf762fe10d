"""Noise and style as functions of (seed, absolute pixel position): a pixel does not depend on how a raster is cut.

Numbers come from a counter-based hash (the 64-bit finaliser of MurmurHash3 / SplitMix64), not from a random stream: any
window can be computed alone, in any order, on any worker, and neighbouring rasters on one pixel grid agree.

Positions are absolute: (row, column) of a pixel counted from the origin of its coordinate reference system.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geosynth.config import GeneratorSettings
from geosynth.models.device import has_kernels
from geosynth.models.looks import STYLE_CELL, Look
from geosynth.models.regions import BORDER, in_one_look
from geosynth.models.trials import kernel_trials

Position = int | Tensor

_MASK32 = (1 << 32) - 1
_STYLE_STREAM = 1 << 20  # apart from the streams of noise, which count stages
_LOOK_STREAM = 1 << 21
_OBJECT_GAP = 2  # times the side of the square that a class's style is measured in
_COLOURFUL = 1.2  # times as far as observed colours depart from their mean: softening takes a fifth of small objects'


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
    dtype: torch.dtype = torch.float32,
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
        dtype: of the maps.
    """
    maps: list[Tensor | None] = []
    places: dict[int, tuple[Position, Position]] = {}  # of a level, which several maps share
    for stream, (channels, stride) in enumerate(_noise_layout(settings)):
        if stream in silent:
            maps.append(None)
            continue
        dropped = margin - min(margin, settings.margins[stride])
        if stride not in places:
            places[stride] = (row + dropped) // stride, (column + dropped) // stride
        size = (height - 2 * dropped) // stride, (width - 2 * dropped) // stride
        maps.append(_normal(seed, stream, channels, places[stride], size, device, dtype))
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
    ways: Tensor | None = None,
) -> Tensor:
    """The style of each class in windows, (B, num_classes, style_size, height / 8, width / 8), drawn from a look.

    Objects of a class stand on a jittered lattice, twice as far apart as the square reaches that their style is
    measured in (`settings.style_lengths`), and each has the style that was observed on one of the tile of its place; a
    cell takes the style of the object nearest to it, softened by the cells around. Places drift: their tiles stand on
    a lattice of `style_length` pixels, and an object between them takes that of either, the nearer the likelier (0: of
    one tile everywhere). What softening takes of the variance of colours is made up for.

    Arguments as for `position_noise`, and `ways`, (B, regions, 2, height / 8, width / 8), of `ways_to_middles` for the
    settings' `style_regions`: each region has one style; without them cells have what they draw.
    """
    if settings.style_regions and ways is not None:
        border = BORDER * STYLE_CELL
        place, size = (row - border, column - border), (height + 2 * border, width + 2 * border)
        around = look_field(settings, look, seed, *place, *size, style_length)
        return in_one_look(around, ways, settings.style_regions)
    device, bands = str(look.mean.device), settings.num_bands
    colours, others = look.departures[..., :bands], look.departures[..., bands:]
    mean = look.mean if look.asked is None else look.asked
    look = replace(look, mean=mean, departures=torch.cat([_COLOURFUL * colours, others], -1))
    place = (_column(row, device).view(-1), _column(column, device).view(-1))
    size, gaps = (height // STYLE_CELL, width // STYLE_CELL), [_OBJECT_GAP * one for one in settings.style_lengths]
    form = _looks_by_kernel if has_kernels(device) and _look_kernels_work(gaps, device) else _plain_looks
    return form(look, seed, place, size, gaps, style_length)


def _look_kernels_work(gaps: Sequence[int], device: str) -> bool:
    """See `KernelTrials`."""

    def small(form: Callable[..., Tensor]) -> Tensor:
        waves = torch.arange(5 * len(gaps) * 2 * 3, device=device).sin().view(5, len(gaps), 2, 3)
        place = _column(-7, device).view(-1), _column(160_001, device).view(-1)
        return form(Look(waves[0, :, 0], waves, waves[0, :, 0, 0]), (1 << 40) + 3, place, (4, 5), gaps, 100)

    key = ("looks", device, *gaps)
    return kernel_trials.passed(key, lambda: small(_looks_by_kernel), lambda: small(_plain_looks))


def _looks_by_kernel(
    look: Look,
    seed: int,
    place: tuple[Tensor, Tensor],
    size: tuple[int, int],
    gaps: Sequence[int],
    style_length: int,
) -> Tensor:
    from geosynth.models.field_kernels import look_styles

    return look_styles(look, seed, _LOOK_STREAM, place, size, gaps, style_length)


def _plain_looks(
    look: Look,
    seed: int,
    place: tuple[Tensor, Tensor],
    size: tuple[int, int],
    gaps: Sequence[int],
    style_length: int,
) -> Tensor:
    """Arguments as for `field_kernels.look_styles`."""
    device, departures = str(look.mean.device), look.departures
    tiles, num_classes, objects, numbers = departures.shape
    spacing = torch.stack([torch.full((), gap, dtype=torch.float64, device=device) for gap in gaps]).view(-1, 1)
    down, across = (cells + 2 for cells in size)  # with the cells around
    # (B, num_classes, cells) in units of the lattice, and (B, num_classes) the first node that is needed.
    y, x = (
        _middles(start, count, STYLE_CELL, device, before=1).unsqueeze(1) / spacing
        for start, count in zip(place, (down, across), strict=True)
    )
    first_row, first_column = (position[..., :1].floor().long() - 1 for position in (y, x))
    num_rows, num_columns = (count * STYLE_CELL // min(gaps) + 4 for count in (down, across))
    rows = (first_row + torch.arange(num_rows, device=device)).unsqueeze(3)
    columns = (first_column + torch.arange(num_columns, device=device)).unsqueeze(2)

    classes = torch.arange(num_classes, dtype=torch.int64, device=device).view(-1, 1, 1)
    bits = _hash(_hash(_hash(_key(seed, _LOOK_STREAM, classes)) ^ rows) + _GOLDEN * columns)
    draws = _hash(bits)  # places within the lattice's cells by the one hash, choices by the other
    node_y, node_x = rows + _jitter(bits), columns + _jitter(bits >> 16)
    place_row = place_column = torch.zeros_like(draws)
    if style_length:
        reach = spacing.view(-1, 1, 1) / style_length
        place_row, place_column = _either(node_y * reach, draws), _either(node_x * reach, draws >> 16)
    tile = _hash(_hash(_key(seed, _LOOK_STREAM + 1, place_row)) + place_column)
    style = (_one_of(tile, tiles) * num_classes + classes) * objects + _one_of(draws >> 32, objects)

    # Each cell's square of the lattice, whose nine nodes are those in it and around.
    squares_down, squares_across = num_rows - 2, num_columns - 2
    row, column = (position.floor().long() - first - 1 for position, first in ((y, first_row), (x, first_column)))
    plane = torch.arange(len(y) * num_classes, device=device).view(-1, num_classes, 1, 1)
    square = ((plane * squares_down + row.unsqueeze(3)) * squares_across + column.unsqueeze(2)).flatten()

    def of_nine(values: Tensor) -> Tensor:
        return values.unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 9)

    def away(nodes: Tensor, position: Tensor) -> Tensor:
        return (
            of_nine(nodes)
            .index_select(0, square)
            .sub_(position.expand(plane.shape[0], -1, down, across).reshape(-1, 1))
        )

    distances = away(node_y, y.unsqueeze(3)).square_().add_(away(node_x, x.unsqueeze(2)).square_())
    nearest = of_nine(style).flatten().index_select(0, square * 9 + distances.argmin(1))
    styles = departures.reshape(-1, numbers).index_select(0, nearest).view(-1, num_classes, down, across, numbers)
    for axis in (2, 3):
        inner = styles.shape[axis] - 2
        styles = styles.narrow(axis, 0, inner) + styles.narrow(axis, 1, inner) + styles.narrow(axis, 2, inner)
    return (styles / 9 + look.mean[:, None, None]).permute(0, 1, 4, 2, 3)


def _jitter(bits: Tensor) -> Tensor:
    """Places within cells of the lattice, in [1/4, 3/4): so the object nearest to any place is one of nine."""
    return (bits & 0xFFFF).double() * 2**-17 + 0.25


def _either(position: Tensor, bits: Tensor) -> Tensor:
    """The number before or after a position, the nearer the likelier."""
    below = position.floor()
    part = position - below
    upper = (bits & 0xFFFF).double() * 2**-16 < part * part * (3 - 2 * part)
    return below.long() + upper


def _one_of(bits: Tensor, count: int) -> Tensor:
    """A number from 0 to count - 1, each as likely, by the lowest 16 bits."""
    return ((bits & 0xFFFF) * count) >> 16


def _noise_layout(settings: GeneratorSettings) -> list[tuple[int, int]]:
    """(channels, stride) of the start's noise and of each stage's."""
    stages = [(1, stage.stride) for stage in settings.stages] if settings.stage_noise else []
    return [(settings.noise_channels, settings.stride), *stages]


def _lattice(start: Position, count: int, stride: int, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Nodes along one axis and the weight of each at each of `count` cells.

    Returns:
        (B,) the first node, and (B, count, nodes): as many nodes as such a window may meet anywhere.
    """
    position = _middles(start, count, stride, device) / length
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


def _middles(start: Position, count: int, stride: int, device: str, before: int = 0) -> Tensor:
    """(B, count) float64, as positions reach 10^7 pixels: the middles of cells, `before` of them before the start."""
    steps = torch.arange(-before, count - before, dtype=torch.float64, device=device) * stride
    return steps + _column(start, device) + stride / 2


def _column(value: Position, device: str) -> Tensor:
    """(B, 1) int64, without a read from the device or a blocking copy to it."""
    if isinstance(value, Tensor):
        return value.view(-1, 1)
    return torch.full((1, 1), value, dtype=torch.int64, device=device)


def noise_kernel_works(device: str) -> bool:
    """Whether the kernel of noise is used on a device that has kernels; see `KernelTrials`."""
    small = ((1 << 40) + 3, _STYLE_STREAM, 3, (-7, 160_001), (16, 16), device)
    return kernel_trials.passed(("noise", device), lambda: _normal_by_kernel(*small), lambda: _plain_normal(*small))


def _normal(
    seed: int,
    stream: int,
    channels: int,
    place: tuple[Position, Position],
    size: tuple[int, int],
    device: str,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(B, channels, *size) standard normal numbers at a (row, column), by Box and Muller's transform of hashes.

    Columns, which follow one another, share a hash in pairs: one gets the cosine's number, the other the sine's.
    """
    if has_kernels(device) and noise_kernel_works(device):
        return _normal_by_kernel(seed, stream, channels, place, size, device, dtype)
    return _plain_normal(seed, stream, channels, place, size, device).to(dtype)


def _normal_by_kernel(
    seed: int,
    stream: int,
    channels: int,
    place: tuple[Position, Position],
    size: tuple[int, int],
    device: str,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    from geosynth.models.field_kernels import normal_numbers

    rows, columns = (_column(value, device).view(-1) for value in place)
    return normal_numbers(seed, stream, channels, (rows, columns), size, dtype)


def _plain_normal(
    seed: int, stream: int, channels: int, place: tuple[Position, Position], size: tuple[int, int], device: str
) -> Tensor:
    (row, column), (height, width) = place, size
    channel = torch.arange(channels, dtype=torch.int64, device=device)
    key = _hash(_key(seed, stream, channel))
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


def _key(seed: int, stream: int, numbers: Tensor) -> Tensor:
    """Keys to hash, int64 like `numbers`: they differ between seeds, streams and numbers."""
    return _hash(torch.full_like(numbers, seed)) + (stream << 32) + numbers


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
