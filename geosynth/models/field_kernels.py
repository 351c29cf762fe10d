"""GPU kernels for noise by position, and for looks of classes by position; see `hashing` and `looks.field`.

What `pattern_kernels` says about importing it and about the current GPU also holds here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from geosynth.models.looks.look import REACH, STREAM
from geosynth.models.looks.styles import STYLE_CELL

if TYPE_CHECKING:
    from geosynth.models.looks.look import LookDraws
    from geosynth.models.windows import Windows

_BLOCK = 256
_GAP_BITS = 32  # bits of each gap in one number for all, as before Triton 3.2 a kernel cannot read a tuple
# As `pattern_kernels.LIKE_ANY`: compiled only once, regardless of these values.
_ALIKE = [
    *("rows", "columns", "seed", "stream", "style_length", "height", "width", "total"),
    *("channels", "tiles", "objects", "num_classes", "numbers", "gap", "of_class"),
]


def normal_numbers(
    seed: int, stream: int, channels: int, windows: Windows, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `hashing.normal_numbers`."""
    rows, columns = windows.row.contiguous(), windows.column.contiguous()
    height, width = windows.height, windows.width
    result = torch.empty((len(rows), channels, height, width), dtype=dtype, device=rows.device)
    blocks = triton.cdiv(result.numel(), _BLOCK)
    with torch.cuda.device_of(rows):
        _normal[(blocks,)](
            result,
            rows,
            columns,
            seed,
            stream << 32,
            channels,
            height,
            width,
            result.numel(),
            ANGLE=2 * math.pi,
            BLOCK=_BLOCK,
        )
    return result


