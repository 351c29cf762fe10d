"""Store: what is written is what xarray, rioxarray and geosynth read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.errors import LegendError, RasterError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.stores import source
from geosynth.raster.stores.source import Scene
from geosynth.raster.stores.store import Store, is_store, open_stores
from rasters import UTM, UTM_18N, north_up, random_codes, random_image
from scene_stores import set_split

HEIGHT, WIDTH = 50, 70
TRANSFORMS = {
    "north-up": north_up(100, 50),
    "south-up": Affine(0.5, 0, 266000.0, 0, 0.5, 4300000.0),
    "rotated": Affine.translation(266000, 4300000) @ Affine.rotation(20) @ Affine.scale(2, -2),
}


def scene(row: int, pixels: tuple[int, ...]) -> Scene:
    return Scene(f"{row}.tif", Window(row, 0, 10, 10), pixels, "aa", "bb", "images/x.tif", "labels/x.tif", "2020-06-01")


SPLIT = SpatialSplit.by_scenes(
    {"train": [Window(0, 0, 10, 10), Window(12, 0, 10, 10)], "test": [Window(30, 0, 10, 10)]}
)


def make(
    path: Path,
    transform: Affine | None = None,
    crs: str | None = UTM,
    legend: Legend = CHESAPEAKE,
    **options: Any,
) -> Store:
    return blank_store(
        path,
        GeoBox((HEIGHT, WIDTH), transform or north_up(), crs),
        **{
            "legend": legend,
            "band_names": ("red", "green", "blue", "nir"),
            "dtype": np.dtype("uint8"),
            "scenes": [
                scene(0, (100, 0, 0, 0, 0, 0)),
                scene(12, (20, 20, 20, 20, 20, 0)),
                scene(30, (0, 0, 0, 30, 0, 20)),
            ],
            "split": SPLIT,
            "chunk_size": 16,
            "shard_size": 32,
            **options,
        },
    )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_xarray_finds_grid_and_values(tmp_path: Path, name: str) -> None:
    store = make(tmp_path / "store", TRANSFORMS[name])
    image = random_image(0, 32, 32)
    codes = np.random.default_rng(1).integers(1, 7, (32, 32))
    store.write(Window(0, 32, 32, 32), image, codes)
    opened = xr.open_zarr(store.path, decode_coords="all", consolidated=False)
    assert opened.labels.rio.nodata == 15
    for array in (opened.image, opened.labels):
        assert array.rio.crs.to_epsg() == 26917
        assert array.rio.transform().almost_equals(store.geobox.affine, 1e-9)
    np.testing.assert_array_equal(opened.image[:, :32, 32:64], image)
    np.testing.assert_array_equal(opened.labels[:32, 32:64], codes)
    assert (opened.labels[:, :32] == 15).all()
    assert opened.labels.dtype == np.uint8
    if name != "rotated":  # pixel centres
        corner = store.geobox.affine @ (40.5, 3.5)
        assert (float(opened.x[40]), float(opened.y[3])) == pytest.approx(corner, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transform": [0] * 6}, "a grid of"),
        ({"transform": [1, 0, 0, 0, float("inf"), 0]}, "a grid of"),
        ({"nodata": 1.5}, "'float' object"),
        ({"band_names": ["red"]}, "1 bands for an image of"),
        ({"quantities": [{"scale": 2.0}]}, "1 quantities for 4 bands"),
        ({"scenes": [scene(HEIGHT - 9, ()).to_values()]}, "scene 41.tif at rows 41-50"),
        ({"fold_pixels": {"train": [1, 2]}}, "pixels of other classes"),
    ],
)
def test_a_record_that_cannot_be_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    group = zarr.open_group(make(tmp_path / "store").path, mode="r+", zarr_format=3)
    group.attrs["geosynth"] = {**group.attrs["geosynth"], **change}
    with pytest.raises(RasterError, match=f"store: its record of grid, scenes and split is damaged: {said}") as caught:
        Store(tmp_path / "store")
    assert "\n" not in str(caught.value)


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
    for name in ("geobox", "legend", "nodata", "band_names", "scenes", "extras", "dtype", "chunk_size", "shard_shape"):
        assert getattr(again, name) == getattr(store, name)
    assert (again.chunk_size, again.shard_shape) == (16, (32, 32))
    assert again.split.to_values() == SPLIT.to_values()
    assert [entry.name for entry in again.scenes_in("train")] == ["0.tif", "12.tif"]
    assert [entry.is_complete for entry in again.scenes] == [True, True, False]
    with pytest.raises(ValueError, match="read-only"):
        Store(store.path).write(Window(0, 0, 32, 32), random_image(0, 32, 32), np.ones((32, 32)))


def test_what_is_counted_later_is_kept(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    split = SpatialSplit.by_scenes({"val": [Window(5, 0, 10, 10)]})
    store.finish([scene(5, (1, 2, 3, 4, 5, 6))], split, {"val": [6, 5, 4, 3, 2, 1]})
    again = Store(store.path)
    assert again.scenes == (scene(5, (1, 2, 3, 4, 5, 6)),)
    assert again.class_pixels("val") == (6, 5, 4, 3, 2, 1)
    assert again.class_pixels("train") == (0,) * 6
    assert again.scenes_in("val") == again.scenes
    assert again.geobox == store.geobox


def test_a_new_split_is_counted_by_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of scenes that straddle two folds, and of pixels that two scenes hold."""
    windows = [Window(0, 0, 40, 60), Window(20, 30, 30, 40)]
    scenes = [Scene("x", window, (), "", "") for window in windows]
    make(tmp_path / "store", scenes=scenes)
    codes = random_codes(3, HEIGHT, WIDTH, (1, 2, 3, 4, 5, 6, 15))
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for window in windows:
        inside[window.slices] = True
    codes[~inside] = 15
    Store(tmp_path / "store", mode="r+").write(Window(0, 0, HEIGHT, WIDTH), random_image(0, HEIGHT, WIDTH), codes)
    split = SpatialSplit.by_blocks(windows, 16, (0.5, 0, 0.5), seed=1, buffer=3)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(source, "SCAN_BLOCK", 32)
    set_split(Store(tmp_path / "store"), split, lambda done, total: seen.append((done, total)))
    store = Store(tmp_path / "store")
    assert seen[-1] == (6, 6)
    for fold in ("train", "val", "test"):
        mine = codes[split.mask(Window(0, 0, HEIGHT, WIDTH), fold)]
        assert store.class_pixels(fold) == tuple((mine == code).sum() for code in CHESAPEAKE.codes)
    assert store.describe()["folds"]["train"]["pixels"] == sum(store.class_pixels("train"))


