"""Changes of batches: scaling for the network, flips and rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geosynth.config import BandSettings
from geosynth.patches.dataset import Sample


class NetworkScaling:
    """Scales the image of a sample or batch to [-1, 1] float32; the mask becomes int64.

    `BandSettings.from_network` is the inverse. The model file contains the settings, so that `generate` writes values
    like those of the training imagery.
    """

    def __init__(self, bands: BandSettings) -> None:
        self.scale = torch.tensor(bands.scale).reshape(-1, 1, 1)
        self.shift = torch.tensor(bands.shift).reshape(-1, 1, 1)

    def __call__(self, sample: Sample) -> Sample:
        """The sample, with its image (..., bands, height, width) scaled to the network's range."""
        image, mask = sample["image"], sample["mask"]
        if image.device.type == "cpu":
            image, mask = torch.from_numpy(self._on_cpu(image.numpy())), torch.from_numpy(mask.numpy().astype(np.int64))
            return {**sample, "image": image, "mask": mask}
        if self.scale.device != image.device:  # only once, as the copy waits for the device
            self.scale, self.shift = self.scale.to(image.device), self.shift.to(image.device)
        scaled = image.to(torch.float32, copy=True).mul_(self.scale).add_(self.shift).clamp_(-1, 1)
        return {**sample, "image": scaled, "mask": mask.long()}

    def _on_cpu(self, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The same with numpy, image by image, so that each stays in the processor's cache.

        Torch's threads would use the cores of those that read ahead, and its page faults took most of the time.
        """
        scaled, scale, shift = np.empty(image.shape, np.float32), self.scale.numpy(), self.shift.numpy()
        clips = not self._stays_inside(image.dtype)
        shape = (-1, *image.shape[-3:])
        for one, into in zip(image.reshape(shape), scaled.reshape(shape), strict=True):
            np.copyto(into, one)
            np.multiply(into, scale, out=into)
            np.add(into, shift, out=into)
            if clips:
                np.clip(into, -1, 1, out=into)
        return scaled

    def _stays_inside(self, dtype: npt.DTypeLike) -> bool:
        """Whether scaling maps all values of a type to -1 to 1, so that none must be clipped."""
        if np.dtype(dtype).kind not in "iu":
            return False
        ends = (
            np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], np.float32) * self.scale.numpy() + self.shift.numpy()
        )
        return bool((np.abs(ends) <= 1).all())


def random_dihedral(image: torch.Tensor, mask: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Change each sample of a batch by one of the eight symmetries of the square, the same for image and mask.

    Args:
        image: (B, C, N, N).
        mask: (B, N, N).
        rng: random number generator.
    """
    images, masks = [], []
    for one_image, one_mask, choice in zip(image, mask, torch.randint(8, (len(image),), generator=rng), strict=True):
        turns, flip = int(choice) % 4, int(choice) >= 4
        pair = [torch.rot90(value, turns, dims=(-2, -1)) for value in (one_image, one_mask)]
        pair = [value.flip(-1) for value in pair] if flip else pair
        images.append(pair[0])
        masks.append(pair[1])
    return torch.stack(images), torch.stack(masks)
