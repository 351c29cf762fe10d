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

from geosynth.models.looks import STYLE_CELL, Look, local_statistics

_RANK = 16  # of what differs from tile to tile
_FEW_PIXELS = 500  # of a class: below, it counts as absent
_PIXELS_A_TILE = 400  # of a class in a tile, to count fully
_KNOWN_TILES = 4.0  # as many tiles' weight has the known look's variation
_DRAWS = 4000  # for the moments of gains times styles

# Standard deviations of what light, sensor and season do: of logarithms of gains, and of offsets of values in [-1, 1].
_GAIN, _GAIN_OF_BAND, _GAIN_OF_CLASS = 0.25, 0.2, 0.08
_OFFSET, _OFFSET_OF_BAND, _OFFSET_OF_CLASS = 0.15, 0.2, 0.08
_SPREAD, _DETAIL = 0.1, 0.7  # detail also differs with the size of a pixel

# Of images without labels.
_MAX_CELLS = 4000
_ROUNDS = 40
_CELLS_COUNT = 5.0  # times the classes: as many independent cells has an image, as near ones are alike
_OF_A_CELL, _DETAIL_OF_A_CELL = 0.05, 0.25  # deviations of a cell's numbers beside those of its class


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


def cell_styles(image: Tensor, has_data: Tensor) -> Tensor:
    """(n, style_size) float64: what each whole cell of an image looks like, whatever its classes are.

    Args:
        image: (B, num_bands, H, W) in [-1, 1]; sides multiples of `STYLE_CELL`.
        has_data: (B, H, W) bool.
    """
    styles, pixels = local_statistics(image, (~has_data).long(), 1, (STYLE_CELL,))
    return styles[:, 0].permute(0, 2, 3, 1)[pixels[:, 0] > STYLE_CELL**2 - 1].double()


def fit_look_unlabelled(cells: Tensor, known: Look) -> Look:
    """The look of an image of which no pixel's class is known.

    Its cells are a mixture of classes whose shares are free, and whose styles vary as the known look's do around means
    that are plausible together (`_plausible`). Expectation and maximisation find both (Dempster et al. 1977), from
    several guesses of the shares; the likeliest end is taken.

    Args:
        cells: (n, style_size) as `cell_styles` gives them, n > 0.
        known: how the classes differ from one another.
    """
    num_classes, size = known.mean.shape
    bands = (size - 4) // 2
    seen = torch.tensor(
        [*range(bands), 2 * bands, 2 * bands + 1]
    )  # what does not depend on a square's size: no spreads
    cells = cells[torch.linspace(0, len(cells) - 1, min(len(cells), _MAX_CELLS)).long()][:, seen]
    expected, covariance = _plausible(known)
    entries = (torch.arange(num_classes).unsqueeze(1) * size + seen).flatten()
    own = covariance[entries][:, entries] + 1e-5 * torch.eye(len(entries), dtype=torch.float64)
    within = _square(known.local.double()) + _square(known.broad.double().view(num_classes, size, -1))
    unsure = torch.tensor([_OF_A_CELL] * bands + [_DETAIL_OF_A_CELL] * 2, dtype=torch.float64)
    mixture = _Mixture(
        cells,
        expected[entries].view(num_classes, -1),
        torch.linalg.inv(own),
        torch.linalg.inv(within[:, seen][..., seen] + unsure.square().diag()),
        known.shares.double().clamp(min=0.01),
    )
    guesses = torch.full((num_classes, num_classes), 0.3 / max(1, num_classes - 1), dtype=torch.float64)
    guesses.fill_diagonal_(0.7)
    ends = [mixture.climb(guess / guess.sum(), own) for guess in (known.shares.double().clamp(min=0.01), *guesses)]
    _, means, shares = max(ends, key=lambda end: end[0])
    missed = torch.linalg.solve(own, (means - mixture.expected).flatten())
    full = expected + covariance[:, entries] @ missed
    return Look(_bounded(full, known).float(), known.broad, known.local, shares.float())


class _Mixture(NamedTuple):
    """Cells of classes unknown, and what is known before."""

    cells: Tensor
    """(n, d)."""
    expected: Tensor
    """(num_classes, d): means of the classes."""
    certainty: Tensor
    """(num_classes * d, num_classes * d): inverse covariance of these, of all classes together."""
    within: Tensor
    """(num_classes, d, d): inverse covariances of the cells of each class."""
    shares: Tensor
    """(num_classes,): pseudo-counts, in hundreds, of the shares."""

    def climb(self, shares: Tensor, covariance: Tensor) -> tuple[float, Tensor, Tensor]:
        """(how likely it ends, means, shares), from a guess of the shares and the light that fits the whole best."""
        num_classes, size = self.expected.shape
        average = torch.kron(shares.unsqueeze(0), torch.eye(size, dtype=torch.float64))
        missed = self.cells.mean(0) - shares @ self.expected
        noise = 0.01 * torch.eye(size, dtype=torch.float64)
        step = covariance @ average.T @ torch.linalg.solve(average @ covariance @ average.T + noise, missed)
        means, fit = self.expected + step.view_as(self.expected), 0.0
        for _ in range(_ROUNDS):
            apart = self.cells.unsqueeze(1) - means
            distance = torch.einsum("nkd,kde,nke->nk", apart, self.within, apart)
            chances = shares.log() + 0.5 * (torch.logdet(self.within) - distance)
            whole = chances.logsumexp(1)
            fit, of_class = float(whole.mean()), (chances - whole.unsqueeze(1)).exp()
            count = of_class.sum(0)
            weights = (_CELLS_COUNT * num_classes * count / len(self.cells)).view(-1, 1, 1) * self.within
            found = of_class.T @ self.cells / count.clamp(min=1e-9).unsqueeze(1)
            pull = (weights @ found.unsqueeze(2)).flatten() + self.certainty @ self.expected.flatten()
            known = self.certainty + torch.block_diag(*weights)  # type: ignore[no-untyped-call]
            means = torch.linalg.solve(known, pull).view_as(means)
            shares = count + 100 * self.shares
            shares = shares / shares.sum()
        change = (means - self.expected).flatten()
        return _CELLS_COUNT * num_classes * fit - 0.5 * float(change @ self.certainty @ change), means, shares


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
