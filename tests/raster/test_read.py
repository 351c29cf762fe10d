"""RasterFile: windows, masks and errors, against rasterio itself."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

import geosynth
from geosynth.errors import GeosynthError, GridError, RasterError
from geosynth.grid import TilePlan, Window
from geosynth.raster import raster_file
from geosynth.raster.bands import common_bands, open_chosen
from geosynth.raster.raster_file import RasterFile, open_raster
from geosynth.raster.read import has_data
from rasters import UTM, north_up, random_image, write_raster
from strategies import few

HEIGHT, WIDTH = 70, 90

PROFILES: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate"},
    "bands apart": {"interleave": "band", "compress": "lzw", "predictor": 2},
    "nodata": {"nodata": 0, "photometric": "minisblack"},
    "nodata beside a band marked alpha": {"nodata": 0},
    "south-up": {"transform": Affine(0.5, 0, 100, 0, 0.5, 200)},
    "rotated": {"transform": Affine.translation(500, 900) @ Affine.rotation(30) @ Affine.scale(2, -2)},
    "no crs": {"crs": None},
}


def holes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rasters")
    image = random_image(1, HEIGHT, WIDTH)
    image[:, holes(2)] = 0
    paths = {
        name: write_raster(folder / f"{name}.tif", image, **{"transform": north_up(), **profile})
        for name, profile in PROFILES.items()
    }
    for dtype in ("int8", "int16", "uint16", "int32", "uint32", "float32", "float64", "int64"):
        values = np.random.default_rng(3).integers(0, 100, (2, HEIGHT, WIDTH)).astype(dtype)
        paths[dtype] = write_raster(folder / f"{dtype}.tif", values, north_up(), nodata=7)
    values = random_image(4, HEIGHT, WIDTH, 1, "float32")
    values[0, holes(5)] = np.nan
    paths["nan"] = write_raster(folder / "nan.tif", values, north_up(), nodata=np.nan)
    for name, internal in (("internal mask", True), ("sidecar mask", False)):
        paths[name] = write_raster(folder / f"{name}.tif", image[:3], north_up())
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(paths[name], "r+") as dataset:
            dataset.write_mask(~holes(6))
    image[3] = np.where(holes(7), 0, 255)
    paths["alpha"] = write_raster(folder / "alpha.tif", image, north_up(), photometric="rgb", alpha="yes")
    return paths


ALL = [*PROFILES, "int8", "int16", "uint16", "int32", "uint32", "float32", "float64", "int64", "nan"]
ALL += ["internal mask", "sidecar mask", "alpha"]


@st.composite
def inside(draw: st.DrawFn) -> Window:
    row, column = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    return Window(row, column, draw(st.integers(1, HEIGHT - row)), draw(st.integers(1, WIDTH - column)))


@pytest.mark.parametrize("name", ALL)
def test_windows_and_masks_are_those_of_rasterio(files: dict[str, Path], name: str) -> None:
    raster = open_raster(files[name])
    with rasterio.open(files[name]) as dataset:
        values, mask = dataset.read(), dataset.dataset_mask() != 0
        alpha = [number for number, band in enumerate(dataset.colorinterp, 1) if band == ColorInterp.alpha]
        by_alpha = alpha and raster.mask_kind == "alpha"

        @few
        @given(inside(), st.permutations(range(1, dataset.count + 1)))
        def check(window: Window, bands: list[int]) -> None:
            place = (slice(None), *window.slices)
            found, valid = raster.read(window)
            np.testing.assert_array_equal(found, values[place])
            np.testing.assert_array_equal(valid, True if by_alpha else mask[window.slices])
            assert valid.all() or not raster.is_full
            found, valid = open_raster(files[name], bands).read(window)
            np.testing.assert_array_equal(found, values[[band - 1 for band in bands]][place])
            np.testing.assert_array_equal(valid, True if by_alpha else mask[window.slices])
            if by_alpha:
                others = open_raster(files[name], [band for band in bands if band not in alpha])
                np.testing.assert_array_equal(others.read(window)[1], mask[window.slices])
                assert not others.is_full

        check()
        assert raster.geobox.affine == dataset.transform
        assert raster.geobox.shape == dataset.shape
        assert (raster.geobox.crs is None) == (dataset.crs is None)
    assert raster.is_full or name not in ("strips", "tiles", "no crs")


@pytest.mark.parametrize(
    "colours", ["gray alpha", "red nir alpha", "alpha red green blue nir", "red green blue nir alpha"]
)
def test_alpha_is_the_mask_whatever_the_number_of_bands(tmp_path: Path, colours: str) -> None:
    """GDAL says so of files of two or four bands only."""
    names, hidden = colours.split(), holes(8)
    alpha = names.index("alpha")
    values = random_image(9, HEIGHT, WIDTH, len(names))
    values[alpha] = np.where(hidden, 0, 255)
    profile = {"driver": "GTiff", "count": len(names), "height": HEIGHT, "width": WIDTH, "dtype": "uint8"}
    profile |= {"crs": UTM, "transform": north_up(), "photometric": "minisblack"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:  # colours come before pixels
        file.colorinterp = [ColorInterp[name] for name in names]
        file.write(values)
    others = [number for number in range(1, len(names) + 1) if number != alpha + 1]
    raster = open_raster(tmp_path / "a.tif", others)
    assert (raster.mask_kind, raster.is_full) == ("alpha", False)
    window = Window(3, 5, 40, 60)
    np.testing.assert_array_equal(raster.read(window)[1], ~hidden[window.slices])
    np.testing.assert_array_equal(raster.read_reduced((HEIGHT, WIDTH), "average")[1], ~hidden)
    assert open_raster(tmp_path / "a.tif").read(window)[1].all(), "it is data where it is read itself"


@pytest.mark.parametrize("name", ["nodata", "internal mask", "sidecar mask", "alpha", "nan"])
def test_the_masks_of_these_files_do_mask(files: dict[str, Path], name: str) -> None:
    raster = open_raster(files[name], [1, 2, 3] if name == "alpha" else None)
    assert 0.5 < raster.read(raster.window)[1].mean() < 0.9


def test_a_band_that_gdal_calls_alpha_is_data_where_it_is_read(files: dict[str, Path]) -> None:
    for name in ("strips", "alpha"):  # the first by the default of the driver, the second by intent
        raster = open_raster(files[name])
        assert raster.colour_interpretation[3] == "alpha"
        assert raster.read(raster.window)[1].all()
        assert not open_raster(files[name], [1, 2, 3]).read(raster.window)[1].all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "is_mark"),
    [
        ("int16", -9999, True),
        ("float32", -9999, True),
        ("float32", -3.4028234663852886e38, True),
        ("float32", 0, False),
        ("int16", 32767, False),
        ("uint16", 65535, False),
        ("uint8", 0, False),
    ],
)
def test_nodata_in_one_band(tmp_path: Path, dtype: str, nodata: float, is_mark: bool) -> None:
    """A negative value marks a hole in whichever band; black and white may be a colour's."""
    values = random_image(1, 20, 20, dtype=dtype)
    values[2, 4] = nodata
    values[:, 9] = nodata
    _, valid = open_raster(write_raster(tmp_path / "a.tif", values, north_up(), nodata=nodata)).read(
        Window(0, 0, 20, 20)
    )
    assert valid[4].all() != is_mark
    assert valid[4].any() != is_mark
    assert not valid[9].any()
    assert np.delete(valid, [4, 9], axis=0).all()


