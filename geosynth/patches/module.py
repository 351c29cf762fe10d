"""PatchModule: what a Lightning trainer asks for patches."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from geosynth.config import BandSettings
from geosynth.patches.dataset import PatchDataset, Sample
from geosynth.patches.sampler import PatchSampler
from geosynth.raster.store import Store


class PatchModule(LightningDataModule):
    """Batches of random train patches, scaled for the network.

    Args:
        store: to read from.
        bands: how raster values map to [-1, 1].
        fold: to draw from.
        crop_size: pixels.
        batch_size: patches a batch.
        num_batches: to draw.
        seed: of the draw.
    """

    def __init__(
        self,
        store: Store,
        bands: BandSettings,
        fold: str,
        *,
        crop_size: int,
        batch_size: int,
        num_batches: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.dataset = PatchDataset(store, fold, transforms=NetworkScaling(bands))
        self.sampler = PatchSampler(self.dataset, crop_size, num_batches * batch_size, seed)

    def train_dataloader(self) -> DataLoader[Sample]:
        """One pass over `num_batches` batches."""
        return DataLoader(self.dataset, batch_size=self.batch_size, sampler=self.sampler)


class NetworkScaling:
    """Scales a sample's image to [-1, 1]."""

    def __init__(self, bands: BandSettings) -> None:
        self.bands = bands

    def __call__(self, sample: Sample) -> Sample:
        """The sample with image values in the network's range."""
        return {**sample, "image": self.bands.to_network(sample["image"])}


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
