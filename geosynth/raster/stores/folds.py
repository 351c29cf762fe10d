"""Folds of freshly paired scenes, over one grid or several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window, buffer_pixels
from geosynth.grid.neighbours import part_neighbours
from geosynth.grid.split import SHARES
from geosynth.raster.stores.pairs import PairGroup
from geosynth.raster.warped import cover

# Equal areas, 1 m: where scenes of several CRSs are looked at side by side.
_WORLD = GeoBox((1, 1), Affine.scale(1, -1), "EPSG:6933")


def split_groups(
    groups: Sequence[PairGroup],
    *,
    by: str = "clusters",
    shares: Sequence[float] | None = None,
    seed: int = 0,
    block_size: int = 1024,
    buffer: float | str = 0.0,
    class_pixels: Sequence[npt.NDArray[np.int64]] | None = None,
) -> list[SpatialSplit]:
    """A split for each grid; scenes that touch across two CRSs share a fold too.

    Args:
        groups: the scenes.
        by: "clusters" of touching scenes, or "blocks". Where items name their folds, these are taken.
        shares: of the pixels, for train, val and test; None for 0.7, 0.1, 0.2.
        seed: of the choice.
        block_size: pixels.
        buffer: what is left out between folds: metres, or pixels as in "64px".
        class_pixels: of each group (scenes, classes), for clusters: to give each fold its share of each class.

    Raises:
        SettingsError, DataError, GridError: one line each.
    """
    if by not in ("clusters", "blocks"):
        raise SettingsError(f"split by {by!r}: clusters or blocks")
    buffers = [buffer_pixels(buffer, group.geobox) for group in groups]
    chosen = _chosen_folds(groups)
    if chosen is not None:
        if shares is not None:
            raise SettingsError("the items name their folds already; leave out the shares")
        splits = _by_scenes(groups, chosen, buffers)
    else:
        wanted = SHARES if shares is None else shares
        if by == "blocks":
            splits = [
                SpatialSplit.by_blocks(_windows(group), block_size, wanted, seed, buffer=pixels)
                for group, pixels in zip(groups, buffers, strict=True)
            ]
        elif len(groups) == 1:
            counts = None if class_pixels is None else class_pixels[0]
            splits = [
                SpatialSplit.by_clusters(_windows(groups[0]), wanted, seed, buffer=buffers[0], class_pixels=counts)
            ]
        else:
            splits = _by_scenes(groups, _joint_folds(groups, wanted, seed, class_pixels), buffers)
    return part_neighbours([group.geobox for group in groups], splits) if len(groups) > 1 else splits


def _chosen_folds(groups: Sequence[PairGroup]) -> list[list[str]] | None:
    """What the items say; None if they say nothing."""
    items = [pair.item for group in groups for pair in group.pairs]
    without = [item for item in items if item.fold is None]
    if len(without) == len(items):
        return None
    if without:
        raise DataError(f"{without[0].image}: has no fold, but others in the list have; give it one")
    return [[str(pair.item.fold) for pair in group.pairs] for group in groups]


def _joint_folds(
    groups: Sequence[PairGroup],
    shares: Sequence[float],
    seed: int,
    class_pixels: Sequence[npt.NDArray[np.int64]] | None,
) -> list[list[str]]:
    """Clusters over all grids: of the scenes' outlines on one map."""
    outlines = [cover(_WORLD, pair.image.geobox) for group in groups for pair in group.pairs]
    counts = None if class_pixels is None else np.concatenate(class_pixels)
    joint = SpatialSplit.by_clusters(outlines, shares, seed, class_pixels=counts)
    folds = iter([str(joint.fold_of(outline)) for outline in outlines])
    return [[next(folds) for _ in group.pairs] for group in groups]


def _by_scenes(groups: Sequence[PairGroup], folds: list[list[str]], buffers: list[int]) -> list[SpatialSplit]:
    splits = []
    for group, of_group, pixels in zip(groups, folds, buffers, strict=True):
        members: dict[str, list[Window]] = {}
        for pair, fold in zip(group.pairs, of_group, strict=True):
            members.setdefault(fold, []).append(pair.window)
        splits.append(SpatialSplit.by_scenes(members, buffer=pixels))
    return splits


def _windows(group: PairGroup) -> list[Window]:
    return [pair.window for pair in group.pairs]
