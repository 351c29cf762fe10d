"""resample_labels: against rasterio.warp on the same grids, a naive form, and the uncut result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from geosynth.errors import GridError, SettingsError
from geosynth.grid import Window, absolute_origin, ground_sampling_distance
from geosynth.raster.raster_file import RasterFile, open_raster
from geosynth.raster.read import Raster
from geosynth.raster.warp import WarpedRaster, resample_labels
from rasters import UTM, ArrayRaster, north_up, random_codes, write_raster
from strategies import few

NODATA = 255


def whole(raster: Raster) -> np.ndarray:
    codes, valid = raster.read(raster.window)
    return np.where(valid, codes[0], NODATA)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> RasterFile:
    """Blocky classes at 0.6 m with holes, off the lattice of any coarser pixels."""
    codes = random_codes(0, 90, 77)
    codes[np.random.default_rng(1).random(codes.shape) < 0.15] = NODATA
    codes[20:50, 30:60] = NODATA
    path = write_raster(tmp_path_factory.mktemp("labels") / "codes.tif", codes, north_up(3, 1), nodata=NODATA)
    return open_raster(path)


def warped(labels: RasterFile, target: GeoBox, how: Resampling) -> np.ndarray:
    result = np.full(target.shape, NODATA, np.uint8)
    with rasterio.open(labels.path) as source:
        reproject(
            rasterio.band(source, 1),
            result,
            dst_transform=target.affine,
            dst_crs=UTM,
            resampling=how,
            src_nodata=NODATA,
            dst_nodata=NODATA,
            tolerance=0,
        )
    return result


@pytest.mark.parametrize("gsd", [1.0, 1.7, 0.25, 3.0])
def test_nearest_is_that_of_gdal(labels: RasterFile, gsd: float) -> None:
    own = resample_labels(labels, gsd, "nearest")
    expected = warped(labels, own.geobox, Resampling.nearest)
    inside = expected != NODATA  # GDAL leaves pixels empty whose centre lies on the rim
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(whole(own)[inside], expected[inside])
    assert (whole(own) != expected).mean() < 0.01


def naive_mode(labels: RasterFile, target: GeoBox) -> np.ndarray:
    """Each new pixel by itself: the area of each code below it, pixel by pixel."""
    codes = labels.read(labels.window)[0][0]
    to_source = ~labels.geobox.affine @ target.affine
    result = np.full(target.shape, NODATA, np.uint8)
    for row, column in np.ndindex(*map(int, target.shape)):
        (left, top), (right, bottom) = to_source @ (column, row), to_source @ (column + 1, row + 1)
        areas: dict[int, float] = {}
        for y in range(max(0, int(np.floor(top))), min(len(codes), int(np.ceil(bottom)))):
            for x in range(max(0, int(np.floor(left))), min(codes.shape[1], int(np.ceil(right)))):
                if codes[y, x] != NODATA:
                    area = (min(y + 1, bottom) - max(y, top)) * (min(x + 1, right) - max(x, left))
                    areas[int(codes[y, x])] = areas.get(int(codes[y, x]), 0) + area
        largest = max(areas.values(), default=0)
        if largest > 1e-6:
            result[row, column] = min(code for code, area in areas.items() if area > largest - 1e-6)
    return result


@pytest.mark.parametrize("gsd", [1.0, 1.2, 1.7, 0.25])
def test_mode_is_the_largest_area(labels: RasterFile, gsd: float) -> None:
    own = resample_labels(labels, gsd, "mode")
    np.testing.assert_array_equal(whole(own), naive_mode(labels, own.geobox))


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "float32"])
def test_mode_of_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    codes = random_codes(5, 40, 50, tuple(range(256))).astype(dtype)
    codes[np.random.default_rng(2).random(codes.shape) < 0.3] = 77
    labels = open_raster(write_raster(tmp_path / "many.tif", codes, north_up(), nodata=NODATA))
    own = resample_labels(labels, 1.5, "mode")
    for sorted_at_once in (1 << 20, 100):
        monkeypatch.setattr("geosynth.raster.warp._SORTED", sorted_at_once)
        codes, valid = own.read(own.window)
        np.testing.assert_array_equal(np.where(valid, codes[0], NODATA), naive_mode(labels, own.geobox))


@pytest.mark.parametrize(("column", "row", "size"), [(0, 0, 0.6), (-3.4, 5.3, 0.6), (4, -7, 1.5), (60.5, 70.25, 1.1)])
def test_mode_on_any_parallel_grid(labels: RasterFile, column: float, row: float, size: float) -> None:
    grid = GeoBox((40, 50), north_up(3, 1) @ Affine.translation(column, row) @ Affine.scale(size / 0.6), UTM)
    own = whole(WarpedRaster(labels, grid, "mode"))
    assert 0.04 < (own != NODATA).mean() < 1
    np.testing.assert_array_equal(own, naive_mode(labels, grid))


def test_mode_is_that_of_gdal_but_for_ties(tmp_path: Path) -> None:
    """Whole factors, where GDAL's weights and ours are the same; an odd factor has few ties."""
    codes = random_codes(3, 90, 120)
    codes[np.random.default_rng(1).random(codes.shape) < 0.3] = 2
    path = write_raster(tmp_path / "codes.tif", codes, Affine(1, 0, 300000, 0, -1, 4300020), nodata=NODATA)
    own = resample_labels(open_raster(path), 3.0, "mode")
    assert own.geobox.shape == (30, 40)
    expected = warped(open_raster(path), own.geobox, Resampling.mode)
    parts = codes.reshape(30, 3, 40, 3).swapaxes(1, 2).reshape(30, 40, 9)
    counts = np.sort((parts[..., None] == np.arange(1, 7)).sum(axis=2), axis=-1)
    clear = counts[..., -1] > counts[..., -2]
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(whole(own)[clear], expected[clear])


