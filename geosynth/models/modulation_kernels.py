"""The GPU kernel of modulation by pattern table.

It reads the features once, adds the noise, sums the rows of a table of `pattern_kernels`, scales, shifts, activates and
writes once. A pattern without a slot is computed wherever it occurs, which is slow, but right for any labels. What
`pattern_kernels` says about importing it and about the current GPU also holds here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from geosynth.models.pattern_kernels import LIKE_ANY, HashedPatterns, label_at

if TYPE_CHECKING:
    from geosynth.models.affine import LayerNoise, PixelRows
    from geosynth.models.zoom import Zoom

_TILE_VALUES = 2048  # features that a program processes at once

_ALIKE = [  # see `pattern_kernels.LIKE_ANY`
    *LIKE_ANY,
    *("look_rows", "look_image_step", "look_row_step", "look_column_step"),
    *("source_height", "source_width", "dropped", "groups"),
]


def modulate(
    features: Tensor,
    patterns: HashedPatterns,
    table: Tensor,
    rows: Tensor,
    taps: Tensor,
    tap_bias: Tensor,
    weight: Tensor,
    slope: float,
    noise: LayerNoise | None,
    looks: PixelRows | None,
    zoom: Zoom | None,
) -> Tensor:
    """leaky_relu((looks(features) + noise) * scale + shift), for each pixel by the labels around it.

    Args:
        features: (B, C, h, w), or with a `zoom` of the previous level.
        patterns: of the labels, (B, h, w).
        table: (slots, 9 * 2 C): the contribution of each pattern to scale and shift from each of the nine positions.
        rows: (num_classes + 2, 2 C) float32: scale and shift in the interior of each class and where there is no class;
            last, the bias, to which contributions are added elsewhere.
        taps: (9 * num_classes, hidden), the weights of the hidden layer.
        tap_bias: (hidden,), its bias.
        weight: (hidden, 9 * 2 C), by which the table was made.
        slope: of the leaky ReLU for negative values; 1 for none.
        noise: (B, 1, h, w), with its strength; None for none.
        looks: with 2 C columns, applied first, see `affine.apply_looks`; None for none.
        zoom: from the features to the labels; None if they are of the same level.

    Returns:
        (B, C, h, w) in channels_last and in the type of `features`.
    """
    features = features.contiguous(memory_format=torch.channels_last)
    channels, (batch, height, width) = features.shape[1], patterns.labels.shape
    result = torch.empty(
        (batch, channels, height, width),
        dtype=features.dtype,
        device=features.device,
        memory_format=torch.channels_last,
    )
    channel_block = min(triton.next_power_of_2(channels), 64)
    pixel_block = max(16, _TILE_VALUES // channel_block)
    total, group = batch * height * width, math.gcd(channels, 16)
    rows_of_looks = None if looks is None else looks.rows
    with torch.cuda.device_of(features):
        _modulate[(triton.cdiv(total, pixel_block), triton.cdiv(channels, channel_block))](
            features,
            result,
            patterns.labels,
            patterns.ids,
            table,
            rows,
            taps,
            tap_bias,
            weight,
            *((features, features) if noise is None else noise),
            features if looks is None else looks.table,
            patterns.ids if rows_of_looks is None else rows_of_looks,
            *patterns.labels.stride(),
            *(patterns.ids if rows_of_looks is None else rows_of_looks).stride(),
            height,
            width,
            *features.shape[2:],
            *(zoom or (1, 0)),
            channels // group,
            total,
            patterns.base,
            slope,
            HIDDEN=len(tap_bias),
            REPLICATE=patterns.replicate,
            NOISE=noise is not None,
            HAS_LOOKS=looks is not None,
            BY_ROW=rows_of_looks is not None,
            GROUP=group,
            PIXELS=pixel_block,
            CHANNELS=channel_block,
        )
    return result


@triton.jit(do_not_specialize=_ALIKE)
def _modulate(
    features,
    result,
    labels,
    ids,
    table,
    rows,
    taps,
    tap_bias,
    weight,
    noise,
    strength,
    looks,
    look_rows,
    image_step,
    row_step,
    column_step,
    look_image_step,
    look_row_step,
    look_column_step,
    height,
    width,
    source_height,
    source_width,
    zoom,
    dropped,
    groups,
    total,
    base,
    slope,
    HIDDEN: tl.constexpr,
    REPLICATE: tl.constexpr,
    NOISE: tl.constexpr,
    HAS_LOOKS: tl.constexpr,
    BY_ROW: tl.constexpr,
    GROUP: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    channels = groups * GROUP  # so that the compiler knows how many lie in one piece, and moves them at once
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    is_pixel, is_channel = pixel < total, channel < channels
    here = is_pixel[:, None] & is_channel
    column, line = pixel % width, pixel // width
    row, image = line % height, line // height
    start_of_labels = labels + image * image_step
    label = tl.load(start_of_labels + row * row_step + column * column_step, mask=is_pixel, other=0).to(tl.int32)
    own = tl.load(ids + pixel, mask=is_pixel, other=0)

    # Where all nine patterns are the same there is one class; then one row says all.
    is_border = is_pixel & (own < 0)
    for tap in tl.static_range(9):
        y, x = row + tap // 3 - 1, column + tap % 3 - 1
        inner_y, inner_x = tl.minimum(tl.maximum(y, 0), height - 1), tl.minimum(tl.maximum(x, 0), width - 1)
        near = tl.load(ids + (image * height + inner_y) * width + inner_x, mask=is_pixel, other=0)
        is_border = is_border | (is_pixel & (near != own))
        if not REPLICATE:
            is_border = is_border | (is_pixel & ((inner_y != y) | (inner_x != x)))
    start = tl.where(is_border, base, label) * (2 * channels)
    scale = tl.load(rows + start[:, None] + channel, mask=here, other=0.0)
    shift = tl.load(rows + start[:, None] + channels + channel, mask=here, other=0.0)
    if tl.max(is_border.to(tl.int32), 0) > 0:
        for position in range(9):
            y, x = row + position // 3 - 1, column + position % 3 - 1
            inner_y, inner_x = tl.minimum(tl.maximum(y, 0), height - 1), tl.minimum(tl.maximum(x, 0), width - 1)
            counts = is_border
            if not REPLICATE:
                counts = counts & (inner_y == y) & (inner_x == x)
            near = tl.load(ids + (image * height + inner_y) * width + inner_x, mask=counts, other=-1)
            start_of_near = (near.to(tl.int64) * 9 + position) * (2 * channels)
            is_known = (near >= 0)[:, None] & is_channel
            scale += tl.load(table + start_of_near[:, None] + channel, mask=is_known, other=0.0).to(tl.float32)
            shift += tl.load(table + start_of_near[:, None] + channels + channel, mask=is_known, other=0.0).to(
                tl.float32
            )
            is_unknown = counts & (near < 0)
            if tl.max(is_unknown.to(tl.int32), 0) > 0:
                for unit in range(HIDDEN):
                    hidden = tl.zeros((PIXELS,), tl.float32) + tl.load(tap_bias + unit).to(tl.float32)
                    for other in range(9):
                        around = label_at(
                            start_of_labels,
                            inner_y + other // 3 - 1,
                            inner_x + other % 3 - 1,
                            row_step,
                            column_step,
                            height,
                            width,
                            base,
                            is_unknown,
                            REPLICATE,
                        )
                        has_class = is_unknown & (around < base - 1)
                        place = (other * (base - 1) + around) * HIDDEN + unit
                        hidden += tl.load(taps + place, mask=has_class, other=0.0).to(tl.float32)
                    hidden = tl.where(is_unknown, tl.maximum(hidden, 0.0), 0.0)
                    hidden = hidden.to(taps.dtype.element_ty).to(tl.float32)
                    start_of_tap = (unit * 9 + position) * (2 * channels)
                    at = weight + start_of_tap + channel
                    scale += hidden[:, None] * tl.load(at, mask=is_channel, other=0.0).to(tl.float32)
                    shift += hidden[:, None] * tl.load(at + channels, mask=is_channel, other=0.0).to(tl.float32)

    at = pixel.to(tl.int64)[:, None] * channels + channel
    source_row, source_column = (row + dropped) // zoom, (column + dropped) // zoom
    source = (image * source_height + source_row) * source_width + source_column
    values = tl.load(features + source.to(tl.int64)[:, None] * channels + channel, mask=here, other=0.0).to(tl.float32)
    if HAS_LOOKS:
        look = pixel.to(tl.int64)
        if BY_ROW:
            at_look = look_rows + image * look_image_step + row * look_row_step + column * look_column_step
            look = tl.load(at_look, mask=is_pixel, other=0).to(tl.int64)
        of_look = looks + look[:, None] * (2 * channels) + channel
        values += values * tl.load(of_look, mask=here, other=0.0).to(tl.float32)
        values += tl.load(of_look + channels, mask=here, other=0.0).to(tl.float32)
    if NOISE:
        loud = tl.load(strength + label[:, None] * channels + channel, mask=here, other=0.0).to(tl.float32)
        values += loud * tl.load(noise + pixel, mask=is_pixel, other=0.0).to(tl.float32)[:, None]
    values = values * scale + shift
    values = tl.where(values < 0, values * slope, values)
    tl.store(result + at, values.to(result.dtype.element_ty), mask=here)
