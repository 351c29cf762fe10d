"""What `generate` costs beyond the bare network, whether blocks show, its memory, and blending compared with MONAI.

    python benchmarks/mosaic.py [--quick] [--json FILE] [--labels RASTER] [--model FILE]

Alternately, in one run: (a) the bare network on the cells that `generate` paints, with their halo and with labels,
noise and styles given, one cell after the other on all threads; and (b) the whole of `generate`, from the label file to
the finished COG. Both start without kept memory. Last line: one JSON object.

    mpx_per_s    megapixels of image a second, by (b)
    efficiency   time of (a) over time of (b)
    efficiency_two   the same with two cells at a time in (a), each on half of the threads, as `generate` paints those
                 of narrow networks: 1 means that reading, noise and writing are free
    share_painting, share_finishing   shares of (b): painting blocks, with noise and styles, and making one file of them
                 (overviews, statistics, compression, reading back); the rest is the start and the survey
    efficiency_base   the same for an untrained network of 64 base channels and five doublings; not in a quick run
    halo_cost    time of (a) over that of the same cells without their halo
    seam_score   mean gradient across the cells' and blocks' lines over mean gradient elsewhere, divided by what it is
                 on the same lines of the image that one pass over the whole raster paints; 1 means no seam
    seam_score_control   the divisor: what the content itself gives there
    max_difference, differing_share   DN and share of values that change with the block size, 512 or 640 px
    peak_mb      of a process that paints squares of this size with a small network, including torch and GDAL
    blend_*, workers_*   see mosaic_blend.py, mosaic_workers.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mosaic_blend
import mosaic_memory
import mosaic_workers
from generator import base_model
from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.grid import Window, absolute_origin
from geosynth.models.device import side_by_side
from geosynth.models.looks.styles import STYLE_CELL
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.windows import Windows
from geosynth.mosaic.generate import generate
from geosynth.mosaic.image import painter_for
from geosynth.mosaic.painter import CELL, Cell, Painter
from geosynth.mosaic.pipeline import read_around
from geosynth.raster.labels import LabelRaster
from last_line import print_result


@dataclass(frozen=True)
class Inputs:
    """The network's inputs for one cell."""

    labels: Tensor
    latent: Tensor | None
    noise: list[Tensor | None]
    styles: Tensor | None


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one repetition, one small square, no base network")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--labels", type=Path, default=mosaic_memory.EXAMPLE)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    quick = arguments.quick

    model = load_generator(arguments.model)
    result = measure_speed(arguments.labels, model, 1 if quick else 3)
    if not quick:
        base = measure_speed(arguments.labels, base_model(model), 1)
        result |= {f"{name}_base": base[name] for name in ("efficiency", "mpx_per_s", "halo_cost")}
    result |= measure_seams(arguments.labels, model)
    result["peak_mb"] = mosaic_memory.peak_by_size((1024,) if quick else (10_000, 20_000, 40_000))
    result |= mosaic_blend.compare_with_monai(quick=quick)
    result |= mosaic_workers.compare_workers(arguments.labels, arguments.model, quick=quick)
    for name, value in result.items():
        print(f"{name:24} {value}")
    print_result(result, arguments.json)


