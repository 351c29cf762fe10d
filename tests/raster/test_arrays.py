"""Grids of xarray's arrays, from their coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError
from geosynth.raster.arrays import grid_of
from rasters import UTM
from strategies import few


def placed(geobox: GeoBox, dims: tuple[str, str] = ("y", "x")) -> xr.DataArray:
    """Zeros with coordinates of pixel centres."""
    affine, (height, width) = geobox.affine, geobox.shape
    places = {
        dims[0]: affine.f + affine.e * (np.arange(height) + 0.5),
        dims[1]: affine.c + affine.a * (np.arange(width) + 0.5),
    }
    array = xr.DataArray(np.zeros((height, width), np.uint8), places, dims).rio.set_spatial_dims(dims[1], dims[0])
    return array if geobox.crs is None else array.rio.write_crs(str(geobox.crs))


@few
@given(
    st.sampled_from([("y", "x"), ("northing", "easting"), ("lat", "lon"), ("Latitude", "Longitude")]),
    st.sampled_from([None, UTM]),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.tuples(st.sampled_from([0.1, 0.3, 2]), st.sampled_from([-0.7, -2, 0.5])),
    st.tuples(st.integers(-80, 70), st.integers(-60, 60)),
)
def test_the_grid_is_that_of_the_coordinates(
    dims: tuple[str, str],
    crs: str | None,
    shape: tuple[int, int],
    size: tuple[float, float],
    corner: tuple[int, int],
) -> None:
    """With latitudes and longitudes the CRS is known."""
    transform = Affine(size[0], 0, corner[0], 0, size[1], corner[1])
    found = grid_of(placed(GeoBox(shape, transform, crs), dims), "labels")
    expected = "EPSG:4326" if crs is None and dims[0].lower().startswith("lat") else crs
    assert (found.shape, found.crs) == (shape, expected)
    assert found.affine.almost_equals(transform, 1e-9)


@pytest.mark.parametrize("moved", [0.4, -0.4, 0.001, 0])
@pytest.mark.parametrize("place", [0, 3, 8])
def test_a_coordinate_out_of_line_is_refused(place: int, moved: float) -> None:
    """Of pixels of 2 m; a thousandth of a pixel is rounding."""
    array = placed(GeoBox((5, 9), Affine(2, 0, 100, 0, -2, 200), UTM))
    places = array["x"].to_numpy().copy()
    places[place] += 2 * moved
    if abs(moved) < 0.1:
        assert grid_of(array.assign_coords(x=places), "labels").affine.almost_equals(
            Affine(2, 0, 100, 0, -2, 200), 0.01
        )
        return
    with pytest.raises(GridError, match=r"^labels: uneven coordinates along 'x'"):
        grid_of(array.assign_coords(x=places), "labels")


def test_coordinates_that_do_not_change_are_no_grid() -> None:
    array = placed(GeoBox((5, 9), Affine(2, 0, 100, 0, -2, 200), UTM))
    with pytest.raises(GridError, match=r"^labels: uneven coordinates along 'y'"):
        grid_of(array.assign_coords(y=np.full(5, 7.0)), "labels")
