"""LabelRaster: edges, holes and codes, against numpy and a naive fill."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from geosynth.errors import DataError, GridError, LegendError
from geosynth.grid import TilePlan, Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.labels import LabelRaster, fill_holes
from rasters import north_up, random_codes, write_raster
from strategies import few

HEIGHT, WIDTH = 60, 75
HOLE = CHESAPEAKE.num_classes


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelRaster:
    """Blocky classes with scattered holes, a large hole, and holes along an edge."""
    codes = random_codes(0, HEIGHT, WIDTH)
    codes[np.random.default_rng(1).random(codes.shape) < 0.1] = 15
    codes[5:50, 10:62] = 0  # more than twice 16 px in both directions
    codes[:, -4:] = 15
    path = write_raster(tmp_path_factory.mktemp("labels") / "holes.tif", codes, north_up())
    return LabelRaster(path, CHESAPEAKE)


def naive_fill(indices: np.ndarray, steps: int) -> np.ndarray:
    """Each pixel by itself: the first of above, below, left, right that had a class a step before."""
    filled = indices.copy()
    for _ in range(steps):
        before = filled.copy()
        for row, column in zip(*np.nonzero(before == HOLE), strict=True):
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                near = (row + down, column + right)
                if 0 <= near[0] < len(before) and 0 <= near[1] < before.shape[1] and before[near] != HOLE:
                    filled[row, column] = before[near]
                    break
    return np.where(filled == HOLE, 0, filled)


@few
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14), st.floats(0, 1), st.integers(0, 8))
def test_holes_are_filled_as_the_naive_form_does(seed: int, height: int, width: int, share: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, HOLE, (height, width)).astype(np.uint8)
    indices[rng.random(indices.shape) < share] = HOLE
    kept = indices.copy()
    np.testing.assert_array_equal(fill_holes(indices, HOLE, steps), naive_fill(indices, steps))
    np.testing.assert_array_equal(indices, kept)


@st.composite
def reaching(draw: st.DrawFn) -> Window:
    """Windows that share pixels with the raster and may reach far beyond it."""
    row, column = draw(st.integers(-40, HEIGHT - 1)), draw(st.integers(-40, WIDTH - 1))
    return Window(row, column, draw(st.integers(max(1, 1 - row), 90)), draw(st.integers(max(1, 1 - column), 90)))


@few
@given(reaching())
def test_read_is_a_crop_of_the_padded_and_filled_raster(labels: LabelRaster, window: Window) -> None:
    codes, _ = labels.read_codes(labels.raster.window)
    reach = 150
    padded = np.pad(CHESAPEAKE.encode(codes), reach, mode="edge")
    crop = window.shift(reach, reach).slices
    classes, labelled = labels.read(window)
    np.testing.assert_array_equal(labelled, padded[crop] < HOLE)
    np.testing.assert_array_equal(classes[labelled], padded[crop][labelled])
    np.testing.assert_array_equal(classes, fill_holes(padded, HOLE, 16)[crop])
    assert classes.max() < HOLE


@few
@given(reaching(), st.data())
def test_a_window_does_not_depend_on_how_the_raster_is_cut(
    labels: LabelRaster, window: Window, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, window.height - 1)), data.draw(st.integers(0, window.width - 1))
    part = Window(
        window.row + top,
        window.column + left,
        data.draw(st.integers(1, window.height - top)),
        data.draw(st.integers(1, window.width - left)),
    )
    if part.intersection(labels.raster.window) is None:
        return
    place = part.slices_in(window)
    for values, whole in zip(labels.read(part), labels.read(window), strict=True):
        np.testing.assert_array_equal(values, whole[place])


def test_a_window_off_the_raster_is_refused(labels: LabelRaster) -> None:
    with pytest.raises(GridError, match="outside"):
        labels.read(Window(HEIGHT, 0, 4, 4))


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 15), ("int16", -9999), ("int32", -1), ("uint32", 15), ("int64", 15)]
)
def test_codes_are_counted_in_any_dtype(tmp_path: Path, dtype: str, nodata: int) -> None:
    codes = random_codes(2, 50, 40).astype(dtype)
    codes[:7] = nodata
    raster = LabelRaster(write_raster(tmp_path / "codes.tif", codes, north_up(), nodata=nodata), CHESAPEAKE)
    counts = raster.survey().counts
    assert counts == {code: int((codes == code).sum()) for code in range(1, 7)}
    classes, labelled = raster.read(raster.raster.window)
    np.testing.assert_array_equal(labelled, codes != nodata)
    np.testing.assert_array_equal(classes[labelled] + 1, codes[labelled])


def test_counting_goes_over_block_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosynth.raster.labels.SCAN_BLOCK", 16)
    codes = random_codes(3, 50, 40)
    labels = LabelRaster(write_raster(tmp_path / "codes.tif", codes, north_up()), CHESAPEAKE)
    seen: list[tuple[int, int]] = []
    counts = labels.survey(lambda done, total: seen.append((done, total))).counts
    assert sum(counts.values()) == codes.size
    assert counts == {int(code): int((codes == code).sum()) for code in np.unique(codes)}
    total = len(TilePlan(50, 40, 16))
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_unknown_codes_are_refused_before_work(tmp_path: Path) -> None:
    codes = random_codes(0, 20, 20)
    codes[0, :3] = 77
    path = write_raster(tmp_path / "unknown.tif", codes, north_up())
    with pytest.raises(LegendError, match=r"unknown\.tif: .*77 \(3 px\)"):
        LabelRaster(path, CHESAPEAKE).survey()


def test_unknown_codes_under_nodata_do_not_matter(tmp_path: Path) -> None:
    codes = random_codes(0, 20, 20)
    codes[0, :3] = 77
    path = write_raster(tmp_path / "declared.tif", codes, north_up(), nodata=77)
    assert 77 not in LabelRaster(path, CHESAPEAKE).survey().counts


@pytest.mark.parametrize("fill", [0, 15])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_labels_without_any_class_are_refused(tmp_path: Path, fill: int, dtype: str) -> None:
    path = write_raster(tmp_path / "empty.tif", np.full((9, 9), fill, dtype), north_up(), nodata=0)
    with pytest.raises(DataError, match="all of it is nodata"):
        LabelRaster(path, CHESAPEAKE).survey()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [(np.ones((2, 8, 8), dtype=np.uint8), "2 bands"), (np.ones((8, 8), dtype=np.complex64), "complex64")],
    ids=["bands", "complex numbers"],
)
def test_what_is_no_label_raster(tmp_path: Path, values: np.ndarray, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        LabelRaster(write_raster(tmp_path / "image.tif", values, north_up()), CHESAPEAKE)


@pytest.mark.parametrize("place", [0, 1])
def test_alpha_beside_codes_is_their_mask(tmp_path: Path, place: int) -> None:
    known, alpha = random_codes(0, 40, 50).astype(np.uint8), np.zeros((40, 50), np.uint8)
    alpha[:, 7:] = 255
    bands, colours = [known, known], [ColorInterp.gray, ColorInterp.gray]
    bands[place], colours[place] = alpha, ColorInterp.alpha
    path = write_raster(tmp_path / "labels.tif", np.stack(bands), north_up())
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = colours
    codes, valid = LabelRaster(path, CHESAPEAKE).read_codes(Window(0, 0, 40, 50))
    np.testing.assert_array_equal(codes, known)
    np.testing.assert_array_equal(valid, alpha > 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_that_are_whole_numbers(tmp_path: Path, dtype: str) -> None:
    """NaN has no class; a mosaic of tiles is read like a file."""
    codes = random_codes(3, 40, 64).astype(dtype)
    codes[np.random.default_rng(1).random(codes.shape) < 0.2] = np.nan
    holes = np.isnan(codes)
    whole = write_raster(tmp_path / "floats.tif", codes, north_up())
    integers = write_raster(tmp_path / "codes.tif", np.where(holes, 15, codes).astype(np.uint8), north_up(), nodata=15)
    (tmp_path / "tiles").mkdir()
    write_raster(tmp_path / "tiles" / "a.tif", codes[:, :40], north_up())
    write_raster(tmp_path / "tiles" / "b.tif", codes[:, 30:], north_up(30))
    expected = LabelRaster(integers, CHESAPEAKE)
    for path in (whole, tmp_path / "tiles"):
        labels = LabelRaster(path, CHESAPEAKE)
        assert labels.survey().counts == expected.survey().counts
        for found, wanted in zip(
            labels.read(Window(-3, -3, 30, 50)), expected.read(Window(-3, -3, 30, 50)), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("value", [1.5, 1e30])
def test_floats_that_are_no_codes(tmp_path: Path, value: float) -> None:
    codes = np.ones((8, 8), np.float32)
    codes[3, 4] = value
    with pytest.raises(
        DataError, match=rf"floats\.tif: holds {value:g}; class codes are whole numbers".replace("+", ".")
    ):
        LabelRaster(write_raster(tmp_path / "floats.tif", codes, north_up()), CHESAPEAKE).survey()


def test_declared_nodata_that_is_a_class_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    legend = Legend.from_values(
        {"name": "zero", "classes": [{"code": 0, "name": "grass"}, {"code": 1, "name": "road"}]}
    )
    codes = random_codes(0, 20, 20, (0, 1))
    with caplog.at_level(logging.WARNING):
        labels = LabelRaster(write_raster(tmp_path / "zero.tif", codes, north_up(), nodata=0), legend)
    assert "'grass'" in caplog.text
    assert labels.survey().counts == {1: int((codes == 1).sum())}
    classes, labelled = labels.read(labels.raster.window)
    np.testing.assert_array_equal(labelled, codes == 1)
    assert (classes[labelled] == 1).all()
    caplog.clear()
    undeclared = LabelRaster(write_raster(tmp_path / "class.tif", codes, north_up()), legend)
    assert not caplog.text
    assert undeclared.survey().counts[0] == (codes == 0).sum()


def test_known_classes_of_a_window_and_of_the_pixels_that_are_wanted(tmp_path: Path) -> None:
    codes = random_codes(2, 30, 40)
    codes[3, 4], codes[10, 20] = 15, 77
    path = write_raster(tmp_path / "codes.tif", codes, north_up())
    labels, window = LabelRaster(path, CHESAPEAKE), Window(2, 3, 20, 30)
    expected = codes[window.slices] - 1
    expected[1, 1] = HOLE
    with pytest.raises(LegendError, match=r"77 \(1 px\)"):
        labels.read_known(window)
    wanted = np.random.default_rng(0).random(expected.shape) < 0.5
    wanted[8, 17] = False
    np.testing.assert_array_equal(labels.read_known(window, wanted), np.where(wanted, expected, HOLE))
    expected[8, 17] = HOLE
    np.testing.assert_array_equal(LabelRaster(path, CHESAPEAKE, unknown="nodata").read_known(window), expected)


@pytest.mark.realdata
def test_real_chesapeake_labels(real_data: Path) -> None:
    labels = LabelRaster(real_data / "chesapeake_labels" / "Baywide_7class_20132014_E1300000_N1770000.tif", CHESAPEAKE)
    row, column = np.argwhere(labels.read_codes(labels.raster.window)[1][::64, ::64])[0] * 64
    window = Window(int(row), int(column), 256, 256).intersection(labels.raster.window)
    assert window is not None
    codes, valid = labels.read_codes(window)
    classes, labelled = labels.read(window)
    np.testing.assert_array_equal(labelled, valid & (codes != 15))
    np.testing.assert_array_equal(classes[labelled] + 1, codes[labelled])
