"""geosynth ingest on the command line: lists, and options that do not go together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from rasterio.enums import ColorInterp

from geosynth.raster.stores.store import open_stores
from geosynth_cli import app
from rasters import UTM, north_up, random_codes, random_image, write_raster

SIDE = 40
FILES = ["--images", "in/a.tif", "--labels", "in/a_codes.tif"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(("a", "b")):
        place = north_up(100 * number, 0)
        write_raster(tmp_path / "in" / f"{name}.tif", random_image(number, SIDE, SIDE), place)
        write_raster(tmp_path / "in" / f"{name}_codes.tif", random_codes(number, SIDE, SIDE), place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        app(["ingest", *arguments])
    return int(end.value.code or 0)


def test_a_stac_collection_with_named_assets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = [
        {
            "id": name,
            "stac_version": "1.0.0",
            "properties": {"datetime": "2021-07-04T00:00:00Z", "fold": fold},
            "assets": {"naip": {"href": f"./{name}.tif"}, "truth": {"href": f"./{name}_codes.tif"}},
        }
        for name, fold in (("a", "test"), ("b", "train"))
    ]
    Path("in/items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    common = ("--items", "in/items.json", "--bands", "red,green,blue,nir", "--out", "out")
    assert run(*common) == 1
    error = capsys.readouterr().err
    assert "it has naip, truth" in error
    assert error.count("\n") == 1
    assets = ("--image-asset", "naip", "--labels-asset", "truth")
    for option in (("--by", "clusters"), ("--shares", "1,0,1"), ("--seed", "0")):
        assert run(*common, *assets, *option) == 1
        said = f"error: {option[0]}: no effect: the items name their folds already; leave it out\n"
        assert capsys.readouterr().err == said
    assert run(*common, *assets) == 0
    (store,) = open_stores("out")
    assert [(scene.name, scene.date) for scene in store.scenes] == [
        ("a", "2021-07-04T00:00:00Z"),
        ("b", "2021-07-04T00:00:00Z"),
    ]
    assert [scene.name for scene in store.scenes_in("test")] == ["a"]
    with rasterio.open("in/b.tif") as image:
        assert (store.read_image(store.scenes[1].window) == image.read()).all()
    assert capsys.readouterr().out == "out\n"


def test_a_catalogue_with_an_asset_a_band_and_one_map_of_labels(folder: Path) -> None:
    image, codes = random_image(3, SIDE, SIDE), random_codes(3, SIDE, SIDE)
    for name, band in zip(("B04", "B03", "B02", "B08"), image, strict=True):
        write_raster(folder / "s2" / f"{name}.tif", band[None], north_up())
    write_raster(folder / "map.tif", codes, north_up())
    assets = {"nir": "B08", "blue": "B02", "green": "B03", "red": "B04"}
    item = {
        "id": "T32TQM",
        "stac_version": "1.0.0",
        "properties": {"datetime": "2024-07-01T10:10:31Z"},
        "assets": {key: {"href": f"./{name}.tif"} for key, name in assets.items()},
    }
    Path("s2/item.json").write_text(json.dumps(item))
    named = ("--image-asset", "red,green,blue,nir", "--labels", "map.tif")
    assert run("--items", "s2/item.json", *named, "--out", "out") == 0
    (store,) = open_stores("out")
    assert store.band_names == ("red", "green", "blue", "nir")
    assert [scene.name for scene in store.scenes] == ["T32TQM"]
    found, labels = store.read(store.scenes[0].window)
    assert (found == image).all()
    assert (labels == store.legend.encode(codes)).all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "either --images and --labels, or --items, or --chesapeake"),
        (["--images", "in/a.tif", "--items", "in/a.tif"], "either --images"),
        (["--labels", "in/a.tif", "--chesapeake", "in"], "either --images"),
        (["--images", "in/a.tif"], "images and labels are needed"),
        ([*FILES, "--extra", "nlcd"], "--extra: no effect without --items or --chesapeake"),
        ([*FILES, "--state", "md"], "--state: no effect without --chesapeake"),
        ([*FILES, "--split", "val"], "--split: no effect without --chesapeake"),
        ([*FILES, "--labels-asset", "lc"], "--labels-asset: no effect without --items"),
        ([*FILES, "--block-size", "64"], "--block-size: no effect without --by blocks"),
        ([*FILES, "--bands", "red,green,red,nir"], "name red more than once"),
        ([*FILES, "--bands", "red=1,green"], "bands red=1, green: either names alone, or NAME=NUMBER for each"),
        ([*FILES, "--bands", "red=0,nir=1"], "or NAME=NUMBER for each, counted from 1"),
        ([*FILES, "--bands", "red=1,nir="], "or NAME=DESCRIPTION, as in red=B04"),
        ([*FILES, "--bands", "red=1,nir=B8"], "in/a.tif: not one of its bands is described B8: they are without a"),
        ([*FILES, "--bands", "red=1,nir=5"], "in/a.tif: has 4 bands, so none is number 5"),
        ([*FILES, "--bands", "red=1,red=4"], "name red more than once"),
        ([*FILES, "--bands", "red,nir"], "names given are red, nir (with numbers, as in red=1, some are taken)"),
        ([*FILES, "--shares", "most"], "--shares most"),
        ([*FILES, "--buffer", "wide"], "error: --buffer: 'wide' is neither metres"),
        (["--chesapeake", "in", "--state", "md"], "no tiles md_1m"),
    ],
)
def test_one_line_for_what_does_not_go_together(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert run("--out", "out", "--bands", "red,green,blue,nir", *arguments) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == {"in"}


def test_some_of_the_bands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By what a file calls them; holes in bands that are left out are none."""
    image = random_image(0, SIDE, SIDE).astype("float32")
    image[1, :5] = np.nan
    with rasterio.open(write_raster(folder / "in" / "a.tif", image, north_up()), "r+") as dataset:
        dataset.descriptions = ("blue", "green", "red", "nir")
    arguments = (*FILES, "--shares", "1,0,0", "--out", "out")
    assert run(*arguments, "--bands", "red,swir") == 1
    assert "has 4 bands (blue, green, red, nir), but the names given are red, swir" in capsys.readouterr().err
    assert run(*arguments, "--bands", "nir,red") == 0
    (store,) = open_stores("out")
    assert store.band_names == ("nir", "red")
    np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image[[3, 2]])
    assert run(*arguments, "--bands", "red,green,blue,nir", "--overwrite") == 0
    (store,) = open_stores("out")
    np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image[[2, 1, 0, 3]])


