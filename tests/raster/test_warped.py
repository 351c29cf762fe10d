"""WarpedRaster: what GDAL's warper makes of the whole file, however it is cut into windows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geosynth.errors import GridError
from geosynth.grid import TilePlan, Window
from geosynth.raster import warp as warped
from geosynth.raster.raster_file import RasterFile, open_raster
from geosynth.raster.reprojection import cover
from geosynth.raster.warp import IMAGE_METHODS, WarpedRaster, _Warper
from rasters import SITE, UTM, UTM_18N, ArrayRaster, north_up, random_codes, random_image, write_raster

SOURCE = (60, 50)
GRIDS = {
    "shifted": GeoBox((70, 60), north_up(-2.4, -1.3), UTM),
    "coarser": GeoBox((22, 20), north_up(-4, -4, 0.6 * 3.3), UTM),
    "finer": GeoBox((150, 140), north_up(-1, -1, 0.25), UTM),
    "rotated": GeoBox((60, 60), north_up(10, -10) @ Affine.rotation(30), UTM),
    "south-up": GeoBox((60, 50), north_up(0.25, 60.25) @ Affine.scale(1, -1), UTM),
}
SIX = GeoBox((1, 1), Affine.scale(0.6, -0.6), UTM_18N)


def raster(folder: Path, dtype: str = "uint8", **profile: Any) -> Path:
    values = random_image(1, *SOURCE, dtype=dtype)
    return write_raster(folder / f"{dtype}.tif", values, north_up(), photometric="minisblack", alpha="no", **profile)


def of_whole_file(path: Path, target: GeoBox, method: str, scale: tuple[float, float]) -> np.ndarray:
    """The oracle: one call of GDAL's warper, exact transformer, one scale all over."""
    with rasterio.open(path) as source:
        wanted = np.zeros((source.count, *target.shape), source.dtypes[0])
        rasterio.warp.reproject(
            rasterio.band(source, list(source.indexes)),
            wanted,
            dst_transform=target.affine,
            dst_crs=str(target.crs),
            resampling=Resampling[method],
            tolerance=0,
            XSCALE=scale[0],
            YSCALE=scale[1],
        )
    return wanted


PARALLEL = {"shifted", "coarser", "finer"}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name in (*GRIDS, "another CRS")
        for method in (*IMAGE_METHODS, "mode")
        if not (method == "mode" and name in PARALLEL)  # the largest area there, see test_resample
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_it_is_gdals_warper(tmp_path: Path, name: str, method: str, dtype: str) -> None:
    path = raster(tmp_path, dtype)
    source = open_raster(path)
    target = GRIDS[name] if name in GRIDS else crop(SIX, cover(SIX, source.geobox, "array"))
    seen = WarpedRaster(source, target, method)
    values, valid = seen.read(seen.window)
    if method == "mode":  # of bytes GDAL counts parts of pixels from 3.11 on; it is given floats, in any version
        floats = random_image(1, *SOURCE, dtype=dtype).astype(np.float32)
        path = write_raster(tmp_path / "floats.tif", floats, north_up(), photometric="minisblack", alpha="no")
    wanted = of_whole_file(path, target, method, _Warper(source, target, method).scale)
    assert values.dtype == dtype
    assert valid.mean() > 0.3
    differences = np.abs(values.astype(float) - wanted)[:, valid]
    if method == "mode":  # several values are equally frequent in some places
        assert (differences > 0).mean() < 0.05
    elif method == "nearest":
        assert not differences.any()
    else:  # GDAL rounds half a grey level by the last bit of its sums
        assert differences.max() <= (1 if dtype != "float32" else 1e-3)


def crop(lattice: GeoBox, window: Window) -> GeoBox:
    transform = lattice.affine @ Affine.translation(window.column, window.row)
    return GeoBox((window.height, window.width), transform, lattice.crs)


@pytest.fixture(scope="module")
def one_source(tmp_path_factory: pytest.TempPathFactory) -> RasterFile:
    return open_raster(raster(tmp_path_factory.mktemp("warped")))


@settings(max_examples=20)
@given(
    st.sampled_from([*GRIDS, "half a pixel", "another CRS"]),
    st.sampled_from([*IMAGE_METHODS, "mode"]),
    st.integers(35, 120),
    st.sampled_from([29, 4096]),
)
def test_cutting_does_not_matter(one_source: RasterFile, name: str, method: str, size: int, at_once: int) -> None:
    grids = {**GRIDS, "half a pixel": HALF, "another CRS": crop(SIX, cover(SIX, one_source.geobox, "array"))}
    seen = WarpedRaster(one_source, grids[name], method)
    pieces, valid = np.zeros((4, *seen.geobox.shape)), np.zeros(seen.geobox.shape, bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warped, "_MAX_SOURCE", at_once)  # cut once more, for memory
        for window in TilePlan(*seen.geobox.shape, size):
            pieces[(slice(None), *window.slices)], valid[window.slices] = seen.read(window)
    whole, whole_valid = seen.read(seen.window)
    np.testing.assert_array_equal(valid, whole_valid)
    difference = np.abs(pieces - whole)
    assert difference.max() <= (1 if name == "another CRS" else 0)  # PROJ rounds coordinates