def look_styles(draws: LookDraws, windows: Windows) -> Tensor:
    """The styles of windows, (B, num_classes, style_size, height / 8, width / 8)."""
    look, seed, gaps, gradual, style_length = draws
    rows, columns = windows.row.contiguous(), windows.column.contiguous()
    height, width = windows.height // STYLE_CELL, windows.width // STYLE_CELL
    tiles, num_classes, objects, numbers = look.departures.shape
    nearest = torch.empty((len(rows), num_classes, height + 2, width + 2), dtype=torch.int32, device=rows.device)
    styles = torch.empty((len(rows), height, width, num_classes, numbers), dtype=torch.float32, device=rows.device)
    with torch.cuda.device_of(rows):
        _nearest_objects[(triton.cdiv(nearest.numel(), _BLOCK),)](
            nearest,
            rows,
            columns,
            seed,
            STREAM << 32,
            style_length,
            height + 2,
            width + 2,
            tiles,
            objects,
            nearest.numel(),
            GAPS=sum(gap << _GAP_BITS * number for number, gap in enumerate(gaps)),
            GAP_BITS=_GAP_BITS,
            CLASSES=num_classes,
            DRIFTS=style_length > 0,
            CELL=STYLE_CELL,
            BLOCK=_BLOCK,
        )
        _mean_of_nine[(triton.cdiv(styles.numel(), _BLOCK),)](
            styles,
            nearest,
            look.departures.contiguous(),
            look.mean.contiguous(),
            height,
            width,
            num_classes,
            numbers,
            styles.numel(),
            BLOCK=_BLOCK,
        )
        for number in gradual:
            _weighted_mean[(triton.cdiv(styles.numel() // num_classes, _BLOCK),)](
                styles,
                look.departures.contiguous(),
                look.mean.contiguous(),
                rows,
                columns,
                seed,
                STREAM << 32,
                style_length,
                gaps[number],
                number,
                height,
                width,
                tiles,
                objects,
                num_classes,
                numbers,
                styles.numel() // num_classes,
                REACH=REACH,
                DRIFTS=style_length > 0,
                CELL=STYLE_CELL,
                BLOCK=_BLOCK,
            )
    return styles.permute(0, 3, 4, 1, 2)


@triton.jit
def _hash(values):
    """SplitMix64's output function, on int64."""
    values += -0x61C8864680B583EB
    values = (values ^ ((values >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    values = (values ^ ((values >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return values ^ ((values >> 31) & 0x1FFFFFFFF)


@triton.jit(do_not_specialize=_ALIKE)
def _normal(
    result,
    rows,
    columns,
    seed: tl.int64,
    stream: tl.int64,
    channels,
    height,
    width,
    total,
    ANGLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < total
    column, line = index % width, index // width
    row, plane = line % height, line // height
    channel, window = plane % channels, plane // channels
    row += tl.load(rows + window, mask=mask, other=0)
    column += tl.load(columns + window, mask=mask, other=0)
    key = _hash(_hash(tl.zeros((BLOCK,), tl.int64) + seed) + stream + channel)
    bits = _hash(_hash(key ^ _hash(row)) - 0x61C8864680B583EB * (column >> 1))
    radius = tl.sqrt(-2 * tl.log((((bits & 0xFFFFFFFF) >> 8) + 1).to(tl.float32) * (1.0 / (1 << 24))))
    angle = ((bits >> 40) & 0xFFFFFF).to(tl.float32) * (ANGLE / (1 << 24))
    values = radius * tl.where((column & 1) == 1, tl.sin(angle), tl.cos(angle))
    tl.store(result + index, values.to(result.dtype.element_ty), mask=mask)


@triton.jit
def _either(position, bits):
    """The whole number before or after a position; the nearer one is more likely."""
    below = tl.floor(position)
    part = position - below
    upper = (bits & 0xFFFF).to(tl.float64) * (1.0 / (1 << 16)) < part * part * (3 - 2 * part)
    return below.to(tl.int64) + upper.to(tl.int64)


@triton.jit
def _one_of(bits, count):
    """A number from 0 to count - 1, all equally likely, from the lowest 16 bits."""
    return ((bits & 0xFFFF) * count) >> 16


@triton.jit
def _object_near(near, key, y, x):
    """Random bits, row and column of one of the nine objects in and around the lattice's square at (y, x)."""
    row, column = tl.floor(y).to(tl.int64) - 1 + near // 3, tl.floor(x).to(tl.int64) - 1 + near % 3
    bits = _hash(_hash(key ^ row) - 0x61C8864680B583EB * column)
    node_y = row.to(tl.float64) + ((bits & 0xFFFF).to(tl.float64) * (1.0 / (1 << 17)) + 0.25)
    node_x = column.to(tl.float64) + (((bits >> 16) & 0xFFFF).to(tl.float64) * (1.0 / (1 << 17)) + 0.25)
    return bits, node_y, node_x


@triton.jit
def _style_of(
    bits, node_y, node_x, start, gap, style_length, of_class, num_classes, tiles, objects, DRIFTS: tl.constexpr
):
    """Which of a look's styles an object has."""
    draws = _hash(bits)
    place_row, place_column = draws * 0, draws * 0
    if DRIFTS:
        reach = gap / style_length
        place_row, place_column = _either(node_y * reach, draws), _either(node_x * reach, draws >> 16)
    tile = _one_of(_hash(_hash(start + (1 << 32) + place_row) + place_column), tiles)
    return (tile * num_classes + of_class) * objects + _one_of(draws >> 32, objects)


@triton.jit(do_not_specialize=_ALIKE)
def _nearest_objects(
    nearest,
    rows,
    columns,
    seed: tl.int64,
    stream: tl.int64,
    style_length,
    height,
    width,
    tiles,
    objects,
    total,
    GAPS: tl.constexpr,
    GAP_BITS: tl.constexpr,
    CLASSES: tl.constexpr,
    DRIFTS: tl.constexpr,
    CELL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Which of a look's styles the object nearest to each cell has, including one cell around the window."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < total
    column, line = index % width, index // width
    row, plane = line % height, line // height
    of_class, window = plane % CLASSES, plane // CLASSES
    gap = tl.zeros((BLOCK,), tl.float64)
    for number in tl.static_range(CLASSES):
        gap = tl.where(of_class == number, (GAPS >> GAP_BITS * number) & ((1 << GAP_BITS) - 1), gap)
    row = (row - 1) * CELL + CELL // 2 + tl.load(rows + window, mask=mask, other=0)
    column = (column - 1) * CELL + CELL // 2 + tl.load(columns + window, mask=mask, other=0)
    y, x = row.to(tl.float64) / gap, column.to(tl.float64) / gap

    start = _hash(tl.zeros((BLOCK,), tl.int64) + seed) + stream
    key = _hash(start + of_class)
    least = tl.full((BLOCK,), float("inf"), tl.float64)
    bits, node_y, node_x = key, y, x
    for near in tl.static_range(9):
        near_bits, near_y, near_x = _object_near(near, key, y, x)
        away = (near_y - y) * (near_y - y) + (near_x - x) * (near_x - x)
        is_nearer = away < least
        least = tl.where(is_nearer, away, least)
        bits = tl.where(is_nearer, near_bits, bits)
        node_y, node_x = tl.where(is_nearer, near_y, node_y), tl.where(is_nearer, near_x, node_x)

    style = _style_of(bits, node_y, node_x, start, gap, style_length, of_class, CLASSES, tiles, objects, DRIFTS)
    tl.store(nearest + index, style.to(tl.int32), mask=mask)


@triton.jit(do_not_specialize=_ALIKE)
def _mean_of_nine(styles, nearest, departures, mean, height, width, num_classes, numbers, total, BLOCK: tl.constexpr):
    """The styles of the nine cells around each cell, on the mean; `nearest` has one cell around the window."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < total
    number, rest = index % numbers, index // numbers
    of_class, rest = rest % num_classes, rest // num_classes
    column, line = rest % width, rest // width
    row, window = line % height, line // height
    first = ((window * num_classes + of_class) * (height + 2) + row) * (width + 2) + column
    total_of_nine = tl.zeros((BLOCK,), tl.float32)
    for across in tl.static_range(3):
        of_three = tl.zeros((BLOCK,), tl.float32)
        for down in tl.static_range(3):
            style = tl.load(nearest + first + down * (width + 2) + across, mask=mask, other=0)
            of_three += tl.load(departures + style.to(tl.int64) * numbers + number, mask=mask, other=0.0)
        total_of_nine += of_three
    own = tl.load(mean + of_class * numbers + number, mask=mask, other=0.0)
    tl.store(styles + index, own + tl.div_rn(total_of_nine, 9.0), mask=mask)


@triton.jit(do_not_specialize=_ALIKE)
def _weighted_mean(
    styles,
    departures,
    mean,
    rows,
    columns,
    seed: tl.int64,
    stream: tl.int64,
    style_length,
    gap,
    of_class,
    height,
    width,
    tiles,
    objects,
    num_classes,
    numbers,
    total,
    REACH: tl.constexpr,
    DRIFTS: tl.constexpr,
    CELL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The styles of a class that changes gradually: the weighted mean of the nine objects around each cell."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < total
    number, rest = index % numbers, index // numbers
    column, line = rest % width, rest // width
    row, window = line % height, line // height
    row = row * CELL + CELL // 2 + tl.load(rows + window, mask=mask, other=0)
    column = column * CELL + CELL // 2 + tl.load(columns + window, mask=mask, other=0)
    spacing = tl.zeros((BLOCK,), tl.float64) + gap
    y, x = row.to(tl.float64) / spacing, column.to(tl.float64) / spacing
    start = _hash(tl.zeros((BLOCK,), tl.int64) + seed) + stream
    key = _hash(start + of_class)
    sum_of_nine, whole = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for near in tl.static_range(9):
        bits, node_y, node_x = _object_near(near, key, y, x)
        weight = tl.maximum(REACH * REACH - ((node_y - y) * (node_y - y) + (node_x - x) * (node_x - x)), 0.0)
        weight = (weight * weight * weight).to(tl.float32)
        style = _style_of(
            bits, node_y, node_x, start, spacing, style_length, of_class, num_classes, tiles, objects, DRIFTS
        )
        sum_of_nine += tl.load(departures + style * numbers + number, mask=mask, other=0.0) * weight
        whole += weight
    own = tl.load(mean + of_class * numbers + number, mask=mask, other=0.0)
    tl.store(
        styles + (rest * num_classes + of_class) * numbers + number, own + tl.div_rn(sum_of_nine, whole), mask=mask
    )
