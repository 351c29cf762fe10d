"""SpatialSplit: which windows belong to which fold, so that no train pixel touches a test pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geosynth.errors import DataError, SettingsError
from geosynth.grid.window import Window

FOLDS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class SpatialSplit:
    """The fold of each of a sequence of windows (scenes on one grid)."""

    windows: tuple[Window, ...]
    folds: tuple[str, ...]

    @classmethod
    def by_cluster(
        cls, windows: Sequence[Window], shares: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0, gap: int = 1
    ) -> SpatialSplit:
        """Give whole clusters to folds, so that neighbours never part.

        Windows less than `gap` pixels apart are one cluster (1: those that touch or overlap). Clusters go, in an order
        drawn from `seed`, to the fold that lacks most pixels of its share; the last ones to folds that are still empty.

        Args:
            windows: on one grid; they may overlap.
            shares: of the pixels, for train, val and test; in any unit.
            seed: of the order.
            gap: pixels.

        Raises:
            SettingsError: if shares are negative, all zero, or not three.
            DataError: if there are fewer clusters than folds with a share.
        """
        if len(shares) != len(FOLDS) or min(shares) < 0 or not sum(shares) > 0:
            raise SettingsError(f"shares: three numbers from 0 up, for {', '.join(FOLDS)}; got {tuple(shares)}")
        clusters = touching_groups(windows, gap)
        areas = [sum(windows[index].height * windows[index].width for index in cluster) for cluster in clusters]
        wanted = np.asarray(shares, dtype=float) / sum(shares)
        filled = np.zeros(len(wanted))
        folds = [""] * len(windows)
        for place, position in enumerate(np.random.default_rng(seed).permutation(len(clusters))):
            lack = wanted * sum(areas) - filled
            empty = (wanted > 0) & (filled == 0)
            if len(clusters) - place <= empty.sum():
                lack[~empty] = -np.inf
            fold = int(np.argmax(lack))
            filled[fold] += areas[position]
            for index in clusters[position]:
                folds[index] = FOLDS[fold]
        lacking = [name for name, share, pixels in zip(FOLDS, wanted, filled, strict=True) if share > 0 and pixels == 0]
        if lacking:
            raise DataError(
                f"no cluster left for fold {', '.join(lacking)}: the scenes form {len(clusters)} separate cluster(s);"
                " give that fold a share of 0, or more places"
            )
        return cls(tuple(windows), tuple(folds))


def touching_groups(windows: Sequence[Window], gap: int = 1) -> list[list[int]]:
    """Indices of windows grouped by connection, each window in one group (union-find over overlapping pairs)."""
    parent = list(range(len(windows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    order = sorted(range(len(windows)), key=lambda index: windows[index].row)
    for place, first in enumerate(order):
        grown = windows[first].buffer(gap)
        for second in order[place + 1 :]:
            if windows[second].row >= grown.bottom:
                break
            if grown.intersection(windows[second]):
                parent[root(second)] = root(first)
    groups: dict[int, list[int]] = {}
    for index in range(len(windows)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())
