"""Which patches are drawn, and in which order: a function of the seed and of a patch's (or batch's) number alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from geosynth.errors import DataError, SettingsError
from geosynth.grid import Window
from geosynth.patches.positions import PositionIndex

ClassWeights = Mapping[str, float]

_MIN_VISITS = 4  # cells in a batch, so that its patches are not all neighbours
_MIN_PASS = 256
# What a random stream is for; its seed is (the user's seed, one of these, a number).
_PASS, _VISIT = 1, 2


class Draw(NamedTuple):
    """One patch to read. Those of a batch that share source and visit lie close together and are read at once."""

    source: int
    visit: int
    window: Window


class Chances:
    """The cells of one or several indexes, and how likely each is.

    Without class weights each admissible position of all sources is as likely as another, so a source's share is that
    of its area. With them, a class is chosen by weight, then one of its pixels, then a patch that contains it.

    Args:
        indexes: by the source's number, as `PatchSet` counts; with classes counted if there are weights.
        class_weights: by class name; classes left out have weight 0.
        source_weights: by the source's number; then each source counts as much as this says, however large it is.

    Raises:
        SettingsError: if a weight is negative or its class unknown.
        DataError: if no class with a weight is there.
    """

    def __init__(
        self,
        indexes: Mapping[int, PositionIndex],
        class_weights: ClassWeights | None = None,
        source_weights: Mapping[int, float] | None = None,
    ) -> None:
        self._numbers, self.indexes = tuple(indexes), tuple(indexes.values())
        self._starts = np.cumsum([0, *(len(index.counts) for index in self.indexes)])
        self.counts = np.concatenate([index.counts for index in self.indexes])
        self._weights: npt.NDArray[np.float64] | None = None
        if class_weights is None:
            self.values = self._weighed(self.counts, source_weights)
            return
        found = np.concatenate([_counted(index) for index in self.indexes])
        pixels = found.sum(axis=0)
        wanted = _by_class(class_weights, self.indexes[0].source.legend.names)
        wanted[pixels == 0] = 0
        if not wanted.any():
            path, names = self.indexes[0].source.path, ", ".join(class_weights)
            raise DataError(
                f"{path}: fold {self.indexes[0].fold!r} has no pixel of {names}; choose other class weights"
            )
        self._weights = np.divide(wanted, pixels, out=np.zeros_like(wanted), where=pixels > 0)
        self.values = self._weighed(found @ self._weights, source_weights)

    def _weighed(self, values: npt.NDArray[Any], weights: Mapping[int, float] | None) -> npt.NDArray[Any]:
        """(cells,) such that each source's cells add up to its weight; of a source without any chance, to none."""
        if not weights:
            return values
        values = values.astype(np.float64)
        for place, number in enumerate(self._numbers):
            own = values[self._starts[place] : self._starts[place + 1]]
            own *= weights[number] / (own.sum() or 1)
        return values

    def draw(self, cell: int, number: int, rng: np.random.Generator) -> tuple[int, list[Window]]:
        """A source's number, and `number` patches of a cell (counted through all sources)."""
        place = int(np.searchsorted(self._starts, cell, side="right")) - 1
        windows = self.indexes[place].draw(int(cell - self._starts[place]), number, rng, self._weights)
        return self._numbers[place], windows

    def per_visit(self, most: int) -> npt.NDArray[np.int64]:
        """(cells,) Patches of one visit: `most` for a full cell, fewer in small ones, as their reach in pixels is."""
        reaches = [(np.sqrt(i.counts) + i.size - 1) / (i.side + i.size - 1) for i in self.indexes]  # sides of squares
        patches = np.floor(most * np.concatenate(reaches) ** 2 + 1e-9).astype(np.int64)
        limits: npt.NDArray[np.int64] = np.clip(patches, 1, np.minimum(most, self.counts).astype(np.int64))
        return limits


