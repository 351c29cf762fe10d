"""The training step against the reference's plain form: same networks, weights and batch, alternately in one run.

    python benchmarks/training.py [--quick] [--json FILE]
    python benchmarks/training.py --preset NAME

The peer is `plain_spade.py`: dense modulation, float32, contiguous, eager, with a second fake and a second look of the
discriminator for its update. The networks are Park et al.'s (linear start, five doublings, VAE) at base widths 32 and
64, 256 px, one patch a step; --quick takes width 32 and 128 px. Before measuring, the losses of the first step of both
in float32 must agree. Labels and images are real tiles if they are there (GEOSYNTH_DATA or ../shared/data), else drawn.

Keys: `speedup_step` is the peer's median time over ours (bfloat16 where the processor has it) at the largest width,
`speedup_step_32` at width 32, `speedup_step_fp32` with ours in float32 too. `seconds_*` are rungs, each with the levers
of the ones before. --preset measures one preset of `geosynth train` instead: parameters, peak memory, seconds a step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import rasterio
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from generator import NUM_BANDS, NUM_CLASSES, label_tiles
from geosynth.config import TrainSettings
from geosynth.models.memory import keep_freed_memory
from geosynth.models.modulation import SpadeModulation
from geosynth.models.precision import uses_bfloat16
from geosynth.training.draws import draw_rows
from geosynth.training.task import SpadeTask
from levers import use_memory
from plain_spade import PlainDiscriminator, PlainEncoder, PlainGenerator, PlainTrainer, add_spectral_norm, copy_weights

BANDS = ("red", "green", "blue", "nir")
Step = Callable[[], None]


def images(size: int, count: int) -> Tensor:
    """(count, NUM_BANDS, size, size) in [-1, 1], of the same places as `label_tiles`."""
    data = Path(os.environ.get("GEOSYNTH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    files = sorted((data / "ohio_naip" / "images").glob("*.tif"))
    if not files:
        return torch.rand((count, NUM_BANDS, size, size), generator=torch.Generator().manual_seed(0)) * 2 - 1
    tiles = []
    for path in files[:: max(1, len(files) // count)][:count]:
        with rasterio.open(path) as raster:
            tiles.append(torch.from_numpy(raster.read()[:, :size, :size].astype("float32")) / 127.5 - 1)
    return torch.stack(tiles)


def reference_settings(width: int, size: int, batch: int, precision: str) -> TrainSettings:
    """The step of the preset "reference", without the perceptual loss, at one width."""
    values = TrainSettings.presets()["reference"].values
    changes = {
        "base_width": width,
        "discriminator_width": 64,
        "crop_size": size,
        "batch_size": batch,
        "precision": precision,
        "perceptual_weight": 0.0,
    }
    return TrainSettings.parse({**values, **changes})


def build_task(settings: TrainSettings) -> SpadeTask:
    """Ready to `update`, without a trainer."""
    task = SpadeTask(settings, NUM_CLASSES, BANDS)
    task.prepare(task.configure_optimizers())
    task.generator.train(), task.adversary.train()
    return task


def build_plain(
    task: SpadeTask, *, channels_last: bool = False, one_fake: bool = False, dtype: torch.dtype = torch.float32
) -> PlainTrainer:
    """The peer with the weights of a task."""
    settings = task.settings
    layers = 6 if settings.crop_size >= 256 else 5
    generator = PlainGenerator(NUM_CLASSES, NUM_BANDS, base_width=settings.base_width, crop_size=settings.crop_size)
    add_spectral_norm(generator)
    copy_weights(generator, task.generator.state_dict())
    encoder = PlainEncoder(NUM_BANDS, num_layers=layers)
    encoder.load_state_dict(task.encoder.state_dict())
    discriminator = PlainDiscriminator(NUM_CLASSES, NUM_BANDS)
    values = task.adversary.discriminator.state_dict().values()
    discriminator.load_state_dict(dict(zip(discriminator.state_dict(), values, strict=True)))
    form = torch.channels_last if channels_last else torch.contiguous_format
    networks = [network.to(memory_format=form) for network in (generator, encoder, discriminator)]
    return PlainTrainer(*networks, one_fake=one_fake, dtype=dtype)


def check(width: int, size: int, image: Tensor, labels: Tensor) -> dict[str, float]:
    """Largest relative difference between the losses of the first step, both in float32."""
    task = build_task(reference_settings(width, size, len(image), "fp32"))
    plain = build_plain(task)
    rows = draw_rows(image, labels, task.generator.settings, seed=0, step=0, first_place=0, drawn=[])
    theirs = plain.step(rows.image.contiguous(), rows.mask, rows.latents)
    task.update(image, labels)
    gaps = {name: abs(task.losses[name] - value) / max(1e-2, abs(value)) for name, value in theirs.items()}
    if max(gaps.values()) > 1e-2:
        raise SystemExit(f"losses differ: {task.losses} against {theirs}")
    return gaps


def rungs(width: int, size: int, batch: int, image: Tensor, labels: Tensor) -> dict[str, tuple[Step, bool]]:
    """Name to step and whether it keeps freed memory; each with all levers of those before, the last is geosynth.

    Where the processor has no bfloat16 and would emulate it, very slowly, the rungs that take it stay in float32.
    """
    has_bfloat16 = uses_bfloat16("auto", "cpu")
    dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    task, dense = (
        build_task(reference_settings(width, size, batch, "bf16" if has_bfloat16 else "fp32")) for _ in range(2)
    )
    for module in dense.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"
    normal = torch.randn((batch, 256), generator=torch.Generator().manual_seed(1))

    def plain(**options: object) -> Step:
        trainer = build_plain(task, **options)
        form = torch.channels_last if options.get("channels_last") else torch.contiguous_format
        mine = image.contiguous(memory_format=form)
        return lambda: trainer.step(mine, labels, normal)

    def ours(which: SpadeTask) -> Step:
        return lambda: which.update(image, labels)

    exact = build_task(reference_settings(width, size, batch, "fp32"))
    return {
        "plain": (plain(), False),
        "+ one fake": (plain(one_fake=True), False),
        "+ bf16" if has_bfloat16 else "(no bf16 here)": (plain(one_fake=True, dtype=dtype), False),
        "+ channels_last": (plain(one_fake=True, dtype=dtype, channels_last=True), False),
        "+ fused layers and one look": (ours(dense), False),
        "+ pattern table": (ours(task), False),
        "+ kept memory": (ours(task), True),
        "ours fp32": (ours(exact), True),
    }


def measure(width: int, size: int, batch: int, seconds: float) -> dict[str, float]:
    """Median seconds of each rung; rounds through all of them until `seconds` are over, at least two."""
    labels, image = label_tiles(size, batch)[0], images(size, batch)
    check(width, size, image, labels)
    steps = rungs(width, size, batch, image, labels)
    for step, _ in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    started, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - started < seconds:
        for name, (step, kept) in steps.items():
            use_memory(kept=kept)
            before = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - before)
        rounds += 1
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(f"width {width}, {size} px, batch {batch}", "median s", "times plain", title_justify="left")
    for name, value in medians.items():
        table.add_row(name, f"{value:.2f}", f"{medians['plain'] / value:.2f}")
    Console().print(table)
    return medians


def measure_preset(name: str) -> dict[str, float | int | str]:
    """Parameters, peak memory of the process (GiB) and seconds a step of one preset."""
    values = {**TrainSettings.presets()[name].values, "perceptual_weight": 0.0}
    settings = TrainSettings.parse(values)
    keep_freed_memory()
    task = build_task(settings)
    size, batch = settings.crop_size, settings.batch_size
    labels, image = label_tiles(size, batch)[0], images(size, batch)
    times = []
    for _ in range(4):
        before = time.perf_counter()
        task.update(image, labels)
        times.append(time.perf_counter() - before)
    networks = (task.generator, task.encoder, task.adversary)
    return {
        "preset": name,
        "parameters": sum(value.numel() for network in networks if network for value in network.parameters()),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "seconds_per_step": statistics.median(times[1:]),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="base width 32, 128 px; within a minute")
    parser.add_argument("--preset", choices=TrainSettings.presets(), help="measure this preset instead")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    result: dict[str, float | int | str] = {}
    if arguments.preset:
        result = measure_preset(arguments.preset)
    else:
        sizes = [(32, 128, 1, 10.0)] if arguments.quick else [(32, 256, 1, 90.0), (64, 256, 1, 180.0)]
        for width, size, batch, seconds in sizes:
            medians = measure(width, size, batch, seconds)
            result |= {
                f"speedup_step_{width}": medians["plain"] / medians["+ kept memory"],
                "speedup_step": medians["plain"] / medians["+ kept memory"],
                "speedup_step_fp32": medians["plain"] / medians["ours fp32"],
                "size": size,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "machine": platform.machine(),
                **{f"seconds_{name.strip('+ ').replace(' ', '_')}": value for name, value in medians.items()},
            }
    line = json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()})
    if arguments.json:
        arguments.json.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
