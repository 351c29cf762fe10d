"""What the bands of an image are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.enums import ColorInterp

from geosynth.config import BandSettings
from geosynth.config.bands import Quantity
from geosynth.errors import DataError, RasterError
from geosynth.grid import Window
from geosynth.raster.bands import check_image_type, common_bands, open_chosen
from geosynth.raster.images import open_image
from geosynth.raster.model_bands import NeededBands, open_bands, open_common_bands
from rasters import north_up, random_image, write_raster

SIDE = 20
PIXELS = random_image(0, SIDE, SIDE)
WHOLE = Window(0, 0, SIDE, SIDE)


def image(
    folder: Path, *, descriptions: list[str] | None = None, colours: list[str] | None = None, bands: int = 4
) -> Path:
    profile = {"photometric": "minisblack", "alpha": "no"} if bands == 4 else {}
    path = write_raster(folder / "image.tif", PIXELS[:bands], north_up(), **profile)
    with rasterio.open(path, "r+") as dataset:
        if colours:
            dataset.colorinterp = [ColorInterp[name] for name in colours]
        if descriptions:
            dataset.descriptions = descriptions
    return path


def model(*names: str, dtype: str = "uint8") -> NeededBands:
    """The bands of one."""
    return NeededBands(BandSettings(names=names, dtype=dtype), "model", "model.safetensors")


@pytest.mark.parametrize(
    "told",
    [
        {"descriptions": ["blue", "green", "red", "nir"]},
        {"colours": ["blue", "green", "red", "undefined"], "descriptions": ["blue", "green", "red", "nir"]},
        {"colours": ["blue", "green", "red"], "bands": 3},
    ],
)
def test_bands_are_found_by_what_the_image_calls_them(tmp_path: Path, told: dict) -> None:
    opened = open_bands(image(tmp_path, **told), model("red", "green", "blue"))
    np.testing.assert_array_equal(opened.read(WHOLE)[0], PIXELS[[2, 1, 0]])
    assert opened.colour_interpretation[0] in ("red", "undefined")


def test_names_may_differ_in_case(tmp_path: Path) -> None:
    path = image(tmp_path, descriptions=["Blue", "GREEN", "Red", "nir"])
    opened = open_bands(path, model("red", "green", "blue"))
    np.testing.assert_array_equal(opened.read(WHOLE)[0], PIXELS[[2, 1, 0]])


def test_bands_of_other_names_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = image(tmp_path, descriptions=["B02", "B03", "B04", "B08"])
    remedy = r"are red, nir \(say which is which, as in --bands red=ITS_NAME_THERE,\.\.\.\)$"
    with pytest.raises(DataError, match=remedy):
        open_bands(path, model("red", "nir"))


def test_an_image_that_names_no_bands_has_them_in_the_order_of_the_model(tmp_path: Path) -> None:
    opened = open_bands(image(tmp_path), model("red", "green", "blue", "nir"))
    np.testing.assert_array_equal(opened.read(WHOLE)[0], PIXELS)


def test_bands_are_found_by_the_names_and_numbers_that_are_given(tmp_path: Path) -> None:
    values = random_image(2, SIDE, SIDE, bands=13)
    path = write_raster(tmp_path / "many.tif", values, north_up())
    needed = model("red", "green", "blue", "nir")
    with pytest.raises(DataError, match=r"its bands are gray, undefined, .*; the model's are red, green, blue, nir"):
        open_bands(path, needed)
    chosen = ["nir=8", "red=4", "blue=2", "green=3", "swir=11"]
    np.testing.assert_array_equal(open_bands(path, needed, chosen).read(WHOLE)[0], values[[3, 2, 1, 7]])
    with pytest.raises(DataError, match=r"its bands are red, nir; the model's are red, green, blue, nir$"):
        open_bands(path, needed, ["red=4", "nir=8"])
    (some,), present = open_common_bands([path], needed, ["nir=8", "swir=11", "red=4"])
    assert present == [0, 3]
    np.testing.assert_array_equal(some.read(WHOLE)[0], values[[3, 7]])
    order = ["blue", "green", "red", "nir"]  # in the file, without numbers
    np.testing.assert_array_equal(open_bands(image(tmp_path), needed, order).read(WHOLE)[0], PIXELS[[2, 1, 0, 3]])
    with pytest.raises(DataError, match="has 13 bands, so none is number 14"):
        open_bands(path, needed, ["red=14"])
    with pytest.raises(DataError, match=r"has 13 bands .* but the names given are red, nir \(with numbers"):
        open_bands(path, needed, ["red", "nir"])


def test_near_infrared_that_is_marked_as_transparency_is_told_from_transparency(tmp_path: Path) -> None:
    names, colours = ("red", "green", "blue", "nir"), ["red", "green", "blue", "alpha"]
    path = image(tmp_path, colours=colours)
    np.testing.assert_array_equal(open_bands(path, model(*names)).read(WHOLE)[0], PIXELS)
    for transparency, is_believed in ((0, True), (255, False)):  # near infrared is 0 over water
        with rasterio.open(path, "r+") as dataset:
            dataset.write(np.where(np.arange(SIDE) < 5, 0, np.full((SIDE, SIDE), transparency)).astype(np.uint8), 4)
        if is_believed:
            assert open_bands(path, model(*names)).count == 4
            continue
        with pytest.raises(
            DataError, match=r"its bands are red, green, blue, alpha; the model's are .*, nir \(rio edit-info"
        ):
            open_bands(path, model(*names))


@pytest.mark.parametrize("names", [("red", "green", "blue", "nir"), ("green", "nir")])
def test_bands_are_found_by_their_names_in_any_case(
    tmp_path: Path, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """As if the user had spelled them as the file does, and not in the file's order."""
    described = ["NIR", "Red", "Blue", "Green"]
    path = image(tmp_path, descriptions=described)
    expected = PIXELS[[[one.lower() for one in described].index(name) for name in names]]
    opened = open_chosen(path, names)
    assert common_bands([opened], names)[0] == names
    for found in (opened, open_bands(path, model(*names), names)):
        np.testing.assert_array_equal(found.read(WHOLE)[0], expected)
    assert not caplog.text


