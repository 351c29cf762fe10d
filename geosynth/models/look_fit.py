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
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from geosynth.models.looks import OBJECTS, STYLE_CELL, Look, local_statistics, num_bands_of
from geosynth.models.missing_bands import of_all_bands, seen_numbers, with_unseen

_MAX_TILES = 128  # whose styles are kept
_FEW_PIXELS = 500  # of a class: below, it counts as absent
_UNSURE_PIXELS = 1500  # of a class: their mean is as far off as tiles differ
_PIXELS_A_TILE = 400  # of a class in a tile, to count fully and to be looked at
_USUAL = 3.0  # standard deviations: what is rarer is often labelled wrongly
_LIVELY = 1.5  # likewise of spreads and detail, upwards: more comes of edges, and would hatch a large roof
_NOTHING_COMMON = 1e4  # squared deviations: between tiles without a class in common
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
_OF_A_CELL, _SPREAD_OF_A_CELL, _DETAIL_OF_A_CELL = 0.05, 0.7, 0.25  # deviations of a cell beside those of its class
_KNOWN_CELLS = 100.0  # as many cells' weight has how cells of a class vary in the known look
_OF_AN_IMAGE = 0.5  # of what classes do each by itself from tile to tile: an image is the mean of several
_SHARES = 0.5  # deviation of the logarithms of shares that are larger than usual: few images are mostly roads


