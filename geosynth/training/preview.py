"""Picture grids: labels, real and synthetic patches side by side, to watch a training by eye."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from geosynth.config import BandSettings
from geosynth.training.task import SpadeTask, random_inputs
from geosynth.training.writing import writing

_ROWS = 4


@torch.no_grad()
def write_preview(task: SpadeTask, batch: dict[str, Tensor], bands: BandSettings, path: Path) -> None:
    """One row a patch: labels (grey levels), real, two synthetic with different styles; then the last band likewise.

    Bands 1 to 3 are shown as red, green, blue (band 1 in grey if there are fewer).

    Raises:
        OutputError: if the picture cannot be written.
    """
    generator = task.finished_generator()
    mask, real = batch["mask"][:_ROWS], batch["image"][:_ROWS]
    rng = torch.Generator().manual_seed(0)
    settings = generator.settings
    fakes = [generator(mask, *random_inputs(settings, mask, rng)) for _ in range(2)]
    labels = mask.unsqueeze(1).float() / max(1, settings.num_classes - 1)
    cells = [labels.expand(-1, 3, -1, -1)]
    cells += [(_shown(image) + 1) / 2 for image in (real, *fakes)]
    if len(bands.names) > 3:
        cells += [(image[:, -1:].expand(-1, 3, -1, -1) + 1) / 2 for image in (real, fakes[0])]
    grid = make_grid(torch.stack(cells, dim=1).flatten(0, 1).clamp(0, 1), nrow=len(cells))
    picture = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).cpu().numpy())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def _shown(image: Tensor) -> Tensor:
    return image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)
