"""Groups of things that are alike, of scenes or blocks that must be in one fold, and their assignment to folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geosynth.grid.areas import boxes_of
from geosynth.grid.window import Window, as_array

# Cost of a class missing from a fold: outweighs every imbalance, so that presence comes first and balance second.
_ABSENCE = 1e6
_LEAST = 1e-9  # by which a change must lower the cost
_ENOUGH = 1e-4  # a cost that counts as none: classes differ by one percent from their share
_PASSES = 10
_SWAPS = 64  # partners that are tried for a group
_TRIALS = 10_000  # groups that all restarts together may place
_RESTARTS = 16

_Item = TypeVar("_Item")
_Array = npt.NDArray[np.floating]
_Folds = npt.NDArray[np.int64]


def alike_groups(items: Sequence[_Item], alike: Callable[[_Item, _Item], bool]) -> list[list[int]]:
    """Indices of items that are like the first one of their group; groups in the order of their first items."""
    groups: list[list[int]] = []
    for index, item in enumerate(items):
        own = next((group for group in groups if alike(items[group[0]], item)), None)
        if own is None:
            groups.append(own := [])
        own.append(index)
    return groups


def touching_groups(windows: Sequence[Window]) -> list[list[int]]:
    """Indices of windows that touch or overlap, directly or through others; each window is in one group."""
    boxes = boxes_of(as_array(windows))
    pairs = shapely.STRtree(boxes).query(boxes)  # boxes touch if their bounds do
    near = coo_array((np.ones(pairs.shape[1]), pairs), shape=(len(boxes), len(boxes)))
    groups: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(connected_components(near, directed=False)[1].tolist()):
        groups[group].append(index)
    return list(groups.values())


def blocks_over(windows: Sequence[Window], size: int) -> list[Window]:
    """Blocks of `size` px, on the lattice from the grid's first pixel, that overlap a window, row by row."""
    found = {
        (row, column)
        for window in windows
        for row in range(window.row // size, -(-window.bottom // size))
        for column in range(window.column // size, -(-window.right // size))
    }
    return [Window(row * size, column * size, size, size) for row, column in sorted(found)]


def cut_by_blocks(windows: Sequence[Window], blocks: Sequence[Window], size: int) -> list[list[Window]]:
    """The parts of the windows in each of `blocks_over(windows, size)`."""
    places = {(block.row // size, block.column // size): index for index, block in enumerate(blocks)}
    groups: list[list[Window]] = [[] for _ in blocks]
    for window in windows:
        for block in blocks_over([window], size):
            groups[places[block.row // size, block.column // size]].append(block.overlap(window))
    return groups


def pixels_of(groups: Sequence[Sequence[Window]]) -> npt.NDArray[np.floating]:
    """Number of pixels of each group, (groups, 1); those of overlapping windows count once."""
    return np.array([shapely.unary_union(boxes_of(as_array(group))).area for group in groups])[:, None]


def allocate(pixels: npt.ArrayLike, shares: _Array, seed: int) -> _Folds:
    """Assign groups to folds so that each fold gets its share of each class and lacks no class that it could have.

    Groups are taken in an order drawn from `seed`; each goes to the fold where it lowers the cost most. Then groups are
    moved or exchanged as long as that lowers the cost (greedy placement, then local search; after iterative
    stratification, Sechidis et al. 2011). If there are few groups, several orders are tried and the best result is
    taken. The cost of a fold is the sum over classes of (pixels / (share * pixels of all groups) - 1)^2, where the
    number of all pixels counts as much as all classes together, plus a large constant for each missing class.

    Args:
        pixels: (groups, classes), at least one group.
        shares: (folds,), positive, with sum one.
        seed: of the order.

    Returns:
        (groups,) positions in `shares`.
    """
    pixels = np.asarray(pixels)
    pixels = pixels[:, pixels.any(axis=0)]
    goal = pixels / pixels.sum(axis=0)  # shares of a class
    weights = np.ones(goal.shape[1])
    if goal.shape[1] > 1:
        goal = np.column_stack([goal, pixels.sum(axis=1) / pixels.sum()])
        weights = np.append(weights, len(weights))
    rng = np.random.default_rng(seed)
    restarts = int(np.clip(_TRIALS // len(goal), 1, _RESTARTS))
    best_cost, best = np.inf, np.zeros(len(goal), dtype=np.int64)
    for _ in range(restarts):
        cost, folds = _place(goal, shares[:, None], weights, rng)
        if cost < best_cost:
            best_cost, best = cost, folds
        if best_cost < _ENOUGH:
            break
    return best


def _place(goal: _Array, shares: _Array, weights: _Array, rng: np.random.Generator) -> tuple[float, _Folds]:
    """Place all groups; returns the cost and the placement."""

    def costs(of_class: _Array, of_fold: _Array = shares) -> _Array:
        absent = _ABSENCE * (of_class < 1e-12)
        total: _Array = ((of_class / of_fold - 1) ** 2 + absent) @ weights
        return total

    filled = np.zeros((len(shares), goal.shape[1]))
    folds = np.full(len(goal), -1)

    def move(group: int) -> bool:
        old = folds[group]
        if old >= 0:
            filled[old] -= goal[group]
        gain = costs(filled + goal[group]) - costs(filled)
        new = int(np.argmin(gain))
        if old >= 0 and gain[new] > gain[old] - _LEAST:
            new = old
        filled[new] += goal[group]
        folds[group] = new
        return bool(new != old)

    def swap(group: int) -> None:
        """Exchange a group with the best of some groups in other folds."""
        own = folds[group]
        others = np.flatnonzero(folds != own)
        if len(others) > _SWAPS:
            others = rng.choice(others, _SWAPS, replace=False)
        if not len(others):
            return
        theirs = folds[others]
        change = goal[others] - goal[group]
        before = costs(filled)
        gain = costs(filled[own] + change, shares[own]) - before[own]
        gain += costs(filled[theirs] - change, shares[theirs]) - before[theirs]
        best = int(np.argmin(gain))
        if gain[best] < -_LEAST:
            filled[own] += change[best]
            filled[theirs[best]] -= change[best]
            folds[group], folds[others[best]] = theirs[best], own

    cost = np.inf
    for _ in range(_PASSES):
        moves = [move(group) for group in rng.permutation(len(goal))]
        if not any(moves):
            for group in rng.permutation(len(goal)):
                swap(group)
        before, cost = cost, float(costs(filled).sum())
        if cost > before - _ENOUGH:
            break
    return cost, folds
