"""What is painted for a twin: labels in bounded pieces, and a source with other imagery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores.copy import copy_sources
from geosynth.raster.stores.painted import FoldLabels, Painted
from geosynth.raster.stores.store import Store
from geosynth.unfinished import UnfinishedWork
from rasters import random_image
from scene_stores import make_scene_store

PLACES = {"a.tif": Window(0, 0, 100, 300), "b.tif": Window(50, 250, 200, 100)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    split = SpatialSplit.by_scenes({"train": [PLACES["a.tif"]], "test": [Window(150, 250, 100, 100)]})
    return make_scene_store(tmp_path / "real.zarr", PLACES, split=split)


def test_labels_are_surveyed_in_pieces_however_large_the_scenes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosynth.raster.stores.painted.SCAN_BLOCK", 64)
    labels = FoldLabels(store, store.legend, ["train"])
    windows = labels.surveyed()
    assert max(max(window.height, window.width) for window in windows) == 64
    seen = np.zeros(store.geobox.shape, int)
    for window in windows:
        seen[window.slices] += 1
    inside = np.zeros(store.geobox.shape, bool)
    for place in PLACES.values():
        inside[place.slices] = True
    assert seen.max() == 1
    assert seen[inside].all()
    counts = labels.survey().counts
    codes = store.labels[:][store.split.mask(Window(0, 0, *store.geobox.shape), "train")]
    assert counts == {code: (codes == code).sum() for code in np.unique(codes[codes != 15])}


def painted(store: Store) -> Painted:
    image = random_image(9, *store.geobox.shape)
    valid = (np.indices(store.geobox.shape).sum(axis=0) % 7 > 0) & (store.labels[:] != 15)

    def paint(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return image[(slice(None), *window.slices)] * valid[window.slices], valid[window.slices]

    return Painted(store, paint, {"GEOSYNTH_SEED": "3"})


def copied(source: Painted, out: Path) -> Store:
    work = UnfinishedWork(out)
    with work.open({"sources": [source.digest()]}):
        copy_sources(work, [source])
    return Store(out)


def test_a_copy_holds_what_its_source_gives(store: Store, tmp_path: Path) -> None:
    source, whole = painted(store), Window(0, 0, *store.geobox.shape)
    copy = copied(source, tmp_path / "copy.zarr")
    image, labels = source.read(whole)
    np.testing.assert_array_equal(copy.read_image(whole), image)
    np.testing.assert_array_equal(copy.read_labels(whole), labels)
    np.testing.assert_array_equal(source.read_labels(whole), labels)
    assert (copy.geobox, copy.split, copy.synthetic) == (store.geobox, store.split, {"GEOSYNTH_SEED": "3"})
    for fold in ("train", "test"):
        mine = labels[store.split.mask(whole, fold)]
        assert copy.class_pixels(fold) == tuple((mine == index).sum() for index in range(6))
    for scene in copy.scenes:
        there = labels[scene.window.slices]
        assert scene.class_pixels == tuple((there == index).sum() for index in range(6))
    assert copy.digest() != store.digest()


def test_scenes_tell_of_how_they_were_painted_and_not_of_the_real_images(store: Store) -> None:
    store.scenes = tuple(replace(scene, image=f"/real/{scene.name}") for scene in store.scenes)

    def told(**tags: str) -> list[str]:
        scenes = Painted(store, store.read, tags).scenes
        assert {scene.image for scene in scenes} == {""}
        return [scene.image_sha256 for scene in scenes]

    first = told(model="1", seed="2")
    assert first == told(seed="2", model="1")
    others = {*told(model="1", seed="3"), *(scene.image_sha256 for scene in store.scenes)}
    assert len({*first, *others}) == len(first) + len(others) == 6


def test_shards_that_are_written_are_not_written_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create
    small = staticmethod(lambda *args, **options: create(*args, **options, chunk_size=64, shard_size=128))
    monkeypatch.setattr(Store, "create", small)
    source = painted(store)
    write, written = Store.write, []

    def fail(self: Store, window: Window, *values: object) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(window)
        write(self, window, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", fail)
        patch.setattr("os.cpu_count", lambda: 1)
        with pytest.raises(OSError, match="No space left"):
            copied(source, tmp_path / "copy.zarr")
    kept = UnfinishedWork(tmp_path / "copy.zarr").done()
    assert kept
    again: list[Window] = []

    def note(self: Store, window: Window, *values: object) -> None:
        again.append(window)
        write(self, window, *values)

    monkeypatch.setattr(Store, "write", note)
    copy = copied(source, tmp_path / "copy.zarr")
    shards = copy.shards()
    assert set(shards) - set(again) == {shards[int(part.removeprefix("shard-0-"))] for part in kept}
    whole = Window(0, 0, *store.geobox.shape)
    np.testing.assert_array_equal(copy.read_image(whole), source.read(whole)[0])
