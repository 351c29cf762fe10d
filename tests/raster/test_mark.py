"""The mark of synthetic imagery: in every kind of file, read by others' readers, and only where it belongs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import zarr
from odc.geo.geobox import GeoBox
from PIL import Image

from geosynth.describe import info
from geosynth.grid import Window
from geosynth.raster.cog import CogWriter
from geosynth.raster.mark import MARK
from geosynth.raster.preview import write_preview
from geosynth.raster.stac import write_stac_item
from geosynth.raster.stores.export import export_tiles
from geosynth.raster.stores.tiles import TileView
from geosynth.raster.zarr_image import zarr_image_writer
from rasters import UTM, north_up, random_image, write_raster
from scene_stores import make_scene_store

GRID = GeoBox((60, 700), north_up(), UTM)
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PIXELS = random_image(0, 60, 700)


@pytest.fixture(params=[True, False], ids=["synthetic", "other"])
def synthetic(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def cog(path: Path, synthetic: bool) -> Path:
    tags = {"SYNTHETIC": "yes"} if synthetic else {}
    with CogWriter(path, GRID, ["red", "green", "blue", "nir"], masked=False, tags=tags) as writer:
        writer.write(Window(0, 0, 60, 700), PIXELS, np.ones((60, 700), dtype=bool))
    return path


def source_type(xmp: dict) -> str | None:
    """Of an XMP packet as Pillow parses it, by the rules of XMP."""
    return xmp.get("xmpmeta", {}).get("RDF", {}).get("Description", {}).get("DigitalSourceType")


def expected(synthetic: bool) -> str | None:
    return SYNTHETIC if synthetic else None


def test_an_image_its_copies_and_its_preview(synthetic: bool, tmp_path: Path) -> None:
    path = cog(tmp_path / "image.tif", synthetic)
    for driver in ("COG", "GTiff"):
        rasterio.shutil.copy(path, tmp_path / f"{driver}.tif", driver=driver)
    rasterio.shutil.copy(tmp_path / "COG.tif", tmp_path / "again.tif", driver="COG", compress="zstd")
    for name in ("image", "COG", "GTiff", "again"):
        with Image.open(tmp_path / f"{name}.tif") as image:
            assert source_type(image.getxmp()) == expected(synthetic), name
        assert info(tmp_path / f"{name}.tif").get("digital_source_type") == expected(synthetic)
        with rasterio.open(tmp_path / f"{name}.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(), PIXELS)
    write_preview(path, tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as image:
        image.load()
        assert source_type(image.getxmp()) == expected(synthetic)
    assert info(tmp_path / "image.png").get("digital_source_type") == expected(synthetic)


def test_a_zarr_image(synthetic: bool, tmp_path: Path) -> None:
    tags = {"SYNTHETIC": "yes"} if synthetic else {}
    with zarr_image_writer(tmp_path / "image.zarr", GRID, ["gray"], tags=tags):
        pass
    group = zarr.open_group(tmp_path / "image.zarr", mode="r")
    for node in (group, group["image"], group["ovr_2x/image"]):
        assert node.attrs.get("Iptc4xmpExt:DigitalSourceType") == expected(synthetic)
    assert info(tmp_path / "image.zarr").get("digital_source_type") == expected(synthetic)


def test_a_twin_and_its_tiles(synthetic: bool, tmp_path: Path) -> None:
    tags = {"SYNTHETIC": "yes"} if synthetic else {}
    store = make_scene_store(tmp_path / "store.zarr", {"a": Window(0, 0, 64, 64)}, synthetic=tags)
    group = zarr.open_group(tmp_path / "store.zarr", mode="r")
    for node in (group, group["image"]):
        assert node.attrs.get("Iptc4xmpExt:DigitalSourceType") == expected(synthetic)
    assert "Iptc4xmpExt:DigitalSourceType" not in group["labels"].attrs
    assert info(tmp_path / "store.zarr").get("digital_source_type") == expected(synthetic)
    export_tiles([TileView(store, "train", 64)], tmp_path / "tiles")
    (tile,) = (tmp_path / "tiles" / "image").iterdir()
    assert info(tile).get("digital_source_type") == expected(synthetic)
    (labels,) = (tmp_path / "tiles" / "labels").iterdir()
    assert "digital_source_type" not in info(labels)


def test_a_stac_item(tmp_path: Path) -> None:
    item = json.loads(write_stac_item(cog(tmp_path / "image.tif", True)).read_text())
    assert item["properties"]["Iptc4xmpExt:DigitalSourceType"] == SYNTHETIC == MARK["Iptc4xmpExt:DigitalSourceType"]


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        ('<a b="1"/>', None),
        ("<a =", None),
        ('<!DOCTYPE a [<!ENTITY x "y">]><a b="1">&x;</a>', None),
        (
            '<r xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:DigitalSourceType="http://x.org/a"/>',
            "http://x.org/a",
        ),
    ],
)
def test_packets_of_others_are_read_as_they_are(packet: str, said: str | None, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", PIXELS)
    name, _, value = packet.partition("=")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="xml:XMP", **{name: value})
    assert info(path).get("digital_source_type") == said
