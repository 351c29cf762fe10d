"""The work of a cell, with real and tiny networks, against the same work done by hand."""

import numpy as np
import pytest
import torch
from studies import REPLACE, make_study_store

from geosynth.checkpoint import load_generator
from geosynth.config import GenerateSettings
from geosynth.grid import Window
from geosynth.mosaic.looks import look_from_images
from geosynth.mosaic.twin import twin
from geosynth.raster.stores.store import Store
from geosynth.study.operations import Operations
from geosynth.study.recipes import LOOK
from geosynth.unfinished import UnfinishedWork
from rasters import NORTH_UP

TEST = Window(192, 0, 128, 128)


def test_a_generator_learns_from_its_fold_and_is_alone_in_its_folder(study_store, tmp_path):
    told = []
    model = Operations().train(
        study_store, tmp_path / "out", REPLACE.train, "test", lambda *counts: told.append(counts)
    )
    provenance = load_generator(model).card.provenance
    assert (provenance["fold"], [entry["name"] for entry in provenance["data"]]) == ("test", ["c.tif"])
    assert not {"last.ckpt", ".lock"} & {path.name for path in model.parent.iterdir()}
    assert told[-1] == (2, 2)


def test_a_kill_after_the_last_file_leaves_nothing_once_it_is_tidied(tmp_path):
    model, store = tmp_path / "generator" / "model.safetensors", tmp_path / "twin.zarr"
    model.parent.mkdir()
    for path in (model, model.with_name("last.ckpt"), model.with_name(".lock")):
        path.touch()
    Operations().tidy(model)
    assert list(model.parent.iterdir()) == [model]
    store.mkdir()
    UnfinishedWork(store).folder.mkdir()  # emptied, but not removed
    Operations().tidy(store)
    assert set(tmp_path.iterdir()) == {model.parent, store}


def test_a_twin_is_that_of_its_fold_and_its_painting_is_told(study_store, tmp_path, narrow_model):
    told, settings = [], GenerateSettings(seed=3, precision="fp32")
    path = tmp_path / "made.zarr"
    Operations().twin(study_store, path, narrow_model, settings, "test", lambda *counts: told.append(counts))
    made, expected = (
        Store(path),
        Store(twin(study_store, tmp_path / "twin.zarr", narrow_model, settings, folds=["test"])),
    )
    assert made.scenes == expected.scenes
    for found, wanted in zip(made.read(made.window), expected.read(expected.window), strict=True):
        assert np.array_equal(found, wanted)
    assert (made.read_labels(TEST) < 6).any()
    assert not (made.read_labels(Window(0, 0, 128, 128)) < 6).any()
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {told[-1][0]}


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
def test_the_look_of_a_fold_is_that_of_its_images(tmp_path, write_raster, told_model, labelled):
    """As `looks add` finds it; pixels without data, which are 0 in a store, are no detail at the edge of a hole."""

    def holed(image):
        image[:, 210:230, 40:70] = 0
        return image

    source = make_study_store(tmp_path / "store.zarr", change=holed)
    codes = source.legend.decode(source.read_labels(TEST))
    codes[18:38, 40:70] = 15
    source = Store(source.path, mode="r+")
    source.write(TEST, source.read_image(TEST), codes)
    Operations().look(source, tmp_path / "out", told_model.path, "test", 128, labelled)
    found = load_generator(tmp_path / "out" / "model.safetensors")
    assert list(found.looks) == [*told_model.looks, LOOK]

    images = [write_raster(source.read_image(TEST), "image.tif", nodata=0, transform=NORTH_UP)]
    labels = [write_raster(codes, "labels.tif", nodata=15, transform=NORTH_UP)] if labelled else []
    expected = look_from_images(images, labels, told_model, named=source.band_names)
    for name, values in expected.tensors().items():
        torch.testing.assert_close(found.looks[LOOK].tensors()[name], values)