def measure_speed(labels: Path, model: GeneratorModel, repetitions: int) -> dict[str, Any]:
    """Efficiency, speed and the cost of the halo."""
    settings = GenerateSettings()
    painter, inputs, kept = network_inputs(labels, model, settings)
    inner = [without_margin(one, painter) for one in inputs]
    bare, two, narrow, whole, stages = [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "image.tif"
        for each, margin in ((inputs, painter.margin), (inner, 0)):  # the first run of each shape is slower
            run_network(painter, each, margin)
        for _ in range(repetitions):
            bare.append(timed(run_network, painter, inputs, painter.margin))
            two.append(timed(run_network, painter, inputs, painter.margin, 2))
            seen: dict[str, list[float]] = {}

            def note(stage: str, done: int, total: int, seen: dict[str, list[float]] = seen) -> None:
                seen.setdefault(stage, []).append(time.perf_counter())

            whole.append(timed(generate, labels, out, model, settings, overwrite=True, progress=note))
            painted = seen["painting"][-1]
            stages.append((painted - seen["painting"][0], seen["finishing"][-1] - painted))
            narrow.append(timed(run_network, painter, inner, 0))
    return {
        "mpx_per_s": round(kept / 1e6 / statistics.median(whole), 4),
        "efficiency": round(statistics.median(b / w for b, w in zip(bare, whole, strict=True)), 3),
        "efficiency_two": round(statistics.median(t / w for t, w in zip(two, whole, strict=True)), 3),
        "share_painting": round(statistics.median(s[0] / w for s, w in zip(stages, whole, strict=True)), 3),
        "share_finishing": round(statistics.median(s[1] / w for s, w in zip(stages, whole, strict=True)), 3),
        "halo_cost": round(statistics.median(b / n for b, n in zip(bare, narrow, strict=True)), 3),
        "seconds_bare": round(statistics.median(bare), 2),
        "seconds_generate": round(statistics.median(whole), 2),
    }


def measure_seams(labels: Path, model: GeneratorModel) -> dict[str, Any]:
    """Whether lines of cells and blocks show, against one pass over the whole raster."""
    with tempfile.TemporaryDirectory() as folder:
        images = [
            mosaic_blend.read(generate(labels, Path(folder) / f"{size}.tif", model, GenerateSettings(block_size=size)))
            for size in (CELL, 640)
        ]
    source = LabelRaster(labels, model.card.legend)
    painter = painter_for(source.geobox, model, GenerateSettings())
    origin = absolute_origin(source.geobox)
    extent = Window(0, 0, *source.geobox.shape)
    one_pass = np.where(source.read(extent)[1], paint_at_once(painter, source, extent, origin), 0)
    score, control = (seam_score(image, origin) for image in (images[0], one_pass))
    gap = np.abs(images[0] - images[1])
    return {
        "seam_score": round(score / control, 4),
        "seam_score_control": round(control, 4),
        "max_difference": int(gap.max()),
        "differing_share": float((gap > 0).mean()),
    }


def network_inputs(
    labels: Path, model: GeneratorModel, settings: GenerateSettings
) -> tuple[Painter, list[Inputs], int]:
    """The painter, the network's inputs for each cell with data, and the number of pixels of the output."""
    source = LabelRaster(labels, model.card.legend)
    painter = painter_for(source.geobox, model, settings)
    origin = absolute_origin(source.geobox)
    extent = Window(0, 0, *source.geobox.shape)
    inputs = []
    for cell in painter.labelled_cells(read_around(painter, source, extent, origin)):
        classes, *around = (torch.from_numpy(values).unsqueeze(0) for values in (cell.labels, *cell.around))
        seen = cell.window.buffer(painter.margin)
        place = Windows.at(seen.row, seen.column, seen.height, seen.width, painter.device)
        inputs.append(Inputs(classes, *painter.inputs(place, *around)))
    return painter, inputs, extent.height * extent.width


def without_margin(inputs: Inputs, painter: Painter) -> Inputs:
    """The same cell without its halo."""
    margin = painter.margin
    cells = margin // painter.network.stride
    latent = None if inputs.latent is None else inputs.latent[..., cells:-cells, cells:-cells]
    strides = [painter.network.stride, *(stage.stride for stage in painter.network.stages)]
    known = [min(margin, painter.network.margins[stride]) // stride for stride in strides]
    noise = [None if values is None else values[..., n:-n, n:-n] for values, n in zip(inputs.noise, known, strict=True)]
    cells = margin // STYLE_CELL
    styles = None if inputs.styles is None else inputs.styles[..., cells:-cells, cells:-cells]
    return Inputs(inputs.labels[:, margin:-margin, margin:-margin], latent, noise, styles)


def run_network(painter: Painter, inputs: list[Inputs], margin: int, cells_at_a_time: int = 1) -> None:
    """The generator alone."""

    @torch.inference_mode()
    def run_cell(one: Inputs) -> None:
        painter.generator(one.labels, one.latent, one.noise, margin, one.styles)

    with painter.computing(), side_by_side(cells_at_a_time) as submit:
        for done in [submit(run_cell, one) for one in inputs]:
            done.result()


def paint_at_once(painter: Painter, source: LabelRaster, extent: Window, origin: tuple[int, int]) -> np.ndarray:
    """The image by one pass of the network over the whole raster."""
    stride = painter.network.stride
    row, column = (-(start % stride) for start in origin)
    cell = Window(
        row,
        column,
        *(-(-(side - first) // stride) * stride for side, first in ((extent.height, row), (extent.width, column))),
    )
    inside = cell.intersection(extent)
    assert inside is not None
    seen = cell.buffer(painter.margin)
    context = seen.buffer(painter.network.look_side)
    indices, _ = source.read(context)
    around = Surroundings.of(indices, painter.network)
    labelled = Cell(cell.shift(*origin), inside.shift(*origin), indices[seen.slices_in(context)], around)
    return painter.run([labelled])[0][:, *inside.slices_in(cell)].numpy()


def seam_score(image: np.ndarray, origin: tuple[int, int]) -> float:
    """Mean absolute gradient across the lines of cells over that across all other lines, both directions together."""
    values = image.astype(np.float64)
    across, elsewhere = [], []
    for axis, offset in ((1, origin[0]), (2, origin[1])):
        steps = np.abs(np.diff(values, axis=axis))
        at_seam = (np.arange(1, values.shape[axis]) + offset) % CELL == 0
        across.append(np.compress(at_seam, steps, axis=axis).ravel())
        elsewhere.append(np.compress(~at_seam, steps, axis=axis).ravel())
    return float(np.concatenate(across).mean() / np.concatenate(elsewhere).mean())


def timed(function: Any, *arguments: Any, **keywords: Any) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*arguments, **keywords)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
