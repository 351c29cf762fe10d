"""ZarrRaster: arrays of any order of dimensions, against the values that xarray wrote."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
import zarr
from affine import Affine
from odc.geo.crs import CRS

import geosynth
from geosynth.errors import DataError, GridError, RasterError
from geosynth.grid import Window
from geosynth.raster.images import open_image
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.open import open_zarr_in_place
from geosynth.raster.zarr import ZarrRaster
from rasters import UTM, north_up, random_codes, random_image, write_raster

HEIGHT, WIDTH = 30, 40
IMAGE, CODES = random_image(0, HEIGHT, WIDTH, bands=3), random_codes(0, HEIGHT, WIDTH)
CODES[3:9, 5:20] = 15
WINDOW = Window(2, 7, 11, 23)


def write(path: Path, values: np.ndarray, dims: tuple[str, ...], order: tuple[str, ...], **attributes: Any) -> Path:
    """`values` over `dims`, stored in another order, with coordinates and CRS."""
    t = north_up()
    coordinates = {
        "y": t.f + t.e * (np.arange(HEIGHT) + 0.5),
        "x": t.c + t.a * (np.arange(WIDTH) + 0.5),
        "band": ["red", "green", "blue"][: values.shape[-3] if values.ndim > 2 else 0],
    }
    array = xr.DataArray(values, dims=dims, coords={dim: coordinates[dim] for dim in dims if dim in coordinates})
    array = array.transpose(*order).assign_attrs(attributes).rio.write_crs(UTM)
    array.to_dataset(name="field").to_zarr(path, consolidated=False, zarr_format=2)
    return path


@pytest.mark.parametrize("order", [("band", "y", "x"), ("y", "x", "band"), ("x", "band", "y")])
def test_images_in_any_order_of_dimensions(tmp_path: Path, order: tuple[str, ...]) -> None:
    raster = ZarrRaster(write(tmp_path / "cube.zarr", IMAGE, ("band", "y", "x"), order, nodata=IMAGE[0, 2, 7]), "field")
    assert (raster.count, raster.dtype, raster.band_names) == (3, np.uint8, ("red", "green", "blue"))
    assert raster.geobox.affine.almost_equals(north_up(), 1e-6)
    assert raster.geobox.crs == UTM
    for one in (raster, pickle.loads(pickle.dumps(raster))):
        values, valid = one.read(WINDOW)
        np.testing.assert_array_equal(values, IMAGE[(slice(None), *WINDOW.slices)])
        np.testing.assert_array_equal(valid, (IMAGE[0, 2, 7] != IMAGE).any(axis=0)[WINDOW.slices])


@pytest.mark.parametrize("order", [("y", "x"), ("x", "y"), ("time", "y", "x"), ("y", "time", "x")])
def test_labels_with_dimensions_of_size_one(tmp_path: Path, order: tuple[str, ...]) -> None:
    dims = ("time", "y", "x") if "time" in order else ("y", "x")
    values = CODES[None] if "time" in order else CODES
    flags = {"flag_values": [1, 2], "flag_meanings": "water trees"}
    raster = ZarrRaster(write(tmp_path / "labels.zarr", values, dims, order, nodata=15, **flags))
    codes, valid = raster.read(WINDOW)
    np.testing.assert_array_equal(codes[0], CODES[WINDOW.slices])
    np.testing.assert_array_equal(valid, (CODES != 15)[WINDOW.slices])
    assert raster.class_table == {1: ("water", None), 2: ("trees", None)}


@pytest.mark.parametrize(
    ("values", "meanings"),
    [
        (["a", "b"], "water trees"),
        ("1b, 2b", "water"),
        ([[1], [2]], "water trees"),
        ([1, None], "water trees"),
        ([1, float("inf")], "water trees"),
    ],
)
def test_flags_that_are_no_codes_tell_nothing(tmp_path: Path, values: Any, meanings: str) -> None:
    path = write(tmp_path / "a.zarr", CODES, ("y", "x"), ("y", "x"), flag_values=values, flag_meanings=meanings)
    assert geosynth.info(path)["arrays"]["field"]["classes"] == {}


def test_of_each_band_a_scale_or_of_all_one(tmp_path: Path) -> None:
    dims = ("band", "y", "x")
    of_all = ZarrRaster(write(tmp_path / "a.zarr", IMAGE, dims, dims, scales=[0.5]), "field")
    assert [quantity.scale for quantity in of_all.quantities] == [0.5] * 3
    path = write(tmp_path / "b.zarr", IMAGE, dims, dims, scales=[0.5, 2])
    with pytest.raises(DataError, match=r"b\.zarr: says what the values of its bands mean, but not of 3"):
        ZarrRaster(path, "field")


def test_the_only_array_holds_the_labels_of_whatever_type(tmp_path: Path) -> None:
    raster = ZarrRaster(write(tmp_path / "a.zarr", CODES.astype(np.float32), ("y", "x"), ("y", "x"), nodata=15))
    np.testing.assert_array_equal(raster.read(WINDOW)[0][0], CODES[WINDOW.slices])
    assert (raster.mask_kind, raster.is_full) == ("nodata", False)


@pytest.mark.parametrize(("y", "x"), [("lat", "lon"), ("Latitude", "Longitude"), ("northing", "easting"), ("a", "b")])
def test_rows_and_columns_by_their_names(tmp_path: Path, y: str, x: str) -> None:
    """Or, where names say nothing, by CF attributes."""
    size = 1 / 4096  # exact in binary
    rows, columns = 40 - size * (np.arange(HEIGHT) + 0.5), -77 + size * (np.arange(WIDTH) + 0.5)
    coordinates = {
        y: xr.Variable(y, rows, {"axis": "Y"} if y == "a" else {}),
        x: xr.Variable(x, columns, {"axis": "X"} if y == "a" else {}),
    }
    xr.DataArray(CODES.T, dims=(x, y), coords=coordinates, name="cover").to_dataset().to_zarr(tmp_path / "a.zarr")
    raster = ZarrRaster(tmp_path / "a.zarr")
    assert raster.geobox.affine[:6] == (size, 0, -77, 0, -size, 40)
    assert raster.geobox.crs == ("EPSG:4326" if y[0].casefold() == "l" else None)
    np.testing.assert_array_equal(raster.read(WINDOW)[0][0], CODES[WINDOW.slices])
    described = geosynth.info(tmp_path / "a.zarr")["arrays"]["cover"]
    assert (described["height"], described["width"]) == (HEIGHT, WIDTH)


def test_info_says_why_an_array_of_others_is_no_raster(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", CODES, ("y", "x"), ("y", "x"))
    reference = zarr.open_group(tmp_path / "a.zarr", mode="r+")["spatial_ref"]
    reference.attrs.update({"crs_wkt": "NONSENSE", "spatial_ref": "NONSENSE"})
    with pytest.raises(RasterError, match=r"a\.zarr: its CRS cannot be read: .*NONSENSE"):
        geosynth.info(tmp_path / "a.zarr")


def test_what_info_says_of_arrays_of_others(tmp_path: Path) -> None:
    flags = {"flag_values": [1, 2], "flag_meanings": "water trees"}
    write(tmp_path / "a.zarr", CODES, ("y", "x"), ("y", "x"), nodata=15, **flags)
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, mask_and_scale=False).drop_encoding()
    found["image"], found["labels"], found["line"] = found["field"], found["field"], ("z", np.zeros(3))
    found.drop_vars("field").to_zarr(tmp_path / "b.zarr", consolidated=False)
    described = geosynth.info(tmp_path / "b.zarr")
    assert (described["kind"], list(described["arrays"])) == ("zarr", ["image", "labels"])
    assert described["arrays"]["labels"]["classes"] == {1: "water", 2: "trees"}
    assert described["arrays"]["labels"]["crs"] == UTM
    assert described["arrays"]["labels"]["nodata"] == "15"
    write(tmp_path / "c.zarr", CODES, ("y", "x"), ("y", "x"))
    assert geosynth.info(tmp_path / "c.zarr")["arrays"]["field"]["nodata"] is None
    assert described["arrays"]["image"]["transform"] == pytest.approx(north_up()[:6])


def test_a_place_that_no_number_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", CODES, ("y", "x"), ("y", "x"))
    found = xr.open_zarr(path, consolidated=False).drop_encoding().assign_coords(x=np.full(WIDTH, np.nan))
    found.to_zarr(tmp_path / "b.zarr", consolidated=False)
    with pytest.raises(GridError, match="uneven coordinates along 'x'"):
        ZarrRaster(tmp_path / "b.zarr")


def test_nan_is_no_data(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32)
    image[1, 4:6] = np.nan
    raster = ZarrRaster(write(tmp_path / "cube.zarr", image, ("band", "y", "x"), ("band", "y", "x")), "field")
    np.testing.assert_array_equal(raster.read(raster.window)[1], ~np.isnan(image).any(axis=0))


def test_the_name_of_an_only_band(tmp_path: Path) -> None:
    raster = ZarrRaster(write(tmp_path / "a.zarr", IMAGE[:1], ("band", "y", "x"), ("band", "y", "x")), "field")
    assert raster.band_names == ("red",)
    raster = ZarrRaster(write(tmp_path / "b.zarr", IMAGE[0], ("y", "x"), ("y", "x"), long_name="pan"), "field")
    assert raster.band_names == ("pan",)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ([2, 0], ("blue", "red")),
        ([1], ("green",)),
        (1, ("green",)),
        ([0, 1, 2], ("red", "green", "blue")),
    ],
)
def test_selected_bands_keep_the_names_of_their_numbers(tmp_path: Path, chosen: Any, names: tuple[str, ...]) -> None:
    """As of rioxarray, where names are an attribute, which xarray does not change where it selects."""
    file = write_raster(tmp_path / "a.tif", IMAGE, north_up())
    with rasterio.open(file, "r+") as dataset:
        dataset.descriptions = ("red", "green", "blue")
    with rioxarray.open_rasterio(file) as opened:
        opened.isel(band=chosen).to_dataset(name="field").to_zarr(tmp_path / "a.zarr", consolidated=False)
    raster = open_image(tmp_path / "a.zarr")
    assert raster.band_names == names
    values, _ = raster.read(WINDOW)
    rows = [("red", "green", "blue").index(name) for name in names]
    np.testing.assert_array_equal(values, IMAGE[(rows, *WINDOW.slices)])


def test_names_beside_numbers_in_another_order_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.zarr", IMAGE, ("band", "y", "x"), ("band", "y", "x"), long_name=["r", "g", "b"])
    numbered = xr.open_zarr(path, consolidated=False, decode_coords="all").load().assign_coords(band=[3, 1, 2])
    numbered.to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=2)
    assert open_image(tmp_path / "b.zarr").band_names == ("r", "g", "b")
    assert "b.zarr: its bands are numbered 3, 1, 2; the names in its long_name are taken in this order: r, g, b" in (
        caplog.text
    )


def test_what_is_no_raster_is_refused(tmp_path: Path) -> None:
    many = np.zeros((2, 3, HEIGHT, WIDTH), np.uint8)
    path = write(tmp_path / "many.zarr", many, ("time", "band", "y", "x"), ("time", "band", "y", "x"))
    with pytest.raises(DataError, match=r"'field' is .*'time': 2.*; a raster is numbers over"):
        ZarrRaster(path, "field")
    xr.Dataset({"line": ("x", np.zeros(2)), "truths": (("y", "x"), np.zeros((2, 2), bool))}).to_zarr(
        tmp_path / "b.zarr"
    )
    for name in ("line", "truths"):
        with pytest.raises(DataError, match=f"'{name}' is .*; a raster is numbers over"):
            ZarrRaster(tmp_path / "b.zarr", name)
    xr.Dataset({"bare": (("y", "x"), np.zeros((2, 2)))}).to_zarr(tmp_path / "c.zarr")
    with pytest.raises(GridError, match="no coordinates along 'y'"):
        ZarrRaster(tmp_path / "c.zarr", "bare")
    with pytest.raises(RasterError, match="not a Zarr group"):
        ZarrRaster(tmp_path / "absent.zarr")


def test_levels_of_an_image_are_no_image(tmp_path: Path) -> None:
    for level in ("0", "1"):
        path = write(tmp_path / "levels.zarr" / level, IMAGE, ("band", "y", "x"), ("band", "y", "x"))
    zarr.open_group(tmp_path / "levels.zarr", mode="a", zarr_format=2)
    with pytest.raises(
        DataError, match=r"levels\.zarr: has no arrays, but groups \(0, 1\); name one .* as in .*zarr/0$"
    ):
        open_image(tmp_path / "levels.zarr")
    assert open_image(tmp_path / "levels.zarr" / "0").geobox == open_image(path).geobox
    ome = zarr.open_group(tmp_path / "ome.zarr", mode="w")
    for level in (0, 1):
        ome.create_array(str(level), data=IMAGE[:, :: 1 + level], dimension_names=("c", "y", "x"))
    ome.attrs["ome"] = {"version": "0.5"}
    with pytest.raises(RasterError, match=r"ome\.zarr: is an OME-Zarr image, which has no CRS"):
        open_image(tmp_path / "ome.zarr")


@pytest.mark.parametrize("where", ["array", "group"])
@pytest.mark.parametrize("registration", ["pixel", "node", None])
@pytest.mark.parametrize("shape", [[HEIGHT, WIDTH], None])
@pytest.mark.parametrize("crs", ["proj:code", "proj:wkt2", "proj:projjson"])
def test_the_zarr_conventions_alone_tell_grid_and_crs(
    where: str, registration: str | None, shape: list[int] | None, crs: str, tmp_path: Path
) -> None:
    told = north_up() @ Affine.translation(0.5, 0.5) if registration == "node" else north_up()
    known = CRS(UTM)
    attributes = {
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(told)[:6],
        "spatial:registration": registration,
        "spatial:shape": shape,
        crs: {"proj:code": UTM, "proj:wkt2": known.to_wkt(), "proj:projjson": known.proj.to_json_dict()}[crs],
    }
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = group.create_array("image", data=IMAGE, dimension_names=("band", "y", "x"))
    (array if where == "array" else group).attrs.update({key: one for key, one in attributes.items() if one})
    found = open_image(tmp_path / "a.zarr")
    assert found.geobox.affine.almost_equals(north_up(), 1e-9)
    assert (found.geobox.shape, found.geobox.crs) == (IMAGE.shape[1:], known)
    np.testing.assert_array_equal(found.read(WINDOW)[0], IMAGE[(slice(None), *WINDOW.slices)])


def test_the_crs_of_coordinates_may_be_told_by_convention(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", IMAGE, ("band", "y", "x"), ("band", "y", "x"))
    bare = xr.open_zarr(path, consolidated=False).drop_encoding().drop_vars("spatial_ref")
    bare["field"].attrs = {"proj:code": "EPSG:26918"}
    bare.to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=3)
    assert open_image(tmp_path / "b.zarr").geobox.crs == CRS("EPSG:26918")
    bare["field"].attrs = {"proj:code": "EPSG:0"}
    bare.to_zarr(tmp_path / "c.zarr", consolidated=False, zarr_format=3)
    with pytest.raises(RasterError, match=r"c\.zarr: its CRS cannot be read"):
        open_image(tmp_path / "c.zarr")
    bare["field"].attrs = {"proj:code": "https://example.com/crs"}
    bare.to_zarr(tmp_path / "d.zarr", consolidated=False, zarr_format=3)
    with pytest.raises(RasterError, match=r"d\.zarr: its CRS is read from the network"):
        open_image(tmp_path / "d.zarr")


def test_samples_are_no_bands(tmp_path: Path) -> None:
    samples = np.zeros((2, 1, HEIGHT, WIDTH), np.uint8)
    path = write(tmp_path / "samples.zarr", samples, ("sample", "band", "y", "x"), ("sample", "band", "y", "x"))
    with pytest.raises(DataError, match=r"generate --samples K --out NAME\.tif makes images of their own\)$"):
        ZarrRaster(path, "field")


def test_the_image_beside_other_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", IMAGE, ("band", "y", "x"), ("band", "y", "x"))
    found = xr.open_zarr(path, consolidated=False).drop_encoding()
    found["height"] = found["field"][0].drop_vars("band")
    found.to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=2)
    np.testing.assert_array_equal(open_image(tmp_path / "b.zarr").read(WINDOW)[0], IMAGE[(slice(None), *WINDOW.slices)])
    found["more"] = found["field"]
    found.to_zarr(tmp_path / "c.zarr", consolidated=False, zarr_format=2)
    with pytest.raises(
        DataError, match=r"which variable holds the image\? Call it 'image'; there are: field .*, height"
    ):
        open_image(tmp_path / "c.zarr")
    found.rename(more="image").to_zarr(tmp_path / "d.zarr", consolidated=False, zarr_format=2)
    assert open_image(tmp_path / "d.zarr", [2]).band_names == ("green",)


@pytest.mark.parametrize("as_bytes", [False, True], ids=["as it is", "in bytes, as older xarray writes it"])
def test_the_coordinate_valid_says_where_there_is_data(tmp_path: Path, *, as_bytes: bool) -> None:
    path = write(tmp_path / "a.zarr", IMAGE, ("band", "y", "x"), ("band", "y", "x"))
    found = xr.open_zarr(path, consolidated=False).drop_encoding()
    valid = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 > 0
    stored = (valid.astype(np.int8), {"dtype": "bool"}) if as_bytes else (valid,)
    found = found.assign_coords(valid=(("y", "x"), *stored))
    found["labels"] = (("y", "x"), CODES)
    found.to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=2)
    np.testing.assert_array_equal(ZarrRaster(tmp_path / "b.zarr", "field").read(WINDOW)[1], valid[WINDOW.slices])
    indices = open_zarr_in_place(tmp_path / "b.zarr", "field", split=SplitRule(shares=(1, 0, 0))).read_labels(WINDOW)
    np.testing.assert_array_equal(indices < 6, (valid & (CODES != 15))[WINDOW.slices])


def test_a_window_beyond_the_raster_is_refused(tmp_path: Path) -> None:
    raster = ZarrRaster(write(tmp_path / "labels.zarr", CODES, ("y", "x"), ("y", "x")))
    with pytest.raises(GridError, match="reach beyond"):
        raster.read(Window(0, 0, HEIGHT + 1, 2))