HALF = GeoBox((70, 60), north_up(-2.5, -1.5), UTM)


def test_half_a_pixel_is_decided_alike_everywhere(one_source: RasterFile) -> None:
    """Coordinates of seven digits would decide by their rounding, here so, there so."""
    seen = WarpedRaster(one_source, HALF, "nearest")
    inside, _ = seen.read(Window(3, 4, 56, 46))
    places = [one_source.read(Window(row, column, 56, 46))[0] for row in (1, 2) for column in (1, 2)]
    assert any(np.array_equal(inside, place) for place in places)


@pytest.mark.parametrize("how", ["nodata", "mask"])
def test_pixels_without_data_take_no_part(tmp_path: Path, how: str) -> None:
    values = np.full((1, 40, 40), 100, np.uint8)
    values[0, 10:20, 10:20] = 255
    path = write_raster(tmp_path / "a.tif", values, north_up(), nodata=255 if how == "nodata" else None)
    if how == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(values[0] != 255)
    seen = WarpedRaster(open_raster(path), GeoBox((20, 20), north_up(0, 0, 1.2), UTM), "average")
    (image,), valid = seen.read(seen.window)
    hole = np.zeros((20, 20), bool)
    hole[5:10, 5:10] = True
    np.testing.assert_array_equal(valid, ~hole)
    assert (image[valid] == 100).all()  # not one of them mixed with 255
    assert (image[hole] == (255 if how == "nodata" else 0)).all()


def test_anything_that_reads_like_a_raster_is_warped() -> None:
    values = random_image(6, 40, 40, bands=2)
    values[:, 4:6] = 0
    seen = WarpedRaster(
        ArrayRaster(values, GeoBox((40, 40), north_up(), UTM), nodata=0),
        GeoBox((20, 20), north_up(0, 0, 1.2), UTM),
        "average",
    )
    image, valid = seen.read(seen.window)
    hole = np.zeros((20, 20), bool)
    hole[2] = True
    np.testing.assert_array_equal(valid, ~hole)
    means = values.reshape(2, 20, 2, 20, 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(image, np.where(hole, 0, np.floor(means + 0.5)))


def test_nan_stays_where_it_is(tmp_path: Path) -> None:
    values = random_image(2, 40, 40, bands=2, dtype="float32")
    values[:, 8:12, 8:12] = np.nan
    path = write_raster(tmp_path / "a.tif", values, north_up(), nodata=np.nan)
    seen = WarpedRaster(open_raster(path), GeoBox((20, 20), north_up(0, 0, 1.2), UTM), "average")
    image, valid = seen.read(seen.window)
    np.testing.assert_array_equal(valid, ~np.isnan(image[0]))
    assert np.isnan(image[:, 4:6, 4:6]).all()
    assert np.isnan(image).sum() == 8
    np.testing.assert_allclose(image[0, 0, 0], values[0, :2, :2].mean())


def test_near_infrared_marked_alpha_is_data(tmp_path: Path) -> None:
    values = random_image(3, 40, 40)
    values[3] = 0
    path = write_raster(tmp_path / "a.tif", values, north_up())
    assert "alpha" in open_raster(path).colour_interpretation
    seen = WarpedRaster(open_raster(path), GeoBox((20, 20), north_up(0, 0, 1.2), UTM), "nearest")
    image, valid = seen.read(seen.window)
    assert valid.all()
    assert image[:3].all()


def test_modes_are_the_most_frequent_codes(tmp_path: Path) -> None:
    codes = random_codes(4, 45, 60, (1, 2, 3))
    path = write_raster(tmp_path / "a.tif", codes, north_up())
    seen = WarpedRaster(open_raster(path), GeoBox((15, 20), north_up(0, 0, 1.8), UTM), "mode")
    blocks = codes.reshape(15, 3, 20, 3).swapaxes(1, 2).reshape(15, 20, 9)
    counts = np.stack([(blocks == code).sum(axis=2) for code in (1, 2, 3)])
    clear = np.sort(counts, axis=0)[-1] > np.sort(counts, axis=0)[-2]
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(seen.read(seen.window)[0][0][clear], counts.argmax(axis=0)[clear] + 1)


@pytest.mark.parametrize("south_up", [False, True])
def test_codes_of_32_bits_are_not_rounded(tmp_path: Path, south_up: bool) -> None:
    codes = np.array([[16_777_217, 16_777_219], [2_000_000_001, 7]], dtype=np.int32)
    path = write_raster(tmp_path / "a.tif", codes, north_up())
    grid = GeoBox((4, 4), north_up(0, 0, 0.3), UTM)
    seen = WarpedRaster(open_raster(path), grid.flipy() if south_up else grid, "nearest")
    finer = codes.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(seen.read(seen.window)[0][0], finer[::-1] if south_up else finer)


def triangles(length: int, factor: float) -> np.ndarray:
    """(new pixels, length): weights of bilinear resampling along an axis to pixels `factor` times as large."""
    centres, places = np.arange(0.5, length / factor) * factor, np.arange(0.5, length)
    found = np.maximum(1 - np.abs(places - centres[:, np.newaxis]) / max(factor, 1), 0)
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("down", "across"), [(2, 3), (0.5, 0.5), (0.5, 2), (4, 0.25)])
def test_bilinear_weights_reach_as_far_as_the_coarser_pixels(down: float, across: float) -> None:
    values = random_image(4, 24, 36, bands=2, dtype="float32")
    source = ArrayRaster(values, GeoBox((24, 36), north_up(), UTM))
    transform = north_up() @ Affine.scale(across, down)
    seen = WarpedRaster(source, GeoBox((round(24 / down), round(36 / across)), transform, UTM), "bilinear")
    wanted = triangles(24, down) @ values.astype(float) @ triangles(36, across).T
    np.testing.assert_allclose(seen.read(seen.window)[0], wanted, rtol=1e-4)


