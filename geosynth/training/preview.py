"""Picture grids: labels, real and synthetic patches side by side, to watch a training by eye."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.utils import make_grid

from geosynth.legend import Legend
from geosynth.training.draws import random_inputs, sample_rngs
from geosynth.training.task import SpadeTask

_ROWS = 4


@torch.no_grad()
def preview_grid(task: SpadeTask, batch: dict[str, Tensor], legend: Legend) -> Tensor:
    """One row a patch: labels, real, two synthetic with different styles; then the last of four bands likewise.

    Labels have the legend's colours. Bands 1 to 3 are shown as red, green, blue (band 1
    in grey if there are fewer), band 4 or higher in grey. All devices must call this together.

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
    cells += [(_shown(image) + 1) / 2 for image in (real, *fakes)]
    if real.shape[1] > 3:
        cells += [(image[:, -1:].expand(-1, 3, -1, -1) + 1) / 2 for image in (real, fakes[0])]
    grid: Tensor = make_grid(torch.stack(cells, dim=1).flatten(0, 1).clamp(0, 1), nrow=len(cells))
    return (grid * 255).round().byte().cpu()


def _shown(image: Tensor) -> Tensor:
    return image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)


def _colours(legend: Legend) -> Tensor:
    """(num_classes + 1, 3) in [0, 1]; the last, black, for pixels without a class."""
    return torch.tensor([*(each.rgb for each in legend.classes), (0, 0, 0)]) / 255
