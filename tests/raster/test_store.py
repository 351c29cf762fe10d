"""Store: what is written is what xarray, rioxarray and geosynth read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import RasterError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.store import Scene, Store, is_store
from rasters import UTM, north_up, random_image

HEIGHT, WIDTH = 50, 70
TRANSFORMS = {
    "north-up": north_up(100, 50),
    "south-up": Affine(0.5, 0, 266000.0, 0, 0.5, 4300000.0),
    "rotated": Affine.translation(266000, 4300000) * Affine.rotation(20) * Affine.scale(2, -2),
}


def scene(fold: str, row: int, pixels: tuple[int, ...]) -> Scene:
    return Scene(f"{fold}{row}.tif", Window(row, 0, 10, 10), fold, pixels, "aa", "bb")


def make(path: Path, transform: Affine | None = None, crs: str | None = UTM, legend: Legend = CHESAPEAKE) -> Store:
    scenes = [
        scene("train", 0, (100, 0, 0, 0, 0, 0)),
        scene("train", 12, (20, 20, 20, 20, 20, 0)),
        scene("test", 30, (0, 0, 0, 30, 0, 20)),
    ]
    return Store.create(
        path,
        GeoBox((HEIGHT, WIDTH), transform or north_up(), crs),
        legend=legend,
        nodata=legend.nodata[-1],
        band_names=("red", "green", "blue", "nir"),
        dtype=np.dtype("uint8"),
        scenes=scenes,
        chunk_size=32,
    )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_xarray_finds_grid_and_values(tmp_path: Path, name: str) -> None:
    store = make(tmp_path / "store", TRANSFORMS[name])
    image = random_image(0, 32, 32)
    codes = np.random.default_rng(1).integers(1, 7, (32, 32))
    store.write(Window(0, 32, 32, 32), image, codes)
    opened = xr.open_zarr(store.path, decode_coords="all", consolidated=False)
    for array in (opened.image, opened.labels):
        assert array.rio.crs.to_epsg() == 26917
        assert array.rio.transform().almost_equals(store.geobox.affine, 1e-9)
    np.testing.assert_array_equal(opened.image[:, :32, 32:64], image)
    np.testing.assert_array_equal(opened.labels[:32, 32:64], codes)
    assert (opened.labels[:, :32] == 15).all()
    assert opened.labels.dtype == np.uint8
    if name != "rotated":  # pixel centres
        corner = store.geobox.affine * (40.5, 3.5)
        assert (float(opened.x[40]), float(opened.y[3])) == pytest.approx(corner, abs=1e-9)


def test_a_store_without_crs(tmp_path: Path) -> None:
    store = make(tmp_path / "store", Affine.identity(), None)
    assert Store(store.path).geobox.crs is None
    assert store.describe()["crs"] is None
    opened = xr.open_zarr(store.path, decode_coords="all", consolidated=False)
    assert opened.rio.crs is None
    assert float(opened.x[0]) == 0.5


def test_a_store_opened_again_is_the_same(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    again = pickle.loads(pickle.dumps(Store(store.path)))
    for name in ("geobox", "legend", "nodata", "band_names", "scenes"):
        assert getattr(again, name) == getattr(store, name)
    assert [entry.name for entry in again.scenes_in("train")] == ["train0.tif", "train12.tif"]
    assert [entry.is_complete for entry in again.scenes] == [True, True, False]
    with pytest.raises(ValueError, match="read-only"):
        Store(store.path).write(Window(0, 0, 32, 32), random_image(0, 32, 32), np.ones((32, 32)))


def test_scenes_may_be_counted_later(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    store.set_scenes([scene("val", 5, (1, 2, 3, 4, 5, 6))])
    assert Store(store.path).scenes == (scene("val", 5, (1, 2, 3, 4, 5, 6)),)
    assert Store(store.path).geobox == store.geobox


def test_labels_are_read_as_class_indices(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    codes = np.full((32, 32), 15)
    codes[4, :6] = [1, 2, 3, 4, 5, 6]
    store.write(Window(0, 0, 32, 32), random_image(0, 32, 32), codes)
    assert store.read_labels(Window(4, 0, 1, 8)).tolist() == [[0, 1, 2, 3, 4, 5, 6, 6]]
    assert (store.read_labels(Window(40, 40, 5, 5)) == 6).all()  # never written


@pytest.mark.parametrize(
    ("codes", "nodata", "dtype"),
    [
        ((1, 2), 255, "uint8"),
        ((-1, 100), 15, "int16"),
        ((-1, 200), 15, "int16"),
        ((1, 70000), 0, "uint32"),
        ((1, 2), -9999, "int16"),
    ],
)
def test_label_arrays_hold_every_code(tmp_path: Path, codes: tuple[int, ...], nodata: int, dtype: str) -> None:
    classes = [{"code": code, "name": str(code)} for code in codes]
    store = make(tmp_path / "store", legend=Legend.from_values({"name": "x", "nodata": [nodata], "classes": classes}))
    assert store.labels.dtype == dtype
    written = np.array([*codes, nodata] + [nodata] * 29)[None].repeat(32, axis=0)
    store.write(Window(0, 0, 32, 32), random_image(0, 32, 32), written)
    np.testing.assert_array_equal(store.labels[:32, :32], written)


def test_describe_counts_scenes_and_classes(tmp_path: Path) -> None:
    values = make(tmp_path / "store").describe()
    assert (values["kind"], values["crs"], values["dtype"]) == ("store", UTM, "uint8")
    assert (values["height"], values["width"], values["gsd"]) == (HEIGHT, WIDTH, 0.6)
    assert Affine(*values["transform"]) == north_up()
    assert Legend.from_values(values["legend"]) == CHESAPEAKE
    folds = values["folds"]
    assert {fold: entry["scenes"] for fold, entry in folds.items()} == {"train": 2, "val": 0, "test": 1}
    assert folds["train"]["class_shares"]["water"] == 120 / 200
    assert folds["test"]["class_shares"] == pytest.approx(
        {**dict.fromkeys(CHESAPEAKE.names, 0), "barren": 0.6, "impervious (roads)": 0.4}
    )
    assert folds["val"] == {"scenes": 0, "pixels": 0, "class_shares": {}}


def test_the_gsd_of_a_rotated_grid_is_the_side_of_its_pixels(tmp_path: Path) -> None:
    assert make(tmp_path / "store", TRANSFORMS["rotated"]).gsd == pytest.approx(2)


def test_one_line_for_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    zarr.open_group(str(tmp_path / "group"), mode="w", zarr_format=3)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "zarr.json").write_text("{")
    for name in ("none", "file", "group", "damaged"):
        with pytest.raises(RasterError, match="not a geosynth store") as caught:
            Store(tmp_path / name)
        assert name in str(caught.value)
    assert [is_store(tmp_path / name) for name in ("none", "file", "group")] == [False, False, True]


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    group = zarr.open_group(store.path, mode="r+")
    group.attrs["geosynth"] = {**group.attrs["geosynth"], "version": 99}
    with pytest.raises(RasterError, match="version 99"):
        Store(store.path)
