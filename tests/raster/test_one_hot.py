"""Labels with a band for each class: the codes that their bands count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import geosynth
from geosynth.errors import DataError, LegendError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.coded_labels import ColourLabels, OneHotLabels
from geosynth.raster.label_files import open_label_file, open_labels
from geosynth.raster.label_legend import FROM_RASTER, choose_legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.raster_file import open_raster
from rasters import north_up, random_codes, random_image, write_raster

SIDE = 300
CODES = random_codes(3, SIDE, SIDE, (0, 1, 2, 3, 4, 5, 6))


def one_hot(codes: np.ndarray, bands: int, on: int = 255, dtype: str = "uint8") -> np.ndarray:
    return np.stack([(codes == band) * on for band in range(1, bands + 1)]).astype(dtype)


@pytest.mark.parametrize(
    ("bands", "on", "dtype"), [(6, 255, "uint8"), (6, 1, "uint16"), (40, 1, "int16"), (6, 1, "float32")]
)
def test_the_code_is_the_number_of_the_band(tmp_path: Path, bands: int, on: int, dtype: str) -> None:
    raster = open_labels(write_raster(tmp_path / "l.tif", one_hot(CODES, bands, on, dtype), north_up()))
    for window in (raster.window, Window(7, 30, 100, 61)):
        codes, valid = raster.read(window)
        np.testing.assert_array_equal(codes[0], CODES[window.slices])
        np.testing.assert_array_equal(valid, CODES[window.slices] > 0)


def test_four_bands_are_classes_though_gdal_calls_them_colours(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "l.tif", one_hot(CODES, 4), north_up())
    assert open_raster(path).colour_interpretation == ("red", "green", "blue", "alpha")
    raster = open_label_file(path)
    np.testing.assert_array_equal(raster.read(raster.window)[0][0], np.where(CODES > 4, 0, CODES))


@pytest.mark.parametrize(("bands", "only"), [(4, 1), (4, 2), (4, 3), (6, 5), (254, 254)])
def test_one_class_alone_is_known(tmp_path: Path, bands: int, only: int) -> None:
    codes = np.where(CODES == 2, only, 0)
    raster = open_label_file(write_raster(tmp_path / "l.tif", one_hot(codes, bands), north_up()))
    assert isinstance(raster, OneHotLabels)
    np.testing.assert_array_equal(raster.read(raster.window)[0][0], codes)


def test_colours_with_alpha_stay_colours(tmp_path: Path) -> None:
    opaque = np.repeat((CODES == 2)[np.newaxis] * np.uint8(255), 4, axis=0)
    for name, lit in {"black": [0, 0, 0, 1], "red": [1, 0, 0, 1], "white": [1, 1, 1, 1]}.items():
        values = opaque * np.array(lit, np.uint8)[:, np.newaxis, np.newaxis]
        assert isinstance(open_label_file(write_raster(tmp_path / f"{name}.tif", values, north_up())), ColourLabels)


def test_band_names_are_class_names(tmp_path: Path) -> None:
    order = [2, 0, 1, 5, 4, 3]
    names = [CHESAPEAKE.names[index] for index in order]
    codes = one_hot(CODES, 6)[order]
    path = write_raster(tmp_path / "l.tif", codes, north_up())
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    for legend in (None, FROM_RASTER):
        raster = open_labels(path)
        labels = LabelRaster(raster, choose_legend(raster, legend, CHESAPEAKE))
        np.testing.assert_array_equal(labels.read_known(labels.raster.window), np.where(CODES > 0, CODES - 1, 6))


def test_bands_without_names_are_no_class_table(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "l.tif", one_hot(CODES, 6), north_up())
    with pytest.raises(LegendError, match="has no class table"):
        choose_legend(open_labels(path), FROM_RASTER, CHESAPEAKE)
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(2, "Tree Canopy")
    assert open_labels(path).class_table[2] == ("Tree Canopy", None)


def test_a_store_of_them_is_that_of_their_codes(tmp_path: Path, run: Any) -> None:
    image = write_raster(tmp_path / "i.tif", random_image(1, SIDE, SIDE), north_up())
    stores = []
    for name, values in {"hot": one_hot(CODES, 6), "codes": CODES}.items():
        labels = write_raster(tmp_path / f"{name}.tif", values, north_up())
        bands = ["--bands", "red,green,blue,nir"]
        done = run("ingest", "--images", image, "--labels", labels, *bands, "--out", tmp_path / f"{name}.zarr")
        assert done.code == 0, done.err
        stores.append(geosynth.open_store(tmp_path / f"{name}.zarr"))
    for one, other in zip(*(store.read(Window(0, 0, *store.geobox.shape)) for store in stores), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_has_several_classes_at_a_pixel_is_refused(tmp_path: Path) -> None:
    values = one_hot(CODES, 6)
    values[:, 0, 0] = 255  # in none of the squares by which the raster is known
    raster = open_labels(write_raster(tmp_path / "l.tif", values, north_up()))
    assert isinstance(raster, OneHotLabels)
    with pytest.raises(DataError, match=r"l\.tif: has a band for each class, but pixels in .* have several") as caught:
        LabelRaster(raster, CHESAPEAKE).survey()
    assert "\n" not in str(caught.value)
    for name, wrong in {"two.tif": one_hot(CODES, 6) | 1, "odd.tif": one_hot(CODES, 6, 7)}.items():
        with pytest.raises(DataError, match=rf"{name}: has 6 bands; .* or from four bands on one for each class"):
            LabelRaster(write_raster(tmp_path / name, wrong, north_up()), CHESAPEAKE)
