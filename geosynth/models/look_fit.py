"""Looks measured in images, with labels or without; classes that an image lacks get what is plausible beside the rest.

What is plausible is told by a look that is known (the model's first): its classes vary each by itself from tile to
tile, and all of them together with the light, the sensor and the season, which act as gains and offsets of the bands.
This makes a normal distribution of the styles of all classes (`_plausible`), of which the measured part is given
(Gaussian conditioning).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from geosynth.models.looks import Look, local_statistics

_RANK = 16  # of what differs from tile to tile
_FEW_PIXELS = 500  # of a class: below, it counts as absent
_PIXELS_A_TILE = 400  # of a class in a tile, to count fully
_KNOWN_TILES = 4.0  # as many tiles' weight has the known look's variation
_DRAWS = 4000  # for the moments of gains times styles

# Standard deviations of what light, sensor and season do: of logarithms of gains, and of offsets of values in [-1, 1].
_GAIN, _GAIN_OF_BAND, _GAIN_OF_CLASS = 0.25, 0.2, 0.08
_OFFSET, _OFFSET_OF_BAND, _OFFSET_OF_CLASS = 0.15, 0.2, 0.08
_SPREAD, _DETAIL = 0.1, 0.25
_SHARES = 3.0  # Dirichlet: how sure the shares of the classes are in an image without labels


class TileStyles(NamedTuple):
    """What tiles tell of each class."""

    means: Tensor
    """(tiles, num_classes, style_size): of all pixels of the class in the tile."""
    pixels: Tensor
    """(tiles, num_classes): of the class."""
    products: Tensor
    """(tiles, num_classes, style_size, style_size): sums over pixels of products of deviations from the tile's mean."""

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, num_classes: int, lengths: Sequence[int]) -> Self:
        """Of tiles; arguments as for `local_statistics`."""
        styles, pixels = local_statistics(images, labels, num_classes, lengths)
        styles, pixels = styles.double().flatten(3), pixels.double().flatten(2)
        total = pixels.sum(2)
        means = (styles * pixels.unsqueeze(2)).sum(3) / total.clamp(min=1).unsqueeze(2)
        deviations = styles - means.unsqueeze(3)
        return cls(means, total, (deviations * pixels.unsqueeze(2)) @ deviations.mT)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of all tiles of the parts."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))


def fit_look(tiles: TileStyles, known: Look | None = None) -> Look:
    """The look of labelled tiles.

    Args:
        tiles: of any number.
        known: gives what a class lacks that the tiles hold little of; None: all classes are as they are measured.
    """
    pixels = tiles.pixels.sum(0)
    mean = (tiles.means * tiles.pixels.unsqueeze(2)).sum(0) / pixels.clamp(min=1).unsqueeze(1)
    size = mean.shape[1]
    weights = (tiles.pixels / _PIXELS_A_TILE).clamp(max=1)
    deviations = ((tiles.means - mean) * (weights > 0.05).unsqueeze(2)).flatten(1)
    wide = weights.repeat_interleave(size, 1)
    between = (deviations * wide).T @ (deviations * wide) / (wide.T @ wide + 2)  # shrunk where few tiles hold both
    local = tiles.products.sum(0) / pixels.clamp(min=1)[:, None, None]
    if known is not None:
        present = pixels >= _FEW_PIXELS
        mean = _completed(mean, present, known)
        count = weights.sum(0)
        own = count / (count + _KNOWN_TILES) * present
        # A mixture of both distributions: positive, as each of them is.
        here, there = (value.sqrt().repeat_interleave(size) for value in (own, 1 - own))
        broad = known.broad.double()
        between = between * here[:, None] * here + broad @ broad.T * there[:, None] * there
        local = own[:, None, None] * local + (1 - own)[:, None, None] * _square(known.local.double())
    shares = pixels / pixels.sum().clamp(min=1)
    return Look(mean.float(), _root(between, _RANK).float(), _root(local).float(), shares.float())