def test_some_bands_of_a_file_that_names_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of Sentinel-2 in 13 bands: by their numbers, but by their names in files that have these."""
    image = random_image(0, SIDE, SIDE, 13, "uint16")
    arguments = (*FILES, "--shares", "1,0,0", "--out", "out", "--overwrite")
    for names in ((), ("nir", "red", *(f"B{number}" for number in range(11)))):
        with rasterio.open(write_raster(folder / "in" / "a.tif", image, north_up()), "r+") as dataset:
            dataset.descriptions = names or dataset.descriptions
        assert run(*arguments, "--bands", "red=4, nir=8") == 0
        (store,) = open_stores("out")
        assert store.band_names == ("red", "nir")
        np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image[[1, 0] if names else [3, 7]])
    with rasterio.open(write_raster(folder / "in" / "a.tif", image[:3].astype("uint8"), north_up()), "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]  # GDAL's mark of any three
    capsys.readouterr()
    assert run(*arguments, "--bands", "red=3,green=2") == 0
    assert "marked" not in capsys.readouterr().err
    (store,) = open_stores("out")
    np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image[[2, 1]].astype("uint8"))


def test_bands_of_other_names_are_chosen_by_what_the_file_calls_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a stack of Sentinel-2's bands, in which blue comes first; names alone are given in the file's order."""
    image = random_image(0, SIDE, SIDE, 4, "uint16")
    with rasterio.open(write_raster(folder / "in" / "a.tif", image, north_up()), "r+") as dataset:
        dataset.descriptions = ("B02", "B03", "B04", "B08")
    arguments = (*FILES, "--shares", "1,0,0", "--out", "out", "--overwrite")
    for bands, order, is_told in (
        ("red=B04, blue=B02,nir=4", [2, 0, 3], False),
        ("red,green,blue,nir", [0, 1, 2, 3], True),
        ("B08,B04", [3, 2], False),
        ("B02,B03,B04,B08", [0, 1, 2, 3], False),
    ):
        assert run(*arguments, "--bands", bands) == 0
        names = ", ".join(bands.split(","))
        first = bands.partition(",")[0]
        told = f"bands are described B02, B03, B04, B08, and named {names} in this order (--bands {first}=B02"
        assert (told in " ".join(capsys.readouterr().err.split())) == is_told
        (store,) = open_stores("out")
        assert store.band_names == tuple(band.partition("=")[0].strip() for band in bands.split(","))
        np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image[order])


