"""Small stores for the tests of patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.source import Scene
from geosynth.raster.stores.store import Store
from rasters import UTM, north_up, random_codes, random_image

HEIGHT, WIDTH = 120, 150
NO_CLASS = CHESAPEAKE.num_classes

# Two train scenes of different size; a test scene three pixels right of the first.
SCENES = {
    "a": (Window(10, 20, 40, 50), "train"),
    "b": (Window(70, 5, 30, 30), "train"),
    "c": (Window(10, 73, 40, 60), "test"),
}


def make_store(path: Path, transform: Affine | None = None, crs: str | None = UTM, holes: bool = False) -> Store:
    """Fill the whole grid, between the scenes too; with `holes`, a part of scene "a" has no labels."""
    image, codes = random_image(7, HEIGHT, WIDTH), random_codes(7, HEIGHT, WIDTH)
    if holes:
        codes[20:30, 30:40] = 15
    store = blank_store(
        path,
        GeoBox((HEIGHT, WIDTH), transform or north_up(1000, 2000), crs),
        legend=CHESAPEAKE,
        band_names=("red", "green", "blue", "nir"),
        dtype=np.dtype("uint8"),
        scenes=[
            Scene(
                name,
                window,
                tuple(int((codes[window.slices] == code).sum()) for code in CHESAPEAKE.codes),
                "",
                "",
            )
            for name, (window, _) in SCENES.items()
        ],
        split=SpatialSplit.by_scenes(
            {fold: [window for window, own in SCENES.values() if own == fold] for fold in ("train", "test")}
        ),
        chunk_size=64,
    )
    for row in range(0, HEIGHT, 64):
        for column in range(0, WIDTH, 64):
            window = Window(row, column, min(64, HEIGHT - row), min(64, WIDTH - column))
            store.write(window, image[(slice(None), *window.slices)], codes[window.slices])
    return Store(path)
