"""What is done to batches: scaling for the network, flips and turns."""

from __future__ import annotations

import numpy as np
import torch

from geosynth.config import BandSettings
from geosynth.patches.dataset import Sample


class NetworkScaling:
    """Scales the image of a sample or batch to [-1, 1] float32; the mask becomes int64.

    `BandSettings.from_network` is the inverse; the settings travel in the model's file, so that `generate` writes the
    imagery's own units.
    """

    def __init__(self, bands: BandSettings) -> None:
        self.scale = torch.tensor(bands.scale).reshape(-1, 1, 1)
        self.shift = torch.tensor(bands.shift).reshape(-1, 1, 1)

    def __call__(self, sample: Sample) -> Sample:
        """The sample with image values in the network's range; the image is (..., bands, height, width)."""
        image = sample["image"]
        if self.scale.device != image.device:  # once: the copy waits for the device
            self.scale, self.shift = self.scale.to(image.device), self.shift.to(image.device)
        if image.device.type != "cpu":
            scaled = self._in_place(image.to(torch.float32, copy=True))
        else:
            # Numpy makes the room, with huge pages: torch's page faults took most of the time. And image after image,
            # for one stays in the processor's cache.
            scaled = torch.from_numpy(np.empty(image.shape, dtype=np.float32))
            shape = (-1, *image.shape[-3:])
            for one, into in zip(image.reshape(shape), scaled.view(shape), strict=True):
                self._in_place(into.copy_(one))
        return {**sample, "image": scaled, "mask": sample["mask"].long()}

    def _in_place(self, values: torch.Tensor) -> torch.Tensor:
        """`BandSettings.to_network` of floats."""
        return values.mul_(self.scale).add_(self.shift).clamp_(-1, 1)


def random_dihedral(image: torch.Tensor, mask: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn and flip each sample of a batch by one of the eight symmetries of the square, image and mask alike.

    Args:
        image: (B, C, N, N).
        mask: (B, N, N).
        rng: draws one symmetry a sample.
    """
    images, masks = [], []
    for one_image, one_mask, choice in zip(image, mask, torch.randint(8, (len(image),), generator=rng), strict=True):
        turns, flip = int(choice) % 4, int(choice) >= 4
        pair = [torch.rot90(value, turns, dims=(-2, -1)) for value in (one_image, one_mask)]
        pair = [value.flip(-1) for value in pair] if flip else pair
        images.append(pair[0])
        masks.append(pair[1])
    return torch.stack(images), torch.stack(masks)
