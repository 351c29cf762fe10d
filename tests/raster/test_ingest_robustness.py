"""Every odd file, given as image and as labels, ends in a right store or in one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from geosynth.errors import GeosynthError
from geosynth.legend import Legend
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.store import Store
from rasters import write_raster

pytestmark = pytest.mark.realdata

FOLDER = Path(os.environ.get("GEOSYNTH_DATA", Path(__file__).parents[3] / "shared" / "data")) / "robustness"
FILES = sorted(
    str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.suffix in (".tif", ".vrt") and path.is_file()
)
# What cannot be used, and the word that says why.
CANNOT_BE_OPENED = {
    "odc_geo/au-gcp.tif": "control points",
    "rasterio/RGB.byte.gcp.vrt": "control points",
    "rasterio/RGB.byte.rpc.vrt": "RPCs",
    "rasterio/compdcs.vrt": "control points",
    "rasterio/white-gemini-iv.vrt": "control points",
}
NOT_INGESTED = {"rasterio/corrupt.tif": "cannot read", "rasterio/float.tif": "imagery of float64"}
LABELS = Legend.from_values(
    {"name": "any", "nodata": [255], "classes": [{"code": code, "name": str(code)} for code in range(254)]}
)


def names(count: int) -> list[str]:
    return [f"band{number}" for number in range(count)]


def test_there_are_files(real_data: Path) -> None:
    assert len(FILES) >= 36


@pytest.mark.parametrize("name", FILES)
def test_as_image(real_data: Path, tmp_path: Path, name: str) -> None:
    path = FOLDER / name
    if name in CANNOT_BE_OPENED:
        with pytest.raises(GeosynthError, match=CANNOT_BE_OPENED[name]) as caught:
            ingest(path, path, tmp_path / "out", bands=names(3))
        check_line(caught.value, name)
        return
    raster = open_raster(path)
    with rasterio.open(path) as source:
        geobox = GeoBox(source.shape, source.transform, source.crs.to_wkt() if source.crs else None)
        profile = {"transform": source.transform, "crs": source.crs}
    codes = (np.arange(geobox.shape[0])[:, None] // 7 + np.arange(geobox.shape[1]) // 5) % 6 + 1
    labels = write_raster(tmp_path / "labels.tif", codes.astype(np.uint8), **profile)
    if name in NOT_INGESTED:
        with pytest.raises(GeosynthError, match=NOT_INGESTED[name]) as caught:
            ingest(path, labels, tmp_path / "out", bands=names(raster.count), shares=(1, 0, 0))
        check_line(caught.value, name)
        return
    (store,) = ingest(path, labels, tmp_path / "out", bands=names(raster.count), shares=(1, 0, 0))
    check_grid(store, path)
    with rasterio.open(path) as source:
        wanted = source.read()
        valid = np.ones(source.shape, bool)
        if "alpha" not in [band.name for band in source.colorinterp]:  # bands were named: alpha is data then
            valid = source.dataset_mask() != 0
        if wanted.dtype.kind == "f":
            valid &= ~np.isnan(wanted).any(axis=0)
    has_class = store.labels[:] != 15
    np.testing.assert_array_equal(has_class, valid)
    np.testing.assert_array_equal(store.image[:][:, valid], wanted[:, valid])
    assert store.dtype == wanted.dtype
    assert sum(store.class_pixels("train")) == valid.sum()


@pytest.mark.parametrize("name", FILES)
def test_as_labels(real_data: Path, tmp_path: Path, name: str) -> None:
    path = FOLDER / name
    try:
        with rasterio.open(path) as source:
            shape, transform, crs = source.shape, source.transform, source.crs
            usable = source.count == 1 and np.issubdtype(source.dtypes[0], np.integer) and not source.gcps[0]
            wanted = source.read(1) if usable else None
            valid = source.dataset_mask() != 0 if usable else None
    except rasterio.errors.RasterioError:
        shape, transform, crs, usable = (9, 9), None, None, False
    image = np.arange(3 * shape[0] * shape[1]).reshape(3, *shape).astype(np.uint8)
    profile = {"crs": crs} if transform is None else {"crs": crs, "transform": transform}
    write_raster(tmp_path / "image.tif", image, photometric="rgb", **profile)

    def run() -> list[Store]:
        return ingest(tmp_path / "image.tif", path, tmp_path / "out", legend=LABELS, shares=(1, 0, 0))

    codes = set(np.unique(wanted[valid]).tolist()) if usable else set()
    if not codes & set(LABELS.codes) or not codes <= {*LABELS.codes, *LABELS.nodata}:
        with pytest.raises(GeosynthError) as caught:
            run()
        check_line(caught.value, name)
        assert not list(tmp_path.glob("out*"))
        return
    (store,) = run()
    check_grid(store, path)
    np.testing.assert_array_equal(store.labels[:], np.where(valid, wanted, 255))
    np.testing.assert_array_equal(store.image[:], image)


def check_line(error: GeosynthError, name: str) -> None:
    assert "\n" not in str(error)
    assert Path(name).name in str(error)


def check_grid(store: Store, path: Path) -> None:
    with rasterio.open(path) as source:
        assert store.geobox.shape == source.shape
        assert store.geobox.affine.almost_equals(source.transform, 1e-9)
        assert (store.geobox.crs is None) == (source.crs is None)
        if source.crs:
            assert rasterio.crs.CRS.from_wkt(store.geobox.crs.to_wkt()) == source.crs
