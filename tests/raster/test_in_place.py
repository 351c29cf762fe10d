"""Reading in place: what a store would hold, from the files themselves, near or far."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
import yaml
import zarr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from blank_stores import blank_store
from geosynth.errors import DataError, GridError, LegendError, RasterError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.open import open_in_place, open_sources, open_zarr_in_place
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.stores.store import Store
from range_server import RangeServer
from rasters import UTM, UTM_18N, north_up, random_codes, random_image, write_raster
from strategies import few

TRAIN_ONLY = SplitRule(shares=(1, 0, 0))
BANDS = ("red", "green", "blue", "nir")
NO_CLASS = CHESAPEAKE.num_classes

# Three overlapping scenes on one lattice, the later one on top; each has nodata in the image or in the labels.
PLACES = {"a": Window(0, 0, 60, 70), "b": Window(40, 50, 60, 70), "c": Window(10, 130, 50, 40)}
HEIGHT, WIDTH = 100, 170


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Files, and what they hold together, built pixel by pixel."""
    folder = tmp_path_factory.mktemp("scenes")
    image = np.zeros((4, HEIGHT, WIDTH), np.uint8)
    indices = np.full((HEIGHT, WIDTH), NO_CLASS, np.uint8)
    for seed, (name, place) in enumerate(PLACES.items()):
        values = random_image(seed, place.height, place.width)
        codes = random_codes(seed, place.height, place.width)
        values[:, 20:24, 30:45] = 0  # declared nodata
        values[1:, 2:4, 2:4] = 0  # one band is not: data
        codes[30:40, :12] = 15
        transform = north_up(place.column, place.row)
        write_raster(
            folder / "images" / f"{name}.tif", values, transform, nodata=0, tiled=True, blockxsize=32, blockysize=32
        )
        write_raster(folder / "labels" / f"{name}.tif", codes, transform)
        has_data = (values != 0).any(axis=0) & (codes != 15)
        for row in range(place.height):
            for column in range(place.width):
                here = (place.row + row, place.column + column)
                if has_data[row, column] or indices[here] == NO_CLASS:
                    image[:, *here] = values[:, row, column]
                    indices[here] = CHESAPEAKE.codes.index(codes[row, column]) if has_data[row, column] else NO_CLASS
    return folder, image, indices


@pytest.fixture(scope="module")
def source(scenes: tuple[Path, np.ndarray, np.ndarray]) -> PatchSource:
    return open_in_place(scenes[0] / "images", scenes[0] / "labels", bands=BANDS, split=TRAIN_ONLY)[0]


@few
@given(row=st.integers(0, HEIGHT - 1), column=st.integers(0, WIDTH - 1), size=st.integers(1, 90))
def test_windows_hold_what_the_scenes_hold(
    scenes: tuple[Path, np.ndarray, np.ndarray], source: PatchSource, row: int, column: int, size: int
) -> None:
    _, image, indices = scenes
    window = Window(row, column, min(size, HEIGHT - row), min(size, WIDTH - column))
    np.testing.assert_array_equal(source.read_labels(window), indices[window.slices])
    found = source.read_image(window)
    labelled = indices[window.slices] < NO_CLASS  # elsewhere nobody may look
    np.testing.assert_array_equal(found[:, labelled], image[(slice(None), *window.slices)][:, labelled])


def test_what_the_source_says_of_itself(source: PatchSource) -> None:
    assert source.geobox.shape == (HEIGHT, WIDTH)
    assert source.geobox.affine == north_up()
    assert source.geobox.crs.epsg == 26917
    assert (source.band_names, source.dtype, source.chunk_size) == (BANDS, np.uint8, 32)
    assert source.gsd == pytest.approx(0.6)
    assert {scene.name: scene.window for scene in source.scenes} == {f"{n}.tif": place for n, place in PLACES.items()}
    assert not any(scene.is_complete for scene in source.scenes)
    assert len(source.scenes_in("train")) == 3
    assert source.scenes_in("test") == ()
    again = pickle.loads(pickle.dumps(source))
    window = Window(30, 40, 30, 40)
    np.testing.assert_array_equal(again.read_image(window), source.read_image(window))