def test_a_pickled_one_reads_the_same(tmp_path: Path) -> None:
    seen = WarpedRaster(open_raster(raster(tmp_path)), GRIDS["coarser"], "bilinear")
    again = pickle.loads(pickle.dumps(seen))
    np.testing.assert_array_equal(again.read(again.window)[0], seen.read(seen.window)[0])


def test_one_band_is_warped_as_it_is_among_others(tmp_path: Path) -> None:
    path = raster(tmp_path)
    every, second = (WarpedRaster(open_raster(path, bands), GRIDS["coarser"], "average") for bands in (None, [2]))
    np.testing.assert_array_equal(second.read(second.window)[0], every.read(every.window)[0][1:2])


def test_windows_beyond_the_grid_are_refused(tmp_path: Path) -> None:
    seen = WarpedRaster(open_raster(raster(tmp_path)), GRIDS["coarser"], "bilinear")
    with pytest.raises(GridError, match="beyond"):
        seen.read(Window(0, 0, 23, 1))


def test_a_grid_with_a_crs_and_a_raster_without(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", random_image(0, 9, 9), north_up(), crs=None)
    with pytest.raises(GridError, match="only one of"):
        WarpedRaster(open_raster(path), GRIDS["coarser"], "nearest")


def test_a_grid_of_more_pixels_than_can_be_counted(one_source: RasterFile) -> None:
    with pytest.raises(GridError, match=r"on the new grid: says that it has .* px; no raster is so large"):
        WarpedRaster(one_source, GeoBox((2**23, 2**22), north_up(0, 0, 1e-6), UTM), "bilinear")


@given(
    st.tuples(st.integers(-500, 500), st.integers(-500, 500)),
    st.tuples(*[st.sampled_from([0, 0.25, 0.5])] * 2),
    st.integers(1, 80),
    st.sampled_from([-1e-8, 0, 1e-8]),
)
def test_a_cover_is_the_smallest(
    place: tuple[int, int], fractions: tuple[float, float], side: int, rounding: float
) -> None:
    (row, column), (down, across) = place, fractions
    inner = GeoBox((side, side), north_up(column + across + rounding, row + down - rounding), UTM)
    found = cover(GeoBox((1, 1), north_up(), UTM), inner, "array")
    assert found == Window(row, column, side + (down > 0), side + (across > 0))


def test_a_cover_follows_the_curve_of_a_side() -> None:
    """A parallel is a curve in UTM: between meridians 4 degrees apart its middle is 1.9 km south of its ends."""
    lattice = GeoBox((1, 1), Affine(100, 0, 500000, 0, -100, 4.4e6), UTM_18N)
    found = cover(lattice, GeoBox((1, 4), Affine(1, 0, -77, 0, -1, 40), "EPSG:4326"), "degrees.tif")
    longitudes, latitudes = np.meshgrid(np.linspace(-77, -73, 401), [40.0, 39.0])
    x, y = rasterio.warp.transform("EPSG:4326", UTM_18N, longitudes.ravel(), latitudes.ravel())
    columns, rows = (np.array(x) - 500000) / 100, (4.4e6 - np.array(y)) / 100
    expected = [rows.min(), columns.min(), rows.max(), columns.max()]
    np.testing.assert_allclose([found.row, found.column, found.bottom, found.right], expected, atol=1)


def test_what_has_no_place_on_a_lattice_is_not_covered() -> None:
    with pytest.raises(GridError, match=r"array: has no place in the CRS EPSG:26917; choose another one"):
        cover(GeoBox((1, 1), north_up(), UTM), GeoBox((9, 9), north_up(), SITE), "array")


def test_between_coordinates_that_no_way_joins_nothing_is_warped() -> None:
    image = ArrayRaster(random_image(0, 9, 9), GeoBox((9, 9), north_up(), UTM))
    with pytest.raises(GridError, match="has no place on the grid it is to be warped to"):
        WarpedRaster(image, GeoBox((9, 9), north_up(), SITE), "bilinear")
