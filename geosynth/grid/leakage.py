"""Leakage between folds: places of one that are too near to places of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geosynth.errors import SettingsError, counted

_BATCH = 256
_EXAMPLES = 5
# As a share of the distance, and in its unit, because coordinates in files are rounded.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Places:
    """The polygons of one fold (tiles, or areas of a split), in coordinates of one CRS, with names for messages."""

    geometries: npt.NDArray[Any]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Leak:
    """How near two folds are to each other."""

    folds: tuple[str, str]
    """Names of the two folds."""
    unit: str
    """Unit of all distances: "m", "px", or "" for coordinates with an unknown unit."""
    distance: float
    """The distance that was asked for."""
    num_pairs: int
    """Number of pairs of places, one of each fold, that are nearer to each other than that, or touch."""
    smallest: float
    """Distance between the two folds, edge to edge; 0 if they touch or overlap."""
    num_first: int
    """Number of places of the first fold in such pairs."""
    num_second: int
    """Number of places of the second fold in such pairs."""
    examples: tuple[tuple[str, str, float], ...]
    """(name, name, distance) of the nearest pairs."""

    def to_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        one, other = self.folds
        if not self.num_pairs:
            return f"{one} and {other} are {self._say(self.smallest)} apart"
        first, second, apart = self.examples[0]
        asked = f"nearer than {self._say(self.distance)} or touching" if self.distance else "touching"
        return (
            f"{one} and {other} leak: {counted(self.num_pairs, 'pair')} {asked}, the smallest distance is"
            f" {self._say(self.smallest)} (as {first} and {second}, {self._say(apart)} apart)"
        )

    def _say(self, distance: float) -> str:
        return f"{distance:.6g} {self.unit}".rstrip()


def find_leaks(folds: Mapping[str, Places], distance: float = 0.0, unit: str = "") -> list[Leak]:
    """Measure each pair of folds that have places.

    Two places leak if they are nearer than `distance`, edge to edge, or touch, because neighbouring pixels are never
    independent. So with a distance of 0, folds must be separated by at least a pixel.

    Args:
        folds: places of each, in one CRS.
        distance: in the unit of their coordinates.
        unit: its name, see `Leak`.

    Raises:
        SettingsError: if the distance is negative, or if fewer than two folds have places.
    """
    if not distance >= 0:
        raise SettingsError(f"distance: must be 0 or more, got {distance:g}")
    names = [name for name, places in folds.items() if len(places.geometries)]
    if len(names) < 2:
        raise SettingsError(f"leakage is between two folds, and {f'only {names[0]}' if names else 'none'} has places")
    pairs = [(one, other) for index, one in enumerate(names) for other in names[index + 1 :]]
    return [_measure((one, other), folds[one], folds[other], distance, unit) for one, other in pairs]


def _measure(names: tuple[str, str], first: Places, second: Places, distance: float, unit: str) -> Leak:
    tree = shapely.STRtree(second.geometries)
    (order, nearest), apart = tree.query_nearest(first.geometries, return_distance=True, all_matches=False)
    reach = max(distance * (1 - _TOLERANCE), _TOLERANCE)  # touching counts, whatever the distance
    near_first, near_second, pairs = order[apart < reach], np.zeros(len(second.geometries), dtype=bool), 0
    for start in range(0, len(near_first), _BATCH):  # all pairs at once might not fit in memory
        batch = first.geometries[near_first[start : start + _BATCH]]
        _, found = tree.query(batch, predicate="dwithin", distance=reach)
        pairs += len(found)
        near_second[found] = True
    closest = np.argsort(apart, kind="stable")[: min(_EXAMPLES, len(near_first))]
    return Leak(
        folds=names,
        unit=unit,
        distance=distance,
        num_pairs=pairs,
        smallest=float(apart.min()),
        num_first=len(near_first),
        num_second=int(near_second.sum()),
        examples=tuple((first.names[order[i]], second.names[nearest[i]], float(apart[i])) for i in closest),
    )
