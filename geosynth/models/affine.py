"""Operations on each pixel by its labels, in one pass: scale, shift and activation, or noise.

    y = leaky_relu(x * scale[row] + shift[row])
    y = x + strength[class] * noise

With whole tensors this reads and writes memory a dozen times, which on a CPU takes longer than the arithmetic. Here one
piece of pixels that fits the cache goes through all steps before the next one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.models.patterns import LabelPatterns

# Values per piece, so that a piece and its rows fit in the caches of a few cores.
_PIECE = 1 << 18


def affine_by_row(features: Tensor, rows: Tensor, patterns: LabelPatterns, slope: float) -> Tensor:
    """Scale, shift and activate each pixel by the row that `patterns.rows` names.

    Args:
        features: (B, C, h, w).
        rows: (R, 2 C): scale, then shift; rounded to the type of the features, which for 16 bits needs half the memory
            traffic of converting the features.
        patterns: of the labels, (B, h, w).
        slope: of the leaky ReLU for negative values; 1 for none.

    Returns:
        (B, C, h, w) in channels_last and in the type of `features`.
    """
    batch, channels, height, width = features.shape
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)  # a view in channels_last
    result: Tensor = _AffineByRow.apply(pixels, rows, patterns, slope)
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _AffineByRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, rows: Tensor, patterns: LabelPatterns, slope: float) -> Tensor:
        result = torch.empty_like(pixels)
        table = rows.to(pixels.dtype)
        for piece in _pieces(pixels):
            scale, shift = _numbers(table, patterns.rows, piece)
            values = torch.addcmul(shift, pixels[piece], scale, out=result[piece])
            if slope != 1:
                F.leaky_relu_(values, slope)
        ctx.save_for_backward(pixels, rows, result)
        ctx.patterns, ctx.slope = patterns, slope
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        pixels, rows, result = ctx.saved_tensors
        patterns: LabelPatterns = ctx.patterns
        channels = pixels.shape[1]
        pixels_gradient, rows_gradient = torch.empty_like(pixels), torch.zeros_like(rows)
        border = patterns.found.border
        num_interior = len(rows) - len(border)
        pieces = _pieces(pixels)
        border_ends = _border_ends(border, pieces)
        scales = rows[:, :channels].to(pixels.dtype)
        for piece, first, last in zip(pieces, [0, *border_ends], border_ends, strict=False):
            values = gradient[piece]
            if ctx.slope != 1:  # a leaky ReLU keeps the sign, so the result tells where it bent
                values = torch.ops.aten.leaky_relu_backward(values, result[piece], ctx.slope, True)
            torch.mul(values, scales.index_select(0, patterns.rows[piece]), out=pixels_gradient[piece])
            both = torch.cat([values.float() * pixels[piece], values.float()], dim=1)
            # A product with one-hot rows, not a scatter: many pixels share a class. Border pixels have their own rows.
            rows_gradient[:num_interior].addmm_(patterns.interior_classes[piece].T, both)
            rows_gradient[num_interior + first : num_interior + last] = both[border[first:last] - piece.start]
        return pixels_gradient, rows_gradient, None, None


def affine_by_pixel(features: Tensor, maps: Tensor, slope: float) -> Tensor:
    """Scale, shift and activate each pixel by its own numbers.

    Args:
        features: (B, C, h, w).
        maps: (B, 2 C, h, w): scale, then shift.
        slope: of the leaky ReLU for negative values; 1 for none.

    Returns:
        (B, C, h, w), in the wider of both types.
    """
    result: Tensor = _AffineByPixel.apply(features, maps, slope)
    return result


class _AffineByPixel(torch.autograd.Function):
    """In fewer passes over memory than with autograd: the gradient of the maps is written once."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, maps: Tensor, slope: float) -> Tensor:
        scale, shift = maps.chunk(2, dim=1)
        result = torch.addcmul(shift, features, scale)
        if slope != 1:
            F.leaky_relu_(result, slope)
        ctx.save_for_backward(features, maps, result)
        ctx.slope = slope
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        features, maps, result = ctx.saved_tensors
        channels = features.shape[1]
        if ctx.slope != 1:
            gradient = torch.ops.aten.leaky_relu_backward(gradient, result, ctx.slope, True)
        features_gradient, maps_gradient = torch.empty_like(features), torch.empty_like(maps)
        torch.mul(gradient, maps[:, :channels], out=features_gradient)
        torch.mul(gradient, features, out=maps_gradient[:, :channels])
        maps_gradient[:, channels:].copy_(gradient)
        return features_gradient, maps_gradient, None


class PixelRows(NamedTuple):
    """Numbers for each pixel of a (B, h, w) map, many of which are equal."""

    table: Tensor
    """(R, n)."""
    rows: Tensor | None
    """(B, h, w): the row of each pixel; None: the table has one for each pixel."""


