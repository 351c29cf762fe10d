"""What `generate` costs beyond the bare network, and whether blocks show.

    python benchmarks/mosaic.py [--quick] [--json FILE] [--labels RASTER] [--model FILE]

Alternately, in one run: (a) the bare network on the windows that `generate` paints, labels and noise at hand, and (b)
the whole of `generate`, from the label file to the finished COG. Last line: one JSON object.

    mpx_per_s    megapixels of image a second, by (b)
    efficiency   time of (a) over time of (b); 1 means that reading, noise and writing are free
    halo_cost    pixels the network paints over pixels that are kept
    seam_score   mean gradient across block lines over mean gradient elsewhere; 1 means no seam
    seam_score_control   the same lines of the image painted in blocks of 1024 px: what the content itself gives there
    peak_mb      of this process, torch and GDAL included, by raster size
    max_difference, differing_share   DN and share of values that change with the block size
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.grid import TilePlan, absolute_origin
from geosynth.models.field import position_noise, style_field
from geosynth.mosaic.generate import generate
from geosynth.mosaic.painter import Painter
from geosynth.raster.labels import LabelRaster

EXAMPLE = Path(__file__).parents[1] / "examples" / "md_lc.tif"


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one repetition")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--labels", type=Path, default=EXAMPLE)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()

    model = load_generator(arguments.model)
    settings = GenerateSettings(block_size=512, precision="auto")
    windows = network_inputs(arguments.labels, model, settings)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "image.tif"
        bare, whole = [], []
        run_network(model, settings, windows)  # warm-up: the first run of each window shape is slower
        for _ in range(1 if arguments.quick else 3):
            bare.append(timed(run_network, model, settings, windows))
            whole.append(timed(generate, arguments.labels, out, model, settings, overwrite=True))
        image = read(out)
        other_size = GenerateSettings(block_size=1024, precision="fp32")
        same_size = GenerateSettings(block_size=512, precision="fp32")
        exact = [read(generate(arguments.labels, out, model, one, overwrite=True)) for one in (same_size, other_size)]
    kept = image.shape[1] * image.shape[2]
    painted = sum(labels.numel() for labels, _, _ in windows)
    gap = np.abs(exact[0].astype(int) - exact[1].astype(int))
    result = {
        "mpx_per_s": round(kept / 1e6 / statistics.median(whole), 4),
        "efficiency": round(statistics.median(b / w for b, w in zip(bare, whole, strict=True)), 3),
        "halo_cost": round(painted / kept, 3),
        "seam_score": round(seam_score(exact[0], same_size.block_size), 4),
        "seam_score_control": round(seam_score(exact[1], same_size.block_size), 4),
        "max_difference": int(gap.max()),
        "differing_share": float((gap > 0).mean()),
        "seconds_bare": round(statistics.median(bare), 2),
        "peak_mb": {f"{image.shape[2]} x {image.shape[1]}": round(peak_megabytes())},
        "seconds_generate": round(statistics.median(whole), 2),
    }
    for name, value in result.items():
        print(f"{name:18} {value}")
    line = json.dumps(result)
    if arguments.json:
        arguments.json.write_text(line + "\n")
    print(line)


def network_inputs(labels: Path, model: GeneratorModel, settings: GenerateSettings) -> list[tuple[Any, Any, Any]]:
    """(labels, latent, noise) of each block with data, as `generate` makes them."""
    source, painter = LabelRaster(labels, model.card.legend), Painter(model, settings)
    height, width = source.raster.geobox.shape
    row, column = origin = absolute_origin(source.raster.geobox)
    inputs = []
    for window in TilePlan(height, width, settings.block_size):
        context = painter.context(window, origin)
        place = (context.row + row, context.column + column, context.height, context.width)
        indices, has_class = source.read(context)
        top, left = window.row - context.row, window.column - context.column
        if not has_class[top : top + window.height, left : left + window.width].any():
            continue
        inputs.append(
            (
                torch.from_numpy(indices).unsqueeze(0),
                style_field(model.card.settings, settings.seed, *place, settings.style_length),
                position_noise(model.card.settings, settings.seed, *place),
            )
        )
    return inputs


@torch.inference_mode()
def run_network(model: GeneratorModel, settings: GenerateSettings, windows: list[tuple[Any, Any, Any]]) -> None:
    """The generator alone."""
    bfloat16 = Painter(model, settings).bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for labels, latent, noise in windows:
            model.generator(labels, latent, noise)


def seam_score(image: np.ndarray, block_size: int) -> float:
    """Mean absolute gradient across block lines over that across all other lines, both directions together."""
    values = image.astype(np.float64)
    across, elsewhere = [], []
    for axis in (1, 2):
        steps = np.abs(np.diff(values, axis=axis))
        lines = np.arange(1, values.shape[axis])
        at_seam = lines % block_size == 0
        across.append(np.compress(at_seam, steps, axis=axis).ravel())
        elsewhere.append(np.compress(~at_seam, steps, axis=axis).ravel())
    return float(np.concatenate(across).mean() / np.concatenate(elsewhere).mean())


def peak_megabytes() -> float:
    """Most memory that this process has held, libraries included (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(function: Any, *arguments: Any, **keywords: Any) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*arguments, **keywords)
    return time.perf_counter() - start


def read(path: Path) -> np.ndarray:
    """All bands."""
    with rasterio.open(path) as dataset:
        return dataset.read()


if __name__ == "__main__":
    main()
