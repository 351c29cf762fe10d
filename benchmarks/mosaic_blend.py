"""Only the blending of overlapping windows, compared with MONAI's SlidingWindowInferer: time, memory and seams.

    python benchmarks/mosaic_blend.py [--quick]

Both get the same scene of bytes on disk, windows of 256 px with an overlap of 64 px, and the identity as a network, and
write bytes. Part of `benchmarks/mosaic.py`; needs `monai`, else there are no figures. Last line: one JSON object.

    blend_time_vs_monai     seconds of geosynth over seconds of MONAI (median of alternate pairs); below 1 is faster
    blend_memory_vs_monai   memory of geosynth over memory of MONAI, each beyond what its process held before
    blend_mb, blend_mb_monai    those, by side of the scene
    blend_error, blend_error_monai   DN by which the identity's image differs from the scene at most
    blend_step, blend_step_monai     the steepest step, in DN, between neighbouring pixels where windows differ by
                                     40 DN at random (a network that does not agree with itself); the smaller, the
                                     less a seam shows
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor

from mosaic_memory import peak

SIZE, OVERLAP, BANDS, BLOCK = 256, 64, 4, 1024
KEPT_BYTES = 64 << 20
Network = Callable[[Tensor], Tensor]


def compare_with_monai(*, quick: bool) -> dict[str, Any]:
    """The figures, see above; empty without MONAI."""
    if importlib.util.find_spec("monai") is None:
        return {}
    sides = (2048,) if quick else (4096, 8192)
    found: dict[str, list[dict[str, float]]] = {"geosynth": [], "monai": []}
    for side in sides:
        pairs = [{way: measure(way, side) for way in found} for _ in range(1 if quick else 3)]
        for way, results in found.items():
            runs = [pair[way] for pair in pairs]
            results.append({name: statistics.median(run[name] for run in runs) for name in runs[0]})
    ours, theirs = found["geosynth"], found["monai"]
    return {
        "blend_time_vs_monai": round(ours[-1]["seconds"] / theirs[-1]["seconds"], 3),
        "blend_memory_vs_monai": round(ours[-1]["mb"] / theirs[-1]["mb"], 3),
        "blend_mb": {str(side): round(one["mb"]) for side, one in zip(sides, ours, strict=True)},
        "blend_mb_monai": {str(side): round(one["mb"]) for side, one in zip(sides, theirs, strict=True)},
        "blend_error": ours[-1]["error"],
        "blend_error_monai": theirs[-1]["error"],
        "blend_step": ours[-1]["step"],
        "blend_step_monai": theirs[-1]["step"],
    }


def measure(way: str, side: int) -> dict[str, float]:
    """One process's figures."""
    run = subprocess.run([sys.executable, __file__, way, str(side)], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return figures


def figures_of(way: str, side: int) -> dict[str, float]:
    """In this process: time and memory first, then how good the image is, on a smaller scene."""
    blend = {"geosynth": by_geosynth, "monai": by_monai}[way]
    with tempfile.TemporaryDirectory() as folder, rasterio.Env(GDAL_CACHEMAX=64 << 20):
        small, whole = (write_scene(Path(folder) / f"{size}.tif", size) for size in (1000, side))
        blend(small, Tensor.clone)  # warm-up
        before = peak()
        began = time.perf_counter()
        blend(whole, Tensor.clone)
        seconds, megabytes = time.perf_counter() - began, peak() - before
        identity = read(blend(small, Tensor.clone))
        error = np.abs(identity - read(small)).max()
        generator = torch.Generator().manual_seed(0)

        def restless(window: Tensor) -> Tensor:
            return torch.full_like(window, 108 + 40 * float(torch.rand(1, generator=generator)))

        image = read(blend(small, restless))
    step = max(int(np.abs(np.diff(image, axis=axis)).max()) for axis in (1, 2))
    return {"seconds": seconds, "mb": max(megabytes, 1), "error": int(error), "step": step}


def profile_of(side: int) -> dict[str, Any]:
    """Uncompressed, so that files cost both the same and little."""
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    return {"driver": "GTiff", "dtype": "uint8", "count": BANDS, "height": side, "width": side, **blocks}


def write_scene(path: Path, side: int) -> Path:
    """Random bytes."""
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile_of(side)) as dataset:
        for row in range(0, side, 256):
            rows = (row, min(row + 256, side))
            values = rng.integers(0, 256, (BANDS, rows[1] - rows[0], side), dtype=np.uint8)
            dataset.write(values, window=(rows, (0, side)))
    return path


def read(path: Path) -> np.ndarray:
    """(bands, height, width) as int."""
    with rasterio.open(path) as dataset:
        values: np.ndarray = dataset.read().astype(int)
    return values


def by_geosynth(source: Path, network: Network) -> Path:
    """Block by block, as `generate` blends; blocks go to the file as they are done."""
    from geosynth.checkpoint import GeneratorModel, ModelCard, load_generator
    from geosynth.config import GenerateSettings, GeneratorSettings
    from geosynth.grid import BlockPlan, Window
    from geosynth.models.generator import SpadeGenerator
    from geosynth.mosaic.blend import BlendPainter

    card = load_generator().card
    settings = GeneratorSettings.reference(6, BANDS, crop_size=SIZE, base_width=2, max_multiple=1, hidden_channels=2)
    model = GeneratorModel(
        SpadeGenerator(settings), ModelCard(settings=settings, legend=card.legend, bands=card.bands, gsd=None), source
    )
    painter = BlendPainter(model, GenerateSettings(overlap=OVERLAP), 0)
    target = source.with_suffix(".blended.tif")
    kept: OrderedDict[Window, Tensor] = OrderedDict()

    with rasterio.open(source) as scene, rasterio.open(target, "w", **scene.profile) as image:
        side = scene.height

        def values(cell: Window) -> Tensor:
            """Windows across the scene's edge see its last pixels repeated; those across blocks are kept, as there."""
            if cell in kept:
                return kept[cell]
            rows, columns = (np.clip(np.arange(start, start + SIZE), 0, side - 1) for start in (cell.row, cell.column))
            place = ((rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1))
            window = scene.read(window=place)[:, rows - rows[0]][:, :, columns - columns[0]]
            result = network(torch.from_numpy(window).float().unsqueeze(0))[0]
            if not block.contains(cell):
                kept[cell] = result
                if len(kept) * result.nbytes > KEPT_BYTES:
                    kept.popitem(last=False)
            return result

        for block in BlockPlan(side, side, (0, 0), BLOCK):
            pixels = painter.join(block, ((cell, values(cell)) for cell in painter.cells(block)))
            image.write(pixels.numpy(), window=((block.row, block.bottom), (block.column, block.right)))
    return target


def by_monai(source: Path, network: Network) -> Path:
    """As MONAI's users do: one tensor in, one tensor out."""
    from monai.inferers import SlidingWindowInferer

    with rasterio.open(source) as scene:
        pixels, profile = torch.from_numpy(scene.read()).float().unsqueeze(0), scene.profile
    inferer = SlidingWindowInferer(roi_size=SIZE, sw_batch_size=1, overlap=OVERLAP / SIZE, mode="gaussian")
    with torch.inference_mode():
        blended = inferer(pixels, network)[0].round_().clamp_(0, 255).byte().numpy()
    target = source.with_suffix(".blended.tif")
    with rasterio.open(target, "w", **profile) as image:
        image.write(blended)
    return target


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("geosynth", "monai"):
        print(json.dumps(figures_of(sys.argv[1], int(sys.argv[2]))))
    else:
        print(json.dumps(compare_with_monai(quick="--quick" in sys.argv)))
