"""How fast a GPU is, beside the plain form and the card's ceilings: parts of `gpu.py`."""

from __future__ import annotations

import tempfile
import time
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
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.replay import Replay
from geosynth.models.trials import kernel_trials
from geosynth.mosaic.painter import CELL, Cell, Painter
from geosynth.training.draws import TrainBatch
from gpu_bench import Bench, label_raster
from levers import Network, set_form

# --- What the card does at most.


def copy_ceiling(bench: Bench) -> float:
    """Bandwidth of a copy in TB/s, read and written."""
    values = torch.randn(4 * bench.sizes.ceiling**2, device=bench.device)
    return 2 * values.nbytes / bench.milliseconds(torch.empty_like(values).copy_, values) / 1e9


def product_ceiling(bench: Bench, kind: str) -> float:
    """Speed of a large product in "bf16", "TF32" or "fp32", in TFLOP/s."""
    side = bench.sizes.ceiling
    one = torch.randn(side, side, device=bench.device, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = kind == "TF32"
    try:
        took = bench.milliseconds(torch.mm, one, one)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False  # as torch comes
    return 2 * side**3 / took / 1e9


def ceilings(bench: Bench) -> None:
    """Copies, products, convolutions, and what starting an operation costs."""
    bench.add("copy TB/s", copy_ceiling(bench))
    for kind in ("bf16", "TF32", "fp32"):
        bench.add(f"product {kind} TFLOP/s", product_ceiling(bench, kind))
    for name, dtype in (("bf16", torch.bfloat16), ("TF32", torch.float32)):
        bench.attempt(f"convolution {name}", convolution_ceiling, bench, name, dtype)
    small = torch.zeros(8, device=bench.device)

    def many() -> tuple[Tensor]:
        for _ in range(200):
            small.add_(1)
        return (small,)

    bench.add("us an operation, eager", bench.milliseconds(many) / 0.2)
    bench.add("us an operation, captured", bench.milliseconds(Replay(many, bench.device)) / 0.2)


def convolution_ceiling(bench: Bench, name: str, dtype: torch.dtype) -> None:
    """Of a layer of 256 channels."""
    side = bench.sizes.ceiling // 64
    features = torch.randn(16, 256, side, side, device=bench.device, dtype=dtype)
    layer = torch.nn.Conv2d(256, 256, 3, padding=1, device=bench.device, dtype=dtype)
    last = torch.channels_last
    with torch.inference_mode():
        took = bench.milliseconds(layer.to(memory_format=last), features.to(memory_format=last))
    bench.add(f"convolution {name} TFLOP/s", 2 * features[:, 0].numel() * 9 * 256 * 256 / took / 1e9)


def roofline(settings: GeneratorSettings, size: int, value_bytes: int, tflops: float, tbytes: float) -> float:
    """Roofline of painting in milliseconds per image, see `gpu.py`."""
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


# --- The generator of Park et al.


def captured(bench: Bench, network: Network) -> Replay:
    """As a recorded graph."""
    return Replay(lambda *inputs: (network(*inputs),), bench.device, warm_ups=2)


def painting(bench: Bench) -> None:
    """The bars of painting, at each size of the batch."""
    kinds = {"bf16": "bf16", "fp32": "TF32", "fp32 no TF32": "fp32"}
    peaks = {name: product_ceiling(bench, kind) for name, kind in kinds.items()}
    tbytes = copy_ceiling(bench)
    size = bench.sizes.width, bench.sizes.tile, bench.device
    networks = *build(*size), build(*size)[1].to(memory_format=torch.channels_last)
    for batch in bench.sizes.batches:
        bench.attempt(f"batch {batch}", paint_batch, bench, batch, *networks, peaks, tbytes)


def paint_batch(
    bench: Bench,
    batch: int,
    ours: SpadeGenerator,
    plain: torch.nn.Module,
    plain_last: torch.nn.Module,
    peaks: dict[str, float],
    tbytes: float,
) -> None:
    """Ours and the plain form, as they come and captured; multiples as soon as both are known."""
    in_bf16, dense = (ours.for_painting(torch.bfloat16) for _ in range(2))
    set_form(dense, "dense")
    inputs = label_tiles(bench.sizes.tile, batch)[0], torch.randn((batch, LATENT_SIZE))
    inputs = inputs[0].to(bench.device), inputs[1].to(bench.device)
    contenders: dict[str, tuple[Network, bool]] = {
        "plain": (plain, True),
        "ours bf16": (in_bf16, True),
        "ours fp32": (ours, True),
        "plain no TF32": (plain, False),
        "ours fp32 no TF32": (ours, False),
        "plain bf16": (in_bfloat16(plain), True),
        "ours bf16 dense": (dense, True),
        "plain bf16 channels_last": (in_bfloat16(plain_last), True),
    }
    found: dict[str, float] = {}
    for name, (network, tf32) in contenders.items():
        bench.attempt(f"{batch} {name}", time_painting, bench, batch, name, network, inputs, tf32, found)
        for ratio in ("bf16", "fp32", "fp32 no TF32"):
            compare(bench, batch, ratio, "plain no TF32" if ratio == "fp32 no TF32" else "plain", found)
    compare(bench, batch, "bf16", "plain bf16", found)
    for name, tflops in peaks.items():
        if took := found.get(f"ours {name} captured"):
            value_bytes = 2 if name == "bf16" else 4
            least = batch * roofline(ours.settings, bench.sizes.tile, value_bytes, tflops, tbytes)
            bench.add(f"{batch} ours {name}: images/s", 1000 * batch / took)
            bench.add(f"{batch} ours {name}: roofline, ms", least)
            bench.add(f"{batch} ours {name}: part of the roofline that is reached", least / took)
    bench.add(f"{batch} a kernel failed its trial", bool(kernel_trials.problem))
    if batch == bench.sizes.batches[0]:
        with torch.inference_mode():
            bench.attempt("kernels shown", bench.show_kernels, f"batch {batch}, bf16", in_bf16, *inputs)


def time_painting(
    bench: Bench,
    batch: int,
    name: str,
    network: Network,
    inputs: tuple[Tensor, Tensor],
    tf32: bool,
    found: dict[str, float],
) -> None:
    """One contender, as it comes and captured."""
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        with torch.inference_mode():
            replay = captured(bench, network)
            for how, call in ((name, network), (f"{name} captured", replay)):
                found[how] = bench.add(f"{batch} {how}: ms", bench.milliseconds(call, *inputs))
            bench.add(f"{batch} {name} is captured", replay.enabled)
    finally:
        torch.backends.cudnn.allow_tf32 = True


def compare(bench: Bench, batch: int, ours: str, peer: str, found: dict[str, float]) -> None:
    """Add how many times as fast ours is, if it is known and not told yet."""
    took = found.get(f"ours {ours} captured")
    for how in ("", " captured"):
        name = f"{batch} ours {ours} over {peer}{how}"
        if took and peer + how in found and f"{bench.part}/{name}" not in bench.numbers:
            bench.add(name, found[peer + how] / took)


# --- Cells, as `generate` paints them.


def cells(bench: Bench) -> None:
    """Milliseconds of a cell, several at a time and one at a time."""
    embedded = load_generator(None, bench.device)
    for name in bench.sizes.models:
        model = embedded if name == "embedded" else base_model(embedded)
        for precision in ("bf16", "fp32"):
            bench.attempt(f"{name} {precision}", paint_cells, bench, name, model, precision)


def paint_cells(bench: Bench, name: str, model: GeneratorModel, precision: str) -> None:
    """Of one model."""
    painter = Painter(model, GenerateSettings(precision=precision), 3000)
    size = CELL + 2 * painter.margin
    around = Surroundings.of(label_raster(size + 2 * painter.network.look_side), painter.network)
    labels = np.ascontiguousarray(label_raster(size))
    windows = [Window(CELL * 7, CELL * (11 + index), CELL, CELL) for index in range(bench.sizes.cells)]
    some = [Cell(window, window, labels, around) for window in windows]
    most = len(some)
    with painter.computing():
        for count in sorted({most, 1}, reverse=True):
            took = bench.milliseconds(painter.run, some[:count]) / count
            bench.add(f"{name} {precision}, {count} at once: ms a cell", took)
            bench.add(f"{name} {precision}, {count} at once: Mpx/s", CELL**2 / took / 1000)
        painter.network_pass = Replay(painter._network_pass, bench.device, enabled=False)
        took = bench.milliseconds(painter.run, some) / most
        bench.add(f"{name} {precision} eager, {most} at once: ms a cell", took)
        if precision == "bf16":
            bench.attempt("kernels shown", bench.show_kernels, f"{name}, bf16", painter.run, some, count=24)


# --- Training.


def training(bench: Bench) -> None:
    """The bars of training."""
    tflops = product_ceiling(bench, "bf16")
    small, large = bench.sizes.presets
    for width in bench.sizes.trained:
        bench.attempt(f"width {width}", reference_step, bench, width, tflops)
    bench.attempt(large, preset_step, bench, large, tflops)
    bench.attempt(small, preset_step, bench, small, tflops)


def add_step(bench: Bench, name: str, images: int, took: float, least: float) -> None:
    """What a step's time comes to."""
    bench.add(f"{name} images/s", 1000 * images / took)
    bench.add(f"{name} roofline, ms", least)
    bench.add(f"{name} part of the roofline that is reached", least / took)


def arithmetic(call: Callable[..., object], *arguments: Any) -> float:
    """Multiplications and additions of all products of a call, in 10^12."""
    with FlopCounterMode(display=False) as counter:
        call(*arguments)
    return float(counter.get_total_flops()) / 1e12


def reference_step(bench: Bench, width: int, tflops: float) -> None:
    """The step of the reference beside the plain one."""
    from training import build_plain, build_step, draw, images, reference_settings

    count, size = 4, bench.sizes.tile
    labels, image = label_tiles(size, count)[0], images(size, count)
    step = build_step(reference_settings(width, size, count, "bf16"), bench.device)
    batch = draw(step, image, labels)
    took = bench.add(f"{width} ours bf16: ms", bench.milliseconds(step.update, 9, batch))
    bench.add(f"{width} is replayed", step._replay.enabled)
    inputs = image.to(bench.device), labels.to(bench.device), torch.randn((count, 256)).to(bench.device)

    def peer() -> None:
        peer = bench.add(f"{width} plain: ms", bench.milliseconds(build_plain(step).step, *inputs))
        bench.add(f"{width} ours over plain", peer / took)

    def captured_peer() -> None:
        other = build_plain(step, capturable=bench.device != "cpu")
        replayed = Replay(lambda *values: (other.update(*values),), bench.device, warm_ups=3)
        peer = bench.add(f"{width} plain captured: ms", bench.milliseconds(replayed, *inputs))
        bench.add(f"{width} plain is captured", replayed.enabled)
        bench.add(f"{width} ours over plain captured", peer / took)

    bench.attempt(f"{width} plain", peer)
    bench.attempt(f"{width} plain captured", captured_peer)
    step._replay.enabled = False
    bench.add(f"{width} ours eager: ms", bench.milliseconds(step.update, 9, batch))
    least = 1000 * arithmetic(step.update, 9, batch) / tflops
    add_step(bench, f"{width} ours bf16", count, took, least)
    bench.attempt("kernels shown", bench.show_kernels, f"step at width {width}", step.update, 9, batch)


def preset_step(bench: Bench, name: str, tflops: float) -> None:
    """The step of a preset, without its perceptual loss."""
    from training import build_step, images

    changes = {"perceptual_weight": 0.0, **bench.sizes.preset_changes}
    settings = TrainSettings.parse({**TrainSettings.presets()[name].values, **changes})
    step, size, count = build_step(settings, bench.device), settings.crop_size, settings.batch_size
    labels, image = label_tiles(size, count)[0], images(size, count)
    mask, stored = labels.byte(), ((image + 1) * 127.5).byte()  # as patches come
    started = time.perf_counter()
    step.draw(0, stored, mask)
    bench.add(f"{name} drawing: ms of the CPU", 1000 * (time.perf_counter() - started))

    def drawn(number: int) -> TrainBatch:
        batch = step.draw(number, stored, mask)
        return batch.apply(Tensor.pin_memory) if bench.on_gpu else batch

    def upload(drawn: TrainBatch) -> TrainBatch:
        batch = drawn.apply(lambda values: values.to(bench.device, non_blocking=True))
        scaled = (batch.image / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return replace(batch, image=scaled, mask=batch.mask.long())

    batch = upload(drawn(0))
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    took = bench.add(f"{name} a step: ms", bench.milliseconds(step.update, 9, batch))
    bench.add(f"{name} steps/s", 1000 / took)
    bench.add(f"{name} is replayed", step._replay.enabled)
    if bench.on_gpu:
        bench.add(f"{name} memory GiB", torch.cuda.max_memory_allocated() / 2**30)
    first, steps = (10, 50) if bench.on_gpu else (1, 3)
    for number, ready in enumerate(made_ahead(range(steps), torch.device(bench.device), drawn), start=1):
        step.update(number, upload(ready))
        if number == first:  # by now as many are drawn ahead as ever
            bench.wait()
            started = time.perf_counter()
    bench.wait()
    bench.add(f"{name} steps/s with drawing", (steps - first) / (time.perf_counter() - started))
    step._replay.enabled = False
    add_step(bench, name, count, took, 1000 * arithmetic(step.update, 9, batch) / tflops)
    bench.attempt("kernels shown", bench.show_kernels, f"step of {name}", step.update, 9, batch, count=24)


# --- From file to file.


def generate(bench: Bench) -> None:
    """A raster of a quarter of the side, by which kernels are compiled and files cached, then the whole one."""
    side = bench.sizes.raster
    model = load_generator(None, bench.device)
    for each in (side // 4, side):
        bench.attempt(f"{each} px", generate_raster, bench, model, each)


def generate_raster(bench: Bench, model: GeneratorModel, side: int) -> None:
    """From file to file, with what each stage took; while it runs, how fast it is so far."""
    import rasterio
    from affine import Affine

    import geosynth

    codes = np.array([*model.card.legend.codes, 0], np.uint8)[label_raster(side)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.tif"
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": side, "width": side, "nodata": 0}
        layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "num_threads": "all_cpus"}
        place = {"crs": "EPSG:26917", "transform": Affine(0.6, 0, 300000, 0, -0.6, 4500000)}
        with rasterio.open(path, "w", **profile, **layout, **place) as raster:
            raster.write(codes, 1)
        marks: dict[str, list[float]] = {}
        told = time.perf_counter()

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal told
            now = time.perf_counter()
            marks.setdefault(stage, []).append(now)
            if stage == "painting" and now - told > 5 and done:
                told, pixels = now, side**2 * done / total
                bench.add(f"{side} px: Mpx/s while painting, so far", pixels / (now - marks[stage][0]) / 1e6)

        started = time.perf_counter()
        settings = GenerateSettings(device=bench.device)
        geosynth.generate(path, Path(folder) / "image.tif", model, settings, progress=progress)
        took = time.perf_counter() - started
        bench.add(f"{side} px: Mpx/s", side**2 / took / 1e6)
        for stage, times in marks.items():
            bench.add(f"{side} px: s {stage}", times[-1] - times[0])
            bench.add(f"{side} px: share of {stage}", (times[-1] - times[0]) / took)
