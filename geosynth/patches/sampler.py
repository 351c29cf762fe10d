"""Seeded patch sampling for TorchGeo datasets over stores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torchgeo.samplers import GeoSampler

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.patches.dataset import PatchDataset, Query

_TRIES = 50


class PatchSampler(GeoSampler):  # type: ignore[misc]  # torchgeo's base is untyped for mypy
    """Random patches, every position in the fold's scenes equally likely, none over nodata.

    TorchGeo's RandomGeoSampler draws the scene from torch's global random state; here the seed alone fixes the order.

    Args:
        dataset: to draw from.
        size: of a patch, pixels.
        length: patches to draw.
        seed: of the draw.

    Raises:
        DataError: if no scene is large enough, or patches without nodata cannot be found.
    """

    def __init__(self, dataset: PatchDataset, size: int, length: int, seed: int) -> None:
        self.dataset = dataset
        self.size = size
        self.length = length
        self.seed = seed
        windows = [scene.window for scene in dataset.scenes]
        positions = np.array([max(0, w.height - size + 1) * max(0, w.width - size + 1) for w in windows], dtype=float)
        if not positions.any():
            largest = max(min(window.height, window.width) for window in windows)
            raise DataError(f"no scene holds a patch of {size} px: the largest is {largest} px; choose a smaller crop")
        self._shares = positions / positions.sum()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Query]:
        for window in self.windows():
            yield self.dataset.query(window)

    def windows(self) -> Iterator[Window]:
        """The patches as pixel windows."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.length):
            yield self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Window:
        for _ in range(_TRIES):
            scene = self.dataset.scenes[int(rng.choice(len(self._shares), p=self._shares))]
            row = scene.window.row + int(rng.integers(scene.window.height - self.size + 1))
            column = scene.window.column + int(rng.integers(scene.window.width - self.size + 1))
            window = Window(row, column, self.size, self.size)
            if scene.is_complete or self._has_no_hole(window):
                return window
        raise DataError(f"{self.dataset.store.path}: {_TRIES} draws found no {self.size} px patch free of nodata")

    def _has_no_hole(self, window: Window) -> bool:
        store = self.dataset.store
        return bool((store.read_labels(window) < store.legend.num_classes).all())