def test_names_in_another_order_than_the_descriptions_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("red", "green", "blue", "nir")
    path = image(tmp_path, descriptions=["B8", "B4", "B3", "B2"])
    open_bands(path, model(*names), names)
    told = "its bands are described B8, B4, B3, B2, and named red, green, blue, nir in this order (--bands red=B8,..."
    assert told in caplog.text


def test_transparency_is_left_out_as_is_told(tmp_path: Path) -> None:
    path = image(tmp_path, colours=["red", "green", "blue", "alpha"])
    told = r"--bands red,green,blue,nir \(without nir if that is transparency\)$"
    with pytest.raises(DataError, match=told):
        common_bands([open_chosen(path, None)], None)
    names = ("red", "green", "blue")
    opened = open_chosen(path, names)
    assert common_bands([opened], names)[0] == names
    assert opened.mask_kind == "alpha"


def test_a_mask_that_looks_like_imagery_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = image(tmp_path, colours=["red", "green", "blue", "alpha"])
    told = f"{path}: band 4 is marked as transparency, but looks like imagery; where it is 0 there is no data"
    soft = np.minimum(np.arange(SIDE) * 99, 255)  # at an edge
    for values, is_told in ((None, True), (np.full(SIDE, 255), False), (soft, False)):
        if values is not None:
            with rasterio.open(path, "r+") as dataset:
                dataset.write(np.broadcast_to(values, (SIDE, SIDE)).astype(np.uint8), 4)
        for open_some in (lambda: open_bands(path, model("blue", "red")), lambda: open_chosen(path, ("blue", "red"))):
            opened = open_some()
            np.testing.assert_array_equal(opened.read(WHOLE)[0], PIXELS[[2, 0]])
            assert (told in caplog.text) == is_told
            caplog.clear()


