"""Tiles with coarse labels, for label super-resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geosynth.errors import DataError, SettingsError
from geosynth.grid import Window
from geosynth.models.super_resolution import CoarseShares, estimate_shares
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.segmentation.data import Array, SegmentData, TileSet


@dataclass(frozen=True)
class CoarseTiles(Sequence[tuple[Array, npt.NDArray[np.uint8]]]):
    """Tiles as (image (bands, N, N), coarse classes (N, N)), and what the fine tiles say of the coarse classes.

    Attributes:
        tiles: of the images.
        name: of the coarse map in the store.
        values: of the map, in the order of coarse class indices; other values are no class, `len(values)`.
        shares: of the fine classes under each coarse one.
    """

    tiles: TileSet
    name: str
    values: npt.NDArray[Any]
    shares: CoarseShares

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, index: Any) -> Any:
        source, window = self.tiles.places[index]
        return self.tiles[index][0], _encode(_read(source, window, self.name), self.values)


def coarse_tiles(data: SegmentData, name: str, crop_size: int | None) -> CoarseTiles:
    """Measure, on the real tiles, which share each fine class has under each coarse one.

    Args:
        data: with `coarse` tiles.
        name: of the coarse map.
        crop_size: side of what a step sees of a tile; None for the whole: between such places shares vary.

    Raises:
        SettingsError: if the data is no store, or has no such map.
        DataError: if the map has no value, or more than 255, on the coarse tiles.
        RasterError: if it cannot be read.
    """
    assert data.coarse is not None
    found: set[Any] = set()
    for source, window in data.coarse.places:
        found |= set(np.unique(_read(source, window, name)).tolist()) - {_nodata(source, name)}
    values = np.array(sorted(value for value in found if value == value))  # NaN is no class
    if not 0 < len(values) < 256:
        raise DataError(f"{data.sources[0].path}: map {name!r} has {len(values)} values on the coarse tiles; 1 to 255")
    real = range(data.num_real)
    coarse = np.stack([_encode(_read(*data.train.places[index], name), values) for index in real])
    fine = np.stack([data.train[index][1] for index in real])
    num_fine = data.sources[0].legend.num_classes
    shares = estimate_shares(torch.from_numpy(coarse).long(), torch.from_numpy(fine), len(values), num_fine, crop_size)
    return CoarseTiles(data.coarse, name, values, shares)


def _read(source: PatchSource, window: Window, name: str) -> Array:
    if not isinstance(source, Store):
        raise SettingsError(f"{source.path}: coarse maps need a store; ingest the data with --extra {name}")
    return source.read_extra(name, window)


def _nodata(source: PatchSource, name: str) -> Any:
    assert isinstance(source, Store)
    return source.blank_extras(Window(0, 0, 1, 1))[name].item()


def _encode(raw: Array, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    place = np.minimum(np.searchsorted(values, raw), len(values) - 1)
    return np.where(values[place] == raw, place, len(values)).astype(np.uint8)
