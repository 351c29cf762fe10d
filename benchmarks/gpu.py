"""Checks all claims about GPUs in about four minutes: first correctness, then speed compared with the plain form.

    python benchmarks/gpu.py [--only NAMES] [--json FILE]

Each part is a separate process and continues after an error, so that the others get their numbers even if the driver
fails or a part hangs; each number is in the file as soon as it is known. Times are medians of milliseconds between GPU
events around a few calls in a row, as in training and painting. "plain" is `plain_spade.py` with torch's defaults
(float32, convolutions in TF32); "captured" runs as a recorded graph, as ours does. Labels are real tiles if available
(see `generator.py`).

The roofline of painting is the sum, over convolutions, norms and additions, of what takes longer at this card's
ceilings: arithmetic, or reading and writing features once; modulation costs nothing. That of a training step is the
arithmetic of all its products alone.

Parts:
    ceilings    copy, products and convolutions, and what starting an operation costs
    right       kernels against the dense form, GPU against CPU, painting replayed against eager, nothing waits
    learning    steps replayed against eager, nothing waits
    painting    the generator of Park et al. 2019 at base width 64, 256 px, batch 4, 16 and 64
    cells       512 px cells as `generate` paints them: the embedded model and the untrained "base"
    training    the step of the reference at base widths 32 and 64, batch 4; presets "small" and "base"
    generate    a label raster of SIDE x SIDE px (--side), from file to COG
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from generator import LATENT_SIZE, base_model, build, in_bfloat16, label_tiles
from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings, GeneratorSettings, TrainSettings
from geosynth.grid import Window
from geosynth.loop import made_ahead
from geosynth.models.device import full_float32
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks import STYLE_CELL
from geosynth.models.replay import Replay
from geosynth.models.trials import kernel_trials
from geosynth.mosaic.painter import CELL, Cell, Painter
from geosynth.training.draws import TrainBatch
from levers import Network, set_form

DEVICE = "cuda"


_LONGEST = 240  # seconds that a part may take


_IN_A_ROW = 4  # calls between two events; a single one would wait for the host


class Results:
    """Numbers of a part by name, printed and written at once, in addition to those of other parts in the file."""

    def __init__(self, path: Path | None, part: str) -> None:
        self.path = path
        known = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.values: dict[str, Any] = {name: each for name, each in known.items() if not name.startswith(f"{part}/")}
        self._write()

    def add(self, name: str, value: float) -> float:
        self.values[name] = value
        print(f"    {name:70} {value:.4g}", flush=True)
        self._write()
        return value

    def _write(self) -> None:
        if self.path is not None:
            partial = self.path.with_name(f"{self.path.name}.partial")  # a part may be killed while it writes
            partial.write_text(json.dumps(self.values, default=float))
            partial.replace(self.path)


def attempt(function: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Call a function; errors are printed, and do not stop what follows."""
    try:
        function(*arguments, **options)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()


def milliseconds(call: Callable[..., object], *arguments: Any, seconds: float = 0.5, warm_ups: int = 5) -> float:
    """Median time of one call among several in a row."""
    for _ in range(warm_ups):
        call(*arguments)
    torch.cuda.synchronize()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        for _ in range(_IN_A_ROW):
            call(*arguments)
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / _IN_A_ROW)
    return statistics.median(times)


def copy_ceiling() -> float:
    """Bandwidth of a copy in TB/s, read and written."""
    values = torch.randn(1 << 28, device=DEVICE)
    return 2 * values.nbytes / milliseconds(torch.empty_like(values).copy_, values) / 1e9


def product_ceiling(kind: str) -> float:
    """Speed of a large product in "bf16", "TF32" or "fp32", in TFLOP/s."""
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    one = torch.randn(8192, 8192, device=DEVICE, dtype=dtype)
    torch.backends.cuda.matmul.allow_tf32 = kind == "TF32"
    took = milliseconds(torch.mm, one, one)
    torch.backends.cuda.matmul.allow_tf32 = False  # as torch comes
    return 2 * 8192**3 / took / 1e9


