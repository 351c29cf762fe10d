"""Styles of images that lack bands of the model, as a photograph lacks near infrared, completed by a known look.

`style_prior` gives plausible means and spreads of a missing band. This module does the rest: the order of a style's
numbers, the amount of detail over all bands, and the variation of single objects in unseen numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import num_bands_of


def seen_numbers(bands: Sequence[int], num_bands: int) -> list[int]:
    """Indices, in a style of `num_bands` bands, of the numbers of an image that has only `bands`."""
    return [*bands, *(num_bands + band for band in bands), *range(2 * num_bands, 2 * num_bands + 4)]


def of_all_bands(styles: Tensor, bands: Sequence[int], known: Look) -> Tensor:
    """Styles of images with only `bands`, (..., 2 * len(bands) + 4), as (..., style_size); unseen numbers are 0.

    Detail is a mean over bands. That of a missing band is assumed to be in proportion to the known look's spread.
    """
    size = known.mean.shape[1]
    num_bands = num_bands_of(size)
    full = styles.new_zeros(*styles.shape[:-1], size)
    full[..., seen_numbers(bands, num_bands)] = styles
    variance = known.shares.double() @ (2 * known.mean[:, num_bands : 2 * num_bands].double()).exp()
    full[..., -4:-2] += 0.5 * (variance.mean() / variance[list(bands)].mean()).log()
    return full


def with_unseen(departures: Tensor, seen: Sequence[int], known: Look) -> Tensor:
    """Departures, (tiles, num_classes, objects, style_size), with unseen numbers from similar objects.

    These are the objects of the same class in the known look that are most alike in the numbers that are seen.
    """
    if len(seen) == departures.shape[-1]:
        return departures
    own, others = (values.double().transpose(0, 1) for values in (departures, known.departures))
    scale = others.std((1, 2), correction=0).clamp(min=1e-3)[:, seen].unsqueeze(1)
    apart = torch.cdist(own.flatten(1, 2)[..., seen] / scale, others.flatten(1, 2)[..., seen] / scale)
    nearest = apart.argmin(2).unsqueeze(2).expand(-1, -1, others.shape[-1])
    full = others.flatten(1, 2).gather(1, nearest)
    full = (full - full.mean(1, keepdim=True)).view(own.shape)
    full[..., seen] = own[..., seen]
    return full.transpose(0, 1)
