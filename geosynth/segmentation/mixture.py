"""mixture: which tiles of a fold are real and which are synthetic, fixed by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.raster.stores.tile_view import TileView


class Tile(NamedTuple):
    """A window on the grid of one of several sources."""

    source: int
    window: Window


@dataclass(frozen=True)
class Mixture:
    """A fixed choice of train tiles.

    Attributes:
        real: tiles whose real image and labels are trained on.
        synthetic: tiles whose image is the twin's.
        others: tiles of the pool that are not in `real`, whose fine labels are taken as unknown.
    """

    real: tuple[Tile, ...]
    synthetic: tuple[Tile, ...]
    others: tuple[Tile, ...]


def mixture(
    views: Sequence[TileView],
    real: int | None = None,
    synthetic: int | None = 0,
    *,
    pool: int | None = None,
    seed: int = 0,
) -> Mixture:
    """Choose tiles: the first `real` of one random order of the pool, and the last `synthetic` of the same order.

    So choices are nested: 20 real tiles are among 40, 20 synthetic ones among 40. Real and synthetic tiles are of
    different places as long as their sum is not larger than the pool; if it equals the pool, synthetic tiles stand in
    for exactly the real ones that were left out. The pool itself is the first `pool` tiles of the order.

    Args:
        views: the tiles of the train fold, one view a source.
        real: how many real tiles; None for all of the pool.
        synthetic: how many synthetic tiles; None for all of the pool.
        pool: among how many tiles to choose; None for all.
        seed: of the order.

    Raises:
        DataError: if there is no tile, or there are fewer than asked for.
    """
    total = sum(map(len, views))
    if not total:
        first = views[0]
        raise DataError(f"{first.source.path}: fold {first.fold!r} holds no whole tile of {first.size} px to train on")
    pool = _at_most(total, pool, "pool_tiles", views[0])
    real = _at_most(pool, real, "real_tiles", views[0])
    synthetic = _at_most(pool, synthetic, "synthetic_tiles", views[0])
    if real + synthetic == 0:
        raise DataError("real_tiles and synthetic_tiles are both 0: there is nothing to train on")
    tiles = [Tile(number, window) for number, view in enumerate(views) for window in view]
    order = [tiles[place] for place in np.random.default_rng(seed).permutation(total)[:pool].tolist()]
    return Mixture(tuple(order[:real]), tuple(order[::-1][:synthetic]), tuple(order[real:]))


def _at_most(available: int, wanted: int | None, name: str, view: TileView) -> int:
    if wanted is None:
        return available
    if wanted > available:
        raise DataError(
            f"{view.source.path}: {name}={wanted}, but there are {available} tiles of {view.size} px to choose from in"
            f" fold {view.fold!r}"
        )
    return wanted
