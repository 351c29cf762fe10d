"""GPU kernels that find the patterns of label maps.

`patterns` explains pattern tables. Here the table has a fixed number of slots, in which patterns are found by their
hash, so that no size depends on the labels.

Importing this module needs Triton, which comes with torch on Linux; check `device.has_kernels` first. Triton starts
kernels on the current GPU, which need not be that of the tensors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LIKE_ANY = ("labels", "image_step", "row_step", "column_step", "height", "width", "total", "base", "places", "count")
"""Arguments of kernels that are compiled only once, regardless of their values.

Triton compiles a kernel again, for a second, if an integer is 1 or a multiple of 16, or a pointer is aligned to 16
bytes. Not for these, where it gives no faster code; so the kernel that is tried on a small map is the one used.
"""

_PIXELS_A_PLACE = 128  # full-resolution pixels per slot: real label maps fill a third to two thirds of the slots
_FEWEST_PLACES, _MOST_PLACES = 1 << 11, 1 << 13
_LEVELS = 3  # levels of the network whose tables are cleared at once
_PROBES = 32  # slots that are tried for a pattern
_BLOCK = 256
_PLACES = 64  # slots of a table that a program processes at once


class HashedPatterns:
    """The 3x3 patterns of a batch of label maps, each in some slot of a table.

    Attributes:
        labels: (B, h, w).
        codes: (slots,) int64, the labels of a pattern as digits, the first one first; -1 for an empty slot.
        ids: (B, h, w) int32, the slot of the pattern around each pixel; -1 if it has none.
        base: of the digits: the number of classes, plus one for "no class".
    """

    def __init__(self, labels: Tensor, num_classes: int, stride: int, spare: list[Tensor], *, replicate: bool) -> None:
        """Find the slots.

        Args:
            labels: (B, h, w) int64; `num_classes` where a pixel has no class.
            num_classes: at most so many that nine digits fit in an int64.
            stride: full-resolution pixels per cell.
            spare: empty tables, shared by the levels of a network: one is taken; some are made if there is none.
            replicate: whether the labels are repeated outside; else there is no class.
        """
        self.labels = labels
        self.base = num_classes + 1
        self.replicate = replicate
        wanted = labels.numel() * stride**2 // _PIXELS_A_PLACE
        places = min(max(triton.next_power_of_2(max(wanted, 1)), _FEWEST_PLACES), _MOST_PLACES)
        if not spare:
            shape = _LEVELS, _MOST_PLACES + _BLOCK
            spare += torch.full(shape, -1, dtype=torch.int64, device=labels.device).unbind(0)
        codes = spare.pop()
        self.ids = torch.empty(self.labels.shape, dtype=torch.int32, device=self.labels.device)
        _, height, width = self.labels.shape
        with torch.cuda.device_of(self.labels):
            _find_places[(triton.cdiv(self.labels.numel(), _BLOCK),)](
                self.labels,
                codes,
                self.ids,
                *self.labels.stride(),
                height,
                width,
                self.labels.numel(),
                self.base,
                places,
                REPLICATE=self.replicate,
                PROBES=_PROBES,
                BLOCK=_BLOCK,
            )
        self.codes = codes[:places]


def hidden_rows(patterns: HashedPatterns, taps: Tensor, tap_bias: Tensor) -> Tensor:
    """The hidden layer of the pattern in each slot, (slots, hidden), in the type of `taps`.

    Args:
        patterns: of the labels.
        taps: (9 * num_classes, hidden), the weights of the hidden layer.
        tap_bias: (hidden,), its bias.
    """
    hidden = torch.empty((len(patterns.codes), len(tap_bias)), dtype=taps.dtype, device=taps.device)
    with torch.cuda.device_of(taps):
        _hidden_rows[(triton.cdiv(len(hidden), _PLACES),)](
            patterns.codes,
            taps,
            tap_bias,
            hidden,
            len(hidden),
            patterns.base,
            HIDDEN=len(tap_bias),
            COLUMNS=triton.next_power_of_2(len(tap_bias)),
            PLACES=_PLACES,
        )
    return hidden


@triton.jit
def label_at(start, row, column, row_step, column_step, height, width, base, mask, REPLICATE: tl.constexpr):
    """Labels at positions that may be outside the maps that start at `start`."""
    y = tl.minimum(tl.maximum(row, 0), height - 1)
    x = tl.minimum(tl.maximum(column, 0), width - 1)
    label = tl.load(start + y * row_step + x * column_step, mask=mask, other=0).to(tl.int64)
    if not REPLICATE:
        label = tl.where((y == row) & (x == column), label, base - 1)
    return label


@triton.jit(do_not_specialize=LIKE_ANY)
def _find_places(
    labels,
    codes,
    ids,
    image_step,
    row_step,
    column_step,
    height,
    width,
    total,
    base,
    places,
    REPLICATE: tl.constexpr,
    PROBES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Open addressing: a pattern takes the first slot, from its hash on, that is empty or its own."""
    lane = tl.arange(0, BLOCK)
    pixel = tl.program_id(0) * BLOCK + lane
    missing = pixel < total
    column, line = pixel % width, pixel // width
    row, image = line % height, line // height
    start = labels + image * image_step
    code = tl.zeros((BLOCK,), tl.int64)
    for tap in tl.static_range(9):
        y, x = row + tap // 3 - 1, column + tap % 3 - 1
        label = label_at(start, y, x, row_step, column_step, height, width, base, missing, REPLICATE)
        code = code * base + label
    mixed = code * 0x9E3779B1
    place = ((mixed ^ (mixed >> 29)) & (places - 1)).to(tl.int32)
    found = tl.full((BLOCK,), -1, tl.int32)
    probe = 0
    while (probe < PROBES) & (tl.max(missing.to(tl.int32), 0) > 0):
        there = tl.load(codes + place, mask=missing, other=0)
        is_empty = missing & (there == -1)
        if tl.max(is_empty.to(tl.int32), 0) > 0:
            # Lanes that have nothing to do query a spare slot of their own for a value that it never has.
            asked = tl.where(is_empty, place, places + lane)
            expected = tl.where(is_empty, tl.full((BLOCK,), -1, tl.int64), tl.full((BLOCK,), -2, tl.int64))
            before = tl.atomic_cas(codes + asked, expected, code)
            there = tl.where(is_empty, tl.where(before == -1, code, before), there)
        is_here = missing & (there == code)
        found = tl.where(is_here, place, found)
        missing = missing & (there != code)
        place = (place + 1) & (places - 1)
        probe += 1
    tl.store(ids + pixel, found, mask=pixel < total)


@triton.jit(do_not_specialize=LIKE_ANY)
def _hidden_rows(
    codes, taps, tap_bias, hidden, count, base, HIDDEN: tl.constexpr, COLUMNS: tl.constexpr, PLACES: tl.constexpr
):
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    unit = tl.arange(0, COLUMNS)[None, :]
    is_place, is_unit = place < count, unit < HIDDEN
    code = tl.load(codes + place, mask=is_place, other=0)
    values = tl.zeros((PLACES, COLUMNS), tl.float32) + tl.load(tap_bias + unit, mask=is_unit, other=0.0).to(tl.float32)
    # The last digit first; a place without a pattern holds -1, and nobody reads it. Not unrolled: compiling that took
    # most of a minute.
    for back in range(9):
        label = code % base
        code = code // base
        at = ((8 - back) * (base - 1) + label)[:, None] * HIDDEN + unit
        has_class = (is_place & (label >= 0) & (label < base - 1))[:, None] & is_unit
        values += tl.load(taps + at, mask=has_class, other=0.0).to(tl.float32)
    there = place.to(tl.int64)[:, None] * HIDDEN + unit
    tl.store(hidden + there, tl.maximum(values, 0.0).to(hidden.dtype.element_ty), mask=is_place[:, None] & is_unit)
