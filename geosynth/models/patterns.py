"""Label maps for the layers of a generator: one-hot classes, and distinct 3x3 label patterns.

The hidden activation of a SPADE layer at a pixel depends only on the 3x3 labels around it, and a land-cover map has few
distinct 3x3 patterns, so SPADE's modulation can be a table look-up. Moreover, most pixels have only one class in their
5x5 neighbourhood ("interior"), where the modulation depends on the class alone. Only the others ("border") need a sum
over their nine neighbours' patterns.

Everything here is computed once per resolution, when first needed, and shared by all layers of that resolution.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from geosynth.models.pattern_kernels import HashedPatterns

Padding = Literal["replicate", "zeros"]

_ROWS = 256  # of a product, see `whole_rows`

# Up to this many possible codes a presence table finds the distinct ones; beyond, sorting is cheaper in memory.
_MAX_PRESENCE_TABLE = 1 << 22
_LARGEST_INT32 = 2**31 - 1


class Patterns(NamedTuple):
    """The distinct 3x3 patterns of a batch of label maps, and where they occur.

    Attributes:
        labels: (P, 9) int64, the labels of each pattern, row by row.
        uniform: (num_classes + 1,) int64, for each class the row of the pattern with only this class.
        is_border: (B * h * w,) bool, whether there is more than one class within two pixels.
        border: (N,) int64, the flat indices of these pixels.
        taps: (num_classes + 1 + N, 9) int64: for the interior of each class, then for each border pixel, the pattern
            rows of its neighbours; P means outside the map.
    """

    labels: Tensor
    uniform: Tensor
    is_border: Tensor
    border: Tensor
    taps: Tensor


class LabelPatterns:
    """A batch of label maps at one resolution, and what layers need to know about it.

    Only `one_hot` and `pixel_classes` are the same operations for any labels; the search for patterns has results whose
    size depends on the labels, for which the host would have to wait for an accelerator.

    Attributes:
        labels: (B, h, w) int64, class indices; `num_classes` where a pixel has no class.
        stride: full-resolution pixels per cell.
        classes: (num_classes,) 0, 1, 2, ...
        spare: empty slots for the patterns of a kernel (`HashedPatterns`), shared by the levels of a network.
    """

    def __init__(
        self,
        labels: Tensor,
        num_classes: int,
        padding: Padding = "replicate",
        stride: int = 1,
        classes: Tensor | None = None,
        spare: list[Tensor] | None = None,
    ) -> None:
        self.labels = labels.long()
        self.classes = torch.arange(num_classes, device=labels.device) if classes is None else classes
        self.spare = [] if spare is None else spare
        self.num_classes = num_classes
        self.padding: Padding = padding
        self.stride = stride
        self._one_hot: dict[torch.dtype, Tensor] = {}

    @cached_property
    def found(self) -> Patterns:
        """The distinct patterns."""
        base = self.num_classes + 1
        padded = _pad(self.labels.int(), self.padding, outside=self.num_classes)
        classes = torch.arange(base, device=self.labels.device)

        rows = _triples(padded, base, dim=2)
        row_codes, row_ids, row_uniform = _compact(rows, classes * (base * base + base + 1), base**3)
        num_rows = len(row_codes)
        squares = _triples(row_ids, num_rows, dim=1)
        codes, ids, uniform = _compact(squares, row_uniform * (num_rows * num_rows + num_rows + 1), num_rows**3)

        labels = _digits(row_codes[_digits(codes, num_rows)], base).flatten(1)
        # If each of the nine neighbours sees only one class, it is the same class.
        sees_one = torch.zeros(len(codes) + 1, dtype=torch.bool, device=ids.device).index_fill_(0, uniform, True)
        ids = _pad(ids, self.padding, outside=len(codes))
        is_border = ~_eroded(sees_one.index_select(0, ids.flatten()).view(ids.shape)).flatten()
        border = is_border.nonzero().squeeze(1)
        around = ids.flatten().index_select(0, _neighbours(border, self.labels.shape).flatten()).view(-1, 9)
        return Patterns(
            labels, uniform, is_border, border, torch.cat([uniform.unsqueeze(1).expand(-1, 9), around.long()])
        )

    @property
    def codes_fit(self) -> bool:
        """Whether the nine labels of a pattern fit in an int64, as `hashed` requires."""
        return (self.num_classes + 1) ** 9 < 1 << 63

    @cached_property
    def hashed(self) -> HashedPatterns:
        """The patterns, found without making the host wait."""
        from geosynth.models.pattern_kernels import HashedPatterns

        replicate = self.padding == "replicate"
        return HashedPatterns(self.labels, self.num_classes, self.stride, self.spare, replicate=replicate)

    @property
    def num_patterns(self) -> int:
        """P."""
        return len(self.found.labels)

    @property
    def num_pixels(self) -> int:
        """B * h * w."""
        return self.labels.numel()

    @cached_property
    def rows(self) -> Tensor:
        """(B * h * w,) int32: the row of `found.taps` that belongs to each pixel."""
        border = self.found.border
        first = self.num_classes + 1
        own = torch.arange(first, first + len(border), dtype=torch.int32, device=border.device)
        return self.labels.flatten().int().index_copy_(0, border, own)

    @cached_property
    def places(self) -> Tensor:
        """For each of `found.taps`, the rows of a table that are summed, (R, 11).

        The table has nine rows, one per tap, for each of `pattern_classes`; then two that are used by all.
        """
        taps, steps = self.found.taps, torch.arange(11, device=self.labels.device)
        places = taps.new_empty(len(taps), 11)
        torch.add(taps * 9, steps[:9], out=places[:, :9])
        places[:, 9:] = 9 * len(self.pattern_classes) + steps[:2]
        return places

    @cached_property
    def pixel_classes(self) -> Tensor:
        """(B * h * w, num_classes + 1) float32: the class of each pixel, one-hot; the last column is "no class"."""
        one_hot = one_hot_classes(self.labels, self.num_classes + 1, torch.float32)
        return one_hot.permute(0, 2, 3, 1).flatten(0, 2)

    @cached_property
    def interior_classes(self) -> Tensor:
        """`pixel_classes` with rows of zeros at border pixels."""
        return self.pixel_classes.masked_fill(self.found.is_border.unsqueeze(1), 0.0)

    def one_hot(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, num_classes, h, w) in channels_last, zero where a pixel has no class; what the dense form convolves."""
        if dtype not in self._one_hot:
            self._one_hot[dtype] = one_hot_classes(self.labels, self.classes, dtype)
        return self._one_hot[dtype]

    @cached_property
    def pattern_classes(self) -> Tensor:
        """(P, 9 * num_classes) float32: one-hot labels of each pattern, tap by tap; then one or more rows of zeros."""
        one_hot = self.found.labels.unsqueeze(-1) == torch.arange(self.num_classes, device=self.labels.device)
        return whole_rows(one_hot.flatten(1).float(), least=1)


