"""The looks of classes as functions of (seed, absolute position): the style in which each object is painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geosynth.config import GeneratorSettings
from geosynth.models.device import has_kernels
from geosynth.models.hashing import GOLDEN, hash_bits, hash_key
from geosynth.models.looks.edge_effect import edge_change, without_edges
from geosynth.models.looks.look import REACH, STREAM, Look, LookDraws
from geosynth.models.looks.regions import BORDER, in_one_look
from geosynth.models.looks.styles import STYLE_CELL
from geosynth.models.trials import kernel_trials
from geosynth.models.windows import Windows, middles_of_cells

_OBJECT_GAP = 2  # distance of objects, as a multiple of the side of the square in which a class's style is measured
_COLOURFUL = 1.2  # times as far as observed colours depart from their mean: softening takes a fifth of small objects'


def look_field(
    settings: GeneratorSettings,
    look: Look,
    seed: int,
    windows: Windows,
    style_length: int,
    ways: Tensor | None = None,
    shares: Tensor | None = None,
) -> Tensor:
    """The style of each class in windows, (B, num_classes, style_size, height / 8, width / 8), drawn from a look.

    Objects of a class are on a jittered lattice, at a distance of twice the side of the square in which their style is
    measured (`settings.style_lengths`). Each has a style that was observed on an object of one tile, the tile of its
    place; a cell takes the style of the nearest object, smoothed over the cells around. Tiles change from place to
    place: they are on a lattice of `style_length` pixels, and an object between two nodes takes the tile of either,
    more likely of the nearer one (0: one tile everywhere). The variance of colours that smoothing removes is
    compensated for.

    In classes that change gradually (`settings.style_gradual`), a cell has a weighted mean of the styles of the objects
    around it, with weights that fall smoothly to zero.

    Args:
        settings: of the generator.
        look: that styles are drawn from; on the device of the windows.
        seed: of the image.
        windows: as for `position_noise`.
        style_length: pixels between places; 0 for one place everywhere.
        ways: (B, regions, 2, height / 8, width / 8), from `ways_to_middles` for the settings' `style_regions`, so that
            each region has one style; None for a style of each cell's own.
        shares: (B, num_classes, height / 8, width / 8), from `edge_effect.shares_around`, of the labels that are
            painted: a style is changed from what it was at the share around the observed object to what it would be at
            the share here (within those that were observed). None to leave it unchanged.
    """
    if shares is not None and look.around is not None and look.edge_effect is not None:
        even, usual = without_edges(look)
        drawn = look_field(settings, even, seed, windows, style_length, ways)
        least, most = (limit(look.around, (0, 2)).view(-1, 1, 1) for limit in (torch.amin, torch.amax))
        here = edge_change(shares.clamp(least, most).unsqueeze(2), *look.edge_effect[..., None, None].unbind(1))
        return drawn + (here - usual[..., None, None])
    if settings.style_regions and ways is not None:
        around = look_field(settings, look, seed, windows.buffer(BORDER * STYLE_CELL), style_length)
        return in_one_look(around, ways, settings.style_regions)
    bands = settings.num_bands
    colours, others = look.departures[..., :bands], look.departures[..., bands:]
    mean = look.mean if look.asked is None else look.asked
    look = replace(look, mean=mean, departures=torch.cat([_COLOURFUL * colours, others], -1))
    gaps = [_OBJECT_GAP * length for length in settings.style_lengths]
    draws = LookDraws(look, seed, gaps, settings.style_gradual, style_length)
    device = str(look.mean.device)
    form = _looks_by_kernel if has_kernels(device) and _look_kernels_work(gaps, device) else _plain_looks
    return form(draws, windows)


def _look_kernels_work(gaps: Sequence[int], device: str) -> bool:
    """See `KernelTrials`."""

    def small(form: Callable[[LookDraws, Windows], Tensor]) -> Tensor:
        waves = torch.arange(5 * len(gaps) * 2 * 3, device=device).sin().view(5, len(gaps), 2, 3)
        draws = LookDraws(Look(waves[0, :, 0], waves, waves[0, :, 0, 0]), (1 << 40) + 3, gaps, (0,), 100)
        return form(draws, Windows.at(-7, 160_001, 4 * STYLE_CELL, 5 * STYLE_CELL, device))

    key = ("looks", device, *gaps)
    return kernel_trials.passed(key, lambda: small(_looks_by_kernel), lambda: small(_plain_looks))


def _looks_by_kernel(draws: LookDraws, windows: Windows) -> Tensor:
    from geosynth.models.field_kernels import look_styles

    return look_styles(draws, windows)


def _plain_looks(draws: LookDraws, windows: Windows) -> Tensor:
    """As `field_kernels.look_styles`."""
    look, device = draws.look, windows.row.device
    _, num_classes, _, numbers = look.departures.shape
    spacing = torch.stack([torch.full((), gap, dtype=torch.float64, device=device) for gap in draws.gaps]).view(-1, 1)
    around = windows.buffer(STYLE_CELL)
    down, across = around.height // STYLE_CELL, around.width // STYLE_CELL
    # (B, num_classes, cells) in units of the lattice, and (B, num_classes, 1) the first node that is needed.
    y, x = (
        middles_of_cells(start, count, STYLE_CELL).unsqueeze(1) / spacing
        for start, count in ((around.row, down), (around.column, across))
    )
    first_row, first_column = (position[..., :1].floor().long() - 1 for position in (y, x))
    num_rows, num_columns = (count * STYLE_CELL // min(draws.gaps) + 4 for count in (down, across))
    rows = (first_row + torch.arange(num_rows, device=device)).unsqueeze(3)
    columns = (first_column + torch.arange(num_columns, device=device)).unsqueeze(2)

    node_y, node_x, style = _objects(draws, rows, columns, spacing.view(-1, 1, 1))
    nine, square, distances = _nine_around(style, (node_y, node_x), (y, x), (first_row, first_column))
    nearest = nine.flatten().index_select(0, square.flatten() * 9 + distances.argmin(4).flatten())
    departures = look.departures.reshape(-1, numbers)
    styles = departures.index_select(0, nearest).view(-1, num_classes, down, across, numbers)
    for axis in (2, 3):
        inner = styles.shape[axis] - 2
        styles = styles.narrow(axis, 0, inner) + styles.narrow(axis, 1, inner) + styles.narrow(axis, 2, inner)
    styles = styles / 9
    for number in draws.gradual:
        near = nine.index_select(0, square[:, number, 1:-1, 1:-1].flatten())
        mean = _weighted_mean(departures, near, distances[:, number, 1:-1, 1:-1].reshape(-1, 9))
        styles[:, number] = mean.view(-1, *styles.shape[2:])
    return (styles + look.mean[:, None, None]).permute(0, 1, 4, 2, 3)


def _objects(draws: LookDraws, rows: Tensor, columns: Tensor, spacing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The objects of each class at nodes of its lattice: their positions, and which of the look's styles they have.

    Args:
        draws: what styles are drawn from.
        rows: of the nodes, (B, num_classes, R, 1).
        columns: of the nodes, (B, num_classes, 1, C).
        spacing: of the lattice of each class, pixels, (num_classes, 1, 1).

    Returns:
        rows and columns in units of the lattice, and numbers of styles, each (B, num_classes, R, C).
    """
    tiles, num_classes, objects, _ = draws.look.departures.shape
    classes = torch.arange(num_classes, dtype=torch.int64, device=spacing.device).view(-1, 1, 1)
    bits = hash_bits(hash_bits(hash_bits(hash_key(draws.seed, STREAM, classes)) ^ rows) + GOLDEN * columns)
    chosen = hash_bits(bits)  # places within the lattice's cells by the one hash, choices by the other
    node_y, node_x = rows + _jitter(bits), columns + _jitter(bits >> 16)
    place_row = place_column = torch.zeros_like(chosen)
    if draws.style_length:
        reach = spacing / draws.style_length
        place_row, place_column = _either(node_y * reach, chosen), _either(node_x * reach, chosen >> 16)
    tile = hash_bits(hash_bits(hash_key(draws.seed, STREAM + 1, place_row)) + place_column)
    return node_y, node_x, (_one_of(tile, tiles) * num_classes + classes) * objects + _one_of(chosen >> 32, objects)