def test_bands_that_a_file_marks_in_another_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As PlanetScope's: blue first, and near infrared has no mark. What the user says counts; a warning tells both."""
    image = random_image(0, SIDE, SIDE, dtype="uint16")
    with rasterio.open(write_raster(folder / "in" / "a.tif", image, north_up()), "r+") as dataset:
        dataset.colorinterp = [ColorInterp[colour] for colour in ("blue", "green", "red", "undefined")]
    arguments = (*FILES, "--shares", "1,0,0", "--out", "out")
    assert run(*arguments) == 1
    assert "name them, as in --bands blue,green,red,nir" in capsys.readouterr().err
    assert run(*arguments, "--bands", "red,green,blue,nir") == 0
    assert (
        "in/a.tif: its bands are marked blue, green, red, undefined, but named red, green, blue, nir"
        in capsys.readouterr().err
    )
    for bands in ("blue,green,red,nir", "B02,B03,B04,B08"):
        assert run(*arguments, "--bands", bands, "--overwrite") == 0
        assert "marked" not in capsys.readouterr().err
    (store,) = open_stores("out")
    np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image)
    write_raster(folder / "in" / "a.tif", image[:3].astype("uint8"), north_up(), photometric="rgb")
    assert run(*arguments, "--bands", "nir,red,green", "--overwrite") == 0  # the mark that GDAL gives any three bands
    assert "marked" not in capsys.readouterr().err


def test_a_file_a_band_is_told_from_scenes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for band in ("B2", "B3"):
        write_raster(folder / "bands" / f"{band}.tif", random_image(0, SIDE, SIDE, 1), north_up())
    arguments = ("--labels", "in/a_codes.tif", "--shares", "1,0,0", "--out", "out")
    assert run("--images", "bands", *arguments) == 0
    assert "wholly under them: 1 scene, as B2.tif (bands in files of their own: '*_{red=B04,green=B03," in (
        capsys.readouterr().err
    )


