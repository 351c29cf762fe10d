"""What is done to samples and batches: flips and turns, legend encoding, scaling for the network."""

from __future__ import annotations

import numpy as np
import torch

from geosynth.config import BandSettings
from geosynth.legend import Legend
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
        # `BandSettings.to_network` in place: a fresh array for each step would cost more than the arithmetic.
        image = _floats(sample["image"])
        image.mul_(self.scale.to(image.device)).add_(self.shift.to(image.device)).clamp_(-1, 1)
        return {**sample, "image": image, "mask": sample["mask"].long()}


def _floats(values: torch.Tensor) -> torch.Tensor:
    """A float32 copy. On CPUs numpy makes the room, with huge pages: torch's page faults took most of the time."""
    if values.device.type != "cpu":
        return values.to(torch.float32, copy=True)
    return torch.from_numpy(np.empty(values.shape, dtype=np.float32)).copy_(values)


class LegendEncoding:
    """Turns the raster codes of a sample's mask into class indices; `num_classes` where the legend knows no class.

    Masks of `PatchDataset` are encoded already; this is for masks of other TorchGeo datasets.
    """

    def __init__(self, legend: Legend) -> None:
        self.legend = legend

    def __call__(self, sample: Sample) -> Sample:
        """The sample with `mask` int64, (..., height, width)."""
        codes = sample["mask"].cpu().numpy()
        if np.issubdtype(codes.dtype, np.floating):
            codes = codes.astype(np.int64)  # TorchGeo resamples masks as floats
        indices = torch.from_numpy(self.legend.encode(codes)).long()
        return {**sample, "mask": indices.to(sample["mask"].device)}


class RandomDihedral:
    """Turns and flips samples at random, image and mask alike; see `random_dihedral`.

    Args:
        seed: of the choice. For exact repetition draw in one process, as with `random_dihedral` on batches.
    """

    def __init__(self, seed: int) -> None:
        self.rng = torch.Generator().manual_seed(seed)

    def __call__(self, sample: Sample) -> Sample:
        """The sample with square `image` (bands, N, N) and `mask` (N, N) in one of the eight positions."""
        image, mask = random_dihedral(sample["image"][None], sample["mask"][None], self.rng)
        return {**sample, "image": image[0], "mask": mask[0]}


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
