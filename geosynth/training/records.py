"""What a training writes for people to look at: metrics as CSV and for TensorBoard, and picture grids."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from geosynth.config.bands import rgb_bands
from geosynth.files import writing as writing_files
from geosynth.legend import Legend
from geosynth.models.device import plain_memory_error
from geosynth.training.draws import random_inputs, sample_rngs
from geosynth.training.step import SpadeTask

# --- Failures to write, as one line.


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """`geosynth.files.writing` for torch, whose writer raises `RuntimeError`, also when memory runs out.

    Raises:
        OutputError: as there.
        MemoryError: if memory ran out.
    """
    with writing_files(path, RuntimeError), plain_memory_error():
        yield


# --- Picture grids: labels, real and synthetic patches side by side, to watch a training by eye.

_ROWS = 4


@torch.no_grad()
def preview_grid(task: SpadeTask, batch: dict[str, Tensor], legend: Legend) -> Tensor:
    """One row a patch: labels, real, two synthetic with different styles; then real and synthetic in one more band.

    Labels have the legend's colours, images those of `rgb_bands`; of more than three bands the last one that is not
    among these is shown in grey. All devices must call this together.

    Returns:
        (3, H, W) uint8.
    """
    generator = task.finished_generator()
    mask, real = batch["mask"][:_ROWS], batch["image"][:_ROWS]
    fakes = [
        generator(mask, *random_inputs(generator.settings, mask, sample_rngs(seed, 0, range(len(mask)))))
        for seed in range(2)
    ]
    colours = _colours(legend).to(mask.device)
    cells = [colours[mask].permute(0, 3, 1, 2)]
    natural = list(rgb_bands(task.band_names))
    cells += [(image[:, natural] + 1) / 2 for image in (real, *fakes)]
    if further := [band for band in range(real.shape[1]) if band not in natural]:
        cells += [(image[:, [further[-1]] * 3] + 1) / 2 for image in (real, fakes[0])]
    grid: Tensor = make_grid(torch.stack(cells, dim=1).flatten(0, 1).clamp(0, 1), nrow=len(cells))
    return (grid * 255).round().byte().cpu()


def _colours(legend: Legend) -> Tensor:
    """(num_classes + 1, 3) in [0, 1]; the last, black, for pixels without a class."""
    return torch.tensor([*(each.rgb for each in legend.classes), (0, 0, 0)]) / 255


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
