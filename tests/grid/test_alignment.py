"""Positions on grids, against the affine arithmetic of pixel corners."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError, SettingsError
from geosynth.grid import (
    BlockPlan,
    Window,
    absolute_origin,
    block_plan,
    crop,
    ground_sampling_distance,
    offset_in,
    parse_crs,
    warn_of_pixel_size,
)
from geosynth.grid.alignment import is_nowhere, same_area, same_pixels
from geosynth.grid.crs import same_crs
from geosynth.grid.lengths import meant
from rasters import SITE
from strategies import few, geoboxes, windows

steps = st.integers(-300_000, 300_000)


def moved(geobox: GeoBox, rows: float, columns: float) -> GeoBox:
    return GeoBox(geobox.shape, geobox.affine @ Affine.translation(columns, rows), geobox.crs)


@few
@given(geoboxes(), steps, steps)
def test_offset_is_where_the_first_corner_lies(outer: GeoBox, rows: int, columns: int) -> None:
    inner = moved(outer, rows, columns)
    row, column = offset_in(outer, inner)
    assert (row, column) == (rows, columns)
    corner = np.array(outer.affine @ (column, row)) - (inner.affine.c, inner.affine.f)
    assert np.abs(corner).max() < 0.01 * abs(outer.affine.determinant) ** 0.5


@few
@given(geoboxes(), steps, steps)
def test_absolute_positions_differ_by_the_offset(outer: GeoBox, rows: int, columns: int) -> None:
    (row, column), (other_row, other_column) = absolute_origin(outer), absolute_origin(moved(outer, rows, columns))
    assert (other_row - row, other_column - column) == (rows, columns)


def test_absolute_position_counts_from_the_origin_of_the_crs() -> None:
    geobox = GeoBox((4, 4), Affine(0.5, 0, 100, 0, -0.5, 30), "EPSG:26917")
    assert absolute_origin(geobox) == (-60, 200)  # 30 m north of the origin is 60 rows above it
    south_up = GeoBox((4, 4), Affine(0.5, 0, 100, 0, 0.5, 30), "EPSG:26917")
    assert absolute_origin(south_up) == (60, 200)


@pytest.mark.parametrize("size", [0.6, 0.1, 1 / 3, 1 / 3600])
def test_rounding_does_not_move_an_absolute_position(size: float) -> None:
    for position in range(1, 10_000_000, 99_991):
        for rounding in (0, -1e-9, 1e-9):
            transform = Affine(size, 0, size * position + rounding, 0, -size, -size * position + rounding)
            assert absolute_origin(GeoBox((4, 4), transform, "EPSG:26917")) == (position, position)


def test_rounding_in_a_transform_is_no_shift() -> None:
    exact = GeoBox((256, 256), Affine(0.6, 0, 266115.6, 0, -0.6, 4303356.0), "EPSG:26917")
    rounded = GeoBox((256, 256), Affine(0.6, 0, 266115.6, 0, -0.600000000599999, 4303355.999999988), "EPSG:26917")
    assert offset_in(exact, rounded) == offset_in(rounded, exact) == (0, 0)


@pytest.mark.parametrize(("rows", "columns"), [(0.5, 0), (0, 0.5), (0.1, 0), (1001.5, -3)])
def test_a_fraction_of_a_pixel_is_refused(rows: float, columns: float) -> None:
    outer = GeoBox((8, 8), Affine(0.6, 0, 266115.6, 0, -0.6, 4303356.0), "EPSG:26917")
    with pytest.raises(GridError, match=r"^tile\.tif: .*fraction") as caught:
        offset_in(outer, moved(outer, rows, columns), "tile.tif")
    assert f"({columns % 1:.3f}, {rows % 1:.3f} px)" in str(caught.value)


@pytest.mark.parametrize(
    "linear",
    [(0.61, 0, 0, -0.6), (0.6, 0, 0, 0.6), (0.6, 0.01, 0.01, -0.6), (0.6, 0, 0, -0.6001), (-0.6, 0, 0, -0.6)],
    ids=["wider", "south-up", "rotated", "slightly taller", "mirrored"],
)
def test_other_pixels_are_refused(linear: tuple[float, float, float, float]) -> None:
    a, b, d, e = linear
    outer = GeoBox((8, 8), Affine(0.6, 0, 266115.6, 0, -0.6, 4303356.0), "EPSG:26917")
    inner = GeoBox((8, 8), Affine(a, b, 266115.6, d, e, 4303356.0), "EPSG:26917")
    with pytest.raises(GridError, match=r"^raster: pixel size or orientation") as caught:
        offset_in(outer, inner)
    shown = str(caught.value).split("orientation ")[1].split("; ")[0].split(" differs from ")
    assert shown[0] != shown[1]  # also where the difference is in the seventh digit


@pytest.mark.parametrize("turn", [0, 30, 90])
@pytest.mark.parametrize("sides", [(0.25, 1000), (1000, 0.25)])
def test_pixels_are_the_same_but_for_a_millionth_of_their_shorter_side(turn: float, sides: tuple[float, float]) -> None:
    linear = Affine.rotation(turn) @ Affine.scale(sides[0], -sides[1])
    outer = GeoBox((4, 4), linear, "EPSG:26917")
    for change, same in ((0.8e-6, True), (-0.8e-6, True), (1.2e-6, False), (-1.2e-6, False)):
        for place in (0, 1, 3, 4):
            terms = list(linear[:6])
            terms[place] += 0.25 * change
            assert same_pixels(outer, GeoBox((4, 4), Affine(*terms), "EPSG:26917")) == same


@pytest.mark.parametrize(("outer", "inner"), [("EPSG:26917", "EPSG:32617"), ("EPSG:26917", None), (None, "EPSG:26917")])
def test_another_crs_is_refused(outer: str | None, inner: str | None) -> None:
    transform = Affine(1, 0, 10, 0, -1, 20)
    with pytest.raises(GridError, match="CRS"):
        offset_in(GeoBox((4, 4), transform, outer), GeoBox((4, 4), transform, inner))


@pytest.mark.parametrize(
    "crs",
    [
        ("ESRI:102039", "EPSG:5070"),
        (CRS("EPSG:3035").to_wkt(version="WKT1_ESRI"), "EPSG:3035"),
        ("+proj=tmerc +lon_0=7 +ellps=GRS80", "+proj=tmerc +lon_0=7 +ellps=GRS80"),
        (None, None),
    ],
    ids=["twin of another authority", "as Esri writes it", "own", "none"],
)
def test_the_same_crs_under_another_name(crs: tuple[str | None, str | None]) -> None:
    transform = Affine(1, 0, 10, 0, -1, 20)
    assert offset_in(GeoBox((4, 4), transform, crs[0]), GeoBox((4, 4), transform, crs[1])) == (0, 0)


@pytest.mark.parametrize(
    "crs",
    [
        ("EPSG:26917", "EPSG:26918"),
        ("EPSG:26917", "ESRI:54009"),
        ("+proj=tmerc +lon_0=7 +ellps=GRS80", "+proj=tmerc +lon_0=9 +ellps=GRS80"),
        ("EPSG:26917", None),
        (None, "EPSG:26917"),
    ],
    ids=["zones", "authorities", "own", "the other unknown", "one unknown"],
)
def test_different_crss_are_no_names_of_one(crs: tuple[str | None, str | None]) -> None:
    one, other = (GeoBox((4, 4), Affine.identity(), name).crs for name in crs)
    assert not same_crs(one, other)
    assert same_crs(one, one)
    assert same_crs(other, other)


@pytest.mark.parametrize(
    ("transform", "crs", "metres"),
    [
        (Affine(0.6, 0, 0, 0, -0.6, 0), "EPSG:26917", 0.6),
        (Affine.rotation(30) @ Affine.scale(2, -2), "EPSG:26917", 2.0),
        (Affine(1, 0, 0, 0, -4, 0), "EPSG:26917", 2.0),
        (Affine(10, 0, 0, 0, -10, 0), "EPSG:2264", 10 * 1200 / 3937),  # US survey feet
        (Affine(1, 0, 0, 0, -1, 0), "ESRI:102039", 1.0),
        (Affine(1, 0, 0, 0, -1, 0), SITE, 1.0),
        (Affine(1, 0, 0, 0, -1, 0), 'LOCAL_CS["site",UNIT["foot",0.3048]]', 0.3048),
        (Affine(1, 0, 0, 0, -1, 0), 'LOCAL_CS["site",UNIT["unknown",1]]', None),
        (Affine(1e-5, 0, 0, 0, -1e-5, 0), "EPSG:4326", None),
        (Affine(1, 0, 0, 0, -1, 0), None, None),
    ],
)
def test_the_ground_sampling_distance_is_in_metres(transform: Affine, crs: str | None, metres: float | None) -> None:
    assert ground_sampling_distance(GeoBox((4, 4), transform, crs)) == (pytest.approx(metres) if metres else None)


@pytest.mark.parametrize(
    ("size", "plain"),
    [
        (0.600000000599999, 0.6),
        (0.5999999999, 0.6),
        (30.0000001, 30),
        (0.60000001, 0.60000001),  # 17 in a thousand million: more than rounding
        (1 / 3, 1 / 3),
        (0.1234567, 0.1234567),
    ],
)
def test_the_size_of_pixels_is_what_was_meant(size: float, plain: float) -> None:
    assert meant(size) == plain


@pytest.mark.parametrize(
    ("crs", "size", "metres", "found"),
    [
        ("EPSG:26917", 0.629, 0.6, None),
        ("EPSG:26917", 0.631, 0.6, 0.631),
        ("EPSG:26917", 0.571, 0.6, None),
        ("EPSG:26917", 0.569, 0.6, 0.569),
        ("EPSG:26917", 0.3, None, None),
        ("EPSG:2264", 2, 0.6, None),  # US survey feet
        ("EPSG:2264", 1, 0.6, 0.304801),
        ("EPSG:4326", 0.3, 0.6, None),
        (None, 0.3, 0.6, None),
    ],
)
def test_pixel_sizes_differ_by_more_than_a_twentieth(
    crs: str | None, size: float, metres: float | None, found: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_pixel_size("a.tif", GeoBox((4, 4), Affine.scale(size, -size), crs), metres, "others are of %g m")
    assert caplog.messages == ([f"a.tif: pixels of {found} m; others are of {metres} m"] if found else [])


@pytest.mark.parametrize("turned", [0, 20])
def test_both_sides_of_pixels_that_are_not_square_are_told(turned: float, caplog: pytest.LogCaptureFixture) -> None:
    geobox = GeoBox((4, 4), Affine.rotation(turned) @ Affine.scale(0.5, -2), "EPSG:26917")  # of the area of a square
    warn_of_pixel_size("a.tif", geobox, 1, "others are of %g m")
    assert caplog.messages == ["a.tif: pixels of 0.5 x 2 m; others are of 1 m"]
    caplog.clear()
    warn_of_pixel_size("a.tif", geobox, 2, "others are of %g m")
    assert caplog.messages == ["a.tif: pixels of 0.5 x 2 m; others are of 2 m"], "one side differs"


def test_a_grid_is_nowhere_without_a_crs_and_a_place() -> None:
    assert is_nowhere(GeoBox((4, 4), Affine.identity(), None))
    assert not is_nowhere(GeoBox((4, 4), Affine.translation(1, 0), None))
    assert not is_nowhere(GeoBox((4, 4), Affine.identity(), "EPSG:26917"))


@few
@given(geoboxes(), windows())
def test_a_crop_has_the_pixels_of_its_window(geobox: GeoBox, window: Window) -> None:
    part = crop(geobox, window)
    assert (part.shape, part.crs) == ((window.height, window.width), geobox.crs)
    row, column = offset_in(geobox, part)
    assert (row, column) == (window.row, window.column)


def test_blocks_of_a_grid_lie_on_its_absolute_positions() -> None:
    geobox = GeoBox((40, 70), Affine(0.5, 0, 100, 0, -0.5, 30), "EPSG:26917")
    assert block_plan(geobox, 32) == BlockPlan(height=40, width=70, origin=(-60, 200), size=32)


def test_a_crs_is_found_or_refused_in_one_line() -> None:
    assert parse_crs("EPSG:26917") == GeoBox((1, 1), Affine.identity(), "EPSG:26917").crs
    with pytest.raises(SettingsError, match=r"^CRS EPSG:0: unknown; write it as in EPSG:26917$"):
        parse_crs("EPSG:0")


def test_grids_that_differ_by_a_pixel_of_the_larger_ones_cover_the_same_area() -> None:
    grid = GeoBox((20, 40), Affine(1, 0, 500, 0, -1, 900), "EPSG:26917")

    def other(left: float = 0, top: float = 0, right: float = 40, bottom: float = 20, size: float = 1) -> GeoBox:
        shape = round((bottom - top) / size), round((right - left) / size)
        return GeoBox(shape, Affine(size, 0, 500 + left, 0, -size, 900 - top), "EPSG:26917")

    for same in (grid, other(size=2), other(size=0.5), other(right=44, size=4)):
        assert same_area(grid, same)
    for edge in ("left", -1), ("left", 1), ("top", -1), ("top", 1), ("right", 41), ("right", 39), ("bottom", 21):
        assert same_area(grid, other(**dict([edge])))
    turned = GeoBox((20, 40), grid.affine @ Affine.translation(20, 10) @ Affine.rotation(3), "EPSG:26917")
    assert not same_area(grid, GeoBox(turned.shape, turned.affine @ Affine.translation(-20, -10), turned.crs))
    for edge in ({"left": -2}, {"left": 2}, {"top": -2}, {"top": 2}, {"right": 42}, {"right": 38}, {"bottom": 22}):
        assert not same_area(grid, other(**edge))
        assert not same_area(other(**edge), grid)
    assert not same_area(grid, other(right=46, size=2))
    assert not same_area(grid, other(right=48, size=4))
    assert not same_area(grid, GeoBox(grid.shape, grid.affine, "EPSG:26918"))


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        ("EPSG:26918", "EPSG:26918"),
        ("ESRI:54009", "ESRI:54009 "),
        (CRS("ESRI:54009").to_wkt(), "ESRI:54009 "),
        (None, "none"),
        (CRS("EPSG:26918").to_wkt(), "EPSG:26918 "),
        (CRS("+proj=tmerc +lon_0=7 +ellps=GRS80").to_wkt(), 'PROJCRS["unknown"'),
    ],
)
def test_a_message_names_both_crs(crs: str | None, name: str) -> None:
    outer, inner = (GeoBox((4, 4), Affine.identity(), one) for one in ("EPSG:26917", crs))
    with pytest.raises(GridError, match="CRS") as caught:
        offset_in(outer, inner, "tile.tif")
    shown = str(caught.value)
    assert shown.startswith(f"tile.tif: CRS {name}")
    assert " differs from EPSG:26917;" in shown
    assert len(shown) < 160
