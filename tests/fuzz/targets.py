"""What is fuzzed: files that users bring, and the reading of each as the verbs do it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import rasterio
import torch
import yaml
from odc.geo.geobox import GeoBox

from geosynth.checkpoint import load_generator
from geosynth.config import SegmentSettings
from geosynth.config.bands import BandSettings
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.loop import Checkpoint
from geosynth.raster.labels import LabelRaster
from geosynth.raster.raster_file import open_raster
from geosynth.raster.read import Raster
from geosynth.raster.stores.item_list import read_items
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.store import Store
from geosynth.segmentation.segmenter import SegmenterCard, load_segmenter, save_segmenter
from geosynth.segmentation.unet import build_unet
from rasters import NORTH_UP, UTM_18N, random_codes, random_image, write_class_table, write_raster
from scene_stores import make_scene_store
from tiny_models import write_tiny_model

SIDE = 96
GRID = GeoBox((SIDE, SIDE), NORTH_UP, UTM_18N)
COG = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", "crs": UTM_18N}
_LARGE = 1 << 24  # pixels that are not all read: a mutated header may well be that of a large, empty raster


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    write: Callable[[Path], Path]
    """Makes a good one in a folder, and gives its path: a file, or a folder of which one file is mutated at a time."""
    read: Callable[[Path], object]
    """Reads it; raises a GeosynthError if it is damaged."""
    mutate: str = "*"
    """Of a folder: the files that are mutated."""


def _image(folder: Path) -> Path:
    return write_raster(folder / "image.tif", random_image(0, SIDE, SIDE), NORTH_UP, nodata=0, **COG)


def _labels(folder: Path) -> Path:
    return write_raster(folder / "labels.tif", random_codes(0, SIDE, SIDE), NORTH_UP, nodata=15, **COG)


def _labels_with_table(folder: Path) -> Path:
    place = folder / "labels"
    write_class_table(_labels(place), CHESAPEAKE)
    return place


def _read_image(path: Path) -> None:
    raster = open_raster(path)
    raster.describe()
    _read_all(raster)


def _read_labels(path: Path) -> None:
    labels = LabelRaster(path, CHESAPEAKE, unknown="nodata")
    assert labels.raster.class_table is not None
    _read_all(labels.raster)


def _read_all(raster: Raster) -> None:
    """In windows; the grid is what GDAL says it is."""
    with rasterio.open(raster.path) as dataset:
        assert raster.geobox.shape == dataset.shape
        assert raster.geobox.transform == dataset.transform
        assert (raster.geobox.crs is None) == (dataset.crs is None)
        assert dataset.crs is None or raster.geobox.crs.proj.equals(dataset.crs)
    height, width = raster.geobox.shape
    if raster.count * height * width <= _LARGE:
        values, valid = raster.read(raster.window)
        assert values.shape == (raster.count, height, width)
        assert valid.shape == (height, width)
    else:
        raster.read(Window(height - 1, width - 1, 1, 1))


def _read_store(path: Path) -> None:
    store = Store(path)
    store.describe()
    for scene in store.scenes:
        store.read(scene.window)
    list(open_sources(path))


def _store(folder: Path) -> Path:
    places = {"a.tif": Window(0, 0, 60, 70), "b.tif": Window(60, 80, 70, 60)}
    split = SpatialSplit.by_scenes({"train": [places["a.tif"]], "test": [places["b.tif"]]})
    return Path(make_scene_store(folder / "store.zarr", places, split=split).path)


def _generator(folder: Path) -> Path:
    return write_tiny_model(folder / "generator.safetensors")


def _segmenter(folder: Path) -> Path:
    settings = SegmentSettings(encoder="tu-test_resnet", tile_size=32)
    bands = BandSettings(names=("red", "green", "blue", "nir"))
    card = SegmenterCard(settings=settings, legend=CHESAPEAKE, bands=bands, gsd=1.0)
    save_segmenter(folder / "segmenter.safetensors", build_unet(settings.encoder, 4, 6), card)
    return folder / "segmenter.safetensors"


def _checkpoint(folder: Path) -> Path:
    network = {"weight": torch.ones(3)}
    Checkpoint({"settings": {"steps": 1}, "data": {}}, 1, 2.0, network, {"a": [1, {"b": None}]}).save(folder / "x.ckpt")
    return folder / "x.ckpt"


def _legend(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        values = CHESAPEAKE.model_dump(mode="json")
        text = json.dumps(values) if name.endswith("json.yaml") else yaml.safe_dump(values)
        (folder / name).write_text(text)
        return folder / name

    return write


ROWS = [
    {"image": "a.tif", "labels": "b.tif", "name": "one", "fold": "train", "date": "2018-07-01"},
    {"image": "sub/c%20d.tif", "labels": "file:///e.tif", "name": "two", "fold": "test", "date": "2020-07-01"},
]


def _items(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / f"items{suffix}"
        table = pd.DataFrame(ROWS)
        if suffix == ".csv":
            table.to_csv(path, index=False)
        elif suffix == ".parquet":
            table.to_parquet(path)
        else:
            features = [{"type": "Feature", "geometry": None, "properties": row} for row in ROWS]
            path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path

    return write


def _stac(folder: Path) -> Path:
    items = [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": row["name"],
            "geometry": {"type": "Point", "coordinates": [-76.3, 38.9]},
            "properties": {"datetime": f"{row['date']}T00:00:00Z", "fold": row["fold"]},
            "assets": {"image": {"href": row["image"]}, "labels": {"href": row["labels"]}},
            "links": [],
        }
        for row in ROWS
    ]
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return folder / "items.json"


def _split(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        windows = [Window(0, 0, 40, SIDE), Window(48, 0, 40, SIDE)]
        SpatialSplit.by_scenes({"train": windows[:1], "test": windows[1:]}).save(folder / f"split{suffix}", GRID)
        return folder / f"split{suffix}"

    return write


def _read_split(path: Path) -> SpatialSplit:
    return SpatialSplit.load(path, GRID, [Window(0, 0, SIDE, SIDE)])


def _in_place(folder: Path) -> Path:
    place = folder / "in place"
    _image(place).rename(place / "a_image.tif")
    _labels(place).rename(place / "a_labels.tif")
    description = {
        "images": "*_image.tif",
        "labels": "*_labels.tif",
        "bands": ["red", "green", "blue", "nir"],
        "legend": "chesapeake",
        "split": {"blocks": 32, "shares": [0.4, 0.3, 0.3], "buffer": "4px", "seed": 1},
    }
    (place / "data.yaml").write_text(json.dumps(description))
    return place


TARGETS: Mapping[str, Target] = {
    "label COG": Target(_labels, _read_labels),
    "image COG": Target(_image, _read_image),
    "class table": Target(_labels_with_table, lambda place: _read_labels(place / "labels.tif"), "*.xml"),
    "Zarr metadata": Target(_store, _read_store, "zarr.json"),
    "Zarr shards": Target(_store, _read_store, "[0-9]*"),
    "generator": Target(_generator, load_generator),
    "segmenter": Target(_segmenter, load_segmenter),
    "checkpoint": Target(_checkpoint, Checkpoint.load),
    "legend": Target(_legend("legend.yaml"), Legend.load),
    "legend's values": Target(_legend("legend.json.yaml"), Legend.load),
    "items in CSV": Target(_items(".csv"), read_items),
    "items in GeoJSON": Target(_items(".geojson"), read_items),
    "items in Parquet": Target(_items(".parquet"), read_items),
    "STAC items": Target(_stac, read_items),
    "split in GeoJSON": Target(_split(".geojson"), _read_split),
    "split in GeoPackage": Target(_split(".gpkg"), _read_split),
    "split in GeoParquet": Target(_split(".parquet"), _read_split),
    "data in place": Target(_in_place, lambda place: list(open_sources(place / "data.yaml")), "data.yaml"),
}
