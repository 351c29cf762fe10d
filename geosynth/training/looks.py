"""Looks in training: the look of the training's own tiles, and images in colours as of places that it has no data of.

A generator conditioned on looks (`TrainSettings.style_lengths`) paints each patch in the styles measured in its real
image. If that image's colours are changed first, the measured styles change with them, and the generator has to learn
the look from the styles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.config import BandSettings, GeneratorSettings
from geosynth.errors import DataError
from geosynth.models.looks.labelled import TileStyles, fit_look
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import local_statistics
from geosynth.models.patterns import one_hot_classes
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tiles import TileView

_MAX_TILES = 400  # more tiles change the look little

# Standard deviations of the changes: logarithms of exponents and gains, and offsets of values in [0, 1].
_GAMMA, _GAMMA_OF_BAND = 0.25, 0.12
_MIXING = 0.07  # of each band with each other band
_GAIN, _GAIN_OF_BAND = 0.15, 0.12
_OFFSET, _OFFSET_OF_BAND = 0.07, 0.06
_CLASS_GAIN, _CLASS_GAIN_OF_BAND = 0.12, 0.05
_CLASS_OFFSET, _CLASS_OFFSET_OF_BAND = 0.04, 0.05
_TEXTURE = 0.3  # weight of numbers for detail and direction; with 1, generators painted hatching
_SOFT_EDGE = 5  # pixels over which the change of one class blends into that of its neighbour


def training_look(
    sources: Sequence[PatchSource],
    fold: str,
    bands: BandSettings,
    settings: GeneratorSettings,
    tile_size: int,
    known: Look | None,
) -> Look:
    """The look of a fold, measured in tiles spread evenly over it; `known` supplies missing classes, see `fit_look`.

    Raises:
        DataError: if there is no such tile.
    """
    parts: list[TileStyles] = []
    views = [TileView(source, fold, tile_size, tile_size, max_nodata=0.5) for source in sources]
    step = max(1, -(-sum(map(len, views)) // _MAX_TILES))
    for view in views:
        for window in view[::step]:
            image, labels = view.source.read_holed(window)
            values = bands.to_network(torch.from_numpy(image).unsqueeze(0))
            classes = torch.from_numpy(labels).long().unsqueeze(0)
            kinds = settings.num_classes, settings.style_lengths, settings.style_regions
            parts.append(TileStyles.of(values, classes, *kinds))
    if not parts:
        raise DataError(
            f"{sources[0].path}: fold {fold!r} has no tile of {tile_size} px to measure a look in; choose smaller crops"
        )
    return fit_look(TileStyles.joined(parts), known, regions=settings.style_regions)


def num_colour_draws(num_classes: int, num_bands: int) -> int:
    """The number of standard normal numbers that `changed_colours` takes for each image."""
    return 3 * (1 + num_bands) + num_bands**2 + 2 * (1 + num_bands) * (num_classes + 1)


def changed_colours(image: Tensor, labels: Tensor, draws: Tensor, num_classes: int) -> Tensor:
    """Images as another sensor, light or season might show them: exponents, casts, gains and offsets, also per class.

    Args:
        image: (B, num_bands, H, W) in [-1, 1].
        labels: (B, H, W) class indices; `num_classes` where there is no class.
        draws: (B, `num_colour_draws`) standard normal; an image whose numbers are all zero is unchanged, except that
            values below a thousandth of the range become that thousandth.
        num_classes: of the labels.

    Returns:
        (B, num_bands, H, W).
    """
    bands, used = image.shape[1], 0

    def normal(*shape: int) -> Tensor:
        nonlocal used
        count = int(np.prod(shape))
        used += count
        return draws[:, used - count : used].view(-1, *shape)

    values = (image + 1) / 2
    gamma = _GAMMA * normal(1, 1, 1) + _GAMMA_OF_BAND * normal(bands, 1, 1)
    values = values.clamp(min=1e-3) ** gamma.exp()
    mixing = torch.eye(bands, device=image.device) + _MIXING * normal(bands, bands)
    values = (mixing @ values.flatten(2)).view_as(values)
    values = values * (_GAIN * normal(1, 1, 1) + _GAIN_OF_BAND * normal(bands, 1, 1)).exp()
    values = values + _OFFSET * normal(1, 1, 1) + _OFFSET_OF_BAND * normal(bands, 1, 1)
    gain = (_CLASS_GAIN * normal(1, num_classes + 1) + _CLASS_GAIN_OF_BAND * normal(bands, num_classes + 1)).exp()
    offset = _CLASS_OFFSET * normal(1, num_classes + 1) + _CLASS_OFFSET_OF_BAND * normal(bands, num_classes + 1)
    maps = one_hot_classes(labels, num_classes + 1, values.dtype)
    reach = _SOFT_EDGE // 2
    maps = F.avg_pool2d(F.pad(maps, (reach,) * 4, mode="replicate"), _SOFT_EDGE, stride=1).flatten(2)
    middle = values.mean((2, 3), keepdim=True)
    values = (values - middle) * (gain @ maps).view_as(values) + middle + (offset @ maps).view_as(values)
    return (2 * values - 1).clamp(-1, 1)


def style_distance(fake: Tensor, labels: Tensor, styles: Tensor, scale: Tensor, settings: GeneratorSettings) -> Tensor:
    """Distance between the styles measured in fakes and those asked for, mean over patches, classes and numbers.

    Args:
        fake: (B, num_bands, H, W) in [-1, 1].
        labels: (B, H, W) class indices.
        styles: the styles asked for, (B, num_classes, style_size, H / 8, W / 8).
        scale: of the numbers of a style, (style_size,).
        settings: of the generator.
    """
    found, pixels = local_statistics(fake, labels, settings.num_classes, settings.style_lengths)
    weights = torch.ones_like(scale)
    weights[2 * settings.num_bands :] = _TEXTURE
    weights = weights / (weights.mean() * scale)
    gaps = ((found - styles) * weights.view(-1, 1, 1)).abs().mean(2)
    count = pixels.sum((2, 3))
    of_class = (gaps * pixels).sum((2, 3)) / count.clamp(min=1)
    return (of_class.sum(1) / (count > 0).sum(1).clamp(min=1)).mean()