def test_shards_over_scenes_cover_them_once(tmp_path: Path) -> None:
    windows = [Window(5, 5, 10, 40), Window(31, 60, 3, 10)]
    store = make(tmp_path / "store", scenes=[Scene("x", window, (), "", "") for window in windows])
    assert store.shards() == [
        Window(0, 0, 32, 32),
        Window(0, 32, 32, 32),
        Window(0, 64, 32, 6),
        Window(32, 32, 18, 32),
        Window(32, 64, 18, 6),
    ]


@pytest.mark.parametrize(("bands", "dtype", "edge"), [(4, "uint8", 2048), (13, "uint16", 1024), (200, "float32", 256)])
def test_a_shard_of_many_bands_is_smaller(tmp_path: Path, bands: int, dtype: str, edge: int) -> None:
    store = make(
        tmp_path / "store", band_names=[str(band) for band in range(bands)], dtype=np.dtype(dtype), shard_size=2048
    )
    large = GeoBox((10_000, 10_000), north_up(), UTM)
    store = blank_store(
        tmp_path / "large",
        large,
        legend=CHESAPEAKE,
        band_names=store.band_names,
        dtype=store.dtype,
        scenes=(),
        split=SPLIT,
    )
    assert store.shard_shape == (edge, edge)


def test_extras_keep_their_raw_values(tmp_path: Path) -> None:
    store = make(tmp_path / "store", extras={"nlcd": (np.dtype("uint8"), 0), "height": (np.dtype("float32"), -9999)})
    window = Window(0, 0, 32, 32)
    values = {
        "nlcd": np.full((32, 32), 41, dtype=np.uint8),
        "height": np.linspace(0, 1, 1024).reshape(32, 32).astype("f4"),
    }
    store.write(window, random_image(0, 32, 32), np.ones((32, 32)), values)
    again = Store(store.path)
    for name, wanted in values.items():
        np.testing.assert_array_equal(again.read_extra(name, window), wanted)
    assert again.read_extra("height", Window(40, 40, 2, 2)).tolist() == [[-9999, -9999]] * 2
    assert xr.open_zarr(store.path, consolidated=False).nlcd.rio.nodata == 0
    with pytest.raises(SettingsError, match="no map 'lidar'; there are: nlcd, height"):
        again.read_extra("lidar", window)


