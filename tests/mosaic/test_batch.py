"""generate_many: a mosaic of tiles, file by file, realisations; the same pixels as one raster painted at once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

import geosynth
from geosynth import files
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import DataError, LegendError, OutputError, SettingsError
from geosynth.grid import TilePlan, Window
from geosynth.mosaic import image as painting
from geosynth.mosaic.batch import sample_seeds
from geosynth.raster.images import image_tags
from kills import Killed, killed
from rasters import NORTH_UP, UTM_18N, draw_labels, write_raster

FP32 = GenerateSettings(precision="fp32", style_length=200)
HEIGHT, WIDTH = 150, 230


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and where there is data."""
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.dataset_mask() > 0


def write_tile(folder: Path, codes: np.ndarray, window: Window) -> Path:
    transform = NORTH_UP @ NORTH_UP.translation(window.column, window.row)
    name = f"tile_{window.row}_{window.column}.tif"
    return write_raster(folder / name, codes[window.slices], transform, crs=UTM_18N)


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return draw_labels(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray) -> Path:
    """Label tiles of 100 px."""
    folder = tmp_path_factory.mktemp("tiles")
    for window in TilePlan(HEIGHT, WIDTH, 100):
        write_tile(folder, codes, window)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray, tiny_model: GeneratorModel) -> Path:
    """The image of all labels, painted at once."""
    folder = tmp_path_factory.mktemp("whole")
    labels = write_raster(folder / "labels.tif", codes, NORTH_UP, crs=UTM_18N)
    return geosynth.generate(labels, folder / "image.tif", tiny_model, FP32)


@pytest.mark.parametrize("given", ["folder", "glob", "list"])
def test_tiles_become_one_image_as_if_they_were_one_raster(
    tiles: Path, whole: Path, tmp_path: Path, tiny_model: GeneratorModel, given: str
) -> None:
    labels = {"folder": tiles, "glob": str(tiles / "*.tif"), "list": sorted(tiles.glob("*.tif"))}[given]
    (image,) = geosynth.generate_many(labels, tmp_path / "mosaic.tif", tiny_model, FP32)
    with rasterio.open(image) as made, rasterio.open(whole) as expected:
        assert made.transform == expected.transform
        assert made.crs == expected.crs
    np.testing.assert_array_equal(read(image)[0], read(whole)[0])


