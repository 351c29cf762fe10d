"""Distinct 3x3 label patterns of a label map: what makes SPADE's modulation a table look-up.

The hidden activation of a SPADE layer at a pixel depends only on the 3x3 labels around it, and a land-cover map holds
few distinct 3x3 patterns. Most pixels, moreover, have one class in their whole 5x5 neighbourhood ("interior"): there
the modulation depends on the class alone. Only the others ("border") need a sum over their nine neighbours' patterns.

Everything here is computed once per resolution and shared by all layers that work at it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["replicate", "zeros"]

_ROWS = 256  # of a product, see `pattern_classes`

# Up to this many possible codes a presence table finds the distinct ones; beyond, sorting is cheaper in memory.
_MAX_PRESENCE_TABLE = 1 << 22


class LabelPatterns:
    """The 3x3 patterns of a batch of label maps.

    Attributes:
        labels: (B, h, w) int64, class indices; `num_classes` where a pixel has no class.
        patterns: (P, 9) int64, the labels of each distinct pattern, row by row.
        uniform: (num_classes + 1,) int64, row of the pattern that is one class throughout.
        border: (N,) int64, flat index into B * h * w of the pixels with more than one class within two pixels.
        taps: (num_classes + 1 + N, 9) int64: for the interior of each class, then for each border pixel, the pattern
            rows of its neighbours; P means outside the map.
        stride: full-resolution pixels per cell.
    """

    def __init__(self, labels: Tensor, num_classes: int, padding: Padding = "replicate", stride: int = 1) -> None:
        self.labels = labels.long()
        self.num_classes = num_classes
        self.padding: Padding = padding
        self.stride = stride
        self._index()

    def _index(self) -> None:
        base = self.num_classes + 1
        padded = _pad(self.labels, self.padding, outside=self.num_classes)
        classes = torch.arange(base, device=self.labels.device)

        rows = _triples(padded, base, dim=2)
        row_codes, row_ids, row_uniform = _compact(rows, classes * (base * base + base + 1), base**3)
        num_rows = len(row_codes)
        squares = _triples(row_ids, num_rows, dim=1)
        codes, ids, self.uniform = _compact(squares, row_uniform * (num_rows * num_rows + num_rows + 1), num_rows**3)

        self.patterns = _digits(row_codes[_digits(codes, num_rows)], base).flatten(1)
        around = _neighbours(_pad(ids, self.padding, outside=len(codes)))
        interior = (around == self.uniform[self.labels].unsqueeze(-1)).all(-1)
        self.is_border = ~interior.flatten()
        self.border = self.is_border.nonzero().squeeze(1)
        self.taps = torch.cat([self.uniform.unsqueeze(1).expand(-1, 9), around.flatten(0, 2)[self.border]])

    @property
    def num_patterns(self) -> int:
        """P."""
        return len(self.patterns)

    @property
    def num_pixels(self) -> int:
        """B * h * w."""
        return self.labels.numel()

    @cached_property
    def rows(self) -> Tensor:
        """(B * h * w,) int64: the row of `taps` that belongs to each pixel."""
        rows = self.labels.flatten().clone()
        rows[self.border] = torch.arange(len(self.border), device=rows.device) + self.num_classes + 1
        return rows

    @cached_property
    def pixel_classes(self) -> Tensor:
        """(B * h * w, num_classes + 1) float32: the class of each pixel, one-hot; the last column is "no class"."""
        return F.one_hot(self.labels.flatten(), self.num_classes + 1).float()

    @cached_property
    def interior_classes(self) -> Tensor:
        """`pixel_classes` with rows of zeros at border pixels."""
        return self.pixel_classes.masked_fill(self.is_border.unsqueeze(1), 0.0)

    @cached_property
    def one_hot(self) -> Tensor:
        """(B, num_classes, h, w) float32, zero where a pixel has no class; what the dense form convolves."""
        shape = (*self.labels.shape, self.num_classes + 1)
        return self.pixel_classes.view(shape)[..., :-1].permute(0, 3, 1, 2)

    @cached_property
    def pattern_classes(self) -> Tensor:
        """(P, 9 * num_classes) float32: one-hot labels of each pattern, tap by tap; then rows of zeros.

        At least one more row, and a multiple of 256 in all: libraries keep compiled products for each shape they met,
        which must not be as many as there are windows.
        """
        one_hot = F.one_hot(self.patterns, self.num_classes + 1)[..., :-1].flatten(1).float()
        return F.pad(one_hot, (0, 0, 0, _ROWS - self.num_patterns % _ROWS))


def _pad(values: Tensor, padding: Padding, outside: int) -> Tensor:
    """(B, h, w) to (B, h + 2, w + 2), by the nearest value or by `outside`."""
    if padding == "zeros":
        return F.pad(values, (1, 1, 1, 1), value=outside)
    return repeat_edges(values)


def repeat_edges(values: Tensor) -> Tensor:
    """(..., h, w) to (..., h + 2, w + 2), by the nearest value."""
    values = torch.cat([values[..., :1, :], values, values[..., -1:, :]], dim=-2)
    return torch.cat([values[..., :1], values, values[..., -1:]], dim=-1)


def _triples(values: Tensor, base: int, dim: int) -> Tensor:
    """Three consecutive values along `dim` as one number with digits in `base`; `dim` shrinks by two."""
    size = values.shape[dim] - 2
    first, second, third = (values.narrow(dim, start, size) for start in range(3))
    return (first * base + second) * base + third


def _digits(codes: Tensor, base: int) -> Tensor:
    """The inverse of `_triples`: (...,) to (..., 3)."""
    return torch.stack([codes // (base * base), codes // base % base, codes % base], dim=-1)


def _compact(codes: Tensor, always: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct values of `codes` and `always` (ascending), and both written as positions among them.

    `limit` is above every code.
    """
    if limit <= _MAX_PRESENCE_TABLE:
        present = torch.zeros(limit, dtype=torch.bool, device=codes.device)
        present[codes.flatten()] = True
        present[always] = True
        position = present.long().cumsum(0) - 1
        return present.nonzero().squeeze(1), position[codes], position[always]
    distinct, inverse = torch.unique(torch.cat([codes.flatten(), always]), return_inverse=True)
    return distinct, inverse[: codes.numel()].view(codes.shape), inverse[codes.numel() :]


def _neighbours(padded: Tensor) -> Tensor:
    """(B, h + 2, w + 2) to (B, h, w, 9): each pixel's 3x3 neighbourhood, row by row."""
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    shifted = [padded[:, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return torch.stack(shifted, dim=-1)


class LabelPyramid:
    """Label patterns of one label map at every stride the network works at; each is built when first asked for.

    Labels are resized by taking the first pixel of each cell, which is what nearest-neighbour resizing does.

    Args:
        labels: (B, H, W) class indices.
        num_classes: of the labels; this index itself is "no class".
        padding: what lies outside the map.
    """

    def __init__(self, labels: Tensor, num_classes: int, padding: Padding) -> None:
        self.labels = labels
        self.num_classes = num_classes
        self.padding: Padding = padding
        self._levels: dict[tuple[int, int], LabelPatterns] = {}

    def at(self, stride: int, dropped: int = 0) -> LabelPatterns:
        """Patterns of the labels resized to one cell per `stride` pixels, without `dropped` pixels on each side."""
        if (stride, dropped) not in self._levels:
            height, width = self.labels.shape[1:]
            coarse = self.labels[:, dropped : height - dropped : stride, dropped : width - dropped : stride]
            self._levels[stride, dropped] = LabelPatterns(coarse, self.num_classes, self.padding, stride)
        return self._levels[stride, dropped]