class TileStyles(NamedTuple):
    """What tiles tell of each class."""

    means: Tensor
    """(tiles, num_classes, style_size): of all pixels of the class in the tile."""
    pixels: Tensor
    """(tiles, num_classes): of the class."""
    objects: Tensor
    """(tiles, num_classes, OBJECTS, style_size): styles of cells that hold the class, spread evenly over its pixels."""

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, num_classes: int, lengths: Sequence[int]) -> Self:
        """What tiles tell; arguments as for `local_statistics`."""
        styles, pixels = local_statistics(images, labels, num_classes, lengths)
        styles, pixels = styles.double().flatten(3), pixels.double().flatten(2)
        total = pixels.sum(2)
        means = (styles * pixels.unsqueeze(2)).sum(3) / total.clamp(min=1).unsqueeze(2)
        parts = (torch.arange(OBJECTS, dtype=torch.float64) + 0.5) / OBJECTS
        cells = torch.searchsorted(pixels.cumsum(2), total.unsqueeze(2) * parts).clamp(max=pixels.shape[2] - 1)
        index = cells.unsqueeze(2).expand(-1, -1, styles.shape[2], -1)
        return cls(means, total, styles.gather(3, index).transpose(2, 3))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """What the tiles of all parts tell."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def of_all_bands(self, bands: Sequence[int], known: Look) -> Self:
        """See `missing_bands.of_all_bands`."""
        means, objects = (of_all_bands(styles, bands, known) for styles in (self.means, self.objects))
        return type(self)(means, self.pixels, objects)

    def evenly(self, most: int) -> Self:
        """Some of the tiles, where there are more than so many."""
        step = -(-len(self.means) // most)
        return type(self)(*(values[::step] for values in self))

    def completed(self) -> Tensor:
        """`objects`, dealt anew so that pixels count alike: a tile's, of each class, in the ratio of its pixels.

        A tile that holds half of all water lends it to half of the tiles. To which: all together are as like as can be
        to the tiles that lend to them, in what both hold (a linear assignment), as light is common to classes.
        """
        holds = self.pixels >= self.pixels.amax(0).clamp(1, _PIXELS_A_TILE)
        scale = self.means[holds].std(0, correction=0).clamp(min=1e-3)
        both = (holds.unsqueeze(1) & holds).unsqueeze(3)
        apart = ((self.means.unsqueeze(1) - self.means) / scale).square() * both
        unlike = apart.sum((2, 3)) / both.sum((2, 3)).clamp(min=1)
        unlike = torch.where(both.any(3).any(2), unlike, _NOTHING_COMMON)
        full = self.objects.clone()
        parts = (torch.arange(len(holds), dtype=torch.float64) + 0.5) / len(holds)
        for index, pixels in enumerate(self.pixels.T):
            lenders = torch.searchsorted(pixels.cumsum(0), pixels.sum() * parts).clamp(max=len(holds) - 1)
            borrowers, chosen = linear_sum_assignment(unlike[:, lenders].numpy())
            full[borrowers, index] = self.objects[lenders[chosen], index]
        return full


def fit_look(tiles: TileStyles, known: Look | None = None, bands: Sequence[int] | None = None) -> Look:
    """The look of labelled tiles.

    Args:
        tiles: of any number.
        known: tells what is plausible where the tiles hold little or nothing of a class; None: all are as measured.
        bands: numbers of the bands that the tiles have, if they lack some of the known look's.
    """
    if known is not None and bands is not None:
        tiles = tiles.of_all_bands(bands, known)
    pixels = tiles.pixels.sum(0)
    mean = (tiles.means * tiles.pixels.unsqueeze(2)).sum(0) / pixels.clamp(min=1).unsqueeze(1)
    count = (tiles.pixels / _PIXELS_A_TILE).clamp(max=1).sum(0)
    tiles = tiles.evenly(_MAX_TILES)
    departures = _usual(tiles.completed() - mean.unsqueeze(1))
    if known is not None:
        present = pixels >= _FEW_PIXELS
        num_bands = num_bands_of(mean.shape[1])
        seen = seen_numbers(bands or range(num_bands), num_bands)
        mean = _most_plausible(mean, pixels, _measured(present, seen, mean), known)
        departures = with_unseen(departures, seen, known)
        # Absent classes keep to their mean: drawn beside a guess, the known look's tones made water red. What varies
        # within a tile is held to what was measured, the more tiles the nearer: even woods were flecked with odd tones.
        within = known.departures.double() - known.of_tiles
        measured = departures - departures.mean(2, keepdim=True)
        ratio = (_deviation(measured) / _deviation(within).clamp(min=1e-6)).clamp(max=1)
        sure = (count / (count + 1) * present).view(-1, 1, 1)
        others = known.of_tiles * present.view(-1, 1, 1) + within * (1 + sure * (ratio.squeeze(0) - 1))
        rank = torch.arange(len(others))
        own = rank.unsqueeze(1) < (count / (count + _KNOWN_TILES) * present * len(others)).round()
        departures = torch.where(own[..., None, None], departures[rank % len(departures)], others)
    shares = pixels / pixels.sum().clamp(min=1)
    return Look(mean.float(), departures.float(), shares.float())


def _usual(departures: Tensor) -> Tensor:
    """Departures as they are drawn: (tiles, num_classes, OBJECTS, style_size), as all of these.

    No spread or detail is far above the mean; the others are raised until the mean of their squares is as it was.
    """
    bands = num_bands_of(departures.shape[-1])
    departures = departures - departures.mean((0, 2), keepdim=True)
    deviation = _deviation(departures)
    departures = departures.clamp(-_USUAL * deviation, _USUAL * deviation)
    logarithms, most = departures[..., bands:-2], _LIVELY * deviation[..., bands:-2]

    def square(values: Tensor) -> Tensor:
        return (2 * values).exp().mean((0, 2), keepdim=True)

    low, high = torch.zeros_like(most), most
    for _ in range(20):  # halves what is between
        middle = (low + high) / 2
        enough = square((logarithms + middle).minimum(most)) > square(logarithms)
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.cat([departures[..., :bands], (logarithms + low).minimum(most), departures[..., -2:]], -1)


def _deviation(departures: Tensor) -> Tensor:
    """(1, num_classes, 1, style_size)."""
    return departures.std((0, 2), correction=0, keepdim=True)


def cell_styles(image: Tensor, has_data: Tensor) -> Tensor:
    """(n, style_size) float64: what each whole cell of an image looks like, whatever its classes are.

    Args:
        image: (B, num_bands, H, W) in [-1, 1]; sides multiples of `STYLE_CELL`.
        has_data: (B, H, W) bool.
    """
    styles, pixels = local_statistics(image, (~has_data).long(), 1, (STYLE_CELL,))
    return styles[:, 0].permute(0, 2, 3, 1)[pixels[:, 0] > STYLE_CELL**2 - 1].double()


def fit_look_unlabelled(cells: Tensor, known: Look, bands: Sequence[int] | None = None) -> Look:
    """The look of an image of which no pixel's class is known.

    Its cells are a mixture of classes whose shares are free, and whose styles vary as the known look's do around means
    that are plausible together (`_plausible`). Expectation and maximisation find both (Dempster et al. 1977): first by
    colours and detail, from several guesses of the shares, of which the likeliest end is taken; then from there by
    spreads as well, which tell a cell of one class from one of a road and what lies beside it. There, a class may also
    vary more or less than the known one does: bare woods are mottled as summer's are not, and were taken for meadows in
    parts. (Not before: from a bad guess it would grow until it holds everything.)

    Args:
        cells: (n, style_size) as `cell_styles` gives them, n > 0.
        known: how the classes differ from one another.
        bands: numbers of the bands that the image has, if it lacks some of the known look's.
    """
    num_classes, size = known.mean.shape
    num_bands = num_bands_of(size)
    bands = bands or range(num_bands)
    cells = of_all_bands(cells[torch.linspace(0, len(cells) - 1, min(len(cells), _MAX_CELLS)).long()], bands, known)
    seen = seen_numbers(bands, num_bands)
    numbers = torch.tensor(seen[:-2])  # all but directions, which tell nothing
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
    full = _bounded(mixture.with_unseen(means), known)
    pixels = shares * len(cells) * STYLE_CELL**2
    guess = _most_plausible(full, pixels, _measured(pixels >= _FEW_PIXELS, seen, full), known)
    full = guess.index_copy(1, torch.tensor(seen), full[:, seen])
    departures = known.departures + (_OF_AN_IMAGE - 1) * known.of_tiles
    return Look(full.float(), departures, shares.float())


class _Mixture:
    """Cells of classes unknown, and what is known before.

    Args:
        cells: (n, style_size).
        known: the look that tells what is plausible.
        seen: the d numbers of a style that count.
    """

    def __init__(self, cells: Tensor, known: Look, seen: Tensor) -> None:
        num_classes, size = known.mean.shape
        bands = num_bands_of(size)
        self.seen, self.cells = seen, cells[:, seen]
        self.all_expected, covariance = _plausible(known, _OF_AN_IMAGE)
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
        """(num_classes, d) means, in the light that fits the cells' mean best if these are the shares."""
        size = len(self.seen)
        average = torch.kron(shares.unsqueeze(0), torch.eye(size, dtype=torch.float64))
        missed = self.cells.mean(0) - shares @ self.expected
        noise = 0.01 * torch.eye(size, dtype=torch.float64)
        step = self.covariance @ average.T @ torch.linalg.solve(average @ self.covariance @ average.T + noise, missed)
        means: Tensor = self.expected + step.view_as(self.expected)
        return means

    def climb(self, means: Tensor, shares: Tensor, *, spreads_too: bool = False) -> tuple[float, Tensor, Tensor]:
        """(how likely it ends, means, shares), from some means (num_classes, d) and shares.

        With `spreads_too`, how the cells of a class vary is found as well (an inverse Wishart distribution of it).
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


def style_range(looks: Sequence[Look]) -> tuple[Tensor, Tensor]:
    """(style_size,) middle and deviation of the styles of all classes in these looks and in plausible other ones."""
    means = torch.cat([look.mean.double() for look in looks])
    variances = [
        _plausible(look)[1].diagonal().view(look.mean.shape).mean(0)
        + (look.departures - look.of_tiles).double().square().mean((0, 1, 2))
        for look in looks
    ]
    between = means.var(0, correction=min(1, len(means) - 1))  # none of a single class
    return means.mean(0).float(), (torch.stack(variances).mean(0) + between).sqrt().float()


def _measured(present: Tensor, seen: Sequence[int], mean: Tensor) -> Tensor:
    """Which numbers of `mean` are measured: of the present classes, (num_classes,), those that are seen."""
    measured = torch.zeros(mean.shape, dtype=torch.bool)
    measured[:, seen] = present.unsqueeze(1)
    return measured


def _most_plausible(mean: Tensor, pixels: Tensor, measured: Tensor, known: Look) -> Tensor:
    """(num_classes, style_size): the conditional mean of the styles of all classes, given what was measured of some.

    What few pixels say is as far off as tiles differ, and counts the less: classes that one tile holds are 8.4 DN off
    instead of 9.6, those of four 5.0 instead of 5.6 (Ohio in other colours). The less all is as expected, the less is
    measured drawn to it.

    Colours are told by colours alone: spreads differ with the size of a pixel too, and a light that was to explain
    both made roads lavender and water violet. (Hidden classes of West Virginia are guessed 12 DN off, not 23.)

    Args:
        mean: (num_classes, style_size) as measured.
        pixels: (num_classes,) that this rests on.
        measured: (num_classes, style_size), what of it was.
        known: tells what is plausible.
    """
    expected, covariance = _plausible(known)
    colours = (torch.arange(mean.shape[1]) < num_bands_of(mean.shape[1])).repeat(len(mean))
    measured = measured.flatten()
    apart = known.of_tiles.double().squeeze(2)
    apart = (apart - apart.mean(0)) * (_UNSURE_PIXELS / pixels.clamp(min=1)).sqrt().unsqueeze(1)
    errors = torch.block_diag(*(one.mT @ one / len(apart) for one in apart.unbind(1)))  # type: ignore[no-untyped-call]
    errors += 1e-4 * torch.eye(len(errors), dtype=torch.float64)
    full = mean.flatten()
    for given, wanted in ((measured & colours, colours), (measured, ~colours)):
        surprise, sure = mean.flatten()[given] - expected[given], covariance[given][:, given]
        light = torch.linalg.solve(sure + errors[given][:, given], surprise)
        stranger = max(1.0, float(surprise @ light) / max(1, len(light)))
        light = torch.linalg.solve(stranger * sure + errors[given][:, given], surprise)
        full = torch.where(wanted, expected + stranger * covariance[:, given] @ light, full)
    return _bounded(full, known)


def _bounded(mean: Tensor, known: Look) -> Tensor:
    """(num_classes, style_size), with means that an image can have."""
    full = mean.view(known.mean.shape).clone()
    bands = num_bands_of(full.shape[1])
    full[:, :bands] = full[:, :bands].clamp(-1, 1)
    return full


def _plausible(known: Look, apart: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean, (classes * size,), and covariance of the styles of all classes in places, lights and seasons unseen.

    Args:
        known: the look of one place.
        apart: how much counts what each class does by itself.
    """
    rng = torch.Generator().manual_seed(0)
    num_classes, size = known.mean.shape
    bands = num_bands_of(size)

    def normal(*shape: int) -> Tensor:
        return torch.randn((_DRAWS, *shape), generator=rng, dtype=torch.float64)

    def change(of_all: float, of_band: float, of_class: float) -> Tensor:
        return of_all * normal(1, 1) + of_band * normal(1, bands) + of_class * (apart * normal(num_classes, bands))

    tiles = torch.randint(len(known.departures), (_DRAWS, num_classes), generator=rng)
    own = known.of_tiles.squeeze(2).double()[tiles, torch.arange(num_classes)]
    styles = known.mean.double() + apart * own
    log_gain = change(_GAIN, _GAIN_OF_BAND, _GAIN_OF_CLASS)
    offset = change(_OFFSET, _OFFSET_OF_BAND, _OFFSET_OF_CLASS)
    means, spreads, detail, direction = torch.split(styles, [bands, bands, 2, 2], 2)
    means = log_gain.exp() * means + offset
    spreads = spreads + log_gain + _SPREAD * normal(1, 1)
    detail = detail + log_gain.mean(2, keepdim=True) + _DETAIL * normal(1, 1)
    drawn = torch.cat([means, spreads, detail, direction], 2).flatten(1)
    return drawn.mean(0), torch.cov(drawn.T)
