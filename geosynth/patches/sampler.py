"""Which patches are drawn, and in which order: a function of only the seed and a patch's (or batch's) number."""

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
# Purposes of random streams, whose seeds are (the user's seed, purpose, a number).
_PASS, _VISIT = 1, 2


class Draw(NamedTuple):
    """One patch to read. Those of a batch with the same source and visit are close together and read at once."""

    source: int
    visit: int
    window: Window


class Chances:
    """The cells of one or several indexes, and how likely each is.

    Without class weights, all admissible positions of all sources are equally likely, so that sources count by area.
    With class weights, a class is chosen by weight, then one of its pixels, then a patch that contains it.

    Args:
        indexes: by the source's number, as in `PatchSet`; with classes counted if there are weights.
        class_weights: by class name; classes that are not named have weight 0.
        source_weights: by the source's number: relative number of patches from each source, regardless of its size.

    Raises:
        SettingsError: if a weight is negative or its class is unknown.
        DataError: if no class with a weight occurs.
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
        """Values (cells,), scaled so that each source's cells sum to its weight, or to 0 if all its values are 0."""
        if not weights:
            return values
        values = values.astype(np.float64)
        for place, number in enumerate(self._numbers):
            own = values[self._starts[place] : self._starts[place + 1]]
            own *= weights[number] / (own.sum() or 1)
        return values

    def draw(self, cell: int, number: int, rng: np.random.Generator) -> tuple[int, list[Window]]:
        """The source's number and `number` patches of a cell (cells are numbered over all sources)."""
        place = int(np.searchsorted(self._starts, cell, side="right")) - 1
        windows = self.indexes[place].draw(int(cell - self._starts[place]), number, rng, self._weights)
        return self._numbers[place], windows

    def per_visit(self, most: int) -> npt.NDArray[np.int64]:
        """Patches per visit of each cell, (cells,): `most` for a full cell, fewer for smaller ones, by their extent."""
        reaches = [(np.sqrt(i.counts) + i.size - 1) / (i.side + i.size - 1) for i in self.indexes]  # as if squares
        patches = np.floor(most * np.concatenate(reaches) ** 2 + 1e-9).astype(np.int64)
        limits: npt.NDArray[np.int64] = np.clip(patches, 1, np.minimum(most, self.counts).astype(np.int64))
        return limits


class PatchBatchSampler(Sampler[list[Draw]]):
    """Batches of random patches in chunk-aware order: a cell is visited, and several patches are drawn from it at once.

    The stream of batches consists of passes. A pass visits cells by systematic sampling, each about once at most, in
    random order, so that over the stream all admissible positions are equally likely (or as the class weights say), as
    with independent draws. A batch mixes at least four visits. Batch number n depends only on the seed and n, so the
    stream depends neither on the number of workers nor on where a run was interrupted.

    Args:
        chances: of the cells.
        batch_size: patches per batch, over all ranks.
        num_batches: per epoch; the length, even if `start` leaves fewer.
        seed: of the draws.
        patches_per_visit: largest number, limited to a quarter of a batch. With 1, batches are most varied and reading
            takes longest.
        start: number of batches of the epoch that an earlier run has used, which are skipped.
        rank, num_ranks: in distributed training; each rank gets its rows of each batch, in order.

    Raises:
        SettingsError: if a number is not positive, or if ranks cannot share a batch evenly.
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
        # A full cell is visited about once per pass; but if few cells are likely, such a pass would be too short.
        rate = max(1 / np.max(expected), min(_MIN_PASS, len(expected)) / expected.sum())
        self._expected_ends = np.cumsum(expected * rate)

    def __len__(self) -> int:
        return self.num_batches

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches that follow those of the earlier epochs."""
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
        """Endless batches, each as parts of visits: the visit's number, its cell, first and last patch in it."""
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