def whole_rows(values: Tensor, least: int = 0) -> Tensor:
    """Values (n, ...) with at least `least` more zeros, such that n is a multiple of 256.

    Libraries keep compiled products for each shape, which must not be as many as there are windows.
    """
    missing = least + (-len(values) - least) % _ROWS
    return torch.cat([values, values.new_zeros((missing, *values.shape[1:]))])


def one_hot_classes(labels: Tensor, classes: int | Tensor, dtype: torch.dtype) -> Tensor:
    """One-hot class indices, from (B, h, w) to (B, num_classes, h, w) in channels_last; zeros where there is no class.

    Torch's `one_hot` first reads the range of the labels on the host. `classes` is their number, or 0, 1, 2, ...
    """
    if isinstance(classes, int):
        classes = torch.arange(classes, device=labels.device)
    one_hot = torch.empty((*labels.shape, len(classes)), dtype=dtype, device=labels.device)
    return torch.eq(labels.unsqueeze(-1), classes, out=one_hot).permute(0, 3, 1, 2)


def _pad(values: Tensor, padding: Padding, outside: int) -> Tensor:
    """(B, h, w) to (B, h + 2, w + 2), by the nearest value or by `outside`."""
    if padding == "zeros":
        return F.pad(values, (1, 1, 1, 1), value=outside)
    return repeat_edges(values)


def repeat_edges(values: Tensor) -> Tensor:
    """Values (..., h, w), padded to (..., h + 2, w + 2) by the nearest value, in the same memory format.

    Torch's padding converts to float32 under autocast; on CUDA it does not keep channels_last and sums its gradient in
    no fixed order.
    """
    result: Tensor = _RepeatEdges.apply(values)
    return result


