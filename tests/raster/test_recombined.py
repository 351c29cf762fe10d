"""Tiles of real labels, drawn so that rare classes come more often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores.recombined import recombine
from geosynth.raster.stores.tiles import TileView
from scene_stores import make_scene_store

PLACES = {"a.tif": Window(0, 0, 160, 128), "b.tif": Window(40, 192, 128, 128), "c.tif": Window(224, 0, 128, 128)}
ROAD, WATER, FIELD = 6, 1, 3  # codes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Fields with a few roads and one pond; the test scene is all water."""
    rng = np.random.default_rng(5)
    codes = np.full((352, 320), FIELD, np.uint8)
    for column in rng.integers(0, 320, 6):
        codes[:200, column] = ROAD
    codes[10:30, 40:60] = WATER
    codes[PLACES["c.tif"].slices] = WATER
    split = SpatialSplit.by_scenes({"train": [PLACES["a.tif"], PLACES["b.tif"]], "test": [PLACES["c.tif"]]})
    return make_scene_store(tmp_path_factory.mktemp("recombined") / "store.zarr", PLACES, split=split, codes=codes)


def shares_of(source, windows):
    counts = source.count_classes(windows)[:, -1].sum(axis=0)
    return counts / counts.sum()


def test_a_class_comes_as_many_times_as_often_as_it_is_asked_for(store):
    usual = shares_of(store, TileView(store, "train", 32)[:])
    found = recombine(store, {"Impervious_(Roads)": 2, "water": 3}, "train", 32, num_tiles=3000)
    shares = np.array(found.class_pixels("train")) / sum(found.class_pixels("train"))
    assert shares[5] == pytest.approx(2 * usual[5], rel=0.1)
    assert shares[0] == pytest.approx(3 * usual[0], rel=0.15)
    assert shares[2] < usual[2]


def test_each_tile_is_a_real_one_of_its_fold_and_the_place_is_nowhere(store):
    found = recombine(store, {"water": 2}, "train", 32, seed=1)
    assert len(found.scenes) == len(TileView(store, "train", 32, 32))
    origins = {scene.name.removesuffix(".tif"): scene.window for scene in store.scenes_in("train")}
    for scene in found.scenes:
        _, name, row, column = scene.name.split("_")
        origin = Window(origins[name].row + int(row), origins[name].column + int(column), 32, 32)
        assert store.split.holds(origin, "train")
        np.testing.assert_array_equal(found.read_labels(scene.window), store.read_labels(origin))
        np.testing.assert_array_equal(found.read_image(scene.window), store.read_image(origin))
    assert found.geobox.crs is None
    assert abs(found.geobox.affine.a) == abs(store.geobox.affine.a)
    assert TileView(found, "train", 32).windows.tolist() == [
        [*(scene.window.row, scene.window.column), 32, 32] for scene in found.scenes
    ]
    assert not found.scenes_in("test")
    again, other = (recombine(store, {"water": 2}, "train", 32, seed=seed) for seed in (1, 2))
    assert again.digest() == found.digest() != other.digest()


@given(row=st.integers(0, 150), column=st.integers(0, 150), height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=30)
def test_windows_may_be_cut_anyhow(store, row, column, height, width):
    found = recombine(store, {"water": 2}, "train", 32, num_tiles=23)
    whole = Window(0, 0, *found.geobox.shape)
    window = Window(row, column, height, width).intersection(whole)
    if window is not None:
        image, labels = found.read(whole)
        part, indices = found.read(window)
        np.testing.assert_array_equal(part, image[:, *window.slices])
        np.testing.assert_array_equal(indices, labels[window.slices])
        np.testing.assert_array_equal(found.read_labels(window), indices)
    known = [scene.window.slices for scene in found.scenes]
    labelled = found.read_labels(whole) < 6
    assert labelled.sum() == 23 * 32**2 == sum(labelled[place].sum() for place in known)


def test_one_tile_at_least_is_drawn_where_none_lie_side_by_side(store):
    between = store.with_split(SpatialSplit.by_scenes({"train": [Window(16, 16, 32, 112)]}))
    assert len(TileView(between, "train", 32)) > 0
    assert len(TileView(between, "train", 32, 32)) == 0
    assert len(recombine(between, {"low vegetation": 1}, "train", 32).scenes) == 1


@pytest.mark.parametrize(
    ("emphasis", "fold", "error", "said"),
    [
        ({"road": 2}, "train", SettingsError, "no class road; the legend has water"),
        ({"water": 2, "Water": 3}, "train", SettingsError, "water, Water name one class twice"),
        ({"water": 0}, "train", SettingsError, "positive numbers"),
        ({"water": 2, "barren": -1}, "train", SettingsError, "positive numbers"),
        ({"water": 500}, "train", DataError, "water=500: too few tiles of 32 px"),
        ({"barren": 2}, "train", DataError, "barren=2: too few tiles"),
        ({"water": 1, "barren": 2}, "train", DataError, "barren=2: too few tiles"),
        ({"water": 2}, "val", DataError, "fold 'val' holds no tile"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(store, emphasis, fold, error, said):
    with pytest.raises(error, match=said) as caught:
        recombine(store, emphasis, fold, 32)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match="one tile or more, got 0"):
        recombine(store, {"water": 2}, "train", 32, num_tiles=0)