def ceilings(results: Results) -> None:
    """The limits of this card."""
    results.add("ceilings/copy TB/s", copy_ceiling())
    for kind in ("bf16", "TF32", "fp32"):
        results.add(f"ceilings/product {kind} TFLOP/s", product_ceiling(kind))
    for dtype in (torch.bfloat16, torch.float32):
        features = torch.randn(16, 256, 128, 128, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(256, 256, 3, padding=1, device=DEVICE, dtype=dtype)
        with torch.inference_mode():
            took = milliseconds(layer.to(memory_format=torch.channels_last), features)
        name = "bf16" if dtype == torch.bfloat16 else "TF32"
        results.add(f"ceilings/convolution {name} TFLOP/s", 2 * features[:, 0].numel() * 9 * 256 * 256 / took / 1e9)
    small = torch.zeros(8, device=DEVICE)

    def many() -> tuple[Tensor]:
        for _ in range(200):
            small.add_(1)
        return (small,)

    results.add("ceilings/us an operation, eager", milliseconds(many) / 0.2)
    results.add("ceilings/us an operation, captured", milliseconds(Replay(many, DEVICE)) / 0.2)


def roofline(settings: GeneratorSettings, size: int, value_bytes: int, tflops: float, tbytes: float) -> float:
    """Roofline of painting in milliseconds per image, see the module."""
    total = 0.0

    def add(stride: int, values: int, products: int = 0) -> None:
        nonlocal total
        pixels = (size // stride) ** 2
        total += pixels * max(2 * products / tflops, values * value_bytes / tbytes) / 1e9

    for stage in settings.stages:
        inputs, outputs = stage.in_channels, stage.out_channels
        middle = min(inputs, outputs)
        if inputs != outputs:
            add(stage.stride, 2 * inputs)
            add(stage.stride, inputs + outputs, inputs * outputs)
        add(stage.stride, 2 * inputs)
        add(stage.stride, inputs + middle, 9 * inputs * middle)
        add(stage.stride, 2 * middle)
        add(stage.stride, middle + outputs, 9 * middle * outputs)
        add(stage.stride, 3 * outputs)
    last = settings.stages[-1].out_channels
    add(1, last + settings.num_bands, 9 * last * settings.num_bands)
    return total


def label_raster(side: int, seed: int = 0) -> np.ndarray:
    """Class indices (side, side): tiles in rows and columns, each rotated at random."""
    tiles = label_tiles(256, 64)[0].numpy().astype(np.uint8)
    rng = np.random.default_rng(seed)
    count = -(-side // 256)
    rows = [
        np.concatenate([np.rot90(tiles[rng.integers(len(tiles))], int(rng.integers(4))) for _ in range(count)], axis=1)
        for _ in range(count)
    ]
    return np.concatenate(rows)[:side, :side]


def paint_block(painter: Painter, labels: np.ndarray, side: int) -> np.ndarray:
    """Paint a square of the raster whose first pixel is on the lattice of cells."""
    window, origin = Window(0, 0, side, side), (CELL * 7, CELL * 11)
    context = painter.context(window, origin)
    rows, columns = (
        np.clip(np.arange(first, last), 0, len(labels) - 1)
        for first, last in ((context.row, context.bottom), (context.column, context.right))
    )
    return painter.paint(labels[np.ix_(rows, columns)], context, window, origin)


def right(results: Results) -> None:
    """Whether the GPU paints what it should."""
    for precision in ("fp32", "bf16"):
        attempt(painting_is_right, results, precision)
    attempt(kernels_are_right, results)
    attempt(painting_waits, results)


def painting_is_right(results: Results, precision: str) -> None:
    """On the GPU against the CPU, replayed against eager."""
    labels, other = label_raster(2048, 0), label_raster(2048, 1)
    on_gpu, settings = load_generator(None, DEVICE), GenerateSettings(seed=3, precision=precision)
    expected = paint_block(Painter(load_generator(None, "cpu"), settings, 1000), labels, CELL).astype(int)
    painter = Painter(on_gpu, settings, 1000)
    for form in ("dense", "auto"):
        set_form(painter.generator, form)
        painter.network_pass = Replay(painter._network_pass, DEVICE)
        gap = np.abs(paint_block(painter, labels, CELL).astype(int) - expected)
        results.add(f"right/{precision} {form}: most steps of uint8 from the CPU", gap.max())
        results.add(f"right/{precision} {form}: share of values that differ", (gap > 0).mean())
    eager = Painter(on_gpu, settings, 1000)
    eager.network_pass = Replay(eager._network_pass, DEVICE, enabled=False)
    for number, each in enumerate((labels, other, labels)):
        gap = np.abs(paint_block(painter, each, 1024).astype(int) - paint_block(eager, each, 1024))
        results.add(f"right/{precision} replayed against eager, {number}", gap.max())
    results.add(f"right/{precision} a kernel failed its trial", bool(kernel_trials.problem))
    results.add(f"right/{precision} painting is replayed", painter.network_pass.enabled)


def kernels_are_right(results: Results) -> None:
    """Against the dense form."""
    generator, _ = build(16, 256, DEVICE)
    tiles = label_tiles(256, 8)[0].to(DEVICE)
    tiles[:, 20:60, 20:60] = torch.randint(7, (8, 40, 40), device=DEVICE)  # noise, and pixels without a class
    z = torch.randn((8, LATENT_SIZE), device=DEVICE)
    with full_float32(), torch.inference_mode():
        images = {}
        for form in ("dense", "auto"):
            set_form(generator, form)
            images[form] = generator(tiles, z)
    results.add("right/kernel against dense, float32, most", (images["auto"] - images["dense"]).abs().max().item())
    results.add("right/std of these images", images["dense"].std().item())
    results.add("right/kernels that passed their trial", len(kernel_trials._passed))
    results.add("right/a kernel failed its trial", bool(kernel_trials.problem))


def painting_waits(results: Results) -> None:
    """An error if it does."""
    painter, labels = Painter(load_generator(None, DEVICE), GenerateSettings(), 1000), label_raster(2048)
    for _ in range(3):
        paint_block(painter, labels, 1024)
    window, origin = Window(0, 0, 1024, 1024), (0, 0)
    context = painter.context(window, origin)
    cells = painter.labelled_cells(label_raster(context.height), context, window, origin)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = painter.begin(cells, window, origin)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    pending()
    results.add("right/painting waits", 0)


def learning(results: Results) -> None:
    """Replayed steps against eager ones."""
    for name, changes in {
        "patch": {},
        "oasis": {"discriminator": "oasis", "augment": 0.5},
        "dsgan": {"diversity_weight": 4.0},
    }.items():
        attempt(learning_is_right, results, name, changes)


def learning_is_right(results: Results, name: str, changes: dict[str, Any]) -> None:
    """Of a small training; an error if a step waits."""
    from training import build_step, draw, images

    labels, image = label_tiles(128, 8)[0], images(128, 8)
    small = {"batch_size": 4, "crop_size": 128, "base_width": 8, "perceptual_weight": 0.0, "precision": "fp32"}
    settings = TrainSettings.parse({**small, **changes})
    steps = [build_step(settings, DEVICE) for _ in range(2)]
    steps[1]._replay.enabled = False
    worst = 0.0
    for number in range(7):
        part = slice(4 * (number % 2), 4 * (number % 2) + 4)
        batches = [draw(step, image[part], labels[part], number) for step in steps]
        if number == 6:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
        try:
            losses = [step.update(number, batch) for step, batch in zip(steps, batches, strict=True)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for key, value in losses[0].items():
            worst = max(worst, abs(float(value) - float(losses[1][key])) / max(0.01, abs(float(value))))
    results.add(f"learning/{name}: replayed steps against eager, largest relative gap", worst)
    results.add(f"learning/{name} is replayed", steps[0]._replay.enabled)


def captured(network: Network) -> Replay:
    """As a recorded graph."""
    return Replay(lambda *inputs: (network(*inputs),), DEVICE, warm_ups=2)


def painting(results: Results) -> None:
    """The bars of painting."""
    peaks = {"bf16": product_ceiling("bf16"), "fp32": product_ceiling("TF32"), "fp32 no TF32": product_ceiling("fp32")}
    tbytes = copy_ceiling()
    networks = *build(64, 256, DEVICE), build(64, 256, DEVICE)[1].to(memory_format=torch.channels_last)
    for batch in (4, 16, 64):
        attempt(paint_batch, results, batch, *networks, peaks, tbytes)


def paint_batch(
    results: Results,
    batch: int,
    ours: SpadeGenerator,
    plain: torch.nn.Module,
    plain_last: torch.nn.Module,
    peaks: dict[str, float],
    tbytes: float,
) -> None:
    """At one size of the batch."""
    in_bf16, dense = (ours.for_painting(torch.bfloat16) for _ in range(2))
    set_form(dense, "dense")
    inputs = label_tiles(256, batch)[0].to(DEVICE), torch.randn((batch, LATENT_SIZE), device=DEVICE)
    contenders: dict[str, tuple[Network, bool]] = {
        "plain": (plain, True),
        "plain bf16": (in_bfloat16(plain), True),
        "plain bf16 channels_last": (in_bfloat16(plain_last), True),
        "ours bf16": (in_bf16, True),
        "ours bf16 dense": (dense, True),
        "ours fp32": (ours, True),
        "plain no TF32": (plain, False),
        "ours fp32 no TF32": (ours, False),
    }
    found = {}
    with torch.inference_mode():
        for name, (network, tf32) in contenders.items():
            torch.backends.cudnn.allow_tf32 = tf32
            replay = captured(network)
            for how, call in ((name, network), (f"{name} captured", replay)):
                took = milliseconds(call, *inputs, seconds=0.3)
                found[how] = results.add(f"painting/{batch} {how}: ms", took)
            results.add(f"painting/{batch} {name} is captured", replay.enabled)
        torch.backends.cudnn.allow_tf32 = True
    for name, peer in (("bf16", "plain"), ("bf16", "plain bf16"), ("fp32", "plain"), ("fp32 no TF32", "plain no TF32")):
        for how in ("", " captured"):
            ratio = found[peer + how] / found[f"ours {name} captured"]
            results.add(f"painting/{batch} ours {name} over {peer}{how}", ratio)
    for name, tflops in peaks.items():
        took = found[f"ours {name} captured"]
        least = batch * roofline(ours.settings, 256, 2 if name == "bf16" else 4, tflops, tbytes)
        results.add(f"painting/{batch} ours {name}: images/s", 1000 * batch / took)
        results.add(f"painting/{batch} ours {name}: roofline, ms", least)
        results.add(f"painting/{batch} ours {name}: part of the roofline that is reached", least / took)
    results.add(f"painting/{batch} a kernel failed its trial", bool(kernel_trials.problem))
    if batch == 4:
        with torch.inference_mode():
            attempt(show_kernels, "base width 64, batch 4, bf16", in_bf16, *inputs)


def show_kernels(name: str, call: Callable[..., object], *arguments: Any, count: int = 16) -> None:
    """Print the time by kernel."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):
        call(*arguments)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(5):
            call(*arguments)
        torch.cuda.synchronize()
    events = sorted(found.key_averages(), key=lambda each: -each.device_time_total)
    total = sum(each.device_time_total for each in events) / 5000
    launches = sum(each.count for each in events) / 5
    print(f"  {name}: {total:.2f} ms in {launches:.0f} kernels", flush=True)
    for each in events[:count]:
        print(f"    {each.device_time_total / 5000:7.3f} ms {each.count / 5:6.1f}  {each.key[:90]}", flush=True)


def cells(results: Results) -> None:
    """Milliseconds of a cell, four at a time and one at a time."""
    embedded = load_generator(None, DEVICE)
    for name, model in (("embedded", embedded), ("base", base_model(embedded))):
        for precision in ("bf16", "fp32"):
            attempt(paint_cells, results, name, model, precision)


def paint_cells(results: Results, name: str, model: GeneratorModel, precision: str) -> None:
    """Of one model."""
    painter = Painter(model, GenerateSettings(precision=precision), 3000)
    size = CELL + 2 * painter.margin
    regions = len(painter.network.style_regions)
    ways = np.zeros((regions, 2, size // STYLE_CELL, size // STYLE_CELL), np.int8)
    labels = np.ascontiguousarray(label_raster(size))
    windows = [Window(0, CELL * index, CELL, CELL) for index in range(4)]
    four, place = [Cell(window, window, labels, ways) for window in windows], (CELL * 7, CELL * 11)
    with painter.computing():
        for count in (4, 1):
            took = milliseconds(painter.run, four[:count], place) / count
            results.add(f"cells/{name} {precision}, {count} at once: ms a cell", took)
            results.add(f"cells/{name} {precision}, {count} at once: Mpx/s", CELL**2 / took / 1000)
        painter.network_pass = Replay(painter._network_pass, DEVICE, enabled=False)
        results.add(f"cells/{name} {precision} eager, 4 at once: ms a cell", milliseconds(painter.run, four, place) / 4)
        if precision == "bf16":
            attempt(show_kernels, f"{name}, 4 cells, bf16", painter.run, four, place, count=24)


def training(results: Results) -> None:
    """The bars of training."""
    tflops = product_ceiling("bf16")
    for width in (32, 64):
        attempt(reference_step, results, width, tflops)
    for name in ("small", "base"):
        attempt(preset_step, results, name, tflops)


def add_step(results: Results, name: str, images: int, took: float, least: float) -> None:
    """What a step's time comes to."""
    results.add(f"training/{name} steps/s", 1000 / took)
    results.add(f"training/{name} images/s", 1000 * images / took)
    results.add(f"training/{name} roofline, ms", least)
    results.add(f"training/{name} part of the roofline that is reached", least / took)


def arithmetic(call: Callable[..., object], *arguments: Any) -> float:
    """Multiplications and additions of all products of a call, in 10^12."""
    with FlopCounterMode(display=False) as counter:
        call(*arguments)
    return float(counter.get_total_flops()) / 1e12


def reference_step(results: Results, width: int, tflops: float) -> None:
    """The step of the reference beside the plain one."""
    from training import build_plain, build_step, draw, images, reference_settings

    labels, image = label_tiles(256, 4)[0], images(256, 4)
    step = build_step(reference_settings(width, 256, 4, "bf16"), DEVICE)
    inputs = image.to(DEVICE), labels.to(DEVICE), torch.randn((4, 256), device=DEVICE)
    peer = results.add(f"training/{width} plain: ms", milliseconds(build_plain(step).step, *inputs))
    other = build_plain(step, capturable=True)
    replayed = Replay(lambda *values: (other.update(*values),), DEVICE, warm_ups=3)
    peer_captured = results.add(f"training/{width} plain captured: ms", milliseconds(replayed, *inputs))
    results.add(f"training/{width} plain is captured", replayed.enabled)
    batch = draw(step, image, labels)
    took = results.add(f"training/{width} ours bf16: ms", milliseconds(step.update, 9, batch))
    results.add(f"training/{width} ours over plain", peer / took)
    results.add(f"training/{width} ours over plain captured", peer_captured / took)
    results.add(f"training/{width} is replayed", step._replay.enabled)
    step._replay.enabled = False
    results.add(f"training/{width} ours eager: ms", milliseconds(step.update, 9, batch))
    add_step(results, f"{width} ours bf16", 4, took, 1000 * arithmetic(step.update, 9, batch) / tflops)
    attempt(show_kernels, f"step at width {width}", step.update, 9, batch)


def preset_step(results: Results, name: str, tflops: float) -> None:
    """The step of a preset, without its perceptual loss."""
    from training import build_step, images

    settings = TrainSettings.parse({**TrainSettings.presets()[name].values, "perceptual_weight": 0.0})
    step, size, count = build_step(settings, DEVICE), settings.crop_size, settings.batch_size
    labels, image = label_tiles(size, count)[0], images(size, count)
    mask, stored = labels.byte(), ((image + 1) * 127.5).byte()  # as patches come
    started = time.perf_counter()
    step.draw(0, stored, mask)
    results.add(f"training/{name} drawing: ms of the CPU", 1000 * (time.perf_counter() - started))

    def drawn(number: int) -> TrainBatch:
        return step.draw(number, stored, mask).apply(Tensor.pin_memory)

    def upload(drawn: TrainBatch) -> TrainBatch:
        batch = drawn.apply(lambda values: values.to(DEVICE, non_blocking=True))
        scaled = (batch.image / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return replace(batch, image=scaled, mask=batch.mask.long())

    batch = upload(drawn(0))
    torch.cuda.reset_peak_memory_stats()
    took = results.add(f"training/{name} a step: ms", milliseconds(step.update, 9, batch))
    results.add(f"training/{name} memory GiB", torch.cuda.max_memory_allocated() / 2**30)
    results.add(f"training/{name} is replayed", step._replay.enabled)
    for number, ready in enumerate(made_ahead(range(50), torch.device(DEVICE), drawn)):
        step.update(number, upload(ready))
        if number == 9:  # by now as many are drawn ahead as ever
            torch.cuda.synchronize()
            started = time.perf_counter()
    torch.cuda.synchronize()
    results.add(f"training/{name} steps/s with drawing", 40 / (time.perf_counter() - started))
    step._replay.enabled = False
    add_step(results, name, count, took, 1000 * arithmetic(step.update, 9, batch) / tflops)
    attempt(show_kernels, f"step of {name}", step.update, 9, batch, count=24)


def generate(results: Results, side: int) -> None:
    """From file to file, with what each stage took."""
    import rasterio
    from affine import Affine

    import geosynth

    model = load_generator(None, DEVICE)
    codes = np.array([*model.card.legend.codes, 0], np.uint8)[label_raster(side)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.tif"
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": side, "width": side, "nodata": 0}
        layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "num_threads": "all_cpus"}
        place = {"crs": "EPSG:26917", "transform": Affine(0.6, 0, 300000, 0, -0.6, 4500000)}
        with rasterio.open(path, "w", **profile, **layout, **place) as raster:
            raster.write(codes, 1)
        marks: dict[str, list[float]] = {}

        def progress(stage: str, done: int, total: int) -> None:
            marks.setdefault(stage, []).append(time.perf_counter())

        started = time.perf_counter()
        geosynth.generate(path, Path(folder) / "image.tif", model, GenerateSettings(device=DEVICE), progress=progress)
        took = time.perf_counter() - started
        results.add(f"generate/{side} px: Mpx/s", side**2 / took / 1e6)
        for stage, times in marks.items():
            results.add(f"generate/{side} px: s {stage}", times[-1] - times[0])
            results.add(f"generate/{side} px: share of {stage}", (times[-1] - times[0]) / took)


PARTS: dict[str, Callable[[Results], None]] = {
    "ceilings": ceilings,
    "right": right,
    "learning": learning,
    "painting": painting,
    "cells": cells,
    "training": training,
}


def run_apart(name: str, side: int, path: Path | None) -> None:
    """Run a part in a separate process, which adds its numbers to the file as it finds them."""
    command = [sys.executable, __file__, "--only", name, "--side", str(side)]
    try:
        subprocess.run([*command, *([] if path is None else ["--json", str(path)])], timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        print(f"{name}: stopped after {_LONGEST} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join([*PARTS, "generate"]))
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="also write all numbers to this file; those of other parts stay")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if names == ["generate"]:
        attempt(generate, Results(arguments.json, *names), arguments.side)
    elif len(names) == 1:
        attempt(PARTS[names[0]], Results(arguments.json, *names))
    else:
        print(torch.cuda.get_device_name(), torch.__version__, flush=True)
        started = time.perf_counter()
        for name in names:
            print(f"{name}, {time.perf_counter() - started:.0f} s", flush=True)
            run_apart(name, arguments.side, arguments.json)
        print(f"over after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