class _RepeatEdges(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        height, width = values.shape[-2:]
        padded = _empty(values, height + 2, width + 2)
        padded[..., 1:-1, 1:-1] = values
        padded[..., :: height + 1, 1:-1] = _ends(values, -2)
        padded[..., :: width + 1] = _ends(padded[..., 1:-1], -1)
        return padded

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        height, width = (side - 2 for side in gradient.shape[-2:])
        result = _empty(gradient, height, width)
        result.copy_(gradient[..., 1:-1, 1:-1])
        rows, columns = gradient[..., :: height + 1, :], gradient[..., :: width + 1]
        for edges, own in (
            (rows[..., 1:-1], _ends(result, -2)),
            (columns[..., 1:-1, :], _ends(result, -1)),
            (rows[..., :: width + 1], _ends(_ends(result, -2), -1)),
        ):
            own.add_(edges.sum_to_size(own.shape))
        return result


def _ends(values: Tensor, dim: int) -> Tensor:
    """A view of the first and the last row or column, or of the only one."""
    ends = slice(None, None, max(values.shape[dim] - 1, 1))
    return values[..., ends] if dim == -1 else values[..., ends, :]


def _empty(like: Tensor, height: int, width: int) -> Tensor:
    """(..., height, width) of the same type, device and memory format."""
    last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (*like.shape[:-2], height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def _triples(values: Tensor, base: int, dim: int) -> Tensor:
    """Three consecutive values along `dim` as one number with digits in `base`; `dim` shrinks by two."""
    size = values.shape[dim] - 2
    if base**3 > _LARGEST_INT32:
        values = values.long()
    first, second, third = (values.narrow(dim, start, size) for start in range(3))
    return torch.add(third, torch.add(second, first, alpha=base), alpha=base)


def _digits(codes: Tensor, base: int) -> Tensor:
    """The inverse of `_triples`: (...,) to (..., 3)."""
    return torch.stack([codes // (base * base), codes // base % base, codes % base], dim=-1)


def _compact(codes: Tensor, always: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct values of `codes` and `always` (ascending), and both written as positions among them.

    `limit` is above every code. Distinct values and positions of `always` are int64, positions of codes int32.
    """
    if limit <= _MAX_PRESENCE_TABLE:
        present = torch.zeros(limit, dtype=torch.bool, device=codes.device)
        present[codes.flatten()] = True
        present[always] = True
        position = present.cumsum(0, dtype=torch.int32) - 1
        return (
            present.nonzero().squeeze(1),
            position.index_select(0, codes.flatten()).view(codes.shape),
            position[always].long(),
        )
    distinct, inverse = torch.unique(torch.cat([codes.flatten(), always.to(codes.dtype)]), return_inverse=True)
    ids = inverse[: codes.numel()].view(codes.shape).int()
    return distinct.long(), ids, inverse[codes.numel() :]


def _eroded(values: Tensor) -> Tensor:
    """(B, h + 2, w + 2) to (B, h, w), both bool: whether a value and its eight neighbours are true."""
    down = values[:, :-2] & values[:, 1:-1] & values[:, 2:]
    return down[..., :-2] & down[..., 1:-1] & down[..., 2:]


def _neighbours(pixels: Tensor, shape: torch.Size) -> Tensor:
    """(N,) flat indices of pixels of (B, h, w) to (N, 9) of their 3x3 neighbourhoods in (B, h + 2, w + 2)."""
    _, height, width = shape
    row = pixels // width
    corner = pixels + 2 * row + row // height * (2 * (width + 2))  # its upper left neighbour
    steps = torch.arange(3, device=pixels.device)
    return corner.unsqueeze(1) + (steps.unsqueeze(1) * (width + 2) + steps).flatten()


class LabelPyramid:
    """Label patterns of one label map at all strides of the network, each built when first needed.

    Labels are resized by taking the first pixel of each cell, which is what nearest-neighbour resizing does.

    Args:
        labels: (B, H, W) class indices.
        num_classes: of the labels; this index itself is "no class".
        padding: what lies outside the map.
    """

    def __init__(self, labels: Tensor, num_classes: int, padding: Padding) -> None:
        self.labels = labels.long()
        self.num_classes = num_classes
        self.padding: Padding = padding
        self._classes = torch.arange(num_classes, device=labels.device)
        self._spare: list[Tensor] = []
        self._levels: dict[tuple[int, int], LabelPatterns] = {}

    def at(self, stride: int, dropped: int = 0) -> LabelPatterns:
        """Patterns of the labels resized to one cell per `stride` pixels, without `dropped` pixels on each side."""
        if (stride, dropped) not in self._levels:
            shared = self._classes, self._spare
            coarse = at_level(self.labels, stride, dropped)
            self._levels[stride, dropped] = LabelPatterns(coarse, self.num_classes, self.padding, stride, *shared)
        return self._levels[stride, dropped]


def at_level(values: Tensor, stride: int, dropped: int = 0) -> Tensor:
    """The first of each `stride` x `stride` pixels of (B, H, W), without `dropped` pixels on each side."""
    height, width = values.shape[1:]
    return values[:, dropped : height - dropped : stride, dropped : width - dropped : stride]
