"""The synthetic twin of a store: the same places and labels, the pixels that `generate` paints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.errors import DataError, OutputError, RasterError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.mosaic import twin as twin_module
from geosynth.raster.stores.recombined import recombine
from geosynth.raster.stores.store import Store, create_group, open_stores
from geosynth.raster.stores.tiles import TileView
from geosynth.raster.unfinished_image import UnfinishedImage
from rasters import UTM_18N, pixels_of, random_image
from scene_stores import make_scene_store

PLACES = {"a.tif": Window(0, 0, 150, 128), "b.tif": Window(0, 128, 150, 128), "c.tif": Window(200, 300, 64, 200)}
SPLIT = SpatialSplit.by_scenes({"train": [PLACES["a.tif"], PLACES["b.tif"]], "test": [PLACES["c.tif"]]})
OPTIONS = {"precision": "fp32", "block_size": 128, "seed": 5}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_scene_store(tmp_path_factory.mktemp("store") / "real.zarr", PLACES, split=SPLIT)


@pytest.fixture(scope="module")
def finished(store: Store, tiny_model: GeneratorModel, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(geosynth.twin(store, tmp_path_factory.mktemp("twin") / "twin.zarr", tiny_model, **OPTIONS))


def test_its_pixels_are_those_of_generate(
    store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path
) -> None:
    image = pixels_of(geosynth.generate(store.path, tmp_path / "image.tif", tiny_model, **OPTIONS))
    whole = Window(0, 0, *store.geobox.shape)
    np.testing.assert_array_equal(finished.read_image(whole), image)
    np.testing.assert_array_equal(finished.read_labels(whole), store.read_labels(whole))


def test_places_folds_and_grid_are_the_real_ones(store: Store, finished: Store, tiny_model: GeneratorModel) -> None:
    assert (finished.geobox, finished.split, finished.legend) == (store.geobox, store.split, store.legend)
    assert [(scene.name, scene.window, scene.class_pixels) for scene in finished.scenes] == [
        (scene.name, scene.window, scene.class_pixels) for scene in store.scenes
    ]
    for fold in ("train", "test"):
        assert finished.class_pixels(fold) == store.class_pixels(fold)
        np.testing.assert_array_equal(TileView(finished, fold, 64).windows, TileView(store, fold, 64).windows)
    assert finished.synthetic["GEOSYNTH_MODEL_SHA256"] == tiny_model.sha256
    pixels = dict(zip(store.legend.names, store.class_pixels("all"), strict=True))
    assert json.loads(finished.synthetic["GEOSYNTH_CLASS_PIXELS"]) == pixels
    assert finished.synthetic["GEOSYNTH_LABELS"] == Path(store.path).name
    assert geosynth.info(finished.path)["synthetic"]["GEOSYNTH_SEED"] == "5"
    assert not store.synthetic


def test_training_tells_the_twin_from_the_real_store(store: Store, finished: Store) -> None:
    hashes = {scene.image_sha256 for of in (store, finished) for scene in of.scenes}
    assert len(hashes) == 2 * len(store.scenes)


def test_one_fold_alone(store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path) -> None:
    """What is painted does not depend on what else is; the rest has no data."""
    alone = Store(geosynth.twin(store, tmp_path / "test.zarr", tiny_model, folds=["test"], **OPTIONS))
    place = PLACES["c.tif"]
    np.testing.assert_array_equal(alone.read_image(place), finished.read_image(place))
    outside = alone.read_labels(PLACES["a.tif"])
    assert (outside == alone.legend.num_classes).all()
    assert sum(alone.class_pixels("train")) == 0
    pixels = dict(zip(store.legend.names, store.class_pixels("test"), strict=True))
    assert json.loads(alone.synthetic["GEOSYNTH_CLASS_PIXELS"]) == pixels
    assert len(TileView(alone, "train", 64)) == 0
    assert len(TileView(alone, "test", 64)) == len(TileView(store, "test", 64))


def test_an_interrupted_one_goes_on(
    store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "twin.zarr"
    write, written = UnfinishedImage.write_block, []

    def stop(self: object, index: int, *block: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(index)
        write(self, index, *block)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedImage, "write_block", stop)
        with pytest.raises(KeyboardInterrupt):
            geosynth.twin(store, out, tiny_model, **OPTIONS)
    assert not out.exists()
    steps = []
    geosynth.twin(store, out, tiny_model, **OPTIONS, progress=lambda *values: steps.append(values))
    painting = [step[1:] for step in steps if step[0] == "painting"]
    assert painting == [(done, len(painting) + 1) for done in range(2, len(painting) + 2)]
    assert {stage for stage, *_ in steps} == {"checking", "painting", "writing"}
    whole = Window(0, 0, *store.geobox.shape)
    np.testing.assert_array_equal(Store(out).read_image(whole), finished.read_image(whole))
    assert [path.name for path in tmp_path.iterdir()] == ["twin.zarr"]


@pytest.mark.parametrize("before", [{"folds": ["train"]}, {"block_size": 256}])
def test_what_was_painted_of_other_folds_or_blocks_is_thrown_away(
    before: dict[str, Any], store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("painting", 1):
            raise KeyboardInterrupt

    out, steps = tmp_path / "twin.zarr", []
    with pytest.raises(KeyboardInterrupt):
        geosynth.twin(store, out, tiny_model, **(OPTIONS | before), progress=stop)
    for part in tmp_path.rglob("parts/*"):
        with np.load(part) as block:
            assert block["pixels"].dtype == np.uint8
    geosynth.twin(store, out, tiny_model, **OPTIONS, progress=lambda *values: steps.append(values))
    assert min(done for stage, done, _ in steps if stage == "painting") == 0
    whole = Window(0, 0, *store.geobox.shape)
    np.testing.assert_array_equal(Store(out).read_image(whole), finished.read_image(whole))


def test_if_the_last_rename_fails_neither_twin_is_lost(
    store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "twin.zarr", Window(0, 0, *store.geobox.shape)
    geosynth.twin(store, out, tiny_model, **{**OPTIONS, "seed": 6})
    old = Store(out).read_image(whole)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "result":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OutputError, match="No space left"):
            geosynth.twin(store, out, tiny_model, **OPTIONS, overwrite=True)
    np.testing.assert_array_equal(Store(out).read_image(whole), old)
    steps: list[tuple[str, int, int]] = []
    geosynth.twin(store, out, tiny_model, **OPTIONS, overwrite=True, progress=lambda *values: steps.append(values))
    assert not [step for step in steps if step[0] == "painting" and step[1] < step[2]]  # it is all there
    assert [step[1:] for step in steps if step[0] == "writing"] == [(1, 1)]  # also the shards
    np.testing.assert_array_equal(Store(out).read_image(whole), finished.read_image(whole))
    assert [path.name for path in tmp_path.iterdir()] == ["twin.zarr"]


def test_pixels_of_overlapping_scenes_are_counted_once(tiny_model: GeneratorModel, tmp_path: Path) -> None:
    places = {"a.tif": Window(0, 0, 64, 64), "b.tif": Window(32, 32, 64, 64)}
    store = make_scene_store(tmp_path / "real.zarr", places)
    finished = Store(geosynth.twin(store, tmp_path / "twin.zarr", tiny_model, **OPTIONS))
    labels = store.read_labels(Window(0, 0, *store.geobox.shape))
    assert finished.class_pixels("train") == tuple((labels == index).sum() for index in range(6))
    assert sum(finished.class_pixels("train")) == 2 * 64**2 - 32**2


def test_stores_in_several_crss(tiny_model: GeneratorModel, tmp_path: Path) -> None:
    place = {"a.tif": Window(0, 0, 64, 64)}
    create_group(tmp_path / "real.zarr", ["one", "two"])
    make_scene_store(tmp_path / "real.zarr" / "one", place)
    make_scene_store(tmp_path / "real.zarr" / "two", place, crs=UTM_18N)
    geosynth.twin(tmp_path / "real.zarr", tmp_path / "twin.zarr", tiny_model, **OPTIONS)
    real, twins = open_stores(tmp_path / "real.zarr"), open_stores(tmp_path / "twin.zarr")
    assert [twin.geobox for twin in twins] == [store.geobox for store in real]
    assert all(twin.read_image(place["a.tif"]).any() for twin in twins)


def test_what_is_refused(store: Store, tiny_model: GeneratorModel, tmp_path: Path) -> None:
    out = tmp_path / "twin.zarr"
    with pytest.raises(SettingsError, match="agreement: a probability is needed, 0 to 1, not 3"):
        geosynth.twin(store, out, tiny_model, agreement=3)
    with pytest.raises(SettingsError, match="no fold 'other'"):
        geosynth.twin(store, out, tiny_model, folds=["other"])
    with pytest.raises(DataError, match="no scene in fold val"):
        geosynth.twin(store, out, tiny_model, folds=["val"])
    three = make_scene_store(tmp_path / "three.zarr", PLACES, band_names=("red", "green", "blue"))
    with pytest.raises(DataError, match=r"paints red, green, blue, nir .*three\.zarr has red, green, blue \(uint8\)"):
        geosynth.twin(three, out, tiny_model)
    with pytest.raises(RasterError, match=r"nothing\.zarr"):
        geosynth.twin(tmp_path / "nothing.zarr", out, tiny_model)
    with pytest.raises(OutputError, match="already exists"):
        geosynth.twin(store, three.path, tiny_model)
    with pytest.raises(OutputError, match="would be lost"):
        geosynth.twin(three, three.path, tiny_model, overwrite=True)
    (tmp_path / "folder").mkdir()
    zarr.open_group(str(tmp_path / "cube.zarr"), mode="w", zarr_format=3).create_array("a", shape=(2,), dtype="uint8")
    for name in ("folder", "cube.zarr"):
        with pytest.raises(OutputError, match="not a geosynth store"):
            geosynth.twin(store, tmp_path / name, tiny_model, overwrite=True)
    assert (tmp_path / "cube.zarr" / "a" / "zarr.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cube.zarr", "folder", "three.zarr"]


def test_recombined_labels_are_painted_each_at_a_place_of_its_own(
    run: Callable[..., Any], store: Store, tiny_model: GeneratorModel, tmp_path: Path
) -> None:
    options = ["--model", str(tiny_model.path), "--emphasise", "water=1.2", "--tile-size", "64", "--tiles", "12"]
    made = run("twin", "--data", store.path, "--out", tmp_path / "more.zarr", *options, "--precision", "fp32")
    assert made.code == 0
    assert made.err.startswith(f"warning: {store.path}: pixels of 0.6 m; the model was trained on 1 m")
    assert "CRS" not in made.err  # that the twin's grid has none is as it should be
    found = Store(tmp_path / "more.zarr")
    assert (found.synthetic["GEOSYNTH_EMPHASIS"], found.geobox.crs) == ("water=1.2", None)
    assert len(found.scenes) == len(TileView(found, "train", 64)) == 12
    real = recombine(store, {"water": 1.2}, "train", 64, num_tiles=12)
    tiles: dict[bytes, list[bytes]] = {}
    for scene in found.scenes:
        image, labels = found.read(scene.window)
        np.testing.assert_array_equal(labels, real.read_labels(scene.window))
        tiles.setdefault(labels.tobytes(), []).append(image.tobytes())
    assert len(tiles) < 12  # some were drawn twice
    assert len({image for images in tiles.values() for image in images}) == 12  # and look otherwise
    with pytest.raises(SettingsError, match="within one fold, not train, test"):
        geosynth.twin(store, tmp_path / "out.zarr", tiny_model, folds=["train", "test"], emphasise={"water": 2})
    for text in ("water", "=2", "water=much"):
        refused = run("twin", "--data", store.path, "--out", tmp_path / "out.zarr", "--emphasise", text)
        assert "a class and a number are needed" in refused.err
    twice = ["--emphasise", "water=2", "--emphasise", "water = 3"]
    refused = run("twin", "--data", store.path, "--out", tmp_path / "out.zarr", *twice)
    assert (refused.code, refused.err) == (1, "error: --emphasise water = 3: water is given twice; give it once\n")
    for option, needed in (("--tiles", "--emphasise"), ("--tile-size", "--emphasise"), ("--agreement", "--judge")):
        refused = run("twin", "--data", store.path, "--out", tmp_path / "out.zarr", option, "1")
        assert (refused.code, refused.err) == (1, f"error: {option}: no effect without {needed}\n")
    assert not (tmp_path / "out.zarr").exists()


class DoubtsWater:
    """A judge that never finds water, and is asked about whole squares of a lattice."""

    path = Path("judge.safetensors")
    sha256 = "f" * 64

    def __init__(self, card: object) -> None:
        self.card = card

    def agreement(self, image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert image.shape[-2:] == labels.shape[-2:]
        return np.where(labels == 0, 0.04, 0.06).astype(np.float32)


def test_pixels_that_a_judge_doubts_have_no_data(
    store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path
) -> None:
    judge = DoubtsWater(tiny_model.card)
    found = Store(geosynth.twin(store, tmp_path / "judged.zarr", tiny_model, judge=judge, **OPTIONS))
    whole = Window(0, 0, *store.geobox.shape)
    before, after = finished.read_labels(whole), found.read_labels(whole)
    assert (before == 0).any()
    np.testing.assert_array_equal(after, np.where(before == 0, 6, before))
    assert found.class_pixels("train") == (0, *finished.class_pixels("train")[1:])
    assert found.synthetic["GEOSYNTH_JUDGE_SHA256"] == judge.sha256
    np.testing.assert_array_equal(found.read_image(whole)[:, after < 6], finished.read_image(whole)[:, after < 6])
    three = make_scene_store(tmp_path / "three.zarr", PLACES, band_names=("red", "green", "blue"))
    with pytest.raises(DataError, match="bands red, green, blue do not fit the model judge"):
        geosynth.twin(three, tmp_path / "out.zarr", tiny_model, judge=judge)


class DoubtsByPlace:
    """Each pixel of a square by its place in what is shown."""

    path = Path("judge.safetensors")
    card = None
    sha256 = ""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def agreement(self, image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.seen.append((labels.shape[-2], labels.shape[-1]))
        return ((image[:, 0] + 2 * labels.astype(int)) % 3 / 2).astype(np.float32)


def test_what_a_judge_says_does_not_depend_on_the_windows_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_module, "_JUDGED", 40)
    monkeypatch.setattr(twin_module, "_MARGIN", 7)
    image = random_image(0, *store.geobox.shape)
    has_data = image[1] % 5 > 0

    def paint(window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        return image[:, *window.slices].copy(), has_data[window.slices].copy()

    judge, nothing = DoubtsByPlace(), store.legend.num_classes
    read = twin_module._judged(paint, store, judge, 0.5)
    whole = Window(0, 0, *store.geobox.shape)
    labels = np.where(has_data, store.read_labels(whole), nothing)
    expected = has_data & ((image[0] + 2 * labels.astype(int)) % 3 >= 1)
    for window in (whole, Window(33, 61, 50, 97), Window(120, 200, 31, 40), Window(210, 310, 20, 60)):
        pixels, valid = read(window)
        np.testing.assert_array_equal(pixels, image[:, *window.slices])
        np.testing.assert_array_equal(valid, expected[window.slices])
    assert max(judge.seen) == (40 + 2 * 7, 40 + 2 * 7)
    judge.seen.clear()
    has_data[:] = False
    assert not read(whole)[1].any()
    assert not judge.seen, "nothing to ask about"


def test_at_the_command_line(
    run: Callable[..., Any], store: Store, finished: Store, tiny_model: GeneratorModel, tmp_path: Path
) -> None:
    out = tmp_path / "twin.zarr"
    options = ["--model", tiny_model.path, "--fold", "test", "--seed", "5", "--precision", "fp32"]
    done = run("twin", "--data", store.path, "--out", out, *options)
    assert (done.code, done.out) == (0, f"{out}\n")
    place = PLACES["c.tif"]
    np.testing.assert_array_equal(Store(out).read_image(place), finished.read_image(place))


def test_a_twin_does_not_replace_a_store_that_holds_its_model(
    store: Store, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    out = tmp_path / "twin.zarr"
    geosynth.twin(store, out, tiny_model, **OPTIONS)
    model = out / "model.safetensors"
    model.write_bytes(tiny_model.path.read_bytes())
    with pytest.raises(OutputError, match="would be lost"):
        geosynth.twin(store, out, model, **OPTIONS, overwrite=True)
    assert model.exists()
