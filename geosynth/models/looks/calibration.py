"""What a generator must be asked for so that it paints a given look.

Generators do not follow colours far from those of their training completely: asked for the pale ground of a desert, a
generator trained on green places paints it 29 DN too dark. The difference is measured by painting, and added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.models.field import latent_field, position_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.field import look_field
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import STYLE_CELL
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.patterns import one_hot_classes
from geosynth.models.process_settings import full_float32
from geosynth.models.windows import Windows

_ROUNDS = 4
_UNSURE_PIXELS = 1000.0  # of a class; a difference measured in so many pixels counts half
_BETTER = 0.9  # of the previous difference; else nothing is gained
_MOST = 0.5  # largest addition, in values of the network
_GRAIN = 1024.0  # rounding, to parts of 1 / 1024, as last bits of sums depend on the number of threads
_APART = 1 << 12  # pixels between tiles, so that each draws its own place
_PLACE = 256  # pixels, see `latent_field`


def asked_for(look: Look, generator: SpadeGenerator, tiles: Sequence[Tensor]) -> Look:
    """The look with `asked`: the means to ask for so that the painted classes have the look's means.

    The shift of each class is corrected by the remaining difference (a fixed-point iteration) as long as that improves
    it. For classes that the tiles lack, and if the generator does not follow at all, `asked` is the mean itself.

    Args:
        look: as measured.
        generator: conditioned on looks.
        tiles: class indices of each tile, (H, W); `num_classes` where there is no class.
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
    """Painted means minus drawn means, (num_classes, num_bands), reduced for classes with few pixels."""
    settings, device = generator.settings, next(generator.parameters()).device
    look = look.to(device)
    count = torch.zeros(settings.num_classes, dtype=torch.float64, device=device)
    total = torch.zeros(settings.num_classes, settings.num_bands, dtype=torch.float64, device=device)
    for number, tile in enumerate(tiles):
        height, width = (side // settings.stride * settings.stride for side in tile.shape)
        if not height or not width:
            continue
        labels = tile[None, :height, :width].to(device)
        window = Windows.at(0, number * _APART, height, width, device)
        around = Surroundings.of_tile(labels[0].cpu().numpy(), settings)
        ways, shares = (torch.from_numpy(values).unsqueeze(0).to(device) for values in around)
        styles = look_field(settings, look, 0, window, _PLACE, ways, shares)
        latent = latent_field(settings, 0, window, _PLACE) if settings.latent_size else None
        with full_float32(), torch.inference_mode():
            painted = generator(labels, latent, position_noise(settings, 0, window), 0, styles)
        for index, mask in enumerate(one_hot_classes(labels, settings.num_classes, torch.float32)[0]):
            asked = F.interpolate(styles[:, index, : settings.num_bands], scale_factor=STYLE_CELL)[0]
            total[index] += ((painted[0].float() - asked) * mask).sum((1, 2))
            count[index] += mask.sum()
    return (total / (count + _UNSURE_PIXELS).unsqueeze(1)).float().cpu()
