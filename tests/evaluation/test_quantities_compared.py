"""Imagery that tells scale and offset: its NDVI is of reflectances, and other scales are not compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from evaluation_scenes import WriteScene, blobs, textured
from twin_stores import SIDE, folds, images_of, scene_codes, write_store

from geosynth.config import BandSettings, SegmentSettings
from geosynth.config.bands import Quantity
from geosynth.errors import DataError
from geosynth.evaluation.consistency import Consistency
from geosynth.evaluation.evaluate import evaluate
from geosynth.evaluation.report import Report
from geosynth.evaluation.tiles import RasterTiles
from geosynth.legend import Legend
from geosynth.segmentation.segmenter import Segmenter, SegmenterCard

RGBN = ("red", "green", "blue", "nir")
MEANT = Quantity(scale=0.5, offset=-512.0)  # of bytes that are stored as `stored` does; without rounding
OTHER = MEANT.model_copy(update={"offset": 0.0})
LINE = r"band red holds values x 0\.5, but values x 0\.5 - 512 in .*; write what the values of both mean"
OPTIONS: dict[str, Any] = {"features": False, "tile_size": 32}


def stored(image: np.ndarray) -> np.ndarray:
    return 2 * image.astype(np.uint16) + 1024


def tell(path: Path, quantity: Quantity) -> Path:
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = [quantity.scale] * file.count, [quantity.offset] * file.count
    return path


def ndvi(report: Report) -> list[Any]:
    assert report.headline.ndvi_wasserstein.value
    return [report.headline.ndvi_wasserstein, *(entry.ndvi for entry in report.classes)]


@pytest.fixture
def bytes_() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = blobs(rng, 96, 224)
    return {"labels": codes, "real": textured(rng, codes), "synthetic": textured(rng, codes) // 2 + 40}


def test_ndvi_of_stores_is_of_what_their_values_mean(tmp_path: Path, legend: Legend) -> None:
    codes, split = scene_codes(0, 3), folds(3, 0)
    real = images_of(1, codes)
    images = {"real": real, "synthetic": ((real // 2 + 40) * (codes > 0)).astype(np.uint8)}

    def compared(folder: Path, change: Any, quantities: tuple[Quantity, ...]) -> Report:
        folder.mkdir()
        stores = {name: write_store(folder / name, codes, change(image), split) for name, image in images.items()}
        for store in stores.values():
            store.quantities = quantities
        return evaluate(data=stores["real"], synthetic=[stores["synthetic"]], **(OPTIONS | {"tile_size": SIDE}))

    wanted = compared(tmp_path / "bytes", lambda image: image, ())
    found = compared(tmp_path / "words", stored, (MEANT,) * 4)
    assert ndvi(found) == ndvi(wanted)
    assert ndvi(found) != ndvi(compared(tmp_path / "untold", stored, ()))


def test_a_target_and_a_segmenter_of_another_scale_are_refused(
    bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend, tmp_path: Path
) -> None:
    words = {name: stored(bytes_[name]) for name in ("real", "synthetic")}
    paths = {name: write_scene(f"{name}.tif", one, bands=RGBN[: len(one)]) for name, one in (bytes_ | words).items()}
    tell(paths["real"], MEANT)
    tell(paths["synthetic"], MEANT)
    target = tell(write_scene("target.tif", words["real"], bands=RGBN), OTHER)
    with pytest.raises(DataError, match=r"target\.tif: " + LINE):
        evaluate(**paths, legend=legend, tile_size=32, target=target)
    bands = BandSettings(names=RGBN, low=1024, high=1534, dtype="uint16", quantities=(OTHER,) * 4)
    card = SegmenterCard(settings=SegmentSettings(), legend=legend, bands=bands, gsd=None)
    segmenter = Segmenter(torch.nn.Identity(), card, tmp_path / "model")
    pair = RasterTiles(paths["real"], paths["synthetic"], paths["labels"], legend, legend, None, 32)
    with pytest.raises(DataError, match=r"the real imagery: band red holds values x 0\.5 - 512, but values x 0\.5 in "):
        Consistency(pair, segmenter)
