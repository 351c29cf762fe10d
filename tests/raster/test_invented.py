"""Rasters that nobody has thought of: what is read of them, and painted on them, lies where they do, or is one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.errors import NodataShadowWarning

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import GeosynthError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.raster_file import RasterFile, open_raster

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "uint64", "int64", "complex64")
CUSTOM = "+proj=laea +lat_0=52 +lon_0=10 +x_0=1234567 +y_0=7654321 +ellps=GRS80 +units=us-ft +no_defs"
MOON = "+proj=eqc +lat_ts=0 +lat_0=0 +lon_0=0 +x_0=0 +y_0=0 +R=1737400 +units=m +no_defs"
SYSTEMS: dict[str | None, tuple[float, ...]] = {  # and sizes of pixels
    None: (1.0, 0.5),
    "EPSG:26917": (0.6, 30.0, 1 / 3),
    "EPSG:4326": (1 / 3600, 1e-6),
    "EPSG:2248": (1.0, 2.0),
    CUSTOM: (3.0,),
    MOON: (100.0,),
}


class Invented(NamedTuple):
    """A raster to write."""

    values: np.ndarray  # (bands, height, width)
    transform: Affine | None
    profile: dict[str, Any]
    mask: np.ndarray | None  # (height, width), or none
    tags: dict[str, str]

    def write(self, path: Path) -> Path:
        count, height, width = self.values.shape
        shape = {"count": count, "height": height, "width": width, "dtype": self.values.dtype}
        placed = {} if self.transform is None else {"transform": self.transform}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=self.profile["crs"] != CUSTOM),  # else a side file
            rasterio.open(path, "w", driver="GTiff", **shape, **placed, **self.profile) as dataset,
        ):
            dataset.write(self.values)
            dataset.update_tags(**self.tags)
            if self.mask is not None:
                dataset.write_mask(self.mask)
        return path


@st.composite
def invented(draw: st.DrawFn, codes: tuple[int, ...] = ()) -> Invented:
    """Any raster; with codes, one band of them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    height, width = (draw(st.sampled_from([1, 2, 3, 17, 33, 70])) for _ in range(2))
    count = 1 if codes else draw(st.sampled_from([1, 1, 2, 3, 4, 5]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.choice([*codes] or [0, 1, 2, 7, 99, 100], (count, height, width)).astype(dtype)
    nodata: float | None = draw(st.sampled_from([None, None, 0, 99, -9999.0, np.nan, np.inf]))
    if dtype.kind == "f":
        values[rng.random(values.shape) < draw(st.sampled_from([0, 0.2]))] = np.nan
    if nodata is not None and (dtype.kind == "c" or not np.can_cast(np.min_scalar_type(nodata), dtype)):
        nodata = None
    crs = draw(st.sampled_from(list(SYSTEMS)))
    size = draw(st.sampled_from(SYSTEMS[crs]))
    linear = Affine.rotation(draw(st.sampled_from([0, 0, 0, 30, -90, 180]))) @ Affine.scale(
        size * draw(st.sampled_from([1, 1, 1.5, -1])), size * draw(st.sampled_from([-1, 1]))
    )
    place = Affine.translation(draw(st.sampled_from([0, -70.25, 40])), draw(st.sampled_from([0, 40.1])))
    transform = draw(st.sampled_from([place @ linear, place @ linear, None]))
    profile: dict[str, Any] = {"crs": crs, "nodata": nodata, "photometric": "minisblack"}
    if draw(st.booleans()):
        profile |= {"tiled": True, "blockxsize": 16, "blockysize": draw(st.sampled_from([16, 64]))}
    profile["compress"] = draw(st.sampled_from([None, "deflate", "lzw"]))
    profile["interleave"] = draw(st.sampled_from(["pixel", "band"]))
    if count > 1:
        profile["alpha"] = draw(st.sampled_from(["no", "yes"]))
    mask = rng.random((height, width)) < 0.7 if draw(st.integers(0, 3)) == 0 else None
    tags = draw(st.sampled_from([{}, {"AREA_OR_POINT": "Point"}, {"TIFFTAG_ARTIST": "José"}]))
    return Invented(values, transform, profile, mask, tags)


def _expected_mask(path: Path, raster: RasterFile) -> np.ndarray:
    """Where rasterio says that there is data, some band is not nodata, and values are finite."""
    with warnings.catch_warnings(), rasterio.open(path) as dataset:
        warnings.simplefilter("ignore", NodataShadowWarning)
        values = dataset.read()
        is_alpha_read = raster.mask_kind == "alpha" and ColorInterp.alpha in dataset.colorinterp
        valid = np.ones(dataset.shape, bool) if is_alpha_read else dataset.dataset_mask() != 0
        if dataset.nodata is not None:
            valid &= (values != dataset.nodata).any(axis=0)
    return valid & np.isfinite(values).all(axis=0)


def _one_line(attempt: Callable[[], Any]) -> Any:
    """What an attempt gives; None if it is refused as it should be."""
    try:
        return attempt()
    except GeosynthError as error:
        lines = str(error).splitlines()
    assert len(lines) == 1
    return None


@settings(max_examples=60)
@given(invented(), st.data())
def test_what_is_read_lies_where_it_does(tmp_path_factory: pytest.TempPathFactory, raster: Invented, data: Any) -> None:
    path = raster.write(tmp_path_factory.mktemp("invented") / "a.tif")
    found = _one_line(lambda: open_raster(path))
    if found is None:
        return
    with rasterio.open(path) as dataset:
        assert found.geobox.affine == dataset.transform
        assert found.geobox.shape == dataset.shape
        assert (found.geobox.crs is None) == (dataset.crs is None)  # which is a local one for points without a CRS
        stored = dataset.read()
    height, width = found.geobox.shape
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(row, column, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - column)))
    values, valid = found.read(window)
    np.testing.assert_array_equal(values, stored[:, *window.slices])
    np.testing.assert_array_equal(valid, _expected_mask(path, found)[window.slices])
    assert geosynth.info(path)["height"] == height


@settings(max_examples=8)
@given(invented(codes=CHESAPEAKE.codes[:3]))
def test_what_is_painted_lies_there_too(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: GeneratorModel, raster: Invented
) -> None:
    folder = tmp_path_factory.mktemp("painted")
    path = raster.write(folder / "labels.tif")
    painting = GenerateSettings(precision="fp32", block_size=128)
    image = _one_line(lambda: geosynth.generate(path, folder / "image.tif", tiny_model, painting))
    if image is None:
        assert sorted(file.name for file in folder.glob("image*")) == []
        return
    labels = open_raster(path)
    with rasterio.open(path) as source, rasterio.open(image) as painted:
        assert painted.shape == source.shape
        assert painted.transform == source.transform
        assert painted.crs == source.crs
        assert painted.tags().get("AREA_OR_POINT") == source.tags().get("AREA_OR_POINT")
        np.testing.assert_array_equal(painted.dataset_mask() != 0, _expected_mask(path, labels))
        assert (painted.read()[:, ~_expected_mask(path, labels)] == 0).all()
