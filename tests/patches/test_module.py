"""PatchModule and its transforms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from stores import make_store

from geosynth.config import BandSettings
from geosynth.patches.module import NetworkScaling, PatchModule, random_dihedral

BANDS = BandSettings(names=("red", "green", "blue", "nir"))


def symmetries(square: torch.Tensor) -> list[torch.Tensor]:
    """The eight symmetries, each written as what it does to rows and columns."""
    turned = [square, square.flip(-1), square.flip(-2), square.flip(-1).flip(-2)]
    return turned + [value.transpose(-1, -2) for value in turned]


def test_each_symmetry_occurs_and_image_and_mask_move_together() -> None:
    mask = torch.arange(9).reshape(1, 3, 3).expand(400, 3, 3)
    image = torch.stack([mask[:, :, :].float(), mask * 10.0], dim=1)
    turned_image, turned_mask = random_dihedral(image, mask, torch.Generator().manual_seed(0))
    assert (turned_image.shape, turned_mask.shape) == (image.shape, mask.shape)
    torch.testing.assert_close(turned_image[:, 0], turned_mask.float(), rtol=0, atol=0)
    torch.testing.assert_close(turned_image[:, 1], turned_mask * 10.0, rtol=0, atol=0)
    wanted = [value.flatten().tolist() for value in symmetries(mask[0])]
    seen = [value.flatten().tolist() for value in turned_mask]
    counts = [seen.count(value) for value in wanted]
    assert sum(counts) == len(seen)
    assert min(counts) > 25  # of 50 expected each


def test_the_generator_decides_the_symmetry() -> None:
    mask = torch.arange(9).reshape(1, 3, 3).expand(20, 3, 3)
    draws = [random_dihedral(mask[:, None].float(), mask, torch.Generator().manual_seed(seed))[1] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_scaling_maps_the_range_of_the_bands_to_the_networks() -> None:
    sample = {"image": torch.tensor([0.0, 127.5, 255.0]).reshape(1, 1, 3), "mask": torch.zeros(1, 3)}
    scaled = NetworkScaling(BANDS)(sample)
    torch.testing.assert_close(scaled["image"], torch.tensor([[[-1.0, 0.0, 1.0]]]))
    assert scaled["mask"] is sample["mask"]
    torch.testing.assert_close(BANDS.from_network(scaled["image"]), sample["image"])


@pytest.mark.parametrize("crs", ["EPSG:26917", None])
def test_batches_for_a_trainer(tmp_path: Path, crs: str | None) -> None:
    store = make_store(tmp_path / "store", crs=crs)
    module = PatchModule(store, BANDS, "train", crop_size=24, batch_size=3, num_batches=4, seed=0)
    batches = list(module.train_dataloader())
    assert len(batches) == 4
    for batch in batches:
        assert batch["image"].shape == (3, 4, 24, 24)
        assert batch["image"].abs().max() <= 1
        assert batch["mask"].max() < store.legend.num_classes
    again = list(
        PatchModule(store, BANDS, "train", crop_size=24, batch_size=3, num_batches=4, seed=0).train_dataloader()
    )
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(batches, again, strict=True))
