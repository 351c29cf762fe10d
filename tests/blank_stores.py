"""Empty stores, to be filled by tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

import numpy as np
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend
from geosynth.raster.stores.layout import CHUNK_SIZE, SHARD_SIZE
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.stores.store import Store


@dataclass(eq=False)
class BlankSource(PatchSource):
    """What a store is created from, without pixels."""

    geobox: GeoBox
    legend: Legend
    band_names: tuple[str, ...]
    dtype: np.dtype[Any]
    scenes: tuple[Scene, ...]
    split: SpatialSplit
    quantities: tuple[Quantity, ...] = ()
    extras: Mapping[str, tuple[np.dtype[Any], float]] = field(default_factory=dict)
    synthetic: Mapping[str, str] = field(default_factory=dict)

    path = "blank"
    chunk_size = CHUNK_SIZE

    def read(self, window: Window) -> Never:
        raise NotImplementedError

    def read_labels(self, window: Window) -> Never:
        raise NotImplementedError


def blank_store(
    path: Path,
    geobox: GeoBox,
    *,
    legend: Legend,
    band_names: Sequence[str],
    dtype: Any,
    scenes: Sequence[Scene],
    split: SpatialSplit,
    chunk_size: int = CHUNK_SIZE,
    shard_size: int = SHARD_SIZE,
    **others: Any,
) -> Store:
    """An empty store with these scenes; `others` are quantities, extras and marks, see `PatchSource`."""
    source = BlankSource(geobox, legend, tuple(band_names), np.dtype(dtype), tuple(scenes), split, **others)
    return Store.create(path, source, chunk_size=chunk_size, shard_size=shard_size)
