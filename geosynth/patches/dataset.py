"""PatchDataset: a store as a TorchGeo GeoDataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import geopandas as gpd
import pandas as pd
import shapely
import torch
from torchgeo.datasets import GeoDataset

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.store import Scene, Store

Sample = dict[str, torch.Tensor]
Query = tuple[slice, slice, slice]

# TorchGeo indexes time as well. Land cover and imagery of a store belong together at any time.
_ALWAYS = pd.Interval(pd.Timestamp.min, pd.Timestamp.max, closed="both")


class PatchDataset(GeoDataset):  # type: ignore[misc]  # torchgeo's base is untyped for mypy
    """Patches of one fold of a store, by TorchGeo's coordinate queries or by pixel window.

    A sample holds tensors only (newer TorchGeo stacks every key):
        image: (bands, height, width) float32, raster values.
        mask: (height, width) int64, class indices; `num_classes` where there is no data.
        window: (4,) int64: row, column, height, width on the store's grid.

    Args:
        store: to read from.
        fold: "train", "val" or "test".
        transforms: applied to each sample.

    Raises:
        DataError: if the fold has no scene, or the grid is rotated (queries are boxes along the axes).
    """

    def __init__(self, store: Store, fold: str, transforms: Callable[[Sample], Sample] | None = None) -> None:
        scenes = store.scenes_in(fold)
        if not scenes:
            raise DataError(f"{store.path}: fold {fold!r} has no scenes")
        if store.geobox.affine.b or store.geobox.affine.d:
            raise DataError(f"{store.path}: the grid is rotated; patches need a grid along the axes of its CRS")
        self.store = store
        self.scenes: tuple[Scene, ...] = scenes
        self.transforms = transforms
        self.paths = store.path
        self._res = (abs(store.geobox.affine.a), abs(store.geobox.affine.e))
        self.index = gpd.GeoDataFrame(
            {"name": [scene.name for scene in scenes]},
            index=pd.IntervalIndex([_ALWAYS] * len(scenes), closed="both", name="datetime"),
            geometry=[shapely.box(*_bounds(store, scene.window)) for scene in scenes],
            crs=store.geobox.crs.to_wkt() if store.geobox.crs else None,
        )

    def __getitem__(self, query: Any) -> Sample:
        """The patch at (x slice, y slice[, time slice]) in CRS units, snapped to whole pixels.

        Raises:
            IndexError: if the query lies outside the store.
        """
        x, y = (query, slice(None))[:2] if isinstance(query, slice) else (*query, slice(None))[:2]
        return self.patch(self._window(x, y))

    def patch(self, window: Window) -> Sample:
        """The patch at a pixel window of the store's grid."""
        sample = {
            "image": torch.from_numpy(self.store.read_image(window)).float(),
            "mask": torch.from_numpy(self.store.read_labels(window)).long(),
            "window": torch.tensor([window.row, window.column, window.height, window.width]),
        }
        return self.transforms(sample) if self.transforms else sample

    def query(self, window: Window) -> Query:
        """The coordinate query of a pixel window; `dataset[dataset.query(w)]` is `dataset.patch(w)`."""
        left, bottom, right, top = _bounds(self.store, window)
        return slice(left, right), slice(bottom, top), slice(_ALWAYS.left, _ALWAYS.right)

    def _window(self, x: slice, y: slice) -> Window:
        bounds = self.bounds
        x = slice(*(bounds[0].start if x.start is None else x.start, bounds[0].stop if x.stop is None else x.stop))
        y = slice(*(bounds[1].start if y.start is None else y.start, bounds[1].stop if y.stop is None else y.stop))
        affine = self.store.geobox.affine
        column = round((x.start - affine.c) / affine.a)
        row = round(((y.stop if affine.e < 0 else y.start) - affine.f) / affine.e)
        window = Window(
            row,
            column,
            max(1, round((y.stop - y.start) / self.res[1])),
            max(1, round((x.stop - x.start) / self.res[0])),
        )
        height, width = self.store.geobox.shape
        if not Window(0, 0, height, width).contains(window):
            raise IndexError(f"query {(x, y)} lies outside the store with bounds {bounds}")
        return window


def _bounds(store: Store, window: Window) -> tuple[float, float, float, float]:
    """Left, bottom, right, top in CRS units."""
    affine = store.geobox.affine
    corners: Sequence[tuple[float, float]] = (
        affine * (window.column, window.row),
        affine * (window.right, window.bottom),
    )
    (x0, y0), (x1, y1) = corners
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
