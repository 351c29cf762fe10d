"""Stores of small scenes in which each class has its own colour, and settings for the smallest trainings."""

from __future__ import annotations

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.config import SegmentSettings
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend, LegendClass
from geosynth.raster.stores.source import Scene
from geosynth.raster.stores.store import Store

BANDS = ("red", "green", "blue", "nir")
LEGEND = Legend(
    name="three",
    classes=(
        LegendClass(code=10, name="water", colour="#0000ff"),
        LegendClass(code=20, name="grass", colour="#00ff00"),
        LegendClass(code=30, name="roof", colour="#ff0000"),
    ),
    nodata=(0,),
)
SIDE, STEP = 64, 96  # of scenes, and from one to the next: they do not touch
# The encoder is one that timm has for tests: the smallest by far.
TINY = SegmentSettings(encoder="tu-test_resnet", tile_size=32, steps=3, batch_size=2, precision="fp32")
COLOURS = np.array([[30, 60, 200], [60, 200, 90], [200, 120, 40], [90, 30, 160]])  # (bands, classes)


def make_segment_store(
    path,
    *,
    train=3,
    test=3,
    colours=COLOURS,
    seed=0,
    dtype="uint8",
    hole=False,
    coarse=None,
    bands=BANDS,
    legend=LEGEND,
):
    """Scenes of 64 px in a row, `train` and then `test`; labels of 8 px patches are the same for each `seed` of noise.

    Args:
        colours: (bands, classes), or a function of the scene's number and labels to an image.
        seed: of the noise.
        hole: whether the last train and test scene have no data in a corner.
        coarse: a function of the labels to a map called "nlcd", whose nodata value is 255.
    """
    windows = [Window(0, STEP * index, SIDE, SIDE) for index in range(train + test)]
    store = blank_store(
        path,
        GeoBox((SIDE, windows[-1].right), Affine(0.6, 0, 500_000, 0, -0.6, 4_400_000), "EPSG:26917"),
        legend=legend,
        band_names=bands,
        dtype=np.dtype(dtype),
        scenes=[Scene(f"{index}.tif", window, (0, 0, 0), "", "") for index, window in enumerate(windows)],
        split=SpatialSplit.by_scenes({"train": windows[:train], "test": windows[train:]}),
        extras={} if coarse is None else {"nlcd": (np.dtype("uint8"), 255)},
        chunk_size=32,
    )
    noise = np.random.default_rng(seed)
    for index, window in enumerate(windows):
        labels = np.kron(np.random.default_rng(index).integers(0, 3, (8, 8)), np.ones((8, 8), int)).astype("uint8")
        image = colours(index, labels) if callable(colours) else colours[:, labels]
        image = image + noise.integers(-14, 15, (len(bands), SIDE, SIDE))
        if hole and index in (train - 1, train + test - 1):
            labels[:16, :16] = 3
        codes = legend.decode(labels).astype("uint8")
        store.write(window, image.astype(dtype), codes, None if coarse is None else {"nlcd": coarse(labels)})
    return Store(path)