def test_grids_of_any_orientation(tmp_path: Path) -> None:
    image, codes = random_image(0, 30, 40), random_codes(0, 30, 40)
    straight = Affine(0.5, 0, 266000, 0, 0.5, 4300000)
    for name, transform in {"south-up": straight, "rotated": straight @ Affine.rotation(30)}.items():
        write_raster(tmp_path / name / "image.tif", image, transform)
        write_raster(tmp_path / name / "labels.tif", codes, transform)
        files = (tmp_path / name / "image.tif", tmp_path / name / "labels.tif")
        source = open_in_place(*files, bands=BANDS, split=TRAIN_ONLY)[0]
        np.testing.assert_array_equal(source.read_image(Window(3, 4, 20, 30)), image[:, 3:23, 4:34])


@pytest.mark.parametrize(
    ("dtype", "hidden", "nodata"),
    [("uint8", 255, 255), ("uint8", 90, None), ("int16", -9999, -9999), ("float32", -9999, -9999)],
    ids=["white", "a mask over anything", "a negative number", "floats"],
)
def test_imagery_without_data_is_0_or_nan_whatever_the_file_has_there(
    tmp_path: Path, dtype: str, hidden: float, nodata: float | None
) -> None:
    """So that `read_holed` knows it: where only labels are missing, the imagery stays."""
    image, codes = random_image(0, 64, 64, 4, "uint8").astype(dtype), random_codes(0, 64, 64)
    hole, bare = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    hole[10:20, 10:20], bare[40:50, 40:50] = True, True
    image[:, hole], codes[bare] = hidden, 15
    path = write_raster(tmp_path / "images" / "a.tif", image, north_up(), nodata=nodata, photometric="minisblack")
    write_raster(tmp_path / "labels" / "a.tif", codes, north_up())
    if nodata is None:
        with rasterio.open(path, "r+") as file:
            file.write_mask(~hole)
    (in_place,) = open_in_place(path.parent, tmp_path / "labels", bands=BANDS, split=TRAIN_ONLY)
    (store,) = ingest(path.parent, tmp_path / "labels", tmp_path / "store", bands=BANDS, shares=(1, 0, 0))
    image = np.where(hole, np.nan if dtype == "float32" else 0, image)
    window = Window(0, 0, 64, 64)
    for source in (in_place, store):
        np.testing.assert_array_equal(source.read_image(window), image)
        np.testing.assert_array_equal(source.read(window)[0], image)
        np.testing.assert_array_equal(np.isnan(source.read_holed(window)[0]).all(axis=0), hole)
        np.testing.assert_array_equal(source.read_labels(window) == NO_CLASS, hole | bare)


def test_near_infrared_is_no_alpha_and_nan_is_no_data(tmp_path: Path) -> None:
    image = random_image(0, 30, 40)
    image[3] = 0  # as transparency, nothing would be left
    path = write_raster(tmp_path / "image.tif", image, north_up())
    assert rasterio.open(path).colorinterp[3] == ColorInterp.alpha
    labels = write_raster(tmp_path / "labels.tif", random_codes(0, 30, 40), north_up())
    whole = Window(0, 0, 30, 40)
    assert (open_in_place(path, labels, bands=BANDS, split=TRAIN_ONLY)[0].read_labels(whole) < NO_CLASS).all()
    floats = random_image(0, 30, 40, 2, "float32")
    floats[1, 3:5, 6:9] = np.nan
    path = write_raster(tmp_path / "floats.tif", floats, north_up())
    holes = open_in_place(path, labels, bands=("vv", "vh"), split=TRAIN_ONLY)[0].read_labels(whole) == NO_CLASS
    np.testing.assert_array_equal(holes, np.isnan(floats[1]))