DECLARED = (
    ("red", "int16", 255, "red", 2.0, 1.0, "a"),
    ("nir", "int16", -9999, "nir", 0.5, 3.0, "b"),
    ("height", "float32", 7, "undefined", 4.0, -1.0, "m"),
)


def bands_of_two_types(folder: Path) -> Path:
    """A VRT with holes in the second row of the first and the third band, and in the third row of the second."""
    values = np.stack([np.full((4, 3), level, np.int16) for level in (9, 90, 900)])
    values[0, 1], values[1, 2], values[2, 1] = 255, -9999, 7
    write_raster(folder / "a.tif", values, north_up())
    bands = (
        f'<VRTRasterBand dataType="{dtype}" band="{number}"><Description>{name}</Description>'
        f"<NoDataValue>{nodata}</NoDataValue><ColorInterp>{colour}</ColorInterp><Scale>{scale}</Scale>"
        f"<Offset>{offset}</Offset><UnitType>{unit}</UnitType><SimpleSource>"
        f'<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>{number}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for number, (name, dtype, nodata, colour, scale, offset, unit) in enumerate(DECLARED, 1)
    )
    content = f'<VRTDataset rasterXSize="3" rasterYSize="4">{"".join(bands)}</VRTDataset>'
    (folder / "a.vrt").write_text(content)
    return folder / "a.vrt"


