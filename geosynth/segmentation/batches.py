"""Batches of train tiles, cropped and augmented: each a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geosynth.config import BandSettings, SegmentSettings
from geosynth.patches.transforms import NetworkScaling, random_dihedral
from geosynth.raster.read import Array
from geosynth.segmentation.data import CoarseTiles, TileSet

Batch = dict[str, Tensor]

_FINE, _COARSE, _CHANGES = range(3)  # separate streams of random numbers
_CONTRAST = 0.2
_BRIGHTNESS = 0.1


class Batches:
    """Train batches, for use by several threads.

    Every tile occurs once before any occurs again, in a new random order each time. A batch has `image` (B, bands, N,
    N) float32 in [-1, 1] and `mask` (B, N, N) int64 class indices; with coarse tiles also `coarse_image` and
    `coarse_mask`, as many, with coarse class indices.

    Args:
        tiles: with class labels.
        coarse: tiles with coarse labels, or None.
        bands: how raster values map to [-1, 1].
        settings: batch size, crops, augmentation, seed.
    """

    def __init__(
        self, tiles: TileSet, coarse: CoarseTiles | None, bands: BandSettings, settings: SegmentSettings
    ) -> None:
        self.tiles, self.coarse, self.settings = tiles, coarse, settings
        self._scaling = NetworkScaling(bands)
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        batch = self._part(self.tiles, step, _FINE)
        if self.coarse is not None:
            part = self._part(self.coarse, step, _COARSE)
            batch |= {"coarse_image": part["image"], "coarse_mask": part["mask"]}
        return batch

    def _part(self, tiles: Sequence[tuple[Array, Array]], step: int, stream: int) -> Batch:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, _CHANGES, stream, step])
        images, masks = [], []
        for position in range(step * settings.batch_size, (step + 1) * settings.batch_size):
            turn, place = divmod(position, len(tiles))
            image, mask = tiles[int(self._order(stream, turn, len(tiles))[place])]
            if settings.crop_size is not None:
                row, column = rng.integers(0, settings.tile_size - settings.crop_size, 2, endpoint=True)
                rows, columns = slice(row, row + settings.crop_size), slice(column, column + settings.crop_size)
                image, mask = image[:, rows, columns], mask[rows, columns]
            images.append(image)
            masks.append(mask)
        batch = self._scaling({"image": torch.from_numpy(np.stack(images)), "mask": torch.from_numpy(np.stack(masks))})
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        pixels, labels = augment(batch["image"].nan_to_num_(0), batch["mask"], settings.augment, draws)
        return {"image": pixels.contiguous(memory_format=torch.channels_last), "mask": labels}

    def _shuffled(self, stream: int, turn: int, count: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.settings.seed, stream, turn]).permutation(count)


def augment(image: Tensor, mask: Tensor, how: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change each sample of a batch at random.

    Args:
        image: (B, bands, N, N) in [-1, 1].
        mask: (B, N, N).
        how: "none"; "flips": one of the eight symmetries of the square, the same for image and mask; "flips+colour":
            also all values, counted from the low end of their range, times 0.8 to 1.2 and plus -0.1 to 0.1 of the
            range. The change is the same for all bands of an image, like one of light or exposure, so that near
            infrared keeps its relation to red, which distinguishes vegetation.
        rng: random number generator.

    Returns:
        image and mask in the same shapes; images stay in [-1, 1].
    """
    if how == "none":
        return image, mask
    image, mask = random_dihedral(image, mask, rng)
    if how == "flips+colour":
        contrast, brightness = (2 * torch.rand((2, len(image)), generator=rng) - 1)[..., None, None, None]
        unit = ((image + 1) / 2 * (1 + _CONTRAST * contrast)).clamp(0, 1)
        image = 2 * (unit + _BRIGHTNESS * brightness).clamp(0, 1) - 1
    return image, mask