def test_an_unknown_code_is_refused_when_it_is_read(tmp_path: Path) -> None:
    codes = random_codes(0, 30, 40)
    codes[20, 30] = 99
    image = write_raster(tmp_path / "image.tif", random_image(0, 30, 40), north_up())
    labels = write_raster(tmp_path / "labels.tif", codes, north_up())
    source = open_in_place(image, labels, bands=BANDS, split=TRAIN_ONLY)[0]
    source.read_labels(Window(0, 0, 20, 40))
    with pytest.raises(LegendError, match=r"labels.tif: codes .*99 \(1 px\)"):
        source.read_labels(Window(10, 20, 15, 15))


@pytest.mark.parametrize(
    ("transform", "shape", "message"),
    [
        (north_up(0.5, 0), (30, 40), "fraction"),
        (north_up(1, 0), (30, 40), "same pixels"),
        (north_up(), (30, 39), "same pixels"),
        (north_up(size=0.601), (30, 40), "pixel size"),
    ],
)
def test_labels_on_other_pixels_are_refused(
    tmp_path: Path, transform: Affine, shape: tuple[int, int], message: str
) -> None:
    image = write_raster(tmp_path / "image.tif", random_image(0, 30, 40), north_up())
    labels = write_raster(tmp_path / "labels.tif", random_codes(0, *shape), transform)
    with pytest.raises(GridError, match=message) as caught:
        open_in_place(image, labels, bands=BANDS, split=TRAIN_ONLY)
    assert "labels.tif" in str(caught.value)


def test_one_source_a_crs(tmp_path: Path) -> None:
    for number, crs in enumerate(("EPSG:26917", "EPSG:26918", "EPSG:26917")):
        write_raster(tmp_path / f"images/{number}.tif", random_image(number, 30, 40), north_up(100 * number), crs=crs)
        write_raster(tmp_path / f"labels/{number}.tif", random_codes(number, 30, 40), north_up(100 * number), crs=crs)
    sources = open_in_place(tmp_path / "images", tmp_path / "labels", bands=BANDS, split=TRAIN_ONLY)
    assert [source.geobox.crs.epsg for source in sources] == [26917, 26918]
    assert [source.geobox.shape for source in sources] == [(30, 240), (30, 40)]
    np.testing.assert_array_equal(
        sources[0].read_image(Window(5, 210, 20, 20)), random_image(2, 30, 40)[:, 5:25, 10:30]
    )


def test_scenes_that_touch_across_two_crss_share_a_fold(tmp_path: Path) -> None:
    """The same ground, once in each zone, and six places elsewhere."""
    places = {}
    for crs in (UTM, UTM_18N):
        (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, [-78.0], [39.0])
        places[crs] = Affine(0.6, 0, round(x), 0, -0.6, round(y))
    scenes = [(UTM_18N, 0.0), (UTM, 0.0), *((UTM, -6000.0 * number) for number in range(1, 7))]
    for number, (crs, shift) in enumerate(scenes):
        place = Affine.translation(shift, 0) @ places[crs]
        write_raster(tmp_path / f"images/{number}.tif", random_image(number, 48, 48), place, crs=crs)
        write_raster(tmp_path / f"labels/{number}.tif", random_codes(number, 48, 48), place, crs=crs)
    for seed in range(4):
        rule = SplitRule(shares=(0.5, 0.2, 0.3), seed=seed)
        sources = open_in_place(tmp_path / "images", tmp_path / "labels", bands=BANDS, split=rule)
        folds = {s.name: source.split.fold_of(s.window) for source in sources for s in source.scenes}
        assert folds["0.tif"] == folds["1.tif"]
        assert set(folds.values()) == {"train", "val", "test"}