@pytest.mark.parametrize("order", [(1,), (2,), (3,), (1, 2), (2, 1)])
def test_each_band_has_what_is_declared_for_it(tmp_path: Path, order: tuple[int, ...]) -> None:
    raster = open_raster(bands_of_two_types(tmp_path), order)
    chosen = [DECLARED[number - 1] for number in order]
    names = ("name", "dtype", "colour", "scale", "offset", "unit")
    assert raster.describe()["bands"] == [dict(zip(names, (*one[:2], *one[3:]), strict=True)) for one in chosen]
    assert (raster.dtype, raster.nodata) == chosen[0][1:3]
    values, valid = raster.read(raster.window)
    assert values[:, 0, 0].tolist() == [{1: 9, 2: 90, 3: 900}[number] for number in order]
    assert valid.tolist() == [[full] * 3 for full in (True, 2 in order, 2 not in order, True)]


def test_bands_of_several_types_are_described_but_not_read_together(tmp_path: Path) -> None:
    path = bands_of_two_types(tmp_path)
    assert [band["dtype"] for band in geosynth.info(path)["bands"]] == ["int16", "int16", "float32"]
    line = r"a\.vrt: its bands hold values of several types, float32/int16; convert them to one type first"
    for ask in (
        partial(geosynth.info, path, verify=True),
        lambda: open_raster(path).read_reduced((2, 2), "average"),
        lambda: open_chosen(path, None, "float32"),
        lambda: common_bands([open_raster(path)], ("red", "nir", "height")),
    ):
        with pytest.raises(RasterError, match=line):
            ask()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32", "float64"])
@pytest.mark.parametrize("nodata", [None, 0, 7.0, 300, -9999, -1, 0.5, 1e300, -1e300, (7, None), (None, -1)])
def test_no_data_are_told_pixel_by_pixel(dtype: str, nodata: float | tuple[float | None, ...] | None) -> None:
    """Whether or not the type can hold the nodata value."""
    own = [value for value in (0, 1, 7, 255, 300, -9999, -1, 0.5, np.nan, np.inf) if _holds(dtype, value)]
    values = np.array([*itertools.product(own, own)], dtype).T.reshape(2, 1, -1)
    holes = nodata if isinstance(nodata, tuple) else (nodata, nodata)

    def is_data(pixel: list[float]) -> bool:
        pairs = list(zip(pixel, holes, strict=True))
        is_marked = any(hole is not None and hole < 0 and value == hole for value, hole in pairs)
        return all(map(math.isfinite, pixel)) and not is_marked and any(value != hole for value, hole in pairs)

    wanted = [is_data(pixel) for pixel in values[:, 0].T.tolist()]
    np.testing.assert_array_equal(has_data(values, nodata)[0], wanted)


def _holds(dtype: str, value: float) -> bool:
    kind = np.dtype(dtype)
    return kind.kind == "f" or (float(value).is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max)


def test_declared_nodata_counts_whatever_the_fourth_band_is_called(files: dict[str, Path]) -> None:
    raster = open_raster(files["nodata beside a band marked alpha"])
    assert raster.colour_interpretation[3] == "alpha"
    np.testing.assert_array_equal(raster.read(raster.window)[1], ~holes(2))


