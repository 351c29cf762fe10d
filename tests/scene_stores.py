"""Stores of scenes for the tests of tiles and splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.progress import Progress, silent
from geosynth.raster.stores.source import FOLDS_AND_ALL, Scene
from geosynth.raster.stores.store import Store
from rasters import UTM, north_up, random_codes, random_image

BANDS = ("red", "green", "blue", "nir")


def make_scene_store(
    path: Path,
    places: Mapping[str, Window],
    *,
    split: SpatialSplit | None = None,
    codes: npt.NDArray[np.uint8] | None = None,
    transform: Affine | None = None,
    crs: str | None = UTM,
    **options: Any,
) -> Store:
    """Scenes of random imagery and blocky labels (or given ones of the whole grid); all of it train without a split."""
    height = max(place.bottom for place in places.values())
    width = max(place.right for place in places.values())
    inside = np.zeros((height, width), dtype=bool)
    for place in places.values():
        inside[place.slices] = True
    codes = np.where(inside, random_codes(3, height, width) if codes is None else codes, 15).astype(np.uint8)
    bands, change = options.pop("band_names", BANDS), options.pop("change", lambda image: image)
    image = change(random_image(3, height, width, len(bands), str(options.get("dtype", "uint8")))) * inside
    split = SpatialSplit.by_scenes({"train": list(places.values())}) if split is None else split
    scenes = [Scene(name, place, _count(codes[place.slices]), f"sha of {name}", "") for name, place in places.items()]
    store = blank_store(
        path,
        GeoBox((height, width), transform or north_up(1000, 2000), crs),
        legend=CHESAPEAKE,
        band_names=bands,
        dtype=np.dtype(options.get("dtype", "uint8")),
        scenes=scenes,
        split=split,
        quantities=options.get("quantities", ()),
        synthetic=options.get("synthetic", {}),
        chunk_size=64,
        shard_size=128,
    )
    store.write(Window(0, 0, height, width), image, codes)
    set_split(store, split)
    return Store(path)


def set_split(store: Store, split: SpatialSplit, progress: Progress = silent) -> None:
    """Write a split, and what it makes of the counts of classes."""
    counted = store.with_split(split)
    counted.class_pixels("all", progress)
    store.finish(store.scenes, split, {fold: counted.class_pixels(fold) for fold in FOLDS_AND_ALL})


def _count(codes: npt.NDArray[np.uint8]) -> tuple[int, ...]:
    return tuple(int((codes == code).sum()) for code in CHESAPEAKE.codes)
