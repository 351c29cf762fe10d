"""Batches: their order, crops and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_stores import BANDS, TINY

from geosynth.config import BandSettings
from geosynth.grid import SpatialSplit, Window
from geosynth.segmentation.batches import Batches, augment
from geosynth.segmentation.data import TileSet, open_data
from memory_source import MemorySource

SCALE = BandSettings(names=BANDS)


def batches_of(store, start=0, **changes):
    settings = TINY.model_copy(update={"steps": 12, **changes})
    batches = Batches(open_data(store, None, settings, "train", "test").train, None, SCALE, settings)
    return [batches.batch(step) for step in range(start, settings.steps)]


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_each_tile_comes_once_before_any_comes_again(segment_store):
    def bytes_of(batches):
        return [image.numpy().tobytes() for batch in batches for image in batch["image"]]

    seen = bytes_of(batches_of(segment_store))
    assert len(seen) == 24
    assert len(set(seen[:12])) == len(set(seen[12:])) == 12
    assert seen[:12] != seen[12:]


def test_a_batch_follows_from_seed_and_step(segment_store):
    options = {"augment": "flips+colour", "crop_size": 32, "tile_size": 64, "real_tiles": 3}
    whole = batches_of(segment_store, **options)
    rest = batches_of(segment_store, start=7, **options)
    assert len(rest) == 5
    assert all(map(equal, whole[7:], rest))
    others = batches_of(segment_store, seed=1, subset_seed=0, **options)
    assert not any(map(equal, whole, others))


def test_image_and_mask_are_cut_and_turned_alike(segment_store):
    # Water is the class of the darkest red.
    for batch in batches_of(segment_store, augment="flips", tile_size=64, crop_size=32):
        assert batch["image"].shape == (2, 4, 32, 32)
        assert batch["mask"].dtype == torch.int64
        assert ((batch["image"][:, 0] < (45 / 127.5 - 1)) == (batch["mask"] == 0)).all()
        assert -1 <= batch["image"].min() <= batch["image"].max() <= 1


def test_colour_is_one_change_for_all_bands_and_the_mask_stays():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.uniform(-0.4, 0.4, (60, 4, 8, 8))).float()
    mask = torch.from_numpy(rng.integers(0, 3, (60, 8, 8)))
    flipped, turned = augment(image, mask, "flips", torch.Generator().manual_seed(5))
    changed, same = augment(image, mask, "flips+colour", torch.Generator().manual_seed(5))
    assert torch.equal(turned, same)
    found = []
    for before, after in zip((flipped + 1) / 2, (changed + 1) / 2, strict=True):
        slope, shift = np.polyfit(before.flatten().numpy(), after.flatten().numpy(), 1)
        np.testing.assert_allclose(after, slope * before + shift, atol=1e-5)
        found.append((slope, shift))
    for values, middle, most in zip(zip(*found, strict=True), (1, 0), (0.2, 0.1), strict=True):
        distances = np.array(values) - middle
        assert np.abs(distances).max() <= most * (1 + 1e-4)
        assert distances.min() < -0.8 * most < 0.8 * most < distances.max()


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_colour_stays_within_the_range(end):
    image, mask = torch.full((60, 1, 2, 2), end), torch.zeros(60, 2, 2)
    changed, _ = augment(image, mask, "flips+colour", torch.Generator().manual_seed(0))
    assert (changed.abs() <= 1).all()
    kept = (changed == end).flatten(1).all(1)  # those whose change leads out of the range: a third, or half
    assert 8 < kept.sum() < 45
    assert (changed[~kept] - end).abs().max() > 0.15


def test_no_augmentation_changes_nothing():
    image, mask = torch.rand(2, 4, 8, 8), torch.zeros(2, 8, 8)
    assert augment(image, mask, "none", torch.Generator()) == (image, mask)


@pytest.mark.parametrize("how", ["flips", "flips+colour"])
def test_the_generator_decides(how):
    image, mask = torch.rand(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8))
    first, second, third = (augment(image, mask, how, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_crops_lie_anywhere_in_a_tile_and_nan_is_the_middle():
    window = Window(8, 16, 6, 6)
    source = MemorySource((16, 24), [window], SpatialSplit.by_scenes({"train": [window]}), dtype="float32")
    source.image[2] = np.nan
    settings = TINY.model_copy(update={"tile_size": 6, "crop_size": 4, "batch_size": 4, "augment": "none"})
    batches = Batches(TileSet([(source, window)]), None, BandSettings(names=BANDS, low=0, high=255), settings)
    places = []
    for step in range(25):
        batch = batches.batch(step)
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
            row, column = ((image[:2, 0, 0] + 1) * 127.5).round().int().tolist()
            assert mask.tolist() == source.labels[row : row + 4, column : column + 4].tolist()
            assert (image[2] == 0).all()
            places.append((row, column))
    assert set(places) == {(row, column) for row in (8, 9, 10) for column in (16, 17, 18)}
