"""info: each kind of data is known for what it is, on the disk and behind a URL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac.extensions.mlm
import pystac.validation
import pytest
import yaml
import zarr
from odc.geo.geobox import GeoBox
from stac_model.schema import MLModelProperties

import geosynth
from geosynth.checkpoint import GeneratorModel, save_generator
from geosynth.config.bands import Quantity
from geosynth.errors import CheckpointError, RasterError, SettingsError
from geosynth.grid import Window
from geosynth.inputs import sha256_of
from geosynth.legend import CHESAPEAKE
from geosynth.raster.images import open_image
from geosynth.raster.label_files import open_labels
from geosynth.raster.stores.export import export_tiles
from geosynth.raster.stores.tiles import TileView
from geosynth.raster.zarr import ZarrRaster
from geosynth.raster.zarr_image import zarr_image_writer
from range_server import RangeServer
from rasters import UTM, north_up, random_codes, random_image, write_class_table, write_raster
from scene_stores import make_scene_store

SIDE = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, an image in Zarr, a GeoTIFF, and a Zarr group of somebody else's."""
    folder = tmp_path_factory.mktemp("data")
    make_scene_store(folder / "store.zarr", {"a": Window(0, 0, SIDE, SIDE)})
    make_scene_store(folder / "store", {"a": Window(0, 0, SIDE, SIDE)})
    pixels = random_image(1, SIDE, SIDE, bands=3)
    grid = GeoBox((SIDE, SIDE), north_up(), UTM)
    with zarr_image_writer(folder / "image.zarr", grid, ["red", "green", "blue"], tags={"SYNTHETIC": "yes"}) as copy:
        copy(lambda window: (pixels[:, *window.slices], np.ones((window.height, window.width), bool)))
    write_raster(folder / "image.tif", pixels, north_up())
    write_raster(folder / "labels.tif", random_codes(1, SIDE, SIDE), north_up())
    zarr.open_group(folder / "other.zarr", mode="w").create_array("values", shape=(3,), dtype="int8")
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    pytest.importorskip("aiohttp")
    for name in ("http_proxy", "https_proxy", "all_proxy", "GDAL_HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "*")
    # rasterio keeps the interpreter while GDAL looks for side files, so that this process cannot answer.
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
    with RangeServer(folder).running() as running:
        yield running


KINDS = {"store.zarr": "store", "store": "store", "image.zarr": "zarr image", "image.tif": "raster"}


def without_place(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "path"}


@pytest.mark.parametrize("name", KINDS)
def test_what_lies_behind_a_url_is_what_lies_on_the_disk(folder: Path, server: RangeServer, name: str) -> None:
    local, remote = geosynth.info(folder / name), geosynth.info(f"{server.url}/{name}")
    assert local["kind"] == KINDS[name]
    assert remote["path"] == f"{server.url}/{name}"
    assert without_place(remote) == without_place(local)


def test_nobody_looks_for_zarr_behind_the_url_of_a_geotiff(server: RangeServer) -> None:
    geosynth.info(f"{server.url}/image.tif?token=x")
    assert not [path for _, path, _, _ in server.requests if "zarr" in path or ".zgroup" in path]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("absent.zarr", "not a Zarr group"),
        ("absent.tif", "cannot be opened as a raster"),
        ("absent", "cannot be opened as a raster"),
        ("other.zarr", "not a geosynth store; make one with `geosynth ingest`"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(server: RangeServer, name: str, line: str) -> None:
    with pytest.raises(RasterError, match=f"^{server.url}/{name}: {line}") as caught:
        geosynth.info(f"{server.url}/{name}")
    assert "\n" not in str(caught.value)


def test_labels_of_a_remote_store(folder: Path, server: RangeServer) -> None:
    remote, local = open_labels(f"{server.url}/store.zarr"), open_labels(folder / "store.zarr")
    for own, expected in zip(remote.read(remote.window), local.read(local.window), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_data_in_place(folder: Path) -> None:
    description: dict[str, Any] = {"images": "image.tif", "labels": "labels.tif", "bands": ["blue", "green", "red"]}
    description |= {"split": {"shares": [1, 0, 0]}}
    (folder / "data.yaml").write_text(yaml.safe_dump(description))
    values = geosynth.info(folder / "data.yaml")
    assert values["kind"] == "data in place"
    (grid,) = values["grids"]
    assert grid["bands"] == ["blue", "green", "red"]
    assert (grid["crs"], grid["height"], grid["width"]) == (UTM, SIDE, SIDE)
    assert sum(fold["scenes"] for fold in grid["folds"].values()) == 1


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        (UTM, UTM),
        ("ESRI:54009", "ESRI:54009"),
        ("+proj=tmerc +lon_0=7 +ellps=GRS80", 'PROJCRS["unknown",'),
        (None, None),
    ],
)
def test_all_kinds_of_data_call_a_crs_the_same(tmp_path: Path, crs: str | None, name: str | None) -> None:
    pixels = random_image(1, SIDE, SIDE, bands=1)
    write_raster(tmp_path / "image.tif", pixels, north_up(), crs=crs)
    with zarr_image_writer(tmp_path / "image.zarr", GeoBox((SIDE, SIDE), north_up(), crs), ["red"], tags={}) as copy:
        copy(lambda window: (pixels[:, *window.slices], np.ones((window.height, window.width), bool)))
    make_scene_store(tmp_path / "store.zarr", {"a": Window(0, 0, SIDE, SIDE)}, crs=crs)
    told = [geosynth.info(tmp_path / one)["crs"] for one in ("image.tif", "image.zarr", "store.zarr")]
    told.append(ZarrRaster(tmp_path / "store.zarr", "labels").describe()["crs"])
    assert [one and one[: len(name)] for one in told] == [name] * 4  # of WKT the beginning


@pytest.mark.parametrize("names", [True, False])
def test_the_class_table_of_labels(tmp_path: Path, names: bool) -> None:
    path = tmp_path / "labels.tif"
    write_raster(path, random_codes(1, SIDE, SIDE), north_up(), crs=UTM)
    assert "classes" not in geosynth.info(path)
    write_class_table(path, CHESAPEAKE)
    if not names:  # beside the file: without it, black roads are as the entries that nobody set
        path.with_name("labels.tif.aux.xml").unlink()
    told = [{"code": each.code, "name": each.name, "colour": each.colour.lower()} for each in CHESAPEAKE.classes]
    assert geosynth.info(path)["classes"] == (told if names else [each | {"name": None} for each in told[:-1]])


def test_reports_and_stac_items_are_shown(tmp_path: Path, run: Any) -> None:
    model = geosynth.info()["path"]
    contents: dict[str, dict[str, Any]] = {
        "STAC item": geosynth.info(model, stac=True),
        "report of evaluate": {"software": "geosynth 1", "headline": {"wasserstein": {"value": 3.5}}},
        "report of segment": {"miou": 0.5, "confusion": [[1, 2], [3, 4]]},
        "report of study": {"sweep": "replace", "cells": []},
    }
    for kind, values in contents.items():
        path = tmp_path / "what.json"
        path.write_text(json.dumps(values))
        assert geosynth.info(path) == {"kind": kind, "path": str(path), **values}
        with pytest.raises(SettingsError, match=f"a {kind} has no checksums"):
            geosynth.info(path, verify=True)
        inside = tmp_path / kind / ("results.json" if kind == "report of study" else "report.json")
        inside.parent.mkdir()
        path.replace(inside)
        assert geosynth.info(inside.parent) == {"kind": kind, "path": str(inside), **values}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert "it is a vector file" in run("info", path).err
    path.write_text("{")
    assert run("info", path).err.startswith(f"error: {path}: cannot be read as JSON: ")


def test_a_folder_of_tiles(folder: Path, tmp_path: Path) -> None:
    out = export_tiles(TileView(geosynth.open_store(folder / "store.zarr"), "train", 32, 32), tmp_path / "tiles")
    values = geosynth.info(out)
    assert (values["kind"], values["path"]) == ("folder of tiles", str(out / "export.json"))
    assert values["tiles"] == len(list((out / "image").iterdir())) > 0
    (own,) = values["sets"]
    assert (own["fold"], own["size"], own["stride"]) == ("train", 32, 32)
    assert geosynth.info(out / "export.json") == values
    with pytest.raises(SettingsError, match="a folder of tiles has no checksums"):
        geosynth.info(out, verify=True)


def test_a_folder_of_other_software_is_not_taken_for_a_report(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("[1, 2]")
    with pytest.raises(RasterError, match=r"a folder, but not a geosynth store; name one of .* \(report\.json\), or"):
        geosynth.info(tmp_path)


def test_folders_and_foreign_groups_are_refused(folder: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty.zarr").mkdir()
    for name, held in ((folder, r".*image\.tif, .*"), (empty, "nothing")):
        told = rf"a folder, but not a geosynth store; name one of what it holds \({held}\), or make a store"
        with pytest.raises(RasterError, match=told):
            geosynth.info(name)
    with pytest.raises(RasterError, match=r"empty\.zarr: .*; copy the whole store again"):
        open_image(empty)
    with pytest.raises(RasterError, match="not a geosynth store; make one"):
        geosynth.info(folder / "other.zarr")


def stac_item(path: Path) -> dict[str, Any]:
    """As `info` writes it: valid by STAC's core schema and by stac-model, which has the MLM extension's rules."""
    item = json.loads(json.dumps(geosynth.info(path, stac=True), allow_nan=False))
    validator = pystac.validation.JsonSchemaSTACValidator()
    validator.validate_core(item, pystac.STACObjectType.ITEM, item["stac_version"])
    MLModelProperties.model_validate(item["properties"])
    assert item["assets"]["model"]["roles"][0] == "mlm:model"
    assert item["assets"]["model"]["href"] == f"./{path.name}"
    assert item["assets"]["model"]["file:checksum"] == f"1220{sha256_of(path)}"
    read = pystac.extensions.mlm.ItemMLMExtension(pystac.Item.from_dict(item))
    assert read.total_parameters > 0
    assert (read.framework, read.accelerator) == ("PyTorch", None)
    return item


def test_a_model_as_a_stac_item(tiny_model: GeneratorModel) -> None:
    item = stac_item(tiny_model.path)
    properties = item["properties"]
    (labels,), (image,) = properties["mlm:input"], properties["mlm:output"]
    assert properties["mlm:tasks"] == image["tasks"] == ["generative"]
    assert labels["input"]["dim_order"] == ["batch", "height", "width"]
    assert (
        image["bands"] == [band["name"] for band in item["assets"]["model"]["bands"]] == ["red", "green", "blue", "nir"]
    )
    assert (labels["input"]["shape"], image["result"]["shape"]) == ([-1, -1, -1], [-1, 4, -1, -1])
    assert image["classification:classes"] == []
    assert (properties["mlm:architecture"], properties["mlm:pretrained"]) == ("SPADE", True)
    assert properties["description"] == "Synthetic imagery from land-cover labels."
    assert properties["gsd"] == tiny_model.card.gsd
    assert properties["title"] == properties["mlm:name"] == f"geosynth {tiny_model.path.stem}"
    assert None not in properties["mlm:hyperparameters"].values()
    legend = tiny_model.card.legend
    told = {
        entry["value"]: (entry["description"], f"#{entry['color_hint']}")
        for entry in properties["classification:classes"]
    }
    assert told == {entry.code: (entry.name, entry.colour.upper()) for entry in legend.classes}
    assert all(re.fullmatch("[0-9A-Za-z-_]+", entry["name"]) for entry in properties["classification:classes"])
    assert properties["mlm:hyperparameters"]["base_width"] == tiny_model.card.settings.base_width


def test_the_item_of_a_model_tells_what_values_mean(tmp_path: Path, tiny_model: GeneratorModel) -> None:
    """As STAC's raster extension has it; of bands of which nothing is known it says nothing."""
    path, card = tmp_path / "model.safetensors", tiny_model.card
    meant = Quantity(scale=0.0001, offset=-0.1, unit="reflectance"), Quantity(scale=0.0001), Quantity(), Quantity()
    bands = card.bands.with_quantities(meant)
    save_generator(path, tiny_model.generator, card.model_copy(update={"bands": bands}))
    item = stac_item(path)
    assert item["assets"]["model"]["bands"] == [
        {"name": "red", "data_type": "uint8", "raster:scale": 0.0001, "raster:offset": -0.1, "unit": "reflectance"},
        {"name": "green", "data_type": "uint8", "raster:scale": 0.0001},
        {"name": "blue", "data_type": "uint8"},
        {"name": "nir", "data_type": "uint8"},
    ]
    assert "https://stac-extensions.github.io/raster/v2.0.0/schema.json" in item["stac_extensions"]
    assert not [name for name in stac_item(tiny_model.path)["stac_extensions"] if "raster" in name]


def test_only_models_are_such_items(folder: Path) -> None:
    for name in ("store.zarr", "image.tif"):
        with pytest.raises(CheckpointError, match=f"{name}: a .*; only models and segmenters have such items"):
            geosynth.info(folder / name, stac=True)