@few
@given(st.sampled_from(["nearest", "mode"]), st.sampled_from([0.25, 1.0, 2.0]), st.integers(1, 9), st.data())
def test_a_window_does_not_depend_on_the_cut(
    labels: RasterFile, how: str, gsd: float, block: int, data: st.DataObject
) -> None:
    raster = resample_labels(labels, gsd, how)  # type: ignore[arg-type]
    height, width = raster.geobox.shape
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(row, column, data.draw(st.integers(1, min(30, height - row))), min(40, width - column))
    full, valid = raster.read(raster.window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geosynth.raster.warp._MAX_SOURCE", block)
        codes, has_data = raster.read(window)
        np.testing.assert_array_equal(codes[0], full[0][window.slices])
        np.testing.assert_array_equal(has_data, valid[window.slices])


@pytest.mark.parametrize("how", ["nearest", "mode"])
def test_neighbours_resampled_apart_agree(tmp_path: Path, how: str) -> None:
    codes = random_codes(5, 60, 200)
    both = resample_labels(open_raster(write_raster(tmp_path / "both.tif", codes, north_up())), 1.0, how)  # type: ignore[arg-type]
    left = resample_labels(open_raster(write_raster(tmp_path / "left.tif", codes[:, :110], north_up())), 1.0, how)  # type: ignore[arg-type]
    right_path = write_raster(tmp_path / "right.tif", codes[:, 90:], north_up(90))
    right = resample_labels(open_raster(right_path), 1.0, how)  # type: ignore[arg-type]
    expected = both.read(both.window)[0][0]
    for part in (left, right):
        row, column = np.subtract(absolute_origin(part.geobox), absolute_origin(both.geobox))
        assert row == 0
        inner = part.read(part.window)[0][0, :, 1:-1]  # pixels at the cut see half of what is there
        np.testing.assert_array_equal(inner, expected[:, column + 1 : column + 1 + inner.shape[1]])


@pytest.mark.parametrize("gsd", [0.6, 0.6000000002999996, 0.600000000599999])
@pytest.mark.parametrize("rounding", [0.0, 5e-11])
def test_rounding_in_files_makes_no_slivers(tmp_path: Path, gsd: float, rounding: float) -> None:
    corner = (266115.6, 4303356.0)  # multiples of 0.6
    transform = Affine(0.2 + rounding, 0, corner[0], 0, -0.2 - rounding, corner[1])
    raster = resample_labels(open_raster(write_raster(tmp_path / "a.tif", random_codes(0, 240, 240), transform)), gsd)
    assert raster.geobox.shape == (80, 80)
    assert raster.geobox.affine[:6] == (0.6, 0, corner[0], 0, -0.6, corner[1])


def test_the_size_of_pixels_is_what_they_mean() -> None:
    def metres(size: float, crs: str) -> float | None:
        return ground_sampling_distance(GeoBox((4, 4), Affine(size, 0, 3e5, 0, -size, 4e6), crs))

    assert metres(0.600000000599999, UTM) == 0.6
    assert metres(1 / 3, UTM) == 1 / 3
    assert metres(2.0000000002, "EPSG:2248") == pytest.approx(2 * 1200 / 3937, rel=1e-15)  # Maryland, in US survey feet
    feet = GeoBox((300, 300), Affine(1, 0, 1.3e6, 0, -1, 4e5), "EPSG:2248")
    raster = ArrayRaster(random_codes(0, 300, 300)[None], feet)
    assert resample_labels(raster, 0.6096012192024384).geobox.affine[:6] == (2, 0, 1.3e6, 0, -2, 4e5)


GRIDS = {
    "south-up": Affine(0.6, 0, 266115.6, 0, 0.6, 4303356.2),
    "rotated": Affine.translation(266115.6, 4303356.2) @ Affine.rotation(30) @ Affine.scale(0.6, -0.6),
    "oblong": Affine(0.6, 0, 266115.6, 0, -0.9, 4303356.2),
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_new_grid_has_the_size_and_covers_the_old_one(tmp_path: Path, name: str) -> None:
    codes = random_codes(5, 60, 50)
    source = open_raster(write_raster(tmp_path / "codes.tif", codes, GRIDS[name]))
    raster = resample_labels(source, 1.5, "nearest")
    assert ground_sampling_distance(raster.geobox) == pytest.approx(1.5)
    to_old = ~source.geobox.affine @ raster.geobox.affine
    rows, columns = np.indices(raster.geobox.shape)
    x, y = to_old @ (columns + 0.5, rows + 0.5)
    below = (np.floor(y).astype(int), np.floor(x).astype(int))
    inside = (below[0] >= 0) & (below[0] < 60) & (below[1] >= 0) & (below[1] < 50)
    resampled, valid = raster.read(raster.window)
    np.testing.assert_array_equal(valid, inside)
    np.testing.assert_array_equal(resampled[0][inside], codes[below[0][inside], below[1][inside]])
    corners = ~raster.geobox.affine @ source.geobox.affine
    places = np.array([corners @ corner for corner in ((0, 0), (50, 0), (0, 60), (50, 60))])
    assert (places.min(axis=0) > -1e-5).all()
    assert (places.max(axis=0) < np.array(raster.geobox.shape[::-1]) + 1e-5).all()
    column, row = ~Affine(*raster.geobox.affine[:2], 0, *raster.geobox.affine[3:5], 0) @ (
        raster.geobox.affine.c,
        raster.geobox.affine.f,
    )
    assert (row, column) == pytest.approx((round(row), round(column)), abs=1e-4)


def test_the_same_size_is_left_alone(labels: RasterFile) -> None:
    assert resample_labels(labels, 0.6, "mode") is labels
    assert resample_labels(labels, 1.0, "mode") is not labels


def test_what_cannot_be_resampled(labels: RasterFile, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nearest or mode"):
        resample_labels(labels, 1.0, "cubic")  # type: ignore[arg-type]
    degrees = write_raster(
        tmp_path / "degrees.tif", random_codes(0, 9, 9), Affine(1e-5, 0, 3, 0, -1e-5, 4), crs="EPSG:4326"
    )
    with pytest.raises(GridError, match="not in metres"):
        resample_labels(open_raster(degrees), 1.0)
    nowhere = write_raster(tmp_path / "nowhere.tif", random_codes(0, 9, 9), north_up(), crs=None)
    with pytest.raises(GridError, match=r"nowhere\.tif: has no CRS, .*; assign the right one \(rio edit-info --crs"):
        resample_labels(open_raster(nowhere), 1.0)
