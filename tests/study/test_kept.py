"""A source that shows some tiles only, and the measures of twins."""

import numpy as np
import pytest
from studies import AUGMENT, REPLACE

from geosynth.errors import DataError
from geosynth.evaluation.distances import frechet_distance
from geosynth.evaluation.extractors import load_extractor
from geosynth.grid import Window
from geosynth.mosaic.twin import twin
from geosynth.patches.positions import PositionIndex
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.data import Tile, open_data
from geosynth.study.artifacts import Artifacts
from geosynth.study.operations import measure_likeness
from geosynth.study.plan import plan_cells
from geosynth.study.transfer import keep_tiles
from scene_stores import make_scene_store

TILES = [Window(0, 0, 64, 64), Window(64, 256, 64, 64)]


def test_patches_lie_in_kept_tiles(study_store):
    kept = keep_tiles(study_store, "train", [Tile(0, window) for window in TILES])
    index = PositionIndex(kept, "train", 48)
    assert index.counts.sum() == len(TILES) * 17**2
    rng = np.random.default_rng(0)
    for cell in range(len(index.cells)):
        for patch in index.draw(cell, 20, rng):
            assert any(tile.contains(patch) for tile in TILES)
            assert np.array_equal(kept.read_image(patch), study_store.read_image(patch))


def test_other_folds_stay_as_they_are(study_store):
    kept = keep_tiles(study_store, "train", [Tile(0, window) for window in TILES])
    for fold in ("val", "test"):
        assert kept.split.area(fold).equals(study_store.split.area(fold))
        assert kept.scenes_in(fold) == study_store.scenes_in(fold)
    assert kept.split.area("train").area == 2 * 64**2


def test_a_generator_may_see_the_real_tiles_of_its_segmenter_and_no_more(study_store, tmp_path):
    artifacts = Artifacts(study_store.path, study_store.digest(), tmp_path)
    cells = [cell for cell in plan_cells(AUGMENT, None) if cell.condition.arm == "real + synthetic"]
    assert cells
    for cell in cells:
        real = cell.recipe.segment.model_copy(update={"synthetic_tiles": 0})
        seen = open_data(study_store, None, real, "train", "test").train.places
        source = artifacts.source_of(cell.recipe.twin.generator)
        assert source.split.area("train").area == len(seen) * 64**2 == cell.condition.x * 64**2
        assert all(source.split.holds(window, "train") for _, window in seen)


def test_likeness_is_that_of_all_tiles_at_once(study_store, tmp_path):
    places = {scene.name: scene.window for scene in study_store.scenes}
    first = make_scene_store(tmp_path / "first.zarr", places, split=study_store.split)
    second = make_scene_store(tmp_path / "second.zarr", places, split=study_store.split)
    rng = np.random.default_rng(1)
    for store in (first, second):
        for window in places.values():
            shape = (4, window.height, window.width)
            store = type(store)(store.path, mode="r+")
            store.write(window, rng.integers(0, 255, shape).astype(np.uint8), np.ones(shape[1:], np.uint8))
    told = []
    found = measure_likeness(study_store, (first, second), "test", 64, lambda *counts: told.append(counts))
    windows = list(TileView(study_store, "test", 64, 64))
    assert found.num_compared == len(windows) == told[-1][0] == told[-1][1]
    real, one, other = (np.stack([s.read_image(window) for window in windows]) for s in (study_store, first, second))
    embed = load_extractor("efficientnet-lite0").embed
    assert found.frechet["efficientnet-lite0 (red, green, blue)"] == pytest.approx(
        frechet_distance(embed(real[:, :3]), embed(one[:, :3])), rel=1e-4
    )
    assert set(found.frechet) == {"efficientnet-lite0 (red, green, blue)", "efficientnet-lite0 (nir, red, green)"}
    assert found.diversity == pytest.approx(np.abs(one.astype(float) - other).mean())
    with pytest.raises(DataError, match="has 1 whole tile of 128 px, too few"):
        measure_likeness(study_store, (first, second), "test", 128, lambda done, total: None)


def test_likeness_of_16_bit_imagery_is_that_of_the_bytes_that_it_is_a_copy_of(study_store, tmp_path):
    places = {scene.name: scene.window for scene in study_store.scenes}

    def make(name, dtype, shift):
        """The store's imagery, `shift` less bright."""

        def change(image):
            values = np.maximum((image - 1.0) * 255 // 253 - shift, 0)  # without a shift 0 and 255 are the percentiles
            return values.astype(np.uint8) if dtype == "uint8" else (13 * values - 2000).astype(dtype)

        return make_scene_store(tmp_path / f"{name}.zarr", places, split=study_store.split, dtype=dtype, change=change)

    def measure(dtype):
        real, first, second = (make(f"{dtype}_{shift}", dtype, shift) for shift in (0, 9, 20))
        return measure_likeness(real, (first, second), "test", 64, lambda done, total: None)

    of_bytes, found = measure("uint8"), measure("int16")
    assert found.frechet == of_bytes.frechet
    assert found.diversity == pytest.approx(13 * of_bytes.diversity)


def test_a_segmenter_sees_the_same_of_a_small_twin_as_of_a_whole_one(study_store, tmp_path, narrow_model):
    [cell] = [one for one in plan_cells(REPLACE, None) if (one.condition.x, one.seed) == (0.5, 0)]
    source = Artifacts(study_store.path, study_store.digest(), tmp_path).source_of(cell.recipe.twin)
    assert source.split.area("train").area == REPLACE.tiles * 32**2  # those of share 1, which hold those of 0.5
    twins = [
        twin(it, tmp_path / f"{n}.zarr", narrow_model, folds=["train"]) for n, it in enumerate((source, study_store))
    ]
    small, whole = (open_data(study_store, path, cell.recipe.segment, "train", "test").train for path in twins)
    assert len(small) == len(whole) == REPLACE.tiles
    for (image, labels), (expected, expected_labels) in zip(small, whole, strict=True):
        assert np.array_equal(image, expected)
        assert np.array_equal(labels, expected_labels)