class PatchBatchSampler(Sampler[list[Draw]]):
    """Batches of random patches in chunk-aware order: a cell is visited, and several patches are drawn from it at once.

    The stream of batches goes in passes. A pass visits cells by systematic sampling, at most about once each, in random
    order, so that over the stream each admissible position is as likely as another (or as the class weights say), just
    as in independent draws. A batch mixes at least four visits. Batch number n follows from the seed and n alone, so
    the stream depends neither on the number of workers nor on where a run was interrupted.

    Args:
        chances: of the cells.
        batch_size: patches a batch, over all ranks.
        num_batches: of an epoch; the length, also where `start` leaves fewer to give.
        seed: of the draw.
        patches_per_visit: at most, and at most a quarter of a batch. 1 spreads a batch widest, and reads most.
        start: batches of the epoch that were used by an earlier run, left out now.
        rank, num_ranks: in distributed training; each rank gets its rows of each batch, in order.

    Raises:
        SettingsError: if a number is not positive, or ranks cannot share a batch evenly.
    """

    def __init__(
        self,
        chances: Chances,
        batch_size: int,
        num_batches: int,
        seed: int,
        *,
        patches_per_visit: int = 8,
        start: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if min(batch_size, num_batches, patches_per_visit) < 1:
            raise SettingsError("batch size, batches and patches per visit: must be 1 or more")
        if batch_size % num_ranks:
            raise SettingsError(f"batch size {batch_size}: must be a multiple of the {num_ranks} processes")
        self.batch_size, self.num_batches, self.seed, self.start = batch_size, num_batches, seed, start
        self.rank, self.num_ranks, self.epoch = rank, num_ranks, 0
        self._chances = chances
        most = max(1, min(patches_per_visit, batch_size // _MIN_VISITS))
        self._per_visit = chances.per_visit(most)
        expected = chances.values / self._per_visit
        # A full cell is visited about once a pass; but a pass in which few are likely would be too short to plan.
        rate = max(1 / np.max(expected), min(_MIN_PASS, len(expected)) / expected.sum())
        self._expected_ends = np.cumsum(expected * rate)

    def __len__(self) -> int:
        return self.num_batches

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches that follow those of the epochs before."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        first, last = self.epoch * self.num_batches + self.start, (self.epoch + 1) * self.num_batches
        share = self.batch_size // self.num_ranks
        for number, parts in enumerate(self._stream()):
            if number >= last:
                return
            if number >= first:
                draws = [draw for part in parts for draw in self._draw(*part)]
                yield draws[self.rank * share : (self.rank + 1) * share]

    def _stream(self) -> Iterator[list[tuple[int, int, int, int]]]:
        """Batches without end, each as parts of visits: the visit's number, its cell, first and last patch of it."""
        batch: list[tuple[int, int, int, int]] = []
        room = self.batch_size
        for visit, cell in enumerate(self._visits()):
            first, last = 0, int(self._per_visit[cell])
            while first < last:
                taken = min(room, last - first)
                batch.append((visit, cell, first, first + taken))
                first, room = first + taken, room - taken
                if not room:
                    yield batch
                    batch, room = [], self.batch_size

    def _visits(self) -> Iterator[int]:
        """Cells, pass after pass."""
        number = 0
        while True:
            rng = np.random.default_rng((self.seed, _PASS, number))
            marks = np.floor(self._expected_ends + rng.random()).astype(np.int64)
            times = np.diff(marks, prepend=0)
            yield from rng.permutation(np.repeat(np.arange(len(times)), times)).tolist()
            number += 1

    def _draw(self, visit: int, cell: int, first: int, last: int) -> list[Draw]:
        rng = np.random.default_rng((self.seed, _VISIT, visit))
        source, windows = self._chances.draw(cell, int(self._per_visit[cell]), rng)
        return [Draw(source, visit, window) for window in windows[first:last]]


def _counted(index: PositionIndex) -> npt.NDArray[np.float64]:
    if index.class_counts is None:
        raise SettingsError("class weights need an index with count_classes=True")
    return index.class_counts


def _by_class(weights: ClassWeights, names: Sequence[str]) -> npt.NDArray[np.float64]:
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise SettingsError(f"class weights: no class {', '.join(unknown)}; the legend has {', '.join(names)}")
    if not all(0 <= weight < np.inf for weight in weights.values()):
        raise SettingsError(f"class weights: must be 0 or more, got {dict(weights)}")
    return np.array([float(weights.get(name, 0)) for name in names])
