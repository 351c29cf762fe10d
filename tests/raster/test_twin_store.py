"""check_twin: what is not a twin of a store is refused in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.errors import DataError
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.stores.alike import check_twin
from rasters import UTM, north_up


@dataclass(frozen=True)
class Facts:
    """What `check_twin` asks of a source."""

    path: str
    geobox: GeoBox
    band_names: tuple[str, ...]
    dtype: np.dtype
    legend: Legend
    quantities: tuple[Quantity, ...] = ()


REAL = Facts(
    "real.zarr",
    GeoBox((64, 96), north_up(1000, 2000), UTM),
    ("red", "green", "blue"),
    np.dtype("uint8"),
    CHESAPEAKE,
)
TWIN = replace(REAL, path="twin.zarr")
STRANGERS = {
    "grid": (
        {"geobox": GeoBox((64, 96), north_up(1000, 2000) @ Affine.translation(3, 0), UTM)},
        "its grid is not that of real",
    ),
    "size": ({"geobox": GeoBox((64, 97), north_up(1000, 2000), UTM)}, "its grid is not that of real"),
    "bands": ({"band_names": ("blue", "green", "red")}, r"its bands \(blue, green, red\) differ from those of real"),
    "dtype": ({"dtype": np.dtype("uint16")}, r"its pixel values \(uint16\) differ from those of real.zarr \(uint8\)"),
    "classes": (
        {"legend": CHESAPEAKE.model_copy(update={"classes": CHESAPEAKE.classes[::-1]})},
        rf"its classes \({re.escape(CHESAPEAKE.names[-1])}, ",
    ),
}


def test_a_twin_passes():
    check_twin(TWIN, REAL)


@pytest.mark.parametrize("case", STRANGERS)
def test_what_is_no_twin_is_refused_in_one_line(case):
    changes, said = STRANGERS[case]
    with pytest.raises(DataError, match=said) as caught:
        check_twin(replace(TWIN, **changes), REAL)
    assert str(caught.value).startswith("twin.zarr: ")
    assert "\n" not in str(caught.value)
