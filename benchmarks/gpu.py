"""All that is claimed of a GPU, in about four minutes: correctness first, then speed beside the plain form.

    python benchmarks/gpu.py [--only NAMES] [--out FOLDER]

Each part prints what it finds, and goes on after an error; FOLDER/gpu.json holds all numbers. Times are medians of
milliseconds between events of the GPU. "plain" is `plain_spade.py` as torch comes (float32, convolutions in TF32);
"captured" runs as a recorded graph, as ours does. Labels are real tiles if they are there (see `generator.py`).

Parts:
    ceilings    copy, products and convolutions, and what starting an operation costs
    right       kernels against the dense form, GPU against CPU, replayed against eager, nothing waits
    painting    the generator of Park et al. 2019 at base width 64, 256 px, batch 4, 16 and 64
    cells       512 px cells as `generate` paints them: the embedded model and the untrained "base"
    training    the step of the reference at base widths 32 and 64, batch 4; presets "small" and "base"
    generate    a label raster of SIDE x SIDE px (--side), from file to COG
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generator import LATENT_SIZE, NUM_BANDS, NUM_CLASSES, build, label_tiles
from geosynth.checkpoint import GeneratorModel, ModelCard, load_generator
from geosynth.config import GenerateSettings, GeneratorSettings, TrainSettings
from geosynth.grid import Window
from geosynth.models.device import full_float32
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks import STYLE_CELL
from geosynth.models.modulation import SpadeModulation
from geosynth.models.replay import Replay
from geosynth.models.trials import kernel_trials
from geosynth.mosaic.painter import CELL, Cell, Painter
from levers import Network

DEVICE = "cuda"


class Results:
    """Numbers by name, printed as they come."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, name: str, value: float) -> float:
        self.values[name] = value
        print(f"    {name:58} {value:.4g}", flush=True)
        return value


def milliseconds(call: Callable[..., object], *arguments: Any, seconds: float = 0.5, warm_ups: int = 5) -> float:
    """Median time on the GPU of one call."""
    for _ in range(warm_ups):
        call(*arguments)
    torch.cuda.synchronize()
    times, started = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call(*arguments)
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last))
    return statistics.median(times)


