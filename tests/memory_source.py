"""A PatchSource in memory: the fake of what patches are read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.source import PatchSource, Scene
from rasters import UTM, north_up, random_codes, random_image


class MemorySource(PatchSource):
    """Scenes of random values; `holes` takes some labels away, `nothing` all of them. Counts reads of labels.

    The image's first band holds the row, its second the column, both modulo 251.
    """

    chunk_size = 8
    path = "memory"

    def __init__(
        self,
        shape: tuple[int, int],
        scenes: Sequence[Window],
        split: SpatialSplit,
        *,
        seed: int = 0,
        holes: bool = False,
        nothing: bool = False,
        dtype: str = "uint8",
        codes: np.ndarray | None = None,
    ) -> None:
        self.legend = CHESAPEAKE
        self.geobox = GeoBox(shape, north_up(), UTM)
        self.band_names = ("red", "green", "blue", "nir")
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.image = random_image(seed, *shape, dtype=dtype)
        self.image[0], self.image[1] = np.indices(shape) % 251
        given = random_codes(seed, *shape) if codes is None else codes
        self.labels = self.legend.encode(given)
        self.rarest = int(np.argmin(np.bincount(self.labels.ravel(), minlength=self.legend.num_classes)))
        if holes:
            for row, column in np.random.default_rng(seed).integers(0, shape, (3, 2)):
                self.labels[row : row + 4, column : column + 7] = self.legend.num_classes
        if nothing:
            self.labels[:] = self.legend.num_classes
        self.split = split
        self.scenes = tuple(
            Scene(str(number), window, self._counts(window), "", "") for number, window in enumerate(scenes)
        )
        self.reads = 0

    def _counts(self, window: Window) -> tuple[int, ...]:
        counts = np.bincount(self.labels[window.slices].ravel(), minlength=self.legend.num_classes + 1)
        return tuple(counts[:-1].tolist())

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        self.reads += 1
        return self.image[(slice(None), *window.slices)], self.labels[window.slices]

    def read_labels(self, window: Window) -> np.ndarray:
        self.reads += 1
        return self.labels[window.slices]