@pytest.mark.parametrize("nodata", [np.nan, -np.inf, -9999.0])
def test_its_descriptions_are_json_in_the_strict_sense(tmp_path: Path, nodata: float) -> None:
    store = make(tmp_path / "store", extras={"height": (np.dtype("float32"), nodata)})
    described = list(Path(store.path).rglob("zarr.json"))
    assert len(described) > 3

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for file in described:
        json.loads(file.read_text(), parse_constant=refuse)
    np.testing.assert_equal(Store(store.path).extras["height"], (np.dtype("float32"), nodata))


def test_what_is_not_written_is_not_stored(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    image, codes = np.zeros((4, 32, 32), np.uint8), np.full((32, 32), 15)
    store.write(Window(0, 0, 32, 32), image, codes)
    assert not (tmp_path / "store" / "image" / "c").exists()
    image[0, 0, 0], codes[20, 20] = 1, 3
    store.write(Window(0, 0, 32, 32), image, codes)
    files = sorted(str(path.relative_to(store.path)) for path in Path(store.path).rglob("c/**/*") if path.is_file())
    assert [name for name in files if name[0] in "il"] == ["image/c/0/0/0", "labels/c/0/0"]
    assert Path(store.path, "labels/c/0/0").stat().st_size < 600  # one chunk of four, and an index
    np.testing.assert_array_equal(Store(store.path).read_image(Window(0, 0, 32, 32)), image)


def test_gdal_finds_the_grid(tmp_path: Path) -> None:
    """By `_CRS` and coordinates. GDAL reads sharded Zarr v3 from 3.13 on; before, the same attributes in Zarr v2."""
    store = make(tmp_path / "store")
    path = store.path
    if tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) < (3, 13):
        path = str(tmp_path / "v2")
        copy = zarr.open_group(path, mode="w", zarr_format=2)
        for name, array in zarr.open_group(store.path, mode="r").arrays():
            dimensions = {"_ARRAY_DIMENSIONS": list(array.metadata.dimension_names or ())}
            like = copy.create_array(
                name, shape=array.shape, dtype=array.dtype, attributes={**array.attrs, **dimensions}, fill_value=0
            )
            like[...] = array[...]
    with rasterio.open(f'ZARR:"{path}":/image') as dataset:
        assert dataset.crs.to_epsg() == 26917
        assert dataset.transform.almost_equals(store.geobox.affine, 1e-6)
        assert dataset.shape == (HEIGHT, WIDTH)


def test_classes_are_told_by_cf_flags(tmp_path: Path) -> None:
    labels = xr.open_zarr(make(tmp_path / "store").path, consolidated=False).labels
    assert dict(zip(labels.flag_values, labels.flag_meanings.split(), strict=True))[5] == "impervious_other"


