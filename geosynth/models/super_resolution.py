"""Label super-resolution: learning fine classes from coarse ones (Malkin et al. 2019; Robinson et al. 2019).

A coarse class (of the NLCD, for instance) does not determine a pixel's fine class, but roughly the share of each fine
class among its pixels. The loss requires the mean of a network's probabilities over such pixels to agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.errors import DataError
from geosynth.models.patterns import one_hot_classes

_LEAST_DEVIATION = 0.01  # assumed deviation, in places not seen, of a share that was always the same


@dataclass(frozen=True)
class CoarseShares:
    """Shares of the fine classes among the pixels of each coarse class.

    Attributes:
        mean: (num_coarse, num_fine), mu: the mean share over places.
        deviation: (num_coarse, num_fine), sigma: its standard deviation between places.

    Raises:
        DataError: if the two differ in shape, or a value cannot be a share or a deviation.
    """

    mean: Tensor
    deviation: Tensor

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.deviation.shape:
            raise DataError(
                f"shares {tuple(self.mean.shape)} and deviations {tuple(self.deviation.shape)}:"
                " both must be coarse classes x fine classes"
            )
        if min(float(self.mean.min()), float(self.deviation.min())) < 0 or float(self.mean.max()) > 1:
            raise DataError("mean shares must lie in 0..1, their deviations not below 0")

    def to(self, device: torch.device | str) -> CoarseShares:
        """The same on a device, where a loss would else have to copy them at each step."""
        return CoarseShares(self.mean.to(device), self.deviation.to(device))


def estimate_shares(
    coarse: Tensor, fine: Tensor, num_coarse: int, num_fine: int, block_size: int | None = None
) -> CoarseShares:
    """Measure shares on places where both labels are known.

    Args:
        coarse: (B, H, W) coarse class of each pixel; `num_coarse` where it has none.
        fine: (B, H, W) fine class; `num_fine` where it has none. Pixels that lack either are left out.
        num_coarse: number of coarse classes.
        num_fine: number of fine classes.
        block_size: side, in pixels, of the places between which shares vary, as for the loss; None for whole images.

    Returns:
        mean and deviation over places, each weighted by its pixels. Deviations are at least 0.01, as what did not occur
        in a few places is not impossible elsewhere. A coarse class that does not occur gets mean 1 / num_fine and
        deviation 1, which requires nothing.

    Raises:
        DataError: if the two differ in shape.
    """
    if coarse.shape != fine.shape:
        raise DataError(f"coarse labels {tuple(coarse.shape)} and fine labels {tuple(fine.shape)} differ in shape")
    known = fine < num_fine
    groups = _Groups(torch.where(known, coarse, num_coarse), num_coarse, block_size)
    shares = groups.mean(one_hot_classes(fine, num_fine, torch.float64))
    pixels = groups.per_class(groups.sizes.double())
    weights = groups.sizes / pixels.clamp(min=1)[groups.classes]
    mean = groups.per_class(weights.unsqueeze(1) * shares)
    variance = groups.per_class(weights.unsqueeze(1) * (shares - mean[groups.classes]).square())
    absent = pixels == 0
    mean[absent], variance[absent] = 1 / num_fine, 1.0
    return CoarseShares(mean.float().clamp(0, 1), variance.sqrt().float().clamp(min=_LEAST_DEVIATION))


def super_resolution_loss(
    probabilities: Tensor, coarse: Tensor, shares: CoarseShares, block_size: int | None = None
) -> Tensor:
    """How far the mean probabilities in each coarse class are from the shares that it should have.

    With p the mean of a fine class's probability over the n pixels of one coarse class in one place, and
    v = sum(q (1 - q)) / n^2 over these pixels' probabilities q, its variance:

        relu(|p - mu| - sigma)^2 / (v + sigma^2 + 1e-6) + log(v + 0.03)

    summed over fine classes, averaged over coarse classes and places by their pixels. Combine it with the cross-entropy
    of the few fine labels; its weight in Robinson et al. is 1/40. It may be negative (the logarithm).

    Args:
        probabilities: (B, num_fine, H, W), softmax over the fine classes.
        coarse: (B, H, W) coarse class of each pixel; num_coarse where it has none, which is left out.
        shares: of the fine classes under each coarse class.
        block_size: pixels; side of a place. None for whole images, as in the paper; else a multiple of a coarse pixel.

    Returns:
        A scalar; 0 if no pixel has a coarse class.

    Raises:
        DataError: if shapes or numbers of classes do not fit.
    """
    num_coarse, num_fine = shares.mean.shape
    if coarse.shape != probabilities[:, 0].shape:
        raise DataError(f"coarse labels {tuple(coarse.shape)} do not fit probabilities {tuple(probabilities.shape)}")
    if probabilities.shape[1] != num_fine:
        raise DataError(f"{probabilities.shape[1]} classes of probabilities, shares of {num_fine}")
    probabilities = probabilities.float()
    groups = _Groups(coarse, num_coarse, block_size)
    mean = groups.mean(probabilities)
    variance = groups.mean(probabilities * (1 - probabilities)) / groups.sizes.clamp(min=1).unsqueeze(1)
    mu = shares.mean.to(mean)[groups.classes]
    sigma = shares.deviation.to(mean)[groups.classes]
    excess = F.relu((mean - mu).abs() - sigma)
    losses = excess.square() / (variance + sigma.square() + 1e-6) + torch.log(variance + 0.03)
    return (losses.sum(1) * groups.sizes).sum() / groups.sizes.sum().clamp(min=1)


class _Groups:
    """The pixels of one coarse class in one place, for all classes and places, so that no size depends on the labels.

    Attributes:
        classes: (G,) the coarse class of each group.
        sizes: (G,) its pixels; 0 where the class does not occur.
    """

    def __init__(self, coarse: Tensor, num_coarse: int, block_size: int | None) -> None:
        batch, height, width = coarse.shape
        device, size = coarse.device, block_size or max(height, width)
        if device.type == "cpu" and (int(coarse.min()) < 0 or int(coarse.max()) > num_coarse):  # else: a wait
            raise DataError(f"coarse labels hold {int(coarse.min())}..{int(coarse.max())}, not 0..{num_coarse}")
        down, across = -(-height // size), -(-width // size)
        rows, columns = (torch.arange(side, device=device) // size for side in (height, width))
        samples = torch.arange(batch, device=device).view(-1, 1, 1) * (down * across)
        places = samples + rows.unsqueeze(1) * across + columns
        self._shape = batch * down * across, num_coarse + 1  # the last of each place: no coarse class
        self._group = (places * (num_coarse + 1) + coarse).flatten()
        self.classes = torch.arange(num_coarse, device=device).repeat(self._shape[0])
        self.sizes = self._summed(torch.ones_like(self._group).unsqueeze(1)).squeeze(1)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of values (B, C, H, W) over each group, (G, C); 0 where there are no pixels."""
        return self._summed(values.permute(0, 2, 3, 1).flatten(0, 2)) / self.sizes.clamp(min=1).unsqueeze(1)

    def per_class(self, values: Tensor) -> Tensor:
        """(G, ...) summed over the groups of each coarse class, (num_coarse, ...)."""
        return values.view(self._shape[0], -1, *values.shape[1:]).sum(0)

    def _summed(self, pixels: Tensor) -> Tensor:
        """(B * H * W, C) to the sum over each group, (G, C)."""
        groups = self._shape[0] * self._shape[1]
        sums = pixels.new_zeros((groups, pixels.shape[1])).index_add(0, self._group, pixels)
        return sums.view(*self._shape, -1)[:, :-1].flatten(0, 1)
