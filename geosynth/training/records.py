"""What a training writes for people to look at: metrics as CSV and for TensorBoard, and picture grids."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from geosynth.training.writing import writing


class Records:
    """`metrics.csv`, `previews/` and `tensorboard/` of one training; an interrupted one's are gone on with.

    Args:
        out: their folder.
        start: steps done so far. What was written of later steps, before a crash, is forgotten.
    """

    def __init__(self, out: Path, start: int) -> None:
        self.out = out
        self.start = start
        self.path = out / "metrics.csv"
        self.board: SummaryWriter | None = None
        with writing(self.path):
            kept = _rows_until(self.path, start) if start and self.path.exists() else []
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerows(kept)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics."""
        with writing(self.path):
            with self.path.open("a", newline="") as file:
                if file.tell() == 0:
                    csv.writer(file).writerow(["step", *values])
                csv.writer(file).writerow([step, *(f"{value:.6g}" for value in values.values())])
            for name, value in values.items():
                self._open_board().add_scalar(name, value, step)
            self._open_board().flush()

    def show(self, step: int, grid: Tensor) -> None:
        """A picture, (3, H, W) uint8."""
        path = self.out / "previews" / f"{step:06d}.png"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grid.permute(1, 2, 0).numpy()).save(path)
            self._open_board().add_image("labels, real, synthetic", grid, step)

    def close(self) -> None:
        """Flush and close."""
        if self.board is not None:
            self.board.close()

    def _open_board(self) -> SummaryWriter:
        if self.board is None:
            folder = self.out / "tensorboard"
            self.board = SummaryWriter(str(folder), purge_step=self.start + 1)
        return self.board


def _rows_until(path: Path, last: int) -> list[list[str]]:
    """The head of a table of metrics, and its rows of steps up to `last`; a half-written row ends it."""
    with path.open(newline="") as file:
        head, *rows = [*csv.reader(file)] or [[]]
    kept = [head]
    for row in rows:
        if len(row) != len(head) or not row[0].isdigit():
            break
        if int(row[0]) <= last:
            kept.append(row)
    return kept
