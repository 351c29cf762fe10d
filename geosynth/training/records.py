"""What a training writes for its user: metrics as CSV and for TensorBoard, and picture grids."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from geosynth.config.bands import rgb_bands
from geosynth.files import replacing, writing
from geosynth.legend import Legend
from geosynth.training.draws import TrainBatch, random_inputs
from geosynth.training.step import SpadeStep

_ROWS = 4  # of a picture grid
_NORM_BATCHES = 8  # batches of labels to estimate norms for pictures; more change little, and each takes a pass


class Records:
    """`metrics.csv`, `previews/` and `tensorboard/` of one training; those of an interrupted one are continued.

    Args:
        out: their folder.
        start: number of finished steps. Records of later steps, written before a crash, are removed.
        seconds: time that these steps took.
    """

    def __init__(self, out: Path, start: int, seconds: float) -> None:
        self.out, self.start = out, start
        self._last = start, seconds
        self.path = out / "metrics.csv"
        self.board: SummaryWriter | None = None
        with writing(self.path, RuntimeError):
            kept = _rows_until(self.path, start) if start and self.path.exists() else []
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerows(kept)

    def add(
        self, step: int, seconds: float, losses: Mapping[str, float], rates: tuple[float, float], batch_size: int
    ) -> None:
        """Write one line of metrics.

        Args:
            step: number of finished steps.
            seconds: time that they took.
            losses: means since the previous line, by name.
            rates: learning rates of generator and discriminator.
            batch_size: patches per step.
        """
        last_step, last_seconds = self._last
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= dict(zip(("rate/generator", "rate/discriminator"), rates, strict=True))
        passed = max(seconds - last_seconds, 1e-9)
        values |= {"images_per_second": (step - last_step) * batch_size / passed, "seconds": seconds}
        with writing(self.path, RuntimeError):
            with self.path.open("a", newline="") as file:
                if file.tell() == 0:
                    csv.writer(file).writerow(["step", *values])
                csv.writer(file).writerow([step, *(f"{value:.6g}" for value in values.values())])
            for name, value in values.items():
                self._open_board().add_scalar(name, value, step)
            self._open_board().flush()
        self._last = step, seconds

    def show(self, step: int, grid: Tensor) -> None:
        """Write a picture, (3, H, W) uint8."""
        path = self.out / "previews" / f"{step:06d}.png"
        with writing(path, RuntimeError):
            with replacing(path, folder=self.out) as partial:  # from where the next run removes leftovers of a kill
                Image.fromarray(grid.permute(1, 2, 0).numpy()).save(partial)
            self._open_board().add_image("labels, real, synthetic", grid, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.board is not None:
            self.board.close()

    def _open_board(self) -> SummaryWriter:
        if self.board is None:
            folder = self.out / "tensorboard"
            self.board = SummaryWriter(str(folder), purge_step=self.start + 1)
        return self.board


def _rows_until(path: Path, last: int) -> list[list[str]]:
    """The header of a table of metrics, and its rows of steps up to `last`; a half-written row ends it."""
    with path.open(newline="") as file:
        head, *rows = [*csv.reader(file)] or [[]]
    kept = [head]
    for row in rows:
        if len(row) != len(head) or not row[0].isdigit():
            break
        if int(row[0]) <= last:
            kept.append(row)
    return kept if len(kept) > 1 else []  # without rows the header may be missing or half written


@torch.no_grad()
def preview_grid(step: SpadeStep, batch: TrainBatch, legend: Legend, band_names: Sequence[str]) -> Tensor:
    """A picture with a row for each patch: labels, real, two synthetic images with different styles, one more band.

    Labels have the legend's colours, images those of `rgb_bands`. If there are more than three bands, the last one that
    is not among these is shown in grey, real and synthetic. All processes must call this together.

    Args:
        step: of the training.
        batch: patches on the device, of which the first four are shown.
        legend: of the labels.
        band_names: of the images.

    Returns:
        (3, H, W) uint8.
    """
    generator, mask, real = step.finished_generator(_NORM_BATCHES), batch.mask[:_ROWS], batch.image[:_ROWS]
    looks = step.networks.looks_in_turn(len(mask))
    fakes = [generator(mask, **random_inputs(generator.settings, mask, seed, 0, looks)) for seed in range(2)]
    colours = _colours(legend).to(mask.device)
    cells = [colours[mask].permute(0, 3, 1, 2)]
    natural = list(rgb_bands(band_names))
    cells += [(image[:, natural] + 1) / 2 for image in (real, *fakes)]
    if further := [band for band in range(len(band_names)) if band not in natural]:
        cells += [(image[:, [further[-1]] * 3] + 1) / 2 for image in (real, fakes[0])]
    grid: Tensor = make_grid(torch.stack(cells, dim=1).flatten(0, 1).clamp(0, 1), nrow=len(cells))
    return (grid * 255).round().byte().cpu()


def _colours(legend: Legend) -> Tensor:
    """Colours (num_classes + 1, 3) in [0, 1]; the last, black, is for pixels without a class."""
    return torch.tensor([*(each.rgb for each in legend.classes), (0, 0, 0)]) / 255