def test_nan_is_no_data_whatever_the_file_declares(tmp_path: Path) -> None:
    values = random_image(4, HEIGHT, WIDTH, 2, "float32")
    values[1, holes(5)] = np.nan
    raster = open_raster(write_raster(tmp_path / "nan.tif", values, north_up(), nodata=-1))
    np.testing.assert_array_equal(raster.read(raster.window)[1], ~holes(5))
    raster = open_raster(raster.path, [1])
    assert raster.read(raster.window)[1].all()


@pytest.mark.parametrize("window", [Window(-1, 0, 5, 5), Window(0, WIDTH - 2, 3, 3), Window(HEIGHT, WIDTH, 1, 1)])
def test_a_window_beyond_the_raster_is_not_cropped_silently(files: dict[str, Path], window: Window) -> None:
    raster = open_raster(files["nodata"])
    with pytest.raises(GridError, match=f"{HEIGHT} x {WIDTH}"):
        raster.read(window)


def test_describe_says_what_rasterio_says(files: dict[str, Path], tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "described.tif",
        random_image(0, 64, 64),
        north_up(),
        tiled=True,
        blockxsize=16,
        blockysize=16,
        nodata=3,
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        dataset.set_band_description(4, "nir")
        dataset.update_tags(source="test")
        dataset.build_overviews([2, 4])
    values = open_raster(path).describe()
    with rasterio.open(path) as dataset:
        assert (values["height"], values["width"]) == dataset.shape
        assert Affine(*values["transform"]) == dataset.transform
        assert values["tags"] == dataset.tags()
        assert values["overviews"] == dataset.overviews(1)
        assert tuple(values["blocks"]) == dataset.block_shapes[0]
    assert (values["driver"], values["crs"], values["nodata"], values["mask"]) == ("GTiff", UTM, 3, "nodata")
    assert [band["colour"] for band in values["bands"]] == ["red", "green", "blue", "undefined"]
    assert [band["name"] for band in values["bands"]] == [None, None, None, "nir"]
    kinds = {
        name: open_raster(files[name]).describe()["mask"] for name in ("strips", "internal mask", "uint16", "south-up")
    }
    assert kinds == {"strips": "alpha", "internal mask": "mask", "uint16": "nodata", "south-up": "alpha"}
    assert open_raster(files["no crs"]).describe()["crs"] is None


@pytest.mark.parametrize("nodata", [np.nan, -np.inf])
def test_a_nodata_value_that_json_lacks_is_described_in_words(tmp_path: Path, nodata: float) -> None:
    path = write_raster(tmp_path / "odd.tif", np.zeros((1, 4, 5), np.float32), north_up(), nodata=nodata)
    assert json.loads(json.dumps(open_raster(path).describe(), allow_nan=False))["nodata"] == str(nodata)


def test_a_raster_may_be_pickled(files: dict[str, Path]) -> None:
    raster = open_raster(files["tiles"])
    values, _ = raster.read(raster.window)
    again = pickle.loads(pickle.dumps(raster))
    np.testing.assert_array_equal(again.read(again.window)[0], values)
    assert again.describe() == raster.describe()


def test_threads_get_the_right_pixels(files: dict[str, Path]) -> None:
    raster = open_raster(files["tiles"])
    whole, _ = raster.read(raster.window)
    plan = list(TilePlan(HEIGHT, WIDTH, 13)) * 10
    with ThreadPoolExecutor(8) as pool:
        for window, (values, _) in zip(plan, pool.map(raster.read, plan), strict=True):
            np.testing.assert_array_equal(values, whole[(slice(None), *window.slices)])


def _sums(raster: RasterFile, plan: list[Window], answers: Any) -> None:
    opened: list[str] = []
    raster_file.open_again = lambda path, driver: opened.append(path) or rasterio.open(path)  # type: ignore
    answers.put(([int(raster.read(window)[0].astype(int).sum()) for window in plan], opened))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trap exists where processes fork")
def test_forked_processes_open_the_file_themselves(files: dict[str, Path]) -> None:
    raster = open_raster(files["tiles"])
    plan = list(TilePlan(HEIGHT, WIDTH, 13))
    wanted = [int(raster.read(window)[0].astype(int).sum()) for window in plan]  # the handle is open before the fork
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_sums, args=(raster, plan, answers), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    # Each opens the file itself: with the parent's handle the pixels are wrong, but not each time.
    assert [answers.get(timeout=60) for _ in workers] == [(wanted, [raster.path])] * 2
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts the open files of the process")
def test_many_rasters_do_not_exhaust_the_file_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    rasters = [
        open_raster(write_raster(tmp_path / f"{value}.tif", np.full((4, 4), value, dtype=np.uint8), north_up()))
        for value in range(100)
    ]
    for _ in range(2):
        assert [int(raster.read(raster.window)[0].max()) for raster in rasters] == list(range(100))
        assert len(os.listdir("/proc/self/fd")) - before < 50  # noqa: PTH208


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    for value in (1, 2):
        path = write_raster(tmp_path / "same.tif", np.full((4, 4), value, dtype=np.uint8), north_up())
        raster = open_raster(path)
        assert (raster.read(raster.window)[0] == value).all()


@pytest.mark.parametrize(
    ("name", "step"), [("images", r"images/\*\.tif"), ("image.zarr", "is a folder, but no Zarr store")]
)
def test_of_a_folder_the_line_says_what_to_do(tmp_path: Path, name: str, step: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(RasterError, match=step):
        open_raster(tmp_path / name)


def test_one_line_for_what_is_no_raster(tmp_path: Path) -> None:
    text = tmp_path / "text.tif"
    text.write_text("no raster\n")
    for path, complaint in ((tmp_path / "none.tif", "no such file"), (tmp_path, "folder"), (text, "cannot be opened")):
        with pytest.raises(RasterError, match=complaint) as caught:
            open_raster(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, OSError)


def test_ground_control_points_are_no_grid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    points = [GroundControlPoint(row, column, 10 + column, 50 - row) for row, column in ((0, 0), (0, 7), (7, 0))]
    path = write_raster(tmp_path / "gcp.tif", np.ones((8, 8), dtype=np.uint8), crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, "EPSG:4326")
    with pytest.raises(RasterError, match="ground control points"):
        open_raster(path)
    assert geosynth.info(path)["placed by"] == "ground control points"
    assert not caplog.records, "they do place it"


@pytest.mark.parametrize(
    "transform",
    [
        (math.nan, 0, 0, 0, -1, 0),
        (1, 0, math.inf, 0, -1, 0),
        (0, 0, 5, 0, 0, 5),
        (1, 2, 0, 2, 4, 0),
        (1e-300, 0, 0, 0, -1e-300, 0),
        (1e-30, 0, 5e5, 0, -1e-30, 5e6),
        (1e300, 0, 0, 0, -1e300, 0),
        (1, 0, 1e300, 0, -1, 0),
    ],
)
def test_transforms_that_give_pixels_no_place(tmp_path: Path, transform: tuple[float, ...]) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((8, 8), np.uint8))
    t = Affine(*transform)
    values = ",".join(map(str, (t.c, t.a, t.b, t.f, t.d, t.e)))
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset><GeoTransform>{values}</GeoTransform></PAMDataset>")
    with pytest.raises(GridError, match=r"a\.tif: its transform .* gives pixels no place"):
        open_raster(path)


def test_absurd_sizes_are_refused_before_anything_is_made_of_them(tmp_path: Path) -> None:
    band = '<VRTRasterBand dataType="Byte" band="1"/>'
    (tmp_path / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="2147483647" rasterYSize="2147483647">{band}</VRTDataset>'
    )
    with pytest.raises(GridError, match=r"a\.vrt: says that it has 2147483647 x 2147483647 px"):
        open_raster(tmp_path / "a.vrt")
    (tmp_path / "b.vrt").write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{band * 5000}</VRTDataset>')
    with pytest.raises(RasterError, match=r"b\.vrt: has 5000 bands"):
        open_raster(tmp_path / "b.vrt")


def test_a_crs_without_a_transform_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((8, 8), np.uint8))
    for _ in range(2):
        open_raster(path)
    assert [record.message.partition(": ")[2][:31] for record in caplog.records] == ["has a CRS but no transform: its"]
    caplog.clear()
    open_raster(write_raster(tmp_path / "nowhere.tif", np.ones((8, 8), np.uint8), crs=None))
    assert not caplog.records