def ceilings(results: Results) -> None:
    """What this card does at most."""
    values = torch.randn(1 << 28, device=DEVICE)
    took = milliseconds(torch.empty_like(values).copy_, values)
    results.add("ceilings/copy TB/s", 2 * values.nbytes / took / 1e9)
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        one = torch.randn(8192, 8192, device=DEVICE, dtype=dtype)
        results.add(f"ceilings/product {name} TFLOP/s", 2 * 8192**3 / milliseconds(torch.mm, one, one) / 1e9)
        features = torch.randn(16, 256, 128, 128, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(256, 256, 3, padding=1, device=DEVICE, dtype=dtype)
        with torch.inference_mode():
            took = milliseconds(layer.to(memory_format=torch.channels_last), features)
        results.add(f"ceilings/convolution {name} TFLOP/s", 2 * features[:, 0].numel() * 9 * 256 * 256 / took / 1e9)
    small = torch.zeros(8, device=DEVICE)

    def many() -> tuple[Tensor]:
        for _ in range(200):
            small.add_(1)
        return (small,)

    results.add("ceilings/us an operation, eager", milliseconds(many) / 0.2)
    results.add("ceilings/us an operation, captured", milliseconds(Replay(many, DEVICE)) / 0.2)


def base_model() -> GeneratorModel:
    """The network of the preset "base", untrained."""
    card = load_generator().card
    settings = GeneratorSettings(num_classes=NUM_CLASSES, num_bands=NUM_BANDS)
    generator = SpadeGenerator(settings).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    path = load_generator().path
    new = ModelCard(settings=settings, legend=card.legend, bands=card.bands, gsd=card.gsd)
    return GeneratorModel(generator, new, path)


def label_raster(side: int, seed: int = 0) -> np.ndarray:
    """(side, side) class indices: tiles in rows and columns, each turned at random."""
    tiles = label_tiles(256, 64)[0].numpy().astype(np.uint8)
    rng = np.random.default_rng(seed)
    count = -(-side // 256)
    rows = [
        np.concatenate([np.rot90(tiles[rng.integers(len(tiles))], rng.integers(4)) for _ in range(count)], axis=1)
        for _ in range(count)
    ]
    return np.concatenate(rows)[:side, :side]


def paint_block(painter: Painter, labels: np.ndarray, side: int, row: int = 0) -> np.ndarray:
    """A square of the raster whose first pixel lies on the lattice of cells."""
    window, origin = Window(row, 0, side, side), (CELL * 7, CELL * 11)
    context = painter.context(window, origin)
    rows, columns = (
        np.clip(np.arange(first, last), 0, len(labels) - 1)
        for first, last in ((context.row, context.bottom), (context.column, context.right))
    )
    return painter.paint(labels[np.ix_(rows, columns)], context, window, origin)


def set_form(network: torch.nn.Module, form: str) -> None:
    """Of all modulations."""
    for module in network.modules():
        if isinstance(module, SpadeModulation):
            module.form = form


def right(results: Results) -> None:
    """Whether the GPU paints and learns what it should."""
    labels, other = label_raster(2048, 0), label_raster(2048, 1)
    on_cpu, on_gpu = load_generator(None, "cpu"), load_generator(None, DEVICE)
    for precision in ("fp32", "bf16"):
        settings = GenerateSettings(seed=3, precision=precision)
        expected = paint_block(Painter(on_cpu, settings, 1000), labels, CELL).astype(int)
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

    painter = Painter(on_gpu, GenerateSettings(), 1000)
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
    results.add("right/kernels that passed their trial", len(kernel_trials._passed))
    results.add("right/a kernel failed its trial", kernel_trials._failed)
    results.add("right/painting is replayed", painter.network_pass.enabled)
    learning_is_right(results)


def learning_is_right(results: Results) -> None:
    """Replayed steps against eager ones."""
    from training import build_step, draw, images

    labels, image = label_tiles(128, 8)[0], images(128, 8)
    for name, changes in {
        "patch": {},
        "oasis": {"discriminator": "oasis", "augment": 0.5},
        "dsgan": {"diversity_weight": 4.0},
    }.items():
        settings = TrainSettings.parse(
            {
                "batch_size": 4,
                "crop_size": 128,
                "base_width": 8,
                "perceptual_weight": 0.0,
                "precision": "fp32",
                **changes,
            }
        )
        with full_float32():
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
        results.add(f"right/{name}: replayed steps against eager, largest relative gap", worst)


def in_16_bits(network: Network) -> Network:
    """Under autocast."""

    def call(labels: Tensor, z: Tensor) -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16):
            return network(labels, z).float()

    return call


def captured(network: Network) -> Callable[..., object]:
    """As a recorded graph."""
    return Replay(lambda *inputs: (network(*inputs),), DEVICE, warm_ups=2)


def painting(results: Results) -> None:
    """The bars of painting."""
    ours, plain = build(64, 256, DEVICE)
    plain_last = build(64, 256, DEVICE)[1].to(memory_format=torch.channels_last)
    in_bf16, dense = (ours.for_painting(torch.bfloat16) for _ in range(2))
    set_form(dense, "dense")
    for batch in (4, 16, 64):
        inputs = label_tiles(256, batch)[0].to(DEVICE), torch.randn((batch, LATENT_SIZE), device=DEVICE)
        contenders = {
            "plain": (plain, True),
            "plain bf16": (in_16_bits(plain), True),
            "plain bf16 channels_last": (in_16_bits(plain_last), True),
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
                for how, call in ((name, network), (f"{name} captured", captured(network))):
                    took = milliseconds(call, *inputs, seconds=0.3)
                    found[how] = results.add(f"painting/{batch} {how}: ms", took)
            torch.backends.cudnn.allow_tf32 = True
        for name, peer in (
            ("bf16", "plain"),
            ("bf16", "plain bf16"),
            ("fp32", "plain"),
            ("fp32 no TF32", "plain no TF32"),
        ):
            for how in ("", " captured"):
                ratio = found[peer + how] / found[f"ours {name} captured"]
                results.add(f"painting/{batch} ours {name} over {peer}{how}", ratio)
        results.add(f"painting/{batch} ours bf16: images/s", 1000 * batch / found["ours bf16 captured"])
        if batch == 4:
            with torch.inference_mode():
                show_kernels("base width 64, batch 4, bf16", in_bf16, *inputs)


def show_kernels(name: str, call: Callable[..., object], *arguments: Any, count: int = 16) -> None:
    """Where the time goes, by kernel."""
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
    for name, model in (("embedded", load_generator(None, DEVICE)), ("base", base_model())):
        for precision in ("bf16", "fp32"):
            painter = Painter(model, GenerateSettings(precision=precision), 3000)
            size = CELL + 2 * painter.margin
            regions = len(painter.network.style_regions)
            ways = np.zeros((regions, 2, size // STYLE_CELL, size // STYLE_CELL), np.int8)
            labels = np.ascontiguousarray(label_raster(size))
            windows = [Window(0, CELL * index, CELL, CELL) for index in range(4)]
            four = [Cell(window, window, labels, ways) for window in windows]
            for count in (4, 1):
                inputs = four[:count], (CELL * 7, CELL * 11)
                with painter.computing():
                    took = milliseconds(painter.run, *inputs) / count
                results.add(f"cells/{name} {precision}, {count} at once: ms a cell", took)
                results.add(f"cells/{name} {precision}, {count} at once: Mpx/s", CELL**2 / took / 1000)
        painter = Painter(model, GenerateSettings(precision="bf16"), 3000)
        painter.network_pass = Replay(painter._network_pass, DEVICE, enabled=False)
        inputs = four, (CELL * 7, CELL * 11)
        results.add(f"cells/{name} eager, 4 at once: ms a cell", milliseconds(painter.run, *inputs) / 4)
        show_kernels(f"{name}, 4 cells, bf16", painter.run, *inputs, count=24)


def training(results: Results) -> None:
    """The bars of training."""
    for width in (32, 64):
        reference_step(results, width)
    for name in ("small", "base"):
        preset_step(results, name)


def reference_step(results: Results, width: int) -> None:
    """The step of the reference beside the plain one."""
    from training import build_plain, build_step, draw, images, reference_settings

    labels, image = label_tiles(256, 4)[0], images(256, 4)
    step = build_step(reference_settings(width, 256, 4, "bf16"), DEVICE)
    inputs = image.to(DEVICE), labels.to(DEVICE), torch.randn((4, 256), device=DEVICE)
    peer = results.add(f"training/{width} plain: ms", milliseconds(build_plain(step).step, *inputs))
    other = build_plain(step, capturable=True)
    replayed = Replay(lambda *values: (other.update(*values),), DEVICE, warm_ups=3)
    peer_captured = results.add(f"training/{width} plain captured: ms", milliseconds(replayed, *inputs))
    batch = draw(step, image, labels)
    took = results.add(f"training/{width} ours bf16: ms", milliseconds(step.update, 9, batch))
    results.add(f"training/{width} ours over plain", peer / took)
    results.add(f"training/{width} ours over plain captured", peer_captured / took)
    step._replay.enabled = False
    results.add(f"training/{width} ours eager: ms", milliseconds(step.update, 9, batch))
    show_kernels(f"step at width {width}", step.update, 9, batch)


def preset_step(results: Results, name: str) -> None:
    """The step of a preset, without its perceptual loss."""
    from training import build_step, images

    settings = TrainSettings.parse({**TrainSettings.presets()[name].values, "perceptual_weight": 0.0})
    step = build_step(settings, DEVICE)
    size, batch_size = settings.crop_size, settings.batch_size
    labels, image = label_tiles(size, batch_size)[0], images(size, batch_size)
    started = time.perf_counter()
    drawn = step.draw(0, image, labels)
    results.add(f"training/{name} drawing: ms of the CPU", 1000 * (time.perf_counter() - started))
    batch = drawn.apply(lambda values: values.to(DEVICE))
    torch.cuda.reset_peak_memory_stats()
    took = results.add(f"training/{name} a step: ms", milliseconds(step.update, 9, batch))
    results.add(f"training/{name} steps/s", 1000 / took)
    results.add(f"training/{name} memory GiB", torch.cuda.max_memory_allocated() / 2**30)
    step._replay.enabled = False
    show_kernels(f"step of {name}", step.update, 9, batch, count=24)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="ceilings,right,cells,painting,training,generate")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = Results()
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    parts = {"ceilings": ceilings, "right": right, "cells": cells, "painting": painting, "training": training}
    parts["generate"] = lambda found: generate(found, arguments.side)
    started = time.perf_counter()
    for name in arguments.only.split(","):
        torch.backends.cudnn.allow_tf32 = True  # as torch comes
        print(f"{name}, {time.perf_counter() - started:.0f} s", flush=True)
        try:
            parts[name](results)
        except Exception:  # the other parts are worth their time
            traceback.print_exc()
        torch.cuda.empty_cache()
        if arguments.out:
            (arguments.out / "gpu.json").write_text(json.dumps(results.values, default=float))
    print(f"over after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