def fit_look_unlabelled(tiles: TileStyles, known: Look) -> Look:
    """The look of tiles of which no pixel's class is known: the known one under the light that fits the whole best.

    Args:
        tiles: as if all pixels were of one class.
        known: how the classes differ from one another.
    """
    pixels = tiles.pixels.sum(0)
    found = (tiles.means * tiles.pixels.unsqueeze(2)).sum(0) / pixels.clamp(min=1).unsqueeze(1)
    num_classes, size = known.mean.shape
    bands = (size - 4) // 2
    seen = [*range(bands), 2 * bands, 2 * bands + 1]  # means and detail: what is nearly an average over the classes
    expected, covariance = _plausible(known)
    shares = known.shares.double()
    average = torch.zeros(len(seen), num_classes, size, dtype=torch.float64)
    for row, entry in enumerate(seen):
        average[row, :, entry] = shares
    average = average.flatten(1)
    apart = known.mean.double()[:, seen] - (average @ known.mean.double().flatten())
    unsure = (apart.T * shares) @ apart / (_SHARES + 1)
    seen_covariance = average @ covariance @ average.T + unsure + 1e-4 * torch.eye(len(seen), dtype=torch.float64)
    missed = found[0, seen] - average @ expected
    mean = expected + covariance @ average.T @ torch.linalg.solve(seen_covariance, missed)
    return Look(_bounded(mean, known).float(), known.broad, known.local, known.shares)


def style_range(looks: Sequence[Look]) -> tuple[Tensor, Tensor]:
    """(style_size,) middle and deviation of the styles of all classes in these looks and in plausible other ones."""
    means = torch.cat([look.mean.double() for look in looks])
    variances = [
        _plausible(look)[1].diagonal().view(look.mean.shape).mean(0) + look.local.double().square().sum(2).mean(0)
        for look in looks
    ]
    return means.mean(0).float(), (torch.stack(variances).mean(0) + means.var(0)).sqrt().float()


def _completed(mean: Tensor, present: Tensor, known: Look) -> Tensor:
    """Absent classes by their conditional mean, given the present ones."""
    expected, covariance = _plausible(known)
    given = present.repeat_interleave(mean.shape[1])
    full = torch.where(given, mean.flatten(), 0.0)
    own = covariance[given][:, given] + 1e-4 * torch.eye(int(given.sum()), dtype=torch.float64)
    missed = full[given] - expected[given]
    full[~given] = expected[~given] + covariance[~given][:, given] @ torch.linalg.solve(own, missed)
    return torch.where(present.unsqueeze(1), mean, _bounded(full, known))


def _bounded(mean: Tensor, known: Look) -> Tensor:
    """(num_classes, style_size), with means that an image can have."""
    full = mean.view(known.mean.shape).clone()
    bands = (full.shape[1] - 4) // 2
    full[:, :bands] = full[:, :bands].clamp(-1, 1)
    return full


def _plausible(known: Look) -> tuple[Tensor, Tensor]:
    """Mean, (classes * size,), and covariance of the styles of all classes in places, lights and seasons unseen."""
    rng = torch.Generator().manual_seed(0)
    num_classes, size = known.mean.shape
    bands = (size - 4) // 2

    def normal(*shape: int) -> Tensor:
        return torch.randn((_DRAWS, *shape), generator=rng, dtype=torch.float64)

    own = known.broad.double().view(num_classes, size, -1)
    styles = known.mean.double() + torch.einsum("kdr,nkr->nkd", own, normal(num_classes, own.shape[2]))
    log_gain = _GAIN * normal(1, 1) + _GAIN_OF_BAND * normal(1, bands) + _GAIN_OF_CLASS * normal(num_classes, bands)
    offset = _OFFSET * normal(1, 1) + _OFFSET_OF_BAND * normal(1, bands) + _OFFSET_OF_CLASS * normal(num_classes, bands)
    means, spreads, detail, direction = torch.split(styles, [bands, bands, 2, 2], 2)
    means = log_gain.exp() * means + offset
    spreads = spreads + log_gain + _SPREAD * normal(1, 1)
    detail = detail + log_gain.mean(2, keepdim=True) + _DETAIL * normal(1, 1)
    drawn = torch.cat([means, spreads, detail, direction], 2).flatten(1)
    return drawn.mean(0), torch.cov(drawn.T)


def _square(root: Tensor) -> Tensor:
    return root @ root.mT


def _root(covariance: Tensor, rank: int | None = None) -> Tensor:
    """(..., n, rank) whose square is the covariance, or what of it the largest `rank` directions hold."""
    values, directions = torch.linalg.eigh(covariance)
    values, directions = values.flip(-1).clamp(min=0), directions.flip(-1)
    root: Tensor = directions * values.sqrt().unsqueeze(-2)
    return root[..., :rank].contiguous()