def test_texts_that_are_no_utf_8_are_replaced(tmp_path: Path) -> None:
    for name in ("tag", "description", "sidecar", "crs"):
        write_raster(
            tmp_path / f"{name}.tif", np.ones((8, 8), np.uint8), north_up(), crs=None if name == "crs" else UTM
        )
    with rasterio.open(tmp_path / "tag.tif", "r+") as dataset:
        dataset.update_tags(TIFFTAG_ARTIST="Josef")
    with rasterio.open(tmp_path / "description.tif", "r+") as dataset:
        dataset.set_band_description(1, "Josef")
    for name in ("tag", "description"):
        path = tmp_path / f"{name}.tif"
        path.write_bytes(path.read_bytes().replace(b"Josef", b"Jos\xe9f"))
    (tmp_path / "sidecar.tif.aux.xml").write_bytes(
        b'<PAMDataset><Metadata><MDI key="by">Jos\xe9</MDI></Metadata><PAMRasterBand band="1"><CategoryNames>'
        b"<Category>Jos\xe9</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    for name in ("tag", "description", "sidecar"):
        raster = open_raster(tmp_path / f"{name}.tif")
        assert raster.geobox.crs == UTM
        assert raster.read(raster.window)[0].all()
        assert raster.class_table == ({0: ("Jos\ufffd", None)} if name == "sidecar" else {})
    assert open_raster(tmp_path / "description.tif").band_names == ("Jos\ufffdf",)
    (tmp_path / "crs.tif.aux.xml").write_bytes(b'<PAMDataset><SRS>LOCAL_CS["Jos\xe9",UNIT["m",1]]</SRS></PAMDataset>')
    with pytest.raises(RasterError, match=r"crs\.tif: cannot be opened as a raster: 'utf-8' codec"):
        open_raster(tmp_path / "crs.tif")


def test_a_crs_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((8, 8), np.uint8), north_up())
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset><SRS>{'PROJCS[' * 100_000}</SRS></PAMDataset>")
    with pytest.raises(RasterError, match=r"a\.tif: .*large input") as caught:
        open_raster(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_an_error_not_pixels(tmp_path: Path) -> None:
    image = random_image(0, 256, 256)
    path = write_raster(
        tmp_path / "cut.tif", image, north_up(), tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    raster = open_raster(path)
    with pytest.raises(RasterError, match="cannot read rows 0-255") as caught:
        raster.read(raster.window)
    assert "\n" not in str(caught.value)


@pytest.mark.realdata
def test_each_odd_file_is_described_or_refused_in_one_line(real_data: Path) -> None:
    files = sorted(file for file in (real_data / "robustness").glob("*/*") if file.is_file())
    assert len(files) >= 38
    refused = {}
    for path in files:
        try:
            raster = open_raster(path)
            assert raster.describe()["bands"]
            for window in TilePlan(*raster.geobox.shape, 512):
                values, valid = raster.read(window)
                assert values.shape[1:] == valid.shape
        except GeosynthError as error:
            refused[path.name] = str(error)
    assert not any("\n" in message for message in refused.values())
    placed = {"au-gcp.tif", "RGB.byte.gcp.vrt", "RGB.byte.rpc.vrt", "compdcs.vrt", "white-gemini-iv.vrt"}
    assert placed | {"corrupt.tif", "RGB.nc"} <= set(refused)
    assert {name for name in refused if name.endswith(".tif")} == {"au-gcp.tif", "corrupt.tif"}


def test_infinite_values_are_no_data(tmp_path: Path) -> None:
    values = np.array([[[1, np.inf, -np.inf, np.nan]], [[1, 2, 3, 4]]], np.float32)
    path = tmp_path / "image.tif"
    with rasterio.open(path, "w", driver="GTiff", height=1, width=4, count=2, dtype="float32") as dataset:
        dataset.write(values)
    _, valid = open_raster(path).read(Window(0, 0, 1, 4))
    np.testing.assert_array_equal(valid, [[True, False, False, False]])
