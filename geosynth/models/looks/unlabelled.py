"""The look of an image without labels: its cells are a mixture of classes, found by expectation and maximisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geosynth.models.looks.look import Look
from geosynth.models.looks.missing_bands import of_all_bands, seen_numbers
from geosynth.models.looks.prior import bounded, posterior_mean, style_prior
from geosynth.models.looks.styles import STYLE_CELL, local_statistics, num_bands_of, without_holes

_MAX_CELLS = 4000
_ROUNDS = 40
_CELLS_COUNT = 5.0  # times the classes: effective number of independent cells of an image, as near ones are alike
_OF_A_CELL, _SPREAD_OF_A_CELL, _DETAIL_OF_A_CELL = 0.05, 0.7, 0.25  # deviations of a cell beside those of its class
_KNOWN_CELLS = 100.0  # number of cells that the variation of cells in the known look counts as
_OF_AN_IMAGE = 0.5  # share of the classes' variation from tile to tile, as an image is the mean of several tiles
_SHARES = 0.5  # deviation of the logarithms of shares that are larger than usual, as few images are mostly roads


def cell_styles(image: Tensor, has_data: Tensor) -> Tensor:
    """The style of each whole cell of an image, whatever its classes, (n, style_size) float64.

    Args:
        image: (B, num_bands, H, W) in [-1, 1]; sides multiples of `STYLE_CELL`.
        has_data: (B, H, W) bool; where it is false, images may have NaN.
    """
    styles, pixels = local_statistics(*without_holes(image, (~has_data).long(), 1), 1, (STYLE_CELL,))
    return styles[:, 0].permute(0, 2, 3, 1)[pixels[:, 0] > STYLE_CELL**2 - 1].double()


def fit_look_unlabelled(cells: Tensor, known: Look, bands: Sequence[int] | None = None) -> Look:
    """The look of an image whose classes are unknown.

    Its cells are a mixture of classes. The shares of the classes are free; their styles vary as in the known look,
    around means that are plausible together (`style_prior`). Expectation maximisation (Dempster et al. 1977) finds
    shares and means, in two rounds. The first uses colours and detail, starts from several guesses of the shares, and
    keeps the most likely result. The second continues from there with spreads as well, which distinguish a cell of one
    class from a cell with a road and its surroundings. Only then may a class also vary more or less than in the known
    look (from a bad guess it would grow until it contained everything): bare woods are more mottled than those in
    summer, and parts of them were taken for meadows.

    Args:
        cells: (n, style_size), from `cell_styles`, n > 0.
        known: a look that defines how the classes differ.
        bands: positions of the image's bands, if it lacks some of the known look's.
    """
    num_classes, size = known.mean.shape
    num_bands = num_bands_of(size)
    bands = bands or range(num_bands)
    cells = of_all_bands(cells[torch.linspace(0, len(cells) - 1, min(len(cells), _MAX_CELLS)).long()], bands, known)
    seen = seen_numbers(bands, num_bands)
    numbers = torch.tensor(seen[:-2])  # all but directions, which do not help
    usual = known.shares.double().clamp(min=0.01)
    usual = usual / usual.sum()
    guesses = torch.full((num_classes, num_classes), 0.3 / max(1, num_classes - 1), dtype=torch.float64)
    guesses.fill_diagonal_(0.7)

    mixture = _Mixture(cells, known, torch.cat([numbers[: len(bands)], numbers[-2:]]))
    ends = [mixture.climb(mixture.in_light_of(guess), guess) for guess in (usual, *guesses)]

    def likeliness(end: tuple[float, Tensor, Tensor]) -> float:
        more = (end[2] / usual).log().clamp(min=0) / _SHARES
        return end[0] - 0.5 * float(more.square().sum())

    _, means, shares = max(ends, key=likeliness)
    full = mixture.with_unseen(means)
    mixture = _Mixture(cells, known, numbers)
    _, means, shares = mixture.climb(full[:, mixture.seen], shares, spreads_too=True)
    full = bounded(mixture.with_unseen(means), known)
    pixels = shares * len(cells) * STYLE_CELL**2
    guess = posterior_mean(full, pixels, seen, known)
    full = guess.index_copy(1, torch.tensor(seen), full[:, seen])
    departures = known.departures + (_OF_AN_IMAGE - 1) * known.of_tiles
    return Look(full.float(), departures, shares.float(), around=known.around, edge_effect=known.edge_effect)


class _Mixture:
    """Cells of unknown classes, and the prior.

    Args:
        cells: (n, style_size).
        known: the look that defines what is plausible.
        seen: indices of the d numbers of a style that are used.
    """

    def __init__(self, cells: Tensor, known: Look, seen: Tensor) -> None:
        num_classes, size = known.mean.shape
        bands = num_bands_of(size)
        self.seen, self.cells = seen, cells[:, seen]
        self.all_expected, covariance = style_prior(known, _OF_AN_IMAGE)
        entries = (torch.arange(num_classes).unsqueeze(1) * size + seen).flatten()
        self.expected = self.all_expected[entries].view(num_classes, -1)
        self.covariance = covariance[entries][:, entries] + 1e-5 * torch.eye(len(entries), dtype=torch.float64)
        self.to_all = covariance[:, entries]
        self.certainty = torch.linalg.inv(self.covariance)
        unsure = torch.tensor([_OF_A_CELL] * bands + [_SPREAD_OF_A_CELL] * bands + [_DETAIL_OF_A_CELL] * 2)
        apart = known.departures.double().transpose(0, 1).flatten(1, 2)
        within = apart.mT @ apart / apart.shape[1]
        self.within = within[:, seen][..., seen] + unsure.double()[seen].square().diag()
        self.pseudo_cells = 100 * known.shares.double().clamp(min=0.01)

    def in_light_of(self, shares: Tensor) -> Tensor:
        """Means (num_classes, d) in the light that fits the cells' mean best for these shares."""
        size = len(self.seen)
        average = torch.kron(shares.unsqueeze(0), torch.eye(size, dtype=torch.float64))
        missed = self.cells.mean(0) - shares @ self.expected
        noise = 0.01 * torch.eye(size, dtype=torch.float64)
        step = self.covariance @ average.T @ torch.linalg.solve(average @ self.covariance @ average.T + noise, missed)
        means: Tensor = self.expected + step.view_as(self.expected)
        return means

    def climb(self, means: Tensor, shares: Tensor, *, spreads_too: bool = False) -> tuple[float, Tensor, Tensor]:
        """Iterate from means (num_classes, d) and shares; returns (likelihood, means, shares).

        With `spreads_too`, the variation of a class's cells is estimated as well (with an inverse Wishart prior).
        """
        num_classes, fit, within = len(means), 0.0, self.within
        cells_count = _CELLS_COUNT * num_classes / len(self.cells)
        for _ in range(_ROUNDS):
            apart = self.cells.unsqueeze(1) - means
            sharp = torch.linalg.inv(within)
            distance = torch.einsum("nkd,kde,nke->nk", apart, sharp, apart)
            chances = shares.log() + 0.5 * (torch.logdet(sharp) - distance)
            whole = chances.logsumexp(1)
            fit, of_class = float(whole.mean()), (chances - whole.unsqueeze(1)).exp()
            count = of_class.sum(0)
            if spreads_too:
                scatter = torch.einsum("nk,nkd,nke->kde", of_class, apart, apart)
                weight = _KNOWN_CELLS + cells_count * count.view(-1, 1, 1)
                within = (_KNOWN_CELLS * self.within + cells_count * scatter) / weight
            weights = (cells_count * count).view(-1, 1, 1) * sharp
            found = of_class.T @ self.cells / count.clamp(min=1e-9).unsqueeze(1)
            pull = (weights @ found.unsqueeze(2)).flatten() + self.certainty @ self.expected.flatten()
            sure = self.certainty + torch.block_diag(*weights)  # type: ignore[no-untyped-call]
            means = torch.linalg.solve(sure, pull).view_as(means)
            shares = count + self.pseudo_cells
            shares = shares / shares.sum()
        change = (means - self.expected).flatten()
        return _CELLS_COUNT * num_classes * fit - 0.5 * float(change @ self.certainty @ change), means, shares

    def with_unseen(self, means: Tensor) -> Tensor:
        """(num_classes, style_size): what goes with means (num_classes, d) of what is seen."""
        missed = torch.linalg.solve(self.covariance, (means - self.expected).flatten())
        full: Tensor = (self.all_expected + self.to_all @ missed).view(len(means), -1)
        return full
