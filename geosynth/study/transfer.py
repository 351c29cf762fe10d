"""What arms of a transfer are trained on: parts of sources, and the source's imagery with the target's histogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.grid import SpatialSplit, Window
from geosynth.grid.split import FOLDS
from geosynth.raster.read import Array, Mask
from geosynth.raster.stores.painted import Painted
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.data import Tile

MATCHED_TYPES = (np.uint8, np.uint16, np.int16)
"""Types of imagery whose histograms can be matched."""


def keep_tiles(store: Store, fold: str, tiles: Sequence[Tile]) -> Store:
    """The store with a fold that consists only of the tiles; other pixels of it are in no fold. Nothing is copied.

    A patch may cross the border between touching tiles.
    """
    kept = SpatialSplit.by_scenes({fold: [tile.window for tile in tiles]}).area(fold)
    train, val, test = (kept if name == fold else store.split.area(name) for name in FOLDS)
    return store.with_split(SpatialSplit((train, val, test), store.split.buffer))


def only(source: PatchSource, fold: str) -> PatchSource:
    """The source with only one fold; pixels of the others are in no fold. Nothing is copied."""
    nothing = SpatialSplit.by_scenes({}).area(fold)
    train, val, test = (source.split.area(name) if name == fold else nothing for name in FOLDS)
    return source.with_split(SpatialSplit((train, val, test), source.split.buffer))


def matched(source: PatchSource, target: PatchSource, fold: str, tile_size: int) -> PatchSource:
    """The scenes and labels of a source, with values of each band changed to have the distribution of the target's.

    Histogram matching (Gonzalez and Woods, Digital Image Processing): each value becomes the value that the same share
    of the target's pixels does not exceed. In both, all pixels with a class in whole tiles of the fold count.

    Args:
        source: to change; its type is one of `MATCHED_TYPES`.
        target: to match; with the same bands and type.
        fold: of both, in which pixels are counted.
        tile_size: in pixels.

    Raises:
        DataError: if there are no tiles to count in.
    """
    here, there = (_histograms(one, fold, tile_size) for one in (source, target))
    limits = np.iinfo(source.dtype)
    tables = []
    for own, wanted in zip(here.cumsum(1), there.cumsum(1), strict=True):
        places = np.searchsorted(wanted / wanted[-1], own / own[-1] - 1e-12)
        tables.append(np.minimum(places, len(wanted) - 1) + limits.min)
    table = np.stack(tables).astype(source.dtype)

    def paint(window: Window) -> tuple[Array, Mask]:
        pixels, _ = source.read(window)
        values = pixels.astype(np.int64) - limits.min
        changed = np.stack([row[band] for row, band in zip(table, values, strict=True)])
        return changed, np.ones(changed.shape[1:], bool)

    found = Painted(source, paint, {"GEOSYNTH_MATCHED": target.digest(fold)})
    found.synthetic = {}  # it is real imagery
    return found


def _histograms(source: PatchSource, fold: str, tile_size: int) -> npt.NDArray[np.int64]:
    """Histograms of pixels with a class, (bands, values)."""
    limits = np.iinfo(source.dtype)
    size = int(limits.max) - int(limits.min) + 1
    total: npt.NDArray[Any] = np.zeros((len(source.band_names), size), np.int64)
    for window in TileView(source, fold, tile_size, tile_size, max_nodata=0.5):
        pixels, indices = source.read(window)
        known = pixels[:, indices < source.legend.num_classes].astype(np.int64) - limits.min
        total += np.stack([np.bincount(band, minlength=size) for band in known])
    if not total.any():
        raise DataError(f"{source.path}: fold {fold!r} holds no tile of {tile_size} px to count values in")
    return total
