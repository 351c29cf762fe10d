"""Which tiles are real and which are synthetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_stores import TINY, make_segment_store

from geosynth.errors import DataError
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores.recombined import EMPHASIS, recombine
from geosynth.segmentation.data import TileSet, left_out, mixture, open_data, train_views
from memory_source import MemorySource

TOTAL = 12  # tiles of 32 px in three scenes of 64 px


@pytest.fixture(scope="module")
def views(segment_store):
    return train_views([segment_store], TINY)


@given(st.data(), st.integers(0, 2**31))
@settings(max_examples=30)
def test_choices_are_nested_and_apart(views, data, seed):
    pool = data.draw(st.integers(1, TOTAL))
    real, more = sorted(data.draw(st.tuples(*[st.integers(0, pool)] * 2)))
    synthetic = data.draw(st.integers(1, pool))
    few = mixture(views, real, synthetic, pool=pool, seed=seed)
    assert few == mixture(views, real, synthetic, pool=pool, seed=seed)
    many = mixture(views, more, pool, pool=pool, seed=seed)
    assert many.real[:real] == few.real
    assert many.synthetic[:synthetic] == few.synthetic
    assert (len(few.real), len(few.synthetic)) == (real, synthetic)
    assert not set(few.real) & set(few.others)
    assert len(set(few.real) | set(few.others)) == pool
    assert len(set(few.real) & set(few.synthetic)) == max(0, real + synthetic - pool)


@pytest.mark.parametrize("real", range(TOTAL + 1))
def test_what_is_replaced_is_what_is_left_out(views, real):
    chosen = mixture(views, real, TOTAL - real, seed=3)
    assert set(chosen.real) | set(chosen.synthetic) == set(mixture(views).real)
    assert set(chosen.synthetic) == set(chosen.others)


def test_another_seed_is_another_choice(views):
    assert set(mixture(views, 4, seed=0).real) != set(mixture(views, 4, seed=1).real)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"real": 13}, "real_tiles=13, but there is a choice of 12 tiles"),
        ({"synthetic": 13}, "synthetic_tiles=13, but there is a choice of 12"),
        ({"pool": 13}, "pool_tiles=13, but there is a choice of 12"),
        ({"real": 7, "pool": 6}, "real_tiles=7, but there is a choice of 6"),
        ({"real": 0}, "nothing to train on"),
    ],
)
def test_more_than_there_is(views, options, said):
    with pytest.raises(DataError, match=said):
        mixture(views, **options)


def test_no_tile_at_all(segment_store):
    with pytest.raises(DataError, match="no whole tile of 128 px to train on"):
        mixture(train_views([segment_store], TINY.model_copy(update={"tile_size": 128})))


@pytest.mark.parametrize(("real", "synthetic"), [(None, 5), (4, None), (0, 7), (3, 0)])
def test_tiles_of_recombined_labels_are_chosen_among_themselves(segment_store, real, synthetic):
    """They stand at the places of no real ones, so that all real tiles and all of them can be had at once."""
    more = recombine(segment_store, {"water": 1.1}, "train", TINY.tile_size, num_tiles=9)
    more.synthetic = {EMPHASIS: "water=1.1"}  # as a twin of it is marked
    settings = TINY.model_copy(update={"real_tiles": real, "synthetic_tiles": synthetic})
    found = open_data(segment_store, more, settings, "train", "test").train
    num_real = TOTAL if real is None else real
    num_synthetic = 9 if synthetic is None else synthetic
    assert len(found) == num_real + num_synthetic
    places = found.places[num_real:]
    assert all(source is more for source, _ in places)
    assert {window for _, window in places} <= {scene.window for scene in more.scenes}
    assert len({window for _, window in places}) == num_synthetic
    assert [found.is_synthetic(index) for index in range(len(found))] == [False] * num_real + [True] * num_synthetic


def test_the_choice_among_recombined_labels_and_real_ones_follows_the_seed_and_the_pool(segment_store):
    more = recombine(segment_store, {"water": 1.1}, "train", TINY.tile_size, num_tiles=9)
    more.synthetic = {EMPHASIS: "water=1.1"}

    def places(**changes):
        settings = TINY.model_copy(update={"real_tiles": 3, "synthetic_tiles": 4, **changes})
        found = open_data(segment_store, more, settings, "train", "test").train.places
        return [[window for _, window in part] for part in (found[:3], found[3:])]

    first = places(subset_seed=1)
    assert places(subset_seed=1, seed=5) == first
    assert all(one != other for one, other in zip(places(subset_seed=2), first, strict=True))
    with pytest.raises(DataError, match="real_tiles=3, but there is a choice of 2 tiles"):
        places(pool_tiles=2)


def test_no_tiles_of_recombined_labels_and_no_real_ones(segment_store):
    more = recombine(segment_store, {"water": 1.1}, "train", TINY.tile_size, num_tiles=9)
    more.synthetic = {EMPHASIS: "water=1.1"}
    settings = TINY.model_copy(update={"real_tiles": 0, "synthetic_tiles": 0})
    with pytest.raises(DataError, match="nothing to train on"):
        open_data(segment_store, more, settings, "train", "test")


def test_recombined_labels_of_other_imagery_are_refused(segment_store, tmp_path):
    other = make_segment_store(tmp_path / "other.zarr", dtype="uint16")
    more = recombine(other, {"water": 1.1}, "train", TINY.tile_size, num_tiles=9)
    more.synthetic = {EMPHASIS: "water=1.1"}
    with pytest.raises(
        DataError, match=r"its pixel values \(uint16\) differ from .*; ingest --dtype uint8 if they fit$"
    ):
        open_data(segment_store, more, TINY, "train", "test")


def test_the_digest_tells_twins_apart_where_they_are_used(segment_store, segment_twin, tmp_path):
    other = make_segment_store(tmp_path / "other.zarr", seed=7)

    def digest(twin, synthetic):
        settings = TINY.model_copy(update={"real_tiles": 2, "synthetic_tiles": synthetic})
        return open_data(segment_store, twin, settings, "train", "test").digest

    assert digest(segment_twin, 3) == digest(segment_twin, 3) != digest(other, 3)
    assert digest(segment_twin, 0) == digest(other, 0) == digest(None, 0)


@pytest.mark.parametrize(("dtype", "bytes_a_pixel"), [("uint8", 4 + 1), ("uint16", 8 + 1)])
def test_tiles_are_decoded_once_if_all_of_them_fit(monkeypatch, dtype, bytes_a_pixel):
    windows = [Window(0, 0, 8, 8), Window(0, 8, 8, 16)]
    for missing in (0, 1):
        source = MemorySource((8, 24), windows, SpatialSplit.by_scenes({"train": windows}), dtype=dtype)
        monkeypatch.setattr("geosynth.segmentation.data._KEEP_BYTES", 8 * 24 * bytes_a_pixel - missing)
        tiles = TileSet([(source, window) for window in windows])
        first, again = ([tiles[0], tiles[1]] for _ in range(2))
        assert source.reads == (4 if missing else 2)
        assert [image.tobytes() for image, _ in first] == [image.tobytes() for image, _ in again]


class DoubtfulJudge:
    """Finds the classes of the three columns of a tile 0.4, 0.5 and 0.6 likely."""

    def agreement(self, image, labels):
        return np.broadcast_to(np.array([0.4, 0.5, 0.6], np.float32), labels.shape)


def test_pixels_less_likely_than_asked_count_as_without_a_class_in_synthetic_tiles():
    window = Window(0, 0, 2, 3)
    source = MemorySource((2, 3), [window], SpatialSplit.by_scenes({"train": [window]}))
    real, synthetic = TileSet([(source, window)] * 2, 1, DoubtfulJudge(), 0.5)
    np.testing.assert_array_equal(real[1], source.labels)
    np.testing.assert_array_equal(synthetic[1][:, 1:], source.labels[:, 1:])
    assert (synthetic[1][:, 0] == source.legend.num_classes).all()


def test_the_share_that_is_left_out_is_of_the_synthetic_pixels_with_a_class():
    window = Window(0, 0, 2, 3)
    source = MemorySource((2, 3), [window], SpatialSplit.by_scenes({"train": [window]}))
    source.labels[0, :2] = source.legend.num_classes
    for num_real, share in ((1, 1 / 4), (None, 0)):
        assert left_out(TileSet([(source, window)] * 2, num_real, DoubtfulJudge(), 0.5)) == share
