"""Peak memory of `generate` by the size of the raster: constant, since only blocks are in memory.

    python benchmarks/mosaic_memory.py SIDE [SIDE ...]

Each square is painted by a separate process, with an untrained network of two base channels (to measure the memory
beside the network). Part of `benchmarks/mosaic.py`. Last line: one JSON object, megabytes by side in pixels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine

EXAMPLE = Path(__file__).parents[1] / "examples" / "md_lc.tif"


def peak_by_size(sides: Sequence[int]) -> dict[str, int]:
    """Megabytes of each process at its peak, by side of the square."""
    peaks: dict[str, int] = {}
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            labels = write_square(Path(folder) / "labels.tif", side)
            command = [sys.executable, __file__, "--paint", str(labels), str(Path(folder) / "image.tif")]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[str(side)] = int(run.stdout.splitlines()[-1])
    return peaks


def write_square(path: Path, side: int) -> Path:
    """The example's labels over and over, in bounded memory."""
    with rasterio.open(EXAMPLE) as dataset:
        tile = dataset.read(1)[:512, :512]
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": dataset.crs, "compress": "deflate"}
    row = np.tile(tile, (1, -(-side // 512)))[:, :side]
    transform = Affine(0.6, 0, 384517.2, 0, -0.6, 4310393.4)
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(path, "w", height=side, width=side, transform=transform, **blocks, **profile) as dataset:
        for start in range(0, side, 512):
            stop = min(start + 512, side)
            dataset.write(row[: stop - start], 1, window=((start, stop), (0, side)))
    return path


def paint(labels: str, image: str, progress: Callable[[str, int, int], None] = lambda stage, done, total: None) -> None:
    """One process's work; prints its peak in megabytes."""
    from geosynth.checkpoint import ModelCard, load_generator, save_generator
    from geosynth.config import GeneratorSettings
    from geosynth.models.generator import SpadeGenerator
    from geosynth.mosaic.generate import generate

    card = load_generator().card
    thin = {"base_width": 2, "max_multiple": 1, "hidden_channels": 2, "latent_size": 1, "noise_channels": 1}
    settings = GeneratorSettings(num_classes=6, num_bands=4, depth="less", **thin)
    torch.manual_seed(0)
    model = Path(image).with_name("thin.safetensors")
    save_generator(
        model,
        SpadeGenerator(settings),
        ModelCard(settings=settings, legend=card.legend, bands=card.bands, gsd=card.gsd),
    )
    generate(labels, image, model, progress=progress)
    print(round(peak()))


def peak() -> float:
    """Megabytes this process has held at most (`getrusage` would count what started it, too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    if sys.argv[1] == "--paint":
        paint(sys.argv[2], sys.argv[3])
    else:
        print(json.dumps(peak_by_size([int(side) for side in sys.argv[1:]])))