def test_file_by_file_is_the_mosaic_in_pieces(
    tiles: Path, whole: Path, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    """No seam can be where each image is a cutting of one image (but for rounding)."""
    images = geosynth.generate_many(tiles, tmp_path / "images", tiny_model, FP32, each=True)
    assert [image.name for image in images] == sorted(path.name for path in tiles.iterdir())
    expected = read(whole)[0]
    differing = 0
    for window in TilePlan(HEIGHT, WIDTH, 100):
        name = f"tile_{window.row}_{window.column}.tif"
        with rasterio.open(tmp_path / "images" / name) as image, rasterio.open(tiles / name) as labels:
            assert image.transform == labels.transform
            gap = np.abs(image.read().astype(int) - expected[:, *window.slices])
        assert gap.max() <= 1
        differing += int((gap > 0).sum())
    assert differing < 1e-4 * expected.size


def test_overlapping_tiles_agree_and_keep_their_own_holes(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel
) -> None:
    left, right = codes[:80, :100].copy(), codes[:80, 60:150].copy()
    left[:, 90:] = 15  # the right tile has labels there
    for name, part, column in (("left", left, 0), ("right", right, 60)):
        transform = NORTH_UP @ NORTH_UP.translation(column, 0)
        write_raster(tmp_path / "tiles" / f"{name}.tif", part, transform, crs=UTM_18N, nodata=15)
    images = geosynth.generate_many(tmp_path / "tiles", tmp_path / "images", tiny_model, FP32, each=True)
    (first, first_valid), (second, _) = (read(image) for image in images)
    np.testing.assert_array_equal(first_valid, left != 15)
    np.testing.assert_array_equal(first[:, :, 60:90], second[:, :, :30])


def test_a_changed_neighbour_is_noticed(tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel) -> None:
    folder, out = tmp_path / "tiles", tmp_path / "images"
    for window in (Window(0, 0, 64, 64), Window(0, 64, 64, 64)):
        write_tile(folder, codes, window)
    geosynth.generate_many(folder, out, tiny_model, FP32, each=True)
    write_tile(folder, 7 - codes, Window(0, 64, 64, 64))
    with pytest.raises(OutputError, match=r"tile_0_0\.tif: already exists, made differently \(labels_digest\)"):
        geosynth.generate_many(folder, out, tiny_model, FP32, each=True)


def test_files_on_other_grids_are_painted_alone(tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel) -> None:
    small = codes[:40, :40]
    shifted = NORTH_UP @ NORTH_UP.translation(40.5, 0)
    write_raster(tmp_path / "tiles" / "a.tif", small, NORTH_UP, crs=UTM_18N)
    write_raster(tmp_path / "tiles" / "b.tif", small, shifted, crs=UTM_18N)
    write_raster(tmp_path / "tiles" / "c.tif", small, NORTH_UP, crs="EPSG:26917")
    images = geosynth.generate_many(tmp_path / "tiles", tmp_path / "images", tiny_model, FP32, each=True)
    for image in images:
        alone = geosynth.generate(tmp_path / "tiles" / image.name, tmp_path / f"alone_{image.name}", tiny_model, FP32)
        np.testing.assert_array_equal(read(image)[0], read(alone)[0])


def test_finished_images_are_left_alone_and_others_refused(
    tiles: Path, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    out = tmp_path / "images"
    images = geosynth.generate_many(tiles, out, tiny_model, FP32, each=True)
    stamps = [image.stat().st_mtime_ns for image in images]
    content = images[2].read_bytes()
    images[2].unlink()
    assert geosynth.generate_many(tiles, out, tiny_model, FP32, each=True, stac=True) == images
    again = [image.stat().st_mtime_ns for image in images]
    assert [old == new for old, new in zip(stamps, again, strict=True)] == [index != 2 for index in range(len(images))]
    assert images[2].read_bytes() == content
    assert all(image.with_suffix(".json").is_file() for image in images), "what was not asked for before is made"
    assert not list(out.glob("*.png")), "and nothing else"

    other = FP32.model_copy(update={"seed": 1})
    with pytest.raises(OutputError, match=r"already exists, made differently \(seed\)"):
        geosynth.generate_many(tiles, out, tiny_model, other, each=True)
    assert [image.stat().st_mtime_ns for image in images] == again
    geosynth.generate_many(tiles, out, tiny_model, other, each=True, overwrite=True)
    assert images[2].read_bytes() != content


def test_tags_that_a_file_cannot_keep_make_no_difference(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel
) -> None:
    """Of a training whose losses looked through no network, labels and a legend with a blank before their names."""
    card = tiny_model.card.model_copy(update={"provenance": {"training": {"perceptual_weight": 0}}})
    model = replace(tiny_model, card=card)
    labels = write_raster(tmp_path / " labels.tif", codes[:40, :40], NORTH_UP, crs=UTM_18N)
    legend = card.legend.model_copy(update={"name": " mine"})

    def paint() -> list[Path]:
        return geosynth.generate_many(labels, tmp_path / "image.tif", model, FP32, samples=2, legend=legend)

    images = paint()
    assert image_tags(images[0])["GEOSYNTH_LOSS_NETWORKS"] == "none", "and not one that does not tell"
    stamps = [image.stat().st_mtime_ns for image in images]
    assert paint() == images
    assert [image.stat().st_mtime_ns for image in images] == stamps


def test_samples_left_of_other_settings_are_painted_anew(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_raster(tmp_path / "labels.tif", codes[:40, :60], NORTH_UP, crs=UTM_18N)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("geosynth.raster.zarr_image.join_samples", stop)
        geosynth.generate_many(labels, tmp_path / "image.zarr", tiny_model, FP32, samples=2)
    other = FP32.model_copy(update={"seed": 1})
    again, unbroken = (tmp_path / name for name in ("image.zarr", "unbroken.zarr"))
    for out in (again, unbroken):
        geosynth.generate_many(labels, out, tiny_model, other, samples=2)
    first, second = (xr.open_zarr(out).image.values for out in (again, unbroken))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("what", ["image", "summary"])
def test_a_kill_after_an_output_has_its_name_leaves_nothing(
    what: str, tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the hidden folder of a realisation, or of the summary, is about to go."""
    labels = write_raster(tmp_path / "labels.tif", codes[:96, :96], NORTH_UP, crs=UTM_18N)
    out = tmp_path / "out" / "image.tif"

    def paint(summary: bool) -> None:
        geosynth.generate_many(labels, out, tiny_model, FP32, samples=2, summary=summary)

    if what == "summary":
        paint(False)
    with killed(monkeypatch, 1):
        paint(True)
    paint(True)
    names = ["image_0.tif", "image_1.tif", "image_summary.tif"]
    assert sorted(path.name for path in out.parent.iterdir()) == names


def test_a_preview_of_a_finished_image_is_made_where_a_kill_leaves_nothing(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_raster(tmp_path / "labels" / "a.tif", codes[:96, :96], NORTH_UP, crs=UTM_18N)
    out = tmp_path / "out"

    def die(*_: object) -> None:
        raise Killed

    def paint(**more: bool) -> None:
        geosynth.generate_many(labels.parent, out, tiny_model, FP32, each=True, **more)

    paint()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(files, "replace", die)
        patch.setattr(files, "delete", lambda path: None)
        paint(preview=True)
    assert sorted(path.name for path in out.iterdir()) == [".a.tif.unfinished", "a.tif"]
    paint(preview=True)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "a.tif"]


def test_a_bad_file_does_not_stop_the_others(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    folder, out = tmp_path / "tiles", tmp_path / "images"
    for name, column in (("a", 0), ("b", 40), ("d", 80)):
        part = np.full((40, 40), 77, np.uint8) if name == "b" else codes[:40, column : column + 40]
        write_raster(folder / f"{name}.tif", part, NORTH_UP @ NORTH_UP.translation(column, 0), crs=UTM_18N)
    (folder / "c.tif").write_text("not a raster")
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match=r"2 of 4 label files .*b\.tif, .*c\.tif$"):
        geosynth.generate_many(folder, out, tiny_model, FP32, each=True)
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "d.tif"]
    assert "does not know: 77" in caplog.text
    assert "c.tif: cannot be opened" in caplog.text


def test_samples_are_the_images_of_their_seeds(tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel) -> None:
    labels = write_raster(tmp_path / "labels.tif", codes[:64, :64], NORTH_UP, crs=UTM_18N)
    settings = FP32.model_copy(update={"seed": 7})
    told = []
    images = geosynth.generate_many(
        labels, tmp_path / "image.tif", tiny_model, settings, samples=3, progress=lambda *step: told.append(step)
    )
    assert [step for step in told if "finishing" not in step[0]] == [
        (f"image_{number}.tif: {stage}", done, 1)
        for number in range(3)
        for stage, done in (("checking", 1), ("painting", 0), ("painting", 1))
    ]
    assert [image.name for image in images] == ["image_0.tif", "image_1.tif", "image_2.tif"]
    seeds = sample_seeds(7, 3)
    assert seeds[0] == 7
    assert not set(seeds[1:]) & set(sample_seeds(8, 3))  # drawn, not counted on: the next seed has others
    pixels = [read(image)[0] for image in images]
    for seed, sample in zip(seeds, pixels, strict=True):
        alone = FP32.model_copy(update={"seed": seed})
        image = geosynth.generate(labels, tmp_path / f"seed_{seed}.tif", tiny_model, alone)
        np.testing.assert_array_equal(read(image)[0], sample)
    assert (pixels[0] != pixels[1]).mean() > 0.5
    assert (pixels[1] != pixels[2]).mean() > 0.5


def test_samples_are_a_dimension_of_a_zarr_store(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes = codes[:64, :90].copy()
    holes[:10] = 15
    labels = write_raster(tmp_path / "labels.tif", holes, NORTH_UP, crs=UTM_18N, nodata=15)
    files = geosynth.generate_many(labels, tmp_path / "image.tif", tiny_model, FP32, samples=3)
    before = set(tmp_path.iterdir())

    painted = []
    original = painting.paint_missing

    def interrupted(*arguments: Any) -> Iterator[int]:
        painted.append(arguments)
        if len(painted) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(painting, "paint_missing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        geosynth.generate_many(labels, tmp_path / "image.zarr", tiny_model, FP32, samples=3)
    assert not (tmp_path / "image.zarr").exists()
    made = geosynth.generate_many(labels, tmp_path / "image.zarr", tiny_model, FP32, samples=3)
    assert made == [tmp_path / "image.zarr"]
    assert len(painted) == 4, "two samples were there already"
    assert set(tmp_path.iterdir()) - before == {tmp_path / "image.zarr"}

    image = xr.open_zarr(tmp_path / "image.zarr", decode_coords="all")["image"]
    assert image.dims == ("sample", "band", "y", "x")
    for sample, file in enumerate(files):
        pixels, valid = read(file)
        np.testing.assert_array_equal(image.isel(sample=sample).values, pixels)
        np.testing.assert_array_equal(image["valid"].values, valid)
    assert json.loads(image.attrs["GEOSYNTH_SAMPLE_SEEDS"]) == sample_seeds(0, 3)
    with pytest.raises(OutputError, match="already exists"):
        geosynth.generate_many(labels, tmp_path / "image.zarr", tiny_model, FP32, samples=3)


def test_seeds_of_samples() -> None:
    assert sample_seeds(5, 1) == [5]
    assert sample_seeds(7, 3) == [7, 2021251017632032385, 8779501138110131270], "images are told by them"
    assert sample_seeds(5, 4) == sample_seeds(5, 9)[:4]
    many = [seed for start in range(20) for seed in sample_seeds(start, 20)]
    assert len(set(many)) == len(many)
    assert all(GenerateSettings(seed=seed).seed == seed for seed in many)


def test_names_that_would_clash(tiles: Path, tmp_path: Path, tiny_model: GeneratorModel, codes: np.ndarray) -> None:
    for folder in ("one", "two"):
        write_raster(tmp_path / folder / "same.tif", codes, NORTH_UP, crs=UTM_18N)
    with pytest.raises(OutputError, match="two label files are called 'same'"):
        geosynth.generate_many(str(tmp_path / "*" / "same.tif"), tmp_path / "out", tiny_model, each=True)
    for name in ("out.tif", "out.TIFF", "out.zarr"):
        with pytest.raises(OutputError, match="need a folder"):
            geosynth.generate_many(tiles, tmp_path / name, tiny_model, each=True)
    for out, each in ((tiles, True), (tiles / "image.tif", False)):
        with pytest.raises(OutputError, match="among the label tiles"):
            geosynth.generate_many(tiles, out, tiny_model, each=each)
    with pytest.raises(OutputError, match="among the label tiles"):
        geosynth.generate(tiles, tiles / "image.tif", tiny_model)
    for samples in (0, 10**12):
        with pytest.raises(SettingsError, match=f"samples: 1 to 10000 realisations, got {samples}"):
            geosynth.generate_many(tiles, tmp_path / "out.tif", tiny_model, samples=samples)


@pytest.mark.parametrize("overwrite", [False, True])
def test_labels_are_not_replaced_by_their_image(
    overwrite: bool, tiles: Path, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    for labels in tiles.glob("*.tif"):
        before = labels.read_bytes()
        with pytest.raises(OutputError, match=rf"{labels.name}: is also an input and would be lost"):
            geosynth.generate_many(labels, tiles, tiny_model, FP32, each=True, overwrite=overwrite)
        assert labels.read_bytes() == before


def test_labels_are_brought_to_the_models_pixels(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Each label pixel doubled, at half the size: resampled to the model's 1 m it is the original again."""
    double = np.kron(codes[:60, :60], np.ones((2, 2), np.uint8))
    half = NORTH_UP @ NORTH_UP.scale(0.5)
    fine = write_raster(tmp_path / "fine.tif", double, half, crs=UTM_18N)
    plain = write_raster(tmp_path / "plain.tif", codes[:60, :60], NORTH_UP, crs=UTM_18N)
    expected = geosynth.generate(plain, tmp_path / "expected.tif", tiny_model, FP32)
    assert not caplog.text
    image = geosynth.generate(fine, tmp_path / "image.tif", tiny_model, FP32, resample="mode")
    assert "resampled (mode) to 1 m; the image has a grid of its own, 60 x 60 px" in caplog.text
    with rasterio.open(image) as made, rasterio.open(expected) as one:
        assert made.transform == one.transform
    np.testing.assert_array_equal(read(image)[0], read(expected)[0])
    caplog.clear()
    double[1::2, 1::2] = double[1::2, 1::2] % 6 + 1  # the corner that the nearest pixel is
    fine = write_raster(tmp_path / "fine.tif", double, half, crs=UTM_18N)
    by = {how: tmp_path / f"{how}.tif" for how in ("mode", "nearest")}
    for how, out in by.items():
        geosynth.generate(fine, out, tiny_model, FP32, resample=how)
    np.testing.assert_array_equal(read(by["mode"])[0], read(expected)[0])
    assert (read(by["nearest"])[0] != read(expected)[0]).mean() > 0.3
    caplog.clear()
    geosynth.generate(fine, tmp_path / "as_it_is.tif", tiny_model, FP32)
    assert "pixels of 0.5 m; the model was trained on 1 m" in caplog.text


def test_unknown_codes_may_be_nodata(
    tmp_path: Path, codes: np.ndarray, tiny_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    small = codes[:64, :64].copy()
    small[10:20, 30:50] = 77
    labels = write_raster(tmp_path / "labels.tif", small, NORTH_UP, crs=UTM_18N)
    with pytest.raises(LegendError, match=r"77 \(200 px\)"):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32)
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32, unknown="nodata")
    assert "200 px of unknown codes (77) are treated as nodata" in caplog.text
    np.testing.assert_array_equal(read(image)[1], small != 77)
