"""Which tiles are real and which are synthetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_stores import TINY

from geosynth.errors import DataError
from geosynth.raster.stores.recombined import EMPHASIS, recombine
from geosynth.segmentation.data import mixture, open_data, train_views

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


def test_no_tiles_of_recombined_labels_and_no_real_ones(segment_store):
    more = recombine(segment_store, {"water": 1.1}, "train", TINY.tile_size, num_tiles=9)
    more.synthetic = {EMPHASIS: "water=1.1"}
    settings = TINY.model_copy(update={"real_tiles": 0, "synthetic_tiles": 0})
    with pytest.raises(DataError, match="nothing to train on"):
        open_data(segment_store, more, settings, "train", "test")