def test_labels_are_read_as_class_indices(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    codes = np.full((32, 32), 15)
    codes[4, :6] = [1, 2, 3, 4, 5, 6]
    store.write(Window(0, 0, 32, 32), random_image(0, 32, 32), codes)
    assert store.read_labels(Window(4, 0, 1, 8)).tolist() == [[0, 1, 2, 3, 4, 5, 6, 6]]
    assert (store.read_labels(Window(40, 40, 5, 5)) == 6).all()  # never written


def test_a_store_is_shown_in_a_line(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    assert repr(store) == f"Store({store.path!r}, 4 x {HEIGHT} x {WIDTH}, uint8, 3 scenes)"


def test_codes_that_were_edited_in_must_be_the_legends(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    codes = np.full((32, 32), 15)
    codes[4, :6] = [1, 0, 3, 9, 9, 6]
    store.write(Window(0, 0, 32, 32), random_image(0, 32, 32), codes)
    assert store.read_labels(Window(4, 0, 1, 3)).tolist() == [[0, 6, 2]]
    with pytest.raises(LegendError, match=r"store: labels: codes .* does not know: 9 \(2 px\); .* nodata \(15\)$"):
        store.read(store.window)


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
    store = make(tmp_path / "store")
    counted = {"train": [120, 20, 20, 20, 20, 0], "test": [0, 0, 0, 30, 0, 20]}
    store.finish(store.scenes, store.split, counted)
    values = store.describe()
    assert (values["kind"], values["crs"], values["dtype"]) == ("store", UTM, "uint8")
    assert (values["height"], values["width"], values["gsd"]) == (HEIGHT, WIDTH, 0.6)
    assert Affine(*values["transform"]) == north_up()
    assert Legend.from_values(values["legend"]) == CHESAPEAKE
    folds = values["folds"]
    assert {fold: entry["scenes"] for fold, entry in folds.items()} == {"train": 2, "val": 0, "test": 1}
    assert folds["train"]["class_shares"]["water"] == 120 / 200
    assert values["extras"] == []
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
        told = "no such folder; make one" if name == "none" else "not a geosynth store"
        with pytest.raises(RasterError, match=told) as caught:
            Store(tmp_path / name)
        assert name in str(caught.value)
    assert not any(is_store(tmp_path / name) for name in ("none", "file", "group", "damaged"))


def test_several_stores_side_by_side(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "both"), mode="w", zarr_format=3)
    root.attrs["geosynth_stores"] = ["epsg_26917", "epsg_26918"]
    for name, crs in (("epsg_26917", UTM), ("epsg_26918", UTM_18N)):
        make(tmp_path / "both" / name, crs=crs)
    stores = open_stores(tmp_path / "both")
    assert [store.geobox.crs.epsg for store in stores] == [26917, 26918]
    assert [store.path for store in open_stores(stores[0].path)] == [stores[0].path]
    with pytest.raises(RasterError, match=r"several stores.*both/epsg_26917, .*both/epsg_26918"):
        Store(tmp_path / "both")
    with pytest.raises(RasterError, match="no such folder"):
        open_stores(tmp_path / "none")


def test_several_stores_in_a_plain_folder(tmp_path: Path) -> None:
    for name, crs in (("west", UTM), ("east", UTM_18N)):
        make(tmp_path / "mine" / name, crs=crs)
    (tmp_path / "mine" / "notes").mkdir()
    assert [Path(store.path).name for store in open_stores(tmp_path / "mine")] == ["east", "west"]
    (tmp_path / "mine" / "east" / "zarr.json").write_text("{")
    for path in ("mine", "mine/east", "mine/notes"):
        with pytest.raises(RasterError, match=f"{path}.*not a geosynth store"):
            open_stores(tmp_path / path)


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    group = zarr.open_group(store.path, mode="r+")
    group.attrs["geosynth"] = {**group.attrs["geosynth"], "version": 99}
    with pytest.raises(RasterError, match="version 99"):
        Store(store.path)