def test_a_picture_beside_a_file_a_band_is_told_from_scenes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As Sentinel-2 comes: bands in files of their own, some of coarser pixels, and a picture of three of them."""
    write_raster(folder / "R10m/B01.tif", random_image(0, SIDE // 2, SIDE // 2, 1, "uint16"), north_up(size=1.2))
    for band in ("B02", "B03"):
        write_raster(folder / f"R10m/{band}.tif", random_image(0, SIDE, SIDE, 1, "uint16"), north_up())
    write_raster(folder / "R10m/TCI.tif", random_image(0, SIDE, SIDE, 3), north_up())
    arguments = ("--labels", "in/a_codes.tif", "--shares", "1,0,0", "--out", "out")
    for bands in ((), ("--bands", "red,green,blue")):
        assert run("--images", "R10m", *arguments, *bands) == 1
        said = capsys.readouterr().err
        assert "R10m/TCI.tif: has 3 bands of uint8, but on the same pixels R10m/B02.tif has 1 of uint16" in said
        assert "take whole scenes only (a glob, as '*_TCI*')" in said
        assert "'*_{red=B04,green=B03,blue=B02}_10m.jp2' makes one image of them" in said
    assert run("--images", "R10m/*TCI*", *arguments) == 0


def test_more_names_than_a_file_has_bands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_raster(folder / "bands/B02.tif", random_image(0, SIDE, SIDE, 1), north_up())
    arguments = ("--images", "bands", "--labels", "in/a_codes.tif", "--out", "out")
    assert run(*arguments, "--bands", "blue,green") == 1
    assert (
        "B02.tif: has 1 band (gray), but the names given are blue, green"
        " (bands in files of their own: '*_{red=B04,green=B03,blue=B02}_10m.jp2' makes one image of them)"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(("source", "dtype"), [("int64", "uint16"), ("int64", "uint8"), ("float16", "float32")])
def test_images_in_zarr_stores_are_cast_when_told(
    source: str, dtype: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = xr.DataArray(random_image(0, SIDE, SIDE).astype(source), dims=("band", "y", "x"))
    image = image.assign_coords(band=["red", "green", "blue", "nir"], y=17.5 - np.arange(SIDE), x=np.arange(SIDE) + 0.5)
    image[:, :5] = -1
    cube = image.rio.write_crs(UTM).rio.write_nodata(-1).to_dataset(name="image")
    cube.to_zarr("a.zarr", consolidated=False)
    write_raster(folder / "a_codes.tif", random_codes(0, SIDE, SIDE), Affine(1, 0, 0, 0, -1, 18))
    arguments = ("--images", "a.zarr", "--labels", "a_codes.tif", "--shares", "1,0,0", "--out", "out")
    assert run(*arguments) == 1
    assert f"a.zarr: imagery of {source}; convert it" in capsys.readouterr().err
    assert run(*arguments, "--dtype", dtype) == 0
    (store,) = open_stores("out")
    read, labels = store.read(store.scenes[0].window)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[:, 5:], image[:, 5:])
    assert (labels[:5] == store.legend.num_classes).all()
    cube["image"][1, 9, 7] = 300.5 if source == "float16" else 1 << 20
    cube.to_zarr("a.zarr", consolidated=False, mode="w")
    assert run(*arguments, "--dtype", "uint8", "--overwrite") == 1
    line = "error: a.zarr: 1 px hold values that do not fit uint8; use --dtype float32, or scale them first\n"
    assert capsys.readouterr().err.endswith(line)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [256, -1, 1.5]),
        ("uint16", [65536, -1, 1e300]),
        ("int16", [32768, -32769, 0.25]),
        ("float32", [1e39, -1e300, 1e308]),
    ],
)
def test_images_of_another_type_are_cast_when_told_if_all_values_fit(
    dtype: str, values: list[float], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = random_image(0, SIDE, SIDE).astype("float64")
    image[:, :5], image[:, 5:9] = np.nan, -9999
    write_raster(folder / "in" / "a.tif", image, north_up(), nodata=-9999)
    arguments = (*FILES, "--shares", "1,0,0", "--out", "out")
    arguments += ("--bands", "red,green,blue,nir")
    assert run(*arguments) == 1
    assert "imagery of float64; convert it to one of uint8, uint16, int16, float32" in capsys.readouterr().err
    assert run(*arguments, "--dtype", "float64") == 1
    assert "error: --dtype: one of uint8, uint16, int16, float32 is needed, not float64" in capsys.readouterr().err
    assert run(*arguments, "--dtype", dtype) == 0
    (store,) = open_stores("out")
    read, labels = store.read(store.scenes[0].window)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[:, 9:], image[:, 9:])
    assert (labels[:9] == store.legend.num_classes).all()
    capsys.readouterr()
    for place, value in enumerate(values):
        image[place % 4, 20, 3 * place] = value
    write_raster(folder / "in" / "a.tif", image, north_up(), nodata=-9999)
    assert run(*arguments, "--dtype", dtype, "--overwrite") == 1
    assert capsys.readouterr().err.endswith(
        f"error: in/a.tif: 3 px hold values that do not fit {dtype};{' use --dtype float32, or' * (dtype != 'float32')}"
        f" scale them first (rio convert --dtype {dtype} --scale-ratio RATIO FILE NEW)\n"
    )
    assert open_stores("out")[0].read_image(store.scenes[0].window).dtype == dtype
