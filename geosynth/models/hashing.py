"""Random numbers as functions of (seed, stream, absolute position): pixels do not depend on how a raster is cut.

Numbers come from a counter-based hash (the 64-bit finaliser of MurmurHash3 / SplitMix64), not from a random sequence:
any window can be computed by itself, in any order, on any worker, and neighbouring rasters on one pixel grid agree.
Streams separate the numbers that one seed gives for different purposes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geosynth.models.device import has_kernels
from geosynth.models.trials import kernel_trials
from geosynth.models.windows import Windows

_MASK32 = (1 << 32) - 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


GOLDEN = _signed(0x9E3779B97F4A7C15)
"""The increment of SplitMix64 between numbers of a sequence."""
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def hash_bits(values: Tensor) -> Tensor:
    """SplitMix64's output function on int64 (which wraps like uint64; shifts are masked to be logical)."""
    return hash_bits_(values.clone())


def hash_bits_(values: Tensor) -> Tensor:
    """`hash_bits` in place, as maps of a whole window take longer to allocate than to compute."""
    values.add_(GOLDEN)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        values.bitwise_xor_((values >> shift).bitwise_and_((1 << 64 - shift) - 1)).mul_(factor)
    return values.bitwise_xor_((values >> 31).bitwise_and_((1 << 33) - 1))


def hash_key(seed: int, stream: int, numbers: Tensor) -> Tensor:
    """Keys to hash, int64 like `numbers`, different for different seeds, streams and numbers."""
    return hash_bits(torch.full_like(numbers, seed)) + (stream << 32) + numbers


def noise_kernel_works(device: torch.device | str) -> bool:
    """Whether the kernel of noise is used on a device that has kernels; see `KernelTrials`."""

    def small(form: Callable[..., Tensor]) -> Tensor:
        return form((1 << 40) + 3, 1 << 20, 3, Windows.at(-7, 160_001, 16, 16, device))

    return kernel_trials.passed(("noise", device), lambda: small(_normal_by_kernel), lambda: small(_plain_normal))


def normal_numbers(
    seed: int, stream: int, channels: int, windows: Windows, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal numbers, (B, channels, height, width), by the Box-Muller transform of hashes.

    Adjacent columns share a hash in pairs: one gets the number with the cosine, the other that with the sine.
    """
    device = windows.row.device
    if has_kernels(device) and noise_kernel_works(device):
        return _normal_by_kernel(seed, stream, channels, windows, dtype)
    return _plain_normal(seed, stream, channels, windows).to(dtype)


def _normal_by_kernel(
    seed: int, stream: int, channels: int, windows: Windows, dtype: torch.dtype = torch.float32
) -> Tensor:
    from geosynth.models import field_kernels

    return field_kernels.normal_numbers(seed, stream, channels, windows, dtype)


def _plain_normal(seed: int, stream: int, channels: int, windows: Windows) -> Tensor:
    row, column, height, width = windows
    channel = torch.arange(channels, dtype=torch.int64, device=row.device)
    key = hash_bits(hash_key(seed, stream, channel))
    rows = row.view(-1, 1) + torch.arange(height, device=row.device)
    lines = hash_bits(key.view(-1, 1, 1) ^ hash_bits(rows).view(-1, 1, height, 1))
    pairs = (column // 2).view(-1, 1) + torch.arange(width // 2 + 1, device=row.device)
    bits = hash_bits_(lines + GOLDEN * pairs.view(-1, 1, 1, width // 2 + 1))
    # 24 bits each, which float32 represents exactly. The radius needs a number above 0.
    radius = (bits & _MASK32).bitwise_right_shift_(8).add_(1).float().mul_(2**-24).log_().mul_(-2).sqrt_()
    angle = bits.bitwise_right_shift_(40).bitwise_and_(0xFFFFFF).float().mul_(2 * math.pi * 2**-24)
    both = torch.stack([radius * angle.cos(), radius.mul_(angle.sin_())], dim=-1).flatten(-2)
    index = (column % 2).view(-1, 1, 1, 1) + torch.arange(width, device=row.device)
    return both.gather(-1, index.expand(*both.shape[:-1], width))
