"""ingest: not a pixel changed, nothing half done, each refusal in one line."""

from __future__ import annotations

import hashlib
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
import zarr
from affine import Affine

from geosynth.errors import DataError, GeosynthError, GridError, LegendError, OutputError, RasterError
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.store import Store
from rasters import north_up, random_codes, random_image, write_raster

RGBN = ("red", "green", "blue", "nir")
ALL_TRAIN = (1, 0, 0)
SIDE = 40


class Scenes:
    """A folder of images and one of labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.labels = folder / "images", folder / "labels"

    def add(self, name: str, column: int, row: int, side: int = SIDE, seed: int = 0, **profile: Any) -> None:
        image = random_image(seed, side, side)
        write_raster(self.images / name, image, **{"transform": north_up(column, row), **profile})
        write_raster(self.labels / name, random_codes(seed, side, side), north_up(column, row))

    def ingest(self, out: str = "store", **options: Any) -> Store:
        options = {"bands": RGBN, "shares": ALL_TRAIN, **options}
        (store,) = ingest(self.images, self.labels, self.folder / out, **options)
        return store

    def check(self, store: Store, name: str) -> None:
        """The store holds this pair, bit by bit."""
        window = next(scene.window for scene in store.scenes if scene.name == name)
        with rasterio.open(self.images / name) as image, rasterio.open(self.labels / name) as labels:
            np.testing.assert_array_equal(store.read_image(window), image.read())
            np.testing.assert_array_equal(store.labels[window.slices], labels.read(1))
            corner = store.geobox.affine @ (window.column, window.row)
            assert corner == pytest.approx((image.transform.c, image.transform.f), abs=1e-6)


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    return Scenes(tmp_path)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"images", "labels"}


def test_pixels_places_and_records(scenes: Scenes) -> None:
    for seed, (column, row) in enumerate([(0, 0), (300, 10), (-170, 500), (40, 0), (700, 700)]):
        scenes.add(f"{seed}.tif", column, row, seed=seed)
    store = scenes.ingest(shares=(0.5, 0.2, 0.3))
    assert store.geobox.shape == (740, 910)
    folds = {scene.name: store.split.fold_of(scene.window) for scene in store.scenes}
    assert set(folds.values()) == {"train", "val", "test"}
    assert folds["0.tif"] == folds["3.tif"]  # they touch
    for scene in store.scenes:
        scenes.check(store, scene.name)
        codes = random_codes(int(scene.name[0]), SIDE, SIDE)
        assert scene.class_pixels == tuple((codes == code).sum() for code in CHESAPEAKE.codes)
        assert scene.is_complete
        digests = [
            hashlib.sha256((folder / scene.name).read_bytes()).hexdigest() for folder in (scenes.images, scenes.labels)
        ]
        assert [scene.image_sha256, scene.labels_sha256] == digests
    assert leftovers(scenes.folder) == {"store"}
    opened = xr.open_zarr(store.path, decode_coords="all", consolidated=False)
    assert opened.rio.crs.to_epsg() == 26917
    assert opened.rio.transform().almost_equals(store.geobox.affine, 1e-9)
    window = store.scenes[1].window
    rows, columns = window.slices
    with rasterio.open(scenes.images / "1.tif") as image:
        np.testing.assert_array_equal(opened.image[:, rows, columns], image.read())
        x, y = image.xy(3, 5)
    assert int(opened.labels.sel(x=x, y=y, method="nearest")) == random_codes(1, SIDE, SIDE)[3, 5]


@pytest.mark.parametrize(
    "transform",
    [
        Affine(2, 0, 500, 0, 2, 900),
        Affine.translation(500, 900) @ Affine.rotation(30) @ Affine.scale(2, -2),
    ],
    ids=["south-up", "rotated"],
)
def test_grids_of_other_orientation_stay_as_they_are(scenes: Scenes, transform: Affine) -> None:
    for seed, (column, row) in enumerate([(0, 0), (60, 20)]):
        moved = transform @ Affine.translation(column, row)
        write_raster(scenes.images / f"{seed}.tif", random_image(seed, SIDE, SIDE), moved)
        write_raster(scenes.labels / f"{seed}.tif", random_codes(seed, SIDE, SIDE), moved)
    store = scenes.ingest()
    assert store.geobox.affine.almost_equals(transform, 1e-9)
    for name in ("0.tif", "1.tif"):
        scenes.check(store, name)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_dtypes_are_kept(scenes: Scenes, dtype: str) -> None:
    scenes.add("a.tif", 0, 0)
    write_raster(scenes.images / "a.tif", random_image(5, SIDE, SIDE, dtype=dtype) * 100, north_up())
    store = scenes.ingest()
    assert store.image.dtype == dtype
    scenes.check(store, "a.tif")


def test_scenes_far_apart_take_no_room_between(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0, seed=1)
    scenes.add("b.tif", 400_000, 250_000, seed=2)
    store = scenes.ingest()
    assert store.geobox.shape == (250_040, 400_040)
    for name in ("a.tif", "b.tif"):
        scenes.check(store, name)
    chunks = [path for path in Path(store.path, "image", "c").rglob("*") if path.is_file()]
    assert len(chunks) <= 2 * 4


def test_one_image_and_one_label_file_need_no_common_name(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0)
    scenes.labels.joinpath("a.tif").rename(scenes.labels / "land cover [2020].tif")
    (store,) = ingest(
        scenes.images / "a.tif",
        scenes.labels / "land cover [2020].tif",  # no glob: there is such a file
        scenes.folder / "deep" / "er" / "store",
        bands=RGBN,
        shares=ALL_TRAIN,
    )
    assert [scene.name for scene in store.scenes] == ["a.tif"]


def test_globs_choose_files(scenes: Scenes) -> None:
    for seed, name in enumerate(("a1.tif", "a2.tif", "b1.tif")):
        scenes.add(name, 100 * seed, 0, seed=seed)
    (store,) = ingest(
        f"{scenes.images}/a*.tif", f"{scenes.labels}/a*.tif", scenes.folder / "s", bands=RGBN, shares=ALL_TRAIN
    )
    assert [scene.name for scene in store.scenes] == ["a1.tif", "a2.tif"]


def test_missing_data_in_image_or_labels_is_nodata(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0)
    image, codes = random_image(0, SIDE, SIDE), random_codes(0, SIDE, SIDE)
    image[:, :5], codes[:, :7] = 0, 0
    write_raster(scenes.images / "a.tif", image, north_up(), nodata=0)  # band 4 is marked alpha as well
    write_raster(scenes.labels / "a.tif", codes, north_up())
    store = scenes.ingest()
    scene = store.scenes[0]
    missing = np.zeros((SIDE, SIDE), dtype=bool)
    missing[:5], missing[:, :7] = True, True
    np.testing.assert_array_equal(store.labels[:], np.where(missing, 15, codes))
    np.testing.assert_array_equal(store.image[:], image)
    assert sum(scene.class_pixels) == (~missing).sum()
    assert not scene.is_complete


def test_near_infrared_marked_alpha_hides_nothing(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0)
    image = random_image(0, SIDE, SIDE)
    image[3] = 0  # as over water
    write_raster(scenes.images / "a.tif", image, north_up())
    with rasterio.open(scenes.images / "a.tif") as dataset:
        assert not dataset.dataset_mask().any()  # the trap
    assert scenes.ingest().scenes[0].is_complete


def test_nan_is_no_data_even_undeclared(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0)
    image = random_image(0, SIDE, SIDE, dtype="float32")
    image[2, 3, 4] = np.nan
    write_raster(scenes.images / "a.tif", image, north_up())
    store = scenes.ingest()
    assert np.argwhere(store.labels[:] == 15).tolist() == [[3, 4]]


def test_where_scenes_overlap_the_later_wins_but_not_its_nodata(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0, seed=1)
    scenes.add("b.tif", 10, 20, seed=2)
    codes = random_codes(2, SIDE, SIDE)
    codes[:, :8] = 0
    write_raster(scenes.labels / "b.tif", codes, north_up(10, 20))
    store = scenes.ingest()
    wanted = np.full((60, 50), 15)
    image = np.zeros((4, 60, 50), dtype=np.uint8)
    wanted[:40, :40], image[:, :40, :40] = random_codes(1, SIDE, SIDE), random_image(1, SIDE, SIDE)
    wanted[20:, 18:], image[:, 20:, 18:] = codes[:, 8:], random_image(2, SIDE, SIDE)[:, :, 8:]
    np.testing.assert_array_equal(store.labels[:], wanted)
    np.testing.assert_array_equal(store.image[:][:, wanted != 15], image[:, wanted != 15])
    assert [scene.is_complete for scene in store.scenes] == [True, False]
    assert (store.labels[:40, :40] != 15).all()  # what is complete stays so


def test_label_codes_are_translated_by_class_name(scenes: Scenes) -> None:
    legend = Legend.load(Path(__file__).parents[2] / "examples" / "ohio_naip_legend.yaml")
    scenes.add("a.tif", 0, 0)
    codes = random_codes(3, SIDE, SIDE, tuple(range(6)))
    write_raster(scenes.labels / "a.tif", codes, north_up())
    store = scenes.ingest(label_legend=legend)
    assert store.legend == CHESAPEAKE
    by_name = {entry.code: entry.name for entry in legend.classes}
    wanted = {entry.name: entry.code for entry in CHESAPEAKE.classes}
    np.testing.assert_array_equal(store.labels[:], np.vectorize(lambda code: wanted[by_name[code]])(codes))


def test_a_legend_without_nodata_gets_a_free_code(scenes: Scenes) -> None:
    legend = Legend.from_values({"name": "own", "classes": [{"code": code, "name": str(code)} for code in (1, 2, 255)]})
    scenes.add("a.tif", 0, 0)
    codes = random_codes(3, SIDE, SIDE, (1, 2, 255))
    write_raster(scenes.labels / "a.tif", codes, north_up(), nodata=2)
    store = scenes.ingest(legend=legend)
    assert store.nodata == 254
    np.testing.assert_array_equal(store.labels[:], np.where(codes == 2, 254, codes))


def test_bands_are_named_by_the_files(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0)
    with rasterio.open(scenes.images / "a.tif", "r+") as dataset:
        dataset.descriptions = ("B4", "B3", "B2", "B8")
    assert scenes.ingest("described", bands=None).band_names == ("B4", "B3", "B2", "B8")
    write_raster(scenes.images / "a.tif", random_image(0, SIDE, SIDE)[:3], north_up(), photometric="rgb")
    assert scenes.ingest("coloured", bands=None).band_names == ("red", "green", "blue")


@pytest.mark.parametrize("description", [None, "near infrared"])
def test_a_band_marked_alpha_must_be_named(scenes: Scenes, description: str | None) -> None:
    scenes.add("a.tif", 0, 0)
    if description:  # one band described does not tell what the others are
        with rasterio.open(scenes.images / "a.tif", "r+") as dataset:
            dataset.set_band_description(4, description)
    with pytest.raises(DataError, match=r"alpha.*--bands"):
        scenes.ingest(bands=None)


def change(name: str, values: np.ndarray, **profile: Any) -> Callable[[Scenes], None]:
    def apply(scenes: Scenes) -> None:
        write_raster(scenes.folder / name, values, **{"transform": north_up(100, 0), **profile})

    return apply


def describe_bands(scenes: Scenes) -> None:
    for name, bands in (("a.tif", RGBN), ("b.tif", ("nir", "red", "green", "blue"))):
        with rasterio.open(scenes.images / name, "r+") as dataset:
            dataset.descriptions = bands


IMAGE, CODES = random_image(0, SIDE, SIDE), random_codes(0, SIDE, SIDE)
HALF_PIXEL = north_up(100.5, 0)
REFUSALS: dict[str, tuple[Callable[[Scenes], Any], dict[str, Any], type[GeosynthError], str]] = {
    "no partner": (lambda s: (s.labels / "b.tif").unlink(), {}, DataError, r"paired by file name; 1 .*b\.tif"),
    "no files": (lambda s: shutil.rmtree(s.labels) or s.labels.mkdir(), {}, DataError, "labels: no raster files"),
    "no folder": (lambda s: shutil.rmtree(s.labels), {}, GeosynthError, "labels"),
    "half a pixel": (change("labels/b.tif", CODES, transform=HALF_PIXEL), {}, GridError, "labels/b.tif.*fraction"),
    "a whole pixel": (change("labels/b.tif", CODES, transform=north_up(101, 0)), {}, GridError, "same pixels"),
    "smaller labels": (change("labels/b.tif", CODES[:-1]), {}, GridError, "same pixels"),
    "labels without crs": (change("labels/b.tif", CODES, crs=None), {}, GridError, "CRS none"),
    "another crs": (change("labels/b.tif", CODES, crs="EPSG:32617"), {}, GridError, "CRS EPSG:32617"),
    "another lattice": (
        lambda s: [
            change(f"{kind}/b.tif", v, transform=HALF_PIXEL)(s) for kind, v in (("images", IMAGE), ("labels", CODES))
        ],
        {},
        GridError,
        "images/b.tif.*fraction",
    ),
    "coarser pixels": (
        lambda s: [
            change(f"{k}/b.tif", v, transform=north_up(9, 9, 1.0))(s) for k, v in (("images", IMAGE), ("labels", CODES))
        ],
        {},
        GridError,
        "pixel size",
    ),
    "fewer bands": (change("images/b.tif", IMAGE[:3]), {}, DataError, "b.tif: 3 bands of uint8, but"),
    "float64": (
        lambda s: [
            change(f"images/{name}.tif", IMAGE.astype("float64"), transform=north_up(column, 0))(s)
            for name, column in (("a", 0), ("b", 100))
        ],
        {},
        DataError,
        r"a\.tif: imagery of float64; convert it to one of uint8, uint16, int16, float32",
    ),
    "other dtype": (change("images/b.tif", IMAGE.astype("uint16")), {}, DataError, "b.tif: 4 bands of uint16, but"),
    "other order": (describe_bands, {"bands": None}, DataError, r"b\.tif: its bands are nir, red"),
    "band names": (
        lambda s: None,
        {"bands": ("red", "swir")},
        DataError,
        "a.tif: has 4 bands .* names given are red, swir",
    ),
    "band names twice": (lambda s: None, {"bands": ("red", "red", "blue", "nir")}, DataError, "red, red"),
    "images as labels": (change("labels/b.tif", IMAGE[:3]), {}, LegendError, "b.tif: more than 64 colours"),
    "labels of bands": (change("labels/b.tif", IMAGE[:2]), {}, DataError, "2 bands; a label raster"),
    "float labels": (change("labels/b.tif", CODES + np.float32(0.5)), {}, DataError, "class codes are whole numbers"),
    "unknown codes": (change("labels/b.tif", CODES + 40), {}, LegendError, "labels/b.tif: codes"),
    "empty labels": (change("labels/b.tif", CODES * 0), {}, DataError, "nodata"),
    "classes without partner": (
        lambda s: None,
        {"label_legend": Legend.from_values({"name": "x", "classes": [{"code": 1, "name": "vineyard"}]})},
        LegendError,
        "vineyard",
    ),
    "a fold without scenes": (lambda s: None, {"shares": (0.7, 0.1, 0.2), "by": "clusters"}, DataError, "none left"),
    "not a raster": (lambda s: (s.images / "b.tif").write_text("x"), {}, RasterError, "images/b.tif"),
    "same name twice": (
        lambda s: [s.add("sub/b.tif", 300, 0), (s.labels / "sub/b.tif").rename(s.labels / "b.b.tif")],
        {"glob": True},
        DataError,
        "b names several files",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(scenes: Scenes, case: str) -> None:
    spoil, options, error, complaint = REFUSALS[case]
    scenes.add("a.tif", 0, 0, seed=1)
    scenes.add("b.tif", 100, 0, seed=2)
    spoil(scenes)
    options = {"bands": RGBN, "shares": ALL_TRAIN, **options}
    deep = "**/*.tif" if options.pop("glob", False) else ""
    with pytest.raises(error, match=complaint) as caught:
        ingest(f"{scenes.images / deep}", f"{scenes.labels / deep}", scenes.folder / "store", **options)
    assert "\n" not in str(caught.value)
    assert not leftovers(scenes.folder)


def test_files_of_one_name_in_several_folders(scenes: Scenes) -> None:
    """Folders of any depth; the names of the scenes tell them apart."""
    for number, name in enumerate(("b.tif", "sub/b.tif", "sub/deeper/b.tif")):
        scenes.add(name, 100 * number, 0, seed=number)
    paths = f"{scenes.images}/**/*.tif", f"{scenes.labels}/**/*.tif"
    (store,) = ingest(*paths, scenes.folder / "store", bands=RGBN, shares=ALL_TRAIN)
    assert [scene.name for scene in store.scenes] == ["b.tif", "sub_b.tif", "sub_deeper_b.tif"]
    for scene, name in zip(store.scenes, ("b.tif", "sub/b.tif", "sub/deeper/b.tif"), strict=True):
        with rasterio.open(scenes.images / name) as image, rasterio.open(scenes.labels / name) as labels:
            np.testing.assert_array_equal(store.read_image(scene.window), image.read())
            np.testing.assert_array_equal(store.labels[scene.window.slices], labels.read(1))


def test_scenes_without_a_place_are_not_piled_up(scenes: Scenes) -> None:
    for name in ("a.tif", "b.tif"):
        for folder, values in ((scenes.images, IMAGE), (scenes.labels, CODES)):
            write_raster(folder / name, values, Affine.identity(), crs=None)
    with pytest.raises(GridError, match=r"a\.tif: has no georeference.*a local grid without a CRS will do"):
        scenes.ingest()
    for name, left in (("a.tif", 0), ("b.tif", 300)):  # as `rio edit-info --transform` does
        for folder, values in ((scenes.images, IMAGE), (scenes.labels, CODES)):
            write_raster(folder / name, values, Affine(1, 0, left, 0, -1, 0), crs=None)
    assert [scene.window.column for scene in scenes.ingest("placed").scenes] == [0, 300]
    for folder, values in ((scenes.images, IMAGE), (scenes.labels, CODES)):
        write_raster(folder / "a.tif", values, Affine.identity(), crs=None)
    (scenes.images / "b.tif").unlink()
    (scenes.labels / "b.tif").unlink()
    store = scenes.ingest()
    assert store.geobox.crs is None
    np.testing.assert_array_equal(store.image[:], IMAGE)


def test_progress_counts_each_pair_and_shard(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0, side=300)
    scenes.add("b.tif", 3000, 0)
    seen: list[tuple[int, int]] = []
    scenes.ingest(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4) for done in range(1, 5)]


def test_an_old_store_goes_only_when_the_new_one_is_whole(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0, seed=1)
    old = scenes.ingest()
    with pytest.raises(OutputError, match=r"already exists.*--overwrite"):
        scenes.ingest()
    scenes.add("a.tif", 0, 0, seed=2)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scenes.ingest(overwrite=True, progress=interrupt)
    np.testing.assert_array_equal(Store(old.path).image[:], random_image(1, SIDE, SIDE))
    new = scenes.ingest(overwrite=True)
    assert leftovers(scenes.folder) == {"store"}
    np.testing.assert_array_equal(new.image[:], random_image(2, SIDE, SIDE))


def test_an_old_store_comes_back_if_the_new_one_cannot_be_renamed(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes.add("a.tif", 0, 0, seed=1)
    scenes.ingest()
    scenes.add("a.tif", 0, 0, seed=2)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "result":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OutputError, match="No space left"):
            scenes.ingest(overwrite=True)
    np.testing.assert_array_equal(Store(scenes.folder / "store").image[:], random_image(1, SIDE, SIDE))
    scenes.ingest(overwrite=True)
    assert leftovers(scenes.folder) == {"store"}
    np.testing.assert_array_equal(Store(scenes.folder / "store").image[:], random_image(2, SIDE, SIDE))


@pytest.mark.parametrize("moved", ["images", "labels"])
def test_a_store_that_holds_its_inputs_is_not_overwritten(scenes: Scenes, moved: str) -> None:
    scenes.add("a.tif", 0, 0)
    scenes.ingest()
    inside = shutil.move(scenes.folder / moved, scenes.folder / "store" / moved)
    folders = {"images": scenes.images, "labels": scenes.labels, moved: inside}
    with pytest.raises(OutputError, match="an input that would be lost"):
        ingest(**folders, out=scenes.folder / "store", bands=RGBN, shares=ALL_TRAIN, overwrite=True)
    assert (Path(inside) / "a.tif").is_file()


def test_only_stores_are_overwritten(scenes: Scenes) -> None:
    scenes.add("a.tif", 0, 0)
    (scenes.folder / "file").write_text("precious")
    (scenes.folder / "folder").mkdir()
    (scenes.folder / "folder" / "precious").touch()
    zarr.open_group(str(scenes.folder / "cube.zarr"), mode="w", zarr_format=3).create_array(
        "precious", shape=(2,), dtype="uint8"
    )
    for name in ("file", "folder", "cube.zarr"):
        with pytest.raises(OutputError, match="already exists"):
            scenes.ingest(name)
        with pytest.raises(OutputError, match="not a geosynth store"):
            scenes.ingest(name, overwrite=True)
    assert (scenes.folder / "file").read_text() == "precious"
    assert (scenes.folder / "folder" / "precious").exists()
    assert (scenes.folder / "cube.zarr" / "precious" / "zarr.json").exists()


def test_places_that_cannot_be_written(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes.add("a.tif", 0, 0)
    (scenes.folder / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        scenes.ingest("file/store")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written"):
        scenes.ingest()


@pytest.mark.realdata
def test_real_tiles(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ohio_naip"
    names = ["tile_20159.tif", "tile_20160.tif", "tile_20165.tif", "tile_13476.tif", "tile_13846.tif"]
    (store,) = ingest(
        [folder / "images" / name for name in names],
        [folder / "labels" / name for name in names],
        tmp_path / "ohio",
        label_legend=Path(__file__).parents[2] / "examples" / "ohio_naip_legend.yaml",
        bands=RGBN,
        shares=(0.5, 0, 0.5),
    )
    assert store.gsd == pytest.approx(0.6)
    folds = {scene.name: store.split.fold_of(scene.window) for scene in store.scenes}
    assert folds["tile_20159.tif"] == folds["tile_20160.tif"]  # neighbours
    for scene in store.scenes:
        with (
            rasterio.open(folder / "images" / scene.name) as image,
            rasterio.open(folder / "labels" / scene.name) as labels,
        ):
            np.testing.assert_array_equal(store.read_image(scene.window), image.read())
            codes = labels.read(1)
        assert scene.is_complete
        wanted = np.array([3, 5, 6, 4, 2, 1])[codes]  # by the table of the data's README
        np.testing.assert_array_equal(store.labels[scene.window.slices], wanted)
    described = store.describe()
    assert described["crs"] == "EPSG:26917"
    assert sum(fold["pixels"] for fold in described["folds"].values()) == len(names) * 256 * 256


def test_memory_does_not_grow_with_the_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # several threads may or may not be at their peaks together
    peaks = []
    for shards in (6, 14):  # more than are under way at once
        folder, shape = tmp_path / str(shards), (2048, 2048 * shards)
        write_raster(folder / "a.tif", np.full((1, *shape), 7, np.uint8), north_up(), tiled=True, compress="deflate")
        write_raster(folder / "b.tif", np.full(shape, 3, np.uint8), north_up(), tiled=True, compress="deflate")
        tracemalloc.start()
        try:
            ingest(folder / "a.tif", folder / "b.tif", folder / "out", bands=("x",), shares=ALL_TRAIN)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.4 * peaks[0]
