"""PositionIndex: all places where a patch may be, counted once, and drawn from cell by cell."""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.progress import Progress, silent
from geosynth.raster.stores.source import PatchSource

_Mask = npt.NDArray[np.bool_]


class PositionIndex:
    """The positions (first pixels) of a source's patches in a fold, in cells of a square lattice.

    A position is admissible if its patch is inside one scene and inside the fold's area, and has no pixel without data.
    Cells are aligned to the source's storage blocks, so that all patches of one cell can be cut from one cheap read of
    `side` + `size` - 1 pixels. Labels are read only where scenes have pixels without data, or if classes are counted.
    The result takes a few numbers per cell, and some hundred bytes where positions do not form a rectangle.

    Args:
        source: to read from.
        fold: "train", "val" or "test".
        size: side of a patch in pixels.
        count_classes: needed to draw by class.
        progress: called with the number of finished cells and of all cells.

    Attributes:
        side: of a cell, in pixels: the largest multiple of the storage block within three patches.
        cells: (n, 4) int64: row, column, height, width of the positions' bounding rectangle.
        counts: (n,) float64: number of admissible positions.
        class_counts: (n, classes) float64: pixels of each class, summed over the patches at all admissible positions;
            None if classes were not counted.

    Raises:
        DataError: if no patch fits.
    """

    def __init__(
        self,
        source: PatchSource,
        fold: str,
        size: int,
        *,
        count_classes: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.source, self.fold, self.size = source, fold, size
        self.side = max(1, 3 * size // source.chunk_size) * source.chunk_size
        parts = self._cut_into_cells()
        cells: list[tuple[int, int, int, int]] = []
        counts: list[float] = []
        class_counts: list[npt.NDArray[np.float64]] = []
        self._masks: dict[int, bytes] = {}
        for done, members in enumerate(parts, start=1):
            cell = Window.around([rectangle for rectangle, _ in members])
            admissible = self._admissible(cell, members)
            count = cell.height * cell.width if admissible is None else int(admissible.sum())
            if count:
                if admissible is not None:
                    self._masks[len(cells)] = zlib.compress(np.packbits(admissible).tobytes(), 1)
                cells.append((cell.row, cell.column, cell.height, cell.width))
                counts.append(count)
                if count_classes:
                    class_counts.append(self._class_counts(cell, admissible))
            progress(done, len(parts))
        if not cells:
            raise DataError(
                f"{source.path}: fold {fold!r} has no place for a {size} px patch free of nodata; choose a smaller crop"
            )
        self.cells = np.array(cells, dtype=np.int64)
        self.counts = np.array(counts)
        self.class_counts = np.array(class_counts) if count_classes else None

    def draw(
        self, cell: int, number: int, rng: np.random.Generator, class_weights: npt.NDArray[np.float64] | None = None
    ) -> list[Window]:
        """Draw patches of one cell.

        Args:
            cell: number of the cell.
            number: number of patches.
            rng: random number generator.
            class_weights: (classes,): a position's probability is proportional to their sum over the pixels of its
                patch, for which labels are read. None: all admissible positions are equally likely.
        """
        row, column, height, width = self.cells[cell].tolist()
        if class_weights is None and cell not in self._masks:
            rows, columns = rng.integers(height, size=number), rng.integers(width, size=number)
        else:
            chances = self.mask(cell).astype(np.float64)
            if class_weights is not None:
                labels = self.source.read_labels(self._reach(Window(row, column, height, width)))
                sums = _box_sums(np.append(class_weights, 0.0)[labels], self.size)
                # Rounding errors, where no pixel counts.
                sums[sums < np.min(class_weights[class_weights > 0]) / 2] = 0
                chances *= sums
            ends = np.cumsum(chances)
            # A draw that is rounded to 1.0 would be beyond the end.
            flat = np.searchsorted(ends, rng.random(number) * ends[-1] * (1 - 1e-12), side="right")
            rows, columns = np.divmod(flat, width)
        return [
            Window(row + int(down), column + int(right), self.size, self.size)
            for down, right in zip(rows, columns, strict=True)
        ]

    def mask(self, cell: int) -> _Mask:
        """Which positions in the cell's rectangle are admissible, (height, width)."""
        height, width = self.cells[cell, 2:].tolist()
        if cell not in self._masks:
            return np.ones((height, width), dtype=bool)
        bits = np.frombuffer(zlib.decompress(self._masks[cell]), dtype=np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)

    def _cut_into_cells(self) -> list[list[tuple[Window, bool]]]:
        """For each cell, in spatial order: each scene's rectangle of positions there, and whether it has holes."""
        scenes = self.source.scenes_in(self.fold)
        members: dict[tuple[int, int], list[tuple[Window, bool]]] = defaultdict(list)
        side = self.side
        for scene in scenes:
            height, width = scene.window.height - self.size + 1, scene.window.width - self.size + 1
            if height < 1 or width < 1:
                continue
            positions = Window(scene.window.row, scene.window.column, height, width)
            for row in range(positions.row // side, (positions.bottom - 1) // side + 1):
                for column in range(positions.column // side, (positions.right - 1) // side + 1):
                    rectangle = Window(row * side, column * side, side, side).intersection(positions)
                    assert rectangle is not None
                    members[row, column].append((rectangle, not scene.is_complete))
        if not members:
            largest = max((min(scene.window.height, scene.window.width) for scene in scenes), default=0)
            raise DataError(
                f"{self.source.path}: no scene of fold {self.fold!r} holds a patch of {self.size} px:"
                f" the largest is {largest} px; choose a smaller crop"
            )
        return [members[place] for place in sorted(members)]

    def _reach(self, cell: Window) -> Window:
        """The pixels of the patches at all positions of a rectangle."""
        return Window(cell.row, cell.column, cell.height + self.size - 1, cell.width + self.size - 1)

    def _admissible(self, cell: Window, members: list[tuple[Window, bool]]) -> _Mask | None:
        """Which positions in a cell's bounding rectangle are admissible, (height, width); None if all are."""
        admissible = np.zeros((cell.height, cell.width), dtype=bool)
        for rectangle, _ in members:
            admissible[rectangle.slices_in(cell)] = True
        reach = self._reach(cell)
        if not self.source.split.holds(reach, self.fold):
            admissible &= _all_of_patch(self.source.split.mask(reach, self.fold), self.size)
        if any(has_holes for _, has_holes in members) and admissible.any():
            labels = self.source.read_labels(reach)
            admissible &= _all_of_patch(labels < self.source.legend.num_classes, self.size)
        return None if admissible.all() else admissible

    def _class_counts(self, cell: Window, admissible: _Mask | None) -> npt.NDArray[np.float64]:
        """Pixels of each class, summed over the patches at all admissible positions, (classes,)."""
        if admissible is None:
            rows, columns = (_covers(length, self.size) for length in (cell.height, cell.width))
            times = np.multiply.outer(rows, columns)
        else:  # number of admissible patches over each pixel: box sums of the mask, padded with zeros
            times = _box_sums(np.pad(admissible.astype(np.float64), self.size - 1), self.size)
        labels = self.source.read_labels(self._reach(cell))
        num_classes = self.source.legend.num_classes
        counts: npt.NDArray[Any] = np.bincount(labels.ravel(), weights=times.ravel(), minlength=num_classes + 1)
        return counts[:num_classes]


def _covers(positions: int, size: int) -> npt.NDArray[np.float64]:
    """How many patches at consecutive positions cover each pixel of a line, (positions + size - 1,)."""
    pixels = np.arange(positions + size - 1)
    to_edge = np.minimum(pixels, pixels[::-1]) + 1
    covers: npt.NDArray[np.float64] = np.minimum(to_edge, min(positions, size)).astype(np.float64)
    return covers


def _box_sums(values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Sums over all size x size boxes of (height, width) values; (height - size + 1, width - size + 1)."""
    for axis in (0, 1):
        ends = np.cumsum(values, axis=axis)
        values = ends.take(np.arange(size - 1, ends.shape[axis]), axis=axis)
        later = values[1:] if axis == 0 else values[:, 1:]
        later -= ends[:-size] if axis == 0 else ends[:, :-size]
    return values


def _all_of_patch(good: _Mask, size: int) -> _Mask:
    """Positions at which all pixels of a patch are good."""
    if good.all():
        height, width = good.shape
        return np.ones((height - size + 1, width - size + 1), dtype=bool)
    return _box_sums((~good).astype(np.float64), size) < 0.5