def apply_looks(features: Tensor, looks: PixelRows) -> Tensor:
    """Apply looks to features: y = x + x * scale + shift, so that zeros have no effect.

    Args:
        features: (B, C, h, w); overwritten if in channels_last and no gradient is needed.
        looks: with 2 C columns: scale, then shift; rounded to the type of the features. Overwritten likewise.

    Returns:
        (B, C, h, w) in channels_last and in the type of `features`.
    """
    batch, channels, height, width = features.shape
    table, rows = looks.table.to(features.dtype), None if looks.rows is None else looks.rows.flatten()
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    if torch.is_grad_enabled():
        scale, shift = (table if rows is None else table.index_select(0, rows)).chunk(2, dim=1)
        return torch.addcmul(pixels + shift, pixels, scale).view(batch, height, width, channels).permute(0, 3, 1, 2)
    table[:, :channels].add_(1)
    scale, shift = _numbers(table, rows, slice(None))
    return torch.addcmul(shift, pixels, scale, out=pixels).view(batch, height, width, channels).permute(0, 3, 1, 2)


class LayerNoise(NamedTuple):
    """A map of noise, and its strength for each class and channel of a layer."""

    values: Tensor
    """(B, 1, h, w)."""
    strength: Tensor
    """(num_classes + 1, C); the last row is for pixels without a class."""


def painted_by_row(
    features: Tensor,
    rows: Tensor,
    patterns: LabelPatterns,
    slope: float,
    source: Tensor | None,
    noise: LayerNoise | None,
    looks: PixelRows | None,
) -> Tensor:
    """`apply_looks`, `add_noise` and `affine_by_row` in one pass, on a CPU and without gradients.

    Arguments as for these, and `source`, (B * h * w,): for each pixel its pixel in the features, if these are of the
    previous level. Features are not changed.
    """
    batch, channels, dtype = len(features), features.shape[1], features.dtype
    pixels, table = features.permute(0, 2, 3, 1).reshape(-1, channels), rows.to(dtype)
    result = pixels.new_empty(patterns.num_pixels, channels)
    if looks is not None:
        look_table, look_rows = looks.table.to(dtype), None if looks.rows is None else looks.rows.flatten()
        look_table[:, :channels].add_(1)
    if noise is not None:
        drawn, strength = noise.values.to(dtype).reshape(-1, 1), noise.strength.to(dtype)
        labels = patterns.labels.flatten()
    for piece in _pieces(result):
        values = pixels[piece] if source is None else pixels.index_select(0, source[piece])
        if looks is not None:
            scale, shift = _numbers(look_table, look_rows, piece)
            values = torch.addcmul(shift, values, scale)
        if noise is not None:
            values = torch.addcmul(values, drawn[piece], strength.index_select(0, labels[piece]))
        scale, shift = _numbers(table, patterns.rows, piece)
        values = torch.addcmul(shift, values, scale, out=result[piece])
        if slope != 1:
            F.leaky_relu_(values, slope)
    return result.view(batch, *patterns.labels.shape[1:], channels).permute(0, 3, 1, 2)


def add_noise(features: Tensor, noise: LayerNoise, patterns: LabelPatterns) -> Tensor:
    """Add noise with a strength per class and channel.

    Args:
        features: (B, C, h, w); overwritten.
        noise: with the features' size.
        patterns: of the labels, (B, h, w).

    Returns:
        (B, C, h, w) in channels_last and in the type of `features`.
    """
    batch, channels, height, width = features.shape
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    result: Tensor = _AddNoise.apply(pixels, noise.values.reshape(-1, 1), noise.strength, patterns)
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _AddNoise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, noise: Tensor, strength: Tensor, patterns: LabelPatterns) -> Tensor:
        values, table = noise.to(pixels.dtype), strength.to(pixels.dtype)
        if pixels.device.type == "cpu":
            labels = patterns.labels.flatten()
            for piece in _pieces(pixels):
                pixels[piece].addcmul_(values[piece], table.index_select(0, labels[piece]))
        else:
            pixels.addcmul_(values, table[patterns.labels].view(pixels.shape))
        ctx.mark_dirty(pixels)
        ctx.save_for_backward(noise)
        ctx.patterns = patterns
        return pixels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (noise,) = ctx.saved_tensors
        classes = ctx.patterns.pixel_classes
        strength_gradient = torch.zeros((classes.shape[1], gradient.shape[1]), device=gradient.device)
        for piece in _pieces(gradient):
            strength_gradient.addmm_((classes[piece] * noise[piece]).T, gradient[piece].float())
        return gradient, None, strength_gradient, None


def _numbers(table: Tensor, rows: Tensor | None, piece: slice) -> tuple[Tensor, Tensor]:
    """Scale and shift of some pixels; if by rows, each contiguous, as torch is slow with many short runs of memory."""
    if rows is None:
        scale, shift = table[piece].chunk(2, dim=1)
    else:
        scale, shift = (half.index_select(0, rows[piece]) for half in table.chunk(2, dim=1))
    return scale, shift


def _border_ends(border: Tensor, pieces: list[slice]) -> list[int]:
    """How many of the (ascending) border pixels are before the end of each piece."""
    if len(pieces) == 1:  # always the case on an accelerator, for which the host need not wait
        return [len(border)]
    ends: list[int] = torch.searchsorted(border, torch.tensor([piece.stop for piece in pieces])).tolist()
    return ends


def _pieces(pixels: Tensor) -> list[slice]:
    """The pieces of some pixels; a single one on an accelerator, where each step costs a launch."""
    count, channels = pixels.shape
    size = max(1, _PIECE // channels) if pixels.device.type == "cpu" else max(1, count)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
