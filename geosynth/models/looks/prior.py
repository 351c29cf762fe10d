"""The prior distribution of the styles of all classes, given a known look: it completes what an image lacks.

The classes of the known look (the model's first) vary separately from tile to tile, and all together with light, sensor
and season, which act as gains and offsets of the bands. This gives a normal distribution of the styles of all classes.
The part that was measured in an image is given, and the rest follows (Gaussian conditioning).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import num_bands_of

FEW_PIXELS = 500
"""Pixels of a class in an image; with fewer, it counts as absent."""
_UNSURE_PIXELS = 1500  # of a class; the error of their mean is about the difference between tiles
_DRAWS = 4000  # for the moments of gains times styles

# Standard deviations of the effects of light, sensor and season: of logarithms of gains, and of offsets in [-1, 1].
_GAIN, _GAIN_OF_BAND, _GAIN_OF_CLASS = 0.25, 0.2, 0.08
_OFFSET, _OFFSET_OF_BAND, _OFFSET_OF_CLASS = 0.15, 0.2, 0.08
_SPREAD, _DETAIL = 0.1, 0.7  # detail also differs with the size of a pixel


def style_prior(known: Look, apart: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean, (num_classes * style_size,), and covariance of the styles of all classes in unseen places and seasons.

    Args:
        known: the look of one place.
        apart: weight of the classes' separate variation; 1 for a tile, less for the mean of several.
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


def posterior_mean(mean: Tensor, pixels: Tensor, seen: Sequence[int], known: Look) -> Tensor:
    """The mean styles of all classes, given measurements of some of them, (num_classes, style_size).

    The error of a mean over few pixels is about the difference between tiles, so it counts for less: the error of
    classes that occur in one tile is 8.4 DN instead of 9.6, of those in four tiles 5.0 instead of 5.6 (Ohio in other
    colours). The further all measurements are from what is expected, the less they are pulled towards it.

    Colours are inferred only from colours: spreads also depend on pixel size, and light that had to explain both made
    roads lavender and water violet. (The error of hidden classes of West Virginia is 12 DN instead of 23.)

    Args:
        mean: (num_classes, style_size) as measured.
        pixels: (num_classes,) number of measured pixels; a class with fewer than `FEW_PIXELS` counts as not measured.
        seen: indices of the style's numbers that the image shows (`missing_bands.seen_numbers`).
        known: the look that defines what is plausible.
    """
    measured = torch.zeros(mean.shape, dtype=torch.bool)
    measured[:, seen] = (pixels >= FEW_PIXELS).unsqueeze(1)
    expected, covariance = style_prior(known)
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
    return bounded(full, known)


def bounded(mean: Tensor, known: Look) -> Tensor:
    """Styles (num_classes, style_size), with means limited to those that an image can have."""
    full = mean.view(known.mean.shape).clone()
    bands = num_bands_of(full.shape[1])
    full[:, :bands] = full[:, :bands].clamp(-1, 1)
    return full


def style_range(looks: Sequence[Look]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (style_size,) of the styles of all classes in these looks and in other plausible ones."""
    means = torch.cat([look.mean.double() for look in looks])
    variances = [
        style_prior(look)[1].diagonal().view(look.mean.shape).mean(0)
        + (look.departures - look.of_tiles).double().square().mean((0, 1, 2))
        for look in looks
    ]
    between = means.var(0, correction=min(1, len(means) - 1))  # none of a single class
    return means.mean(0).float(), (torch.stack(variances).mean(0) + between).sqrt().float()
