from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_scenes import WriteScene, blobs, textured

from geosynth.errors import DataError, GridError, LegendError
from geosynth.evaluation.tiles import RasterTiles
from geosynth.grid import Window
from geosynth.legend import Legend

RGBN = ("red", "green", "blue", "nir")


def opened(*arguments: Any) -> RasterTiles:
    return RasterTiles(*arguments, tile_size=32)


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, a real and a synthetic image of 60 x 80 px."""
    rng = np.random.default_rng(0)
    codes = blobs(rng, 60, 80)
    return codes, textured(rng, codes), textured(rng, codes)


def test_the_common_area_of_partly_overlapping_rasters(scene: Any, write_scene: WriteScene, legend: Legend) -> None:
    codes, real, synthetic = scene
    inputs = opened(
        write_scene("real.tif", real[:, 10:50, 5:70], 10, 5),
        write_scene("synthetic.tif", synthetic[:, 20:, 20:], 20, 20),
        write_scene("labels.tif", codes[:, :45, :], 0, 0),
        legend,
        legend,
        RGBN,
    )
    assert inputs.area == Window(10, 15, 25, 50)
    block = inputs.read(Window(3, 4, 20, 30))
    place = (slice(23, 43), slice(24, 54))
    assert np.array_equal(block.real, real[(slice(None), *place)])
    assert np.array_equal(block.synthetic, synthetic[(slice(None), *place)])
    assert np.array_equal(block.indices, codes[0][place] - 1)
    # The area begins at (20, 20) of the scene, which lies at (-4,500,000, 500,000).
    assert inputs.origin == (-4_499_980, 500_020)


def test_pixels_without_data_in_any_raster_have_no_class(scene: Any, write_scene: WriteScene, legend: Legend) -> None:
    codes, real, synthetic = scene
    codes[codes == 3] = 2
    codes[0, 0, 0] = 0
    codes[0, 3, 3] = 3  # a class, but declared nodata
    real[:, 1, 1] = 0
    mask = np.full((60, 80), 255, np.uint8)
    mask[2, 2] = 0
    inputs = opened(
        write_scene("real.tif", real, nodata=0, photometric="RGB", alpha="NO"),
        write_scene("synthetic.tif", synthetic, mask=mask, photometric="RGB", alpha="NO"),
        write_scene("labels.tif", codes, nodata=3),
        legend,
        legend,
        RGBN,
    )
    missing = inputs.read(inputs.area).indices == legend.num_classes
    assert np.argwhere(missing).tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_near_infrared_marked_alpha_is_data(scene: Any, write_scene: WriteScene, legend: Legend) -> None:
    codes, real, synthetic = scene
    real[3, :5] = 0
    paths = write_scene("real.tif", real), write_scene("synthetic.tif", synthetic)
    inputs = opened(*paths, write_scene("labels.tif", codes), legend, legend, RGBN)
    assert "alpha" in inputs.real.colour_interpretation
    assert (inputs.read(inputs.area).indices < legend.num_classes).all()


@pytest.mark.parametrize(
    ("real_bands", "synthetic_bands", "given", "expected"),
    [
        ((), RGBN, None, RGBN),
        (RGBN, (), None, RGBN),
        (RGBN, RGBN[::-1], ("a", "b", "c", "d"), ("a", "b", "c", "d")),
    ],
)
def test_band_names_come_from_whoever_knows(
    scene: Any,
    write_scene: WriteScene,
    legend: Legend,
    real_bands: Any,
    synthetic_bands: Any,
    given: Any,
    expected: Any,
) -> None:
    codes, real, synthetic = scene
    inputs = opened(
        write_scene("real.tif", real, bands=real_bands),
        write_scene("synthetic.tif", synthetic, bands=synthetic_bands),
        write_scene("labels.tif", codes),
        legend,
        legend,
        given,
    )
    assert inputs.bands == expected


def test_plain_bands_are_numbered_and_colours_are_names(scene: Any, write_scene: WriteScene, legend: Legend) -> None:
    codes, real, synthetic = scene
    labels = write_scene("labels.tif", codes)

    def names(count: int) -> tuple[str, ...]:
        paths = (write_scene(f"{name}.tif", image[:count]) for name, image in (("real", real), ("fake", synthetic)))
        return opened(*paths, labels, legend, legend, None).bands

    assert names(3) == ("red", "green", "blue")
    assert names(1) == ("gray",)


def test_bands_that_are_named_are_taken_from_images_that_have_more(
    scene: Any, write_scene: WriteScene, legend: Legend
) -> None:
    codes, real, synthetic = scene
    paths = write_scene("real.tif", real, bands=RGBN), write_scene("fake.tif", synthetic[:3])  # colours name its bands
    inputs = opened(*paths, write_scene("labels.tif", codes), legend, legend, ("green", "red"))
    block = inputs.read(inputs.area)
    np.testing.assert_array_equal(block.real, real[[1, 0]])
    np.testing.assert_array_equal(block.synthetic, synthetic[[1, 0]])


def test_transparency_beside_named_bands_is_left_out_as_is_told(
    scene: Any, write_scene: WriteScene, legend: Legend
) -> None:
    codes, real, synthetic = scene
    opaque = write_scene("real.tif", np.concatenate([real, np.full_like(real[:1], 255)]), bands=(*RGBN, "mask"))
    paths = opaque, write_scene("fake.tif", synthetic, bands=RGBN)
    tail = write_scene("labels.tif", codes), legend, legend
    with pytest.raises(DataError, match=r"has 4 bands, but .*real\.tif has 5; --bands (\S*) compares these$") as caught:
        opened(*paths, *tail, None)
    names = str(caught.value).split("--bands ")[1].split()[0].split(",")
    inputs = opened(*paths, *tail, names)
    np.testing.assert_array_equal(inputs.read(inputs.area).real, real)


def test_names_in_another_order_than_the_descriptions_are_told(
    scene: Any, write_scene: WriteScene, legend: Legend, caplog: pytest.LogCaptureFixture
) -> None:
    codes, real, synthetic = scene
    letters = ("NIR", "Red", "Green", "Blue")
    labels = write_scene("labels.tif", codes)
    swapped, fake = write_scene("real.tif", real[[3, 0, 1, 2]], bands=letters), write_scene("fake.tif", synthetic)
    block = (inputs := opened(swapped, fake, labels, legend, legend, RGBN)).read(Window(0, 0, 20, 20))
    np.testing.assert_array_equal(block.real, real[:, :20, :20])
    assert inputs.bands == RGBN
    assert not caplog.text
    coded = write_scene("coded.tif", synthetic, bands=("B8", "B4", "B3", "B2"))
    opened(swapped, coded, labels, legend, legend, RGBN)
    assert "coded.tif: its bands are described B8, B4, B3, B2, and named red, green, blue, nir" in caplog.text


def test_label_codes_of_another_legend(scene: Any, write_scene: WriteScene, legend: Legend) -> None:
    codes, real, synthetic = scene
    other = Legend.from_values(
        {"name": "other", "classes": [{"code": 10 * one.code, "name": one.name} for one in legend.classes[::-1]]}
    )
    paths = write_scene("real.tif", real), write_scene("synthetic.tif", synthetic)
    inputs = opened(*paths, write_scene("labels.tif", 10 * codes), legend, other, RGBN)
    assert np.array_equal(inputs.read(inputs.area).indices, codes[0] - 1)


def refused(tmp_path: Path, error: type[Exception], saying: str, *arguments: Any) -> None:
    with pytest.raises(error) as caught:
        opened(*arguments)
    assert saying in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) or error is LegendError


def test_what_cannot_be_compared_is_refused(
    scene: Any, write_scene: WriteScene, legend: Legend, tmp_path: Path
) -> None:
    codes, real, synthetic = scene
    good = write_scene("real.tif", real, bands=RGBN)
    fake = write_scene("fake.tif", synthetic, bands=RGBN)
    labels = write_scene("labels.tif", codes)
    tail = (labels, legend, legend, None)
    cases: list[tuple[type[Exception], str, Any, Any]] = [
        (GridError, "shifted by a fraction", good, write_scene("shifted.tif", synthetic, 0.5, bands=RGBN)),
        (GridError, "pixel size", good, write_scene("coarse.tif", synthetic, pixel=2.0, bands=RGBN)),
        (GridError, "EPSG:32617 differs", good, write_scene("zone.tif", synthetic, bands=RGBN, crs="EPSG:32617")),
        (GridError, "no pixel in common", good, write_scene("far.tif", synthetic, 60, bands=RGBN)),
        (DataError, "has 3 bands, but", good, write_scene("three.tif", synthetic[:3])),
        (DataError, "uint16", good, write_scene("deep.tif", synthetic.astype(np.uint16), bands=RGBN)),
        (DataError, "float32", write_scene("float.tif", real.astype(np.float32), bands=RGBN), fake),
        (DataError, "its bands are nir, blue", good, write_scene("swapped.tif", synthetic, bands=RGBN[::-1])),
        (DataError, "marked alpha", write_scene("bare.tif", real), write_scene("bare_too.tif", synthetic)),
    ]
    for error, saying, first, second in cases:
        refused(tmp_path, error, saying, first, second, *tail)
    for names in (("red", "swir"), ()):
        refused(tmp_path, DataError, "the names given are", good, fake, labels, legend, legend, names)
    refused(tmp_path, DataError, "name a more than once", good, fake, labels, legend, legend, ("a", "a", "b", "c"))
    refused(tmp_path, DataError, "A label raster has one band", good, fake, good, legend, legend, None)
    stranger = Legend.from_values({"name": "stranger", "classes": [{"code": 1, "name": "moon"}]})
    refused(tmp_path, LegendError, "no class moon", good, fake, labels, legend, stranger, None)