def test_mixed_bands_and_types_are_refused(tmp_path: Path) -> None:
    for number, (bands, dtype) in enumerate([(4, "uint8"), (4, "uint16"), (3, "uint8")]):
        place = north_up(100 * number)
        write_raster(tmp_path / f"images/{number}.tif", random_image(0, 30, 40, bands, dtype), place)
        write_raster(tmp_path / f"labels/{number}.tif", random_codes(0, 30, 40), place)
    for other in ("1", "2"):
        images, labels = ([tmp_path / kind / f"{n}.tif" for n in ("0", other)] for kind in ("images", "labels"))
        with pytest.raises(DataError, match=rf"{other}\.tif: [34] bands of .*; ingest them into separate stores"):
            open_in_place(images, labels, bands=BANDS)


def test_names_of_no_bands_are_refused(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", random_image(0, 30, 40), north_up())
    labels = write_raster(tmp_path / "labels.tif", random_codes(0, 30, 40), north_up())
    path = describe(tmp_path, images="image.tif", labels="labels.tif", bands=[], split={"shares": [1, 0, 0]})
    with pytest.raises(DataError, match=r"image\.tif: has 4 bands .*, but the names given are none"):
        open_sources(path)
    with pytest.raises(DataError, match="the names given are none"):
        ingest([image], [labels], tmp_path / "store", bands=[])


def describe(folder: Path, **values: Any) -> Path:
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_yaml_file_describes_data(scenes: tuple[Path, np.ndarray, np.ndarray], source: PatchSource) -> None:
    folder = scenes[0]
    window = Window(30, 40, 30, 40)
    for split in (
        {"shares": [1, 0, 0]},
        {"blocks": 20, "seed": 3, "buffer": "2px"},
        {"blocks": 20, "seed": 3, "buffer": 1.0},
    ):
        path = describe(folder, images="images", labels="labels/*.tif", bands=list(BANDS), split=split)
        found = open_sources(path)
        assert len(found) == 1
        assert found[0].split.buffer == (2 if "buffer" in split else 0)  # a metre is 2 pixels of 0.6
        np.testing.assert_array_equal(found[0].read_labels(window), source.read_labels(window))
    assert all(found[0].scenes_in(fold) for fold in ("train", "val", "test"))
    drawn = SpatialSplit.by_scenes({"train": [PLACES["c"]], "test": [PLACES["a"]]})
    drawn.save(folder / "split.geojson", source.geobox)
    chosen = open_sources(
        describe(
            folder, images="images", labels="labels", bands=list(BANDS), split="split.geojson", legend="legend.yaml"
        )
        if (folder / "legend.yaml").write_text(yaml.safe_dump(CHESAPEAKE.model_dump(mode="json")))
        else ""
    )
    assert [scene.name for scene in chosen[0].scenes_in("train")] == ["c.tif"]
    assert open_sources(source) == open_sources([source]) == [source]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": "images"}, "images and labels are needed"),
        ({"labels": "labels"}, "images and labels are needed"),
        ({"images": "images", "labels": "labels", "fold": "train"}, "fold: "),
        ({"zarr": "a.zarr", "images": ["a", "b"]}, "data.yaml: with zarr, images and labels are names of variables"),
        ({"zarr": "a.zarr", "labels": ["a", "b"]}, "data.yaml: with zarr, images and labels are names of variables"),
        ({"images": "images", "labels": "labels", "split": {"shares": [1, 2]}}, "split"),
        (
            {"images": "images", "labels": "labels", "split": {"buffer": "far"}},
            r"data\.yaml: split.*buffer: 'far' is neither",
        ),
        ({"images": "images", "labels": "labels", "split": {"seed": -1}}, "seed: .* greater than or equal to 0"),
        ([1, 2], "data.yaml: is a list or plain text, and not a description of data in place"),
        ("# to do", "data.yaml: is empty, and not a description of data in place"),
        ("[" * 100_000, "data.yaml: cannot be read as YAML: it is nested too deep"),
        ("images: 2026-13-45", "data.yaml: cannot be read as YAML: month must be"),
        ("\0", "data.yaml: cannot be read as YAML"),
    ],
)
def test_a_wrong_description_is_one_line(tmp_path: Path, values: Any, message: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=message) as caught:
        open_sources(path)
    assert "\n" not in str(caught.value)


