"""TileMosaic and open_labels: tiles against the raster they were cut from, rasterio's merge, and what is refused."""

from __future__ import annotations

import itertools
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.merge import merge

from geosynth.errors import DataError, GridError, RasterError
from geosynth.grid import TilePlan, Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.label_files import label_files, open_labels
from geosynth.raster.labels import LabelRaster
from geosynth.raster.mosaic import TileMosaic, with_neighbours
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stores.ingest import ingest
from rasters import UTM, UTM_18N, ArrayRaster, north_up, random_codes, random_image, write_raster
from strategies import few

SIDE = 96


def cut(folder: Path, codes: np.ndarray, size: int, leave_out: tuple[int, ...] = ()) -> list[Path]:
    """Tiles of a raster, as files named by their place."""
    height, width = codes.shape
    return [
        write_raster(
            folder / f"{window.row:04d}_{window.column:04d}.tif",
            codes[window.slices],
            north_up(window.column, window.row),
        )
        for index, window in enumerate(TilePlan(height, width, size))
        if index not in leave_out
    ]


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return random_codes(0, SIDE, SIDE + 20)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray) -> TileMosaic:
    """The raster in tiles of 40 px, one of them missing."""
    files = cut(tmp_path_factory.mktemp("tiles"), codes, 40, leave_out=(4,))
    return TileMosaic(list(map(open_raster, files)), "tiles")


GAP = Window(40, 40, 40, 40)


@few
@given(st.data())
def test_any_window_is_that_of_the_uncut_raster(mosaic: TileMosaic, codes: np.ndarray, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, SIDE - 1)), data.draw(st.integers(0, SIDE + 19))
    window = Window(row, column, data.draw(st.integers(1, SIDE - row)), data.draw(st.integers(1, SIDE + 20 - column)))
    there = np.ones(codes.shape, dtype=bool)
    there[GAP.slices] = False
    values, valid = mosaic.read(window)
    np.testing.assert_array_equal(valid, there[window.slices])
    np.testing.assert_array_equal(values[0], np.where(there, codes, 0)[window.slices])


def test_the_grid_spans_the_tiles(mosaic: TileMosaic, codes: np.ndarray) -> None:
    assert mosaic.geobox.shape == codes.shape
    assert mosaic.geobox.affine.almost_equals(north_up(), 1e-6)
    with pytest.raises(GridError, match="reach beyond"):
        mosaic.read(Window(0, 0, SIDE + 1, 3))


def test_a_mosaic_travels_to_workers(mosaic: TileMosaic) -> None:
    copy = pickle.loads(pickle.dumps(mosaic))
    np.testing.assert_array_equal(copy.read(copy.window)[0], mosaic.read(mosaic.window)[0])


def test_later_tiles_win_but_their_nodata_does_not(tmp_path: Path) -> None:
    """As rasterio.merge with the files in reverse order, whose first one wins."""
    rng = np.random.default_rng(0)
    paths = []
    for number, (column, row) in enumerate([(0, 0), (13, 5), (7, 19), (30, 30)]):
        codes = rng.integers(1, 7, (24, 24)).astype(np.uint8)
        codes[rng.random(codes.shape) < 0.3] = 15
        paths.append(write_raster(tmp_path / f"{number}.tif", codes, north_up(column, row), nodata=15))
    mosaic = TileMosaic(list(map(open_raster, paths)), "tiles")
    expected = merge(paths[::-1], nodata=15)[0][0]
    assert mosaic.nodata == 15
    values, valid = mosaic.read(mosaic.window)
    np.testing.assert_array_equal(values[0], expected)
    np.testing.assert_array_equal(valid, expected != 15)


def test_disagreeing_overlaps_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codes = random_codes(1, 40, 70)
    left, right = codes[:, :40], codes[:, 30:].copy()
    write_raster(tmp_path / "a.tif", left, north_up())
    write_raster(tmp_path / "b.tif", right, north_up(30))
    open_labels(tmp_path)
    assert not caplog.text
    right[:, :4] = 9
    write_raster(tmp_path / "b.tif", right, north_up(30))
    mosaic = open_labels(str(tmp_path / "*.tif"))
    assert "differ in 160 px" in caplog.text
    assert (mosaic.read(Window(0, 30, 40, 4))[0] == 9).all()


