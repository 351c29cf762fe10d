"""The look of labelled tiles; missing classes get what is plausible beside the others (see `prior`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from geosynth.models.looks.edge_effect import fitted_edge_effect, of_edges, shares_around, without_edges
from geosynth.models.looks.look import OBJECTS, Look
from geosynth.models.looks.missing_bands import of_all_bands, seen_numbers, with_unseen
from geosynth.models.looks.prior import FEW_PIXELS, posterior_mean
from geosynth.models.looks.regions import region_of_cells
from geosynth.models.looks.styles import local_statistics, num_bands_of, without_holes

_MAX_TILES = 128  # whose styles are kept
_PIXELS_A_TILE = 400  # of a class in a tile, for the tile to count fully
_USUAL = 3.0  # standard deviations; rarer styles are often labelled wrongly
_LIVELY = 1.5  # likewise for spreads and detail, upwards; more comes from edges, and would hatch a large roof
_NOTHING_COMMON = 1e4  # squared deviations between tiles without a common class
_KNOWN_TILES = 4.0  # number of tiles that the known look's variation counts as


class TileStyles(NamedTuple):
    """The styles of each class in tiles."""

    means: Tensor
    """Style of all pixels of the class in the tile, (tiles, num_classes, style_size)."""
    pixels: Tensor
    """Number of pixels of the class, (tiles, num_classes)."""
    objects: Tensor
    """Styles of cells with the class, evenly spread over its pixels, (tiles, num_classes, OBJECTS, style_size)."""
    around: Tensor
    """Share of the class around each of these cells, (tiles, num_classes, OBJECTS)."""

    @classmethod
    def of(
        cls, images: Tensor, labels: Tensor, num_classes: int, lengths: Sequence[int], regions: Sequence[int] = ()
    ) -> Self:
        """Measure tiles.

        Args:
            images: (B, num_bands, H, W) as for `local_statistics`; may have NaN where there is no data.
            labels: likewise, (B, H, W).
            num_classes: of the labels.
            lengths: for each class, the side in pixels of the square in which its style is measured.
            regions: classes whose regions are measured as a whole (those too wide to be painted in one look are not).
        """
        images, labels = without_holes(images, labels, num_classes)
        wholes = {
            number: torch.from_numpy(np.stack([region_of_cells(tile == number) for tile in labels.numpy()]))
            for number in regions
        }
        styles, pixels = local_statistics(images, labels, num_classes, lengths, wholes)
        shares = np.stack([shares_around(tile.numpy(), num_classes) for tile in labels])
        styles, pixels = styles.double().flatten(3), pixels.double().flatten(2)
        total = pixels.sum(2)
        means = (styles * pixels.unsqueeze(2)).sum(3) / total.clamp(min=1).unsqueeze(2)
        parts = (torch.arange(OBJECTS, dtype=torch.float64) + 0.5) / OBJECTS
        cells = torch.searchsorted(pixels.cumsum(2), total.unsqueeze(2) * parts).clamp(max=pixels.shape[2] - 1)
        index = cells.unsqueeze(2).expand(-1, -1, styles.shape[2], -1)
        around = torch.from_numpy(shares).double().flatten(2).gather(2, cells)
        return cls(means, total, styles.gather(3, index).transpose(2, 3), around)

    @property
    def num_tiles(self) -> Tensor:
        """In how many tiles each class is, (num_classes,); with few pixels a tile counts in part."""
        return (self.pixels / _PIXELS_A_TILE).clamp(max=1).sum(0)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The styles of the tiles of all parts."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def of_all_bands(self, bands: Sequence[int], known: Look) -> Self:
        """See `missing_bands.of_all_bands`."""
        means, objects = (of_all_bands(styles, bands, known) for styles in (self.means, self.objects))
        return self._replace(means=means, objects=objects)

    def evenly(self, most: int) -> Self:
        """At most `most` of the tiles, evenly spread."""
        step = -(-len(self.means) // most)
        return type(self)(*(values[::step] for values in self))

    def completed(self) -> tuple[Tensor, Tensor]:
        """`objects` and `around`, redistributed so that pixels count equally: for each class, a tile by its pixels.

        A tile with half of all water lends it to half of the tiles. Tiles get styles from the tiles that are most alike
        in the classes that both have (a linear assignment), as light is common to classes.
        """
        holds = self.pixels >= self.pixels.amax(0).clamp(1, _PIXELS_A_TILE)
        scale = self.means[holds].std(0, correction=0).clamp(min=1e-3)
        both = (holds.unsqueeze(1) & holds).unsqueeze(3)
        apart = ((self.means.unsqueeze(1) - self.means) / scale).square() * both
        unlike = apart.sum((2, 3)) / both.sum((2, 3)).clamp(min=1)
        unlike = torch.where(both.any(3).any(2), unlike, _NOTHING_COMMON)
        full, around = self.objects.clone(), self.around.clone()
        parts = (torch.arange(len(holds), dtype=torch.float64) + 0.5) / len(holds)
        for index, pixels in enumerate(self.pixels.T):
            lenders = torch.searchsorted(pixels.cumsum(0), pixels.sum() * parts).clamp(max=len(holds) - 1)
            borrowers, chosen = linear_sum_assignment(unlike[:, lenders].numpy())
            full[borrowers, index] = self.objects[lenders[chosen], index]
            around[borrowers, index] = self.around[lenders[chosen], index]
        return full, around


def fit_look(
    tiles: TileStyles,
    known: Look | None = None,
    bands: Sequence[int] | None = None,
    regions: Sequence[int] = (),
) -> Look:
    """The look of labelled tiles; with a known look, the edge effect is that one's.

    Args:
        tiles: any number of tiles.
        known: look that defines what is plausible for classes of which the tiles have little or nothing; None to use
            everything as measured.
        bands: positions of the tiles' bands, if they lack some of the known look's.
        regions: classes whose regions have one style each, and so no edge effect.
    """
    if known is not None and bands is not None:
        tiles = tiles.of_all_bands(bands, known)
    pixels = tiles.pixels.sum(0)
    mean = (tiles.means * tiles.pixels.unsqueeze(2)).sum(0) / pixels.clamp(min=1).unsqueeze(1)
    objects, around = tiles.evenly(_MAX_TILES).completed()
    effect = fitted_edge_effect(objects, around, regions) if known is None else known.edge_effect
    explained = torch.zeros_like(objects) if effect is None else of_edges(around, effect.double())
    departures = _usual(objects - explained)
    if known is not None:
        present, count = pixels >= FEW_PIXELS, tiles.num_tiles
        num_bands = num_bands_of(mean.shape[1])
        seen = seen_numbers(bands or range(num_bands), num_bands)
        mean = posterior_mean(mean, pixels, seen, known)
        even, _ = without_edges(known)
        departures = with_unseen(departures, seen, even)
        own = (count / (count + _KNOWN_TILES) * present * len(even.departures)).round()
        departures = _mixture(own, departures, _plausible(even, departures, count / (count + 1), present))
        departures[..., :num_bands] -= departures[..., :num_bands].mean((0, 2), keepdim=True)
        if known.around is not None and effect is not None:
            around = _mixture(own, around, known.around.double())
            # The mean was measured at the shares of the tiles, and is to be that at the shares of the mixture.
            mixed = of_edges(around, effect.double())
            mean = mean + present.unsqueeze(1) * (mixed.mean((0, 2)) - explained.mean((0, 2)))
            explained = mixed
    shares = pixels / pixels.sum().clamp(min=1)
    if effect is None:
        return Look(mean.float(), departures.float(), shares.float())
    departures = departures + (explained - explained.mean((0, 2), keepdim=True))
    return Look(mean.float(), departures.float(), shares.float(), around=around.float(), edge_effect=effect.float())


def _plausible(known: Look, measured: Tensor, sure: Tensor, present: Tensor) -> Tensor:
    """The departures of a known look without edge effect, as far as they are plausible beside measured ones.

    Absent classes have only their mean: the known look's tones, drawn beside a guess, made water red. Variation within
    a tile is limited to what was measured, the more the more tiles there are: even woods had odd flecks.

    Args:
        known: whose departures, (tiles, num_classes, OBJECTS, style_size), to take.
        measured: departures of other tiles.
        sure: how far they limit the variation, from 0 to 1, (num_classes,).
        present: bool, which classes were measured, (num_classes,).
    """
    within = known.departures.double() - known.of_tiles
    ratio = _deviation(measured - measured.mean(2, keepdim=True)) / _deviation(within).clamp(min=1e-6)
    limit = (sure * present).view(-1, 1, 1) * (ratio.clamp(max=1).squeeze(0) - 1)
    return known.of_tiles * present.view(-1, 1, 1) + within * (1 + limit)


def _mixture(counts: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """`others`, (tiles, num_classes, ...), with as many tiles as `counts`, (num_classes,), says replaced by `own`.

    Those of `own` are evenly spread: the first ones over again gave roads of a desert 9 DN more than they have.
    """
    rank = torch.arange(len(others)).unsqueeze(1)
    taken = (rank * len(own)).div(counts.clamp(min=1), rounding_mode="floor").long().clamp(max=len(own) - 1)
    shape = len(others), -1, *[1] * (others.ndim - 2)
    index = taken.view(shape).expand_as(others)
    return torch.where((rank < counts).view(shape), own.gather(0, index), others)


def _usual(styles: Tensor) -> Tensor:
    """Departures for drawing, (tiles, num_classes, OBJECTS, style_size) like the argument.

    Spreads and details far above the mean are reduced; the others are raised until the mean square is as before.
    """
    bands = num_bands_of(styles.shape[-1])
    departures = styles - styles.mean((0, 2), keepdim=True)
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