TWO_KINDS = {"name": "kinds", "classes": [{"code": 7, "name": "grass"}, {"code": 9, "name": "roof"}]}
OTHER_CODES = {"name": "others", "classes": [{"code": 1, "name": "Roof"}, {"code": 2, "name": "Grass"}]}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_all_that_a_description_of_files_says_counts(tmp_path: Path) -> None:
    """Lists of names, legends written out, codes of another legend, images without a place, bands and a split."""
    for seed, name in enumerate("ab"):
        write_raster(tmp_path / "images" / f"{name}.tif", random_image(seed, 30, 40), crs=None)
        write_raster(tmp_path / "labels" / f"{name}.tif", random_codes(seed, 30, 40) % 2 + 1, crs=None)
    paths = {kind: [f"{kind}/a.tif", f"{kind}/b.tif"] for kind in ("images", "labels")}
    options = {"bands": list(BANDS), "apart": True, "split": {"shares": [0, 0, 1]}}
    (source,) = open_sources(describe(tmp_path, **paths, legend=TWO_KINDS, label_legend=OTHER_CODES, **options))
    assert (source.legend.name, source.legend.codes, source.band_names) == ("kinds", (7, 9), BANDS)
    assert len(source.scenes) == len(source.scenes_in("test")) == 2
    for seed, scene in enumerate(source.scenes):
        np.testing.assert_array_equal(source.read_image(scene.window), random_image(seed, 30, 40))
        np.testing.assert_array_equal(source.read_labels(scene.window), 1 - random_codes(seed, 30, 40) % 2)


def test_all_that_a_description_of_zarr_says_counts(tmp_path: Path) -> None:
    """The variables have the names that are looked for if none are given."""
    image, codes = random_image(0, 50, 60), random_codes(0, 50, 60) % 2 + 1
    foreign(tmp_path / "cube.zarr", image, codes, names=("image", "labels"))
    options = {"bands": ["nir=4", "red=1"], "split": {"shares": [0, 0, 1]}}
    path = describe(tmp_path, zarr="cube.zarr", legend=TWO_KINDS, label_legend=OTHER_CODES, **options)
    (source,) = open_sources(path)
    assert (source.legend.name, source.band_names) == ("kinds", ("nir", "red"))
    assert len(source.scenes_in("test")) == 1
    np.testing.assert_array_equal(source.read_image(source.scenes[0].window), image[[3, 0]])
    np.testing.assert_array_equal(source.read_labels(source.scenes[0].window), 2 - codes)


def test_labels_of_zarr_on_other_pixels_are_refused(tmp_path: Path) -> None:
    """Of another size, or at another place."""
    image, codes = random_image(0, 50, 60), random_codes(0, 50, 60)
    foreign(tmp_path / "cube.zarr", image, codes)
    dataset = xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all")
    for name, labels in (
        ("smaller", dataset["lc"].isel(x=slice(0, 59))),
        ("beside", dataset["lc"].assign_coords(x=dataset["x"] + 0.6)),
    ):
        dataset[["naip"]].to_zarr(tmp_path / f"{name}.zarr")
        labels.rename(x="column", y="row").to_dataset().rename(column="lon", row="lat").to_zarr(
            tmp_path / f"{name}.zarr", mode="a"
        )
        with pytest.raises(DataError, match=rf"{name}\.zarr: 'lc' does not cover the same pixels as 'naip'"):
            open_zarr_in_place(tmp_path / f"{name}.zarr", "naip", "lc")


