"""STAC items: the core schema, where they say an image lies, and odc-stac, which must load the very pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import pystac.validation
import pytest
import rasterio
import rasterio.transform
import shapely
import shapely.geometry
from affine import Affine
from pystac.extensions.projection import ProjectionExtension
from rasterio.crs import CRS
from rasterio.warp import transform as reproject_points

import geosynth
from geosynth.errors import GridError
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stac import check_can_be_item, item_path, write_stac_item
from rasters import draw_labels, random_image, write_raster

GRIDS: dict[str, tuple[str, Affine]] = {
    "utm": ("EPSG:26917", Affine(1, 0, 384517, 0, -1, 4310393)),
    "albers": ("ESRI:102039", Affine(1, 0, 1299999.162482, 0, -1, 1780000.890292)),
    "no authority": ("+proj=lcc +lat_1=33 +lat_2=45 +lat_0=23 +lon_0=-96 +datum=NAD83", Affine(5, 0, 1e6, 0, -5, 2e6)),
    "degrees": ("EPSG:4326", Affine(1e-5, 0, -76.5, 0, -1e-5, 38.9)),
}
ROTATED = Affine.translation(384517, 4310393) @ Affine.rotation(30) @ Affine.scale(1, -1)


def image(path: Path, crs: str, transform: Affine) -> tuple[Path, np.ndarray]:
    values = random_image(0, 70, 90)
    write_raster(path, values, transform, crs=CRS.from_user_input(crs), photometric="rgb", alpha="no")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "green", "blue", "nir")
        dataset.update_tags(SYNTHETIC="yes", GEOSYNTH_SEED="5", GEOSYNTH_MODEL="tiny.safetensors")
        dataset.statistics(1, approx=False)
    return path, values


def load(path: Path) -> tuple[dict[str, Any], pystac.Item]:
    """The document, and the item as pystac reads it, valid by the core schema (which pystac brings along)."""
    values = json.loads(path.read_text())
    item = pystac.Item.from_file(str(path))
    validator = pystac.validation.JsonSchemaSTACValidator()
    validator.validate_core(values, pystac.STACObjectType.ITEM, values["stac_version"])
    return values, item


@pytest.mark.parametrize("grid", GRIDS)
def test_odc_stac_loads_the_pixels(tmp_path: Path, grid: str) -> None:
    path, values = image(tmp_path / "image.tif", *GRIDS[grid])
    _, item = load(write_stac_item(path))
    loaded = odc.stac.load([item], bands=["red", "green", "blue", "nir"]).isel(time=0)
    with rasterio.open(path) as dataset:
        assert loaded.odc.geobox.crs == dataset.crs.to_wkt()
        assert loaded.odc.geobox.affine.almost_equals(dataset.transform, 1e-6)
    for name, band in zip(("red", "green", "blue", "nir"), values, strict=True):
        np.testing.assert_array_equal(loaded[name].values, band)


@pytest.mark.parametrize(("crs", "transform"), [*GRIDS.values(), ("EPSG:26918", ROTATED)])
def test_where_the_image_lies(tmp_path: Path, crs: str, transform: Affine) -> None:
    path, values = image(tmp_path / "image.tif", crs, transform)
    document, item = load(write_stac_item(path))
    height, width = values.shape[1:]
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    longitudes, latitudes = reproject_points(CRS.from_user_input(crs), "EPSG:4326", *zip(*corners, strict=True))
    west, south, east, north = document["bbox"]
    assert (west, east) == pytest.approx((min(longitudes), max(longitudes)), abs=1e-5)
    assert (south, north) == pytest.approx((min(latitudes), max(latitudes)), abs=1e-5)
    ring = np.array(document["geometry"]["coordinates"][0])
    for corner in zip(longitudes, latitudes, strict=True):
        assert np.abs(ring - corner).max(axis=1).min() < 1e-8, "each corner is a point of the outline"
    projection = ProjectionExtension.ext(item)
    assert projection.shape == [height, width]
    assert Affine(*projection.transform[:6]) == transform


def test_nobody_takes_it_for_an_observation(tmp_path: Path) -> None:
    path, _ = image(tmp_path / "image.tif", *GRIDS["utm"])
    (tmp_path / "image.png").write_bytes(b"")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    written = write_stac_item(path, tmp_path / "image.png")
    assert written == item_path(path) == tmp_path / "image.json"
    document, item = load(written)
    properties = document["properties"]
    assert properties["geosynth:synthetic"] is True
    assert "not an observation" in properties["description"]
    assert properties["geosynth:seed"] == "5"
    assert properties["geosynth:model"] == "tiny.safetensors"
    assert properties["gsd"] == 1
    assert properties["datetime"] == "2023-11-14T22:13:20Z"
    assert {asset.href for asset in item.assets.values()} == {"./image.tif", "./image.png"}
    bands = document["assets"]["image"]["eo:bands"]
    assert [band["common_name"] for band in bands] == ["red", "green", "blue", "nir"]
    statistics = document["assets"]["image"]["raster:bands"][0]["statistics"]
    with rasterio.open(path) as dataset:
        assert statistics["mean"] == pytest.approx(dataset.read(1).mean())
    before = written.read_bytes()
    assert write_stac_item(path, tmp_path / "image.png").read_bytes() == before


def test_without_crs_there_is_no_item(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "nowhere.tif", random_image(0, 9, 9), GRIDS["utm"][1], crs=None)
    with pytest.raises(GridError, match=r"nowhere\.tif: has no CRS"):
        check_can_be_item(open_raster(path))


PLACES: dict[str, tuple[str, Affine, list[float]]] = {
    "across the antimeridian": (
        "EPSG:32760",
        Affine(2000, 0, 800000, 0, -2000, 8000000),
        [179.83, -19.3, -178.4, -18.0],
    ),
    "degrees beyond 180": ("EPSG:4326", Affine(0.02, 0, 179, 0, -0.02, 10), [179, 8.6, -179.2, 10]),
    "around the south pole": ("EPSG:3031", Affine(20000, 0, -9e5, 0, -20000, 7e5), [-180, -90, 180, -79.5]),
    "around the north pole": ("EPSG:3995", Affine(20000, 0, -9e5, 0, -20000, 7e5), [-180, 79.5, 180, 90]),
}


@pytest.mark.parametrize("place", PLACES)
def test_items_across_the_antimeridian_and_poles(place: str, tmp_path: Path) -> None:
    crs, transform, expected = PLACES[place]
    path, _ = image(tmp_path / "image.tif", crs, transform)
    check_can_be_item(open_raster(path))
    values, _ = load(write_stac_item(path))
    np.testing.assert_allclose(values["bbox"], expected, atol=0.4)
    shape = shapely.geometry.shape(values["geometry"])
    assert shape.is_valid
    assert (shape.bounds[0] >= -180, shape.bounds[2] <= 180) == (True, True)
    with rasterio.open(path) as dataset:
        rows, columns = np.mgrid[2:68:11, 2:88:14]
        xs, ys = rasterio.transform.xy(dataset.transform, rows.ravel(), columns.ravel())
        places = reproject_points(dataset.crs, "EPSG:4326", xs, ys)
    assert all(shape.contains(shapely.Point((x + 180) % 360 - 180, y)) for x, y in zip(*places, strict=True))


@pytest.mark.parametrize("crs", ["IAU_2015:49900", 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_what_lies_nowhere_on_earth_is_refused_before_work(crs: str, tmp_path: Path, tiny_model: Any) -> None:
    labels = write_raster(
        tmp_path / "labels.tif", draw_labels(32, 32), Affine(1, 0, 0, 0, -1, 0), crs=CRS.from_user_input(crs)
    )
    with pytest.raises(GridError, match="needs longitudes and latitudes on Earth"):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, stac=True)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".aux.xml")] == ["labels.tif"]
