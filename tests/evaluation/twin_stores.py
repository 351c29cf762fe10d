"""Small stores and twins for the evaluation tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from evaluation_scenes import blobs, small_legend, textured
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend
from geosynth.raster.stores.source import Scene
from geosynth.raster.stores.store import Store
from scene_stores import set_split

RGBN = ("red", "green", "blue", "nir")
SIDE, GAP = 64, 16


def places(count: int) -> list[Window]:
    """Scenes of 64 px in one row, which do not touch."""
    return [Window(0, number * (SIDE + GAP), SIDE, SIDE) for number in range(count)]


def folds(num_test: int, num_train: int) -> SpatialSplit:
    """The first scenes are test, the others train."""
    windows = places(num_test + num_train)
    return SpatialSplit.by_scenes({"test": windows[:num_test], "train": windows[num_test:]})


def scene_codes(seed: int, count: int) -> npt.NDArray[np.uint8]:
    """(64, width) codes of `small_legend`; 0 between the scenes."""
    codes = np.zeros((SIDE, count * (SIDE + GAP) - GAP), dtype=np.uint8)
    rng = np.random.default_rng(seed)
    for window in places(count):
        codes[window.slices] = blobs(rng, SIDE, SIDE)[0]
    return codes


def write_store(
    path: Path,
    codes: npt.NDArray[np.uint8],
    image: npt.NDArray[Any],
    split: SpatialSplit,
    *,
    bands: Sequence[str] = RGBN,
    legend: Legend | None = None,
    column: int = 0,
) -> Store:
    """One scene for each of `places` in the codes; labels of 0 where there is no image."""
    legend = small_legend() if legend is None else legend
    windows = places(-(-codes.shape[1] // (SIDE + GAP)))
    counts = [tuple(int((codes[window.slices] == code).sum()) for code in legend.codes) for window in windows]
    store = blank_store(
        path,
        GeoBox(codes.shape, Affine(1, 0, 500_000 + column, 0, -1, 4_500_000), "EPSG:32618"),
        legend=legend,
        band_names=bands,
        dtype=image.dtype,
        scenes=[
            Scene(f"scene{number}.tif", window, pixels, f"i{number}", f"l{number}")
            for number, (window, pixels) in enumerate(zip(windows, counts, strict=True))
        ],
        split=split,
        chunk_size=64,
        shard_size=64,
    )
    store.write(Window(0, 0, *codes.shape), image, codes)
    set_split(store, split)
    return Store(path)


def images_of(seed: int, codes: npt.NDArray[np.uint8], bands: int = 4) -> npt.NDArray[np.uint8]:
    """(bands, height, width): noise around a mean of each class; 0 without a class."""
    return textured(np.random.default_rng(seed), codes[None], bands) * (codes > 0)