@st.composite
def tiles(draw: st.DrawFn, crs: str = UTM) -> list[ArrayRaster]:
    """Tiles of 8 x 6 px of classes 1 and 2, with holes, that may overlap; later ones are later."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    places = draw(st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=2, max_size=4))
    return [
        ArrayRaster(
            rng.integers(0, 3, (1, 8, 6)).astype(np.uint8), GeoBox((8, 6), north_up(column, row), crs), nodata=0
        )
        for row, column in places
    ]


def on_canvas(some: list[ArrayRaster]) -> np.ndarray:
    """(tiles, 20, 20): the codes of each at its place, 0 elsewhere."""
    canvas = np.zeros((len(some), 20, 20), np.uint8)
    for own, tile in zip(canvas, some, strict=True):
        column, row = np.round(~north_up() @ (tile.geobox.affine.c, tile.geobox.affine.f)).astype(int)
        own[row : row + 8, column : column + 6] = tile.read(tile.window)[0][0]
    return canvas


@few
@given(tiles())
def test_each_pair_of_tiles_may_disagree(some: list[ArrayRaster]) -> None:
    pairs = itertools.combinations(on_canvas(some), 2)
    differing = sum(int(((one != other) & (one > 0) & (other > 0)).sum()) for one, other in pairs)
    assert TileMosaic(some, "tiles").count_disagreements() == differing


@few
@given(tiles(), tiles(UTM_18N))
def test_neighbours_lie_on_one_grid(here: list[ArrayRaster], there: list[ArrayRaster]) -> None:
    image = ArrayRaster(np.ones((2, 8, 6), np.uint8), here[0].geobox)
    nowhere = [ArrayRaster(np.ones((1, 8, 6), np.uint8), GeoBox((8, 6), Affine.identity(), None)) for _ in range(2)]
    given_ones = [nowhere[0], here[0], there[0], image, *here[1:], *there[1:], nowhere[1]]
    found = dict(zip(map(id, given_ones), with_neighbours(given_ones), strict=True))
    assert all(found[id(alone)] is alone for alone in (image, *nowhere))
    for some in (here, there):
        of_all = np.zeros((20, 20), np.uint8)
        for codes in (canvas := on_canvas(some)):
            of_all = np.where(codes > 0, codes, of_all)
        for tile, own in zip(some, canvas, strict=True):
            codes, valid = found[id(tile)].read(Window(1, 2, 7, 4))
            column, row = np.round(~north_up() @ (tile.geobox.affine.c, tile.geobox.affine.f)).astype(int)
            place = slice(row + 1, row + 8), slice(column + 2, column + 6)
            np.testing.assert_array_equal(valid, own[place] > 0)
            np.testing.assert_array_equal(codes[0], of_all[place])


def test_lists_of_tiles_are_laid_down_by_name(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{code}.tif", np.full((4, 4), code, np.uint8), north_up()) for code in (2, 1)]
    mosaic = open_labels(paths)
    assert (mosaic.read(mosaic.window)[0] == 2).all()


def test_tiles_of_several_bands_and_tiles_without_a_place_are_refused(tmp_path: Path) -> None:
    codes = random_codes(0, 8, 8)
    one = write_raster(tmp_path / "a.tif", codes, north_up())
    two = write_raster(tmp_path / "b.tif", np.stack([codes, codes]), north_up(8))
    with pytest.raises(DataError, match=r"b\.tif: has 2 bands; label tiles have one band"):
        open_labels([one, two])
    nowhere = [write_raster(tmp_path / f"{name}.tif", codes, crs=None) for name in "cd"]
    with pytest.raises(GridError, match=r"c\.tif: has no georeference, so its place among the other tiles"):
        open_labels(nowhere)


@pytest.mark.parametrize("other", ["float32", "int64", "uint64"])
def test_tiles_of_whole_numbers_of_any_two_types(other: str) -> None:
    some = [
        ArrayRaster(np.array([[[code]]], dtype), GeoBox((1, 1), north_up(column), UTM))
        for column, (code, dtype) in enumerate([(3, np.uint16), (5, np.dtype(other))])
    ]
    mosaic = TileMosaic(some, "tiles")
    np.testing.assert_array_equal(mosaic.read(mosaic.window)[0], [[[3, 5]]])


def test_tiles_of_several_dtypes_and_nodata_values(tmp_path: Path) -> None:
    first = np.array([[1, 2], [255, 4]], dtype=np.uint8)
    second = np.array([[-9999, 6], [1, 2]], dtype=np.int16)
    paths = [
        write_raster(tmp_path / "a.tif", first, north_up(), nodata=255),
        write_raster(tmp_path / "b.tif", second, north_up(2), nodata=-9999),
    ]
    labels = LabelRaster(TileMosaic(list(map(open_raster, paths)), "tiles"), CHESAPEAKE)
    codes, valid = labels.read_codes(labels.raster.window)
    np.testing.assert_array_equal(valid, [[True, True, False, True], [False, True, True, True]])
    np.testing.assert_array_equal(codes[valid], [1, 2, 6, 4, 1, 2])


@pytest.mark.parametrize(
    ("transform", "profile", "complaint"),
    [
        (north_up(8.5), {}, "shifted by a fraction"),
        (north_up(8, size=1.2), {}, "pixel size"),
        (north_up(8), {"crs": "EPSG:26918"}, "CRS EPSG:26918 differs"),
        (None, {"crs": None}, "CRS none|no georeference"),
    ],
    ids=["shifted", "size", "crs", "nowhere"],
)
def test_tiles_on_another_grid_are_refused_by_name(
    tmp_path: Path, transform: object, profile: dict[str, object], complaint: str
) -> None:
    codes = random_codes(0, 8, 8)
    write_raster(tmp_path / "a.tif", codes, north_up())
    write_raster(tmp_path / "odd.tif", codes, transform, **profile)  # type: ignore[arg-type]
    with pytest.raises(GridError, match=f"odd.tif: .*({complaint})"):
        open_labels(tmp_path)


def test_many_tiles_do_not_exhaust_file_handles(tmp_path: Path) -> None:
    codes = random_codes(2, 60, 60)
    files = cut(tmp_path, codes, 3)
    assert len(files) == 400
    open_now = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 60
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 60, hard))
    try:
        mosaic = open_labels(tmp_path)
        np.testing.assert_array_equal(mosaic.read(mosaic.window)[0][0], codes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_names_stand_for(tmp_path: Path) -> None:
    codes = random_codes(0, 8, 8)
    one = write_raster(tmp_path / "in" / "one.tif", codes, north_up())
    (tmp_path / "in" / "note.txt").write_text("no raster")
    assert label_files(one) == [str(one)]
    assert label_files(tmp_path / "in") == [str(one)]
    assert label_files(str(tmp_path / "*" / "*.tif")) == [str(one)]
    assert open_labels(tmp_path / "in").path == str(one)
    with pytest.raises(RasterError, match="is a folder without rasters"):
        open_labels(tmp_path)
    with pytest.raises(RasterError, match="no file has such a name"):
        open_labels(str(tmp_path / "*.tif"))
    with pytest.raises(RasterError, match=r"absent\.tif: no such file"):
        open_labels(tmp_path / "absent.tif")


def stored(codes: np.ndarray, **variables: xr.DataArray) -> xr.Dataset:
    transform = north_up()
    x = transform.c + transform.a * (np.arange(codes.shape[1]) + 0.5)
    y = transform.f + transform.e * (np.arange(codes.shape[0]) + 0.5)
    dataset = xr.Dataset({"cover": (("y", "x"), codes), **variables}, coords={"y": y, "x": x})
    return dataset.rio.write_crs("EPSG:26917")


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_of_xarray_reads_as_the_geotiff(tmp_path: Path, version: int, codes: np.ndarray) -> None:
    codes = codes.copy()
    codes[3:9] = 15
    dataset = stored(codes)
    dataset["cover"].attrs["nodata"] = 15
    dataset.to_zarr(tmp_path / "cover.zarr", zarr_format=version, consolidated=False)
    store = LabelRaster(tmp_path / "cover.zarr", CHESAPEAKE)
    file = LabelRaster(write_raster(tmp_path / "cover.tif", codes, north_up(), nodata=15), CHESAPEAKE)
    assert store.geobox.crs == file.geobox.crs
    assert store.geobox.affine.almost_equals(file.geobox.affine, 1e-6)
    for window in (Window(0, 0, *codes.shape), Window(-5, 30, 60, 20)):
        for own, expected in zip(store.read(window), file.read(window), strict=True):
            np.testing.assert_array_equal(own, expected)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read(Window(0, 0, 9, 9))[0], store.read(Window(0, 0, 9, 9))[0])


def test_which_variable_holds_the_labels(tmp_path: Path, codes: np.ndarray) -> None:
    other = xr.DataArray(np.zeros(codes.shape, np.int16), dims=("y", "x"))
    stored(codes, other=other).to_zarr(tmp_path / "two.zarr", consolidated=False)
    with pytest.raises(DataError, match=r"two\.zarr: which variable .* cover .* other"):
        open_labels(tmp_path / "two.zarr")
    named = stored(codes, other=other).rename(cover="labels")
    named.to_zarr(tmp_path / "named.zarr", consolidated=False)
    raster = open_labels(tmp_path / "named.zarr")
    np.testing.assert_array_equal(raster.read(raster.window)[0][0], codes)


def test_the_only_variable_holds_the_labels(tmp_path: Path, codes: np.ndarray) -> None:
    """Or is refused for what it is: another name would not help it."""
    stored(codes).astype(np.float32).to_zarr(tmp_path / "float.zarr", consolidated=False)
    raster = open_labels(tmp_path / "float.zarr")
    np.testing.assert_array_equal(raster.read(raster.window)[0][0], codes)
    stored(codes).expand_dims(time=2).to_zarr(tmp_path / "years.zarr", consolidated=False)
    with pytest.raises(DataError, match="has 2 bands; a label raster has one"):
        LabelRaster(tmp_path / "years.zarr", CHESAPEAKE)
    (stored(codes) == 2).to_zarr(tmp_path / "trees.zarr", consolidated=False)
    with pytest.raises(DataError, match=r"'cover' is .* of bool; a raster is numbers"):
        open_labels(tmp_path / "trees.zarr")


def test_the_labels_of_our_own_store(tmp_path: Path, codes: np.ndarray) -> None:
    """Scenes apart from each other on a rotated grid, which xarray alone could not place."""
    rotated = Affine.translation(300000, 4300000) @ Affine.rotation(30) @ Affine.scale(1, -1)
    for name, column in (("a", 0), ("b", 300)):
        transform = rotated @ Affine.translation(column, 0)
        write_raster(tmp_path / "images" / f"{name}.tif", random_image(0, *codes.shape), transform)
        write_raster(tmp_path / "labels" / f"{name}.tif", codes, transform)
    ingest(
        tmp_path / "images",
        tmp_path / "labels",
        tmp_path / "store.zarr",
        bands=["red", "green", "blue", "nir"],
        shares=(1, 0, 0),
    )
    store, tiles = LabelRaster(tmp_path / "store.zarr", CHESAPEAKE), LabelRaster(tmp_path / "labels", CHESAPEAKE)
    assert store.geobox.affine.almost_equals(tiles.geobox.affine, 1e-6)
    height, width = tiles.geobox.shape
    for own, expected in zip(
        store.read(Window(0, 0, height, width)), tiles.read(Window(0, 0, height, width)), strict=True
    ):
        np.testing.assert_array_equal(own, expected)
    assert store.raster.class_table[1] == ("water", CHESAPEAKE.classes[0].colour)
