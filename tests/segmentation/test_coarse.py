"""Label super-resolution: what a coarse map adds to a few fine tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_stores import TINY, make_segment_store

from geosynth.errors import DataError
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


def test_synthetic_tiles_tell_nothing_of_shares(lit_store, tmp_path):
    twin = make_segment_store(tmp_path / "twin.zarr", train=8, test=3, colours=paint)  # it has no coarse map
    settings = SETTINGS.model_copy(update={"coarse": "nlcd", "real_tiles": 3})
    beside = settings.model_copy(update={"synthetic_tiles": 2})
    alone = coarse_tiles(open_data(lit_store, None, settings, "train", "test"), "nlcd", None)
    both = coarse_tiles(open_data(lit_store, twin, beside, "train", "test"), "nlcd", None)
    assert torch.equal(alone.shares.mean, both.shares.mean)


def test_nan_and_nodata_are_no_coarse_class(lit_store, monkeypatch):
    read = type(lit_store).read_extra

    def with_nan(store, name, window):
        codes = read(store, name, window)
        return np.where(codes == 31, np.nan, codes).astype("float32")

    monkeypatch.setattr(type(lit_store), "read_extra", with_nan)
    monkeypatch.setattr(type(lit_store), "extra_type", lambda store, name: (np.dtype("float32"), 21))
    settings = SETTINGS.model_copy(update={"coarse": "nlcd", "real_tiles": 3})
    tiles = coarse_tiles(open_data(lit_store, None, settings, "train", "test"), "nlcd", None)
    assert tiles.values.tolist() == [11]
    source, window = tiles.tiles.places[0]
    np.testing.assert_array_equal(tiles[0][1], read(source, "nlcd", window) != 11)


@pytest.mark.parametrize(("values", "fits"), [(0, False), (1, True), (255, True), (256, False)])
def test_a_coarse_map_has_from_1_to_255_values(lit_store, monkeypatch, values, fits):
    def counting(store, name, window):
        return np.arange(window.height * window.width).reshape(window.height, window.width) % (values + 1)

    monkeypatch.setattr(type(lit_store), "read_extra", counting)
    monkeypatch.setattr(type(lit_store), "extra_type", lambda store, name: (np.dtype("int64"), 0))
    settings = SETTINGS.model_copy(update={"coarse": "nlcd", "real_tiles": 3})
    data = open_data(lit_store, None, settings, "train", "test")
    if fits:
        assert len(coarse_tiles(data, "nlcd", None).values) == values
    else:
        with pytest.raises(DataError, match=rf"map 'nlcd' has {values} values on the coarse tiles; 1 to 255"):
            coarse_tiles(data, "nlcd", None)


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
