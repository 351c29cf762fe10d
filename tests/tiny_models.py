"""Files of small, random generators."""

from __future__ import annotations

from pathlib import Path

import torch

from geosynth.checkpoint import ModelCard, save_generator
from geosynth.config import BandSettings, GeneratorSettings
from geosynth.legend import CHESAPEAKE
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.look import Look

TINY = GeneratorSettings(
    num_classes=6,
    num_bands=4,
    base_width=4,
    max_multiple=4,
    hidden_channels=8,
    depth="less",
    latent_size=4,
    noise_channels=2,
)


def write_tiny_model(path: Path) -> Path:
    """For the Chesapeake legend, with strong contrast."""
    return write_random_model(TINY, path)


def write_random_model(settings: GeneratorSettings, path: Path, looks: dict[str, Look] | None = None) -> Path:
    """The same one each time."""
    torch.manual_seed(0)
    generator = SpadeGenerator(settings)
    with torch.no_grad():
        for name, value in generator.named_parameters():
            if "gamma_beta" in name or "to_image.weight" in name:
                value.mul_(50)  # the initial weights are too small to show a mistake
            if "scale_shift" in name:
                value.normal_()  # at first it is zero
    bands = BandSettings(names=("red", "green", "blue", "nir"))
    card = ModelCard(settings=settings, legend=CHESAPEAKE, bands=bands, gsd=1.0)
    save_generator(path, generator, card, looks=looks, dtype=torch.float32)
    return path
