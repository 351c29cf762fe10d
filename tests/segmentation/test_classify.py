"""`classify`: predictions as a label raster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from segment_stores import BANDS, COLOURS, LEGEND

from geosynth.errors import CheckpointError, DataError, OutputError, RasterError
from geosynth.grid import BlockPlan, absolute_origin
from geosynth.raster.labels import LabelRaster
from geosynth.raster.raster_file import open_raster
from geosynth.segmentation.classify import classify
from geosynth.segmentation.segmenter import Segmenter, load_segmenter
from kills import killed
from rasters import north_up, write_raster


@pytest.fixture(scope="module")
def segmenter(trained):
    return load_segmenter(trained[0])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """(path, labels, valid) of an image of some blocks, the last of which have no data."""
    height, width = 300, 1100
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 3, (19, 69)), np.ones((16, 16), int))[:height, :width]
    image = (COLOURS[:, labels] + rng.integers(-14, 15, (4, height, width))).astype("uint8")
    valid = np.ones((height, width), dtype=bool)
    valid[:, 700:] = False
    path = write_raster(tmp_path_factory.mktemp("scene") / "scene.tif", image * valid, north_up(77, 33), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    return path, labels, valid


@pytest.fixture(scope="module")
def classified(segmenter, scene, tmp_path_factory):
    return classify(scene[0], segmenter, tmp_path_factory.mktemp("classified") / "deep" / "labels.tif")


def test_it_finds_the_classes_again_on_the_grid_of_the_image(scene, classified):
    path, labels, valid = scene
    with rasterio.open(path) as image, rasterio.open(classified) as found:
        assert (found.crs, found.transform, found.shape) == (image.crs, image.transform, image.shape)
        assert (found.count, found.dtypes[0], found.nodata) == (1, "uint8", 0)
        assert found.tags()["AREA_OR_POINT"] == "Point"
        codes = found.read(1)
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert set(np.unique(found.read(1, out_shape=(150, 550)))) <= {0, 10, 20, 30}
    assert (codes[~valid] == 0).all()
    assert (codes[valid] == LEGEND.decode(labels)[valid]).mean() > 0.9
    assert sorted(item.name for item in classified.parent.iterdir()) == ["labels.tif", "labels.tif.aux.xml"]


def test_readers_know_its_classes(classified):
    table = open_raster(classified).class_table
    assert {code: table[code] for code in (10, 20, 30)} == {
        entry.code: (entry.name, entry.colour) for entry in LEGEND.classes
    }
    survey = LabelRaster(classified, LEGEND).survey()
    assert set(survey.counts) == {10, 20, 30}
    assert sum(survey.counts.values()) == 300 * 700


def test_blocks_are_cut_out_of_what_is_predicted_around_them(scene, classified, segmenter):
    """The first block begins where the lattice of absolute positions has a line, or the image does."""
    with rasterio.open(scene[0]) as image, rasterio.open(classified) as found:
        pixels, codes = image.read(), found.read(1)
    plan = BlockPlan(300, 1100, absolute_origin(open_raster(scene[0]).geobox), 512)
    block = plan[0]
    seen = pixels[:, : block.height + 64, : block.width + 64]
    padded = np.pad(seen, ((0, 0), (64, 0), (64, 0)), mode="edge")
    predicted = segmenter.predict(padded[None])[0, 64:, 64:][: block.height, : block.width]
    assert (codes[block.slices] == LEGEND.decode(predicted)).mean() > 0.999


def test_an_interrupted_run_goes_on_with_the_same_result(scene, classified, segmenter, tmp_path, monkeypatch):
    out = tmp_path / "labels.tif"

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(scene[0], segmenter, out, progress=stop)
    assert not out.exists()
    predicted, predict = [], Segmenter.predict
    monkeypatch.setattr(Segmenter, "predict", lambda self, image: predicted.append(image.shape) or predict(self, image))
    told = []
    classify(scene[0], segmenter, out, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)
    assert 0 < len(predicted) < len(told) - 1  # without the finished ones and those without data
    with rasterio.open(out) as again, rasterio.open(classified) as whole:
        assert (again.read() == whole.read()).all()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["labels.tif", "labels.tif.aux.xml"]


def test_what_a_mask_hides_changes_nothing(segmenter, tmp_path):
    image = np.random.default_rng(0).integers(1, 255, (4, 64, 96)).astype("uint8")
    valid = np.ones((64, 96), bool)
    valid[20:50, 30:60] = False
    results = []
    for name, hidden in (("zero", 0), ("white", 255)):
        image[:, ~valid] = hidden
        path = write_raster(tmp_path / f"{name}.tif", image, north_up())
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
        with rasterio.open(classify(path, segmenter, tmp_path / f"{name}.labels.tif")) as found:
            results.append(found.read())
    np.testing.assert_array_equal(*results)


def test_bands_are_found_by_name(segmenter, tmp_path):
    image = np.random.default_rng(0).integers(1, 255, (5, 40, 50)).astype("uint8")
    plain = write_raster(tmp_path / "plain.tif", image[[3, 0, 2, 4]], north_up())
    named = write_raster(tmp_path / "named.tif", image, north_up())
    with rasterio.open(named, "r+") as dataset:
        dataset.descriptions = ("green", "swir", "blue", "red", "nir")
    results = []
    for path in (plain, named):
        with rasterio.open(classify(path, segmenter, path.with_suffix(".labels.tif"))) as found:
            results.append(found.read())
    assert BANDS == ("red", "green", "blue", "nir")
    assert len(np.unique(results[0])) == 3
    assert (results[0] == results[1]).all()


def test_bands_without_names_are_found_by_numbers(segmenter, tmp_path, run):
    image = np.random.default_rng(0).integers(1, 255, (5, 40, 50)).astype("uint8")
    plain = write_raster(tmp_path / "plain.tif", image[[3, 0, 2, 4]], north_up())
    more = write_raster(tmp_path / "more.tif", image, north_up())
    given = ["--bands", "green=1,blue=3,red=4,nir=5"]
    results = []
    for path, options in ((plain, []), (more, given)):
        out = path.with_suffix(".labels.tif")
        done = run("classify", "--image", path, "--model", segmenter.path, "--out", out, *options)
        assert (done.code, done.err) == (0, "")
        with rasterio.open(out) as found:
            results.append(found.read())
    assert (results[0] == results[1]).all()


def test_refusals(segmenter, trained, scene, tmp_path, tiny_model):
    image = np.zeros((3, 32, 32), np.uint8)
    three = write_raster(tmp_path / "three.tif", image, north_up())
    wide = write_raster(tmp_path / "wide.tif", np.zeros((4, 32, 32), np.uint16), north_up())
    out = tmp_path / "labels.tif"
    for source, model, error, said in (
        (three, segmenter, DataError, r"three.tif: its bands are .*; the segmenter's are red, green, blue, nir"),
        (wide, segmenter, DataError, r"wide.tif: holds uint16 values; the segmenter's are uint8"),
        (tmp_path / "none.tif", segmenter, RasterError, "none.tif: no such file"),
        (scene[0], tiny_model.path, CheckpointError, "a generator, but not a segmenter"),
    ):
        with pytest.raises(error, match=said) as caught:
            classify(source, model, out)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="device: 'nowhere' cannot be used"):
        classify(scene[0], trained[0], out, device="nowhere")
    with pytest.raises(OutputError, match=r"ends in \.tif"):
        classify(scene[0], segmenter, tmp_path / "labels.png")
    with pytest.raises(OutputError, match="already exists"):
        classify(scene[0], segmenter, three)
    with pytest.raises(OutputError, match="is also an input"):
        classify(three, segmenter, three, overwrite=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["three.tif", "wide.tif"]


def test_an_image_without_any_data(segmenter, tmp_path):
    empty = write_raster(tmp_path / "empty.tif", np.zeros((4, 50, 60), np.uint8), north_up(), nodata=0)
    with rasterio.open(classify(empty, segmenter, tmp_path / "labels.tif")) as found:
        assert not found.read().any()
        assert found.nodata == 0


def test_another_pixel_size_is_told(segmenter, tmp_path, caplog):
    image = write_raster(tmp_path / "one.tif", np.ones((4, 32, 32), np.uint8), north_up(size=1.0))
    classify(image, segmenter, tmp_path / "labels.tif")
    assert "pixels of 1 m; the segmenter was trained on 0.6 m" in caplog.text


@pytest.mark.parametrize("outputs", range(3))
def test_a_kill_among_the_outputs_is_made_up_for(outputs, scene, classified, segmenter, tmp_path, monkeypatch):
    out = tmp_path / "labels.tif"
    with killed(monkeypatch, outputs):
        classify(scene[0], segmenter, out)
    monkeypatch.setattr(Segmenter, "predict", None)  # nothing is predicted again
    classify(scene[0], segmenter, out)
    for path in classified.parent.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["labels.tif", "labels.tif.aux.xml"]


def test_what_an_image_is_made_of_is_not_replaced(scene, segmenter, tmp_path):
    part, whole = tmp_path / "part.tif", tmp_path / "whole.vrt"
    part.write_bytes(scene[0].read_bytes())
    rasterio.shutil.copy(part, whole, driver="VRT")
    with pytest.raises(OutputError, match=r"part\.tif: is also an input and would be lost"):
        classify(whole, segmenter, part, overwrite=True)


def test_a_sidecar_that_finds_no_room_leaves_no_labels(scene, classified, segmenter, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    out = tmp_path / "labels.tif"
    with (
        monkeypatch.context() as patch,
        pytest.raises(OutputError, match=r"/labels\.tif\.aux\.xml: cannot be written: No"),
    ):
        patch.setattr(Path, "write_bytes", fail)
        classify(scene[0], segmenter, out)
    assert [path.name for path in tmp_path.iterdir()] == [".labels.tif.unfinished"]
    monkeypatch.setattr(Segmenter, "predict", None)
    classify(scene[0], segmenter, out)
    for path in classified.parent.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