def foreign(
    path: Path, image: np.ndarray, codes: np.ndarray, zarr_format: Any = 3, names: tuple[str, str] = ("naip", "lc")
) -> Path:
    """A Zarr store as rioxarray users write it."""
    height, width = codes.shape
    affine = north_up(7, 9)
    axes = {
        "x": affine.c + affine.a * (np.arange(width) + 0.5),
        "y": affine.f + affine.e * (np.arange(height) + 0.5),
    }
    dataset = xr.Dataset(
        {names[0]: (("band", "y", "x"), image), names[1]: (("y", "x"), codes)},
        {**axes, "band": list(BANDS[: len(image)])},
    ).rio.write_crs("EPSG:26917")
    chunks = {names[0]: {"chunks": (len(image), 16, 16)}, names[1]: {"chunks": (32, 32)}}
    for name in dataset.data_vars:
        chunks[str(name)]["grid_mapping"] = "spatial_ref"  # type: ignore[assignment]
        del dataset[name].encoding["grid_mapping"]
    dataset.to_zarr(path, zarr_format=zarr_format, encoding=chunks)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_somebody_elses_zarr(tmp_path: Path, zarr_format: int) -> None:
    image, codes = random_image(0, 50, 60), random_codes(0, 50, 60)
    codes[10:20, 30:40] = 15
    foreign(tmp_path / "cube.zarr", image, codes, zarr_format)
    path = describe(tmp_path, zarr="cube.zarr", images="naip", labels="lc", split={"shares": [1, 0, 0]})
    source = open_sources(path)[0]
    assert source.band_names == BANDS
    assert source.geobox.crs.epsg == 26917
    assert source.geobox.affine.almost_equals(north_up(7, 9), 1e-6)
    window = Window(5, 20, 30, 35)
    np.testing.assert_array_equal(source.read_image(window), image[(slice(None), *window.slices)])
    np.testing.assert_array_equal(source.read_labels(window), CHESAPEAKE.encode(codes[window.slices]))
    for bands in (["nir", "red"], ["nir=4", "red=1"]):
        some = open_zarr_in_place(tmp_path / "cube.zarr", "naip", "lc", bands=bands)
        assert some.band_names == ("nir", "red")
        np.testing.assert_array_equal(some.read_image(window), image[[3, 0]][(slice(None), *window.slices)])
    with pytest.raises(DataError, match=r"no variable 'image'.*naip"):
        open_zarr_in_place(tmp_path / "cube.zarr", labels="lc")


