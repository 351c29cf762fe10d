"""Does the diversity term work? Trains small generators that differ only in its weight, and measures their diversity.

    python benchmarks/diversity.py STORE [--weights 0,4,8] [--steps 300] [--distance pixels] [--json FILE]

STORE is made by `geosynth ingest`. Diversity is the mean absolute difference of two images (range [-1, 1]) that the
averaged generator paints on the same labels with the same noise and two styles from N(0, I), over patches of the train
fold. There is one training for each weight, all from the same seed; with one seed each this shows only a tendency.

Keys: `diversity`, by weight.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from geosynth.checkpoint import load_generator
from geosynth.config import TrainSettings
from geosynth.models.field import random_noise
from geosynth.patches.module import PatchModule
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.statistics import band_settings
from geosynth.training.train import train
from last_line import print_result

SETTINGS = TrainSettings(
    batch_size=8,
    crop_size=64,
    base_width=8,
    max_multiple=4,
    hidden_channels=32,
    latent_size=16,
    noise_channels=4,
    encoder_width=8,
    prior_share=0.5,
    discriminator_width=16,
    generator_rate=2e-4,
    ema_decay=0.98,
    preview_every=0,
)


@torch.no_grad()
def measure(store: str, path: Path, num_batches: int = 8) -> float:
    """Mean absolute difference over pairs of one model."""
    generator = load_generator(path).generator
    sources = open_sources(store)
    patches = PatchModule(sources, band_settings(sources), crop_size=64, batch_size=8, num_batches=num_batches, seed=99)
    rng = torch.Generator().manual_seed(0)
    values = []
    for batch in patches.train_dataloader():
        mask = batch["mask"].long()
        noise = random_noise(generator.settings, len(mask), 64, 64, rng)
        styles = torch.randn((2, len(mask), generator.settings.latent_size), generator=rng)
        first, second = (generator(mask, style, noise) for style in styles)
        values.append((first - second).abs().mean())
    return float(torch.stack(values).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--weights", default="0,4,8")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--distance", choices=["pixels", "features"], default="pixels")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for weight in map(float, arguments.weights.split(",")):
            changes = {"steps": arguments.steps, "diversity_weight": weight, "diversity_distance": arguments.distance}
            path = train(arguments.store, Path(folder) / f"{weight:g}", SETTINGS.model_copy(update=changes))
            found[f"{weight:g}"] = measure(arguments.store, path)
    table = Table("diversity weight", "mean difference of two styles")
    for name, value in found.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
    print_result(
        {"diversity": {name: round(value, 5) for name, value in found.items()}, "steps": arguments.steps},
        arguments.json,
    )


if __name__ == "__main__":
    main()
