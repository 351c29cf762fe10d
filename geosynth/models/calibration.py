"""What a generator must be asked for so that it paints a look.

Colours far from those of its training are not followed all the way: asked for the pale ground of a desert, a generator
of green places paints it 29 DN too dark. How far off it is can be seen by painting; it is asked for as much more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.models.field import position_noise, style_field
from geosynth.models.generator import SpadeGenerator
from geosynth.models.look_field import look_field
from geosynth.models.looks import STYLE_CELL, Look
from geosynth.models.patterns import one_hot_classes

_ROUNDS = 4
_UNSURE_PIXELS = 1000.0  # of a class: what is seen of them counts half
_BETTER = 0.9  # of what was missed before, else nothing was gained
_MOST = 0.5  # that is asked for more, in values of the network
_GRAIN = 1024.0  # to parts of this: sums differ in their last bits with the number of threads
_APART = 1 << 12  # pixels between tiles, so that each draws a place of its own
_PLACE = 256  # pixels, see `style_field`


def asked_for(look: Look, generator: SpadeGenerator, tiles: Sequence[Tensor]) -> Look:
    """The look with `asked`: what its classes are to be told so that painted ones have its means.

    The shift of each class is minus what was missed with the shift before (a fixed point), as long as that brings it
    nearer. Of classes that the tiles lack, and of what a generator does not follow at all, it is the mean.

    Args:
        look: as measured.
        generator: conditioned on looks.
        tiles: (H, W) class indices each, `num_classes` where there is no class.
    """
    bands = generator.settings.num_bands
    shift = best = torch.zeros_like(look.mean)
    least = torch.full((len(shift), 1), torch.inf)
    for _ in range(_ROUNDS):
        missed = shift.clone()
        missed[:, :bands] += _missed(replace(look, asked=look.mean + shift), generator, tiles)
        off = missed.abs().mean(1, keepdim=True)
        nearer = off < _BETTER * least
        best, least = torch.where(nearer, shift, best), torch.where(nearer, off, least)
        shift = ((shift - missed).clamp(-_MOST, _MOST) * _GRAIN).round() / _GRAIN
    return replace(look, asked=look.mean + best)


def _missed(look: Look, generator: SpadeGenerator, tiles: Sequence[Tensor]) -> Tensor:
    """(num_classes, num_bands): means painted less means drawn, the less the fewer pixels a class has."""
    settings, device = generator.settings, next(generator.parameters()).device
    look = look.to(device)
    count = torch.zeros(settings.num_classes, dtype=torch.float64, device=device)
    total = torch.zeros(settings.num_classes, settings.num_bands, dtype=torch.float64, device=device)
    for number, tile in enumerate(tiles):
        height, width = (side // settings.stride * settings.stride for side in tile.shape)
        if not height or not width:
            continue
        labels = tile[None, :height, :width].to(device)
        place = (0, number * _APART, height, width)
        styles = look_field(settings, look, 0, *place, _PLACE)
        latent = style_field(settings, 0, *place, _PLACE, str(device)) if settings.latent_size else None
        with torch.inference_mode():
            painted = generator(labels, latent, position_noise(settings, 0, *place, str(device)), 0, styles)
        for index, mask in enumerate(one_hot_classes(labels, settings.num_classes, torch.float32)[0]):
            asked = F.interpolate(styles[:, index, : settings.num_bands], scale_factor=STYLE_CELL)[0]
            total[index] += ((painted[0].float() - asked) * mask).sum((1, 2))
            count[index] += mask.sum()
    return (total / (count + _UNSURE_PIXELS).unsqueeze(1)).float().cpu()