def _nine_around(
    values: Tensor, nodes: tuple[Tensor, Tensor], cells: tuple[Tensor, Tensor], first: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The nine nodes in and around each square of the lattice.

    Args:
        values: of the nodes, (B, num_classes, R, C).
        nodes: their rows and columns, likewise.
        cells: rows (B, num_classes, height) and columns (B, num_classes, width) of the cells, in the same units.
        first: row and column of the first node, (B, num_classes, 1).

    Returns:
        the values of nine nodes for each square, (S, 9); the square of each cell, (B, num_classes, height, width); the
        squared distances from a cell to its nine nodes, (B, num_classes, height, width, 9).
    """
    batch, num_classes, num_rows, num_columns = values.shape
    (y, x), (height, width) = cells, (position.shape[-1] for position in cells)
    row, column = (position.floor().long() - start - 1 for position, start in zip(cells, first, strict=True))
    plane = torch.arange(batch * num_classes, device=values.device).view(batch, num_classes, 1, 1)
    square = (plane * (num_rows - 2) + row.unsqueeze(3)) * (num_columns - 2) + column.unsqueeze(2)

    def of_nine(values: Tensor) -> Tensor:
        return values.unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 9)

    def away(nodes: Tensor, position: Tensor) -> Tensor:
        own = position.expand(batch, -1, height, width).reshape(-1, 1)
        return of_nine(nodes).index_select(0, square.flatten()).sub_(own)

    distances = away(nodes[0], y.unsqueeze(3)).square_().add_(away(nodes[1], x.unsqueeze(2)).square_())
    return of_nine(values), square, distances.view(*square.shape, 9)


def _weighted_mean(departures: Tensor, near: Tensor, distances: Tensor) -> Tensor:
    """The mean of the styles of the nine objects around each cell, (n, numbers), weighted by how near they are.

    Args:
        departures: all styles, (styles, numbers).
        near: numbers of those of the nine objects, (n, 9).
        distances: squared, from the cell to the objects, in units of the lattice, (n, 9).
    """
    weights = (REACH * REACH - distances).clamp(min=0)
    weights = (weights * weights * weights).float()
    total = whole = torch.zeros((), device=weights.device)
    for style, weight in zip(near.unbind(1), weights.unsqueeze(2).unbind(1), strict=True):  # always in this order
        total, whole = total + departures.index_select(0, style) * weight, whole + weight
    return total / whole


def _jitter(bits: Tensor) -> Tensor:
    """Positions within cells of the lattice, in [1/4, 3/4), so that the nearest object is always one of nine."""
    return (bits & 0xFFFF).double() * 2**-17 + 0.25


def _either(position: Tensor, bits: Tensor) -> Tensor:
    """The whole number before or after a position; the nearer one is more likely."""
    below = position.floor()
    part = position - below
    upper = (bits & 0xFFFF).double() * 2**-16 < part * part * (3 - 2 * part)
    return below.long() + upper


def _one_of(bits: Tensor, count: int) -> Tensor:
    """A number from 0 to count - 1, all equally likely, from the lowest 16 bits."""
    return ((bits & 0xFFFF) * count) >> 16
