"""Positions on grids, against the affine arithmetic of pixel corners."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError
from geosynth.grid import absolute_origin, ground_sampling_distance, offset_in
from strategies import few, geoboxes

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


@pytest.mark.parametrize(("rows", "columns"), [(0.5, 0), (0, 0.5), (0.1, 0), (1000.5, -3)])
def test_a_fraction_of_a_pixel_is_refused(rows: float, columns: float) -> None:
    outer = GeoBox((8, 8), Affine(0.6, 0, 266115.6, 0, -0.6, 4303356.0), "EPSG:26917")
    with pytest.raises(GridError, match=r"^tile\.tif: .*fraction"):
        offset_in(outer, moved(outer, rows, columns), "tile.tif")


@pytest.mark.parametrize(
    "linear",
    [(0.61, 0, 0, -0.6), (0.6, 0, 0, 0.6), (0.6, 0.01, 0.01, -0.6), (0.6, 0, 0, -0.6001), (-0.6, 0, 0, -0.6)],
    ids=["wider", "south-up", "rotated", "slightly taller", "mirrored"],
)
def test_other_pixels_are_refused(linear: tuple[float, float, float, float]) -> None:
    a, b, d, e = linear
    outer = GeoBox((8, 8), Affine(0.6, 0, 266115.6, 0, -0.6, 4303356.0), "EPSG:26917")
    inner = GeoBox((8, 8), Affine(a, b, 266115.6, d, e, 4303356.0), "EPSG:26917")
    with pytest.raises(GridError, match="pixel size or orientation") as caught:
        offset_in(outer, inner)
    shown = str(caught.value).split("orientation ")[1].split("; ")[0].split(" differs from ")
    assert shown[0] != shown[1]  # also where the difference is in the seventh digit


@pytest.mark.parametrize(("outer", "inner"), [("EPSG:26917", "EPSG:32617"), ("EPSG:26917", None), (None, "EPSG:26917")])
def test_another_crs_is_refused(outer: str | None, inner: str | None) -> None:
    transform = Affine(1, 0, 10, 0, -1, 20)
    with pytest.raises(GridError, match="CRS"):
        offset_in(GeoBox((4, 4), transform, outer), GeoBox((4, 4), transform, inner))


@pytest.mark.parametrize("crs", [("ESRI:102039", "EPSG:5070"), (None, None)], ids=["twin of another authority", "none"])
def test_the_same_crs_under_another_name(crs: tuple[str | None, str | None]) -> None:
    transform = Affine(1, 0, 10, 0, -1, 20)
    assert offset_in(GeoBox((4, 4), transform, crs[0]), GeoBox((4, 4), transform, crs[1])) == (0, 0)


@pytest.mark.parametrize(
    ("transform", "crs", "metres"),
    [
        (Affine(0.6, 0, 0, 0, -0.6, 0), "EPSG:26917", 0.6),
        (Affine.rotation(30) @ Affine.scale(2, -2), "EPSG:26917", 2.0),
        (Affine(1, 0, 0, 0, -4, 0), "EPSG:26917", 2.0),
        (Affine(10, 0, 0, 0, -10, 0), "EPSG:2264", 10 * 1200 / 3937),  # US survey feet
        (Affine(1, 0, 0, 0, -1, 0), "ESRI:102039", 1.0),
        (Affine(1e-5, 0, 0, 0, -1e-5, 0), "EPSG:4326", None),
        (Affine(1, 0, 0, 0, -1, 0), None, None),
    ],
)
def test_the_ground_sampling_distance_is_in_metres(transform: Affine, crs: str | None, metres: float | None) -> None:
    assert ground_sampling_distance(GeoBox((4, 4), transform, crs)) == (pytest.approx(metres) if metres else None)
