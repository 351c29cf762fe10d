"""Label super-resolution: what a coarse map adds to a few fine tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_stores import TINY, make_segment_store

from geosynth.models.super_resolution import CoarseShares
from geosynth.segmentation import segment as module
from geosynth.segmentation.data import coarse_tiles, open_data
from geosynth.segmentation.segment import segment


def paint(index, labels):
    """In the first scene grass is bright and water dark, in all others it is the other way round; band 4 tells."""
    value = np.array([60, 190, 120])[labels] if index == 0 else np.array([190, 60, 120])[labels]
    lit = np.full(labels.shape, 30 if index == 0 else 220)
    return np.stack([value, value, value, lit])


def coarse_of(labels):
    """The commonest class of squares of 16 px, under codes of its own."""
    squares = labels.reshape(4, 16, 4, 16).swapaxes(1, 2).reshape(16, -1)
    commonest = np.array([np.bincount(square, minlength=3).argmax() for square in squares]).reshape(4, 4)
    return np.kron(commonest * 10 + 11, np.ones((16, 16), int)).astype("uint8")


@pytest.fixture(scope="module")
def lit_store(tmp_path_factory):
    return make_segment_store(
        tmp_path_factory.mktemp("lit") / "lit.zarr", train=8, test=3, colours=paint, coarse=coarse_of
    )


SETTINGS = TINY.model_copy(
    update={"tile_size": 64, "crop_size": 32, "real_tiles": 1, "steps": 20, "batch_size": 4, "learning_rate": 3e-3}
)


def seed_of_first_scene(store):
    """A seed by which the one real tile is the first scene."""
    for seed in range(100):
        chosen = open_data(store, None, SETTINGS.model_copy(update={"subset_seed": seed}), "train", "test")
        if chosen.train.places[0][1].column == 0:
            return seed
    raise AssertionError


def test_with_a_coarse_map_it_learns_what_fine_tiles_do_not_show(lit_store, tmp_path):
    settings = SETTINGS.model_copy(update={"subset_seed": seed_of_first_scene(lit_store)})
    alone = segment(lit_store, tmp_path / "alone", settings)
    helped = segment(lit_store, tmp_path / "helped", settings, coarse="nlcd")
    assert (alone.coarse_tiles, helped.coarse_tiles) == (0, 7)
    assert helped.accuracy > alone.accuracy + 0.2


def test_shares_are_those_of_the_real_tiles(lit_store):
    settings = SETTINGS.model_copy(update={"coarse": "nlcd", "real_tiles": 3})
    data = open_data(lit_store, None, settings, "train", "test")
    tiles = coarse_tiles(data, "nlcd", None)
    assert tiles.values.tolist() == [11, 21, 31]
    counts = np.zeros((3, 3))
    for source, window in data.train.places:
        fine, coarse = source.read_labels(window), source.read_extra("nlcd", window)
        np.add.at(counts, ((coarse.ravel() - 11) // 10, fine.ravel()), 1)
    torch.testing.assert_close(
        tiles.shares.mean, torch.from_numpy(counts / counts.sum(1, keepdims=True)).float(), atol=1e-5, rtol=0
    )
    image, mask = tiles[2]
    source, window = data.coarse.places[2]
    assert (image == source.read_image(window)).all()
    assert (tiles.values[mask] == source.read_extra("nlcd", window)).all()
    assert len(tiles) == 5


def test_shares_go_to_the_device_once(lit_store, tmp_path, monkeypatch):
    moved, seen = [], []
    move, loss = CoarseShares.to, module.super_resolution_loss
    monkeypatch.setattr(CoarseShares, "to", lambda self, device: moved.append(move(self, device)) or moved[-1])
    monkeypatch.setattr(
        module,
        "super_resolution_loss",
        lambda probabilities, coarse, shares: seen.append(shares) or loss(probabilities, coarse, shares),
    )
    settings = SETTINGS.model_copy(update={"coarse": "nlcd", "real_tiles": 3, "steps": 3})
    segment(lit_store, tmp_path / "out", settings)
    assert len(moved) == 1
    assert [shares is moved[0] for shares in seen] == [True] * 3
