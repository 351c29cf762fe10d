"""PatchDataset: a store as a TorchGeo GeoDataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch
import torch.nn.functional as F
from torchgeo.datasets import GeoDataset

from geosynth.errors import DataError, GridError
from geosynth.grid import Window
from geosynth.raster.store import Scene, Store

Sample = dict[str, torch.Tensor]
Query = tuple[slice, slice, slice]

# TorchGeo indexes time as well. Land cover and imagery of a store belong together at any time.
_ALWAYS = pd.Interval(pd.Timestamp.min, pd.Timestamp.max, closed="both")


class PatchDataset(GeoDataset):  # type: ignore[misc]  # torchgeo's base is untyped for mypy
    """Patches of one fold of a store, by TorchGeo's coordinate queries or by pixel window.

    A sample holds tensors only (newer TorchGeo stacks every key):
        image: (bands, height, width) float32, raster values; 0 outside the fold's scenes.
        mask: (height, width) int64, class indices; `num_classes` where there is no data, and outside the fold's scenes,
            so that a patch that reaches over a scene's edge shows nothing of another fold.
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
        windows = [scene.window for scene in scenes]
        self._edges = np.array([(window.row, window.column, window.bottom, window.right) for window in windows])
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
            IndexError: if the query holds no pixel of the store.
        """
        x, y, _ = self._disambiguate_slice(query)  # fills what is left open with the bounds
        return self.patch(self._window(x, y))

    def patch(self, window: Window) -> Sample:
        """The patch at a pixel window of the store's grid; it may reach beyond the grid.

        Raises:
            IndexError: if it holds no pixel of the store.
        """
        height, width = self.store.geobox.shape
        inside = window.intersection(Window(0, 0, height, width))
        if inside is None:
            raise IndexError(f"{self.store.path}: {window} lie outside its {height} x {width} px")
        image = torch.from_numpy(self.store.read_image(inside)).float()
        mask = torch.from_numpy(self.store.read_labels(inside)).long()
        foreign = self._foreign(window)
        if foreign is not None:
            left, right = inside.column - window.column, window.right - inside.right
            sides = (left, right, inside.row - window.row, window.bottom - inside.bottom)
            mask, image = F.pad(mask, sides), F.pad(image, sides)
            mask[foreign], image[:, foreign] = self.store.legend.num_classes, 0
        place = torch.tensor([window.row, window.column, window.height, window.width])
        sample = {"image": image, "mask": mask, "window": place}
        return self.transforms(sample) if self.transforms else sample

    def _foreign(self, window: Window) -> torch.Tensor | None:
        """(height, width): pixels in no scene of this fold; None if one scene holds the whole window."""
        top, left, bottom, right = self._edges.T
        if ((top <= window.row) & (left <= window.column) & (bottom >= window.bottom) & (right >= window.right)).any():
            return None
        foreign = torch.ones(window.height, window.width, dtype=torch.bool)
        near = (top < window.bottom) & (left < window.right) & (bottom > window.row) & (right > window.column)
        for edges in self._edges[near] - np.array([window.row, window.column] * 2):
            rows, columns = np.clip(edges[::2], 0, window.height), np.clip(edges[1::2], 0, window.width)
            foreign[slice(*rows), slice(*columns)] = False
        return foreign

    def query(self, window: Window) -> Query:
        """The coordinate query of a pixel window; `dataset[dataset.query(w)]` is `dataset.patch(w)`."""
        left, bottom, right, top = _bounds(self.store, window)
        return slice(left, right), slice(bottom, top), slice(_ALWAYS.left, _ALWAYS.right)

    @property
    def crs(self) -> Any:
        """The store's CRS; None if it has none."""
        return self.index.crs

    @crs.setter
    def crs(self, new_crs: Any) -> None:
        """Refuse another CRS, into which TorchGeo would move the index only: patches keep the store's pixels."""
        if new_crs != self.crs:
            raise GridError(
                f"{self.store.path}: patches are not reprojected; put this dataset first, as in store & other"
            )

    @property
    def res(self) -> tuple[float, float]:
        """Pixel width and height in CRS units."""
        return self._res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        """Refuse another pixel size, likewise."""
        if not np.allclose(new_res, self._res, rtol=1e-6, atol=0):
            raise GridError(
                f"{self.store.path}: patches are not resampled; put this dataset first, as in store & other"
            )

    def _window(self, x: slice, y: slice) -> Window:
        affine = self.store.geobox.affine
        column = round(((x.stop if affine.a < 0 else x.start) - affine.c) / affine.a)
        row = round(((y.stop if affine.e < 0 else y.start) - affine.f) / affine.e)
        height, width = (
            round((axis.stop - axis.start) / side) for axis, side in zip((y, x), self.res[::-1], strict=True)
        )
        return Window(row, column, max(1, height), max(1, width))


def _bounds(store: Store, window: Window) -> tuple[float, float, float, float]:
    """Left, bottom, right, top in CRS units."""
    affine = store.geobox.affine
    corners: Sequence[tuple[float, float]] = (
        affine * (window.column, window.row),
        affine * (window.right, window.bottom),
    )
    (x0, y0), (x1, y1) = corners
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
