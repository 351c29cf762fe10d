"""Whether a GPU computes what it should: parts of `gpu.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from generator import LATENT_SIZE, build, label_tiles
from geosynth.checkpoint import load_generator
from geosynth.config import GenerateSettings, TrainSettings
from geosynth.grid import Window
from geosynth.models.process_settings import full_float32
from geosynth.models.replay import Replay
from geosynth.models.trials import kernel_trials
from geosynth.mosaic.painter import CELL, LabelledWindow, Painter
from gpu_bench import Bench, label_raster
from levers import set_form


def right(bench: Bench) -> None:
    """Kernels against the dense form, the GPU against the CPU, replayed painting against eager; nothing waits."""
    bench.attempt("kernels", kernels_are_right, bench)
    for precision in ("fp32", "bf16"):
        bench.attempt(f"painting in {precision}", painting_is_right, bench, precision)
    bench.attempt("painting without waiting", painting_waits, bench)


def paint_block(painter: Painter, labels: np.ndarray, side: int) -> np.ndarray:
    """Paint a square of the raster whose first pixel is on the lattice of cells."""
    window = Window(CELL * 7, CELL * 11, side, side)
    context = painter.context(window)
    rows, columns = (
        np.clip(np.arange(first, last), 0, len(labels) - 1)
        for first, last in (
            (context.row - window.row, context.bottom - window.row),
            (context.column - window.column, context.right - window.column),
        )
    )
    return painter.paint(LabelledWindow(window, context, labels[np.ix_(rows, columns)], np.ones((side, side), bool)))


def kernels_are_right(bench: Bench) -> None:
    """Against the dense form, in full float32."""
    generator, _ = build(bench.sizes.width // 4, bench.sizes.tile, bench.device)
    tiles = label_tiles(bench.sizes.tile, 8)[0].to(bench.device)
    # Labels like noise, and pixels without a class.
    tiles[:, 20:60, 20:60] = torch.randint(7, (8, 40, 40), generator=torch.Generator().manual_seed(0)).to(bench.device)
    z = torch.randn((8, LATENT_SIZE), generator=torch.Generator().manual_seed(0)).to(bench.device)
    images = {}
    with full_float32(), torch.inference_mode():
        for form in ("dense", "auto"):
            set_form(generator, form)
            images[form] = generator(tiles, z)
    bench.add("kernel against dense, float32, most", (images["auto"] - images["dense"]).abs().max().item())
    bench.add("std of these images", images["dense"].std().item())
    bench.add("kernels that passed their trial", len(kernel_trials._passed))
    bench.add("a kernel failed its trial", bool(kernel_trials.problem))


def painting_is_right(bench: Bench, precision: str) -> None:
    """On the GPU against the CPU, replayed against eager."""
    side, whole = bench.sizes.block, 2 * bench.sizes.block
    labels, other = label_raster(4 * side, 0), label_raster(4 * side, 1)
    on_gpu, settings = load_generator(None, bench.device), GenerateSettings(seed=3, precision=precision)
    expected = paint_block(Painter(load_generator(None, "cpu"), settings, 1000), labels, side).astype(int)
    painter = Painter(on_gpu, settings, 1000)
    for form in ("dense", "auto"):
        set_form(painter.generator, form)
        painter.network_pass = Replay(painter._network_pass, bench.device)
        gap = np.abs(paint_block(painter, labels, side).astype(int) - expected)
        bench.add(f"{precision} {form}: most steps of uint8 from the CPU", gap.max())
        bench.add(f"{precision} {form}: share of values that differ", (gap > 0).mean())
    eager = Painter(on_gpu, settings, 1000)
    eager.network_pass = Replay(eager._network_pass, bench.device, enabled=False)
    worst = 0
    for each in (labels, other, labels):
        gap = np.abs(paint_block(painter, each, whole).astype(int) - paint_block(eager, each, whole))
        worst = max(worst, int(gap.max()))
    bench.add(f"{precision} replayed against eager, most", worst)
    bench.add(f"{precision} a kernel failed its trial", bool(kernel_trials.problem))
    bench.add(f"{precision} painting is replayed", painter.network_pass.enabled)


def painting_waits(bench: Bench) -> None:
    """An error if it does."""
    painter, side = Painter(load_generator(None, bench.device), GenerateSettings(), 1000), 2 * bench.sizes.block
    for _ in range(3):
        paint_block(painter, label_raster(2 * side), side)
    window = Window(0, 0, side, side)
    context, valid = painter.context(window), np.ones((side, side), bool)
    cells = painter.labelled_cells(LabelledWindow(window, context, label_raster(context.height), valid))
    with bench.waits_forbidden():
        pending = painter.begin(cells, window)
    pending()
    bench.add("painting waits", 0)


TRAININGS: dict[str, dict[str, Any]] = {
    "patch": {},
    "oasis": {"discriminator": "oasis", "augment": 0.5},
    "dsgan": {"diversity_weight": 4.0},
    "looks": {"style_lengths": [24] * 6, "style_weight": 1.0, "projected_weight": 1.0, "perceptual_weight": 1.0},
}


def learning(bench: Bench) -> None:
    """Replayed steps against eager ones; nothing waits."""
    for name, changes in TRAININGS.items():
        bench.attempt(name, learning_is_right, bench, name, changes)


def learning_is_right(bench: Bench, name: str, changes: dict[str, Any]) -> None:
    """Of a small training; an error if a step waits."""
    from training import build_step, draw, images

    labels, image = label_tiles(128, 8)[0], images(128, 8)
    small = {"batch_size": 4, "crop_size": 128, "base_width": 8, "perceptual_weight": 0.0, "precision": "fp32"}
    settings = TrainSettings.parse({**small, **changes})
    replayed, eager = (build_step(settings, bench.device) for _ in range(2))
    eager._replay.enabled = False
    worst = 0.0
    for number in range(7 if bench.on_gpu else 1):
        part = slice(4 * (number % 2), 4 * (number % 2) + 4)
        batches = [draw(step, image[part], labels[part], number) for step in (replayed, eager)]
        if number < 6:
            losses = [step.update(number, batch) for step, batch in zip((replayed, eager), batches, strict=True)]
        else:
            with bench.waits_forbidden():
                losses = [step.update(number, batch) for step, batch in zip((replayed, eager), batches, strict=True)]
        for key, value in losses[0].items():
            worst = max(worst, abs(float(value) - float(losses[1][key])) / max(0.01, abs(float(value))))
    bench.add(f"{name}: replayed steps against eager, largest relative gap", worst)
    bench.add(f"{name} is replayed", replayed._replay.enabled)
    bench.add(f"{name} waits", 0)