# --- behind a URL ---


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    for name in ("GDAL_HTTP_PROXY", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    with RangeServer(tmp_path).running() as running:
        yield running


def write_cog(path: Path, values: np.ndarray) -> Path:
    plain = write_raster(path.with_suffix(".plain.tif"), values, north_up())
    options = {"COMPRESS": "DEFLATE", "BLOCKSIZE": 128, "OVERVIEWS": "NONE"}
    rasterio.shutil.copy(plain, path, driver="COG", **options)
    plain.unlink()
    return path


def test_remote_files_are_read_by_ranges_only(tmp_path: Path, server: RangeServer) -> None:
    image, codes = random_image(0, 1024, 1024), random_codes(0, 1024, 1024)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    size = write_cog(tmp_path / "images/a.tif", image).stat().st_size
    write_cog(tmp_path / "labels/a.tif", codes)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        urls = [f"{server.url}/{kind}/a.tif" for kind in ("images", "labels")]
        source = open_in_place(*urls, bands=BANDS, split=TRAIN_ONLY)[0]
        window = Window(500, 600, 64, 64)
        np.testing.assert_array_equal(source.read_image(window), image[(slice(None), *window.slices)])
        np.testing.assert_array_equal(source.read_labels(window), CHESAPEAKE.encode(codes[window.slices]))
    gets = [request for request in server.requests if request[0] == "GET" and request[3]]
    assert gets
    assert all(asked is not None for _, _, asked, _ in gets)
    assert sum(sent for _, path, _, sent in gets if path == "/images/a.tif") < size / 4
    assert source.scenes[0].name == "a.tif"


def remote_store(folder: Path) -> np.ndarray:
    image, codes = random_image(0, 512, 512), random_codes(0, 512, 512)
    write_raster(folder / "i.tif", image, north_up())
    place = rasterio.open(folder / "i.tif")
    whole = Window(0, 0, 512, 512)
    from odc.geo.geobox import GeoBox

    store = blank_store(
        folder / "store",
        GeoBox((512, 512), place.transform, "EPSG:26917"),
        legend=CHESAPEAKE,
        band_names=BANDS,
        dtype=np.dtype("uint8"),
        scenes=[Scene("a", whole, tuple(np.bincount(codes.ravel(), minlength=7)[1:].tolist()), "", "")],
        split=SpatialSplit.by_scenes({"train": [whole]}),
        chunk_size=64,
        shard_size=512,
    )
    store.write(whole, image, codes)
    return image


def test_a_remote_store_is_read_by_ranges_of_its_shards(tmp_path: Path, server: RangeServer) -> None:
    pytest.importorskip("aiohttp")
    image = remote_store(tmp_path)
    source = open_sources(f"{server.url}/store")[0]
    window = Window(100, 200, 50, 40)
    np.testing.assert_array_equal(source.read_image(window), image[(slice(None), *window.slices)])
    shards = [request for request in server.requests if "/store/image/c/" in request[1] and request[3]]
    assert shards
    assert all(asked is not None for _, _, asked, _ in shards)
    assert sum(sent for *_, sent in shards) < (tmp_path / "store/image/c/0/0/0").stat().st_size / 4


def test_tiles_and_splits_of_a_remote_store(tmp_path: Path, server: RangeServer, run: Callable[..., Any]) -> None:
    pytest.importorskip("aiohttp")
    image = remote_store(tmp_path)
    url = f"{server.url}/store"
    code, out, err = run("tiles", "--data", url, "--fold", "train", "--size", 256, "--export", tmp_path / "tiles")
    assert code == 0, err
    with rasterio.open(tmp_path / "tiles" / "image" / "a_00128_00256.tif") as tile:
        np.testing.assert_array_equal(tile.read(), image[:, 128:384, 256:512])
    options = ("--data", url, "--block-size", "64", "--seed", "1", "--out", tmp_path / "split.parquet")
    code, out, err = run("split", *options)
    assert (code, out) == (1, "")
    assert err.endswith(f"{url}: is behind a URL and cannot keep a split; give --out and --file-only\n")
    code, out, err = run("split", *options, "--file-only", "--json")
    assert code == 0, err
    chosen = SpatialSplit.load(tmp_path / "split.parquet", Store(tmp_path / "store").geobox)
    pixels = {fold: int(chosen.mask(Window(0, 0, 512, 512), fold).sum()) for fold in ("train", "val", "test")}
    said = json.loads(out)["stores"][0]["folds"]
    assert {fold: said[fold]["pixels"] for fold in pixels} == pixels
    code, out, err = run("split", "--check", "--data", url)
    assert code == 1
    assert "leakage is between two folds" in err


def test_what_is_not_there_or_not_installed_is_one_line(
    tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RasterError, match="not a geosynth store"):
        open_sources(f"{server.url}/nothing")
    with pytest.raises(RasterError, match=r"nothing\.tif") as caught:
        open_in_place(f"{server.url}/nothing.tif", f"{server.url}/labels.tif")
    assert "\n" not in str(caught.value)

    def refuse(*_: Any, **__: Any) -> Any:
        raise ImportError('HTTPFileSystem requires "requests" and "aiohttp" to be installed')

    monkeypatch.setattr(zarr, "open_group", refuse)
    for opened in (open_sources, open_zarr_in_place):
        with pytest.raises(RasterError, match=r"aiohttp.*geosynth-toolkit\[remote\]"):
            opened(f"{server.url}/store")
