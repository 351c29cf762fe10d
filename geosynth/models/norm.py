"""Batch norm whose statistics are those of the global batch when several processes train together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from geosynth.errors import DataError


class BatchNorm(nn.BatchNorm2d):
    """Batch norm without learned scale and shift, over the batches of all processes.

    The gradient of the mean of the processes' losses is exact: statistics of one process affect the losses of all.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape and dtype: mean 0 and variance 1 in each channel.

        Raises:
            DataError: in training, if a channel has one value.
        """
        if not self.training or _num_processes() == 1:
            self._check_count(features.numel() // features.shape[1])
            return super().forward(features)
        mean, variance = self.statistics(features)
        centred = features.float() - mean.view(1, -1, 1, 1)
        return (centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)).to(features.dtype)

    def statistics(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and (biased) variance of each channel, (C,) float32 each, differentiable; updates the running ones.

        Raises:
            DataError: in training, if a channel has one value.
        """
        variance, mean = torch.var_mean(features.float(), dim=(0, 2, 3), correction=0)
        count = features.numel() // features.shape[1]
        if _num_processes() > 1:
            variance, mean, count = _combine(variance, mean, count)
        self._check_count(count)
        self._update_running(mean.detach(), variance.detach() * (count / (count - 1)))
        return mean, variance

    def _check_count(self, count: int) -> None:
        if self.training and count < 2:
            raise DataError("batch norm over one value a channel: use a larger batch or crop")

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _combine(variance: Tensor, mean: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """Variance, mean and count of the union of all processes' values (Chan et al. 1979)."""
    size = torch.full_like(mean[:1], count)
    means, variances, sizes = _Gather.apply(torch.cat([mean, variance, size])).split([len(mean), len(mean), 1], dim=1)
    shares = sizes / sizes.sum()
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return variance, mean, int(sizes.sum())


class _Gather(torch.autograd.Function):
    """From (n,) of each process to (processes, n) on all; the gradient of a process's row is summed over processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        rows = [torch.empty_like(values) for _ in range(_num_processes())]
        distributed.all_gather(rows, values)
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous()
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()]