@pytest.mark.parametrize("shape", [(70, 300), (300, 70)])
def test_transparency_is_told_by_all_of_an_image(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Parts at its far end, too; and some pixel must be seen, not one in each part."""
    monkeypatch.setattr("geosynth.raster.model_bands.SCAN_BLOCK", 64)
    values = random_image(1, *shape)
    values[3] = np.where(np.add.outer(*map(np.arange, shape)) < 100, 255, 0)
    path = write_raster(tmp_path / "a.tif", values, north_up(), photometric="rgb", alpha="yes")
    with pytest.raises(DataError, match="its bands are red, green, blue, alpha"):
        open_bands(path, model("red", "green", "blue", "nir"))
    assert open_chosen(path, ("red",)).count == 1
    assert not caplog.text
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.where(values[3] == 255, 0, 100).astype(np.uint8), 4)
    assert open_bands(path, model("red", "green", "blue", "nir")).count == 4
    open_chosen(path, ("red",))
    assert "looks like imagery" in caplog.text


@pytest.mark.parametrize(
    ("names", "dtype", "line"),
    [
        (("red", "swir"), "uint8", r"its bands are blue, green, red, nir; the model's are red, swir"),
        (("red",), "uint16", r"holds uint8 values; the model's are uint16"),
    ],
)
def test_what_the_model_cannot_see_is_refused(tmp_path: Path, names: tuple[str, ...], dtype: str, line: str) -> None:
    path = image(tmp_path, descriptions=["blue", "green", "red", "nir"])
    with pytest.raises(DataError, match=line):
        open_bands(path, model(*names, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float64", "int64", "float16"])
def test_an_image_of_a_type_that_no_model_has_is_refused_with_a_remedy(tmp_path: Path, dtype: str) -> None:
    known = model("red", dtype="float32")
    store = tmp_path / "a.zarr"
    cube = xr.DataArray(np.ones((1, 4, 4), dtype), dims=("band", "y", "x"), coords={"band": ["red"]})
    cube = cube.assign_coords(y=[3.5, 2.5, 1.5, 0.5], x=[0.5, 1.5, 2.5, 3.5])
    cube.to_dataset(name="image").to_zarr(store, consolidated=False)
    line = rf"a\.zarr: holds {dtype} values; the model's are float32; convert it \(in xarray: \.astype\('float32'\)\)$"
    with pytest.raises(DataError, match=line):
        open_bands(store, known)
    if dtype == "float16":  # not in the GDAL of all versions
        return
    path = write_raster(tmp_path / "a.tif", np.ones((1, 4, 4), dtype), north_up())
    with pytest.raises(DataError, match=r"; convert it \(rio convert --dtype float32 FILE NEW\)$"):
        open_bands(path, known)


def test_zarr_images_are_not_converted_by_rio(tmp_path: Path) -> None:
    cube = xr.DataArray(np.ones((1, 4, 4), "float64"), dims=("band", "y", "x"), coords={"band": ["red"]})
    cube.to_dataset(name="image").to_zarr(tmp_path / "a.zarr", consolidated=False)
    file = write_raster(tmp_path / "a.tif", np.ones((1, 4, 4), "float64"), north_up())
    remedies = {tmp_path / "a.zarr": r"in xarray: \.astype\('TYPE'\)", file: "rio convert --dtype TYPE FILE NEW"}
    for path, remedy in remedies.items():
        with pytest.raises(
            DataError, match=rf"{path.name}: imagery of float64; .* \(ingest --dtype TYPE, or {remedy}\)$"
        ):
            check_image_type(np.dtype("float64"), str(path))


@pytest.mark.parametrize("undescribed", ["undefined", "alpha"])
def test_names_that_only_some_bands_have_are_told(tmp_path: Path, undescribed: str) -> None:
    colours = ["gray", "undefined", "undefined", undescribed]
    opened = open_image(image(tmp_path, descriptions=["red", "green", "nir", None], colours=colours))
    line = rf"image.tif: its bands are red, green, nir, {undescribed}; say which to take, as in --bands red,green,nir$"
    with pytest.raises(DataError, match=line):
        common_bands([opened], None)
    assert common_bands([open_chosen(opened.path, ["red", "green", "nir"])], ["red", "green", "nir"])[0][2] == "nir"


@pytest.mark.skipif("netCDF" not in rasterio.drivers.raster_driver_extensions().values(), reason="GDAL without NetCDF")
def test_the_variables_of_a_netcdf_are_told_as_they_can_be_opened(tmp_path: Path) -> None:
    cube = xr.Dataset({name: (("y", "x"), np.full((9, 9), value, "int16")) for name, value in (("B4", 4), ("B8", 8))})
    path = tmp_path / "two.nc"
    cube.to_netcdf(path, engine="scipy")
    with pytest.raises(RasterError, match=r"two\.nc: has no bands; it holds 2 rasters: name one, as ") as refused:
        open_image(path)
    one, several = str(refused.value).split("name one, as ")[1].split(", or several as bands, as ")
    assert (open_image(one).read(Window(0, 0, 9, 9))[0] == 4).all()
    both = open_image(several)
    assert both.band_names == ("red", "green")
    assert both.read(Window(0, 0, 9, 9))[0][:, 0, 0].tolist() == [4, 8]


def test_values_that_mean_something_else_than_the_models_are_refused(tmp_path: Path) -> None:
    path = image(tmp_path, descriptions=["blue", "green", "red", "nir"])
    with rasterio.open(path, "r+") as file:
        file.scales = (0.5,) * 4
    bands = BandSettings(names=("red", "nir"), quantities=(Quantity(scale=0.25), Quantity(scale=0.25)))
    for opened in (
        lambda: open_bands(path, NeededBands(bands, "model", "a.model")),
        lambda: open_common_bands([path], NeededBands(bands, "", "a.model")),
    ):
        with pytest.raises(
            DataError, match=r"image\.tif: band red holds values x 0\.5, but values x 0\.25 in a\.model"
        ):
            opened()


@pytest.mark.parametrize(
    ("told", "names", "numbers", "rows"),
    [
        ({"colours": ["blue", "green", "red"], "bands": 3}, ("nir", "red", "green", "blue"), [1, 2, 3], [2, 1, 0]),
        ({"descriptions": ["blue", "swir", "red", "nir"]}, ("red", "green", "blue", "nir"), [0, 2, 3], [2, 0, 3]),
        ({}, ("red", "green", "blue", "nir"), [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_bands_may_be_missing_where_that_is_allowed(
    tmp_path: Path, told: dict, names: tuple[str, ...], numbers: list[int], rows: list[int]
) -> None:
    (opened,), present = open_common_bands([image(tmp_path, **told)], model(*names))
    assert present == numbers
    np.testing.assert_array_equal(opened.read(WHOLE)[0], PIXELS[rows])


@pytest.mark.parametrize(
    "told", [{"colours": ["gray", "undefined", "undefined"], "bands": 3}, {"descriptions": ["swir", "vv", "vh", "b8a"]}]
)
def test_an_image_with_no_band_of_the_model_is_refused(tmp_path: Path, told: dict) -> None:
    with pytest.raises(DataError, match="the model's are red, green, blue, nir"):
        open_common_bands([image(tmp_path, **told)], model("red", "green", "blue", "nir"))
